#include "images/registry_config.h"

#include <absl/strings/match.h>
#include <gtest/gtest.h>

#include "base/strings.h"
#include "images/registry_auth.h"
#include "images/testing/test_store.h"

namespace keelson::images {
namespace {

std::string Describe(const absl::StatusOr<RegistryHosts>& hosts) {
  if (!hosts.ok()) return std::string(hosts.status().message());
  std::string out;
  for (const RegistryHost& host : hosts->hosts) {
    StrAppend(&out, host.tls ? "https " : "http ", host.authority(), host.api_path, host.pull ? " pull" : "",
              host.resolve ? " resolve" : "", host.skip_verify ? " skip_verify" : "",
              host.upstream ? " upstream" : "");
    for (const std::string& file : host.ca_files) StrAppend(&out, " ca=", file);
    if (!host.client_cert_file.empty())
      StrAppend(&out, " client=", host.client_cert_file, "+", host.client_key_file);
    for (const auto& [name, value] : host.headers) StrAppend(&out, " ", name, ":", value);
    out += "\n";
  }
  return out;
}

TEST(HostsToml, WhatKeelsonUpWrites) {
  EXPECT_EQ(
      Describe(ParseHostsToml("# a comment\nserver = \"https://registry-1.docker.io\"\n\n"
                              "[host.\"http://127.0.0.1:5010\"]\n  capabilities = [\"pull\", \"resolve\"]\n",
                              "docker.io", "/d")),
      "http 127.0.0.1:5010/v2 pull resolve\n"
      "https registry-1.docker.io:443/v2 pull resolve upstream\n");
  // The registry itself, named twice.
  EXPECT_EQ(
      Describe(ParseHostsToml("server = \"http://127.0.0.1:5010\"\n"
                              "[host.\"http://127.0.0.1:5010\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
                              "keelson.local", "/d")),
      "http 127.0.0.1:5010/v2 pull resolve upstream\n");
}

TEST(HostsToml, EveryKey) {
  EXPECT_EQ(
      Describe(ParseHostsToml("ca = 'own.pem'\n"
                              "[host.\"https://mirror.example:8443/proxy/v2\"] # behind a path\r\n"
                              "capabilities = ['pull']\n"
                              "ca = [\"a.pem\",\n  \"/b.pem\", # last\n]\n"
                              "client = [[\"c.pem\", \"k.pem\"]]\n"
                              "skip_verify = true\n"
                              "override_path = true\n"
                              "[host.\"https://mirror.example:8443/proxy/v2\".header]\n"
                              "x-token = [\"t\\\"1\"]\n"
                              "[host.\"plain.example\"]\n",
                              "example.com:5000", "/d")),
      "https mirror.example:8443/proxy/v2 pull skip_verify ca=/d/a.pem ca=/b.pem client=/d/c.pem+/d/k.pem "
      "x-token:t\"1\n"
      "https plain.example:443/v2 pull resolve\n"
      "https example.com:5000/v2 pull resolve upstream ca=/d/own.pem\n");
}

TEST(HostsToml, Mistakes) {
  struct Row {
    const char* text;
    const char* words;
  };
  const Row rows[] = {
      {"server", "line 1: = expected"},
      {"server = ", "line 1: a string"},
      {"server = \"x", "line 1: string without an end"},
      {"\n\nserver = 1", "line 3: a string"},
      {"server = \"ftp://x\"", "server"},
      {"server = \"a\" \"b\"", "end of line"},
      {"foo = true", "foo: not supported"},
      {"[host.\"https://a\"]\ndial_timeout = \"1s\"", "line 2: dial_timeout: not supported"},
      {"[host.\"https://a\"]\ncapabilities = [\"fly\"]", "fly"},
      {"[host.\"https://a\"]\nskip_verify = \"yes\"", "true or false"},
      {"[host]\n", "only [host.\"URL\"]"},
      {"[host.\"https://user@a\"]\n", "line 1"},
      {"[plugins.x]\n", "only [host.\"URL\"]"},
      {"[[host]]\n", "lists of tables"},
      {"a = \"\"\"x\"\"\"", "several lines"},
      {"a = [[[[[[\"x\"]]]]]]", "too deep"},
      {"a.b.c.d.e.f.g.h.i.j = true", "too many parts"},
  };
  for (const Row& row : rows) {
    auto hosts = ParseHostsToml(row.text, "docker.io", "/d");
    EXPECT_FALSE(hosts.ok()) << row.text;
    EXPECT_TRUE(absl::StrContains(hosts.status().message(), row.words)) << row.text << ": " << hosts.status();
  }
}

TEST(RegistryHosts, WithoutFiles) {
  EXPECT_EQ(Describe(DefaultRegistryHosts("docker.io")),
            "https registry-1.docker.io:443/v2 pull resolve upstream\n");
  EXPECT_EQ(Describe(DefaultRegistryHosts("r.example:5000")),
            "https r.example:5000/v2 pull resolve upstream\n");
  // Plain HTTP for loopback only.
  EXPECT_EQ(Describe(DefaultRegistryHosts("localhost:5000")),
            "http localhost:5000/v2 pull resolve upstream\n");
  EXPECT_EQ(Describe(DefaultRegistryHosts("127.0.0.1:5000")),
            "http 127.0.0.1:5000/v2 pull resolve upstream\n");
  EXPECT_EQ(Describe(DefaultRegistryHosts("[::1]:5000")), "http [::1]:5000/v2 pull resolve upstream\n");
  EXPECT_EQ(Describe(DefaultRegistryHosts("localhost:443")),
            "https localhost:443/v2 pull resolve upstream\n");
  EXPECT_EQ(Describe(DefaultRegistryHosts("10.0.0.1:5000")),
            "https 10.0.0.1:5000/v2 pull resolve upstream\n");
}

TEST(RegistryHosts, FilesByName) {
  TempDir dir;
  for (const char* name : {"a.example:5000", "_default"}) {
    ASSERT_TRUE(MakeDirs(StrCat(dir.path(), "/", name)).ok());
    ASSERT_TRUE(WriteFileAtomic(StrCat(dir.path(), "/", name, "/hosts.toml"),
                                StrCat("[host.\"http://", name[0] == '_' ? "default" : "own", ":1\"]\n"),
                                0644, false)
                    .ok());
  }
  EXPECT_TRUE(absl::StartsWith(Describe(LoadRegistryHosts(dir.path(), "a.example:5000")), "http own:1"));
  EXPECT_EQ(Describe(LoadRegistryHosts(dir.path(), "b.example")),
            "http default:1/v2 pull resolve\nhttps b.example:443/v2 pull resolve upstream\n");
  EXPECT_EQ(Describe(LoadRegistryHosts(dir.path() + "/none", "b.example")),
            "https b.example:443/v2 pull resolve upstream\n");
}

TEST(AuthFile, FindsTheNearestEntry) {
  auto auth = AuthFile::Parse(
      "{\"auths\":{\"https://index.docker.io/v1/\":{\"auth\":\"dXNlcjpwYTpzcw==\"},"
      "\"r.example:5000\":{\"username\":\"u\",\"password\":\"p\"},"
      "\"r.example:5000/team\":{\"identitytoken\":\"refresh\"},"
      "\"http://old.example/v2/\":{\"registrytoken\":\"t\"},\"empty.example\":{}}}");
  ASSERT_TRUE(auth.ok()) << auth.status();
  EXPECT_EQ(auth->size(), 4u);
  EXPECT_FALSE(auth->has_helpers());
  auto hub = auth->Find("docker.io/library/busybox");
  ASSERT_TRUE(hub.has_value());
  EXPECT_EQ(hub->username, "user");
  EXPECT_EQ(hub->password, "pa:ss");
  EXPECT_EQ(auth->Find("r.example:5000/other/app")->username, "u");
  EXPECT_EQ(auth->Find("r.example:5000/team/app")->identity_token, "refresh");
  EXPECT_EQ(auth->Find("old.example/x")->registry_token, "t");
  EXPECT_FALSE(auth->Find("r.example/app").has_value());
  EXPECT_FALSE(auth->Find("r.example:5000.evil.com/app").has_value());
  EXPECT_TRUE(AuthFile::Parse("{\"credsStore\":\"pass\"}")->has_helpers());
  for (const char* wrong :
       {"", "[]", "{\"auths\":1}", "{\"auths\":{\"a\":1}}", "{\"auths\":{\"a\":{\"auth\":\"!\"}}}",
        "{\"auths\":{\"a\":{\"auth\":\"dXNlcg==\"}}}"}) {
    EXPECT_FALSE(AuthFile::Parse(wrong).ok()) << wrong;
  }
}

TEST(Proxy, Choice) {
  ProxySettings settings{"http://proxy:3128", "http://us%65r:pw@sproxy",
                         "localhost, .svc,10.0.0.0/8,exact.example:8443"};
  auto choose = [&](bool tls, const char* host, uint16_t port) {
    auto proxy = ChooseProxy(settings, tls, host, port);
    return proxy.ok() ? StrCat(proxy->host, ":", proxy->port) : std::string(proxy.status().message());
  };
  EXPECT_EQ(choose(false, "r.example", 80), "proxy:3128");
  EXPECT_EQ(choose(true, "r.example", 443), "sproxy:80");
  EXPECT_EQ(ChooseProxy(settings, true, "r.example", 443)->authorization, "Basic dXNlcjpwdw==");
  EXPECT_EQ(choose(true, "a.svc", 443), ":0");
  EXPECT_EQ(choose(true, "svc", 443), "sproxy:80");
  EXPECT_EQ(choose(false, "10.1.2.3", 80), ":0");
  EXPECT_EQ(choose(false, "11.1.2.3", 80), "proxy:3128");
  EXPECT_EQ(choose(false, "127.0.0.1", 80), ":0");
  EXPECT_EQ(choose(true, "exact.example", 8443), ":0");
  EXPECT_EQ(choose(true, "sub.exact.example", 8443), ":0");
  EXPECT_EQ(choose(true, "exact.example", 443), "sproxy:80");
  EXPECT_EQ(choose(true, "inexact.example", 8443), "sproxy:80");
  settings.no_proxy = "*";
  EXPECT_EQ(choose(true, "r.example", 443), ":0");
  settings = {"", "https://tls-proxy", ""};
  EXPECT_FALSE(ChooseProxy(settings, true, "r.example", 443).ok());
  EXPECT_EQ(choose(false, "r.example", 80), ":0");
}

TEST(Challenge, Parsed) {
  auto one = ParseChallenges(
      "Bearer realm=\"https://auth.example/token\",service=\"s\",scope=\"repository:a:pull\"");
  ASSERT_EQ(one.size(), 1u);
  EXPECT_EQ(one[0].scheme, "bearer");
  EXPECT_EQ(one[0].realm, "https://auth.example/token");
  EXPECT_EQ(one[0].service, "s");
  auto two = ParseChallenges("Basic realm=\"a, b\", BEARER realm=plain , error = \"x\\\"y\"");
  ASSERT_EQ(two.size(), 2u);
  EXPECT_EQ(two[0].realm, "a, b");
  EXPECT_EQ(two[1].scheme, "bearer");
  EXPECT_EQ(two[1].realm, "plain");
  EXPECT_EQ(two[1].error, "x\"y");
  EXPECT_TRUE(ParseChallenges("").empty());
  EXPECT_EQ(ParseChallenges("Bearer realm=\"unterminated").size(), 1u);
  EXPECT_EQ(ParseChallenges("Negotiate").size(), 1u);
  EXPECT_LE(ParseChallenges("a a a a a a a a a a a a a a a a").size(), 8u);
  EXPECT_TRUE(ParseChallenges(std::string(20000, 'a')).empty());
}

TEST(Challenge, Tokens) {
  EXPECT_EQ(ParseTokenResponse("{\"token\":\"a\",\"expires_in\":300}")->lifetime, absl::Minutes(5));
  EXPECT_EQ(ParseTokenResponse("{\"access_token\":\"b\"}")->token, "b");
  EXPECT_EQ(ParseTokenResponse("{\"token\":\"a\",\"expires_in\":1}")->lifetime, absl::Minutes(1));
  EXPECT_EQ(ParseTokenResponse("{\"token\":\"a\",\"expires_in\":1e300}")->lifetime, absl::Hours(1));
  EXPECT_EQ(ParseTokenResponse("{\"token\":\"a\",\"expires_in\":-1}")->lifetime, absl::Minutes(1));
  for (const char* wrong : {"", "[]", "{}", "{\"token\":\"a\\r\\nX: y\"}", "{\"token\":1}"}) {
    EXPECT_FALSE(ParseTokenResponse(wrong).ok()) << wrong;
  }
  EXPECT_EQ(ErrorSummary("{\"errors\":[{\"code\":\"DENIED\",\"message\":\"no\\nway\"}]}"), "DENIED: no way");
  EXPECT_EQ(ErrorSummary("<html>"), "");
}

}  // namespace
}  // namespace keelson::images
