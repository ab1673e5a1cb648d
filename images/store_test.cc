// The store against a registry of our own in the same process: pulls, faults, records. Needs no root.
#include <absl/strings/match.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <thread>

#include "base/status.h"
#include "base/strings.h"
#include "images/digest.h"
#include "images/image_store.h"
#include "images/manifest.h"
#include "images/records.h"
#include "images/testing/test_images.h"
#include "images/testing/test_store.h"
#include "net/test_util.h"

namespace keelson::images {
namespace {

std::string Layer(const std::string& name, const std::string& data) {
  return MakeTar({{.name = "etc/", .type = '5', .mode = 0755},
                  {.name = "etc/" + name, .data = data},
                  {.name = name, .data = data, .mode = 04755}});
}

std::set<std::string> Names(const std::string& dir) {
  auto names = FolderNames(dir);
  if (!names.ok()) return {};
  return {names->begin(), names->end()};
}

class StoreFaultTest : public StoreTest {
 protected:
  // Nothing of a failed pull is left: not on disk, not in the books.
  void ExpectEmpty() {
    EXPECT_TRUE(store_->List().empty());
    EXPECT_EQ(Await(store_->Usage())->used_bytes, 0u);
    EXPECT_EQ(Await(store_->Usage())->inodes, 0u);
    // What the pool still removes is gone once the store has been closed and opened.
    Reopen();
    for (const char* dir : {"layers", "blobs/sha256", "images", "tmp"}) {
      EXPECT_TRUE(Names(options_.root_dir + "/" + dir).empty()) << dir;
    }
  }
  void WriteHosts(const std::string& domain, const std::string& text) {
    options_.registries_dir = dir_.path() + "/certs.d";
    ASSERT_TRUE(MakeDirs(StrCat(options_.registries_dir, "/", domain)).ok());
    ASSERT_TRUE(
        WriteFileAtomic(StrCat(options_.registries_dir, "/", domain, "/hosts.toml"), text, 0644, false).ok());
    Reopen();
  }
  std::string Url(std::string_view scheme = "http") const { return StrCat(scheme, "://127.0.0.1:", port_); }
  absl::StatusOr<std::string> PullAs(const std::string& name) {
    return Await(store_->Pull(name, PullOptions()));
  }
  size_t Count(std::string_view request) const {
    return static_cast<size_t>(
        std::count_if(registry_.requests.begin(), registry_.requests.end(),
                      [&](const std::string& r) { return absl::StrContains(r, Av(request)); }));
  }
};

TEST_F(StoreTest, PullsAndFinds) {
  TestImage image = MakeImage({Layer("a", "one"), Layer("b", "two")});
  registry_.Add("test/app", "1", image);
  auto id = Pull("test/app:1");
  ASSERT_TRUE(id.ok()) << id.status();
  EXPECT_EQ(*id, image.config_digest);
  const ImageRecord* record = store_->Find(Name("test/app:1"));
  ASSERT_NE(record, nullptr);
  EXPECT_EQ(record->id, image.config_digest);
  EXPECT_EQ(record->repo_tags, std::vector<std::string>{Name("test/app:1")});
  EXPECT_EQ(record->repo_digests, std::vector<std::string>{Name("test/app@") + image.manifest_digest});
  EXPECT_EQ(record->size_bytes, image.config.size() + image.layers[0].size() + image.layers[1].size());
  EXPECT_EQ(record->config.cmd, std::vector<std::string>{"/main"});
  EXPECT_EQ(record->config_json, image.config);
  EXPECT_EQ(absl::FormatTime(record->created_at, absl::UTCTimeZone()), "2020-01-02T03:04:05+00:00");
  EXPECT_EQ(store_->Find(image.config_digest), record);
  EXPECT_EQ(store_->Find(image.config_digest.substr(7, 3)), record);
  EXPECT_EQ(store_->Find(image.config_digest.substr(7, 2)), nullptr);
  EXPECT_EQ(store_->Find(record->repo_digests[0]), record);
  EXPECT_EQ(store_->Find("nothing"), nullptr);
  // A restart finds the same.
  Reopen();
  record = store_->Find(Name("test/app:1"));
  ASSERT_NE(record, nullptr);
  EXPECT_EQ(record->config.cmd, std::vector<std::string>{"/main"});
}

TEST_F(StoreTest, TagsMoveAndGo) {
  TestImage one = MakeImage({Layer("a", "one"), Layer("b", "shared")});
  TestImage two = MakeImage({Layer("a", "one"), Layer("c", "two")});
  registry_.Add("app", "1", one);
  registry_.Add("app", "also", one);
  ASSERT_TRUE(Pull("app:1").ok());
  ASSERT_TRUE(Pull("app:also").ok());
  EXPECT_EQ(store_->List().size(), 1u);
  EXPECT_EQ(store_->Find(one.config_digest)->repo_tags.size(), 2u);
  EXPECT_EQ(store_->Find(one.config_digest)->repo_digests.size(), 1u);
  registry_.Add("app", "1", two);
  ASSERT_TRUE(Pull("app:1").ok());
  EXPECT_EQ(store_->Find(Name("app:1"))->id, two.config_digest);
  EXPECT_EQ(store_->Find(one.config_digest)->repo_tags, std::vector<std::string>{Name("app:also")});
  // Absent is success; a tag goes alone, the last one takes the image.
  EXPECT_TRUE(Await(store_->Remove("absent:1")).ok());
  EXPECT_TRUE(Await(store_->Remove(Name("app:also"))).ok());
  EXPECT_EQ(store_->Find(one.config_digest), nullptr);
  EXPECT_EQ(store_->Find(Name("app@" + one.manifest_digest)), nullptr);
  EXPECT_NE(store_->Find(two.config_digest), nullptr);
  Reopen();
  EXPECT_EQ(store_->List().size(), 1u);
  // By digest it has no tag.
  ASSERT_TRUE(Pull("app@" + one.manifest_digest).ok());
  EXPECT_TRUE(store_->Find(one.config_digest)->repo_tags.empty());
  EXPECT_TRUE(Await(store_->Remove(Name("app@" + one.manifest_digest))).ok());
  EXPECT_EQ(store_->Find(one.config_digest), nullptr);
  EXPECT_TRUE(Await(store_->Remove(two.config_digest.substr(7, 12))).ok());
  EXPECT_TRUE(store_->List().empty());
  EXPECT_EQ(Await(store_->Usage())->used_bytes, 0u);
}

TEST_F(StoreFaultTest, SharedLayersComeOnce) {
  std::string base = Layer("base", "base");
  TestImage one = MakeImage({base, Layer("one", "1")});
  TestImage two = MakeImage({base, Layer("two", "2")});
  registry_.Add("one", "1", one);
  registry_.Add("two", "1", two);
  ASSERT_TRUE(Pull("one:1").ok());
  ASSERT_TRUE(Pull("two:1").ok());
  EXPECT_EQ(Count(one.layer_digests[0]), 1u);
  EXPECT_EQ(Names(options_.root_dir + "/layers").size(), 3u);
  uint64_t both = Await(store_->Usage())->used_bytes;
  EXPECT_TRUE(Await(store_->Remove(Name("one:1"))).ok());
  EXPECT_LT(Await(store_->Usage())->used_bytes, both);
  EXPECT_EQ(store_->Find(Name("two:1"))->id, two.config_digest);
  EXPECT_TRUE(Await(store_->Remove(Name("two:1"))).ok());
  ExpectEmpty();
}

Task<void> PullInto(ImageStore* store, std::string name, PullOptions options,
                    absl::StatusOr<std::string>* out) {
  *out = absl::UnknownError("cancelled");
  Task<absl::StatusOr<std::string>> pull = store->Pull(name, std::move(options));
  absl::StatusOr<std::string> id = co_await std::move(pull);
  *out = std::move(id);
}

TEST_F(StoreFaultTest, TwoPullsShareTheWork) {
  TestImage image = MakeImage({Layer("a", std::string(300000, 'a'))}, "none");
  registry_.Add("app", "1", image);
  absl::StatusOr<std::string> first, second;
  std::vector<uint64_t> progress;
  PullOptions options;
  options.on_progress = [&](const PullProgress& p) {
    EXPECT_EQ(p.layer_digest, image.layer_digests[0]);
    EXPECT_EQ(p.total_bytes, image.layers[0].size());
    progress.push_back(p.done_bytes);
  };
  Scope scope(env_.executor());
  scope.Spawn("first", PullInto(store_.get(), Name("app:1"), options, &first));
  scope.Spawn("second", PullInto(store_.get(), Name("app:1"), PullOptions(), &second));
  auto third = Pull("app:1");
  ASSERT_TRUE(third.ok()) << third.status();
  AwaitVoid(scope.Close());
  EXPECT_EQ(Count("/manifests/1"), 1u);
  EXPECT_EQ(Count(image.layer_digests[0]), 1u);
  EXPECT_TRUE(std::is_sorted(progress.begin(), progress.end()));
  ASSERT_FALSE(progress.empty());
  EXPECT_EQ(progress.back(), image.layers[0].size());
}

TEST_F(StoreFaultTest, CutConnectionsAreResumed) {
  TestImage image = MakeImage({Layer("a", std::string(400000, 'a'))}, "none");
  registry_.Add("app", "1", image);
  registry_.cut_after_bytes = 150000;
  auto id = Pull("app:1");
  ASSERT_TRUE(id.ok()) << id.status();
  EXPECT_GE(Count(image.layer_digests[0]), 5u);
  // Ranges: no byte was asked for twice (what was in flight when the line broke may be).
  EXPECT_LE(registry_.blob_bytes_sent, image.layers[0].size() * 2);
  EXPECT_TRUE(Await(store_->Remove(*id)).ok());
  // A server that knows no ranges starts anew each time; the cuts end at some time.
  registry_.ranges = false;
  registry_.cuts_left = 3;
  id = Pull("app:1");
  EXPECT_TRUE(id.ok()) << id.status();
}

TEST_F(StoreFaultTest, NeverEndingCutsGiveUp) {
  TestImage image = MakeImage({Layer("a", std::string(400000, 'a'))}, "none");
  registry_.Add("app", "1", image);
  registry_.cut_after_bytes = 1000;
  registry_.ranges = false;  // so that nothing new ever comes
  auto id = Pull("app:1");
  EXPECT_TRUE(absl::IsUnavailable(id.status())) << id.status();
  EXPECT_TRUE(absl::StrContains(id.status().message(), "given up")) << id.status();
  ExpectEmpty();
}

TEST_F(StoreFaultTest, ServerErrorsAreTriedAgain) {
  TestImage image = MakeImage({Layer("a", "a")});
  registry_.Add("app", "1", image);
  registry_.next_statuses = {500, 429, 503, 0, 502, 0, 504};
  auto id = Pull("app:1");
  ASSERT_TRUE(id.ok()) << id.status();
  registry_.next_statuses = {500, 500, 500, 500, 500};
  id = Pull("app:1");
  EXPECT_TRUE(absl::IsUnavailable(id.status())) << id.status();
  EXPECT_TRUE(absl::StrContains(id.status().message(), "500")) << id.status();
  // What will not change is not asked again.
  size_t before = registry_.requests.size();
  registry_.next_statuses = {403};
  id = Pull("app:1");
  EXPECT_TRUE(absl::IsPermissionDenied(id.status())) << id.status();
  EXPECT_EQ(registry_.requests.size(), before + 1);
  registry_.next_statuses.clear();
  id = Pull("app:none");
  EXPECT_TRUE(absl::IsNotFound(id.status())) << id.status();
  EXPECT_TRUE(absl::StrContains(id.status().message(), "MANIFEST_UNKNOWN")) << id.status();
}

TEST_F(StoreFaultTest, WrongBytesAreRefused) {
  TestImage image = MakeImage({Layer("a", "a"), Layer("b", std::string(100000, 'b'))});
  registry_.Add("app", "1", image);
  // Of the layer's size.
  registry_.blobs[image.layer_digests[1]][20] ^= 1;
  auto id = Pull("app:1");
  EXPECT_TRUE(absl::IsDataLoss(id.status())) << id.status();
  EXPECT_TRUE(absl::StrContains(id.status().message(), image.layer_digests[1])) << id.status();
  ExpectEmpty();
  // Longer and shorter.
  registry_.blobs[image.layer_digests[1]] = image.layers[1] + "more";
  EXPECT_TRUE(absl::IsDataLoss(Pull("app:1").status()));
  registry_.blobs[image.layer_digests[1]] = image.layers[1].substr(1);
  EXPECT_FALSE(Pull("app:1").ok());
  // Another layer than the configuration names.
  registry_.blobs[image.layer_digests[1]] = image.layers[1];
  TestImage other = MakeImage({Layer("a", "a"), Layer("b", "other")});
  TestImage mixed = image;
  mixed.config = other.config;
  registry_.blobs[image.config_digest] = other.config;
  EXPECT_TRUE(absl::IsDataLoss(Pull("app:1").status()));
  std::string manifest = image.manifest;
  size_t at = manifest.find(image.config_digest);
  manifest.replace(at, image.config_digest.size(), other.config_digest);
  size_t size_at = manifest.find("\"size\":", at);
  manifest.replace(size_at, manifest.find('}', size_at) - size_at, StrCat("\"size\":", other.config.size()));
  registry_.AddManifest("app", "1", manifest, kOciManifest);
  registry_.blobs[other.config_digest] = other.config;
  id = Pull("app:1");
  EXPECT_TRUE(absl::IsDataLoss(id.status())) << id.status();
  EXPECT_TRUE(absl::StrContains(id.status().message(), "diff ID")) << id.status();
  // A manifest of another digest than asked for.
  registry_.AddManifest("app", image.manifest_digest, other.manifest, kOciManifest);
  id = Pull("app@" + image.manifest_digest);
  EXPECT_TRUE(absl::IsDataLoss(id.status())) << id.status();
  ExpectEmpty();
}

TEST_F(StoreFaultTest, Tokens) {
  TestImage image = MakeImage({Layer("a", "a")});
  registry_.Add("app", "1", image);
  registry_.token = "secret-token";
  auto id = Pull("app:1");
  ASSERT_TRUE(id.ok()) << id.status();
  EXPECT_EQ(Count("/token"), 1u);
  ASSERT_TRUE(Await(store_->Remove(*id)).ok());
  // The token server wants to know who asks.
  registry_.basic = "dXNlcjpwYXNz";
  id = Pull("app:1");
  EXPECT_TRUE(absl::IsPermissionDenied(id.status())) << id.status();
  EXPECT_TRUE(absl::StrContains(id.status().message(), "incorrect username")) << id.status();
  PullOptions options;
  options.credentials = RegistryCredentials{"user", "wrong", "", ""};
  EXPECT_TRUE(absl::IsPermissionDenied(Pull("app:1", options).status()));
  options.credentials->password = "pass";
  EXPECT_TRUE(Pull("app:1", options).ok());
  ASSERT_TRUE(Await(store_->Remove(image.config_digest)).ok());
  options.credentials = RegistryCredentials{"", "", "", "secret-token"};
  EXPECT_TRUE(Pull("app:1", options).ok());
  options.credentials = RegistryCredentials{"", "", "", "old-token"};
  EXPECT_TRUE(absl::IsPermissionDenied(Pull("app:1", options).status()));
}

TEST_F(StoreFaultTest, CredentialFileAndBasic) {
  TestImage image = MakeImage({Layer("a", "a")});
  registry_.Add("app", "1", image);
  registry_.basic = "dXNlcjpwYXNz";
  EXPECT_TRUE(absl::IsPermissionDenied(Pull("app:1").status()));
  options_.auth_file = dir_.path() + "/config.json";
  ASSERT_TRUE(WriteFileAtomic(options_.auth_file,
                              StrCat("{\"auths\":{\"127.0.0.1:", port_, "\":{\"auth\":\"dXNlcjpwYXNz\"}}}"),
                              0600, false)
                  .ok());
  Reopen();
  EXPECT_TRUE(Pull("app:1").ok());
}

TEST_F(StoreFaultTest, RedirectsDoNotTakeTheCredentialsAlong) {
  TestImage image = MakeImage({Layer("a", "a")});
  registry_.Add("app", "1", image);
  registry_.token = "secret-token";
  FakeRegistry storage(&env_);
  uint16_t storage_port = storage.Listen();
  storage.blobs = registry_.blobs;
  registry_.redirect_blobs = StrCat("http://127.0.0.1:", storage_port, "/bucket");
  auto id = Pull("app:1");
  EXPECT_TRUE(id.ok()) << id.status();
  EXPECT_EQ(storage.requests.size(), 2u);
  for (const std::string& authorization : storage.authorizations) EXPECT_EQ(authorization, "");
  AwaitVoid(storage.Close());
  // In circles.
  ASSERT_TRUE(Await(store_->Remove(image.config_digest)).ok());
  registry_.redirect_blobs = "/v2/app/blobs";
  id = Pull("app:1");
  EXPECT_TRUE(absl::StrContains(id.status().message(), "redirects")) << id.status();
}

TEST_F(StoreFaultTest, MirrorsAreAskedFirstAndNotTrusted) {
  TestImage image = MakeImage({Layer("a", "a"), Layer("b", "b")});
  registry_.Add("team/app", "1", image);
  registry_.token = "secret-token";
  FakeRegistry mirror(&env_), empty(&env_);
  uint16_t mirror_port = mirror.Listen(), empty_port = empty.Listen();
  mirror.Add("team/app", "1", image);
  // It would like to have what belongs to the registry.
  empty.basic = "dXNlcjpwYXNz";
  // Port 1 is closed; the second mirror has nothing, the third is asked.
  WriteHosts("registry.test",
             StrCat("server = \"", Url(), "\"\n[host.\"http://127.0.0.1:1\"]\n[host.\"http://127.0.0.1:",
                    empty_port, "\"]\n[host.\"http://127.0.0.1:", mirror_port, "\"]\n"));
  PullOptions options;
  options.credentials = RegistryCredentials{"user", "pass", "", ""};
  auto id = Await(store_->Pull("registry.test/team/app:1", options));
  ASSERT_TRUE(id.ok()) << id.status();
  EXPECT_EQ(registry_.requests.size(), 0u);
  EXPECT_GT(empty.requests.size(), 0u);
  for (const std::string& authorization : empty.authorizations) EXPECT_EQ(authorization, "");
  EXPECT_EQ(store_->List()[0]->repo_tags, std::vector<std::string>{"registry.test/team/app:1"});
  ASSERT_TRUE(Await(store_->Remove(*id)).ok());
  // A mirror that lies about a layer is left for the registry itself, which wants a token.
  mirror.blobs[image.layer_digests[0]][15] ^= 1;
  id = Await(store_->Pull("registry.test/team/app:1", options));
  EXPECT_TRUE(id.ok()) << id.status();
  EXPECT_GT(registry_.requests.size(), 0u);
  for (const std::string& authorization : mirror.authorizations) EXPECT_EQ(authorization, "");
  ASSERT_TRUE(Await(store_->Remove(*id)).ok());
  // All say no: the registry's word counts, the mirrors' are told.
  id = PullAs("registry.test/team/app:absent");
  EXPECT_TRUE(absl::IsNotFound(id.status())) << id.status();
  EXPECT_TRUE(absl::StrContains(id.status().message(), "before: http://127.0.0.1:1")) << id.status();
  AwaitVoid(mirror.Close());
  AwaitVoid(empty.Close());
}

TEST_F(StoreFaultTest, TlsWithAnOwnAuthority) {
  net::TestPki pki;
  FakeRegistry secure(&env_);
  uint16_t port = secure.Listen(pki.Server());
  TestImage image = MakeImage({Layer("a", "a")});
  secure.Add("app", "1", image);
  secure.token = "secret-token";
  std::string url = StrCat("https://127.0.0.1:", port);
  WriteHosts("secure.test", StrCat("server = \"", url, "\"\n"));
  auto id = PullAs("secure.test/app:1");
  EXPECT_TRUE(absl::IsUnavailable(id.status())) << id.status();
  EXPECT_TRUE(secure.requests.empty());
  ASSERT_TRUE(
      WriteFileAtomic(options_.registries_dir + "/secure.test/ca.pem", pki.ca.certificate_pem(), 0644, false)
          .ok());
  WriteHosts("secure.test", StrCat("server = \"", url, "\"\nca = \"ca.pem\"\n"));
  id = PullAs("secure.test/app:1");
  EXPECT_TRUE(id.ok()) << id.status();
  WriteHosts("secure.test", StrCat("server = \"", url, "\"\nskip_verify = true\n"));
  EXPECT_TRUE(PullAs("secure.test/app:1").ok());
  // From TLS to plain HTTP is refused.
  ASSERT_TRUE(Await(store_->Remove(image.config_digest)).ok());
  registry_.blobs = secure.blobs;
  secure.redirect_blobs = Url() + "/bucket";
  id = PullAs("secure.test/app:1");
  EXPECT_TRUE(absl::IsPermissionDenied(id.status())) << id.status();
  EXPECT_TRUE(registry_.requests.empty());
  AwaitVoid(secure.Close());
}

TEST_F(StoreFaultTest, ThroughAProxy) {
  TestImage image = MakeImage({Layer("a", "a")});
  registry_.Add("app", "1", image);
  WriteHosts("behind.test", "server = \"http://behind.invalid\"\n");
  ::setenv("http_proxy", StrCat("http://user:pw@127.0.0.1:", port_).c_str(), 1);
  auto id = PullAs("behind.test/app:1");
  ::unsetenv("http_proxy");
  EXPECT_TRUE(id.ok()) << id.status();
  EXPECT_EQ(registry_.last_host, "behind.invalid");
  EXPECT_EQ(registry_.last_proxy_authorization, "Basic dXNlcjpwdw==");
}

// An HTTP proxy for one tunnel: reads the head, connects wherever the test says, passes bytes on.
class TunnelProxy {
 public:
  explicit TunnelProxy(uint16_t target) : target_(target) {
    listener_ = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = Loopback(0);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(listener_.get(), 8), 0);
    EXPECT_EQ(::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    port = ntohs(address.sin_port);
    thread_ = std::thread([this] { Run(); });
  }
  ~TunnelProxy() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }
  uint16_t port = 0;
  std::string head;  // of the last tunnel

