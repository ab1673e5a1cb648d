// Generated specifications under the real runc and crun: a busybox root in /tmp, a cgroup of its own. What
// the kernel says inside the container is compared with what was asked for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"
#include "oci/cdi.h"
#include "oci/spec.h"
#include "oci/testing/spec_validator.h"

namespace keelson::oci {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kBusybox = "/usr/bin/busybox";

struct CommandResult {
  int code = -1;
  std::string output;  // of both descriptors
};

CommandResult RunShell(const std::string& command) {
  CommandResult result;
  FILE* pipe = popen(StrCat("exec </dev/null 2>&1; ", command).c_str(), "re");
  if (pipe == nullptr) return result;
  std::array<char, 4096> buffer;
  for (size_t n; (n = fread(buffer.data(), 1, buffer.size(), pipe)) > 0;)
    result.output.append(buffer.data(), n);
  const int status = pclose(pipe);
  result.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

std::vector<HostDevice> DevicesOfHost() {
  std::vector<HostDevice> devices;
  for (const auto& entry : std::filesystem::recursive_directory_iterator("/dev")) {
    struct stat st = {};
    if (lstat(entry.path().c_str(), &st) != 0 || (!S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode))) continue;
    HostDevice device;
    device.path = entry.path();
    device.type = S_ISCHR(st.st_mode) ? 'c' : 'b';
    device.major = major(st.st_rdev);
    device.minor = minor(st.st_rdev);
    device.mode = st.st_mode;
    devices.push_back(device);
  }
  return devices;
}

class SpecLiveTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    if (access(kBusybox, X_OK) != 0) GTEST_SKIP() << kBusybox << " is not installed";
    if (RunShell(StrCat("command -v ", GetParam())).code != 0)
      GTEST_SKIP() << GetParam() << " is not installed";
    char name[] = "/tmp/keelson-spec-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    top_ = name;
    ASSERT_EQ(chmod(name, 0755), 0);
    cgroup_ = StrCat("keelson-test-spec-", getpid());
    MakeRoot();
    absl::StatusOr<HostFacts> host = DiscoverHostFacts("/proc");
    ASSERT_TRUE(host.ok()) << host.status();
    input_.host = *host;
    input_.container = &container_;
    input_.sandbox = &sandbox_;
    input_.id = "live";
    input_.rootfs_path = top_ + "/root";
    input_.cgroups_path = StrCat("/", cgroup_, "/live");
    input_.hostname = "live";
    input_.namespaces.ipc = "/proc/self/ns/ipc";
    input_.runtime_handler = GetParam();
    security().mutable_namespace_options()->set_pid(criv1::CONTAINER);
  }

  void TearDown() override {
    if (top_.empty()) return;
    RunShell(StrCat(Runtime(), " delete --force ", Id()));
    std::error_code error;
    for (const auto& hierarchy : std::filesystem::directory_iterator("/sys/fs/cgroup", error)) {
      rmdir((hierarchy.path().string() + "/" + cgroup_).c_str());
    }
    rmdir(("/sys/fs/cgroup/" + cgroup_).c_str());
    EXPECT_TRUE(RemoveTree(top_).ok());
  }

  void MakeRoot() {
    const std::string root = top_ + "/root";
    for (const char* dir : {"/bin", "/etc", "/proc", "/dev", "/sys", "/tmp"}) {
      ASSERT_TRUE(MakeDirs(root + dir, 0755).ok());
    }
    std::filesystem::copy(kBusybox, root + "/bin/busybox");
    for (const char* applet : {"sh", "id", "cat", "grep", "ls", "mkdir", "mknod", "mount", "unshare", "sleep",
                               "wc", "test", "chroot"}) {
      std::filesystem::create_symlink("busybox", root + "/bin/" + applet);
    }
  }

  criv1::LinuxContainerSecurityContext& security() {
    return *container_.mutable_linux()->mutable_security_context();
  }

  void AskForUserNamespace() {
    auto* options = security().mutable_namespace_options()->mutable_userns_options();
    options->set_mode(criv1::POD);
    for (auto* mapping : {options->add_uids(), options->add_gids()}) {
      mapping->set_host_id(200000);
      mapping->set_length(65536);
    }
    input_.namespaces.ipc.clear();
    container_.mutable_linux()->mutable_resources()->set_oom_score_adj(1000);
  }

  // In a mount namespace without the empty unified hierarchy, which crun 1.8 refuses.
  std::string Runtime() {
    return StrCat(
        "unshare -m sh -c 'if test -d /sys/fs/cgroup/unified; then mount --make-rprivate /sys/fs/cgroup; "
        "umount /sys/fs/cgroup/unified; fi; exec \"$@\"' sh ",
        GetParam(), " --root ", top_, "/state");
  }
  std::string Id() const { return StrCat("keelson-test-", getpid()); }

  std::string WriteBundle(const std::string& script) {
    container_.clear_command();
    for (const std::string& word : {std::string("sh"), std::string("-c"), script})
      container_.add_command(word);
    absl::StatusOr<SpecOutput> spec = GenerateSpec(input_);
    EXPECT_TRUE(spec.ok()) << spec.status();
    if (!spec.ok()) return "";
    EXPECT_EQ(ValidateSpec(spec->config_json), std::vector<std::string>());
    EXPECT_TRUE(WriteFileAtomic(top_ + "/config.json", spec->config_json, 0644, false).ok());
    return spec->config_json;
  }

  CommandResult Run(const std::string& script) {
    WriteBundle(script);
    return RunShell(StrCat(Runtime(), " run -b ", top_, " ", Id()));
  }

  std::string top_, cgroup_;
  criv1::ContainerConfig container_;
  criv1::PodSandboxConfig sandbox_;
  SpecInput input_;
};

