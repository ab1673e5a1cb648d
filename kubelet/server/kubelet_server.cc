#include "kubelet/server/kubelet_server.h"

#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "api/codec.h"
#include "api/core/v1/pod.pb.h"
#include "api/status_error.h"
#include "api/time.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/status.h"
#include "base/strings.h"
#include "kubelet/server/log_stream.h"
#include "net/pki.h"
#include "net/tls.h"
#include "net/tls_files.h"
#include "net/upgrade_proxy.h"

namespace keelson::kubelet {
namespace {

constexpr char kText[] = "text/plain; charset=utf-8";

Task<void> SendText(net::ResponseWriter& writer, int status, std::string text) {
  net::HttpResponse response(status, kText, std::move(text));
  Task<absl::Status> send = writer.Send(std::move(response));
  (void)co_await std::move(send);
}

Task<void> SendError(net::ResponseWriter& writer, absl::Status status) {
  int code = absl::IsNotFound(status)            ? 404
             : absl::IsInvalidArgument(status)   ? 400
             : absl::IsPermissionDenied(status)  ? 403
             : absl::IsResourceExhausted(status) ? 429
             : absl::IsUnimplemented(status)     ? 501
                                                 : 500;
  Task<void> send = SendText(writer, code, std::string(status.message()));
  co_await std::move(send);
}

absl::StatusOr<bool> BoolParam(const net::QueryParams& query, std::string_view name) {
  if (!query.Has(name)) return false;
  std::string_view text = query.Get(name);
  bool value = true;  // "?follow" alone
  if (!text.empty() && !absl::SimpleAtob(Av(text), &value)) {
    return absl::InvalidArgumentError(StrCat(name, ": \"", text, "\" must be true or false"));
  }
  return value;
}

absl::StatusOr<std::optional<int64_t>> IntParam(const net::QueryParams& query, std::string_view name,
                                                int64_t least) {
  if (!query.Has(name)) return std::optional<int64_t>();
  int64_t value = 0;
  if (!absl::SimpleAtoi(Av(query.Get(name)), &value) || value < least) {
    return absl::InvalidArgumentError(
        StrCat(name, ": \"", query.Get(name), "\" must be a number of at least ", least));
  }
  return std::optional<int64_t>(value);
}

absl::StatusOr<LogRequest> ParseLogRequest(const net::QueryParams& query, absl::Time now) {
  LogRequest request;
  ASSIGN_OR_RETURN(request.follow, BoolParam(query, "follow"));
  ASSIGN_OR_RETURN(request.previous, BoolParam(query, "previous"));
  ASSIGN_OR_RETURN(request.timestamps, BoolParam(query, "timestamps"));
  ASSIGN_OR_RETURN(request.tail_lines, IntParam(query, "tailLines", 0));
  ASSIGN_OR_RETURN(request.limit_bytes, IntParam(query, "limitBytes", 1));
  ASSIGN_OR_RETURN(std::optional<int64_t> since_seconds, IntParam(query, "sinceSeconds", 1));
  if (since_seconds.has_value() && query.Has("sinceTime")) {
    return absl::InvalidArgumentError("sinceSeconds, sinceTime: at most one of them may be given");
  }
  if (since_seconds.has_value()) request.since = now - absl::Seconds(*since_seconds);
  if (query.Has("sinceTime")) {
    auto time = api::ParseRfc3339(query.Get("sinceTime"));
    if (!time.ok()) return absl::InvalidArgumentError(StrCat("sinceTime: ", time.status().message()));
    request.since = *time;
  }
  std::string_view stream = query.Has("stream") ? query.Get("stream") : "All";
  if (stream != "All" && stream != "Stdout" && stream != "Stderr") {
    return absl::InvalidArgumentError(StrCat("stream: \"", stream, "\" must be All, Stdout or Stderr"));
  }
  request.want_stdout = stream != "Stderr";
  request.want_stderr = stream != "Stdout";
  return request;
}

std::string PodListJson(const std::vector<PodPtr>& pods) {
  corev1::PodList list;
  for (const PodPtr& pod : pods) *list.add_items() = *pod;
  return api::EncodeJson(list);
}

// First path component: "exec" of "/exec/ns/pod".
std::string_view Head(std::string_view path) {
  path.remove_prefix(path.empty() ? 0 : 1);
  return path.substr(0, path.find('/'));
}

Task<bool> ContainerRuns(NodeApi* node, std::string ns, std::string pod, std::string uid,
                         std::string container, std::string id) {
  Task<absl::StatusOr<ContainerLocation>> locate = node->LocateContainer(ns, pod, uid, container, false);
  absl::StatusOr<ContainerLocation> location = co_await std::move(locate);
  // An error is no reason to cut a stream off unless the pod is gone.
  if (!location.ok())
    co_return !absl::IsNotFound(location.status()) && !absl::IsInvalidArgument(location.status());
  co_return location->container_id == id && location->running;
}

// Parameters of exec and attach are "1" when set; the API's own say "true".
bool IsSet(const net::QueryParams& query, std::string_view name) {
  std::string_view value = query.Get(name);
  return value == "1" || value == "true";
}

constexpr size_t kMaxPorts = 100;

}  // namespace

absl::StatusOr<StreamTarget> ParseStreamTarget(const net::HttpTarget& target) {
  std::vector<std::string> parts = absl::StrSplit(target.path, '/');
  parts.erase(parts.begin());
  const std::string head = parts[0];
  const bool forward = head == "portForward";
  const size_t least = forward ? 3 : 4;
  const bool empty = std::any_of(parts.begin(), parts.end(), [](const std::string& p) { return p.empty(); });
  if (empty || (parts.size() != least && parts.size() != least + 1)) {
    return absl::InvalidArgumentError(
        StrCat("path must be /", head, "/{namespace}/{pod}[/{uid}]", forward ? "" : "/{container}"));
  }
  StreamTarget out;
  out.ns = parts[1];
  out.pod = parts[2];
  if (parts.size() == least + 1) out.uid = parts[3];
  const net::QueryParams& query = target.query;
  if (forward) {
    for (std::string_view value : query.GetAll("port")) {
      for (absl::string_view text : absl::StrSplit(Av(value), ',')) {
        int32_t port = 0;
        if (!absl::SimpleAtoi(text, &port) || port < 1 || port > 65535)
          return absl::InvalidArgumentError(StrCat("port: \"", text, "\" must be a number from 1 to 65535"));
        if (out.ports.size() >= kMaxPorts)
          return absl::InvalidArgumentError(StrCat("port: at most ", kMaxPorts, " ports"));
        out.ports.push_back(port);
      }
    }
    return out;
  }
  out.container = parts.back();
  for (std::string_view word : query.GetAll("command")) out.request.command.emplace_back(word);
  if (head == "run") {
    for (std::string_view text : query.GetAll("cmd")) {
      for (absl::string_view word : absl::StrSplit(Av(text), ' ', absl::SkipEmpty()))
        out.request.command.emplace_back(word);
    }
  }
  out.request.with_stdin = IsSet(query, "input");
  out.request.with_stdout = IsSet(query, "output");
  out.request.with_stderr = IsSet(query, "error");
  out.request.tty = IsSet(query, "tty");
  if (out.request.tty) out.request.with_stderr = false;  // a terminal has one output
  if (head != "attach" && out.request.command.empty())
    return absl::InvalidArgumentError(head == "run" ? "you must specify a command: ?cmd="
                                                    : "you must specify at least 1 command: ?command=");
  if (head != "run" && !out.request.with_stdin && !out.request.with_stdout && !out.request.with_stderr)
    return absl::InvalidArgumentError("you must specify at least 1 of stdin, stdout, stderr");
  return out;
}

int Authorize(const net::HttpRequest& request, std::string* who) {
  const auto& certificate = request.peer_certificate;
  if (certificate == nullptr || !certificate->verified) return 401;
  *who = certificate->common_name;
  if (certificate->common_name == kApiServerUser) return 0;
  const auto& groups = certificate->organizations;
  return std::find(groups.begin(), groups.end(), kMastersGroup) != groups.end() ? 0 : 403;
}

struct KubeletServer::Impl : public net::HttpHandler {
  Impl(Env& env_in, NodeApi& node_in, ServerSettings settings_in, std::string name,
       std::vector<std::string> ips, std::string certs)
      : env(env_in),
        node(node_in),
        settings(std::move(settings_in)),
        node_name(std::move(name)),
        node_ips(std::move(ips)),
        cert_dir(std::move(certs)),
        healthz_handler([this](net::HttpRequest request, net::ResponseWriter& writer) {
          return Healthz(std::move(request), writer);
        }),
        http(&env_in, net::HttpClientOptions()),
        scope(env_in.executor()) {}