 private:
  static sockaddr_in Loopback(uint16_t port) {
    sockaddr_in out{};
    out.sin_family = AF_INET;
    out.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    out.sin_port = htons(port);
    return out;
  }
  void Run() {
    while (true) {
      Fd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!client.valid()) return;
      std::string text;
      char byte;
      while (!absl::EndsWith(text, "\r\n\r\n") && ::read(client.get(), &byte, 1) == 1) text.push_back(byte);
      head = text;
      Fd server(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      sockaddr_in address = Loopback(target_);
      if (::connect(server.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return;
      std::string_view answer = "HTTP/1.1 200 Connection established\r\n\r\n";
      (void)!::write(client.get(), answer.data(), answer.size());
      Pass(client.get(), server.get());
    }
  }
  static void Pass(int a, int b) {
    pollfd fds[2] = {{a, POLLIN, 0}, {b, POLLIN, 0}};
    char buffer[16384];
    while (::poll(fds, 2, -1) > 0) {
      for (int i = 0; i < 2; ++i) {
        if (fds[i].revents == 0) continue;
        ssize_t n = ::read(fds[i].fd, buffer, sizeof buffer);
        if (n <= 0) return;
        (void)!::write(fds[1 - i].fd, buffer, static_cast<size_t>(n));
      }
    }
  }

  uint16_t target_;
  Fd listener_;
  std::thread thread_;
};

TEST_F(StoreFaultTest, ThroughAProxyWithTls) {
  net::TestPki pki;
  FakeRegistry secure(&env_);
  TestImage image = MakeImage({Layer("a", "a")});
  secure.Add("app", "1", image);
  uint16_t port = secure.Listen(pki.Server());
  WriteHosts("secure.test", "server = \"https://kubernetes.default\"\nca = \"ca.pem\"\n");
  ASSERT_TRUE(
      WriteFileAtomic(options_.registries_dir + "/secure.test/ca.pem", pki.ca.certificate_pem(), 0644, false)
          .ok());
  {
    TunnelProxy proxy(port);
    ::setenv("https_proxy", StrCat("http://user:pw@127.0.0.1:", proxy.port).c_str(), 1);
    auto id = PullAs("secure.test/app:1");
    EXPECT_TRUE(id.ok()) << id.status();
    EXPECT_TRUE(absl::StartsWith(proxy.head, "CONNECT kubernetes.default:443 HTTP/1.1\r\n")) << proxy.head;
    EXPECT_TRUE(absl::StrContains(proxy.head, "Proxy-Authorization: Basic dXNlcjpwdw==\r\n"));
    CloseStore();
    AwaitVoid(secure.Close());
  }
  ::unsetenv("https_proxy");
}

TEST_F(StoreFaultTest, IndexesAndPlatforms) {
  TestImage amd = MakeImage({Layer("a", "amd")}, "zstd", "", "amd64");
  TestImage arm = MakeImage({Layer("a", "arm")}, "gzip", "", "arm64");
  registry_.Add("app", "amd", amd);
  registry_.Add("app", "arm", arm);
  Descriptor a{kOciManifest, amd.manifest_digest, amd.manifest.size(), {"linux", "amd64", ""}, ""};
  Descriptor b{kOciManifest, arm.manifest_digest, arm.manifest.size(), {"linux", "arm64", "v8"}, ""};
  std::string index = EncodeIndex({a, b});
  registry_.AddManifest("app", "both", index, kOciIndex);
  options_.platform_architecture = "arm64";
  options_.platform_variant = "v8";
  Reopen();
  auto id = Pull("app:both");
  ASSERT_TRUE(id.ok()) << id.status();
  EXPECT_EQ(*id, arm.config_digest);
  // The digest of the tag is the index's.
  EXPECT_EQ(store_->Find(*id)->repo_digests, std::vector<std::string>{Name("app@") + DigestOf(index)});
  EXPECT_TRUE(absl::IsFailedPrecondition(Pull("app:amd").status()));
  options_.platform_architecture = "s390x";
  options_.platform_variant = "";
  Reopen();
  id = Pull("app:both");
  EXPECT_TRUE(absl::IsFailedPrecondition(id.status())) << id.status();
  EXPECT_TRUE(absl::StrContains(id.status().message(), "linux/arm64/v8")) << id.status();
  // Indexes of indexes of ...
  std::string inner = index;
  for (int i = 0; i < 5; ++i) {
    std::string digest = DigestOf(inner);
    registry_.AddManifest("app", digest, inner, kOciIndex);
    inner = EncodeIndex({Descriptor{kOciIndex, digest, inner.size(), {}, ""}});
  }
  registry_.AddManifest("app", "deep", inner, kOciIndex);
  id = Pull("app:deep");
  EXPECT_TRUE(absl::IsResourceExhausted(id.status())) << id.status();
  registry_.AddManifest("app", "old", "{\"schemaVersion\":1}",
                        "application/vnd.docker.distribution.manifest.v1+json");
  EXPECT_TRUE(absl::IsUnimplemented(Pull("app:old").status()));
}

TEST_F(StoreFaultTest, BombsLeaveNothing) {
  options_.max_image_bytes = 1 << 20;
  Reopen();
  registry_.Add("bomb", "1", MakeImage({Layer("a", "a"), Layer("zeros", std::string(4 << 20, '\0'))}));
  auto id = Pull("bomb:1");
  EXPECT_TRUE(absl::IsResourceExhausted(id.status())) << id.status();
  ExpectEmpty();
  // Two layers of half of it each.
  registry_.Add("bomb", "2",
                MakeImage({Layer("a", std::string(400000, '\0')), Layer("b", std::string(400000, '\0'))}));
  EXPECT_TRUE(absl::IsResourceExhausted(Pull("bomb:2").status()));
  ExpectEmpty();
}

TEST_F(StoreFaultTest, NobodyWaitsAnyMore) {
  TestImage image = MakeImage({Layer("a", std::string(300000, 'a')), Layer("b", "b")}, "none");
  registry_.Add("app", "1", image);
  registry_.hang.insert(image.layer_digests[0]);
  absl::StatusOr<std::string> first;
  {
    Scope scope(env_.executor());
    scope.Spawn("first", PullInto(store_.get(), Name("app:1"), PullOptions(), &first));
    AwaitVoid(registry_.hanging.Wait());
    AwaitVoid(scope.Close());
  }
  EXPECT_EQ(first.status().message(), "cancelled");
  // The next caller gets a pull of its own.
  registry_.hang.clear();
  auto id = Pull("app:1");
  EXPECT_TRUE(id.ok()) << id.status();
}

TEST_F(StoreFaultTest, CloseEndsAPull) {
  TestImage image = MakeImage({Layer("a", std::string(300000, 'a'))}, "none");
  registry_.Add("app", "1", image);
  registry_.hang.insert(image.layer_digests[0]);
  absl::StatusOr<std::string> first;
  Scope scope(env_.executor());
  scope.Spawn("first", PullInto(store_.get(), Name("app:1"), PullOptions(), &first));
  AwaitVoid(registry_.hanging.Wait());
  AwaitVoid(store_->Close());
  AwaitVoid(scope.Close());
  EXPECT_TRUE(absl::IsCancelled(first.status())) << first.status();
  store_.reset();
  OpenStore();
  ExpectEmpty();
}

TEST_F(StoreFaultTest, WhatACrashLeftGoes) {
  TestImage image = MakeImage({Layer("a", "a"), Layer("b", "b")});
  TestImage damaged = MakeImage({Layer("c", "c")});
  registry_.Add("app", "1", image);
  registry_.Add("damaged", "1", damaged);
  ASSERT_TRUE(Pull("app:1").ok());
  ASSERT_TRUE(Pull("damaged:1").ok());
  CloseStore();
  const std::string& root = options_.root_dir;
  const std::string hex(64, 'e');
  // A pull killed in the middle, a layer nobody names, a blob, a half written record, a damaged one.
  ASSERT_TRUE(MakeDirs(root + "/tmp/123/diff/etc").ok());
  ASSERT_TRUE(MakeDirs(root + "/layers/" + hex + "/diff").ok());
  ASSERT_TRUE(MakeDirs(root + "/layers/odd").ok());
  ASSERT_TRUE(MakeDirs(root + "/rootfs/half").ok());
  ASSERT_TRUE(WriteFileAtomic(root + "/blobs/sha256/" + hex, "x", 0644, false).ok());
  ASSERT_TRUE(WriteFileAtomic(root + "/images/" + hex + ".json.AbCdEf", "x", 0644, false).ok());
  std::string record = root + "/images/" + damaged.config_digest.substr(7) + ".json";
  std::string text = *ReadFile(record);
  text[text.size() / 2] ^= 1;
  ASSERT_TRUE(WriteFileAtomic(record, text, 0644, false).ok());
  OpenStore();
  ASSERT_EQ(store_->List().size(), 1u);
  EXPECT_EQ(store_->List()[0]->id, image.config_digest);
  EXPECT_TRUE(store_->RootfsKeys().empty());
  Reopen();  // by now the pool has emptied the trash
  EXPECT_EQ(Names(root + "/layers").size(), 2u);
  EXPECT_EQ(Names(root + "/blobs/sha256").size(), 4u);
  EXPECT_EQ(Names(root + "/images").size(), 1u);
  EXPECT_TRUE(Names(root + "/tmp").empty());
  // A layer that is gone takes its image along.
  CloseStore();
  ASSERT_TRUE(RemoveTree(root + "/layers/" + *Names(root + "/layers").begin()).ok());
  OpenStore();
  ExpectEmpty();
}

// What is there and cannot be read is not taken for what a crash left: nothing is dropped for it.
TEST_F(StoreFaultTest, WhatCannotBeReadIsNotDropped) {
  TestImage image = MakeImage({Layer("a", "a"), Layer("b", "b")});
  registry_.Add("app", "1", image);
  ASSERT_TRUE(Pull("app:1").ok());
  CloseStore();
  const std::string& root = options_.root_dir;
  const std::string layers = root + "/layers/";
  for (const std::string& file : {StrCat(root, "/images/", image.config_digest.substr(7), ".json"),
                                  StrCat(layers, *Names(layers).begin(), "/layer.json")}) {
    const std::string text = *ReadFile(file);
    ASSERT_EQ(::truncate(file.c_str(), static_cast<off_t>(kMaxRecordBytes) + 1), 0);
    auto refused = ImageStore::Open(env_, options_);
    EXPECT_FALSE(refused.ok());
    EXPECT_TRUE(absl::StrContains(refused.status().message(), Av(file))) << refused.status();
    ASSERT_EQ(::truncate(file.c_str(), static_cast<off_t>(text.size())), 0);
  }
  OpenStore();
  ASSERT_EQ(store_->List().size(), 1u);
  EXPECT_EQ(store_->List()[0]->id, image.config_digest);
}

TEST_F(StoreFaultTest, OneProcessAtATimeAndNobodyElseLooksIn) {
  auto second = ImageStore::Open(env_, options_);
  EXPECT_TRUE(absl::IsFailedPrecondition(second.status())) << second.status();
  EXPECT_TRUE(absl::StrContains(second.status().message(), "another process")) << second.status();
  struct stat st;
  ASSERT_EQ(::stat(options_.root_dir.c_str(), &st), 0);
  // Layers hold setuid programs (CVE-2021-41103).
  EXPECT_EQ(st.st_mode & 07777, 0700u);
  CloseStore();
  ASSERT_TRUE(WriteFileAtomic(options_.root_dir + "/version", "2\n", 0644, false).ok());
  second = ImageStore::Open(env_, options_);
  EXPECT_TRUE(absl::StrContains(second.status().message(), "another version")) << second.status();
}

TEST_F(StoreFaultTest, ExportAndImport) {
  TestImage image = MakeImage({Layer("a", "a"), Layer("b", "b")});
  registry_.Add("app", "1", image);
  ASSERT_TRUE(Pull("app:1").ok());
  std::string layout = dir_.path() + "/layout", archive = dir_.path() + "/image.tar";
  ASSERT_TRUE(Await(store_->Export(Name("app:1"), layout, false)).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(Await(store_->Export(Name("app:1"), layout, false))));
  ASSERT_TRUE(Await(store_->Export(Name("app:1"), archive, true)).ok());
  EXPECT_TRUE(absl::IsNotFound(Await(store_->Export("absent", archive, true))));
  for (const std::string& path : {layout, archive}) {
    ASSERT_TRUE(Await(store_->Remove(image.config_digest)).ok());
    auto ids = Await(store_->Import(path));
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, std::vector<std::string>{image.config_digest});
    const ImageRecord* record = store_->Find(Name("app:1"));
    ASSERT_NE(record, nullptr) << path;
    EXPECT_EQ(record->id, image.config_digest);
    EXPECT_EQ(record->size_bytes, image.config.size() + image.layers[0].size() + image.layers[1].size());
    Reopen();
    EXPECT_NE(store_->Find(Name("app:1")), nullptr);
    // And out again.
    std::string again = StrCat(path, "-again");
    EXPECT_TRUE(Await(store_->Export(Name("app:1"), again, false)).ok());
  }
  EXPECT_EQ(*ReadFile(layout + "/blobs/sha256/" + image.manifest_digest.substr(7)), image.manifest);
}

TEST_F(StoreFaultTest, ACheckpointStaysOne) {
  TestImage image = MakeImage({Layer("config.dump", "{}")});
  const std::string annotation = R"(,"annotations":{"org.criu.checkpoint.container.name":"count"}})";
  image.manifest.replace(image.manifest.size() - 1, 1, annotation);
  image.manifest_digest = DigestOf(image.manifest);
  registry_.Add("checkpoint", "1", image);
  ASSERT_TRUE(Pull("checkpoint:1").ok());
  auto is_checkpoint = [&] {
    const ImageRecord* record = store_->Find(Name("checkpoint:1"));
    return record != nullptr && record->checkpoint_of == "count";
  };
  EXPECT_TRUE(is_checkpoint());
  Reopen();
  EXPECT_TRUE(is_checkpoint());
  const std::string layout = dir_.path() + "/layout";
  ASSERT_TRUE(Await(store_->Export(Name("checkpoint:1"), layout, false)).ok());
  ASSERT_TRUE(Await(store_->Remove(image.config_digest)).ok());
  ASSERT_TRUE(Await(store_->Import(layout)).ok());
  EXPECT_TRUE(is_checkpoint());
}

// Whoever may push anywhere can put another image's configuration and layers under a manifest with that mark.
TEST_F(StoreFaultTest, AnImageIsMadeNoCheckpointByAnotherManifest) {
  const TestImage plain = MakeImage({Layer("bin/sh", "#!")});
  TestImage marked = plain;
  marked.manifest.replace(marked.manifest.size() - 1, 1,
                          R"(,"annotations":{"org.criu.checkpoint.container.name":"count"}})");
  marked.manifest_digest = DigestOf(marked.manifest);
  registry_.Add("plain", "1", plain);
  registry_.Add("marked", "1", marked);
  auto checkpoint_of = [&] { return store_->Find(plain.config_digest)->checkpoint_of; };
  ASSERT_TRUE(Pull("marked:1").ok());
  EXPECT_EQ(checkpoint_of(), "count");
  ASSERT_TRUE(Pull("plain:1").ok());
  EXPECT_EQ(checkpoint_of(), "");
  ASSERT_TRUE(Pull("marked:1").ok());
  EXPECT_EQ(checkpoint_of(), "");
}

TEST_F(StoreFaultTest, WithoutBlobsThereIsNoExport) {
  options_.keep_layer_blobs = false;
  Reopen();
  TestImage image = MakeImage({Layer("a", std::string(100000, 'a'))}, "none");
  registry_.Add("app", "1", image);
  ASSERT_TRUE(Pull("app:1").ok());
  EXPECT_EQ(Names(options_.root_dir + "/blobs/sha256").size(), 2u);
  absl::Status status = Await(store_->Export(Name("app:1"), dir_.path() + "/out", false));
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
}

TEST_F(StoreFaultTest, HostileArchives) {
  std::string path = dir_.path() + "/evil.tar";
  ASSERT_TRUE(WriteFileAtomic(dir_.path() + "/secret", "{\"config\":1}", 0600, false).ok());
  auto import = [&](const std::vector<TarEntry>& entries) {
    EXPECT_TRUE(WriteFileAtomic(path, MakeTar(entries), 0644, false).ok());
    auto ids = Await(store_->Import(path));
    EXPECT_FALSE(ids.ok());
    return std::string(ids.status().message());
  };
  auto manifest = [](std::string_view config, std::string_view layer) {
    return StrCat("[{\"Config\":\"", config, "\",\"RepoTags\":[\"a:1\"],\"Layers\":[\"", layer, "\"]}]");
  };
  EXPECT_TRUE(absl::StrContains(import({{.name = "../x", .data = "x"}}), ".."));
  EXPECT_TRUE(absl::StrContains(import({{.name = "a", .data = "x"}}), "neither"));
  EXPECT_TRUE(absl::StrContains(import({{.name = "manifest.json", .data = manifest("../../../secret", "l")}}),
                                "leaves its directory"));
  EXPECT_TRUE(absl::StrContains(import({{.name = "c", .type = '2', .link = dir_.path() + "/secret"},
                                        {.name = "manifest.json", .data = manifest("c", "l")}}),
                                "leaves its directory"));
  TestImage image = MakeImage({Layer("a", "a")});
  EXPECT_TRUE(absl::StrContains(import({{.name = "c", .data = image.config},
                                        {.name = "manifest.json", .data = manifest("c", "/etc/passwd")}}),
                                "leaves its directory"));
  EXPECT_TRUE(absl::StrContains(import({{.name = "c", .data = image.config},
                                        {.name = "l", .data = MakeTar({{.name = "other"}})},
                                        {.name = "manifest.json", .data = manifest("c", "l")}}),
                                "diff ID"));
  ExpectEmpty();
}

}  // namespace
}  // namespace keelson::images
