// AppArmor and SELinux of containers: skipped where the kernel has the one or the other not on, as no kernel
// has both. Under cri/testing/with_keelson_cri.
#include <absl/strings/match.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/xattr.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/status.h"
#include "cri/testing/container_test.h"
#include "oci/apparmor.h"

namespace keelson::cri {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;

// ---- AppArmor ----

constexpr char kSelinuxFolder[] = "/sys/fs/selinux";
constexpr char kApparmorFolder[] = "/sys/kernel/security/apparmor";
constexpr char kOwnProfile[] = "/proc/self/attr/apparmor/current";

// tests/guest/run_in_guest: Debian's kernel, with AppArmor, or with --selinux.
bool InGuest() { return std::getenv("KEELSON_IN_GUEST") != nullptr; }

class ServerApparmorLiveTest : public ContainerTest {
 protected:
  void SetUp() override {
    ContainerTest::SetUp();
    if (live_ == nullptr || HasFailure()) return;
    if (fs::exists(StrCat(kApparmorFolder, "/profiles"))) return;
    ASSERT_FALSE(InGuest() && !fs::exists(kSelinuxFolder)) << "this kernel has one of the two";
    GTEST_SKIP() << "the kernel has no AppArmor";
  }
  void TearDown() override {
    for (const std::string& name : loaded_) EXPECT_TRUE(Unload(name).ok()) << name;
    ContainerTest::TearDown();
  }
  absl::Status Unload(const std::string& name) { return WriteTo(StrCat(kApparmorFolder, "/.remove"), name); }
  // A profile that allows all but writing to `denied`.
  void Load(const std::string& name, const std::string& denied) {
    SubprocessOptions options;
    options.argv = {"apparmor_parser", "--replace", "--quiet", "--skip-cache"};
    options.stdin_data =
        StrCat("profile ", name, " flags=(attach_disconnected) {\n  file, network, capability,",
               " signal,\n  deny ", denied, " w,\n}\n");
    absl::StatusOr<SubprocessResult> result = Call(env_.subprocess().Run(options));
    ASSERT_TRUE(result.ok()) << result.status();
    ASSERT_TRUE(result->ok()) << result->stderr_data;
    loaded_.push_back(name);
  }
  v1::ContainerConfig With(const std::string& name, v1::SecurityProfile::ProfileType type,
                           const std::string& localhost = "") {
    v1::ContainerConfig config = Script(name, kForever);
    auto* profile = Security(&config)->mutable_apparmor();
    profile->set_profile_type(type);
    profile->set_localhost_ref(localhost);
    return config;
  }
  const std::string kDefault = StrCat(oci::kDefaultApparmorProfile, " (enforce)");

 private:
  static absl::Status WriteTo(const std::string& path, const std::string& text) {
    ASSIGN_OR_RETURN(Fd file, OpenFile(path, O_WRONLY));
    return WriteAll(file.get(), text);
  }
  std::vector<std::string> loaded_;
};

TEST_F(ServerApparmorLiveTest, TheDefaultConfinesWhoNamesNone) {
  const std::string script = StrCat("cat ", kOwnProfile);
  EXPECT_EQ(Try(Script("unset", kForever), script), kDefault);
  EXPECT_EQ(Try(With("default", v1::SecurityProfile::RuntimeDefault), script), kDefault);
  EXPECT_EQ(Try(With("unconfined", v1::SecurityProfile::Unconfined), script), "unconfined");
  v1::ContainerConfig privileged = Script("privileged", kForever);
  Security(&privileged)->set_privileged(true);
  EXPECT_EQ(Try(privileged, script), "unconfined");
  // Not only what is executed in it: its first process.
  EXPECT_EQ(Trimmed(Output(pod_, Script("first", script))), kDefault);
}

// What a capability would give, and the profile takes away.
TEST_F(ServerApparmorLiveTest, TheDefaultDeniesMountsAndSettings) {
  auto start = [&](const std::string& name, v1::SecurityProfile::ProfileType type) {
    v1::ContainerConfig config = With(name, type);
    Security(&config)->mutable_capabilities()->add_add_capabilities("ALL");
    return Start(pod_, config);
  };
  const std::string confined = start("confined", v1::SecurityProfile::RuntimeDefault);
  const std::string open = start("open", v1::SecurityProfile::Unconfined);
  const std::string mount = "mount -t tmpfs t /mnt 2>&1 && echo mounted || true";
  EXPECT_EQ(Trimmed(Exec(open, mount)), "mounted");
  EXPECT_THAT(Exec(confined, mount), HasSubstr("ermission denied"));
  const std::vector<std::string> denied = {"/proc/sys/kernel/printk_ratelimit", "/proc/sys/vm/swappiness",
                                           "/proc/sys/fs/file-max", "/proc/sys/net/ipv4/ip_forward",
                                           "/proc/sys/kernel/sched_rt_runtime_us"};
  const std::vector<std::string> allowed = {"/proc/sys/kernel/shmmni", "/proc/sys/kernel/msgmax",
                                            "/proc/self/oom_score_adj"};
  // Writes the values that are there already; the files it could write.
  auto rewrite = [&](const std::string& id, const std::vector<std::string>& paths) {
    std::string out = Exec(id, StrCat("for f in ", absl::StrJoin(paths, " "),
                                      "; do v=$(cat $f) && echo $v 2>/dev/null >$f && echo $f; done; true"));
    return std::vector<std::string>(absl::StrSplit(out, '\n', absl::SkipEmpty()));
  };
  EXPECT_EQ(rewrite(open, denied), denied);
  EXPECT_THAT(rewrite(confined, denied), testing::IsEmpty());
  EXPECT_EQ(rewrite(confined, allowed), allowed);
  EXPECT_THAT(Exec(confined, "cat /proc/kcore 2>&1 >/dev/null || true"), HasSubstr("ermission denied"));
  EXPECT_EQ(Trimmed(Exec(confined, "sleep 100 & kill $! && echo killed")), "killed");
}

TEST_F(ServerApparmorLiveTest, AProfileOfTheHost) {
  Load("keelson-test-profile", "/tmp/denied");
  const v1::ContainerConfig config =
      With("localhost", v1::SecurityProfile::Localhost, "keelson-test-profile");
  EXPECT_EQ(Try(config, StrCat("cat ", kOwnProfile)), "keelson-test-profile (enforce)");
  EXPECT_THAT(Try(config, "echo >/tmp/denied"), HasSubstr("ermission denied"));
  EXPECT_EQ(Try(config, "echo >/tmp/other && echo written"), "written");
  v1::ContainerConfig missing = With("missing", v1::SecurityProfile::Localhost, "keelson-test-missing");
  absl::Status status = TryCreate(pod_, missing).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("\"keelson-test-missing\" is not loaded"));
}

