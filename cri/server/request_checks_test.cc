#include "cri/server/request_checks.h"

#include <absl/strings/escaping.h>
#include <gmock/gmock.h>
#include <stdlib.h>

#include <functional>

#include "base/fd.h"
#include "cri/server/image_server.h"
#include "cri/server/runtime_server.h"
#include "cri/server/sandbox_parts.h"
#include "cri/server/verbose_info.h"
#include "oci/spec.h"

namespace keelson::cri {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

template <class Message>
struct BadCase {
  const char* name;
  std::function<void(Message*)> spoil;
  const char* field;
};

v1::PodSandboxConfig GoodPod() {
  v1::PodSandboxConfig config;
  config.mutable_metadata()->set_name("p");
  return config;
}
v1::LinuxSandboxSecurityContext* SecurityOf(v1::PodSandboxConfig* config) {
  return config->mutable_linux()->mutable_security_context();
}

v1::ContainerConfig GoodContainer() {
  v1::ContainerConfig config;
  config.mutable_metadata()->set_name("c");
  config.mutable_image()->set_image("busybox");
  return config;
}

void AddMappings(v1::UserNamespace* user, uint32_t host_id) {
  user->set_mode(v1::POD);
  for (auto* maps : {user->mutable_uids(), user->mutable_gids()}) {
    v1::IDMapping* m = maps->Add();
    m->set_host_id(host_id);
    m->set_length(65536);
  }
}
v1::UserNamespace* UserOf(v1::PodSandboxConfig* config) {
  return SecurityOf(config)->mutable_namespace_options()->mutable_userns_options();
}
v1::UserNamespace* UserOf(v1::ContainerConfig* config) {
  return config->mutable_linux()
      ->mutable_security_context()
      ->mutable_namespace_options()
      ->mutable_userns_options();
}

TEST(CheckPodConfigTest, NamesTheField) {
  EXPECT_TRUE(CheckPodConfig(GoodPod()).ok());
  for (const BadCase<v1::PodSandboxConfig>& bad : std::vector<BadCase<v1::PodSandboxConfig>>{
           {"no name", [](auto* c) { c->clear_metadata(); }, "metadata.name"},
           {"a negative port", [](auto* c) { c->add_port_mappings()->set_host_port(-1); },
            "port_mappings[0]"},
           {"an unknown protocol",
            [](auto* c) {
              c->add_port_mappings();
              c->add_port_mappings()->set_protocol(static_cast<v1::Protocol>(7));
            },
            "port_mappings[1]: protocol: unknown value 7"},
           {"a group without a user", [](auto* c) { SecurityOf(c)->mutable_run_as_group()->set_value(5); },
            "run_as_group"},
           {"a user out of range", [](auto* c) { SecurityOf(c)->mutable_run_as_user()->set_value(-5); },
            "run_as_user"},
           {"a group out of range", [](auto* c) { SecurityOf(c)->add_supplemental_groups(1LL << 40); },
            "supplemental_groups"},
           {"an unknown policy",
            [](auto* c) {
              SecurityOf(c)->set_supplemental_groups_policy(static_cast<v1::SupplementalGroupsPolicy>(9));
            },
            "supplemental_groups_policy"},
           {"a profile without a name",
            [](auto* c) {
              SecurityOf(c)->mutable_seccomp()->set_profile_type(v1::SecurityProfile::Localhost);
            },
            "seccomp.localhost_ref"},
           {"an unknown old profile", [](auto* c) { SecurityOf(c)->set_seccomp_profile_path("x"); },
            "seccomp_profile_path"},
           {"mappings with the host's user namespace",
            [](auto* c) {
              AddMappings(UserOf(c), 1 << 16);
              UserOf(c)->set_mode(v1::NODE);
            },
            "userns_options.mode"},
       }) {
    v1::PodSandboxConfig config = GoodPod();
    bad.spoil(&config);
    absl::Status status = CheckPodConfig(config);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << bad.name << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.field)) << bad.name;
  }
  v1::PodSandboxConfig unmapped = GoodPod();
  unmapped.add_port_mappings()->set_container_port(80);
  EXPECT_TRUE(CheckPodConfig(unmapped).ok()) << "no host port";
}