  // ---- handlers ----
  Task<void> Handle(net::HttpRequest request, net::ResponseWriter& writer) override {
    std::string who;
    int refused = Authorize(request, &who);
    if (refused == 401) {
      Task<void> send = SendText(writer, 401, "Unauthorized");
      co_await std::move(send);
      co_return;
    }
    const std::string path = request.target.path;
    std::string_view head = Head(path);
    if (refused == 403) {
      std::string text =
          StrCat("Forbidden (user=", who, ", verb=", request.method, ", resource=nodes, path=", path, ")");
      Task<void> send = SendText(writer, 403, std::move(text));
      co_await std::move(send);
      co_return;
    }
    Task<void> route = Route(std::move(request), path, std::string(head), writer);
    co_await std::move(route);
  }

  Task<void> Route(net::HttpRequest request, std::string path, std::string head,
                   net::ResponseWriter& writer) {
    static const std::set<std::string, std::less<>> kDebugging = {"exec", "attach", "portForward", "run",
                                                                  "containerLogs"};
    if (head == "healthz") {
      Task<void> healthz = Healthz(std::move(request), writer);
      co_await std::move(healthz);
      co_return;
    }
    if (kDebugging.contains(head) && !settings.debugging_handlers) {
      Task<void> send = SendText(writer, 405, "Debug endpoints are disabled.\n");
      co_await std::move(send);
      co_return;
    }
    if (kDebugging.contains(head) && head != "containerLogs") {
      Task<absl::Status> stream = head == "run" ? Run(std::move(request), writer)
                                                : Stream(std::move(request), std::move(head), writer);
      absl::Status status = co_await std::move(stream);
      if (status.ok() || writer.started()) co_return;
      Task<void> error = SendError(writer, status);
      co_await std::move(error);
      co_return;
    }
    if (request.method != "GET" && request.method != "HEAD") {
      Task<void> send = SendText(writer, 405, StrCat("method ", request.method, " is not allowed"));
      co_await std::move(send);
      co_return;
    }
    if (path == "/metrics") {
      net::HttpResponse response(200, "text/plain; version=0.0.4; charset=utf-8",
                                 MetricsRegistry::Default().Render());
      Task<absl::Status> send = writer.Send(std::move(response));
      (void)co_await std::move(send);
    } else if (path == "/pods" || path == "/pods/") {
      net::HttpResponse response(200, "application/json", PodListJson(node.Pods()));
      Task<absl::Status> send = writer.Send(std::move(response));
      (void)co_await std::move(send);
    } else if (path == "/runningpods" || path == "/runningpods/") {
      Task<void> running = RunningPods(writer);
      co_await std::move(running);
    } else if (head == "containerLogs") {
      Task<void> logs = ContainerLogs(std::move(request), writer);
      co_await std::move(logs);
    } else {
      Task<void> send = SendText(writer, 404, "404 page not found\n");
      co_await std::move(send);
    }
  }