// aa-remove-unknown(8) does this.
TEST_F(ServerApparmorLiveTest, TheDefaultIsLoadedAgainWhereItWasRemoved) {
  ASSERT_TRUE(Unload(std::string(oci::kDefaultApparmorProfile)).ok());
  EXPECT_EQ(Try(Script("after", kForever), StrCat("cat ", kOwnProfile)), kDefault);
}

// ---- SELinux ----

constexpr char kOwnLabel[] = "tr -d '\\0' </proc/self/attr/current";

class ServerSelinuxLiveTest : public ContainerTest {
 protected:
  void SetUp() override {
    ContainerTest::SetUp();
    if (live_ == nullptr || HasFailure()) return;
    if (fs::exists(StrCat(kSelinuxFolder, "/enforce"))) return;
    ASSERT_FALSE(InGuest() && !fs::exists(kApparmorFolder)) << "this kernel has one of the two";
    GTEST_SKIP() << "the kernel has no SELinux";
  }
  // Of a file of the host.
  static std::string LabelOf(const std::string& path) {
    char label[256];
    const ssize_t size = ::lgetxattr(path.c_str(), "security.selinux", label, sizeof(label));
    return size < 0 ? "" : std::string(label, ::strnlen(label, static_cast<size_t>(size)));
  }
  static std::string LevelOf(const std::string& label) {
    std::vector<std::string> parts = absl::StrSplit(label, absl::MaxSplits(':', 3));
    return parts.size() == 4 ? parts[3] : "";
  }
  std::string Label(const std::string& id) { return Exec(id, kOwnLabel); }
};

TEST_F(ServerSelinuxLiveTest, APodsContainersShareALevelThatIsTheirsAlone) {
  const std::string one = Start(pod_, Script("one", kForever)), two = Start(pod_, Script("two", kForever));
  EXPECT_THAT(Label(one), MatchesRegex("system_u:system_r:container_t:s0:c[0-9]+,c[0-9]+"));
  EXPECT_EQ(Label(two), Label(one));
  const std::string other = Start(RunPod(PodConfig("other")), Script("c", kForever));
  EXPECT_THAT(Label(other), MatchesRegex("system_u:system_r:container_t:s0:c[0-9]+,c[0-9]+"));
  EXPECT_NE(Label(other), Label(one));
  v1::ContainerConfig privileged = Script("privileged", kForever);
  Security(&privileged)->set_privileged(true);
  EXPECT_THAT(Try(privileged, kOwnLabel), Not(HasSubstr("container_t")));
  v1::PodSandboxConfig config = PodConfig("host");
  Options(&config)->set_ipc(v1::NODE);
  const std::string host = Start(RunPod(config), Script("c", kForever));
  EXPECT_THAT(Label(host), Not(HasSubstr("container_t"))) << "it has to do with processes of the host";
}

