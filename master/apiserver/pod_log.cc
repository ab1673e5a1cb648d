#include "master/apiserver/pod_log.h"

#include "api/core/v1/node.pb.h"
#include "api/core/v1/pod.pb.h"
#include "api/status_error.h"
#include "base/strings.h"

namespace keelson::master {
namespace {

using ::k8s::core::v1::Node;
using ::k8s::core::v1::Pod;

constexpr size_t kMaxErrorBytes = 64 << 10;
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

absl::StatusOr<std::string> ChooseContainer(const Pod& pod, const std::string& asked) {
  std::vector<std::string> main = ContainerNames(pod, false), all = ContainerNames(pod, true);
  if (asked.empty()) {
    auto preferred = pod.metadata().annotations().find("kubectl.kubernetes.io/default-container");
    if (preferred != pod.metadata().annotations().end()) return ChooseContainer(pod, preferred->second);
    if (main.size() == 1 && all.size() == 1) return main[0];
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
  for (const std::string& name : all) {
    if (name == asked) return asked;
  }
  return api::BadRequest(StrCat("container ", asked, " is not valid for pod ", pod.metadata().name()));
}

std::string NodeAddress(const Node& node) {
  for (const char* type : {"InternalIP", "ExternalIP", "Hostname"}) {
    for (const auto& a : node.status().addresses()) {
      if (a.type() == type && !a.address().empty()) return a.address();
    }
  }
  return "";
}

absl::Status KubeletError(int code, std::string body) {
  while (!body.empty() && body.back() == '\n') body.pop_back();
  if (code == 400) return api::BadRequest(body);
  if (code == 404) return api::FromHttpError(404, body);
  return api::InternalError(body.empty() ? StrCat("the kubelet answered with ", code) : body);
}

}  // namespace

PodLogProxy::PodLogProxy(Env& env, Pipeline& pipeline, PodLogOptions options)
    : pipeline_(pipeline), options_(std::move(options)), client_(&env, net::HttpClientOptions()) {}

Task<absl::Status> PodLogProxy::Serve(const ApiRequest& request, const net::QueryParams& query,
                                      net::ResponseWriter& writer) {
  api::ObjectPtr object = pipeline_.Read("", "pods", request.ns, request.name);
  if (object == nullptr) co_return api::NotFound({"", "pods"}, request.name);
  const Pod& pod = static_cast<const Pod&>(*object);
  absl::StatusOr<std::string> container = ChooseContainer(pod, std::string(query.Get("container")));
  if (!container.ok()) co_return container.status();
  net::HttpHeaders headers;
  headers.Add("Content-Type", "text/plain");
  headers.Add("Cache-Control", "no-cache, private");
  if (pod.spec().node_name().empty()) {  // nothing has run yet
    net::HttpResponse empty(200, "text/plain", net::HttpBody());
    Task<absl::Status> send = writer.Send(std::move(empty));
    absl::Status sent = co_await std::move(send);
    co_return absl::OkStatus();
  }
  api::ObjectPtr node_object = pipeline_.Read("", "nodes", "", pod.spec().node_name());
  if (node_object == nullptr) co_return api::NotFound({"", "nodes"}, pod.spec().node_name());
  const Node& node = static_cast<const Node&>(*node_object);
  if (options_.kubelet_tls == nullptr)
    co_return api::ServiceUnavailable("the API server has no certificate for kubelets");

  net::HttpEndpoint endpoint;
  endpoint.host = NodeAddress(node);
  const int port = node.status().daemon_endpoints().kubelet_endpoint().port();
  endpoint.port = static_cast<uint16_t>(port == 0 ? kDefaultKubeletPort : port);
  endpoint.tls = options_.kubelet_tls;
  if (endpoint.host.empty()) {
    co_return api::InternalError(StrCat("node ", pod.spec().node_name(), " has no address in its status"));
  }
  net::QueryParams forwarded;
  for (const auto& [name, value] : query) {
    if (name != "container" && name != "insecureSkipTLSVerifyBackend") forwarded.Add(name, value);
  }
  net::HttpClientRequest get;
  get.target = StrCat("/containerLogs/", net::PercentEncode(request.ns), "/",
                      net::PercentEncode(request.name), "/", net::PercentEncode(*container));
  if (!forwarded.empty()) StrAppend(&get.target, "?", forwarded.Encode());
  Task<absl::StatusOr<std::unique_ptr<net::HttpResponseStream>>> open =
      client_.Open(endpoint, std::move(get));
  absl::StatusOr<std::unique_ptr<net::HttpResponseStream>> stream = co_await std::move(open);
  if (!stream.ok()) {
    co_return api::InternalError(StrCat("Get \"https://", net::JoinHostPort(endpoint.host, endpoint.port),
                                        "/containerLogs/", request.ns, "/", request.name, "/", *container,
                                        "\": ", Sv(stream.status().message())));
  }
  if ((*stream)->status() != 200) {
    const int code = (*stream)->status();
    Task<absl::StatusOr<std::string>> read = (*stream)->ReadAll(kMaxErrorBytes, absl::Seconds(10));
    absl::StatusOr<std::string> body = co_await std::move(read);
    co_return KubeletError(code, body.ok() ? *std::move(body) : std::string());
  }
  Task<absl::Status> start = writer.StartStream(200, std::move(headers));
  absl::Status status = co_await std::move(start);
  while (status.ok()) {
    Task<absl::StatusOr<std::string>> read = (*stream)->Read();
    absl::StatusOr<std::string> piece = co_await std::move(read);
    if (!piece.ok()) co_return piece.status();
    if (piece->empty()) break;
    Task<absl::Status> write = writer.Write(net::MakeSharedBytes(*std::move(piece)));
    status = co_await std::move(write);
  }
  co_return absl::OkStatus();
}

}  // namespace keelson::master
