#include "cri/server/checkpoint_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace keelson::cri {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(SameProcess, WhatDiffersIsNamed) {
  const std::string had =
      R"({"process":{"user":{"uid":1,"gid":2,"additionalGids":[2]},"args":["sh","-c","a"],"env":["A=1"],)"
      R"("cwd":"/","capabilities":{"bounding":["CAP_A","CAP_B"],"ambient":[]},"noNewPrivileges":false},)"
      R"("root":{"path":"/x","readonly":false},)"
      R"("mounts":[{"destination":"/proc","type":"proc","options":["nosuid"]},)"
      R"({"destination":"/data","type":"bind","source":"/v1","options":["rbind","ro"]}],)"
      R"("linux":{"devices":[{"path":"/dev/a","type":"c","major":1,"minor":2}],)"
      R"("namespaces":[{"type":"pid"},{"type":"network","path":"/n1"}],"seccomp":{"defaultAction":"x"}}})";
  v1::LinuxContainerSecurityContext asked;
  asked.mutable_run_as_group()->set_value(2);
  EXPECT_TRUE(CheckSameProcess(asked, had, had).ok());
  const struct {
    const char *from, *to, *field;
  } kCases[] = {
      // A kubelet's request for the same pod, and what means the same.
      {R"("A=1")", R"("A=2","B=1")", ""},
      {R"("CAP_A","CAP_B")", R"("CAP_B","CAP_A")", ""},
      {R"(,"ambient":[])", "", ""},
      {R"(,"noNewPrivileges":false)", "", ""},
      {R"({"defaultAction":"x"})", R"({"defaultAction":"y"})", ""},
      {"/x", "/y", ""},
      {R"("a")", R"("b")", ""},
      {"[2]", "[2,4]", ""},
      {R"("sh")", R"("ash")",
       R"(command, args: "ash" and 2 arguments; the container in the checkpoint has "sh" and 2)"},
      {R"("a")", R"("a","b")", R"("sh" and 3 arguments)"},
      {R"("cwd":"/")", R"("cwd":"/tmp")", "working_dir"},
      {R"("uid":1)", R"("uid":0)", "run_as_user: 0; the container in the checkpoint has 1"},
      {R"("gid":2)", R"("gid":3)", "run_as_group"},
      {R"("CAP_B")", R"("CAP_C")", "capabilities"},
      {R"("ambient":[])", R"("ambient":["CAP_A"])", "capabilities"},
      {R"("noNewPrivileges":false)", R"("noNewPrivileges":true)", "no_new_privs"},
      {R"("readonly":false)", R"("readonly":true)", "readonly_rootfs"},
      {R"(,"seccomp":{"defaultAction":"x"})", "", "seccomp: no filter"},
      {R"("noNewPrivileges":false)", R"("terminal":true)",
       "tty: true; the container in the checkpoint has false"},
      {"/v1", "/v2", ""},
      {R"("nosuid")", R"("nodev")", ""},
      {R"("destination":"/data")", R"("destination":"/else")", "mounts: none at /data"},
      {R"("destination":"/proc","type":"proc")", R"("destination":"/more","type":"bind")", "mounts[/more]"},
      {R"("options":["nosuid"])", R"("options":["bind"])", "mounts[/proc]"},
      {R"("/n1")", R"("/n2")", ""},
      {R"(,{"type":"network","path":"/n1"})", "",
       "namespace_options: pid; the container in the checkpoint has network, pid"},
      {R"({"type":"pid"})", R"({"type":"pid","path":"/proc/1/ns/pid"})", "pid of others"},
      {R"("minor":2)", R"("minor":3)",
       "devices: /dev/a c 1:3; the container in the checkpoint has /dev/a c 1:2"},
  };
  for (const auto& c : kCases) {
    std::string wanted = had;
    size_t at = wanted.find(c.from);
    ASSERT_NE(at, std::string::npos) << c.from;
    wanted.replace(at, std::string(c.from).size(), c.to);
    absl::Status status = CheckSameProcess(asked, had, wanted);
    if (std::string(c.field).empty()) {
      EXPECT_TRUE(status.ok()) << c.to << ": " << status;
      continue;
    }
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << c.to << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.field));
  }
  // The user's own group is what the container's files say, and ALL is what the host has.
  std::string other = had;
  other.replace(other.find(R"("gid":2)"), 7, R"("gid":3)");
  other.replace(other.find("CAP_B"), 5, "CAP_C");
  asked.clear_run_as_group();
  EXPECT_TRUE(absl::IsInvalidArgument(CheckSameProcess(asked, had, other)));
  asked.mutable_capabilities()->add_add_capabilities("ALL");
  EXPECT_TRUE(CheckSameProcess(asked, had, other).ok());
  asked.Clear();
  asked.set_privileged(true);
  EXPECT_TRUE(CheckSameProcess(asked, had, other).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(CheckSameProcess(asked, "{", had)));
  EXPECT_TRUE(absl::IsInvalidArgument(CheckSameProcess(asked, "[]", had)));
}

TEST(CheckpointedCommandTest, IsThatOfTheSpecification) {
  absl::StatusOr<std::vector<std::string>> command =
      CheckpointedCommand(R"({"process":{"args":["sh","-c",""]}})");
  ASSERT_TRUE(command.ok()) << command.status();
  EXPECT_THAT(*command, ElementsAre("sh", "-c", ""));
  for (const char* text : {"", "[]", "{}", R"({"process":{"args":[]}})", R"({"process":{"args":"sh"}})",
                           R"({"process":{"args":["sh",1]}})", R"({"process":{"args":["a\u0000b"]}})"}) {
    command = CheckpointedCommand(text);
    EXPECT_TRUE(absl::IsInvalidArgument(command.status())) << text;
    EXPECT_THAT(std::string(command.status().message()), HasSubstr("spec.dump")) << text;
  }
}

}  // namespace
}  // namespace keelson::cri
