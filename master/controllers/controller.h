// What every controller is given, and the interface the ControllerManager drives.
#pragma once

#include <string>

#include "base/env.h"
#include "base/task.h"
#include "client/api_client.h"
#include "client/event_recorder.h"
#include "client/informer_factory.h"

namespace keelson::master {

struct ControllerContext {
  Env& env;
  client::ApiClient& client;
  client::InformerFactory& informers;
  client::EventRecorder& events;
};

// Constructed before the informers start (it adds handlers and indexes), started after they synced.
class Controller {
 public:
  virtual ~Controller() = default;
  virtual std::string name() const = 0;
  virtual void Start() = 0;
  virtual Task<void> Stop() = 0;
};

// Index of Pods by the uid of their controlling owner. Adding it twice is one index.
inline constexpr char kPodsByController[] = "controller-uid";
// Index of any namespaced resource by namespace.
inline constexpr char kByNamespace[] = "namespace";
void AddPodsByControllerIndex(client::Informer& pods);
void AddByNamespaceIndex(client::Informer& informer);

}  // namespace keelson::master
