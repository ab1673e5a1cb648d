// ControllerManager: all controllers of the master over one set of shared informers, speaking to the API as
// any client does. Used by `keelson master` and by the simulation.
#pragma once

#include <absl/status/status.h>
#include <absl/time/time.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/env.h"
#include "base/task.h"
#include "client/api_client.h"
#include "client/event_recorder.h"
#include "client/informer_factory.h"
#include "master/controllers/controller.h"
#include "master/controllers/node_health.h"

namespace keelson::master {

struct ControllerManagerOptions {
  std::string service_cidr = "10.96.0.0/12";
  std::string cluster_cidr = "10.244.0.0/16";  // of all pods; nodes take /24 blocks of it
  std::string advertise_address;
  uint16_t secure_port = 6443;
  absl::Duration node_monitor_period = absl::Seconds(5);
  absl::Duration node_monitor_grace_period = absl::Seconds(50);
  EvictionRates eviction;
};

class ControllerManager {
 public:
  ControllerManager(Env& env, client::ApiClient& client, ControllerManagerOptions options);
  ~ControllerManager();  // after Stop()

  // For controllers of other folders (the scheduler); before Start(). The context lives as long as the
  // manager.
  using Factory = std::function<std::unique_ptr<Controller>(ControllerContext)>;
  void Add(Factory factory);

  // Returns when the informers have synced and every controller runs.
  Task<absl::Status> Start();
  Task<void> Stop();

 private:
  // With an event recorder of that component, shared by all who name it.
  ControllerContext ContextFor(const std::string& component);

  Env& env_;
  client::ApiClient& client_;
  const ControllerManagerOptions options_;
  client::InformerFactory informers_;
  std::map<std::string, std::unique_ptr<client::EventRecorder>> recorders_;  // by component
  std::vector<std::unique_ptr<Controller>> controllers_;
};

}  // namespace keelson::master
