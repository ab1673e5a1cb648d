// `keelson proxy`: Services and cluster DNS of this node.
#include <absl/strings/ascii.h>
#include <absl/strings/str_split.h>
#include <unistd.h>

#include <climits>
#include <memory>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "client/http_api_client.h"
#include "client/kubeconfig.h"
#include "cmd/commands.h"
#include "cmd/component.h"
#include "net/address.h"
#include "net/http_server.h"
#include "proxy/proxy.h"

namespace keelson {
namespace {

struct ProxyFlags {
  std::string root;
  std::string kubeconfig;
  std::string hostname_override;
  std::string cluster_cidr = "10.244.0.0/16";
  std::string service_cidr = "10.96.0.0/12";
  std::string cluster_domain = "cluster.local";
  std::string cluster_dns;  // "" : the tenth address of service_cidr
  std::string nft_table = "keelson";
  std::string healthz_address = "127.0.0.1";
  uint16_t healthz_port = 10256;
};

absl::StatusOr<std::vector<net::Cidr>> ParseCidrs(const char* flag, const std::string& text) {
  std::vector<net::Cidr> blocks;
  for (absl::string_view part : absl::StrSplit(text, ',', absl::SkipWhitespace())) {
    auto block = net::Cidr::ParseStrict(Sv(absl::StripAsciiWhitespace(part)));
    if (!block.ok()) return Annotate(block.status(), flag);
    blocks.push_back(*block);
  }
  return blocks;
}

absl::StatusOr<proxy::ProxyOptions> MakeOptions(const ProxyFlags& flags) {
  proxy::ProxyOptions options;
  options.node_name = absl::AsciiStrToLower(flags.hostname_override);
  if (options.node_name.empty()) {
    char host[HOST_NAME_MAX + 1] = {};
    if (::gethostname(host, HOST_NAME_MAX) != 0) return ErrnoStatus(errno, "gethostname");
    options.node_name = absl::AsciiStrToLower(host);
  }
  options.table = flags.nft_table;
  options.cluster_domain = flags.cluster_domain;
  ASSIGN_OR_RETURN(options.cluster_cidrs, ParseCidrs("--cluster-cidr", flags.cluster_cidr));
  ASSIGN_OR_RETURN(options.service_cidrs, ParseCidrs("--service-cluster-ip-range", flags.service_cidr));
  if (options.service_cidrs.empty())
    return absl::InvalidArgumentError("--service-cluster-ip-range: must not be empty");
  if (flags.cluster_dns.empty()) {
    ASSIGN_OR_RETURN(options.dns_address, proxy::DefaultDnsAddress(options.service_cidrs[0]));
  } else {
    auto address = net::IpAddress::Parse(flags.cluster_dns);
    if (!address.ok()) return Annotate(address.status(), "--cluster-dns");
    options.dns_address = *address;
  }
  return options;
}

Task<absl::Status> Serve(Env* env, ProxyFlags flags) {
  CO_ASSIGN_OR_RETURN_SYNC(proxy::ProxyOptions options, MakeOptions(flags));
  auto config = client::LoadKubeConfig(flags.kubeconfig);
  if (!config.ok()) co_return Annotate(config.status(), "--kubeconfig");
  CO_ASSIGN_OR_RETURN_SYNC(std::unique_ptr<client::ApiClient> client,
                           client::NewHttpApiClient(*env, *config));
  proxy::Proxy proxy(*env, *client, options);
  net::HttpServerOptions http_options;
  http_options.name = "healthz";
  net::HttpServer http(env->executor(), &env->clock(), &proxy.http_handler(), http_options);
  ComponentLife life(*env);
  life.StopAtEnd(&proxy);
  life.AtEnd([&http] { return http.Close(); });
  absl::Status status;
  if (flags.healthz_port != 0) {
    net::HttpServer::TcpListen listen;
    listen.address = flags.healthz_address;
    listen.port = flags.healthz_port;
    status = http.ListenTcp(listen).status();
  }
  if (status.ok()) status = proxy.Start();
  if (status.ok()) {
    LogInfo("proxy running",
            {{"node", options.node_name}, {"table", options.table}, {"dns", options.dns_address.ToString()}});
  }
  Task<absl::Status> run = life.RunUntilStopped(status);
  co_return co_await std::move(run);
}

int Run(const ProxyFlags& flags) {
  InitLog(LogOptions{"proxy"});
  if (flags.kubeconfig.empty()) {
    return ComponentExitStatus("proxy", absl::InvalidArgumentError("--kubeconfig is required"));
  }
  return RunComponent("proxy", Paths::WithRoot(flags.root), [&flags](Env* env) { return Serve(env, flags); });
}

}  // namespace

void AddProxyCommand(CLI::App& app, int* exit_status) {
  auto flags = std::make_shared<ProxyFlags>();
  CLI::App* command =
      app.add_subcommand("proxy", "Service dataplane (nftables) and cluster DNS of this node");
  command->add_option("--root", flags->root, "Keep everything below this folder");
  command->add_option("--kubeconfig", flags->kubeconfig, "How to reach the API server");
  command->add_option("--hostname-override", flags->hostname_override,
                      "Name of the node; default: the host's");
  command->add_option("--cluster-cidr", flags->cluster_cidr, "Addresses of pods")->capture_default_str();
  command->add_option("--service-cluster-ip-range", flags->service_cidr, "Addresses of Services")
      ->capture_default_str();
  command->add_option("--cluster-domain", flags->cluster_domain, "DNS domain of the cluster")
      ->capture_default_str();
  command->add_option("--cluster-dns", flags->cluster_dns,
                      "Address DNS answers on; default: the tenth of the Services");
  command->add_option("--nft-table", flags->nft_table, "Name of our nft table")->capture_default_str();
  command->add_option("--healthz-bind-address", flags->healthz_address, "Address of healthz and metrics")
      ->capture_default_str();
  command->add_option("--healthz-port", flags->healthz_port, "Port of healthz and metrics; 0: none")
      ->capture_default_str();
  command->callback([flags, exit_status] { *exit_status = Run(*flags); });
}

}  // namespace keelson
