#include "cri/server/server_state.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/env.h"
#include "base/fd.h"
#include "base/strings.h"
#include "cri/server/runtime_server.h"

namespace keelson::cri {
namespace {

v1::PodSandboxMetadata Pod(const std::string& name, const std::string& ns, const std::string& uid,
                           uint32_t attempt) {
  v1::PodSandboxMetadata m;
  m.set_name(name);
  m.set_namespace_(ns);
  m.set_uid(uid);
  m.set_attempt(attempt);
  return m;
}

TEST(NameKeyTest, EveryPartCounts) {
  EXPECT_EQ(SandboxNameKey(Pod("web", "default", "u1", 2)), "web_default_u1_2");
  v1::ContainerMetadata container;
  container.set_name("main");
  container.set_attempt(3);
  EXPECT_EQ(ContainerNameKey(container, Pod("web", "default", "u1", 2)), "main_web_default_u1_2_3");
  std::set<std::string> keys;
  for (const auto& pod : {Pod("a", "n", "u", 0), Pod("b", "n", "u", 0), Pod("a", "m", "u", 0),
                          Pod("a", "n", "v", 0), Pod("a", "n", "u", 1)}) {
    keys.insert(SandboxNameKey(pod));
  }
  EXPECT_EQ(keys.size(), 5u);
}

TEST(StateTest, WhatClientsSee) {
  const std::pair<records::SandboxState, v1::PodSandboxState> sandboxes[] = {
      {records::SANDBOX_CREATING, v1::SANDBOX_NOTREADY},
      {records::SANDBOX_RUNNING, v1::SANDBOX_READY},
      {records::SANDBOX_STOPPING, v1::SANDBOX_NOTREADY},
      {records::SANDBOX_STOPPED, v1::SANDBOX_NOTREADY},
  };
  for (const auto& [state, want] : sandboxes) {
    records::Sandbox record;
    record.set_state(state);
    EXPECT_EQ(StateOf(record), want) << records::SandboxState_Name(state);
  }
  const std::pair<records::ContainerState, v1::ContainerState> containers[] = {
      {records::CONTAINER_CREATING, v1::CONTAINER_CREATED},
      {records::CONTAINER_CREATED, v1::CONTAINER_CREATED},
      {records::CONTAINER_STARTING, v1::CONTAINER_CREATED},
      {records::CONTAINER_RUNNING, v1::CONTAINER_RUNNING},
      {records::CONTAINER_EXITED, v1::CONTAINER_EXITED},
  };
  for (const auto& [state, want] : containers) {
    Container container;
    container.record.set_state(state);
    EXPECT_EQ(StateOf(container), want) << records::ContainerState_Name(state);
  }
  // It may run.
  Container container;
  container.record.set_state(records::CONTAINER_STARTING);
  container.unresolved = true;
  EXPECT_EQ(StateOf(container), v1::CONTAINER_UNKNOWN);
  container.record.set_state(records::CONTAINER_RUNNING);
  EXPECT_EQ(StateOf(container), v1::CONTAINER_RUNNING);
}

TEST(SupplementalGroupsTest, SortedAndOnce) {
  v1::ContainerConfig config;
  EXPECT_TRUE(SupplementalGroupsOf(config).empty());
  for (int64_t group : {7, 5, 7})
    config.mutable_linux()->mutable_security_context()->add_supplemental_groups(group);
  EXPECT_EQ(SupplementalGroupsOf(config), (std::vector<int64_t>{5, 7}));
}

TEST(OnceSetTest, EachTextOnceAndNoMoreThanItMayHold) {
  OnceSet set(2);
  EXPECT_TRUE(set.Add("a"));
  EXPECT_TRUE(set.Add("b"));
  EXPECT_FALSE(set.Add("a"));
  EXPECT_FALSE(set.Add("b"));
  EXPECT_TRUE(set.Add("c"));
  EXPECT_TRUE(set.Add("a"));
  EXPECT_FALSE(set.Add("c"));
}

TEST(SelectorTest, EveryLabelWithItsValue) {
  ProtoMap labels;
  labels["app"] = "web";
  labels["tier"] = "";
  struct {
    std::vector<std::pair<std::string, std::string>> selector;
    bool want;
  } cases[] = {{{}, true},
               {{{"app", "web"}}, true},
               {{{"app", "web"}, {"tier", ""}}, true},
               {{{"app", "db"}}, false},
               {{{"app", ""}}, false},
               {{{"other", ""}}, false},
               {{{"app", "web"}, {"other", "x"}}, false}};
  for (const auto& test : cases) {
    ProtoMap selector;
    for (const auto& [key, value] : test.selector) selector[key] = value;
    EXPECT_EQ(Selects(selector, labels), test.want);
  }
  EXPECT_TRUE(FitsId("", "abc"));
  EXPECT_TRUE(FitsId("ab", "abc"));
  EXPECT_TRUE(FitsId("abc", "abc"));
  EXPECT_FALSE(FitsId("abcd", "abc"));
  EXPECT_FALSE(FitsId("b", "abc"));
}

TEST(LogPathTest, StaysBelowThePodsDirectory) {
  for (const char* good : {"main.log", "main/0.log", "a/b/c", "...", ".hidden", "a b"}) {
    EXPECT_TRUE(CheckLogPath(good).ok()) << good;
  }
  for (const std::string& bad :
       {std::string("/etc/passwd"), std::string("../x"), std::string("a/../x"), std::string("a//b"),
        std::string("a/"), std::string("."), std::string("a/./b"), std::string(".."), std::string("a\nb"),
        std::string("a\0b", 3)}) {
    EXPECT_TRUE(absl::IsInvalidArgument(CheckLogPath(bad))) << bad;
  }
}

// Who may write into the pod's log directory must not lead its log elsewhere.
TEST(LogPathTest, LinksAreNotFollowed) {
  char made[] = "/tmp/log_path_XXXXXX";
  const std::string dir = ::mkdtemp(made), logs = dir + "/logs", victim = dir + "/victim";
  ASSERT_TRUE(MakeDirs(logs).ok());
  ASSERT_TRUE(MakeDirs(dir + "/elsewhere").ok());
  ASSERT_TRUE(WriteFileAtomic(victim, "untouched", 0644, false).ok());
  ASSERT_EQ(::symlink(victim.c_str(), (logs + "/link.log").c_str()), 0);
  ASSERT_EQ(::symlink("../elsewhere", (logs + "/out").c_str()), 0);
  ASSERT_EQ(::symlink((dir + "/elsewhere/new.log").c_str(), (logs + "/new.log").c_str()), 0);
  for (const char* path : {"link.log", "out/0.log", "new.log"}) {
    EXPECT_FALSE(PrepareLog(logs, path).ok()) << path;
  }
  EXPECT_NE(::access((dir + "/elsewhere/0.log").c_str(), F_OK), 0);
  EXPECT_NE(::access((dir + "/elsewhere/new.log").c_str(), F_OK), 0);
  EXPECT_TRUE(PrepareLog(logs, "main/0.log").ok());
  EXPECT_TRUE(RemoveTree(dir).ok());
}

TEST(ResolvConfTest, SearchServersOptions) {
  v1::DNSConfig dns;
  EXPECT_EQ(RenderResolvConf(dns).value(), "");
  dns.add_servers("10.0.0.10");
  dns.add_servers("fd00::10");
  dns.add_searches("default.svc.cluster.local");
  dns.add_searches("svc.cluster.local");
  dns.add_options("ndots:5");
  EXPECT_EQ(RenderResolvConf(dns).value(),
            "search default.svc.cluster.local svc.cluster.local\nnameserver 10.0.0.10\nnameserver fd00::10\n"
            "options ndots:5\n");
}

TEST(ResolvConfTest, NoSecondLineGetsIn) {
  for (const char* field : {"servers", "searches", "options"}) {
    for (const std::string& bad :
         {std::string(), std::string("a\nnameserver 6.6.6.6"), std::string("a\rb"), std::string("a\0b", 3)}) {
      v1::DNSConfig dns;
      if (field == std::string("servers")) dns.add_servers(bad);
      if (field == std::string("searches")) dns.add_searches(bad);
      if (field == std::string("options")) dns.add_options(bad);
      absl::Status status = RenderResolvConf(dns).status();
      EXPECT_TRUE(absl::IsInvalidArgument(status)) << field;
      EXPECT_NE(status.message().find(field), absl::string_view::npos) << status;
    }
  }
}

TEST(ResolvConfTest, Bounded) {
  v1::DNSConfig dns;
  for (int i = 0; i < 17; ++i) dns.add_servers("10.0.0.1");
  EXPECT_TRUE(absl::IsInvalidArgument(RenderResolvConf(dns).status()));
  dns.Clear();
  for (int i = 0; i < 65; ++i) dns.add_searches("a");
  EXPECT_TRUE(absl::IsInvalidArgument(RenderResolvConf(dns).status()));
}

class ProcTest : public testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/keelson-proc-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern), nullptr);
    root_ = pattern;
  }
  void TearDown() override { ASSERT_TRUE(RemoveTree(root_).ok()); }
  void Write(int pid, const std::string& stat) {
    ASSERT_TRUE(MakeDirs(StrCat(root_, "/", pid)).ok());
    ASSERT_TRUE(WriteFileAtomic(StrCat(root_, "/", pid, "/stat"), stat, 0644, false).ok());
  }
  // As proc(5) has it: the state is field 3, the start time field 22.
  static std::string Stat(const std::string& command, const std::string& state, int start) {
    std::string out = StrCat("1 (", command, ") ", state);
    for (int field = 4; field < 22; ++field) out += " 9";
    return StrCat(out, " ", start, " 8 7\n");
  }
  std::string root_;
};

