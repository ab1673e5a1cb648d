#include "kubelet/lifecycle_hooks.h"

#include <absl/strings/numbers.h>

#include "api/int_or_string.h"
#include "base/status.h"
#include "net/http_client.h"

namespace keelson::kubelet {

absl::StatusOr<int> ResolvePort(const ::k8s::util::intstr::IntOrString& port,
                                const corev1::Container& container) {
  int number = 0;
  if (api::IsInt(port)) {
    number = port.int_val();
  } else if (!absl::SimpleAtoi(port.str_val(), &number)) {
    for (const auto& p : container.ports()) {
      if (p.name() == port.str_val()) number = p.container_port();
    }
  }
  if (number <= 0 || number > 65535) {
    return absl::InvalidArgumentError(StrCat("couldn't find port: ", api::ToString(port)));
  }
  return number;
}

LifecycleHooks::LifecycleHooks(Env& env, cri::RuntimeService& runtime) : env_(env), runtime_(runtime) {}
LifecycleHooks::~LifecycleHooks() = default;

Task<absl::Status> LifecycleHooks::RunHttp(corev1::Container container, corev1::HTTPGetAction action,
                                           std::string pod_ip, absl::Duration timeout) {
  CO_ASSIGN_OR_RETURN_SYNC(int port, ResolvePort(action.port(), container));
  net::HttpEndpoint endpoint;
  endpoint.host = action.host().empty() ? pod_ip : action.host();
  endpoint.port = static_cast<uint16_t>(port);
  if (action.scheme() == "HTTPS") {
    net::TlsClientConfig tls;
    tls.insecure_skip_verify = true;  // a pod's own certificate is nobody's business (as upstream)
    CO_ASSIGN_OR_RETURN_SYNC(endpoint.tls, net::TlsClientContext::Create(tls));
  }
  if (http_ == nullptr) {
    net::HttpClientOptions options;
    options.user_agent = "kube-lifecycle/1.37";
    options.max_idle_per_endpoint = 0;
    http_ = std::make_unique<net::HttpClient>(&env_, options);
  }
  net::HttpClientRequest request;
  request.target =
      action.path().empty() || action.path()[0] != '/' ? StrCat("/", action.path()) : action.path();
  for (const auto& h : action.http_headers()) request.headers.Add(h.name(), h.value());
  request.timeout = timeout;
  CO_ASSIGN_OR_RETURN(net::HttpClientResponse response, http_->Do(std::move(endpoint), std::move(request)));
  if (response.status < 200 || response.status >= 400) {
    co_return absl::UnavailableError(StrCat("HTTP lifecycle hook answered ", response.status));
  }
  co_return absl::OkStatus();
}

Task<absl::Status> LifecycleHooks::Run(PodPtr pod, corev1::Container container, std::string container_id,
                                       corev1::LifecycleHandler handler, std::string pod_ip,
                                       absl::Duration timeout) {
  if (handler.has_exec()) {
    criv1::ExecSyncRequest request;
    request.set_container_id(container_id);
    *request.mutable_cmd() = handler.exec().command();
    request.set_timeout(std::max<int64_t>(absl::ToInt64Seconds(timeout), 1));
    CO_ASSIGN_OR_RETURN(criv1::ExecSyncResponse response, runtime_.ExecSync(std::move(request)));
    if (response.exit_code() != 0) {
      std::string output = response.stdout() + response.stderr();
      output.resize(std::min<size_t>(output.size(), 1024));
      co_return absl::UnavailableError(
          StrCat("command '", handler.exec().command_size() > 0 ? handler.exec().command(0) : "",
                 "' exited with ", response.exit_code(), ": ", output));
    }
    co_return absl::OkStatus();
  }
  if (handler.has_http_get()) {
    Task<absl::Status> task = RunHttp(std::move(container), handler.http_get(), std::move(pod_ip), timeout);
    co_return co_await std::move(task);
  }
  if (handler.has_sleep()) {
    Task<void> sleep = env_.clock().Sleep(std::min(absl::Seconds(handler.sleep().seconds()), timeout));
    co_await std::move(sleep);
    co_return absl::OkStatus();
  }
  co_return absl::InvalidArgumentError(
      StrCat("invalid handler: ", handler.has_tcp_socket() ? "tcpSocket is none of" : "there is none of",
             " exec, httpGet and sleep"));
}

}  // namespace keelson::kubelet
