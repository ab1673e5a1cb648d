// Runs Store coroutines from plain gtest code: on the fake loop, or on a real one for a store with a writer
// thread.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/env.h"
#include "base/fake_env.h"
#include "base/strings.h"
#include "master/store/store.h"

namespace keelson::master::testing {

inline Bytes ToBytes(std::string value) { return std::make_shared<const std::string>(std::move(value)); }

// "+a=1@2" created, "~a=2@3" modified, "-a@4" deleted.
inline std::string ToString(const StoreEvent& event) {
  if (event.type == EventType::kDeleted) return StrCat("-", event.key, "@", event.revision);
  return StrCat(event.type == EventType::kCreated ? "+" : "~", event.key, "=", *event.value, "@",
                event.revision);
}
inline std::vector<std::string> ToStrings(const std::vector<StoreEvent>& events) {
  std::vector<std::string> out;
  for (const StoreEvent& event : events) out.push_back(ToString(event));
  return out;
}
// "a=1@2" for each item.
inline std::vector<std::string> ToStrings(const std::vector<KeyValue>& items) {
  std::vector<std::string> out;
  for (const KeyValue& item : items)
    out.push_back(StrCat(item.key, "=", *item.value, "@", item.mod_revision));
  return out;
}

// A temporary folder, removed with its content.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// The loop a test runs on.
class Loop {
 public:
  explicit Loop(bool real) {
    if (real) {
      real_ = std::make_unique<RealEnv>(Paths());
    } else {
      fake_ = std::make_unique<FakeEnv>();
    }
  }
  Env& env() { return real_ != nullptr ? static_cast<Env&>(*real_) : *fake_; }
  FakeEnv& fake() { return *fake_; }
  bool is_real() const { return real_ != nullptr; }

  template <class T>
  T Await(Task<T> task) {
    if (fake_ != nullptr) return fake_->Await<T>(std::move(task));
    std::optional<T> out;
    absl::Status status = real_->RunUntilDone(Capture<T>(std::move(task), &out));
    EXPECT_TRUE(status.ok()) << status;
    return std::move(*out);
  }
  void AwaitVoid(Task<void> task) {
    if (fake_ != nullptr) return fake_->AwaitVoid(std::move(task));
    absl::Status status = real_->RunUntilDone(CaptureVoid(std::move(task)));
    EXPECT_TRUE(status.ok()) << status;
  }
  // Starts all tasks at once and waits for the last; results in the order of the tasks.
  template <class T>
  std::vector<T> AwaitAll(std::vector<Task<T>> tasks) {
    Scope scope(env().executor());
    auto state = std::make_shared<All<T>>();
    state->results.resize(tasks.size());
    state->left = tasks.size();
    for (size_t i = 0; i < tasks.size(); ++i) scope.Spawn("test", RunOne<T>(std::move(tasks[i]), i, state));
    if (!tasks.empty()) AwaitVoid(state->done.Wait());
    AwaitVoid(scope.Close());
    std::vector<T> out;
    for (std::optional<T>& result : state->results) out.push_back(std::move(*result));
    return out;
  }

 private:
  template <class T>
  struct All {
    std::vector<std::optional<T>> results;
    size_t left = 0;
    AsyncEvent done;
  };
  template <class T>
  static Task<void> RunOne(Task<T> task, size_t i, std::shared_ptr<All<T>> state) {
    T result = co_await std::move(task);
    state->results[i].emplace(std::move(result));
    if (--state->left == 0) state->done.Set();
  }
  template <class T>
  static Task<absl::Status> Capture(Task<T> task, std::optional<T>* out) {
    T value = co_await std::move(task);
    out->emplace(std::move(value));
    co_return absl::OkStatus();
  }
  static Task<absl::Status> CaptureVoid(Task<void> task) {
    co_await std::move(task);
    co_return absl::OkStatus();
  }
  std::unique_ptr<RealEnv> real_;
  std::unique_ptr<FakeEnv> fake_;
};

}  // namespace keelson::master::testing
