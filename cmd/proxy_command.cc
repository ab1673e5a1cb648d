// `keelson proxy`: Service dataplane and cluster DNS of one node.
#include <cstdio>
#include <memory>
#include <string>

#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "client/http_api_client.h"
#include "client/kubeconfig.h"
#include "cmd/commands.h"
#include "cmd/signals.h"
#include "net/address.h"
#include "net/http_server.h"
#include "proxy/proxy.h"

namespace keelson {
namespace {

struct ProxyFlags {
  std::string root;
  std::string kubeconfig;
  std::string node_name;
  std::string cluster_cidr = "10.244.0.0/16";
  std::string service_cidr = "10.96.0.0/12";
  std::string cluster_domain = "cluster.local";
  std::string cluster_dns;  // "" : tenth address of service_cidr
  std::string nft_table = "keelson";
  std::string healthz_address = "127.0.0.1";
  uint16_t healthz_port = 10256;
  bool cleanup = false;
};

absl::StatusOr<proxy::ProxyOptions> MakeOptions(const ProxyFlags& flags) {
  proxy::ProxyOptions options;
  options.node_name = flags.node_name;
  options.table = flags.nft_table;
  options.cluster_domain = flags.cluster_domain;
  auto pods = net::Cidr::ParseStrict(flags.cluster_cidr);
  if (!pods.ok()) return Annotate(pods.status(), "--cluster-cidr");
  options.cluster_cidrs = {*pods};
  auto services = net::Cidr::ParseStrict(flags.service_cidr);
  if (!services.ok()) return Annotate(services.status(), "--service-cluster-ip-range");
  options.service_cidrs = {*services};
  auto dns = flags.cluster_dns.empty() ? proxy::DefaultDnsAddress(*services) : net::IpAddress::Parse(flags.cluster_dns);
  if (!dns.ok()) return Annotate(dns.status(), "--cluster-dns");
  options.dns_address = *dns;
  return options;
}

Task<absl::Status> Serve(Env* env, ProxyFlags flags) {
  CO_ASSIGN_OR_RETURN_SYNC(proxy::ProxyOptions options, MakeOptions(flags));
  CO_ASSIGN_OR_RETURN_SYNC(client::KubeConfig config, client::LoadKubeConfig(flags.kubeconfig));
  client::HttpApiClientOptions client_options;
  client_options.user_agent = "keelson-proxy";
  CO_ASSIGN_OR_RETURN_SYNC(std::unique_ptr<client::ApiClient> client,
                           client::NewHttpApiClient(*env, config, client_options));
  proxy::Proxy proxy(*env, *client, options);
  if (flags.cleanup) {
    Task<absl::Status> cleanup = proxy.Cleanup();
    absl::Status cleaned = co_await std::move(cleanup);
    Task<void> stop_proxy = proxy.Stop();
    co_await std::move(stop_proxy);
    co_return cleaned;
  }
  net::HttpServerOptions http_options;
  http_options.name = "proxy";
  net::HttpServer http(env->executor(), &env->clock(), &proxy.http_handler(), http_options);
  Scope scope(env->executor());
  AsyncEvent stop;
  scope.Spawn("signals", WatchSignals(env, &stop));
  absl::Status status;
  if (flags.healthz_port != 0) {
    net::HttpServer::TcpListen listen;
    listen.address = flags.healthz_address;
    listen.port = flags.healthz_port;
    status = http.ListenTcp(listen).status();
  }
  if (status.ok()) status = proxy.Start();
  if (status.ok()) {
    Task<void> wait = stop.Wait();
    co_await std::move(wait);
  }
  Task<void> close_http = http.Close();
  co_await std::move(close_http);
  Task<void> stop_proxy = proxy.Stop();
  co_await std::move(stop_proxy);
  Task<void> close_scope = scope.Close();
  co_await std::move(close_scope);
  co_return status;
}

int Run(const ProxyFlags& flags) {
  InitLog(LogOptions{"proxy"});
  RealEnv env(Paths::WithRoot(flags.root));
  absl::Status status = env.RunUntilDone(Serve(&env, flags));
  if (status.ok()) return 0;
  LogError("proxy ended", {{"error", status}});
  std::fprintf(stderr, "keelson proxy: %s\n", std::string(status.message()).c_str());
  return 1;
}

}  // namespace

void AddProxyCommand(CLI::App& app, int* exit_status) {
  auto flags = std::make_shared<ProxyFlags>();
  CLI::App* command = app.add_subcommand("proxy", "Services (nftables) and cluster DNS on this node");
  command->add_option("--root", flags->root, "Keep everything below this folder");
  command->add_option("--kubeconfig", flags->kubeconfig, "How to reach the API server")->required();
  command->add_option("--hostname-override", flags->node_name, "Name of this node")->required();
  command->add_option("--cluster-cidr", flags->cluster_cidr, "Addresses of pods")->capture_default_str();
  command->add_option("--service-cluster-ip-range", flags->service_cidr, "Addresses of Services")->capture_default_str();
  command->add_option("--cluster-domain", flags->cluster_domain, "DNS domain of the cluster")->capture_default_str();
  command->add_option("--cluster-dns", flags->cluster_dns, "Address of the DNS server; default: the Services' tenth");
  command->add_option("--nft-table", flags->nft_table, "Name of the nft table that is ours")->capture_default_str();
  command->add_option("--healthz-bind-address", flags->healthz_address, "Address of /healthz and /metrics")
      ->capture_default_str();
  command->add_option("--healthz-port", flags->healthz_port, "Its port; 0: off")->capture_default_str();
  command->add_flag("--cleanup", flags->cleanup, "Remove table, DNS address and settings, then end");
  command->callback([flags, exit_status] { *exit_status = Run(*flags); });
}

}  // namespace keelson