  Task<void> Healthz(net::HttpRequest request, net::ResponseWriter& writer) {
    bool known = request.target.path == "/healthz" || request.target.path.starts_with("/healthz/");
    absl::Status health = node.Healthy();
    int status = !known ? 404 : health.ok() ? 200 : 500;
    std::string text = !known        ? "404 page not found\n"
                       : health.ok() ? "ok"
                                     : StrCat("[-]", health.message(), "\nhealthz check failed\n");
    Task<void> send = SendText(writer, status, std::move(text));
    co_await std::move(send);
  }

  Task<void> RunningPods(net::ResponseWriter& writer) {
    Task<absl::StatusOr<std::vector<PodPtr>>> ask = node.RunningPods();
    absl::StatusOr<std::vector<PodPtr>> pods = co_await std::move(ask);
    if (!pods.ok()) {
      Task<void> error = SendError(writer, pods.status());
      co_await std::move(error);
      co_return;
    }
    net::HttpResponse response(200, "application/json", PodListJson(*pods));
    Task<absl::Status> send = writer.Send(std::move(response));
    (void)co_await std::move(send);
  }

  // /containerLogs/{namespace}/{pod}/{container}
  Task<absl::Status> TryContainerLogs(net::HttpRequest request, net::ResponseWriter& writer) {
    std::vector<std::string> parts = absl::StrSplit(request.target.path, '/');
    if (parts.size() != 5 || parts[2].empty() || parts[3].empty() || parts[4].empty()) {
      co_return absl::InvalidArgumentError("path must be /containerLogs/{namespace}/{pod}/{container}");
    }
    const std::string ns = parts[2], pod = parts[3], container = parts[4];
    CO_ASSIGN_OR_RETURN_SYNC(LogRequest log, ParseLogRequest(request.target.query, env.clock().Now()));
    Task<absl::StatusOr<ContainerLocation>> locate =
        node.LocateContainer(ns, pod, "", container, log.previous);
    absl::StatusOr<ContainerLocation> location = co_await std::move(locate);
    if (!location.ok()) co_return location.status();
    NodeApi* api = &node;
    std::string uid = location->pod_uid, id = location->container_id;
    if (log.previous) log.follow = false;  // nothing is written to it any more
    StillRunning running = [api, ns, pod, uid, container, id] {
      return ContainerRuns(api, ns, pod, uid, container, id);
    };
    Task<absl::Status> stream = StreamLog(env, location->log_path, log, std::move(running), writer);
    co_return co_await std::move(stream);
  }