TEST_P(SpecLiveTest, Defaults) {
  input_.user = {1000, 1001, {50, 1001}, "/", "web"};
  const CommandResult result =
      Run("id; grep Cap /proc/self/status; cat /proc/self/oom_score_adj; ulimit -n; echo $HOSTNAME; exit 7");
  EXPECT_EQ(result.code, 7) << result.output;
  EXPECT_THAT(result.output, HasSubstr("uid=1000 gid=1001 groups=50,1001"));
  EXPECT_THAT(result.output, HasSubstr("CapInh:\t0000000000000000"));
  EXPECT_THAT(result.output, HasSubstr("CapEff:\t0000000000000000"));
  EXPECT_THAT(result.output, HasSubstr("CapBnd:\t00000000a80425fb"));
  EXPECT_THAT(result.output, HasSubstr("CapAmb:\t0000000000000000"));
  EXPECT_THAT(result.output, HasSubstr("\nlive\n"));
}

TEST_P(SpecLiveTest, AmbientCapabilities) {
  input_.user.uid = 1000;
  security().mutable_capabilities()->add_drop_capabilities("ALL");
  security().mutable_capabilities()->add_add_ambient_capabilities("NET_BIND_SERVICE");
  const CommandResult result = Run("grep Cap /proc/self/status");
  EXPECT_THAT(result.output, HasSubstr("CapEff:\t0000000000000400"));
  EXPECT_THAT(result.output, HasSubstr("CapAmb:\t0000000000000400"));
}

TEST_P(SpecLiveTest, RuntimeDefaultSeccomp) {
  security().mutable_seccomp()->set_profile_type(criv1::SecurityProfile::RuntimeDefault);
  security().set_no_new_privs(true);
  const CommandResult result =
      Run("grep -E 'Seccomp:|NoNewPrivs' /proc/self/status; unshare -m true; chroot / true && "
          "echo chroot works");
  EXPECT_THAT(result.output, HasSubstr("Seccomp:\t2"));
  EXPECT_THAT(result.output, HasSubstr("NoNewPrivs:\t1"));
  EXPECT_THAT(result.output, HasSubstr("Operation not permitted"));
  EXPECT_THAT(result.output, HasSubstr("chroot works"));
}

