#include "master/apiserver/pod_log.h"

#include "api/core/v1/pod.pb.h"
#include "api/status_error.h"
#include "base/strings.h"
#include "master/apiserver/kubelet_endpoint.h"

namespace keelson::master {
namespace {

using ::k8s::core::v1::Pod;

constexpr size_t kMaxErrorBytes = 64 << 10;

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
  absl::StatusOr<net::HttpEndpoint> found =
      KubeletEndpoint(pipeline_, pod.spec().node_name(), options_.kubelet_tls);
  if (!found.ok()) co_return found.status();
  const net::HttpEndpoint endpoint = *std::move(found);
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
