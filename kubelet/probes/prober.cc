#include "kubelet/probes/prober.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "api/int_or_string.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/remote/channel.h"
#include "kubelet/environment.h"
#include "kubelet/probes/health.pb.h"
#include "net/tls.h"

namespace keelson::kubelet {
namespace {

constexpr size_t kMaxMessageBytes = 10 << 10;  // of a failed probe's output, as upstream
constexpr int kMaxRedirects = 10;
constexpr char kUserAgent[] = "kube-probe/1.37";

absl::Duration Timeout(const corev1::Probe& probe) {
  return absl::Seconds(std::max(1, probe.timeout_seconds()));
}

class RealProber : public Prober {
 public:
  RealProber(Env& env, cri::RuntimeService& runtime) : env_(env), runtime_(runtime), http_(&env, Options()) {
    net::TlsClientConfig config;
    config.insecure_skip_verify = true;  // upstream: a probe asks for life, not for identity
    auto tls = net::TlsClientContext::Create(config);
    if (tls.ok()) tls_ = *tls;
  }

  Task<absl::StatusOr<ProbeOutcome>> Probe(PodPtr pod, corev1::Container container, corev1::Probe probe,
                                           std::string pod_ip, std::string container_id) override {
    const corev1::ProbeHandler& handler = probe.probe_handler();
    if (handler.has_exec()) {
      Task<absl::StatusOr<ProbeOutcome>> run = Exec(container, probe, container_id);
      co_return co_await std::move(run);
    }
    if (handler.has_http_get()) {
      Task<absl::StatusOr<ProbeOutcome>> run = Http(container, probe, pod_ip);
      co_return co_await std::move(run);
    }
    if (handler.has_tcp_socket()) {
      Task<absl::StatusOr<ProbeOutcome>> run = Tcp(container, probe, pod_ip);
      co_return co_await std::move(run);
    }
    if (handler.has_grpc()) {
      Task<absl::StatusOr<ProbeOutcome>> run = Grpc(probe, pod_ip);
      co_return co_await std::move(run);
    }
    co_return Failure("missing probe handler");
  }

 private:
  static net::HttpClientOptions Options() {
    net::HttpClientOptions options;
    options.user_agent = kUserAgent;
    options.max_idle_per_endpoint = 0;  // each probe asks anew
    return options;
  }

  static ProbeOutcome Failure(std::string message) {
    ProbeOutcome outcome;
    outcome.message = std::move(message);
    if (outcome.message.size() > kMaxMessageBytes) outcome.message.resize(kMaxMessageBytes);
    return outcome;
  }

  Task<absl::StatusOr<ProbeOutcome>> Exec(corev1::Container container, corev1::Probe probe,
                                          std::string container_id) {
    criv1::ExecSyncRequest request;
    request.set_container_id(container_id);
    request.set_timeout(std::max(1, probe.timeout_seconds()));
    auto lookup = [&](std::string_view name) -> const std::string* {
      for (const auto& variable : container.env()) {
        if (variable.name() == name && !variable.has_value_from()) return &variable.value();
      }
      return nullptr;
    };
    for (const std::string& word : probe.probe_handler().exec().command()) {
      request.add_cmd(ExpandVariables(word, lookup));
    }
    Task<absl::StatusOr<criv1::ExecSyncResponse>> call = runtime_.ExecSync(std::move(request));
    absl::StatusOr<criv1::ExecSyncResponse> response = co_await std::move(call);
    if (absl::IsDeadlineExceeded(response.status())) {
      co_return Failure(StrCat("command timed out after ", probe.timeout_seconds(), "s"));
    }
    if (!response.ok()) co_return response.status();
    if (response->exit_code() != 0) co_return Failure(StrCat(response->stdout(), response->stderr()));
    ProbeOutcome outcome;
    outcome.success = true;
    co_return outcome;
  }

  Task<absl::StatusOr<ProbeOutcome>> Tcp(corev1::Container container, corev1::Probe probe,
                                         std::string pod_ip) {
    const corev1::TCPSocketAction& action = probe.probe_handler().tcp_socket();
    absl::StatusOr<uint16_t> port = ProbePort(container, action.port());
    if (!port.ok()) co_return Failure(std::string(port.status().message()));
    net::HttpEndpoint endpoint;
    endpoint.host = action.host().empty() ? pod_ip : action.host();
    endpoint.port = *port;
    Task<absl::StatusOr<std::unique_ptr<net::ByteStream>>> connect =
        net::Connect(&env_, endpoint, Timeout(probe));
    absl::StatusOr<std::unique_ptr<net::ByteStream>> stream = co_await std::move(connect);
    if (!stream.ok()) co_return Failure(std::string(stream.status().message()));
    (*stream)->Close();
    ProbeOutcome outcome;
    outcome.success = true;
    co_return outcome;
  }

