// CheckpointFixture: what the live tests of checkpoints share: a program that counts in its memory.
#pragma once

#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "cri/testing/live_test.h"

namespace keelson::cri {

// Counts in its memory alone.
inline constexpr char kCount[] = "n=0; while true; do n=$((n+1)); echo $n; sleep 0.1; done";

class CheckpointFixture : public LiveTest {
 protected:
  void TearDown() override {
    if (live_ == nullptr) return;
    // Pods of the test's own are still there; criu's images of containers that were not started go with them.
    std::error_code error;
    EXPECT_TRUE(std::filesystem::is_empty(live_->paths().state_dir + "/checkpoints", error) || error);
    const std::string restores = live_->paths().state_dir + "/restores";
    LiveTest::TearDown();
    EXPECT_TRUE(std::filesystem::is_empty(restores, error) || error);
  }

  // The lines of a counter's log as numbers, each one more than that before it.
  std::vector<int> Counted(const std::string& id) {
    std::vector<int> out;
    for (absl::string_view line : absl::StrSplit(Log(id), '\n', absl::SkipEmpty())) {
      int number = 0;
      EXPECT_TRUE(absl::SimpleAtoi(line, &number)) << line;
      EXPECT_TRUE(out.empty() || number == out.back() + 1) << Log(id);
      out.push_back(number);
    }
    return out;
  }
  // Waits until the counter has got on to `least`.
  std::vector<int> AwaitCount(const std::string& id, int least) {
    std::vector<int> counted;
    Await([&] {
      counted = Counted(id);
      return !counted.empty() && counted.back() >= least;
    });
    return counted.empty() ? std::vector<int>{0} : counted;
  }
  void Await(const std::function<bool()>& condition) {
    EXPECT_TRUE(Eventually(condition, kAwaitLimit)) << "waited in vain";
  }
  size_t Pods() {
    auto list = Call(runtime().ListPodSandbox(v1::ListPodSandboxRequest()));
    EXPECT_TRUE(list.ok()) << list.status();
    return list.ok() ? static_cast<size_t>(list->items_size()) : 0;
  }
  // Another server instead, with more options.
  void Restart(const std::vector<std::string>& options = {}) {
    EXPECT_TRUE(env_.RunUntilDone(live_->Kill()).ok());
    SpawnServer(options);
  }

 private:
  static constexpr absl::Duration kAwaitLimit = absl::Seconds(180);  // an emulated processor, and a busy one
};

}  // namespace keelson::cri