  Task<void> ContainerLogs(net::HttpRequest request, net::ResponseWriter& writer) {
    Task<absl::Status> attempt = TryContainerLogs(std::move(request), writer);
    absl::Status status = co_await std::move(attempt);
    if (status.ok() || writer.started()) co_return;
    Task<void> error = SendError(writer, status);
    co_await std::move(error);
  }

  // ---- exec, attach, portForward, run ----

  // The runtime is known by its certificate, as upstream: the system's authorities (SSL_CERT_FILE names
  // others) or those of the settings. Files are read for each connection, so that renewed ones count at once.
  absl::StatusOr<std::shared_ptr<net::TlsClientContext>> RuntimeTls() {
    ASSIGN_OR_RETURN(net::TlsClientConfig config, net::ReadTlsClientFiles(settings.runtime_tls));
    const bool same = config.ca_pem == runtime_tls_config.ca_pem &&
                      config.certificate_pem == runtime_tls_config.certificate_pem &&
                      config.private_key_pem == runtime_tls_config.private_key_pem;
    if (runtime_tls == nullptr || !same) {
      ASSIGN_OR_RETURN(runtime_tls, net::TlsClientContext::Create(config));
      runtime_tls_config = std::move(config);
    }
    return runtime_tls;
  }

  // Where the runtime listens for this one connection.
  absl::StatusOr<net::HttpEndpoint> RuntimeEndpoint(const std::string& url, std::string* target) {
    ASSIGN_OR_RETURN(net::HttpUrl parsed, net::HttpUrl::Parse(url));
    std::shared_ptr<net::TlsClientContext> tls;
    if (parsed.tls) {
      ASSIGN_OR_RETURN(tls, RuntimeTls());
    }
    *target = parsed.target;
    return net::HttpEndpoint::FromUrl(parsed, std::move(tls));
  }

