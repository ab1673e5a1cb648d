#include "cri/nri/spec.h"

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

namespace keelson::cri::nri {
namespace {

constexpr char kShownSpec[] = R"({"ociVersion":"1.0.2",
  "process":{"user":{"uid":5,"gid":6,"additionalGids":[7]},"args":["sh"],"env":["PATH=/bin","HOME=/"],"cwd":"/",
    "rlimits":[{"type":"RLIMIT_NOFILE","hard":10,"soft":9}],"oomScoreAdj":3},
  "mounts":[{"destination":"/proc","type":"proc","source":"proc","options":["nosuid"]},
            {"destination":"/dev/shm","type":"bind","source":"/s","options":["rbind"]}],
  "hooks":{"prestart":[{"path":"/p","args":["p"],"env":["A=1"],"timeout":4}]},
  "annotations":{"x":"1","org.criu.config":"/criu"},
  "linux":{"resources":{"devices":[{"allow":false,"access":"rwm"}],"cpu":{"shares":2}},"cgroupsPath":"/pods/c",
    "namespaces":[{"type":"pid"},{"type":"network","path":"/n"}],
    "devices":[{"path":"/dev/null","type":"c","major":1,"minor":3,"fileMode":438,"uid":0,"gid":0},
               {"path":"/dev/fuse","type":"c","major":10,"minor":229}],
    "seccomp":{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}}})";

TEST(NriSpecTest, WhatPluginsAreShown) {
  pb::Container container;
  FillFromSpec(kShownSpec, &container);
  std::string text;
  google::protobuf::TextFormat::PrintToString(container, &text);
  pb::Container want;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(R"(
      annotations { key: "x" value: "1" } annotations { key: "org.criu.config" value: "/criu" }
      args: "sh" env: "PATH=/bin" env: "HOME=/"
      mounts { destination: "/proc" type: "proc" source: "proc" options: "nosuid" }
      mounts { destination: "/dev/shm" type: "bind" source: "/s" options: "rbind" }
      hooks { prestart { path: "/p" args: "p" env: "A=1" timeout { value: 4 } } }
      linux { namespaces { type: "pid" } namespaces { type: "network" path: "/n" }
              devices { path: "/dev/null" type: "c" major: 1 minor: 3 file_mode { value: 438 } uid {} gid {} }
              devices { path: "/dev/fuse" type: "c" major: 10 minor: 229 }
              oom_score_adj { value: 3 } cgroups_path: "/pods/c"
              seccomp_policy { default_action: "SCMP_ACT_ERRNO"
                               syscalls { names: "read" action: "SCMP_ACT_ALLOW" } } }
      rlimits { type: "RLIMIT_NOFILE" hard: 10 soft: 9 } user { uid: 5 gid: 6 additional_gids: 7 })",
                                                            &want));
  std::string want_text;
  google::protobuf::TextFormat::PrintToString(want, &want_text);
  EXPECT_EQ(text, want_text);
}

TEST(NriSpecTest, NothingOfWhatCannotBeRead) {
  for (const char* text :
       {"", "[]", "{", R"({"process":3,"mounts":{},"linux":[],"hooks":7,"annotations":[1]})"}) {
    pb::Container container;
    FillFromSpec(text, &container);
    EXPECT_EQ(container.args_size() + container.mounts_size(), 0) << text;
  }
}

}  // namespace
}  // namespace keelson::cri::nri
