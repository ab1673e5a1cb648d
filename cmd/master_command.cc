// `keelson master`: store, API server, controllers and scheduler in one process.
#include <absl/strings/numbers.h>
#include <malloc.h>

#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "cmd/commands.h"
#include "cmd/component.h"
#include "master/apiserver/api_server.h"
#include "master/controllers/controller_manager.h"
#include "master/scheduler/scheduler.h"
#include "master/store/sqlite_store.h"
#include "net/address.h"
#include "net/http_server.h"
#include "net/netlink.h"
#include "net/tls.h"

namespace keelson {
namespace {

struct MasterOptions {
  std::string root;
  std::string bind_address = "0.0.0.0";
  std::string advertise_address;
  uint16_t secure_port = 6443;
  std::string service_cidr = "10.96.0.0/12";
  std::string cluster_dns;  // "" : the tenth address of service_cidr
  std::string cluster_cidr = "10.244.0.0/16";
  std::string service_node_ports = "30000-32767";
  master::EvictionRates eviction;
  std::string pki_dir;   // "" : ETC/pki
  std::string data_dir;  // "" : STATE/master
};

constexpr size_t kMaxPemBytes = 1 << 20;

absl::StatusOr<std::shared_ptr<net::TlsServerContext>> ServerTls(const std::string& pki) {
  net::TlsServerConfig config;
  config.client_certificates = net::ClientCertificates::kOptional;
  ASSIGN_OR_RETURN(config.certificate_pem, ReadFile(pki + "/apiserver.crt", kMaxPemBytes));
  ASSIGN_OR_RETURN(config.private_key_pem, ReadFile(pki + "/apiserver.key", kMaxPemBytes));
  ASSIGN_OR_RETURN(config.client_ca_pem, ReadFile(pki + "/ca.crt", kMaxPemBytes));
  return net::TlsServerContext::Create(config);
}

absl::StatusOr<std::shared_ptr<net::TlsClientContext>> KubeletTls(const std::string& pki) {
  net::TlsClientConfig config;
  ASSIGN_OR_RETURN(config.ca_pem, ReadFile(pki + "/ca.crt", kMaxPemBytes));
  ASSIGN_OR_RETURN(config.certificate_pem, ReadFile(pki + "/apiserver-kubelet-client.crt", kMaxPemBytes));
  ASSIGN_OR_RETURN(config.private_key_pem, ReadFile(pki + "/apiserver-kubelet-client.key", kMaxPemBytes));
  return net::TlsClientContext::Create(config);
}

absl::Status ParsePortRange(const std::string& text, int* min, int* max) {
  if (std::sscanf(text.c_str(), "%d-%d", min, max) == 2 && *min > 0 && *min <= *max && *max < 65536) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      StrCat("--service-node-port-range ", text, ": give FIRST-LAST, as 30000-32767"));
}

// Takes up a renewed certificate (or CA) within a minute, for connections from then on.
Task<void> ReloadTls(Env* env, net::HttpServer* http, std::string pki) {
  constexpr absl::Duration kInterval = absl::Minutes(1);
  auto current = ReadFile(pki + "/apiserver.crt", kMaxPemBytes);
  while (true) {
    Task<void> pause = env->clock().Sleep(kInterval);
    co_await std::move(pause);
    auto now = ReadFile(pki + "/apiserver.crt", kMaxPemBytes);
    if (!now.ok() || (current.ok() && *now == *current)) continue;
    auto tls = ServerTls(pki);
    if (!tls.ok()) {
      LogWarning("renewed certificate not taken up", {{"error", tls.status()}});
      continue;
    }
    http->SetTls(*std::move(tls));
    current = std::move(now);
    LogInfo("renewed certificate taken up");
  }
}

// A burst of writes leaves a heap with free pages between used ones. Gives them back in the quiet after it; a
// few times, since caches let go of things later. (20 ms for 120 MiB.)
Task<void> GiveBackMemory(Env* env, master::Store* store) {
  constexpr absl::Duration kInterval = absl::Seconds(20);
  constexpr master::Revision kBurstWrites = 1000, kQuietWrites = 200;
  constexpr int kTimes = 4;
  master::Revision seen = store->CurrentRevision(), settled = seen;
  int times = 1;  // the start is a burst as well
  while (true) {
    Task<void> pause = env->clock().Sleep(kInterval);
    co_await std::move(pause);
    const master::Revision now = store->CurrentRevision();
    const bool quiet = now - std::exchange(seen, now) < kQuietWrites;
    if (now - settled >= kBurstWrites) times = kTimes;
    if (!quiet || times == 0) continue;
    ::malloc_trim(0);
    --times;
    settled = now;
  }
}

std::unique_ptr<master::Controller> MakeScheduler(master::ControllerContext context) {
  return std::make_unique<master::Scheduler>(context);
}

// It goes away before its store is closed.
Task<void> StopServer(std::unique_ptr<master::ApiServer>* server) {
  Task<void> stop = (*server)->Stop();
  co_await std::move(stop);
  server->reset();
}

// Everything that serves, in the order it is started; stopped in the reverse order.
Task<absl::Status> Serve(Env* env, MasterOptions options) {
  absl::Duration start = env->clock().Monotonic();
  master::ApiServerOptions api;
  api.service_cidr = options.service_cidr;
  api.cluster_dns = options.cluster_dns;
  api.advertise_address = options.advertise_address;
  api.advertise_port = options.secure_port;
  CO_RETURN_IF_ERROR_SYNC(ParsePortRange(options.service_node_ports, &api.node_port_min, &api.node_port_max));
  CO_ASSIGN_OR_RETURN_SYNC(std::shared_ptr<net::TlsServerContext> tls, ServerTls(options.pki_dir));
  CO_ASSIGN_OR_RETURN_SYNC(api.kubelet_tls, KubeletTls(options.pki_dir));
  CO_RETURN_IF_ERROR_SYNC(MakeDirs(options.data_dir, 0700));
  CO_ASSIGN_OR_RETURN_SYNC(std::unique_ptr<master::Store> store,
                           master::OpenSqliteStore(*env, options.data_dir + "/store.db"));
  CO_ASSIGN_OR_RETURN_SYNC(std::unique_ptr<master::ApiServer> server,
                           master::ApiServer::Create(*env, *store, api));

  net::HttpServerOptions http_options;
  http_options.name = "apiserver";
  net::HttpServer http(env->executor(), &env->clock(), &server->handler(), http_options);
  net::HttpServer::TcpListen listen;
  listen.address = options.bind_address;
  listen.port = options.secure_port;
  listen.tls = tls;
  absl::Status status = http.ListenTcp(listen).status();
  ComponentLife life(*env);
  life.AtEnd([&store] { return store->Close(); });
  life.AtEnd([&server] { return StopServer(&server); });
  life.AtEnd([&http] { return http.Close(); });
  life.scope().Spawn("reload certificates", ReloadTls(env, &http, options.pki_dir));
  life.scope().Spawn("give back memory", GiveBackMemory(env, store.get()));
  std::unique_ptr<client::ApiClient> controller_client = server->NewClient("system:kube-controller-manager");
  master::ControllerManagerOptions controller_options;
  controller_options.service_cidr = options.service_cidr;
  controller_options.cluster_cidr = options.cluster_cidr;
  controller_options.advertise_address = options.advertise_address;
  controller_options.secure_port = options.secure_port;
  controller_options.eviction = options.eviction;
  master::ControllerManager controllers(*env, *controller_client, controller_options);
  controllers.Add(MakeScheduler);
  life.StopAtEnd(&controllers);
  if (status.ok()) {
    Task<absl::Status> serving = server->Start();
    status = co_await std::move(serving);
  }
  if (status.ok()) {
    LogInfo("serving", {{"address", net::JoinHostPort(options.bind_address, options.secure_port)},
                        {"after_ms", absl::ToInt64Milliseconds(env->clock().Monotonic() - start)}});
    Task<absl::Status> managing = controllers.Start();
    status = co_await std::move(managing);
  }
  if (status.ok()) {
    LogInfo("controllers running",
            {{"after_ms", absl::ToInt64Milliseconds(env->clock().Monotonic() - start)}});
  }
  Task<absl::Status> run = life.RunUntilStopped(status);
  co_return co_await std::move(run);
}

int Run(MasterOptions options) {
  InitLog(LogOptions{"master"});
  Paths paths = Paths::WithRoot(options.root);
  if (options.pki_dir.empty()) options.pki_dir = paths.etc_dir + "/pki";
  if (options.data_dir.empty()) options.data_dir = paths.state_dir + "/master";
  if (options.advertise_address.empty()) {
    auto address = net::NodeAddress();
    options.advertise_address = address.ok() ? address->ToString() : "127.0.0.1";
  }
  return RunComponent("master", paths, [&options](Env* env) { return Serve(env, options); });
}

// CLI11's own check prints the largest number there is.
CLI::Validator NotNegative() {
  auto complaint = [](const std::string& text) {
    double number = 0;
    const bool good = absl::SimpleAtod(text, &number) && std::isfinite(number) && number >= 0;
    return good ? std::string() : StrCat("\"", text, "\": want a number, 0 or more");
  };
  return CLI::Validator(complaint, "");
}

}  // namespace

