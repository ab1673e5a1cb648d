// Prober: one attempt of one probe. No state; what the verdicts mean is probe_worker's matter.
#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <memory>
#include <string>
#include <string_view>

#include "base/env.h"
#include "base/task.h"
#include "cri/runtime_service.h"
#include "kubelet/probe_manager.h"
#include "kubelet/types.h"
#include "net/http_client.h"

namespace keelson::kubelet {

struct ProbeOutcome {
  bool success = false;
  std::string message;  // why it failed: text of the event Unhealthy
};

class Prober {
 public:
  virtual ~Prober() = default;
  // An error is not a verdict: the attempt is thrown away (the runtime did not answer). `container_id`
  // without "type://".
  virtual Task<absl::StatusOr<ProbeOutcome>> Probe(PodPtr pod, corev1::Container container,
                                                   corev1::Probe probe, std::string pod_ip,
                                                   std::string container_id) = 0;
};

// httpGet, tcpSocket, exec and grpc (KEP-2727). Both outlive it.
std::unique_ptr<Prober> NewProber(Env& env, cri::RuntimeService& runtime);

// ---- pure parts, for tests ----
// Port by number, or by name of one of the container's ports; InvalidArgument otherwise.
absl::StatusOr<uint16_t> ProbePort(const corev1::Container& container,
                                   const ::k8s::util::intstr::IntOrString& port);
struct HttpProbeTarget {
  net::HttpEndpoint endpoint;  // without tls
  bool https = false;
  net::HttpClientRequest request;
};
absl::StatusOr<HttpProbeTarget> MakeHttpProbe(const corev1::Container& container,
                                              const corev1::HTTPGetAction& action, std::string_view pod_ip);

}  // namespace keelson::kubelet
