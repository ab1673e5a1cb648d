#include "kubelet/user_namespaces.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

#include "base/fd.h"
#include "base/status.h"
#include "base/testing/few_descriptors.h"
#include "kubelet/generate_container_config.h"

namespace keelson::kubelet {
namespace {

using testing::HasSubstr;

constexpr char kPasswd[] = "root:x:0:0::/root:/bin/sh\nkubelet:x:998:998::/:/bin/false\n";

struct RangeCase {
  const char* about;
  const char* passwd;
  const char* subuid;
  const char* subgid;
  uint64_t first, length;
  const char* error;
};

const RangeCase kRanges[] = {
    {"no user", "root:x:0:0::/:/bin/sh\n", "kubelet:1:2\n", "", 65536, kAllIds - 65536, ""},
    {"another's name", "kubelet2:x:1:1::/:/bin/sh\n", "", "", 65536, kAllIds - 65536, ""},
    {"a range", kPasswd, "me:1:2\nkubelet:131072:13107200\n", "kubelet:131072:13107200", 131072, 13107200,
     ""},
    {"none", kPasswd, "", "", 0, 0, "/etc/subuid: user kubelet has 0 ranges"},
    {"two", kPasswd, "kubelet:65536:65536\nkubelet:131072:65536", "", 0, 0, "2 ranges"},
    {"no number", kPasswd, "kubelet:x:65536", "", 0, 0, "USER:FIRST:COUNT"},
    {"beyond all", kPasswd, "kubelet:4294901760:131072", "", 0, 0, "USER:FIRST:COUNT"},
    {"groups differ", kPasswd, "kubelet:65536:13107200", "kubelet:131072:13107200", 0, 0, "mismatched"},
    {"offset", kPasswd, "kubelet:100000:13107200", "kubelet:100000:13107200", 0, 0,
     "is not a multiple of 65536"},
    {"root's", kPasswd, "kubelet:0:13107200", "kubelet:0:13107200", 0, 0,
     "must be greater or equal to 65536"},
    {"length", kPasswd, "kubelet:65536:13107201", "kubelet:65536:13107201", 0, 0, "length 13107201 is not"},
    {"short", kPasswd, "kubelet:65536:65536", "kubelet:65536:65536", 0, 0, "not enough to support 110 pods"},
};

TEST(UserNamespacesTest, Ranges) {
  for (const RangeCase& c : kRanges) {
    absl::StatusOr<IdRange> range = UserNamespaceIdRange(c.passwd, c.subuid, c.subgid, 110);
    if (*c.error != '\0') {
      EXPECT_THAT(std::string(range.status().message()), HasSubstr(c.error)) << c.about;
      continue;
    }
    ASSERT_TRUE(range.ok()) << c.about << ": " << range.status();
    EXPECT_EQ(range->first, c.first) << c.about;
    EXPECT_EQ(range->length, c.length) << c.about;
  }
}

TEST(UserNamespacesTest, Files) {
  EXPECT_EQ(*ParseUserNamespaceFile(RenderUserNamespaceFile(131072)), 131072u);
  for (
      const char* text :
      {"", "[]", "{}", "[[[[[[[[", R"({"uidMappings":[],"gidMappings":[]})",
       R"({"uidMappings":[{"hostId":65536,"containerId":0,"length":65536}]})",
       R"({"uidMappings":[{"hostId":65536,"containerId":0,"length":65536}],"gidMappings":[{"hostId":131072,"containerId":0,"length":65536}]})",
       R"({"uidMappings":[{"hostId":65536,"containerId":1,"length":65536}],"gidMappings":[{"hostId":65536,"containerId":1,"length":65536}]})",
       R"({"uidMappings":[{"hostId":0,"containerId":0,"length":65536}],"gidMappings":[{"hostId":0,"containerId":0,"length":65536}]})",
       R"({"uidMappings":[{"hostId":65537,"containerId":0,"length":65536}],"gidMappings":[{"hostId":65537,"containerId":0,"length":65536}]})",
       R"({"uidMappings":[{"hostId":65536,"containerId":0,"length":7}],"gidMappings":[{"hostId":65536,"containerId":0,"length":7}]})"}) {
    EXPECT_TRUE(absl::IsDataLoss(ParseUserNamespaceFile(text).status())) << text;
  }
}

TEST(UserNamespacesTest, TheHandlerIsAsked) {
  criv1::StatusResponse status;
  EXPECT_THAT(std::string(CheckRuntimeUserNamespaces(status, "").message()),
              HasSubstr("can't set `spec.hostUsers: false`, runtime does not support user namespaces"));
  status.add_runtime_handlers()->mutable_features()->set_user_namespaces(true);
  status.add_runtime_handlers()->set_name("kata");
  EXPECT_TRUE(CheckRuntimeUserNamespaces(status, "").ok());
  EXPECT_EQ(
      std::string(CheckRuntimeUserNamespaces(status, "kata").message()),
      "can't set `spec.hostUsers: false`, RuntimeClass handler \"kata\" does not support user namespaces");
  EXPECT_THAT(std::string(CheckRuntimeUserNamespaces(status, "gvisor").message()),
              HasSubstr("the handler \"gvisor\" is not known"));
}

// A profile for the pod's programs need not let a pause process run, nor be there when the sandbox is made.
TEST(SandboxSecurityTest, SeccompIsTheRuntimesDefault) {
  corev1::Pod pod;
  auto* profile = pod.mutable_spec()->mutable_security_context()->mutable_seccomp_profile();
  profile->set_type("Localhost");
  profile->set_localhost_profile("mine.json");
  auto config = GeneratePodSandboxConfig(pod, SandboxInputs());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(config->linux().security_context().has_seccomp());
  EXPECT_EQ(config->linux().security_context().seccomp().profile_type(),
            criv1::SecurityProfile::RuntimeDefault);
}

// CRI refuses a group without a user; a pod may have one, for containers whose users come from elsewhere.
TEST(SandboxSecurityTest, AGroupGoesWithAUserOnly) {
  corev1::Pod pod;
  auto* security = pod.mutable_spec()->mutable_security_context();
  security->set_run_as_group(3000);
  auto config = GeneratePodSandboxConfig(pod, SandboxInputs());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_FALSE(config->linux().security_context().has_run_as_group());
  security->set_run_as_user(1000);
  config = GeneratePodSandboxConfig(pod, SandboxInputs());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->linux().security_context().run_as_group().value(), 3000);
}

TEST(UserNamespacesTest, SandboxContainerAndMountsHaveThem) {
  corev1::Pod pod;
  pod.mutable_spec()->set_host_users(false);
  EXPECT_TRUE(UserNamespaces::Wanted(pod));
  corev1::Container container;
  container.set_name("c");
  corev1::VolumeMount* mount = container.add_volume_mounts();
  mount->set_name("v");
  mount->set_mount_path("/v");
  mount = container.add_volume_mounts();
  mount->set_name("image");
  mount->set_mount_path("/image");
  criv1::UserNamespace users;
  users.set_mode(criv1::POD);
  users.add_uids()->set_host_id(65536);
  users.add_gids()->set_host_id(65536);

  SandboxInputs sandbox;
  sandbox.user_namespace = users;
  auto sandbox_config = GeneratePodSandboxConfig(pod, sandbox);
  ASSERT_TRUE(sandbox_config.ok()) << sandbox_config.status();
  EXPECT_EQ(sandbox_config->linux().security_context().namespace_options().userns_options().uids(0).host_id(),
            65536u);

  ContainerInputs in;
  in.user_namespace = users;
  in.hosts_file = "/hosts";
  in.termination_log = "/log";
  in.volumes.by_name["v"].host_path = "/host/v";
  in.volumes.by_name["image"].image_ref = "image:1";
  auto config = GenerateContainerConfig(pod, container, in);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->linux().security_context().namespace_options().userns_options().mode(), criv1::POD);
  ASSERT_EQ(config->mounts_size(), 4);
  for (const criv1::Mount& m : config->mounts()) {
    EXPECT_EQ(m.uidmappings_size(), 1) << m.container_path();
    EXPECT_EQ(m.gidmappings_size(), 1) << m.container_path();
  }
  in.user_namespace.reset();
  config = GenerateContainerConfig(pod, container, in);
  EXPECT_FALSE(config->linux().security_context().namespace_options().has_userns_options());
  EXPECT_EQ(config->mounts(0).uidmappings_size(), 0);
}

class UserNamespacesDiskTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/keelson-userns-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    dir_ = name;
    ASSERT_TRUE(MakeDirs(dir_ + "/etc").ok());
  }
  void TearDown() override { EXPECT_TRUE(RemoveTree(dir_).ok()); }
  void Limit(int pods) {
    ASSERT_TRUE(WriteFileAtomic(dir_ + "/etc/passwd", kPasswd, 0644, false).ok());
    const std::string line = StrCat("kubelet:65536:", 65536 * pods, "\n");
    ASSERT_TRUE(WriteFileAtomic(dir_ + "/etc/subuid", line, 0644, false).ok());
    ASSERT_TRUE(WriteFileAtomic(dir_ + "/etc/subgid", line, 0644, false).ok());
  }
  UserNamespaces Make() { return UserNamespaces(dir_ + "/pods", dir_, 1); }
  uint32_t FirstId(UserNamespaces& users, const std::string& uid) {
    absl::StatusOr<criv1::UserNamespace> got = users.Get(uid);
    EXPECT_TRUE(got.ok()) << got.status();
    if (!got.ok()) return 0;
    EXPECT_EQ(got->mode(), criv1::POD);
    EXPECT_EQ(got->uids(0).container_id(), 0u);
    EXPECT_EQ(got->uids(0).length(), 65536u);
    EXPECT_EQ(got->gids(0).host_id(), got->uids(0).host_id());
    return got->uids(0).host_id();
  }
  std::string dir_;
};

