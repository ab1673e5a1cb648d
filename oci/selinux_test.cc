#include "oci/selinux.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <filesystem>
#include <set>

#include "base/fake_env.h"
#include "base/fd.h"
#include "base/status.h"

namespace keelson::oci {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;

constexpr char kLabel[] = "system_u:object_r:container_file_t:s0:c1,c2";

class SelinuxLabelsTest : public testing::Test {
 protected:
  SelinuxLabelsTest() { host_.selinux = true; }
  SelinuxLabels Labels() {
    absl::StatusOr<SelinuxLabels> labels = SelinuxLabelsOf(container_, sandbox_, host_, "s0:c1,c2");
    EXPECT_TRUE(labels.ok()) << labels.status();
    return labels.value_or(SelinuxLabels());
  }
  criv1::LinuxSandboxSecurityContext& pod() { return *sandbox_.mutable_linux()->mutable_security_context(); }

  HostFacts host_;
  criv1::PodSandboxConfig sandbox_;
  criv1::LinuxContainerSecurityContext container_;
};

TEST_F(SelinuxLabelsTest, UnaskedTheLevelOfThePod) {
  EXPECT_EQ(Labels().process, "system_u:system_r:container_t:s0:c1,c2");
  EXPECT_EQ(Labels().mount, kLabel);
}

TEST_F(SelinuxLabelsTest, APodOfBeforeHasNone) {
  container_.mutable_selinux_options()->set_type("t");
  absl::StatusOr<SelinuxLabels> labels = SelinuxLabelsOf(container_, sandbox_, host_, "");
  ASSERT_TRUE(labels.ok());
  EXPECT_EQ(labels->process + labels->mount, "") << "its files have none either";
}

TEST_F(SelinuxLabelsTest, NoneWithoutSelinux) {
  host_.selinux = false;
  container_.mutable_selinux_options()->set_type("t");
  EXPECT_EQ(Labels().process, "");
  EXPECT_EQ(Labels().mount, "");
}

TEST_F(SelinuxLabelsTest, TheContainersOptionsBeforeThePods) {
  pod().mutable_selinux_options()->set_type("pod_t");
  pod().mutable_selinux_options()->set_level("s0:c7,c8");
  EXPECT_EQ(Labels().process, "system_u:system_r:pod_t:s0:c7,c8");
  EXPECT_EQ(Labels().mount, "system_u:object_r:container_file_t:s0:c7,c8");
  container_.mutable_selinux_options()->set_role("own_r");
  EXPECT_EQ(Labels().process, "system_u:own_r:container_t:s0:c7,c8");
}

TEST_F(SelinuxLabelsTest, WithTheHostsProcessesOnlyWhatIsAskedFor) {
  for (bool pid : {true, false}) {
    pod().clear_selinux_options();
    auto* namespaces = pod().mutable_namespace_options();
    namespaces->set_pid(pid ? criv1::NODE : criv1::POD);
    namespaces->set_ipc(pid ? criv1::POD : criv1::NODE);
    EXPECT_EQ(Labels().process, "");
    EXPECT_EQ(Labels().mount, "");
    pod().mutable_selinux_options()->set_type("asked_t");
    EXPECT_EQ(Labels().process, "system_u:system_r:asked_t:s0:c1,c2");
  }
}

TEST_F(SelinuxLabelsTest, APrivilegedProcessHasNone) {
  container_.set_privileged(true);
  EXPECT_EQ(Labels().process, "");
  EXPECT_EQ(Labels().mount, kLabel);
}

TEST_F(SelinuxLabelsTest, PartsThatAreNoneAreNamed) {
  struct Case {
    const char *user, *role, *type, *level, *field;
  };
  for (const Case& c : {Case{"a:b", "", "", "", ".user"}, Case{"", "a b", "", "", ".role"},
                        Case{"", "", "t\n", "", ".type"}, Case{"", "", "", "s0\"", ".level"}}) {
    auto* options = container_.mutable_selinux_options();
    options->set_user(c.user);
    options->set_role(c.role);
    options->set_type(c.type);
    options->set_level(c.level);
    absl::Status status = SelinuxLabelsOf(container_, sandbox_, host_, "").status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(status.message(), HasSubstr(std::string("selinux_options") + c.field));
  }
}

TEST(SelinuxLevelTest, TwoCategoriesThatNobodyHas) {
  FakeEnv env(7);
  std::set<std::string> taken;
  for (int i = 0; i < 200; ++i) {
    const std::string level =
        NewSelinuxLevel(env.random(), [&](const std::string& l) { return taken.count(l) != 0; });
    EXPECT_THAT(level, MatchesRegex("s0:c[0-9]+,c[0-9]+"));
    EXPECT_TRUE(taken.insert(level).second) << level;
  }
  // The last one left is found.
  int asked = 0;
  NewSelinuxLevel(env.random(), [&](const std::string&) { return ++asked < 50; });
  EXPECT_EQ(asked, 50);
}

class RelabelTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "selinux-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    if (::setxattr(dir_.c_str(), "security.selinux", kLabel, sizeof(kLabel) - 1, 0) != 0) {
      GTEST_SKIP() << "labels cannot be set here: " << strerror(errno);
    }
    ASSERT_TRUE(MakeDirs(dir_ + "/volume/deep/er").ok());
    for (const char* file : {"/outside", "/volume/file", "/volume/deep/er/file"}) {
      ASSERT_TRUE(WriteFileAtomic(dir_ + file, "x", 0600, /*durable=*/false).ok());
    }
    ASSERT_EQ(::symlink("../outside", (dir_ + "/volume/link").c_str()), 0);
    ASSERT_EQ(::mkfifo((dir_ + "/volume/fifo").c_str(), 0600), 0);
  }
  void TearDown() override { EXPECT_TRUE(RemoveTree(dir_).ok()); }
  std::string LabelOf(const std::string& path) {
    char label[256];
    ssize_t size = ::lgetxattr((dir_ + path).c_str(), "security.selinux", label, sizeof(label));
    return size < 0 ? "" : std::string(label, ::strnlen(label, static_cast<size_t>(size)));
  }
  std::string dir_;
};

