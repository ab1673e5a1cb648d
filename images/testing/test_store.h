// A store in a temporary directory, a registry beside it, one real loop for both.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <memory>
#include <optional>
#include <string>

#include "base/env.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/strings.h"
#include "images/image_store.h"
#include "images/testing/test_images.h"

namespace keelson::images {

class TempDir {
 public:
  TempDir() {
    char name[] = "/tmp/keelson-images-test.XXXXXX";
    path_ = ::mkdtemp(name);
  }
  ~TempDir() {
    absl::Status status = RemoveTree(path_);
    EXPECT_TRUE(status.ok()) << status;
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

template <class T>
Task<absl::Status> StoreResult(Task<T> task, std::optional<T>* out) {
  T value = co_await std::move(task);
  out->emplace(std::move(value));
  co_return absl::OkStatus();
}

class StoreTest : public ::testing::Test {
 protected:
  StoreTest() : env_(Paths()), registry_(&env_) {}

  void SetUp() override {
    port_ = registry_.Listen();
    options_.root_dir = dir_.path() + "/store";
    options_.min_retry_backoff = absl::Milliseconds(1);
    OpenStore();
  }
  void TearDown() override {
    CloseStore();
    AwaitVoid(registry_.Close());
  }
  void OpenStore() {
    auto store = ImageStore::Open(env_, options_);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  void CloseStore() {
    if (store_ == nullptr) return;
    AwaitVoid(store_->Close());
    store_.reset();
  }
  void Reopen() {
    CloseStore();
    OpenStore();
  }
  template <class T>
  T Await(Task<T> task) {
    std::optional<T> out;
    absl::Status status = env_.RunUntilDone(StoreResult<T>(std::move(task), &out));
    KEELSON_CHECK(status.ok() && out.has_value(), "task did not end");
    return *std::move(out);
  }
  static Task<absl::Status> Ok(Task<void> task) {
    co_await std::move(task);
    co_return absl::OkStatus();
  }
  void AwaitVoid(Task<void> task) { (void)env_.RunUntilDone(Ok(std::move(task))); }
  // Of the test's registry.
  std::string Name(const std::string& name) const { return StrCat("127.0.0.1:", port_, "/", name); }
  absl::StatusOr<std::string> Pull(const std::string& name, PullOptions options = {}) {
    return Await(store_->Pull(Name(name), std::move(options)));
  }

  TempDir dir_;
  RealEnv env_;
  FakeRegistry registry_;
  uint16_t port_ = 0;
  ImageStoreOptions options_;
  std::unique_ptr<ImageStore> store_;
};

}  // namespace keelson::images