TEST_F(ServerSelinuxLiveTest, FilesOfAPodAreItsOwn) {
  const std::string id = Start(pod_, Script("c", kForever));
  EXPECT_EQ(Trimmed(Exec(id,
                         "cat /etc/resolv.conf /etc/hosts /etc/hostname >/dev/null && echo x >/file && "
                         "cat /file && echo y >/dev/shm/file && cat /dev/shm/file")),
            "x\ny");
  const std::string root = StrCat("/proc/", Pid(id), "/root");
  const std::string expected = StrCat("system_u:object_r:container_file_t:", LevelOf(Label(id)));
  for (const char* file : {"/file", "/bin/busybox", "/dev/shm/file", "/etc/hosts"}) {
    EXPECT_EQ(LabelOf(root + file), expected) << file;
  }
}

TEST_F(ServerSelinuxLiveTest, AVolumeIsOpenedByRelabelling) {
  File("volume/deep/file", "of the host\n");
  const std::string outside = File("outside", "not for the pod\n");
  fs::create_symlink("../outside", dir() + "/volume/link");
  v1::ContainerConfig config = Script("plain", kForever);
  AddMount(&config, dir() + "/volume", "/mnt");
  EXPECT_THAT(Try(config, "cat /mnt/deep/file"), HasSubstr("ermission denied"));
  config.mutable_metadata()->set_name("relabelled");
  config.mutable_mounts(0)->set_selinux_relabel(true);
  const std::string id = Start(pod_, config);
  EXPECT_EQ(Exec(id, "cat /mnt/deep/file && echo new >/mnt/deep/new"), "of the host\n");
  const std::string expected = StrCat("system_u:object_r:container_file_t:", LevelOf(Label(id)));
  for (const char* file : {"", "/deep", "/deep/file", "/link"}) {
    EXPECT_EQ(LabelOf(StrCat(dir(), "/volume", file)), expected) << file;
  }
  EXPECT_NE(LabelOf(outside), expected);
  // Another pod's categories do not open it.
  v1::ContainerConfig plain = Script("plain", kForever);
  AddMount(&plain, dir() + "/volume", "/mnt");
  const std::string other = Start(RunPod(PodConfig("other")), plain);
  EXPECT_THAT(Exec(other, "cat /mnt/deep/file 2>&1 || true"), HasSubstr("ermission denied"));
  // The host's folders are not for sale.
  v1::ContainerConfig shared = Script("shared", kForever);
  AddMount(&shared, "/etc", "/host-etc")->set_selinux_relabel(true);
  absl::Status status = TryCreate(pod_, shared).status();
  EXPECT_TRUE(absl::IsPermissionDenied(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("mounts[/host-etc].selinux_relabel"));
}

TEST_F(ServerSelinuxLiveTest, Options) {
  v1::PodSandboxConfig config = PodConfig("options");
  config.mutable_linux()->mutable_security_context()->mutable_selinux_options()->set_level("s0:c5,c9");
  const std::string pod = RunPod(config);
  EXPECT_EQ(Label(Start(pod, Script("as-the-pod", kForever))), "system_u:system_r:container_t:s0:c5,c9");
  v1::ContainerConfig own = Script("own", kForever);
  Security(&own)->mutable_selinux_options()->set_type("container_other_t");
  Security(&own)->mutable_selinux_options()->set_level("s0:c7,c9");
  const std::string id = Start(pod, own);
  EXPECT_EQ(Label(id), "system_u:system_r:container_other_t:s0:c7,c9");
  EXPECT_EQ(Exec(id, "cat /etc/resolv.conf >/dev/null && echo x >/dev/shm/x && cat /dev/shm/x"), "x\n");
  v1::ContainerConfig user = Script("user", kForever);
  Security(&user)->mutable_selinux_options()->set_user("other_u");
  Security(&user)->mutable_selinux_options()->set_role("other_r");
  EXPECT_EQ(Label(Start(pod, user)), "other_u:other_r:container_t:s0:c5,c9");
  for (const char* field : {"user", "role"}) {
    v1::ContainerConfig nobodys = Script(StrCat("nobodys-", field), kForever);
    auto* options = Security(&nobodys)->mutable_selinux_options();
    *field == 'u' ? options->set_user("nobodys_u") : options->set_role("nobodys_r");
    absl::Status refused = TryCreate(pod, nobodys).status();
    EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
    EXPECT_THAT(refused.message(), HasSubstr("nobodys_"));
  }
  v1::ContainerConfig unknown = Script("unknown", kForever);
  Security(&unknown)->mutable_selinux_options()->set_type("nobodys_t");
  absl::Status status = TryCreate(pod, unknown).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("system_u:system_r:nobodys_t:s0:c5,c9"));
}

TEST_F(ServerSelinuxLiveTest, ThePauseProcessHasThePodsLabel) {
  v1::PodSandboxConfig config = PodConfig("shared");
  Options(&config)->set_pid(v1::POD);
  v1::ContainerConfig container = Script("c", kForever);
  Options(&container)->set_pid(v1::POD);
  const std::string id = Start(RunPod(config), container);
  EXPECT_EQ(Exec(id, "cat /proc/1/cmdline | tr -d '\\0'"), "/pause");
  EXPECT_EQ(Exec(id, "tr -d '\\0' </proc/1/attr/current"), Label(id));
}

}  // namespace
}  // namespace keelson::cri