TEST_P(SpecLiveTest, LocalhostSeccomp) {
  security().mutable_seccomp()->set_profile_type(criv1::SecurityProfile::Localhost);
  security().mutable_seccomp()->set_localhost_ref("/profile.json");
  input_.seccomp_localhost_profile =
      R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
          {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 36}]})";
  EXPECT_THAT(Run("mkdir /tmp/x").output, HasSubstr("File name too long"));
}

TEST_P(SpecLiveTest, MaskedAndReadonlyPaths) {
  security().add_masked_paths("/proc/keys");
  security().add_masked_paths("/sys/firmware");
  security().add_readonly_paths("/proc/sys");
  security().set_readonly_rootfs(true);
  const CommandResult result =
      Run("exec 2>&1; wc -c </proc/keys; ls /sys/firmware | wc -l; echo 1 >/proc/sys/kernel/panic; mkdir /d");
  EXPECT_THAT(result.output, HasSubstr("0\n0\n"));
  EXPECT_THAT(result.output, HasSubstr("/proc/sys/kernel/panic: Read-only file system"));
  EXPECT_THAT(result.output, HasSubstr("'/d': Read-only file system"));
}

TEST_P(SpecLiveTest, Mounts) {
  ASSERT_TRUE(MakeDirs(top_ + "/volume/inner", 0777).ok());
  ASSERT_TRUE(WriteFileAtomic(top_ + "/hosts", "from the pod\n", 0644, false).ok());
  const auto add = [&](const std::string& to, const std::string& from, bool readonly) {
    auto* mount = container_.add_mounts();
    mount->set_container_path(to);
    mount->set_host_path(from);
    mount->set_readonly(readonly);
    return mount;
  };
  add("/data/ro", top_ + "/volume", true);
  add("/data", top_ + "/volume", false)->set_propagation(criv1::PROPAGATION_HOST_TO_CONTAINER);
  add("/etc/hosts", top_ + "/hosts", true);
  // One stream: two are read in any order.
  const CommandResult result =
      Run("exec 2>&1; echo x >/data/file; mkdir /data/ro/d; cat /etc/hosts /data/ro/file");
  EXPECT_THAT(result.output, HasSubstr("'/data/ro/d': Read-only file system"));
  EXPECT_THAT(result.output, HasSubstr("from the pod\nx\n"));
}

absl::Status AddCdiDevices(const std::vector<std::string>& dirs, const std::vector<std::string>& names,
                           SpecInput* input) {
  ASSIGN_OR_RETURN(std::vector<CdiFile> files, ReadCdiFiles(dirs));
  ASSIGN_OR_RETURN(CdiEdits edits, ResolveCdiDevices(files, dirs, names));
  ASSIGN_OR_RETURN(CdiHostNodes nodes, LookUpCdiHost(edits));
  return ApplyCdiEdits(edits, nodes, input);
}