void AddMasterCommand(CLI::App& app, int* exit_status) {
  auto options = std::make_shared<MasterOptions>();
  CLI::App* command =
      app.add_subcommand("master", "Kubernetes API server, controllers and scheduler in one process");
  command->add_option("--root", options->root, "Keep everything below this folder");
  command->add_option("--bind-address", options->bind_address, "Address to serve on")->capture_default_str();
  command->add_option("--advertise-address", options->advertise_address, "Where nodes and pods reach it");
  command->add_option("--secure-port", options->secure_port, "Port to serve on")->capture_default_str();
  command->add_option("--service-cluster-ip-range", options->service_cidr, "Addresses of Services")
      ->capture_default_str();
  command->add_option(
      "--cluster-dns", options->cluster_dns,
      "Address of the proxies' --cluster-dns, which no Service can have (default: the tenth of "
      "--service-cluster-ip-range)");
  command->add_option("--cluster-cidr", options->cluster_cidr, "Addresses of pods")->capture_default_str();
  command->add_option("--service-node-port-range", options->service_node_ports, "Ports of type NodePort")
      ->capture_default_str();
  command
      ->add_option("--node-eviction-rate", options->eviction.normal_per_s,
                   "Nodes of a zone, in a second, whose pods begin to be evicted when they are not ready")
      ->check(NotNegative())
      ->capture_default_str();
  command
      ->add_option("--secondary-node-eviction-rate", options->eviction.secondary_per_s,
                   "The same in a large zone that is unhealthy (a small one: 0)")
      ->check(NotNegative())
      ->capture_default_str();
  command
      ->add_option("--unhealthy-zone-threshold", options->eviction.unhealthy_fraction,
                   "Fraction of nodes not ready (at least 3) that makes a zone unhealthy")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command
      ->add_option("--large-cluster-size-threshold", options->eviction.large_zone_nodes,
                   "More nodes than these make a zone large")
      ->check(NotNegative())
      ->capture_default_str();
  command->add_option("--pki-dir", options->pki_dir,
                      "ca.crt, apiserver.{crt,key}, apiserver-kubelet-client.{crt,key}");
  command->add_option("--data-dir", options->data_dir, "Folder of the store");
  command->callback([options, exit_status] { *exit_status = Run(*options); });
}

}  // namespace keelson
