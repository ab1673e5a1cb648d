#include "master/apiserver/pod_stream.h"

#include <algorithm>
#include <utility>

#include "api/core/v1/pod.pb.h"
#include "api/status_error.h"
#include "base/strings.h"
#include "master/apiserver/kubelet_endpoint.h"
#include "net/remote_command.h"
#include "net/upgrade_proxy.h"

namespace keelson::master {
namespace {

using ::k8s::core::v1::Pod;

bool IsTrue(const net::QueryParams& query, std::string_view name) {
  std::string_view value = query.Get(name);
  return value == "true" || value == "1" || value == "True" || value == "TRUE" || value == "t" ||
         value == "T";
}

// Of the client's protocols the one that we translate; "" when the bytes go through as they are.
std::string Translated(const net::HttpHeaders& headers, const std::string& subresource) {
  if (net::UpgradeKindOf(headers) != net::UpgradeKind::kWebSocket) return "";
  const std::string wanted = subresource == "portforward" ? net::kTunneledPortForward : net::kChannelV5;
  for (const std::string& name : net::OfferedProtocols(headers, net::UpgradeKind::kWebSocket)) {
    if (name == wanted) return wanted;
  }
  return "";
}

}  // namespace

bool PodStreamProxy::IsStream(const std::string& subresource) {
  return subresource == "exec" || subresource == "attach" || subresource == "portforward";
}

absl::StatusOr<net::QueryParams> KubeletStreamQuery(const std::string& subresource,
                                                    const net::QueryParams& query,
                                                    TranslatedStreams* streams) {
  net::QueryParams out;
  if (subresource == "portforward") {
    for (std::string_view port : query.GetAll("ports")) out.Add("port", std::string(port));
    return out;
  }
  streams->has_stdin = IsTrue(query, "stdin");
  streams->has_stdout = IsTrue(query, "stdout");
  streams->has_stderr = IsTrue(query, "stderr");
  streams->tty = IsTrue(query, "tty");
  if (streams->tty) streams->has_stderr = false;
  if (!streams->has_stdin && !streams->has_stdout && !streams->has_stderr)
    return api::BadRequest("you must specify at least one of stdin, stdout, stderr");
  if (subresource == "exec") {
    const auto command = query.GetAll("command");
    if (command.empty() || command[0].empty())
      return api::BadRequest("you must specify at least one command for the exec: ?command=");
    for (std::string_view word : command) out.Add("command", std::string(word));
  }
  if (streams->has_stdin) out.Add("input", "1");
  if (streams->has_stdout) out.Add("output", "1");
  if (streams->has_stderr) out.Add("error", "1");
  if (streams->tty) out.Add("tty", "1");
  return out;
}

PodStreamProxy::PodStreamProxy(Env& env, Pipeline& pipeline,
                               std::shared_ptr<net::TlsClientContext> kubelet_tls)
    : env_(env),
      pipeline_(pipeline),
      kubelet_tls_(std::move(kubelet_tls)),
      client_(&env, net::HttpClientOptions()),
      scope_(env.executor()) {}

Task<absl::Status> PodStreamProxy::Serve(ApiRequest request, net::HttpRequest http,
                                         net::ResponseWriter& writer, int* code) {
  api::ObjectPtr object = pipeline_.Read("", "pods", request.ns, request.name);
  if (object == nullptr) co_return api::NotFound({"", "pods"}, request.name);
  const Pod& pod = static_cast<const Pod&>(*object);
  const std::string& what = request.subresource;
  std::string target = StrCat(what == "portforward" ? "/portForward" : StrCat("/", what), "/",
                              net::PercentEncode(request.ns), "/", net::PercentEncode(request.name));
  if (what != "portforward") {
    absl::StatusOr<std::string> container =
        ChooseContainer(pod, std::string(http.target.query.Get("container")));
    if (!container.ok()) co_return container.status();
    // By its UID, so that a pod made anew under this name is not taken for it.
    StrAppend(&target, "/", net::PercentEncode(pod.metadata().uid()), "/", net::PercentEncode(*container));
  } else {
    StrAppend(&target, "/", net::PercentEncode(pod.metadata().uid()));
  }
  TranslatedStreams streams;
  absl::StatusOr<net::QueryParams> query = KubeletStreamQuery(what, http.target.query, &streams);
  if (!query.ok()) co_return query.status();
  if (!query->empty()) StrAppend(&target, "?", query->Encode());
  // A plain GET or POST is refused here, and a browser's page of another origin.
  absl::Status upgradable = net::CheckUpgrade(http);
  if (absl::IsPermissionDenied(upgradable))
    co_return api::Forbidden({"", StrCat("pods/", what)}, request.name, Sv(upgradable.message()));
  if (!upgradable.ok()) co_return api::BadRequest(Sv(upgradable.message()));
  if (pod.spec().node_name().empty())
    co_return api::BadRequest(StrCat("pod ", request.name, " does not have a host assigned"));
  absl::StatusOr<net::HttpEndpoint> endpoint =
      KubeletEndpoint(pipeline_, pod.spec().node_name(), kubelet_tls_);
  if (!endpoint.ok()) co_return endpoint.status();

  net::UpgradeProxy proxy;
  proxy.client = &client_;
  proxy.scope = &scope_;
  proxy.clock = &env_.clock();
  const std::string where = net::JoinHostPort(endpoint->host, endpoint->port);
  const std::string protocol = Translated(http.headers, what);
  std::optional<net::UpgradeRefusal> refusal;
  if (protocol.empty()) {
    Task<absl::StatusOr<std::optional<net::UpgradeRefusal>>> run =
        net::ProxyUpgrade(proxy, *std::move(endpoint), target, std::move(http), &writer);
    absl::StatusOr<std::optional<net::UpgradeRefusal>> result = co_await std::move(run);
    if (!result.ok())
      co_return api::InternalError(
          StrCat("error dialing the kubelet at ", where, ": ", Sv(result.status().message())));
    refusal = *std::move(result);
  } else {
    const std::string spoken = what == "portforward" ? net::kPortForwardV1 : net::kChannelV4;
    net::HttpHeaders answer = net::UpgradeAnswer(http.headers, net::UpgradeKind::kWebSocket, protocol);
    Task<absl::StatusOr<net::HttpUpgrade>> open =
        net::OpenUpgrade(proxy, *std::move(endpoint), target, std::move(http), spoken);
    absl::StatusOr<net::HttpUpgrade> upgrade = co_await std::move(open);
    if (!upgrade.ok())
      co_return api::InternalError(
          StrCat("error dialing the kubelet at ", where, ": ", Sv(upgrade.status().message())));
    if (upgrade->stream == nullptr) {
      refusal.emplace();
      refusal->status = upgrade->status;
      refusal->body = std::move(upgrade->body);
    } else {
      Task<absl::StatusOr<std::unique_ptr<net::ByteStream>>> hijack = writer.Hijack(101, std::move(answer));
      absl::StatusOr<std::unique_ptr<net::ByteStream>> stream = co_await std::move(hijack);
      if (!stream.ok()) co_return stream.status();
      Task<void> translate;
      if (what == "portforward") {
        translate =
            TranslateTunnel(&scope_, proxy.clock, *std::move(stream), std::move(upgrade->stream), proxy.idle);
      } else {
        translate = TranslateChannels(&scope_, proxy.clock, *std::move(stream), std::move(upgrade->stream),
                                      streams, proxy.idle);
      }
      co_await std::move(translate);
    }
  }
  *code = 101;
  if (!refusal.has_value()) co_return absl::OkStatus();
  // What the kubelet says is for the user: kubectl prints it behind "unable to upgrade connection".
  *code = refusal->status;
  net::HttpResponse response(refusal->status, "text/plain; charset=utf-8", std::move(refusal->body));
  Task<absl::Status> send = writer.Send(std::move(response));
  (void)co_await std::move(send);
  co_return absl::OkStatus();
}

}  // namespace keelson::master
