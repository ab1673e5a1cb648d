#include "master/controllers/controller_manager.h"

#include "master/controllers/endpoints_controller.h"
#include "master/controllers/replication_controller.h"

namespace keelson::master {

ControllerManager::ControllerManager(Env& env, client::ApiClient& client, ControllerManagerOptions options)
    : env_(env),
      client_(client),
      options_(std::move(options)),
      informers_(env, client),
      events_(env, client, "keelson-controller-manager", "") {
  controllers_.push_back(std::make_unique<ReplicationController>(context()));
  controllers_.push_back(std::make_unique<EndpointsController>(context()));
}

ControllerManager::~ControllerManager() = default;

void ControllerManager::Add(Factory factory) { controllers_.push_back(factory(context())); }

Task<absl::Status> ControllerManager::Start() {
  informers_.Start();
  Task<void> sync = informers_.WaitForSync();
  co_await std::move(sync);
  for (const auto& controller : controllers_) controller->Start();
  co_return absl::OkStatus();
}

Task<void> ControllerManager::Stop() {
  for (const auto& controller : controllers_) {
    Task<void> stop = controller->Stop();
    co_await std::move(stop);
  }
  Task<void> stop_informers = informers_.Stop();
  co_await std::move(stop_informers);
  Task<void> stop_events = events_.Stop();
  co_await std::move(stop_events);
}

}  // namespace keelson::master
