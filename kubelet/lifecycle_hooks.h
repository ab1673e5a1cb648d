// postStart and preStop handlers: exec, httpGet, sleep. (tcpSocket is accepted by the API and fails when its
// time comes, as upstream.)
#pragma once

#include <absl/status/status.h>
#include <absl/time/time.h>

#include <memory>
#include <string>

#include "base/env.h"
#include "base/task.h"
#include "cri/runtime_service.h"
#include "kubelet/types.h"

namespace keelson::net {
class HttpClient;
}

namespace keelson::kubelet {

class LifecycleHooks {
 public:
  // Both outlive it.
  LifecycleHooks(Env& env, cri::RuntimeService& runtime);
  ~LifecycleHooks();

  // Runs to its end or until `timeout`. `pod_ip` is where httpGet goes without a host of its own. An error
  // says what the handler answered.
  Task<absl::Status> Run(PodPtr pod, corev1::Container container, std::string container_id,
                         corev1::LifecycleHandler handler, std::string pod_ip, absl::Duration timeout);

 private:
  Task<absl::Status> RunHttp(corev1::Container container, corev1::HTTPGetAction action, std::string pod_ip,
                             absl::Duration timeout);
  Env& env_;
  cri::RuntimeService& runtime_;
  std::unique_ptr<net::HttpClient> http_;  // made at first use
};

// The number of a port given by number or by name among the container's ports. InvalidArgument otherwise.
absl::StatusOr<int> ResolvePort(const ::k8s::util::intstr::IntOrString& port,
                                const corev1::Container& container);

}  // namespace keelson::kubelet
