// EventRecorder: core/v1 Events about objects, best effort: repeats are counted up on one Event (as
// upstream's correlator), floods about one object are dropped, and nobody ever waits for it.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <deque>
#include <string>

#include "api/core/v1/event.pb.h"
#include "base/env.h"
#include "base/task.h"
#include "client/api_client.h"

namespace keelson::client {

class EventRecorder {
 public:
  // `component` is source.component and reportingComponent ("kubelet"), `host` source.host (may be "").
  EventRecorder(Env& env, ApiClient& client, std::string component, std::string host);
  ~EventRecorder();

  // type "Normal" or "Warning". `field_path` as in "spec.containers{web}".
  void Event(const Message& object, const std::string& type, const std::string& reason,
             const std::string& message, const std::string& field_path = "");
  Task<void> Stop();

 private:
  struct Known {
    std::string ns, name;
    int32_t count = 0;
    absl::Time last;
  };
  struct Bucket {
    double tokens = 25;
    absl::Time refilled;
  };
  Task<void> Run();
  bool Allow(const std::string& object_key);

  Env& env_;
  ApiClient& client_;
  const std::string component_, host_;
  Scope scope_;
  uint64_t last_name_ = 0;
  Channel<::k8s::core::v1::Event> queue_;
  absl::flat_hash_map<std::string, Known> known_;     // bounded
  absl::flat_hash_map<std::string, Bucket> buckets_;  // bounded
};

}  // namespace keelson::client