TEST_F(ProcTest, StartTimeWhateverTheCommandIsCalled) {
  for (const char* command : {"sh", "a b", "x) S 1 2", "((", ""}) {
    Write(12, Stat(command, "S", 4711));
    EXPECT_EQ(ProcessStartTicks(12, root_), 4711u) << command;
  }
}

TEST_F(ProcTest, TheDeadHaveNone) {
  EXPECT_EQ(ProcessStartTicks(13, root_), std::nullopt);
  EXPECT_EQ(ProcessStartTicks(0, root_), std::nullopt);
  EXPECT_EQ(ProcessStartTicks(-1, root_), std::nullopt);
  for (const char* state : {"Z", "X"}) {
    Write(12, Stat("sh", state, 4711));
    EXPECT_EQ(ProcessStartTicks(12, root_), std::nullopt) << state;
  }
  for (const char* torn : {"", "12", "12 (sh)", "12 (sh) ", "12 (sh) S 1 2 3", "12 sh S 1 1 1 1"}) {
    Write(12, torn);
    EXPECT_EQ(ProcessStartTicks(12, root_), std::nullopt) << torn;
  }
}

TEST_F(ProcTest, ARecycledPidIsSomebodyElse) {
  Write(12, Stat("sh", "S", 4711));
  records::Process process;
  process.set_pid(12);
  process.set_start_ticks(4711);
  EXPECT_TRUE(IsAlive(process, root_));
  process.set_start_ticks(4712);
  EXPECT_FALSE(IsAlive(process, root_));
  // What was never recorded is nobody, also when a start time could not be read.
  EXPECT_FALSE(IsAlive(records::Process(), root_));
}

TEST(ExitSignalTest, WakesThoseWhoWatchAndForgetsThoseWhoLeft) {
  ExitSignal exit;
  std::shared_ptr<AsyncEvent> before = exit.Watch();
  { std::shared_ptr<AsyncEvent> left = exit.Watch(); }
  EXPECT_FALSE(before->is_set());
  exit.Set();
  EXPECT_TRUE(before->is_set());
  EXPECT_TRUE(exit.is_set());
  EXPECT_TRUE(exit.Watch()->is_set());
}

}  // namespace
}  // namespace keelson::cri
