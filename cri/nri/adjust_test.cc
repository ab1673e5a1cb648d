#include "cri/nri/adjust.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace keelson::cri::nri {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;

constexpr char kSpec[] = R"({"ociVersion":"1.0.2",
  "process":{"user":{"uid":5,"gid":6,"additionalGids":[7]},"args":["sh"],"env":["PATH=/bin","HOME=/"],"cwd":"/",
    "rlimits":[{"type":"RLIMIT_NOFILE","hard":10,"soft":9}],"oomScoreAdj":3},
  "mounts":[{"destination":"/proc","type":"proc","source":"proc","options":["nosuid"]},
            {"destination":"/dev/shm","type":"bind","source":"/s","options":["rbind"]}],
  "hooks":{"prestart":[{"path":"/p","args":["p"],"env":["A=1"],"timeout":4}]},
  "annotations":{"x":"1","org.criu.config":"/criu"},
  "linux":{"resources":{"devices":[{"allow":false,"access":"rwm"}],"cpu":{"shares":2}},"cgroupsPath":"/pods/c",
    "namespaces":[{"type":"pid"},{"type":"network","path":"/n"}],
    "devices":[{"path":"/dev/null","type":"c","major":1,"minor":3,"fileMode":438,"uid":0,"gid":0}],
    "seccomp":{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}}})";

pb::ContainerAdjustment Adjustment(const std::string& text) {
  pb::ContainerAdjustment adjust;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &adjust)) << text;
  return adjust;
}

absl::StatusOr<AdjustedSpec> Apply(const std::string& adjust, bool systemd = false) {
  return ApplyAdjustment(kSpec, Adjustment(adjust), {.container_id = "c", .systemd_cgroup = systemd});
}

// One part of the result, by its JSON pointer.
std::string Part(const std::string& adjust, const std::string& pointer) {
  absl::StatusOr<AdjustedSpec> applied = Apply(adjust);
  if (!applied.ok()) return applied.status().ToString();
  Json json = Json::parse(applied->config_json);
  return json.contains(Json::json_pointer(pointer)) ? json[Json::json_pointer(pointer)].dump() : "none";
}

TEST(NriAdjustTest, NoAdjustmentChangesNothing) {
  absl::StatusOr<AdjustedSpec> applied = Apply("");
  ASSERT_TRUE(applied.ok()) << applied.status();
  EXPECT_EQ(applied->config_json, Json::parse(kSpec).dump());
  EXPECT_TRUE(applied->own_pid_namespace);
  EXPECT_EQ(applied->cgroups_path, "/pods/c");
}

TEST(NriAdjustTest, EachPart) {
  EXPECT_EQ(Part(R"(annotations { key: "y" value: "2" } annotations { key: "-x" })", "/annotations"),
            R"({"org.criu.config":"/criu","y":"2"})");
  EXPECT_EQ(Part(R"(env { key: "-PATH" } env { key: "HOME" value: "/h" } env { key: "N" value: "a=b" })",
                 "/process/env"),
            R"(["HOME=/h","N=a=b"])");
  EXPECT_EQ(Part(R"(env { key: "-HOME" } env { key: "HOME" value: "again" })", "/process/env"),
            R"(["PATH=/bin","HOME=again"])");
  EXPECT_EQ(Part(R"(args: "a" args: "b")", "/process/args"), R"(["a","b"])");
  EXPECT_EQ(Part(R"(rlimits { type: "RLIMIT_NOFILE" hard: 4 soft: 2 } rlimits { type: "RLIMIT_CORE" })",
                 "/process/rlimits"),
            R"([{"type":"RLIMIT_NOFILE","hard":4,"soft":2},{"type":"RLIMIT_CORE","hard":0,"soft":0}])");
  EXPECT_EQ(Part(R"(linux { oom_score_adj { value: -7 } })", "/process/oomScoreAdj"), "-7");
  EXPECT_EQ(
      Part(
          R"(hooks { prestart { path: "/q" } poststop { path: "/r" args: "r" env: "E=1" timeout { value: 2 } } })",
          "/hooks"),
      R"({"prestart":[{"path":"/p","args":["p"],"env":["A=1"],"timeout":4},{"path":"/q"}],)"
      R"("poststop":[{"path":"/r","args":["r"],"env":["E=1"],"timeout":2}]})");
  EXPECT_EQ(Part(R"(linux { cgroups_path: "/other/c" })", "/linux/cgroupsPath"), R"("/other/c")");
  EXPECT_EQ(Part(R"(linux { namespaces { type: "-network" } namespaces { type: "pid" path: "/q" } })",
                 "/linux/namespaces"),
            R"([{"type":"pid","path":"/q"}])");
  EXPECT_EQ(
      Part(R"(linux { sysctl { key: "net.ipv4.ip_forward" value: "1" } sysctl { key: "-kernel.sem" } })",
           "/linux/sysctl"),
      R"({"net.ipv4.ip_forward":"1"})");
  EXPECT_EQ(
      Part(R"(linux { seccomp_policy { default_action: "SCMP_ACT_ALLOW" architectures: "SCMP_ARCH_X86_64"
                    syscalls { names: "kill" action: "SCMP_ACT_ERRNO" errno_ret { value: 1 }
                               args { index: 1 value: 9 op: "SCMP_CMP_EQ" } } } })",
           "/linux/seccomp"),
      R"({"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],"syscalls":[{"names":["kill"],)"
      R"("action":"SCMP_ACT_ERRNO","errnoRet":1,"args":[{"index":1,"value":9,"op":"SCMP_CMP_EQ"}]}]})");
}