TEST(CheckContainerConfigTest, NamesTheField) {
  EXPECT_TRUE(CheckContainerConfig(GoodContainer()).ok());
  for (const BadCase<v1::ContainerConfig>& bad : std::vector<BadCase<v1::ContainerConfig>>{
           {"no image", [](auto* c) { c->clear_image(); }, "image"},
           {"a sub path of no image",
            [](auto* c) {
              c->add_mounts()->set_container_path("/mnt");
              c->mutable_mounts(0)->set_host_path("/tmp");
              c->mutable_mounts(0)->set_image_sub_path("a");
            },
            "mounts[/mnt]: image_sub_path"},
           {"an unknown signal", [](auto* c) { c->set_stop_signal(static_cast<v1::Signal>(999)); },
            "stop_signal: unknown value 999"},
           {"an unknown policy",
            [](auto* c) {
              c->mutable_linux()->mutable_security_context()->set_supplemental_groups_policy(
                  static_cast<v1::SupplementalGroupsPolicy>(9));
            },
            "supplemental_groups_policy"},
       }) {
    v1::ContainerConfig config = GoodContainer();
    bad.spoil(&config);
    absl::Status status = CheckContainerConfig(config);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << bad.name << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.field)) << bad.name;
  }
}

TEST(CheckIdMappingsTest, AreThePods) {
  v1::PodSandboxConfig pod = GoodPod(), plain = GoodPod();
  AddMappings(UserOf(&pod), 1 << 16);
  v1::ContainerConfig config = GoodContainer();
  EXPECT_TRUE(CheckIdMappings(config, plain).ok());
  AddMappings(UserOf(&config), 1 << 16);
  v1::Mount* mount = config.add_mounts();
  mount->set_container_path("/data");
  *mount->mutable_uidmappings() = UserOf(&pod)->uids();
  *mount->mutable_gidmappings() = UserOf(&pod)->gids();
  EXPECT_TRUE(CheckIdMappings(config, pod).ok());
  auto field = [](const v1::ContainerConfig& c, const v1::PodSandboxConfig& p, const char* text) {
    absl::Status status = CheckIdMappings(c, p);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
  };
  field(config, plain, "mounts[/data]: ID mappings, but the pod has no user namespace");
  v1::ContainerConfig other = config;
  UserOf(&other)->mutable_uids(0)->set_host_id(1 << 17);
  field(other, pod, "userns_options.uids: 0 -> 131072 (65536); the pod's: 0 -> 65536 (65536)");
  other = config;
  UserOf(&other)->clear_gids();
  field(other, pod, "userns_options.gids: none");
  other = config;
  other.mutable_mounts(0)->mutable_uidmappings(0)->set_length(10);
  field(other, pod, "mounts[/data].uidMappings");
  other = config;
  other.mutable_mounts(0)->clear_gidmappings();
  field(other, pod, "mounts[/data].gidMappings");
  other = GoodContainer();
  AddMappings(UserOf(&other), 1 << 16);
  UserOf(&other)->set_mode(v1::NODE);
  field(other, plain, "userns_options.mode");
}

TEST(PauseTest, HasTheSecurityContextOfThePod) {
  v1::PodSandboxConfig pod = GoodPod();
  absl::StatusOr<oci::ProcessUser> user = PauseUser(pod);
  ASSERT_TRUE(user.ok()) << user.status();
  EXPECT_EQ(user->uid, 65535u);
  EXPECT_EQ(user->gid, 65535u);
  auto security = [&] { return PauseConfig(pod).linux().security_context(); };
  EXPECT_TRUE(security().has_seccomp());
  EXPECT_EQ(security().seccomp().profile_type(), v1::SecurityProfile::RuntimeDefault);
  EXPECT_TRUE(security().readonly_rootfs());

  SecurityOf(&pod)->mutable_run_as_user()->set_value(1000);
  user = PauseUser(pod);
  ASSERT_TRUE(user.ok()) << user.status();
  EXPECT_EQ(user->uid, 1000u);
  EXPECT_EQ(user->gid, 0u);
  SecurityOf(&pod)->mutable_run_as_group()->set_value(2000);
  SecurityOf(&pod)->add_supplemental_groups(3000);
  user = PauseUser(pod);
  ASSERT_TRUE(user.ok()) << user.status();
  EXPECT_EQ(user->gid, 2000u);
  EXPECT_THAT(user->additional_gids, ElementsAre(2000, 3000));
  SecurityOf(&pod)->set_seccomp_profile_path("localhost//a.json");
  EXPECT_EQ(security().seccomp_profile_path(), "localhost//a.json");
  EXPECT_FALSE(security().has_seccomp());
  SecurityOf(&pod)->mutable_seccomp()->set_profile_type(v1::SecurityProfile::Unconfined);
  EXPECT_EQ(security().seccomp().profile_type(), v1::SecurityProfile::Unconfined);
  SecurityOf(&pod)->mutable_apparmor()->set_localhost_ref("mine");
  EXPECT_EQ(security().apparmor().localhost_ref(), "mine");
}

