#include "oci/process_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/env.h"
#include "base/strings.h"

namespace keelson::oci {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<int> Pids(const std::vector<ProcessFacts>& processes) {
  std::vector<int> pids;
  for (const ProcessFacts& process : processes) pids.push_back(process.pid);
  return pids;
}

ProcessFacts Process(int pid, int parent, int session) {
  ProcessFacts facts;
  facts.pid = pid;
  facts.parent = parent;
  facts.session = session;
  return facts;
}

TEST(ParseProcessFacts, CountsFromTheLastParenthesis) {
  auto facts = ParseProcessFacts(
      "4711 (a) Z 1 (b)) S 12 4711 4700 34816 4711 4194304 100 0 0 0 1 2 0 0 20 0 1 0 5555 1000 200\n");
  ASSERT_TRUE(facts.ok()) << facts.status();
  EXPECT_EQ(facts->pid, 4711);
  EXPECT_EQ(facts->parent, 12);
  EXPECT_EQ(facts->session, 4700);
  EXPECT_EQ(facts->start_ticks, 5555u);
  EXPECT_FALSE(facts->dead);
  auto zombie = ParseProcessFacts("5 (x) Z 1 5 5 0 -1 4194304 100 0 0 0 1 2 0 0 20 0 1 0 5555 1000 200");
  ASSERT_TRUE(zombie.ok());
  EXPECT_TRUE(zombie->dead);
}

TEST(ParseProcessFacts, RefusesWhatIsNone) {
  for (const char* bad : {"", "5", "5 (x", "5 (x)", "5 (x) S", "5 (x) S 1 2", "x (x) S 1 2 3 4 5 6 7 8",
                          "5 (x) S a 5 5 0 -1 4194304 100 0 0 0 1 2 0 0 20 0 1 0 5555 1000 200"}) {
    EXPECT_FALSE(ParseProcessFacts(bad).ok()) << bad;
  }
}

TEST(TreeOf, TakesDescendantsAndTheSession) {
  std::vector<ProcessFacts> all = {
      Process(1, 0, 1),    Process(10, 1, 1),    // the container's
      Process(20, 1, 20),                        // the command
      Process(21, 20, 20), Process(22, 21, 22),  // its child, a grandchild in a session of its own
      Process(23, 22, 22), Process(24, 1, 20),   // orphaned, but in the session
      Process(25, 24, 24), Process(30, 1, 30),   // another command
      Process(31, 30, 30),
  };
  EXPECT_THAT(Pids(TreeOf(20, 0, all)), ElementsAre(20, 21, 22, 23, 24, 25));
  EXPECT_THAT(Pids(TreeOf(31, 0, all)), ElementsAre(31)) << "it leads no session";
  EXPECT_THAT(Pids(TreeOf(99, 0, all)), IsEmpty());
}

TEST(TreeOf, FindsTheSessionOfALeaderThatIsGone) {
  EXPECT_THAT(Pids(TreeOf(20, 0, {Process(1, 0, 1), Process(24, 1, 20)})), ElementsAre(24));
}

TEST(TreeOf, TakesTheRuntimesSessionWhileTheRootIsInIt) {
  // crun, 15, starts a command in its own session.
  EXPECT_THAT(Pids(TreeOf(20, 15, {Process(20, 1, 15), Process(24, 1, 15), Process(30, 1, 30)})),
              ElementsAre(20, 24));
  // The number may be somebody else's by now.
  EXPECT_THAT(Pids(TreeOf(20, 15, {Process(20, 1, 20), Process(24, 1, 15), Process(25, 1, 20)})),
              ElementsAre(20, 25));
}

TEST(TreeOf, ACircleEnds) {
  EXPECT_THAT(Pids(TreeOf(5, 0, {Process(5, 6, 5), Process(6, 5, 5)})), ElementsAre(5, 6));
}

TEST(KillProcessTree, RefusesInitAndItself) {
  EXPECT_TRUE(absl::IsInvalidArgument(KillProcessTree(0, 0, nullptr)));
  EXPECT_TRUE(absl::IsInvalidArgument(KillProcessTree(1, 0, nullptr)));
  EXPECT_TRUE(absl::IsInvalidArgument(KillProcessTree(::getpid(), 0, nullptr)));
  EXPECT_TRUE(absl::IsNotFound(KillProcessTree(1 << 30, 0, nullptr)));
}

// A stop that comes in the middle of a fork lets the fork go on: its child must not be missed.
Task<absl::Status> KillForkers(RealEnv* env) {
  const std::string mark = StrCat("98765.", ::getpid());
  auto alive = [&mark] {
    std::vector<int> pids = ProcessIds();
    return std::count_if(pids.begin(), pids.end(), [&mark](int pid) {
      std::vector<std::string> words = CommandLineOf(pid);
      return !words.empty() && words.back() == mark;
    });
  };
  for (int round = 0; round < 60; ++round) {
    SpawnOptions spawn;
    spawn.argv = {"sh", "-c", StrCat("for i in 1 2 3 4 5 6 7 8 9; do sleep ", mark, " & done; wait"), mark};
    auto child = env->subprocess().Spawn(spawn);
    if (!child.ok()) co_return child.status();
    Task<void> nap = env->clock().Sleep(absl::Microseconds(300) * (round % 20));
    co_await std::move(nap);
    absl::Status killed = KillProcessTree((*child)->pid(), 0, nullptr);
    if (!killed.ok()) co_return killed;
    Task<int> wait = (*child)->Wait();
    co_await std::move(wait);
    absl::Duration limit = env->clock().Monotonic() + absl::Seconds(5);
    while (alive() > 0) {
      if (env->clock().Monotonic() > limit)
        co_return absl::InternalError(StrCat("round ", round, ": one lives"));
      Task<void> again = env->clock().Sleep(absl::Milliseconds(1));
      co_await std::move(again);
    }
  }
  co_return absl::OkStatus();
}

TEST(KillProcessTree, TakesWhatIsBeingForked) {
  RealEnv env{Paths()};
  absl::Status status = env.RunUntilDone(KillForkers(&env));
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace keelson::oci