TEST(NriAdjustTest, DevicesComeWithTheirRules) {
  const std::string adjust = R"(linux { devices { path: "-/dev/null" }
      devices { path: "/dev/fuse" type: "c" major: 10 minor: 229 file_mode { value: 438 } }
      resources { devices { allow: true type: "b" access: "r" major { value: 8 } } } })";
  EXPECT_EQ(Part(adjust, "/linux/devices"),
            R"([{"path":"/dev/fuse","type":"c","major":10,"minor":229,"fileMode":438}])");
  EXPECT_EQ(
      Part(adjust, "/linux/resources"),
      R"({"devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":10,"minor":229,"access":"rwm"},)"
      R"({"allow":true,"type":"b","major":8,"access":"r"}],"cpu":{"shares":2}})");
}

TEST(NriAdjustTest, MountsOuterOnesFirst) {
  EXPECT_EQ(
      Part(
          R"(mounts { destination: "-/dev/shm" } mounts { destination: "/a/b/" type: "bind" source: "/s" options: "rbind" }
                    mounts { destination: "/a" type: "tmpfs" source: "t" } mounts { destination: "/proc" type: "proc" source: "other" })",
          "/mounts"),
      R"([{"destination":"/a","type":"tmpfs","source":"t","options":[]},)"
      R"({"destination":"/proc","type":"proc","source":"other","options":[]},)"
      R"({"destination":"/a/b","type":"bind","source":"/s","options":["rbind"]}])");
  EXPECT_EQ(Part(R"(mounts { destination: "/a" type: "bind" source: "/s" options: "rshared" }
                    mounts { destination: "/b" type: "bind" source: "/s" options: "rslave" })",
                 "/linux/rootfsPropagation"),
            R"("rshared")");
  EXPECT_EQ(Part(R"(mounts { destination: "/b" type: "bind" source: "/s" options: "rslave" })",
                 "/linux/rootfsPropagation"),
            R"("rslave")");
  auto propagated = PropagatedSources(Adjustment(
      R"(mounts { destination: "/b" source: "/s" options: "ro" options: "rslave" } mounts { destination: "-/c" })"));
  ASSERT_EQ(propagated.size(), 1u);
  EXPECT_EQ(propagated[0], (std::pair<std::string, std::string>{"/s", "rslave"}));
}

TEST(NriAdjustTest, WhoseProcessesEndWithTheFirst) {
  EXPECT_FALSE(Apply(R"(linux { namespaces { type: "-pid" } })")->own_pid_namespace);
  EXPECT_FALSE(Apply(R"(linux { namespaces { type: "pid" path: "/proc/1/ns/pid" } })")->own_pid_namespace);
}