  Task<absl::Status> Stream(net::HttpRequest request, std::string head, net::ResponseWriter& writer) {
    if (request.method != "GET" && request.method != "POST")
      co_return absl::InvalidArgumentError(StrCat("method ", request.method, " is not allowed"));
    CO_ASSIGN_OR_RETURN_SYNC(StreamTarget t, ParseStreamTarget(request.target));
    // Before the runtime is asked for anything: no upgrade, or a page of another origin.
    CO_RETURN_IF_ERROR_SYNC(net::CheckUpgrade(request));
    Task<absl::StatusOr<std::string>> ask;
    if (head == "exec") {
      ask = node.ExecUrl(t.ns, t.pod, t.uid, t.container, t.request);
    } else if (head == "attach") {
      ask = node.AttachUrl(t.ns, t.pod, t.uid, t.container, t.request);
    } else {
      ask = node.PortForwardUrl(t.ns, t.pod, t.uid, t.ports);
    }
    absl::StatusOr<std::string> url = co_await std::move(ask);
    if (!url.ok()) co_return url.status();
    std::string target;
    absl::StatusOr<net::HttpEndpoint> endpoint = RuntimeEndpoint(*url, &target);
    if (!endpoint.ok()) {
      // Whatever is wrong is wrong on this node, and nothing the client asked for.
      co_return absl::InternalError(StrCat("the runtime's streaming URL: ", Sv(endpoint.status().message())));
    }
    net::UpgradeProxy proxy;
    proxy.client = &http;
    proxy.scope = &scope;
    proxy.clock = &env.clock();
    proxy.idle = settings.streaming_idle_timeout;
    Task<absl::StatusOr<std::optional<net::UpgradeRefusal>>> run =
        net::ProxyUpgrade(proxy, *std::move(endpoint), std::move(target), std::move(request), &writer);
    absl::StatusOr<std::optional<net::UpgradeRefusal>> refusal = co_await std::move(run);
    if (!refusal.ok()) {
      const bool distrusted = absl::StrContains(refusal.status().message(), "certificate");
      co_return Annotate(refusal.status(),
                         StrCat("connecting to the runtime's streaming server",
                                distrusted ? " (--runtime-streaming-ca names whom to trust)" : ""));
    }
    if (!refusal->has_value()) co_return absl::OkStatus();
    Task<void> send = SendText(writer, (*refusal)->status, std::move((*refusal)->body));
    co_await std::move(send);
    co_return absl::OkStatus();
  }

  Task<absl::Status> Run(net::HttpRequest request, net::ResponseWriter& writer) {
    if (request.method != "POST") co_return absl::InvalidArgumentError("run takes POST");
    CO_ASSIGN_OR_RETURN_SYNC(StreamTarget t, ParseStreamTarget(request.target));
    CO_ASSIGN_OR_RETURN(std::string output,
                        node.RunCommand(t.ns, t.pod, t.uid, t.container, t.request.command));
    Task<void> send = SendText(writer, 200, std::move(output));
    co_await std::move(send);
    co_return absl::OkStatus();
  }

  // ---- certificates ----
  absl::StatusOr<net::KeyPair> ServingPair() {
    if (!settings.tls_cert_file.empty()) {
      net::KeyPair pair;
      ASSIGN_OR_RETURN(pair.certificate_pem, ReadFile(settings.tls_cert_file, net::kMaxPemBytes));
      ASSIGN_OR_RETURN(pair.private_key_pem, ReadFile(settings.tls_private_key_file, net::kMaxPemBytes));
      return pair;
    }
    std::string cert = cert_dir + "/kubelet.crt", key = cert_dir + "/kubelet.key";
    auto pair = net::LoadKeyPair(cert, key);
    if (pair.ok()) {
      auto info = net::ParseCertificate(pair->certificate_pem);
      if (info.ok() && !net::NeedsRenewal(*info, env.clock().Now())) return pair;
    }
    ASSIGN_OR_RETURN(auto authority,
                     net::CertificateAuthority::Create(StrCat(node_name, "-ca"), env.clock().Now()));
    net::CertificateSpec spec;
    spec.common_name = node_name;
    spec.server = true;
    spec.dns_names = {node_name, "localhost"};
    spec.ip_addresses = node_ips;
    spec.ip_addresses.push_back("127.0.0.1");
    ASSIGN_OR_RETURN(net::KeyPair made, authority.Issue(spec, env.clock().Now()));
    RETURN_IF_ERROR(net::SaveKeyPair(made, cert, key));
    LogInfo("made a self-signed serving certificate", {{"file", cert}});
    return made;
  }