TEST_P(SpecLiveTest, CdiDevice) {
  const std::string hook = top_ + "/hook";
  ASSERT_TRUE(WriteFileAtomic(hook,
                              StrCat("#!/bin/sh\ncat >", top_, "/state-$1\necho $WHO >", top_, "/who-$1\n"),
                              0755, false)
                  .ok());
  ASSERT_TRUE(MakeDirs(top_ + "/lib", 0755).ok());
  ASSERT_TRUE(WriteFileAtomic(top_ + "/lib/driver", "of the vendor\n", 0644, false).ok());
  ASSERT_TRUE(MakeDirs(top_ + "/cdi", 0755).ok());
  ASSERT_EQ(mknod((top_ + "/node").c_str(), S_IFCHR | 0600, makedev(10, 229)), 0);
  std::string yaml =
      StrCat("cdiVersion: 0.7.0\nkind: vendor.com/dev\ncontainerEdits:\n  mounts:\n  - {hostPath: ", top_,
             "/lib, containerPath: /lib/vendor, options: [ro, nosuid, nodev, rbind]}\n",
             "devices:\n- name: zero\n  containerEdits:\n    env: [DEVICE=zero]\n",
             "    additionalGids: [4242]\n    deviceNodes:\n    - {path: /dev/vendor0, hostPath: ", top_,
             "/node, permissions: r, fileMode: 0640}\n    hooks:\n");
  for (const char* name : {"createRuntime", "createContainer", "poststop"}) {
    StrAppend(&yaml, "    - {hookName: ", name, ", path: ", hook, ", args: [hook, ", name,
              "], env: [\"PATH=/usr/bin:/bin\", WHO=vendor], timeout: 20}\n");
  }
  ASSERT_TRUE(WriteFileAtomic(top_ + "/cdi/vendor.yaml", yaml, 0644, false).ok());
  const absl::Status added = AddCdiDevices({top_ + "/cdi"}, {"vendor.com/dev=zero"}, &input_);
  ASSERT_TRUE(added.ok()) << added;
  const CommandResult result = Run(
      "exec 2>&1; echo $DEVICE; cat /lib/vendor/driver; id; ls -l /dev/vendor0; echo x >/lib/vendor/driver; "
      "(: >/dev/vendor0); echo read; (: </dev/vendor0)");
  EXPECT_THAT(result.output, HasSubstr("zero\nof the vendor\n"));
  EXPECT_THAT(result.output, HasSubstr("4242"));
  EXPECT_THAT(result.output, testing::ContainsRegex("crw-r----- .* 10, 229"));
  EXPECT_THAT(result.output, HasSubstr("/lib/vendor/driver: Read-only file system"));
  // Whether the host has a driver behind it is another matter.
  EXPECT_THAT(result.output, HasSubstr("/dev/vendor0: Operation not permitted"));
  EXPECT_THAT(result.output.substr(result.output.find("\nread\n")), Not(HasSubstr("not permitted")));
  for (const char* name : {"createRuntime", "createContainer", "poststop"}) {
    EXPECT_EQ(*ReadFile(StrCat(top_, "/who-", name)), "vendor\n") << name;
    EXPECT_THAT(*ReadFile(StrCat(top_, "/state-", name)), HasSubstr(Id())) << name;
  }
}

TEST_P(SpecLiveTest, DevicesByRule) {
  // The container's root may make nodes; which may be opened, its cgroup decides.
  input_.devices.push_back({{"/dev/log-of-host", 'c', 1, 11, 0600, 0, 0, "rw"}});
  auto* device = container_.add_devices();
  device->set_host_path("/dev/kmsg");
  device->set_permissions("w");
  const CommandResult result = Run(
      "mknod /tmp/port c 1 4 && cat /tmp/port; : >/dev/log-of-host && echo written; cat </dev/log-of-host");
  EXPECT_THAT(result.output, HasSubstr("/tmp/port': Operation not permitted"));
  EXPECT_THAT(result.output, HasSubstr("written"));
  EXPECT_THAT(result.output, HasSubstr("/dev/log-of-host: Operation not permitted"));
}

TEST_P(SpecLiveTest, Privileged) {
  security().set_privileged(true);
  sandbox_.mutable_linux()->mutable_security_context()->set_privileged(true);
  input_.all_host_devices = DevicesOfHost();
  input_.all_host_devices.push_back({"/dev/log-of-host", 'c', 1, 11, 0600, 0, 0, "rwm"});
  const CommandResult result =
      Run("grep CapEff /proc/self/status; mount | grep ' /sys '; : >/dev/log-of-host && echo written");
  char bits[32];
  snprintf(bits, sizeof(bits), "%016llx",
           static_cast<unsigned long long>(input_.host.bounding_capabilities & ((uint64_t{1} << 41) - 1)));
  EXPECT_THAT(result.output, HasSubstr(bits));
  EXPECT_THAT(result.output, HasSubstr("sysfs (rw,"));
  EXPECT_THAT(result.output, HasSubstr("written"));
}