  Task<absl::StatusOr<ProbeOutcome>> Http(corev1::Container container, corev1::Probe probe,
                                          std::string pod_ip) {
    absl::StatusOr<HttpProbeTarget> target =
        MakeHttpProbe(container, probe.probe_handler().http_get(), pod_ip);
    if (!target.ok()) co_return Failure(std::string(target.status().message()));
    absl::Duration deadline = env_.clock().Monotonic() + Timeout(probe);
    for (int i = 0; i <= kMaxRedirects; ++i) {
      net::HttpEndpoint endpoint = target->endpoint;
      if (target->https) endpoint.tls = tls_;
      net::HttpClientRequest request = target->request;
      request.timeout = std::max(absl::Milliseconds(1), deadline - env_.clock().Monotonic());
      // Only the head counts; a large or endless body is left unread.
      Task<absl::StatusOr<std::unique_ptr<net::HttpResponseStream>>> open =
          http_.Open(endpoint, std::move(request));
      absl::StatusOr<std::unique_ptr<net::HttpResponseStream>> response = co_await std::move(open);
      if (!response.ok())
        co_return Failure(StrCat("Get \"", Url(*target), "\": ", response.status().message()));
      int status = (*response)->status();
      std::string location((*response)->headers().Get("Location"));
      if (status >= 200 && status < 400) {
        bool local = status >= 300 && !location.empty() && Redirect(location, &*target);
        if (local) continue;
        ProbeOutcome outcome;
        outcome.success = true;
        co_return outcome;
      }
      co_return Failure(StrCat("HTTP probe failed with statuscode: ", status));
    }
    co_return Failure(StrCat("Get \"", Url(*target), "\": stopped after ", kMaxRedirects, " redirects"));
  }

  // The health protocol: SERVING within the time is life, everything else is not.
  Task<absl::StatusOr<ProbeOutcome>> Grpc(corev1::Probe probe, std::string pod_ip) {
    const corev1::GRPCAction& action = probe.probe_handler().grpc();
    if (action.port() < 1 || action.port() > 65535) {
      co_return Failure(StrCat("couldn't find a port for ", action.port()));
    }
    const std::string server = net::JoinHostPort(pod_ip, static_cast<uint16_t>(action.port()));
    std::shared_ptr<cri::GrpcChannel> channel =
        cri::GrpcChannel::OpenTcp(env_.executor(), server, kUserAgent);
    auto request = std::make_shared<grpc::health::v1::HealthCheckRequest>();
    request->set_service(action.service());
    auto response = std::make_shared<grpc::health::v1::HealthCheckResponse>();
    Task<absl::Status> call =
        channel->Call("/grpc.health.v1.Health/Check", Timeout(probe), request, response);
    absl::Status status = co_await std::move(call);
    if (absl::IsUnavailable(status)) {
      co_return Failure(StrCat("failed to connect to gRPC service ", server, ": ", status.message()));
    }
    if (absl::IsDeadlineExceeded(status)) {
      co_return Failure(
          StrCat("timeout: health rpc did not complete within ", absl::FormatDuration(Timeout(probe))));
    }
    if (absl::IsUnimplemented(status)) {
      co_return Failure(
          StrCat("this server does not implement the grpc health protocol "
                 "(grpc.health.v1.Health): ",
                 status.message()));
    }
    if (!status.ok()) co_return Failure(StrCat("health rpc probe failed: ", status.message()));
    ProbeOutcome outcome;
    outcome.success = response->status() == grpc::health::v1::HealthCheckResponse::SERVING;
    if (!outcome.success) {
      outcome.message =
          StrCat("service unhealthy (responded with \"",
                 grpc::health::v1::HealthCheckResponse::ServingStatus_Name(response->status()), "\")");
    }
    co_return outcome;
  }

  static std::string Url(const HttpProbeTarget& target) {
    return StrCat(target.https ? "https" : "http", "://",
                  net::JoinHostPort(target.endpoint.host, target.endpoint.port), target.request.target);
  }

  // Follows to the same host only; elsewhere the redirect itself is the answer, as upstream.
  static bool Redirect(const std::string& location, HttpProbeTarget* target) {
    if (location.starts_with('/') && !location.starts_with("//")) {
      target->request.target = location;
      return true;
    }
    auto url = net::HttpUrl::Parse(location);
    if (!url.ok() || url->host != target->endpoint.host) return false;
    target->endpoint.port = url->port;
    target->https = url->tls;
    target->request.target = url->target;
    return true;
  }

  Env& env_;
  cri::RuntimeService& runtime_;
  net::HttpClient http_;
  std::shared_ptr<net::TlsClientContext> tls_;
};

}  // namespace

std::unique_ptr<Prober> NewProber(Env& env, cri::RuntimeService& runtime) {
  return std::make_unique<RealProber>(env, runtime);
}

absl::StatusOr<uint16_t> ProbePort(const corev1::Container& container,
                                   const ::k8s::util::intstr::IntOrString& port) {
  int32_t number = api::IntValue(port);
  if (!api::IsInt(port)) {
    for (const auto& known : container.ports()) {
      if (known.name() == port.str_val()) number = known.container_port();
    }
  }
  if (number < 1 || number > 65535) {
    return absl::InvalidArgumentError(StrCat("couldn't find a port for ", api::ToString(port)));
  }
  return static_cast<uint16_t>(number);
}

absl::StatusOr<HttpProbeTarget> MakeHttpProbe(const corev1::Container& container,
                                              const corev1::HTTPGetAction& action, std::string_view pod_ip) {
  HttpProbeTarget target;
  ASSIGN_OR_RETURN(target.endpoint.port, ProbePort(container, action.port()));
  target.endpoint.host = action.host().empty() ? std::string(pod_ip) : action.host();
  target.https = action.scheme() == "HTTPS" || action.scheme() == "https";
  target.request.target = action.path().starts_with('/') ? action.path() : StrCat("/", action.path());
  for (const auto& header : action.http_headers()) target.request.headers.Add(header.name(), header.value());
  if (!target.request.headers.Has("User-Agent")) target.request.headers.Add("User-Agent", kUserAgent);
  if (!target.request.headers.Has("Accept")) target.request.headers.Add("Accept", "*/*");
  return target;
}

}  // namespace keelson::kubelet