  // All that a context is made of.
  absl::StatusOr<net::TlsServerConfig> ReadTls() {
    net::TlsServerConfig config;
    ASSIGN_OR_RETURN(net::KeyPair pair, ServingPair());
    config.certificate_pem = pair.certificate_pem;
    config.private_key_pem = pair.private_key_pem;
    if (!settings.client_ca_file.empty()) {
      auto ca = ReadFile(settings.client_ca_file, net::kMaxPemBytes);
      if (!ca.ok()) return Annotate(ca.status(), "clientCAFile");
      config.client_ca_pem = *std::move(ca);
      config.client_certificates = net::ClientCertificates::kOptional;
    }
    return config;
  }

  absl::Status Start() {
    if (settings.enabled) {
      ASSIGN_OR_RETURN(net::TlsServerConfig tls, ReadTls());
      ASSIGN_OR_RETURN(auto context, net::TlsServerContext::Create(tls));
      net::HttpServerOptions options;
      options.name = "kubelet";
      server = std::make_unique<net::HttpServer>(env.executor(), &env.clock(), this, options);
      net::HttpServer::TcpListen listen;
      listen.address = settings.address;
      listen.port = static_cast<uint16_t>(settings.port);
      listen.tls = context;
      ASSIGN_OR_RETURN(port, server->ListenTcp(listen));
      scope.Spawn("reload the serving certificate",
                  net::ReloadTls(
                      &env.clock(), "kubelet", [this] { return ReadTls(); }, std::move(tls),
                      [this](auto renewed) { server->SetTls(std::move(renewed)); }));
      if (settings.client_ca_file.empty()) {
        LogWarning("authentication.x509.clientCAFile is not set: nobody is let in on the kubelet's port");
      }
    }
    if (settings.healthz_port > 0) {
      net::HttpServerOptions options;
      options.name = "healthz";
      healthz = std::make_unique<net::HttpServer>(env.executor(), &env.clock(), &healthz_handler, options);
      net::HttpServer::TcpListen listen;
      listen.address = settings.healthz_address;
      listen.port = static_cast<uint16_t>(settings.healthz_port);
      ASSIGN_OR_RETURN(healthz_port, healthz->ListenTcp(listen));
    }
    return absl::OkStatus();
  }

  Env& env;
  NodeApi& node;
  const ServerSettings settings;
  const std::string node_name;
  const std::vector<std::string> node_ips;
  const std::string cert_dir;
  net::FunctionHandler healthz_handler;
  net::TlsClientConfig runtime_tls_config;  // what runtime_tls was made of
  std::shared_ptr<net::TlsClientContext> runtime_tls;
  net::HttpClient http;  // to the runtime's streaming server
  std::unique_ptr<net::HttpServer> server, healthz;
  uint16_t port = 0, healthz_port = 0;
  Scope scope;
};

KubeletServer::KubeletServer(Env& env, NodeApi& node, ServerSettings settings, std::string node_name,
                             std::vector<std::string> node_ips, std::string cert_dir)
    : impl_(std::make_unique<Impl>(env, node, std::move(settings), std::move(node_name), std::move(node_ips),
                                   std::move(cert_dir))) {}

KubeletServer::~KubeletServer() = default;

absl::Status KubeletServer::Start() { return impl_->Start(); }

Task<void> KubeletServer::Stop() {
  impl_->scope.Cancel();
  if (impl_->server != nullptr) {
    Task<void> stop = impl_->server->Close();
    co_await std::move(stop);
  }
  Task<void> close = impl_->scope.Close();
  co_await std::move(close);
  if (impl_->healthz != nullptr) {
    Task<void> stop = impl_->healthz->Close();
    co_await std::move(stop);
  }
}

net::HttpHandler& KubeletServer::handler() { return *impl_; }
uint16_t KubeletServer::port() const { return impl_->port; }
uint16_t KubeletServer::healthz_port() const { return impl_->healthz_port; }

}  // namespace keelson::kubelet