TEST_F(RelabelTest, AllBelowAndNothingElse) {
  const std::string other = "system_u:object_r:container_file_t:s0:c3,c4";
  for (const std::string& label : {std::string(kLabel), other, other}) {
    absl::Status status = Relabel(dir_ + "/volume", label);
    ASSERT_TRUE(status.ok()) << status;
    for (const char* path : {"/volume", "/volume/file", "/volume/deep", "/volume/deep/er",
                             "/volume/deep/er/file", "/volume/link", "/volume/fifo"}) {
      EXPECT_EQ(LabelOf(path), label) << path;
    }
  }
  EXPECT_NE(LabelOf("/outside"), other) << "a link is not followed";
}

TEST_F(RelabelTest, OneFile) {
  ASSERT_TRUE(Relabel(dir_ + "/outside", kLabel).ok());
  EXPECT_EQ(LabelOf("/outside"), kLabel);
}

TEST_F(RelabelTest, Refused) {
  for (const char* path : {"/", "/etc", "/usr", "/var", "/tmp", "/bin"}) {
    const std::string real = std::filesystem::canonical(path).string();  // as it is given
    EXPECT_TRUE(absl::IsPermissionDenied(Relabel(real, kLabel))) << real;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(Relabel(dir_ + "/volume/link", kLabel)));
  EXPECT_TRUE(absl::IsNotFound(Relabel(dir_ + "/missing", kLabel)));
  EXPECT_TRUE(Relabel("/proc/self/fdinfo", kLabel).ok()) << "no labels there";
}

TEST_F(RelabelTest, TooDeepIsRefused) {
  Fd at = *OpenFile(dir_ + "/volume/deep/er", O_PATH | O_DIRECTORY);
  for (int i = 0; i < kMaxRelabelDepth; ++i) {
    ASSERT_EQ(::mkdirat(at.get(), "d", 0700), 0);
    at = *OpenBeneath(at.get(), "d", O_PATH | O_DIRECTORY);
  }
  EXPECT_TRUE(absl::IsResourceExhausted(Relabel(dir_ + "/volume", kLabel)));
  EXPECT_TRUE(Relabel(dir_ + "/volume/deep/er/d/d/d", kLabel).ok());
}

}  // namespace
}  // namespace keelson::oci