TEST(ResolvConfOfTest, AnEmptyConfigurationIsNotTheHosts) {
  char path[] = "/tmp/keelson-resolv-XXXXXX";
  ASSERT_TRUE(Fd(::mkstemp(path)).valid());
  ASSERT_TRUE(WriteFileAtomic(path, "nameserver 192.0.2.1\n", 0600, false).ok());
  v1::PodSandboxConfig config = GoodPod();
  EXPECT_EQ(*ResolvConfOf(config, path), "nameserver 192.0.2.1\n");
  config.mutable_dns_config();
  EXPECT_EQ(*ResolvConfOf(config, path), "");
  config.mutable_dns_config()->add_servers("192.0.2.2");
  EXPECT_EQ(*ResolvConfOf(config, path), "nameserver 192.0.2.2\n");
  ASSERT_EQ(::remove(path), 0);
  config.clear_dns_config();
  EXPECT_EQ(*ResolvConfOf(config, path), "");
}

TEST(CredentialsOfTest, OfThisRegistryOnly) {
  const struct {
    const char* server;
    const char* reference;
    bool sent;
  } kCases[] = {
      {"", "quay.io/a/b:1", true},
      {"quay.io", "quay.io/a/b:1", true},
      {"https://quay.io", "quay.io/a/b:1", true},
      {"https://quay.io/v2/", "quay.io/a/b:1", true},
      {"https://quay.io/a", "quay.io/a/b:1", true},
      {"quay.io", "quay.io.example/a/b:1", false},
      {"https://quay.io:8443", "quay.io/a/b:1", false},
      {"localhost:5000", "localhost:5000/b", true},
      {"https://index.docker.io/v1/", "busybox", true},
      {"docker.io", "docker.io/library/busybox:1", true},
      {"ghcr.io", "busybox", false},
  };
  for (const auto& c : kCases) {
    v1::AuthConfig auth;
    auth.set_username("u");
    auth.set_password("p");
    auth.set_server_address(c.server);
    auto credentials = CredentialsOf(auth, c.reference);
    ASSERT_TRUE(credentials.ok()) << credentials.status();
    EXPECT_EQ(credentials->has_value(), c.sent) << c.server << " for " << c.reference;
  }
}

TEST(CredentialsOfTest, InAllTheirForms) {
  v1::AuthConfig auth;
  EXPECT_FALSE(CredentialsOf(auth, "busybox")->has_value());
  auth.set_auth(absl::Base64Escape(std::string("user:pa:ss\0\0", 12)));
  auto credentials = CredentialsOf(auth, "busybox");
  ASSERT_TRUE(credentials.ok() && credentials->has_value()) << credentials.status();
  EXPECT_EQ((*credentials)->username, "user");
  EXPECT_EQ((*credentials)->password, "pa:ss");
  auth.set_username("other");
  EXPECT_EQ((*CredentialsOf(auth, "busybox"))->username, "other");
  auth.Clear();
  auth.set_auth("no base64!");
  EXPECT_TRUE(absl::IsInvalidArgument(CredentialsOf(auth, "busybox").status()));
  auth.set_auth(absl::Base64Escape("no colon"));
  EXPECT_TRUE(absl::IsInvalidArgument(CredentialsOf(auth, "busybox").status()));
  auth.Clear();
  auth.set_identity_token("i");
  EXPECT_EQ((*CredentialsOf(auth, "busybox"))->identity_token, "i");
  auth.Clear();
  auth.set_registry_token("r");
  EXPECT_EQ((*CredentialsOf(auth, "busybox"))->registry_token, "r");
}

TEST(CheckImageHandlerTest, OneThatIsThere) {
  v1::ImageSpec image;
  EXPECT_TRUE(CheckImageHandler(image, {}).ok());
  image.set_runtime_handler("runc");
  EXPECT_TRUE(CheckImageHandler(image, {"crun", "runc"}).ok());
  image.set_runtime_handler("kata");
  absl::Status status = CheckImageHandler(image, {"crun", "runc"});
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("runtime_handler: \"kata\" is not there; there are: crun, runc"));
}