TEST(NriAdjustTest, WhatIsNotDoneIsNamed) {
  for (const auto& [adjust, field] : std::initializer_list<std::pair<const char*, const char*>>{
           {"linux { io_priority { class: LINUX_IOPRIO_CLASS_BE } }", "linux.io_priority"},
           {"linux { scheduler { policy: LINUX_SCHED_FIFO } }", "linux.scheduler"},
           {"linux { memory_policy { mode: LINUX_MPOL_BIND } }", "linux.memory_policy"},
           {"linux { net_devices { key: 'eth1' value { name: 'e' } } }", "linux.net_devices"},
           {"linux { rdt { clos_id { value: 'x' } } }", "linux.rdt"},
           {"linux { namespaces { type: 'user' } }", "linux.namespaces: user"},
           {"linux { namespaces { type: '-mount' } }", "linux.namespaces: mount"},
           {"mounts { destination: '/a' type: 'bind' source: '/b' options: 'relabel' }", "mounts.options"},
           {"annotations { key: 'org.criu.config' value: '/x' }", "annotations: org.criu.config"},
           {"annotations { key: '-org.criu.config' }", "annotations: org.criu.config"},
           {"annotations { key: 'run.oci.systemd.subgroup' value: 'x' }",
            "annotations: run.oci.systemd.subgroup"}}) {
    absl::Status status = Apply(adjust).status();
    EXPECT_TRUE(absl::IsUnimplemented(status)) << adjust << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::string("adjust.") + field));
  }
}

TEST(NriAdjustTest, WhatIsWrongIsNamed) {
  for (const auto& [adjust, field] : std::initializer_list<std::pair<const char*, const char*>>{
           {"annotations { key: '-' }", "annotations"},
           {"env { key: 'A=B' value: 'c' }", "env"},
           {"env { key: 'A' value: 'a\\000b' }", "env"},
           {"args: 'a\\000b'", "args"},
           {"rlimits { type: 'nofile' }", "rlimits"},
           {"rlimits { type: 'RLIMIT_CORE' soft: 2 hard: 1 }", "rlimits"},
           {"hooks { poststart { path: 'hook' } }", "hooks.poststart"},
           {"hooks { poststart { path: '/h' timeout { value: 0 } } }", "hooks.poststart"},
           {"mounts { destination: 'rel' type: 'tmpfs' }", "mounts.destination"},
           {"mounts { destination: '/a' type: 'bind' source: 'rel' }", "mounts.source"},
           {"linux { devices { path: 'dev' type: 'c' } }", "linux.devices.path"},
           {"linux { devices { path: '/dev/x' type: 'd' } }", "linux.devices.type"},
           {"linux { devices { path: '/dev/x' type: 'c' major: -1 } }", "linux.devices"},
           {"linux { resources { devices { access: 'x' } } }", "linux.resources.devices.access"},
           {"linux { oom_score_adj { value: 1001 } }", "linux.oom_score_adj"},
           {"linux { cgroups_path: '/' }", "linux.cgroups_path"},
           {"linux { cgroups_path: '/a/../c' }", "linux.cgroups_path"},
           {"linux { cgroups_path: '/a/d' }", "linux.cgroups_path"},
           {"linux { cgroups_path: 'a/c' }", "linux.cgroups_path"},
           {"linux { namespaces { type: 'time' } }", "linux.namespaces"},
           {"linux { namespaces { type: 'ipc' path: 'x' } }", "linux.namespaces.path"},
           {"linux { sysctl { key: '../x' value: '1' } }", "linux.sysctl"},
           {"linux { seccomp_policy { default_action: 'allow' } }", "linux.seccomp_policy.default_action"},
           {"linux { seccomp_policy { default_action: 'SCMP_ACT_ALLOW' syscalls { action: 'SCMP_ACT_LOG' } } "
            "}",
            "linux.seccomp_policy.syscalls"}}) {
    absl::Status status = Apply(adjust).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << adjust << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::string("adjust.") + field)) << adjust;
  }
}

// Everything in a container's cgroup is killed with it: no path may lead to another's.
TEST(NriAdjustTest, CgroupsUnderSystemd) {
  EXPECT_TRUE(Apply("linux { cgroups_path: 'a-b.slice:keelson:c' }", /*systemd=*/true).ok());
  for (const char* path :
       {"/a/c", "a:keelson:c", "x/a.slice:keelson:c", "a.slice:other:c", "a.slice:keelson:d", "::"}) {
    EXPECT_TRUE(
        absl::IsInvalidArgument(Apply(std::string("linux { cgroups_path: '") + path + "' }", true).status()))
        << path;
  }
}

}  // namespace
}  // namespace keelson::cri::nri
