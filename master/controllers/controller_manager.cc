#include "master/controllers/controller_manager.h"

#include "master/controllers/bootstrap_controller.h"
#include "master/controllers/endpoint_slice_mirroring_controller.h"
#include "master/controllers/endpoints_controller.h"
#include "master/controllers/event_ttl_controller.h"
#include "master/controllers/garbage_collector.h"
#include "master/controllers/namespace_controller.h"
#include "master/controllers/node_ipam_controller.h"
#include "master/controllers/node_lifecycle_controller.h"
#include "master/controllers/pod_gc_controller.h"
#include "master/controllers/replication_controller.h"
#include "master/controllers/service_account_controller.h"

namespace keelson::master {

ControllerManager::ControllerManager(Env& env, client::ApiClient& client, ControllerManagerOptions options)
    : env_(env), client_(client), options_(std::move(options)), informers_(env, client) {
  BootstrapOptions bootstrap{options_.service_cidr, options_.advertise_address, options_.secure_port};
  NodeMonitorOptions monitor;
  monitor.period = options_.node_monitor_period;
  monitor.grace_period = options_.node_monitor_grace_period;
  monitor.eviction = options_.eviction;
  ControllerContext nodes = ContextFor("node-controller");
  ControllerContext common = ContextFor("controllermanager");
  controllers_.push_back(std::make_unique<BootstrapController>(common, bootstrap));
  controllers_.push_back(std::make_unique<ServiceAccountController>(common));
  controllers_.push_back(std::make_unique<ReplicationController>(ContextFor("replication-controller")));
  controllers_.push_back(std::make_unique<EndpointsController>(common));
  controllers_.push_back(
      std::make_unique<EndpointSliceMirroringController>(ContextFor("endpoint-slice-mirroring-controller")));
  controllers_.push_back(std::make_unique<NodeIpamController>(nodes, options_.cluster_cidr));
  controllers_.push_back(std::make_unique<NodeLifecycleController>(nodes, monitor));
  controllers_.push_back(std::make_unique<PodGcController>(common));
  controllers_.push_back(std::make_unique<NamespaceController>(common));
  controllers_.push_back(std::make_unique<GarbageCollector>(common));
  controllers_.push_back(std::make_unique<EventTtlController>(common));
}

ControllerContext ControllerManager::ContextFor(const std::string& component) {
  auto& recorder = recorders_[component];
  if (recorder == nullptr) recorder = std::make_unique<client::EventRecorder>(env_, client_, component, "");
  return {env_, client_, informers_, *recorder};
}

ControllerManager::~ControllerManager() = default;

void ControllerManager::Add(Factory factory) {
  controllers_.push_back(factory(ContextFor("controllermanager")));
}

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
  for (const auto& [component, recorder] : recorders_) {
    Task<void> stop_events = recorder->Stop();
    co_await std::move(stop_events);
  }
}

}  // namespace keelson::master