TEST(ImageInfoJsonTest, AsCrictlReadsIt) {
  EXPECT_EQ(ImageInfoJson("sha256:1", R"({"architecture":"amd64"})"),
            R"({"chainID":"sha256:1","imageSpec":{"architecture":"amd64"}})");
  EXPECT_EQ(ImageInfoJson("", "{"), R"({"chainID":""})");
}

TEST(ShownImageTest, ByATagAsLongAsThereIsOne) {
  v1::ImageSpec asked;
  asked.set_image("sha256:abc");
  asked.set_user_specified_image("busybox");
  EXPECT_EQ(ShownImage(asked, nullptr).image(), "sha256:abc");
  images::ImageRecord record;
  record.id = "sha256:abc";
  EXPECT_EQ(ShownImage(asked, &record).image(), "sha256:abc");
  record.repo_tags = {"docker.io/library/busybox:1", "docker.io/library/busybox:2"};
  EXPECT_EQ(ShownImage(asked, &record).image(), "docker.io/library/busybox:1");
  EXPECT_EQ(ShownImage(asked, &record).user_specified_image(), "busybox");
}

TEST(MergeResourcesTest, WhatIsSetReplaces) {
  v1::LinuxContainerResources to, from;
  to.set_cpu_shares(10);
  to.set_cpu_quota(5000);
  to.set_oom_score_adj(100);
  (*to.mutable_unified())["pids.max"] = "5";
  (*to.mutable_unified())["memory.low"] = "1";
  from.set_cpu_shares(20);
  from.set_oom_score_adj(100);
  (*from.mutable_unified())["pids.max"] = "6";
  std::vector<std::string> warnings;
  MergeResources(from, &to, &warnings);
  EXPECT_EQ(to.cpu_shares(), 20);
  EXPECT_EQ(to.cpu_quota(), 5000);
  EXPECT_EQ(to.unified().at("pids.max"), "6");
  EXPECT_EQ(to.unified().at("memory.low"), "1");
  EXPECT_THAT(warnings, ElementsAre());
  from.set_oom_score_adj(200);
  MergeResources(from, &to, &warnings);
  EXPECT_EQ(to.oom_score_adj(), 100);
  EXPECT_THAT(warnings, ElementsAre(HasSubstr("stays 100 instead of 200")));
}

TEST(ChangedHugepagesTest, OnlyWhatIsNew) {
  v1::LinuxContainerResources before, after;
  auto add = [](v1::LinuxContainerResources* to, const char* size, uint64_t limit) {
    to->add_hugepage_limits()->set_page_size(size);
    to->mutable_hugepage_limits(to->hugepage_limits_size() - 1)->set_limit(limit);
  };
  add(&before, "2MB", 4 << 20);
  add(&before, "1GB", 0);
  EXPECT_TRUE(ChangedHugepages(before, before).hugepage_limit_bytes.empty());
  add(&after, "1GB", 0);
  add(&after, "2MB", 8 << 20);
  add(&after, "64KB", 0);
  const std::map<std::string, uint64_t> wanted = {{"2MB", 8 << 20}, {"64KB", 0}};
  EXPECT_EQ(ChangedHugepages(before, after).hugepage_limit_bytes, wanted);
}

TEST(CheckPodResourcesTest, NamesTheField) {
  const oci::HostFacts host;
  v1::UpdatePodSandboxResourcesRequest request;
  EXPECT_TRUE(CheckPodResources(request, host).ok());
  request.mutable_resources()->set_cpu_shares(100);
  request.mutable_overhead()->set_memory_limit_in_bytes(1 << 20);
  EXPECT_TRUE(CheckPodResources(request, host).ok());
  request.mutable_overhead()->set_memory_limit_in_bytes(-5);
  EXPECT_THAT(std::string(CheckPodResources(request, host).message()),
              HasSubstr("overhead: linux.resources.memory_limit_in_bytes"));
  request.clear_overhead();
  request.mutable_resources()->set_cpuset_cpus("a");
  EXPECT_THAT(std::string(CheckPodResources(request, host).message()),
              HasSubstr("resources: linux.resources.cpuset_cpus"));
}

}  // namespace
}  // namespace keelson::cri
