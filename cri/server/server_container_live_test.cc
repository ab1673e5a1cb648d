// Mounts, users, devices and seccomp of containers, seen from inside. Under cri/testing/with_keelson_cri.
#include <absl/strings/match.h>
#include <absl/strings/str_split.h>
#include <gmock/gmock.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <filesystem>

#include "base/fd.h"
#include "base/status.h"
#include "cri/testing/container_test.h"

namespace keelson::cri {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class ServerContainerLiveTest : public ContainerTest {
 protected:
  std::string Profile(const std::string& name, const std::string& calls) {
    return File(name, StrCat(R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":[)", calls,
                             R"(],"action":"SCMP_ACT_ERRNO"}]})"));
  }
};

// ---- mounts ----

TEST_F(ServerContainerLiveTest, Mounts) {
  v1::ContainerConfig config = Script("mounts", kForever);
  std::string file = File("file", "of the host\n");
  File("real/inside", "behind a link\n");
  fs::create_directory_symlink(dir() + "/real", dir() + "/link");
  AddMount(&config, file, "/mnt/deep/er/file");
  AddMount(&config, dir() + "/link", "/mnt/link");
  AddMount(&config, dir() + "/made/for/it", "/mnt/made");
  AddMount(&config, dir() + "/real", "/mnt/ro")->set_readonly(true);
  // Deeper ones come later, whatever the order they are given in.
  AddMount(&config, file, "/mnt/made/nested");
  std::string id = Start(pod_, config);
  EXPECT_EQ(Exec(id, "cat /mnt/deep/er/file"), "of the host\n");
  EXPECT_EQ(Exec(id, "cat /mnt/link/inside"), "behind a link\n");
  EXPECT_EQ(Exec(id, "cat /mnt/made/nested"), "of the host\n");
  Exec(id, "echo written > /mnt/made/out");
  EXPECT_EQ(ReadFile(dir() + "/made/for/it/out").value(), "written\n");
  EXPECT_THAT(RunIn(id, {"touch", "/mnt/ro/x"}).err, HasSubstr("Read-only"));
  v1::ContainerStatus status = Status(id);
  ASSERT_EQ(status.mounts_size(), 5) << "ours are not listed";
  EXPECT_EQ(status.mounts(1).host_path(), dir() + "/link");
  EXPECT_TRUE(status.mounts(3).readonly());
}

TEST_F(ServerContainerLiveTest, RecursiveReadOnly) {
  std::string source = dir() + "/ro";
  ASSERT_TRUE(MakeDirs(source + "/below").ok());
  ASSERT_EQ(::mount("t", (source + "/below").c_str(), "tmpfs", 0, nullptr), 0);
  bool offered = false;
  auto status = Call(runtime().Status(v1::StatusRequest()));
  for (const auto& handler : status->runtime_handlers()) {
    if (handler.name() == live_->handler()) offered = handler.features().recursive_read_only_mounts();
  }
  v1::ContainerConfig flat = Script("flat", kForever);
  AddMount(&flat, source, "/mnt")->set_readonly(true);
  EXPECT_EQ(Try(flat, "touch /mnt/below/x && echo written"), "written")
      << "without recursion what is below stays";
  v1::ContainerConfig deep = Script("deep", kForever);
  v1::Mount* mount = AddMount(&deep, source, "/mnt");
  mount->set_readonly(true);
  mount->set_recursive_read_only(true);
  if (offered) {
    EXPECT_THAT(Try(deep, "touch /mnt/below/y"), HasSubstr("Read-only file system"));
  } else {
    EXPECT_FALSE(TryCreate(pod_, deep).ok()) << "not offered and not refused";
  }
  for (auto propagation : {v1::PROPAGATION_HOST_TO_CONTAINER, v1::PROPAGATION_BIDIRECTIONAL}) {
    mount->set_propagation(propagation);
    EXPECT_FALSE(TryCreate(pod_, deep).ok());
  }
  ASSERT_EQ(::umount2((source + "/below").c_str(), MNT_DETACH), 0);
}

TEST_F(ServerContainerLiveTest, MountPropagation) {
  std::string source = dir() + "/shared";
  ASSERT_TRUE(MakeDirs(source).ok());
  ASSERT_EQ(::mount(source.c_str(), source.c_str(), nullptr, MS_BIND, nullptr), 0);
  ASSERT_EQ(::mount(nullptr, source.c_str(), nullptr, MS_SHARED, nullptr), 0);
  struct Case {
    v1::MountPropagation propagation;
    bool in, out;
  };
  int n = 0;
  for (const Case& test :
       {Case{v1::PROPAGATION_PRIVATE, false, false}, Case{v1::PROPAGATION_HOST_TO_CONTAINER, true, false},
        Case{v1::PROPAGATION_BIDIRECTIONAL, true, true}}) {
    v1::ContainerConfig config = Script("propagation", kForever);
    Security(&config)->set_privileged(true);
    AddMount(&config, source, "/mnt")->set_propagation(test.propagation);
    std::string id = Start(pod_, config);
    std::string from_host = StrCat(source, "/host", n), from_inside = StrCat("in", n++);
    ASSERT_TRUE(MakeDirs(from_host).ok());
    ASSERT_EQ(::mount("t", from_host.c_str(), "tmpfs", 0, nullptr), 0);
    ASSERT_TRUE(WriteFileAtomic(from_host + "/seen", "", 0644, false).ok());
    EXPECT_EQ(RunIn(id, {"ls", StrCat("/mnt/", fs::path(from_host).filename().string(), "/seen")}).code == 0,
              test.in);
    Exec(id, StrCat("mkdir /mnt/", from_inside, " && mount -t tmpfs t /mnt/", from_inside, " && touch /mnt/",
                    from_inside, "/seen"));
    EXPECT_EQ(fs::exists(StrCat(source, "/", from_inside, "/seen")), test.out);
    ASSERT_EQ(Status(id).mounts_size(), 1);
    EXPECT_EQ(Status(id).mounts(0).propagation(), test.propagation);
    EXPECT_TRUE(Remove(id).ok());
    ASSERT_EQ(::umount2(from_host.c_str(), MNT_DETACH), 0);
    ::umount2(StrCat(source, "/", from_inside).c_str(), MNT_DETACH);
  }
  ASSERT_EQ(::umount2(source.c_str(), MNT_DETACH), 0);
  // Below a mount that is not shared it cannot be had, and is refused by name.
  std::string own = dir() + "/private";
  ASSERT_TRUE(MakeDirs(own).ok());
  ASSERT_EQ(::mount("t", own.c_str(), "tmpfs", 0, nullptr), 0);
  ASSERT_EQ(::mount(nullptr, own.c_str(), nullptr, MS_PRIVATE, nullptr), 0);
  v1::ContainerConfig config = Script("propagation", kForever);
  AddMount(&config, own, "/mnt")->set_propagation(v1::PROPAGATION_BIDIRECTIONAL);
  absl::Status refused = TryCreate(pod_, config).status();
  EXPECT_FALSE(refused.ok());
  EXPECT_THAT(std::string(refused.message()), HasSubstr(own));
  ASSERT_EQ(::umount2(own.c_str(), MNT_DETACH), 0);
}

// VOLUME of the image's configuration.
TEST_F(ServerContainerLiveTest, VolumesOfTheImageAreDirectoriesOfTheHost) {
  v1::ContainerConfig config = Script("own-volume", kForever);
  config.mutable_image()->set_image(live_->user_image());
  Security(&config)->mutable_run_as_user()->set_value(0);
  Security(&config)->set_readonly_rootfs(true);
  const std::string id = Start(pod_, config);
  EXPECT_EQ(Exec(id, "cat /data/file && echo kept >/data/new && cat /data/new"), "of the image\nkept\n");
  EXPECT_THAT(RunIn(id, {"touch", "/x"}).err, HasSubstr("Read-only"));
  EXPECT_THAT(Exec(id, "grep ' /data ' /proc/mounts"), Not(HasSubstr("overlay")));
  const std::string folder = live_->paths().state_dir + "/volumes/" + id;
  EXPECT_EQ(ReadFile(folder + "/0/new").value_or("it is not there"), "kept\n");
  // One that is mounted over it is the caller's.
  v1::ContainerConfig mounted = Script("mounted-volume", kForever);
  mounted.mutable_image()->set_image(live_->user_image());
  AddMount(&mounted, dir(), "/data");
  const std::string other = Start(pod_, mounted);
  EXPECT_EQ(Exec(other, "ls /data | grep -c file || true"), "0\n");
  EXPECT_FALSE(fs::exists(live_->paths().state_dir + "/volumes/" + other));
  ASSERT_TRUE(Remove(id).ok());
  EXPECT_FALSE(fs::exists(folder));
}

TEST_F(ServerContainerLiveTest, ImageVolumes) {
  v1::ContainerConfig config = Script("volumes", kForever);
  v1::Mount* whole = config.add_mounts();
  whole->set_container_path("/mnt/whole");
  whole->set_readonly(true);
  whole->mutable_image()->set_image(live_->user_image());
  v1::Mount* part = config.add_mounts();
  *part = *whole;
  part->set_container_path("/mnt/part");
  part->set_image_sub_path("data");
  std::string id = Start(pod_, config);
  EXPECT_EQ(Exec(id, "cat /mnt/whole/data/file"), "of the image\n");
  EXPECT_EQ(Exec(id, "cat /mnt/part/file"), "of the image\n");
  EXPECT_EQ(Exec(id, "/mnt/whole/bin/busybox echo runs"), "runs\n");
  EXPECT_NE(RunIn(id, {"touch", "/mnt/whole/x"}).code, 0);
  v1::ContainerStatus status = Status(id);
  ASSERT_EQ(status.mounts_size(), 2);
  EXPECT_TRUE(absl::StartsWith(status.mounts(0).image().image_ref(), "sha256:"));
  // Kept from the creation on: the name may be another image's later.
  v1::ContainerStatusRequest verbose;
  verbose.set_container_id(id);
  verbose.set_verbose(true);
  auto info = Call(runtime().ContainerStatus(verbose));
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_THAT(info->info().at("info"),
              HasSubstr(StrCat("\"image_ref\":\"", status.mounts(0).image().image_ref(), "\"")));
  EXPECT_EQ(status.mounts(1).image_sub_path(), "data");
  // An update of a created container leaves its volumes alone.
  v1::ContainerConfig again = config;
  again.mutable_metadata()->set_name("again");
  std::string created = Create(pod_, again);
  v1::UpdateContainerResourcesRequest update;
  update.set_container_id(created);
  update.mutable_linux()->set_cpu_shares(300);
  ASSERT_TRUE(Call(runtime().UpdateContainerResources(update)).ok());
  ASSERT_TRUE(TryStart(created).ok());
  EXPECT_EQ(Exec(created, "cat /mnt/part/file"), "of the image\n");
  part->set_image_sub_path("not/there");
  config.mutable_metadata()->set_name("absent");
  EXPECT_FALSE(TryCreate(pod_, config).ok());
}

TEST_F(ServerContainerLiveTest, WritableLayersAreOfOneContainer) {
  std::string a = Start(pod_, Script("a", kForever)), b = Start(pod_, Script("b", kForever));
  Exec(a, "echo mine > /data/file");
  EXPECT_EQ(Exec(a, "cat /data/file"), "mine\n");
  EXPECT_EQ(Exec(b, "cat /data/file"), "of the image\n");
  v1::ContainerConfig config = Script("ro", kForever);
  Security(&config)->set_readonly_rootfs(true);
  EXPECT_THAT(Try(config, "touch /x"), HasSubstr("Read-only file system"));
}

// ---- users ----

TEST_F(ServerContainerLiveTest, UsersAndGroups) {
  struct Case {
    const char* name;
    void (*set)(v1::ContainerConfig*);
    const char* id;  // of `id -u; id -g; id -G`
  };
  const Case cases[] = {
      {"the image's", [](auto*) {}, "0 0 0"},
      {"a number", [](auto* c) { Security(c)->mutable_run_as_user()->set_value(4242); }, "4242 0 0"},
      {"a number the image knows", [](auto* c) { Security(c)->mutable_run_as_user()->set_value(1000); },
       "1000 1000 1000 50000"},
      {"a name", [](auto* c) { Security(c)->set_run_as_username("tester"); }, "1000 1000 1000 50000"},
      {"a number and a group",
       [](auto* c) {
         Security(c)->mutable_run_as_user()->set_value(1001);
         Security(c)->mutable_run_as_group()->set_value(1002);
       },
       "1001 1002 1002"},
      {"more groups",
       [](auto* c) {
         Security(c)->mutable_run_as_user()->set_value(1000);
         Security(c)->add_supplemental_groups(1234);
       },
       "1000 1000 1000 1234 50000"},
      {"these groups only",
       [](auto* c) {
         Security(c)->mutable_run_as_user()->set_value(1000);
         Security(c)->add_supplemental_groups(1234);
         Security(c)->set_supplemental_groups_policy(v1::Strict);
       },
       "1000 1000 1000 1234"},
  };
  for (const Case& test : cases) {
    v1::ContainerConfig config = Script("user", StrCat("echo $(id -u) $(id -g) $(id -G); ", kForever));
    test.set(&config);
    std::string id = Start(pod_, config);
    EXPECT_EQ(Trimmed(Exec(id, "echo $(id -u) $(id -g) $(id -G)")), test.id) << test.name;
    absl::Duration limit = env_.clock().Monotonic() + absl::Seconds(10);
    while (Log(id).empty() && env_.clock().Monotonic() < limit) Sleep(absl::Milliseconds(10));
    EXPECT_EQ(Trimmed(Log(id)), test.id) << test.name << ", the first process";
    const v1::LinuxContainerUser user = Status(id).user().linux();
    std::string told = StrCat(user.uid(), " ", user.gid());
    for (int64_t group : user.supplemental_groups()) StrAppend(&told, " ", group);
    EXPECT_EQ(told, test.id) << test.name << ", as the status tells it";
    EXPECT_TRUE(Remove(id).ok());
  }
  v1::ContainerConfig image_user = Script("image-user", kForever);
  image_user.mutable_image()->set_image(live_->user_image());
  EXPECT_EQ(Try(image_user, "echo $(id -un) $PWD $HOME"), "tester /home /home");
}

TEST_F(ServerContainerLiveTest, ArgumentsEnvironmentAndFolders) {
  v1::ContainerConfig config = Script("args", "");
  config.clear_command();
  for (const char* word : {"sh", "-c", "echo $0 $1 $IMAGE $OWN; pwd"}) config.add_command(word);
  config.add_args("zero");
  config.add_args("one two");
  auto* env = config.add_envs();
  env->set_key("OWN");
  env->set_value("value with  spaces");
  config.set_working_dir("/made/when/missing");
  EXPECT_EQ(Output(pod_, config), "zero one two busybox value with spaces\n/made/when/missing\n");
  // Only arguments: the image's command goes, and it has no entrypoint.
  v1::ContainerConfig args = Script("only-args", "");
  args.clear_command();
  for (const char* word : {"echo", "from args"}) args.add_args(word);
  EXPECT_EQ(Output(pod_, args), "from args\n");
}

// ---- confinement ----

TEST_F(ServerContainerLiveTest, Capabilities) {
  constexpr char kBound[] = "grep CapBnd /proc/self/status | awk '{print $2}'";
  EXPECT_EQ(Try(Script("plain", kForever), kBound), "00000000a80425fb") << "the fourteen";
  v1::ContainerConfig none = Script("none", kForever);
  Security(&none)->mutable_capabilities()->add_drop_capabilities("ALL");
  EXPECT_EQ(Try(none, kBound), "0000000000000000");
  v1::ContainerConfig one = none;
  one.mutable_metadata()->set_name("one");
  Security(&one)->mutable_capabilities()->add_add_capabilities("NET_BIND_SERVICE");
  EXPECT_EQ(Try(one, kBound), "0000000000000400");
  v1::ContainerConfig more = Script("more", kForever);
  Security(&more)->mutable_capabilities()->add_add_capabilities("CAP_SYS_TIME");
  Security(&more)->mutable_capabilities()->add_drop_capabilities("KILL");
  EXPECT_EQ(Try(more, kBound), "00000000aa0425db");
  // CVE-2022-24769: nothing is inheritable, in the first process and in a command.
  EXPECT_EQ(Try(Script("inheritable", kForever),
                "grep CapInh /proc/1/status /proc/self/status | awk '{print $2}' | "
                "sort -u"),
            "0000000000000000");
}

TEST_F(ServerContainerLiveTest, NoNewPrivileges) {
  for (bool set : {false, true}) {
    v1::ContainerConfig config = Script("nnp", kForever);
    Security(&config)->mutable_run_as_user()->set_value(1000);
    Security(&config)->set_no_new_privs(set);
    EXPECT_EQ(Try(config, "grep NoNewPrivs /proc/self/status | awk '{print $2}'"), set ? "1" : "0");
  }
}

TEST_F(ServerContainerLiveTest, Seccomp) {
  constexpr char kMode[] = "grep '^Seccomp:' /proc/self/status | awk '{print $2}'";
  EXPECT_EQ(Try(Script("unset", kForever), kMode), "0");
  v1::ContainerConfig config = Script("default", kForever);
  Security(&config)->mutable_seccomp()->set_profile_type(v1::SecurityProfile::RuntimeDefault);
  EXPECT_EQ(Try(config, kMode), "2");
  EXPECT_THAT(Try(config, "unshare -m true"), HasSubstr("not permitted"));
  Security(&config)->mutable_seccomp()->set_profile_type(v1::SecurityProfile::Unconfined);
  EXPECT_EQ(Try(config, kMode), "0");
  Security(&config)->mutable_seccomp()->set_profile_type(v1::SecurityProfile::Localhost);
  Security(&config)->mutable_seccomp()->set_localhost_ref(Profile("chmod.json", R"("chmod","fchmodat")"));
  EXPECT_EQ(Try(config, kMode), "2");
  EXPECT_THAT(Try(config, "chmod 400 /tmp"), HasSubstr("not permitted"));
  Security(&config)->set_privileged(true);
  EXPECT_EQ(Try(config, kMode), "0") << "privileged takes no profile";
}

TEST_F(ServerContainerLiveTest, MaskedAndReadOnlyPaths) {
  v1::ContainerConfig config = Script("masked", kForever);
  Security(&config)->add_masked_paths("/data");
  Security(&config)->add_masked_paths("/etc/group");
  Security(&config)->add_masked_paths("/not/there");
  Security(&config)->add_readonly_paths("/tmp");
  EXPECT_EQ(Try(config, "ls -A /data | wc -l; wc -c < /etc/group"), "0\n0");
  EXPECT_THAT(Try(config, "touch /tmp/x"), HasSubstr("Read-only"));
  // What the kubelet gives by default is its own business: empty lists mask nothing.
  EXPECT_EQ(Try(Script("plain", kForever), "cat /data/file"), "of the image");
}

TEST_F(ServerContainerLiveTest, DevicesAndPrivileged) {
  EXPECT_EQ(Try(Script("plain", kForever),
                "for d in null zero full random urandom tty; do [ -c /dev/$d ] || echo $d; done"),
            "");
  v1::ContainerConfig config = Script("device", kForever);
  v1::Device* device = config.add_devices();
  device->set_host_path("/dev/kmsg");
  device->set_container_path("/dev/my-log");
  device->set_permissions("r");
  struct stat info;
  if (::stat("/dev/kmsg", &info) == 0) {
    EXPECT_EQ(Try(config, "stat -c '%t %T' /dev/my-log"),
              StrCat(absl::Hex(major(info.st_rdev)), " ", absl::Hex(minor(info.st_rdev))));
    EXPECT_THAT(Try(config, "echo x > /dev/my-log"), HasSubstr("not permitted"));
    device = config.add_devices();
    *device = config.devices(0);
    device->set_container_path("/dev/again");
    config.mutable_metadata()->set_name("twice");
    EXPECT_EQ(Try(config, "for d in my-log again; do stat -c '%n %t %T' /dev/$d; done"),
              StrCat("/dev/my-log ", absl::Hex(major(info.st_rdev)), " ", absl::Hex(minor(info.st_rdev)),
                     "\n/dev/again ", absl::Hex(major(info.st_rdev)), " ", absl::Hex(minor(info.st_rdev))));
  }
  EXPECT_THAT(Try(Script("mknod", kForever), "mknod /tmp/d b 1 1 && cat /tmp/d"), HasSubstr("not permitted"));
  v1::ContainerConfig plain = Script("sys", kForever);
  // "permission denied" for want of the capability, "Permission denied" from AppArmor, which is asked first.
  EXPECT_THAT(Try(plain, "mount -t tmpfs t /mnt"), HasSubstr("ermission denied"));
  v1::ContainerConfig privileged = Script("privileged", kForever);
  Security(&privileged)->set_privileged(true);
  EXPECT_EQ(Try(privileged, "mount -t tmpfs t /mnt && echo mounted"), "mounted");
  EXPECT_EQ(Try(privileged,
                "touch /sys/fs/cgroup/../../kernel/x 2>/dev/null; grep ' /sys ' /proc/mounts | "
                "awk '{print $4}' | cut -d, -f1"),
            "rw");
}

// ---- devices by vendors' files ----

class ServerCdiLiveTest : public ServerContainerLiveTest {
 protected:
  void TearDown() override {
    ServerContainerLiveTest::TearDown();
    if (live_ != nullptr) return;
    for (const std::string& dir : cdi_dirs_) EXPECT_TRUE(RemoveTree(dir).ok());
  }
  void SetUp() override {
    ServerContainerLiveTest::SetUp();
    if (live_ == nullptr || HasFailure()) return;
    cdi_dirs_ = live_->paths().cdi_dirs;
    if (cdi_dirs_.size() != 2) GTEST_SKIP() << "the server was not given directories";
    for (const std::string& dir : cdi_dirs_) ASSERT_TRUE(MakeDirs(dir).ok());
  }
  void WriteSpec(size_t dir, const std::string& name, const std::string& text) {
    ASSERT_TRUE(WriteFileAtomic(StrCat(cdi_dirs_[dir], "/", name), text, 0644, false).ok());
  }
  v1::ContainerConfig With(const std::string& name, const std::string& device) {
    v1::ContainerConfig config = Script(name, kForever);
    config.add_cdi_devices()->set_name(device);
    return config;
  }
  std::vector<std::string> cdi_dirs_;
};

TEST_F(ServerCdiLiveTest, ANodeAVariableAMountGroupsAndHooks) {
  const std::string hook =
      File("hook", StrCat("#!/bin/sh\ncat >", dir(), "/state-$1\necho \"$WHO\" >", dir(), "/who-$1\n"));
  ASSERT_EQ(::chmod(hook.c_str(), 0755), 0);
  File("lib/driver", "of the vendor\n");
  ASSERT_EQ(::mknod((dir() + "/node").c_str(), S_IFCHR | 0600, makedev(10, 229)), 0);
  std::string hooks;
  for (const char* name : {"createRuntime", "createContainer", "poststop"}) {
    StrAppend(&hooks, hooks.empty() ? "" : ", ", R"({"hookName": ")", name, R"(", "path": ")", hook,
              R"(", "args": ["hook", ")", name,
              R"("], "env": ["PATH=/usr/bin:/bin", "WHO=vendor"], "timeout": 20})");
  }
  WriteSpec(
      0, "vendor.json",
      StrCat(R"({"cdiVersion": "0.7.0", "kind": "vendor.com/dev",
      "containerEdits": {"env": ["DRIVER=1"], "mounts": [{"hostPath": ")",
             dir(),
             R"(/lib", "containerPath": "/usr/lib/vendor", "options": ["ro", "nosuid", "nodev", "rbind"]}]},
      "devices": [{"name": "0", "containerEdits": {"env": ["DEVICE=zero"], "additionalGids": [4242],
        "deviceNodes": [{"path": "/dev/vendor0", "hostPath": ")",
             dir(), R"(/node", "permissions": "r", "fileMode": 416}],
        "hooks": [)",
             hooks, "]}}]}"));
  std::string id = Start(pod_, With("cdi", "vendor.com/dev=0"));
  EXPECT_EQ(Trimmed(Exec(id,
                         "echo $DRIVER $DEVICE; cat /usr/lib/vendor/driver; stat -c '%a %t:%T' /dev/vendor0; "
                         "id -G")),
            "1 zero\nof the vendor\n640 a:e5\n0 4242");
  EXPECT_NE(RunIn(id, {"sh", "-c", "echo x >/usr/lib/vendor/driver"}).code, 0);
  // Whether a driver is there is the host's affair; who is let through to it is not.
  EXPECT_THAT(RunIn(id, {"sh", "-c", ": >/dev/vendor0"}).err, HasSubstr("not permitted"));
  EXPECT_THAT(RunIn(id, {"sh", "-c", ": </dev/vendor0"}).err, testing::Not(HasSubstr("not permitted")));
  EXPECT_THAT(Status(id).user().linux().supplemental_groups(), testing::Contains(4242));
  for (const char* name : {"createRuntime", "createContainer"}) {
    EXPECT_EQ(Trimmed(*ReadFile(StrCat(dir(), "/who-", name))), "vendor") << name;
    EXPECT_THAT(*ReadFile(StrCat(dir(), "/state-", name)), HasSubstr(id)) << name;
  }
  EXPECT_FALSE(fs::exists(dir() + "/state-poststop"));
  ASSERT_TRUE(Stop(id, 0).ok());
  ASSERT_TRUE(Remove(id).ok());
  EXPECT_TRUE(fs::exists(dir() + "/state-poststop"));
}

TEST_F(ServerCdiLiveTest, FilesCountAsTheyAreAtTheTime) {
  auto yaml = [](const std::string& value) {
    return StrCat(
        "cdiVersion: 0.6.0\nkind: vendor.com/dev\ndevices:\n- name: a\n  containerEdits:\n"
        "    env: [FROM=",
        value, "]\n");
  };
  WriteSpec(0, "a.yaml", yaml("etc"));
  v1::ContainerConfig by_annotation = Script("one", kForever);
  (*by_annotation.mutable_annotations())["cdi.k8s.io/plugin_0"] = "vendor.com/dev=a";
  EXPECT_EQ(Trimmed(Exec(Start(pod_, by_annotation), "echo $FROM")), "etc");
  WriteSpec(0, "a.yaml", yaml("new"));
  EXPECT_EQ(Trimmed(Exec(Start(pod_, With("two", "vendor.com/dev=a")), "echo $FROM")), "new");
  WriteSpec(1, "a.yaml", yaml("run"));
  EXPECT_EQ(Trimmed(Exec(Start(pod_, With("three", "vendor.com/dev=a")), "echo $FROM")), "run");
  WriteSpec(1, "b.yaml", yaml("other"));
  absl::Status conflict = TryCreate(pod_, With("four", "vendor.com/dev=a")).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(conflict)) << conflict;
  EXPECT_THAT(std::string(conflict.message()), HasSubstr(cdi_dirs_[1] + "/b.yaml"));
  WriteSpec(1, "b.yaml", "broken: [");
  EXPECT_TRUE(TryCreate(pod_, With("five", "vendor.com/dev=a")).ok());
  absl::Status missing = TryCreate(pod_, With("six", "vendor.com/dev=z")).status();
  EXPECT_TRUE(absl::IsNotFound(missing)) << missing;
  for (const std::string& want :
       {std::string("vendor.com/dev=z"), cdi_dirs_[0], cdi_dirs_[1], std::string("b.yaml")}) {
    EXPECT_THAT(std::string(missing.message()), HasSubstr(want));
  }
}

TEST_F(ServerContainerLiveTest, LimitsAreInTheCgroup) {
  const bool v2 = fs::exists("/sys/fs/cgroup/cgroup.controllers");
  v1::ContainerConfig config = Script("limits", kForever);
  auto* resources = config.mutable_linux()->mutable_resources();
  resources->set_cpu_shares(123);
  resources->set_cpu_period(50000);
  resources->set_cpu_quota(25000);
  resources->set_memory_limit_in_bytes(32 << 20);
  resources->set_cpuset_cpus("0");
  (*resources->mutable_unified())["pids.max"] = "77";
  std::string id = Start(pod_, config);
  auto read = [&](const std::string& file) {
    size_t slash = file.find('/');
    std::string hierarchy = v2 ? "" : StrCat(file.substr(0, slash), "/");
    absl::StatusOr<std::string> text =
        ReadFile(StrCat("/sys/fs/cgroup/", hierarchy, live_->CgroupOf("", id), file.substr(slash)));
    return text.ok() ? Trimmed(*text) : text.status().ToString();
  };
  if (v2) {
    EXPECT_EQ(read("cpu/cpu.weight"), "5");
    EXPECT_EQ(read("cpu/cpu.max"), "25000 50000");
    EXPECT_EQ(read("memory/memory.max"), StrCat(32 << 20));
  } else {
    EXPECT_EQ(read("cpu/cpu.shares"), "123");
    EXPECT_EQ(read("cpu/cpu.cfs_period_us"), "50000");
    EXPECT_EQ(read("cpu/cpu.cfs_quota_us"), "25000");
    EXPECT_EQ(read("memory/memory.limit_in_bytes"), StrCat(32 << 20));
  }
  EXPECT_EQ(read("cpuset/cpuset.cpus"), "0");
  EXPECT_EQ(read("pids/pids.max"), "77");
  // A parent of the pod's choosing.
  v1::PodSandboxConfig pod_config = PodConfig("parent");
  const std::string parent = live_->CgroupParent("own");
  pod_config.mutable_linux()->set_cgroup_parent(parent);
  std::string pod = RunPod(pod_config);
  std::string c = Start(pod, Script("c", kForever));
  absl::StatusOr<std::string> cgroup = ReadFile(StrCat("/proc/", Pid(c), "/cgroup"));
  EXPECT_THAT(cgroup.value(), HasSubstr(live_->CgroupOf("own", c)));
  RemovePod(pod);
  if (live_->paths().systemd) return;  // the slice is systemd's
  for (const auto& top : fs::directory_iterator("/sys/fs/cgroup")) {
    std::error_code ignored;
    fs::remove(StrCat(top.path().string(), parent), ignored);
  }
  std::error_code ignored;
  if (v2) fs::remove(StrCat("/sys/fs/cgroup", parent), ignored);
}

}  // namespace
}  // namespace keelson::cri
