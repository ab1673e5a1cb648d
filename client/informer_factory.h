// InformerFactory: one shared Informer per resource for all controllers of a process.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "base/env.h"
#include "base/task.h"
#include "client/api_client.h"
#include "client/informer.h"

namespace keelson::client {

class InformerFactory {
 public:
  InformerFactory(Env& env, ApiClient& client) : env_(env), client_(client) {}

  // Made on first use; handlers and indexes are added before Start().
  template <class T>
  Informer& For() {
    api::GroupVersionResource gvr = GvrOf<T>();
    auto& slot = informers_[gvr.group + "/" + gvr.resource];
    if (slot == nullptr) slot = std::make_unique<Informer>(env_, client_, gvr);
    return *slot;
  }

  void Start() {
    for (auto& [name, informer] : informers_) informer->Start();
  }
  Task<void> WaitForSync() {
    for (auto& [name, informer] : informers_) {
      Task<void> wait = informer->WaitForSync();
      co_await std::move(wait);
    }
  }
  Task<void> Stop() {
    for (auto& [name, informer] : informers_) {
      Task<void> stop = informer->Stop();
      co_await std::move(stop);
    }
  }

 private:
  Env& env_;
  ApiClient& client_;
  std::map<std::string, std::unique_ptr<Informer>> informers_;
};

}  // namespace keelson::client
