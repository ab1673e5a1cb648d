// NodeRegistrar: creates the Node, keeps its status and its Lease current. Every 10 s it measures; it writes
// when something changed or 5 minutes have passed; the Lease is renewed every quarter of its duration.
#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "api/coordination/v1/coordination.pb.h"
#include "base/env.h"
#include "base/task.h"
#include "client/api_client.h"
#include "cri/image_service.h"
#include "cri/runtime_service.h"
#include "kubelet/node_status.h"
#include "kubelet/options.h"

namespace keelson::kubelet {

class NodeRegistrar {
 public:
  // All outlive Stop(). `client` null: measures only. `pleg_health` is asked at each measurement.
  NodeRegistrar(Env& env, client::ApiClient* client, cri::RuntimeService& runtime, cri::ImageService& images,
                const KubeletOptions& options, std::function<absl::Status()> pleg_health);
  ~NodeRegistrar();

  // Reads the machine; call once before Start(). Errors of the configuration (bad quantities) come from here.
  absl::Status Init();
  void Start();
  // Measures and writes at once, because something important changed.
  void Poke();
  Task<void> Stop();

  const MachineInfo& machine() const { return machine_; }
  const std::vector<std::string>& node_ips() const { return node_ips_; }
  const ResourceList& allocatable() const { return allocatable_; }
  const NodeHealth& health() const { return health_; }
  // "containerd"; "" until the runtime has answered.
  const std::string& runtime_name() const { return runtime_name_; }
  bool systemd_cgroups() const { return systemd_cgroups_; }
  // Whether that is what the runtime said, or it is too old to say.
  bool driver_known() const { return driver_known_; }
  bool registered() const { return registered_; }
  // The Node as last seen; null before registration.
  std::shared_ptr<const ::k8s::core::v1::Node> node() const { return node_; }
  // Asks the runtime for version, cgroup driver and conditions. Unavailable: not there yet.
  Task<absl::Status> MeasureRuntime();
  // Called when NodeHealth changed; on the loop.
  void set_on_change(std::function<void()> fn) { on_change_ = std::move(fn); }
  // Fills in the pressure conditions; asked at each measurement.
  void set_pressure(std::function<void(NodeHealth*)> fn) { pressure_ = std::move(fn); }

 private:
  Task<void> StatusLoop();
  Task<void> LeaseLoop();
  Task<absl::Status> Register();
  Task<absl::Status> WriteStatus();
  // What has changed against node_; everything, `force`, also when nothing has.
  Task<absl::Status> PatchStatus(bool force);
  Task<absl::Status> RenewLease();
  Task<void> TellPodCidr(std::string cidr);

  Env& env_;
  client::ApiClient* client_;
  cri::RuntimeService& runtime_;
  cri::ImageService& images_;
  const KubeletOptions& options_;
  std::function<absl::Status()> pleg_health_;
  std::function<void()> on_change_;
  std::function<void(NodeHealth*)> pressure_;
  Scope scope_;
  MachineInfo machine_;
  std::vector<std::string> node_ips_;
  ResourceList allocatable_;
  NodeHealth health_;
  std::string runtime_name_, runtime_version_;
  std::vector<criv1::RuntimeHandler> handlers_;
  std::vector<criv1::Image> image_list_;
  absl::Duration images_read_ = -absl::InfiniteDuration();  // monotonic
  bool systemd_cgroups_ = false;
  bool driver_known_ = false;
  bool registered_ = false;
  std::shared_ptr<const ::k8s::core::v1::Node> node_;
  std::shared_ptr<const ::k8s::coordination::v1::Lease> lease_;
  std::string pod_cidr_;
  absl::Duration last_report_;
  bool poked_ = false;
  WaitList wake_;
};

}  // namespace keelson::kubelet
