#include "master/apiserver/kubelet_endpoint.h"

#include <vector>

#include "api/core/v1/node.pb.h"
#include "api/status_error.h"
#include "base/strings.h"

namespace keelson::master {
namespace {

using ::k8s::core::v1::Node;
using ::k8s::core::v1::Pod;

constexpr int kDefaultKubeletPort = 10250;

// Names of the pod's containers, init containers first, as upstream lists them.
std::vector<std::string> ContainerNames(const Pod& pod, bool with_init) {
  std::vector<std::string> names;
  if (with_init) {
    for (const auto& c : pod.spec().init_containers()) names.push_back(c.name());
  }
  for (const auto& c : pod.spec().containers()) names.push_back(c.name());
  return names;
}

std::string NodeAddress(const Node& node) {
  for (const char* type : {"InternalIP", "ExternalIP", "Hostname"}) {
    for (const auto& a : node.status().addresses()) {
      if (a.type() == type && !a.address().empty()) return a.address();
    }
  }
  return "";
}

}  // namespace

absl::StatusOr<std::string> ChooseContainer(const Pod& pod, const std::string& asked) {
  std::vector<std::string> main = ContainerNames(pod, false), all = ContainerNames(pod, true);
  if (asked.empty()) {
    auto preferred = pod.metadata().annotations().find("kubectl.kubernetes.io/default-container");
    if (preferred != pod.metadata().annotations().end()) return ChooseContainer(pod, preferred->second);
    if (main.size() == 1) return main[0];
    std::string list;
    for (const std::string& name : main) StrAppend(&list, list.empty() ? "" : " ", name);
    std::string message = StrCat("a container name must be specified for pod ", pod.metadata().name(),
                                 ", choose one of: [", list, "]");
    if (all.size() != main.size()) {
      std::string init;
      for (size_t i = 0; i < all.size() - main.size(); ++i) StrAppend(&init, init.empty() ? "" : " ", all[i]);
      StrAppend(&message, " or one of the init containers: [", init, "]");
    }
    return api::BadRequest(message);
  }
  for (const auto& c : pod.spec().ephemeral_containers())
    all.push_back(c.ephemeral_container_common().name());
  for (const std::string& name : all) {
    if (name == asked) return asked;
  }
  return api::BadRequest(StrCat("container ", asked, " is not valid for pod ", pod.metadata().name()));
}

absl::StatusOr<net::HttpEndpoint> KubeletEndpoint(const Pipeline& pipeline, const std::string& node_name,
                                                  const std::shared_ptr<net::TlsClientContext>& tls) {
  api::ObjectPtr object = pipeline.Read("", "nodes", "", node_name);
  if (object == nullptr) return api::NotFound({"", "nodes"}, node_name);
  const Node& node = static_cast<const Node&>(*object);
  if (tls == nullptr) return api::ServiceUnavailable("the API server has no certificate for kubelets");
  net::HttpEndpoint endpoint;
  endpoint.host = NodeAddress(node);
  const int port = node.status().daemon_endpoints().kubelet_endpoint().port();
  endpoint.port = static_cast<uint16_t>(port == 0 ? kDefaultKubeletPort : port);
  endpoint.tls = tls;
  if (endpoint.host.empty())
    return api::InternalError(StrCat("node ", node_name, " has no address in its status"));
  return endpoint;
}

}  // namespace keelson::master