TEST_F(UserNamespacesDiskTest, APodKeepsItsRangeOverARestart) {
  UserNamespaces users = Make();
  const uint32_t a = FirstId(users, "a"), b = FirstId(users, "b");
  EXPECT_NE(a, b);
  EXPECT_EQ(FirstId(users, "a"), a);
  UserNamespaces again = Make();
  const uint32_t c = FirstId(again, "c");
  EXPECT_NE(c, a);
  EXPECT_NE(c, b);
  EXPECT_EQ(FirstId(again, "b"), b);
  EXPECT_EQ(FirstId(again, "a"), a);
}

TEST_F(UserNamespacesDiskTest, NoRangeIsGivenWhileTheKnownOnesCannotBeRead) {
  UserNamespaces before = Make();
  const uint32_t a = FirstId(before, "a");
  UserNamespaces users = Make();
  for (int more = 0; more < 2; ++more) {
    FewDescriptors limit(more);  // for nothing; for the folder of the pods, but for no file in it
    EXPECT_FALSE(users.Get("b").ok());
  }
  EXPECT_NE(FirstId(users, "b"), a);
}

TEST_F(UserNamespacesDiskTest, RangesEndAndComeBack) {
  Limit(2);
  UserNamespaces users = Make();
  const uint32_t a = FirstId(users, "a");
  FirstId(users, "b");
  EXPECT_TRUE(absl::IsResourceExhausted(users.Get("c").status()));
  users.Release("a");
  users.Release("unknown");
  EXPECT_FALSE(std::filesystem::exists(dir_ + "/pods/a/userns"));
  EXPECT_EQ(FirstId(users, "c"), a);
}

TEST_F(UserNamespacesDiskTest, AFileThatIsBrokenIsNotWrittenOver) {
  ASSERT_TRUE(MakeDirs(dir_ + "/pods/a").ok());
  ASSERT_TRUE(WriteFileAtomic(dir_ + "/pods/a/userns", "{", 0600, false).ok());
  ASSERT_TRUE(MakeDirs(dir_ + "/pods/b").ok());
  ASSERT_TRUE(WriteFileAtomic(dir_ + "/pods/b/userns", RenderUserNamespaceFile(131072), 0600, false).ok());
  ASSERT_TRUE(MakeDirs(dir_ + "/pods/c").ok());
  ASSERT_TRUE(WriteFileAtomic(dir_ + "/pods/c/userns", RenderUserNamespaceFile(131072), 0600, false).ok());
  UserNamespaces users = Make();
  EXPECT_FALSE(users.Get("a").ok());
  EXPECT_EQ(*ReadFile(dir_ + "/pods/a/userns"), "{");
  // Whoever came second has no claim.
  EXPECT_NE(users.Get("b").ok(), users.Get("c").ok());
  EXPECT_NE(FirstId(users, "d"), 131072u);
}

}  // namespace
}  // namespace keelson::kubelet
