#include "client/kubeconfig.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/fd.h"

namespace keelson::client {
namespace {

TEST(KubeConfigTest, RoundTrip) {
  KubeConfig config;
  config.server = "https://127.0.0.1:6443";
  config.ca_pem = "CA";
  config.client_certificate_pem = "CERT";
  config.client_key_pem = "KEY";
  auto read = ParseKubeConfig(RenderKubeConfig(config), "/");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->server, config.server);
  EXPECT_EQ(read->ca_pem, "CA");
  EXPECT_EQ(read->client_certificate_pem, "CERT");
  EXPECT_EQ(read->client_key_pem, "KEY");
  EXPECT_EQ(read->ns, "default");
}

TEST(KubeConfigTest, FilesAreReadRelativeToIt) {
  char name[] = "/tmp/keelson-kubeconfig-XXXXXX";
  std::string dir = ::mkdtemp(name);
  ASSERT_TRUE(WriteFileAtomic(dir + "/ca.crt", "FROM FILE").ok());
  ASSERT_TRUE(WriteFileAtomic(dir + "/config", R"(
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: k, user: u, namespace: web}}]
clusters: [{name: k, cluster: {server: "https://h:6443", certificate-authority: ca.crt}}]
users: [{name: u, user: {token: t}}]
)")
                  .ok());
  auto config = LoadKubeConfig(dir + "/config");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->ca_pem, "FROM FILE");
  EXPECT_EQ(config->token, "t");
  EXPECT_EQ(config->ns, "web");
  ASSERT_TRUE(WriteKubeConfig(*config, dir + "/out").ok());
  struct stat st;
  ASSERT_EQ(::stat((dir + "/out").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
  EXPECT_TRUE(RemoveTree(dir).ok());
}

TEST(KubeConfigTest, ErrorsNameTheField) {
  auto no_context = ParseKubeConfig("current-context: nope\n", "/");
  EXPECT_NE(std::string(no_context.status().message()).find("contexts has no \"nope\""), std::string::npos);
  auto no_cluster =
      ParseKubeConfig("current-context: c\ncontexts: [{name: c, context: {cluster: x}}]\n", "/");
  EXPECT_NE(std::string(no_cluster.status().message()).find("clusters has no \"x\""), std::string::npos);
}

}  // namespace
}  // namespace keelson::client