TEST_P(SpecLiveTest, Resources) {
  auto* resources = container_.mutable_linux()->mutable_resources();
  resources->set_memory_limit_in_bytes(64 << 20);
  resources->set_cpu_shares(512);
  resources->set_cpu_quota(50000);
  resources->set_cpu_period(100000);
  (*resources->mutable_unified())["pids.max"] = "33";
  if (input_.host.cgroup_v2) {
    const CommandResult result = Run("cd /sys/fs/cgroup; cat memory.max cpu.weight cpu.max pids.max");
    EXPECT_EQ(result.output, "67108864\n20\n50000 100000\n33\n");
    return;
  }
  const CommandResult result =
      Run("cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpu/cpu.shares cpu/cpu.cfs_quota_us "
          "pids/pids.max");
  EXPECT_EQ(result.output, "67108864\n512\n50000\n33\n");
}

TEST_P(SpecLiveTest, NewUserNamespace) {
  AskForUserNamespace();
  const CommandResult result = Run("id -u; cat /proc/self/uid_map");
  EXPECT_EQ(result.code, 0) << result.output;
  EXPECT_THAT(result.output, HasSubstr("0\n         0     200000      65536\n"));
}

// As in a sandbox: the user namespace is pinned and owns the network and IPC namespaces.
TEST_P(SpecLiveTest, PinnedUserNamespace) {
  AskForUserNamespace();
  const CommandResult holder = RunShell(
      "unshare --user --net --ipc --uts sleep 60 >/dev/null 2>&1 & pid=$!; "
      "while test -d /proc/$pid && test \"$(cat /proc/$pid/comm)\" != sleep; do :; done; "
      "for map in uid_map gid_map; do echo 0 200000 65536 >/proc/$pid/$map || exit 1; done; echo $pid");
  ASSERT_EQ(holder.code, 0) << holder.output;
  const std::string pid = holder.output.substr(0, holder.output.find('\n'));
  const std::string ns = StrCat("/proc/", pid, "/ns/");
  input_.namespaces.user = ns + "user";
  input_.namespaces.network = ns + "net";
  input_.namespaces.ipc = ns + "ipc";
  input_.namespaces.uts = ns + "uts";
  const CommandResult result =
      Run("id -u; cat /proc/self/uid_map; mount | grep -E ' /sys |mqueue'; echo end");
  RunShell(StrCat("kill ", pid));
  EXPECT_EQ(result.code, 0) << result.output;
  EXPECT_THAT(result.output, HasSubstr("0\n         0     200000      65536\n"));
  EXPECT_THAT(result.output, HasSubstr("type sysfs (ro"));
  EXPECT_THAT(result.output, HasSubstr("type mqueue"));
}

// CVE-2022-24769 in a running container.
TEST_P(SpecLiveTest, ExecHasTheContainersCapabilities) {
  security().mutable_capabilities()->add_drop_capabilities("ALL");
  security().mutable_capabilities()->add_add_capabilities("CHOWN");
  security().set_no_new_privs(true);
  input_.user.additional_gids = {0, 7};
  const std::string config = WriteBundle("sleep 60");
  ASSERT_EQ(RunShell(StrCat(Runtime(), " run -d -b ", top_, " ", Id(), " >", top_, "/out 2>&1")).code, 0);
  absl::StatusOr<std::string> process = GenerateExecProcess(
      config, {"sh", "-c", "grep -E 'Cap|NoNew|Groups' /proc/self/status; exit 5"}, false);
  ASSERT_TRUE(process.ok());
  ASSERT_TRUE(WriteFileAtomic(top_ + "/process.json", *process, 0644, false).ok());
  const CommandResult result = RunShell(StrCat(Runtime(), " exec -p ", top_, "/process.json ", Id()));
  EXPECT_EQ(result.code, 5) << result.output;
  EXPECT_THAT(result.output, HasSubstr("CapInh:\t0000000000000000"));
  EXPECT_THAT(result.output, HasSubstr("CapEff:\t0000000000000001"));
  EXPECT_THAT(result.output, HasSubstr("CapBnd:\t0000000000000001"));
  EXPECT_THAT(result.output, HasSubstr("NoNewPrivs:\t1"));
  EXPECT_THAT(result.output, HasSubstr("Groups:\t0 7"));
}

INSTANTIATE_TEST_SUITE_P(Runtimes, SpecLiveTest, testing::Values("crun", "runc"));

}  // namespace
}  // namespace keelson::oci
