#include "proxy/proxy.h"

#include <absl/strings/ascii.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "api/core/v1/node.pb.h"
#include "api/core/v1/service.pb.h"
#include "api/discovery/v1/discovery.pb.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/status.h"
#include "base/strings.h"
#include "client/informer.h"
#include "client/reconciler.h"
#include "net/conntrack.h"
#include "net/netlink.h"
#include "net/nft.h"
#include "proxy/convert.h"
#include "proxy/dns/server.h"
#include "proxy/host.h"
#include "proxy/ruleset.h"
#include "proxy/service_map.h"

namespace keelson::proxy {
namespace {

constexpr char kKey[] = "node";
constexpr absl::Duration kUnhealthyAfter = absl::Minutes(1);
constexpr absl::Duration kMinBackoff = absl::Milliseconds(500);
constexpr absl::Duration kMaxBackoff = absl::Seconds(30);
constexpr uint64_t kDnsAddressIndex = 10;

struct Metrics {
  MetricsRegistry& r = MetricsRegistry::Default();
  Histogram& sync_s =
      r.GetHistogram("kubeproxy_sync_proxy_rules_duration_seconds", "Duration of one sync of the rules.",
                     {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30});
  Gauge& last_sync_s = r.GetGauge("kubeproxy_sync_proxy_rules_last_timestamp_seconds",
                                  "When the rules were last synced, in seconds since the epoch.");
  Counter& full = r.GetCounter("keelson_proxy_loads_total", "Loads of the nft table.", {{"kind", "full"}});
  Counter& change =
      r.GetCounter("keelson_proxy_loads_total", "Loads of the nft table.", {{"kind", "change"}});
  Counter& failed = r.GetCounter("keelson_proxy_load_failures_total", "Loads of the nft table that failed.");
  Counter& foreign =
      r.GetCounter("keelson_proxy_foreign_changes_total", "Times somebody else changed our nft table.");
  Counter& stale_flows =
      r.GetCounter("keelson_proxy_stale_flows_deleted_total", "UDP conntrack entries deleted.");
  Gauge& service_ports = r.GetGauge("keelson_proxy_service_ports", "Service ports served.");
  Gauge& endpoints = r.GetGauge("keelson_proxy_endpoint_slots", "Elements of the endpoint maps.");
  Gauge& conflicts =
      r.GetGauge("keelson_proxy_address_conflicts", "Addresses claimed by more than one Service.");
  Gauge& dns_queries = r.GetGauge("keelson_dns_queries", "DNS queries received since start.");
  Gauge& dns_forwarded =
      r.GetGauge("keelson_dns_forwarded", "DNS queries sent to upstream resolvers since start.");
  Gauge& dns_failed = r.GetGauge("keelson_dns_failed", "DNS queries answered with SERVFAIL since start.");
  Gauge& dns_from_cache = r.GetGauge("keelson_dns_from_cache",
                                     "DNS queries for outside names answered from the cache since start.");
  Gauge& dns_dropped = r.GetGauge("keelson_dns_dropped", "DNS queries dropped since start.");
};

}  // namespace

struct Proxy::Impl : client::Reconciler, net::HttpHandler {
  Impl(Env& e, client::ApiClient& c, ProxyOptions o);

  // ---- client::Reconciler ----
  Task<absl::StatusOr<client::Requeue>> Reconcile(std::string key) override;
  // ---- net::HttpHandler ----
  Task<void> Handle(net::HttpRequest request, net::ResponseWriter& writer) override;

  absl::Status Validate() const;
  absl::Status StartDns();
  void OnService(const client::ObjectPtr& before, const client::ObjectPtr& after);
  void OnSlice(const client::ObjectPtr& before, const client::ObjectPtr& after);
  void TellOfReservedAddress(const std::string& key, const ServiceInfo& service) const;
  void OnNode(const client::ObjectPtr& after);
  void OnForeignChange();
  void MarkDirty();
  bool InformersSynced() const;
  RulesetOptions MakeRulesetOptions() const;
  void PublishDns();
  Task<absl::Status> Load(const Ruleset& next);
  Task<void> DropStaleFlows(std::vector<StaleFlow> flows);
  Task<void> WaitForInformers();
  absl::Status SettleHost();
  void ExportMetrics();

  Env& env;
  ProxyOptions options;
  Scope scope;
  client::Informer services_informer, slices_informer;
  std::unique_ptr<client::Informer> node_informer;
  client::ReconcileLoop loop;
  net::Nft nft;
  std::unique_ptr<dns::DnsServer> dns_server;
  Metrics metrics;

  ServiceInfos services;
  SliceInfos slices;
  bool dns_dirty = true;
  uint32_t dns_serial = 0;

  // What the kernel has; nullopt: unknown, load everything.
  std::optional<Ruleset> loaded;
  bool cleaned_up = false;       // the table is to stay away
  uint64_t options_changes = 0;  // a load of old options does not count
  ServiceMap loaded_map;
  bool ever_synced = false;
  absl::Duration last_full_at = -absl::InfiniteDuration();
  // Since when something waits to be loaded; nullopt: the kernel is current.
  std::optional<absl::Duration> behind_since;
  absl::Status last_error;
};

Proxy::Impl::Impl(Env& e, client::ApiClient& c, ProxyOptions o)
    : env(e),
      options(std::move(o)),
      scope(e.executor()),
      services_informer(e, c, client::GvrOf<::k8s::core::v1::Service>()),
      slices_informer(e, c, client::GvrOf<::k8s::discovery::v1::EndpointSlice>()),
      loop(e, "proxy", *this,
           client::WorkQueueOptions{.min_backoff = kMinBackoff, .max_backoff = kMaxBackoff}),
      nft(e, net::NftOptions{.table = options.table, .nft = options.nft}) {
  services_informer.AddHandler([this](const auto& before, const auto& after) { OnService(before, after); });
  slices_informer.AddHandler([this](const auto& before, const auto& after) { OnSlice(before, after); });
  if (options.node_pod_cidrs.empty() && !options.node_name.empty()) {
    client::InformerOptions only{.field_selector = StrCat("metadata.name=", options.node_name)};
    node_informer = std::make_unique<client::Informer>(e, c, client::GvrOf<::k8s::core::v1::Node>(), only);
    node_informer->AddHandler([this](const auto&, const auto& after) { OnNode(after); });
  }
}

absl::Status Proxy::Impl::Validate() const {
  if (options.table.empty()) return absl::InvalidArgumentError("proxy: table: must not be empty");
  for (char c : options.table) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '_' && c != '-') {
      return absl::InvalidArgumentError(
          StrCat("proxy: table: \"", options.table, "\" may only have letters, digits, '-' and '_'"));
    }
  }
  for (const net::Cidr& service : options.service_cidrs) {
    for (const auto* pods : {&options.cluster_cidrs, &options.node_pod_cidrs}) {
      for (const net::Cidr& cidr : *pods) {
        if (cidr.Overlaps(service)) {
          return absl::InvalidArgumentError(
              StrCat("proxy: service CIDR ", service.ToString(), " overlaps pod CIDR ", cidr.ToString()));
        }
      }
    }
  }
  if (options.dns && options.dns_address.is_unspecified()) {
    return absl::InvalidArgumentError("proxy: dns_address: required when DNS is on");
  }
  return absl::OkStatus();
}

absl::Status Proxy::Impl::StartDns() {
  if (options.manage_host) {
    ASSIGN_OR_RETURN(net::Netlink netlink, net::Netlink::Open());
    ASSIGN_OR_RETURN(net::Cidr single, net::Cidr::Make(options.dns_address, options.dns_address.bits()));
    RETURN_IF_ERROR(netlink.SetLinkUp("lo"));
    RETURN_IF_ERROR(netlink.AddAddress("lo", single));
  }
  dns::DnsServerOptions server;
  server.listen = options.dns_address;
  server.port = options.dns_port;
  server.resolv_conf = options.resolv_conf;
  server.allow = options.dns_allow;
  server.allow.push_back(*net::Cidr::Parse("127.0.0.0/8"));
  for (const auto* cidrs : {&options.cluster_cidrs, &options.node_pod_cidrs}) {
    server.allow.insert(server.allow.end(), cidrs->begin(), cidrs->end());
  }
  dns_server = std::make_unique<dns::DnsServer>(env, server);
  return dns_server->Start();
}

void Proxy::Impl::MarkDirty() {
  if (!behind_since.has_value()) behind_since = env.clock().Monotonic();
  if (InformersSynced()) loop.queue().AddAfter(kKey, options.gather);
}

bool Proxy::Impl::InformersSynced() const {
  return services_informer.synced() && slices_informer.synced() &&
         (node_informer == nullptr || node_informer->synced());
}

void Proxy::Impl::OnService(const client::ObjectPtr& before, const client::ObjectPtr& after) {
  const auto& meta = api::Meta(after != nullptr ? *after : *before);
  std::string key = StrCat(meta.namespace_(), "/", meta.name());
  auto service = api::As<::k8s::core::v1::Service>(after);
  if (service == nullptr || !IsOurs(*service)) {
    services.erase(key);
  } else {
    services[key] = ServiceInfoOf(*service);
    TellOfReservedAddress(key, services[key]);
  }
  dns_dirty = true;
  MarkDirty();
}

// No rule may touch the address of the DNS server, so such a service gets no traffic there.
void Proxy::Impl::TellOfReservedAddress(const std::string& key, const ServiceInfo& service) const {
  if (!options.dns) return;
  for (const auto* texts : {&service.cluster_ips, &service.external_ips}) {
    for (const std::string& text : *texts) {
      absl::StatusOr<net::IpAddress> ip = net::IpAddress::Parse(text);
      if (!ip.ok() || *ip != options.dns_address) continue;
      LogWarning("a service asks for the address of the cluster DNS, which it does not get",
                 {{"service", key}, {"address", text}});
    }
  }
}

void Proxy::Impl::OnSlice(const client::ObjectPtr& before, const client::ObjectPtr& after) {
  const auto& meta = api::Meta(after != nullptr ? *after : *before);
  std::string key = StrCat(meta.namespace_(), "/", meta.name());
  auto slice = api::As<::k8s::discovery::v1::EndpointSlice>(after);
  if (slice == nullptr) {
    slices.erase(key);
  } else {
    slices[key] = SliceInfoOf(*slice);
  }
  dns_dirty = true;
  MarkDirty();
}

void Proxy::Impl::OnNode(const client::ObjectPtr& after) {
  auto node = api::As<::k8s::core::v1::Node>(after);
  if (node == nullptr || node->metadata().name() != options.node_name) return;
  std::vector<net::Cidr> cidrs;
  for (const std::string& text : node->spec().pod_cidrs()) {
    absl::StatusOr<net::Cidr> cidr = net::Cidr::Parse(text);
    if (cidr.ok()) cidrs.push_back(*cidr);
  }
  if (cidrs == options.node_pod_cidrs) return;
  options.node_pod_cidrs = std::move(cidrs);
  loaded.reset();  // the fixed part of the table changes
  ++options_changes;
  dns_dirty = true;
  MarkDirty();
}

void Proxy::Impl::OnForeignChange() {
  metrics.foreign.Add();
  LogWarning("nft table was changed by someone else, restoring it", {{"table", options.table}});
  loaded.reset();
  if (!behind_since.has_value()) behind_since = env.clock().Monotonic();
  absl::Duration since = env.clock().Monotonic() - last_full_at;
  absl::Duration wait = std::max(absl::ZeroDuration(), options.restore_interval - since);
  if (InformersSynced()) loop.queue().AddAfter(kKey, wait);
}

RulesetOptions Proxy::Impl::MakeRulesetOptions() const {
  return RulesetOptions{.table = options.table,
                        .node_pod_cidrs = options.node_pod_cidrs,
                        .cluster_cidrs = options.cluster_cidrs,
                        .service_cidrs = options.service_cidrs,
                        .masquerade_pods = options.masquerade_pods,
                        .node_ports_on_localhost = options.node_ports_on_localhost};
}

void Proxy::Impl::PublishDns() {
  if (dns_server == nullptr || !dns_dirty) return;
  dns::DnsOptions zone{.domain = options.cluster_domain, .server = options.dns_address};
  for (const auto* cidrs : {&options.service_cidrs, &options.cluster_cidrs, &options.node_pod_cidrs}) {
    zone.own_cidrs.insert(zone.own_cidrs.end(), cidrs->begin(), cidrs->end());
  }
  auto records =
      std::make_shared<const dns::DnsRecords>(dns::BuildDnsRecords(services, slices, zone, ++dns_serial));
  dns_server->SetRecords(std::move(records));
  dns_dirty = false;
}

Task<absl::Status> Proxy::Impl::Load(const Ruleset& next) {
  RulesetOptions how = MakeRulesetOptions();
  std::optional<std::string> change;
  if (loaded.has_value()) change = RenderChange(*loaded, next, how);
  if (change.has_value() && change->empty()) co_return absl::OkStatus();
  bool full = !change.has_value();
  std::string script = full ? RenderFull(next, how) : *std::move(change);
  Ruleset after = full ? next : AfterChange(*loaded, next);
  if (full) last_full_at = env.clock().Monotonic();
  // Until the load is known to have worked, the kernel's state is not known. A foreign change during the load
  // calls OnForeignChange, whose reset must survive.
  loaded.reset();
  uint64_t foreign_before = nft.foreign_changes(), options_before = options_changes;
  Task<absl::Status> apply = nft.Apply(std::move(script));
  absl::Status status = co_await std::move(apply);
  if (!status.ok()) co_return status;
  (full ? metrics.full : metrics.change).Add();
  if (nft.foreign_changes() == foreign_before && options_changes == options_before) loaded = std::move(after);
  co_return absl::OkStatus();
}

Task<absl::StatusOr<client::Requeue>> Proxy::Impl::Reconcile(std::string key) {
  if (cleaned_up) co_return client::Requeue{};
  absl::Duration started = env.clock().Monotonic();
  if (options.full_sync_interval > absl::ZeroDuration() &&
      started - last_full_at >= options.full_sync_interval) {
    loaded.reset();
  }
  PublishDns();
  std::vector<net::IpAddress> reserved;
  if (options.dns) reserved.push_back(options.dns_address);
  ServiceMap map = BuildServiceMap(services, slices, options.node_name, reserved);
  Ruleset next = BuildRuleset(map, MakeRulesetOptions());
  behind_since = behind_since.value_or(started);
  std::optional<absl::Duration> behind_then = std::exchange(behind_since, std::nullopt);
  Task<absl::Status> load = Load(next);
  absl::Status status = co_await std::move(load);
  if (cleaned_up) co_return client::Requeue{};
  if (status.ok()) status = SettleHost();
  last_error = status;
  if (!status.ok()) {
    metrics.failed.Add();
    behind_since = behind_then;
    co_return status;
  }
  if (!ever_synced) {
    LogInfo("service rules loaded",
            {{"table", options.table}, {"ports", map.ports.size()}, {"slots", next.slots.size()}});
  }
  ever_synced = true;
  metrics.service_ports.Set(static_cast<double>(map.ports.size()));
  metrics.endpoints.Set(static_cast<double>(next.slots.size()));
  metrics.conflicts.Set(static_cast<double>(next.conflicts));
  metrics.sync_s.Observe(absl::ToDoubleSeconds(env.clock().Monotonic() - started));
  metrics.last_sync_s.Set(absl::ToDoubleSeconds(env.clock().Now() - absl::UnixEpoch()));
  std::vector<StaleFlow> stale = StaleUdpFlows(loaded_map, map);
  loaded_map = std::move(map);
  if (!stale.empty() && options.manage_host) {
    Task<void> drop = DropStaleFlows(std::move(stale));
    co_await std::move(drop);
  }
  client::Requeue again;
  if (!loaded.has_value()) again.after = options.restore_interval;
  if (loaded.has_value() && options.full_sync_interval > absl::ZeroDuration())
    again.after = options.full_sync_interval;
  co_return again;
}

Task<void> Proxy::Impl::DropStaleFlows(std::vector<StaleFlow> flows) {
  absl::AnyInvocable<absl::StatusOr<size_t>()> work = [flows = std::move(flows)] {
    return net::DeleteStaleFlows(flows);
  };
  Task<absl::StatusOr<size_t>> task = env.Blocking<absl::StatusOr<size_t>>(std::move(work));
  absl::StatusOr<size_t> deleted = co_await std::move(task);
  if (deleted.ok()) {
    metrics.stale_flows.Add(*deleted);
  } else {
    LogWarning("stale UDP flows were not removed", {{"error", deleted.status()}});
  }
}

absl::Status Proxy::Impl::SettleHost() {
  if (!options.manage_host) return absl::OkStatus();
  ASSIGN_OR_RETURN(net::Netlink netlink, net::Netlink::Open());
  ASSIGN_OR_RETURN(std::vector<net::Route> routes, netlink.ListRoutes());
  HostSettings settings{.proc_sys = options.proc_sys,
                        .node_ports_on_localhost = options.node_ports_on_localhost};
  const auto& pods = options.node_pod_cidrs.empty() ? options.cluster_cidrs : options.node_pod_cidrs;
  return ApplyHostSettings(settings, PodLinks(routes, pods));
}

Task<void> Proxy::Impl::WaitForInformers() {
  Task<void> services_synced = services_informer.WaitForSync();
  co_await std::move(services_synced);
  Task<void> slices_synced = slices_informer.WaitForSync();
  co_await std::move(slices_synced);
  if (node_informer != nullptr) {
    Task<void> node_synced = node_informer->WaitForSync();
    co_await std::move(node_synced);
  }
  loop.queue().Add(kKey);
}

void Proxy::Impl::ExportMetrics() {
  if (dns_server == nullptr) return;
  dns::DnsServerStats stats = dns_server->stats();
  metrics.dns_queries.Set(static_cast<double>(stats.queries));
  metrics.dns_forwarded.Set(static_cast<double>(stats.forwarded));
  metrics.dns_failed.Set(static_cast<double>(stats.failed));
  metrics.dns_from_cache.Set(static_cast<double>(stats.from_cache));
  metrics.dns_dropped.Set(static_cast<double>(stats.dropped));
}

// ---- the public face ----

absl::StatusOr<net::IpAddress> DefaultDnsAddress(const net::Cidr& service_cidr) {
  return service_cidr.Nth(kDnsAddressIndex);
}

Proxy::Proxy(Env& env, client::ApiClient& client, ProxyOptions options)
    : impl_(std::make_unique<Impl>(env, client, std::move(options))) {}
Proxy::~Proxy() = default;

absl::Status Proxy::Start() {
  Impl& impl = *impl_;
  RETURN_IF_ERROR(impl.Validate());
  impl.behind_since = impl.env.clock().Monotonic();
  if (impl.options.dns) RETURN_IF_ERROR(impl.StartDns());
  if (impl.options.manage_host) {
    RETURN_IF_ERROR(impl.nft.Watch([this] { impl_->OnForeignChange(); }));
  }
  impl.loop.Start();
  impl.services_informer.Start();
  impl.slices_informer.Start();
  if (impl.node_informer != nullptr) impl.node_informer->Start();
  impl.scope.Spawn("proxy first sync", impl.WaitForInformers());
  return absl::OkStatus();
}

Task<void> Proxy::Stop() {
  Impl& impl = *impl_;
  Task<void> own = impl.scope.Close();
  co_await std::move(own);
  Task<void> services = impl.services_informer.Stop();
  co_await std::move(services);
  Task<void> slices = impl.slices_informer.Stop();
  co_await std::move(slices);
  if (impl.node_informer != nullptr) {
    Task<void> node = impl.node_informer->Stop();
    co_await std::move(node);
  }
  Task<void> loop = impl.loop.Stop();
  co_await std::move(loop);
  Task<void> nft = impl.nft.Stop();
  co_await std::move(nft);
  if (impl.dns_server != nullptr) {
    Task<void> dns = impl.dns_server->Stop();
    co_await std::move(dns);
  }
}

Task<absl::Status> Proxy::Cleanup() {
  Impl& impl = *impl_;
  impl.cleaned_up = true;
  Task<absl::Status> apply = impl.nft.Apply(RenderCleanup(impl.MakeRulesetOptions()));
  absl::Status status = co_await std::move(apply);
  impl.loaded.reset();
  if (!impl.options.manage_host) co_return status;
  CO_ASSIGN_OR_RETURN_SYNC(net::Netlink netlink, net::Netlink::Open());
  CO_ASSIGN_OR_RETURN_SYNC(std::vector<net::Route> routes, netlink.ListRoutes());
  const auto& pods =
      impl.options.node_pod_cidrs.empty() ? impl.options.cluster_cidrs : impl.options.node_pod_cidrs;
  RevertHostSettings(HostSettings{.proc_sys = impl.options.proc_sys}, PodLinks(routes, pods));
  if (impl.options.dns && !impl.options.dns_address.is_unspecified()) {
    CO_ASSIGN_OR_RETURN_SYNC(net::Cidr single,
                             net::Cidr::Make(impl.options.dns_address, impl.options.dns_address.bits()));
    status.Update(netlink.DeleteAddress("lo", single));
  }
  co_return status;
}

bool Proxy::synced() const { return impl_->ever_synced; }

absl::Status Proxy::Health() const {
  const Impl& impl = *impl_;
  if (!impl.behind_since.has_value()) return absl::OkStatus();
  absl::Duration behind = impl.env.clock().Monotonic() - *impl.behind_since;
  if (behind < kUnhealthyAfter) return absl::OkStatus();
  std::string why =
      impl.last_error.ok() ? "waiting for the API server" : std::string(impl.last_error.message());
  return absl::UnavailableError(
      StrCat("service rules are ", absl::ToInt64Seconds(behind), " s behind the API: ", why));
}

net::HttpHandler& Proxy::http_handler() { return *impl_; }

Task<void> Proxy::Impl::Handle(net::HttpRequest request, net::ResponseWriter& writer) {
  net::HttpResponse response(404, "text/plain; charset=utf-8", "not found\n");
  const std::string& path = request.target.path;
  if (request.method != "GET" && request.method != "HEAD") {
    response = net::HttpResponse(405, "text/plain; charset=utf-8", "method not allowed\n");
  } else if (path == "/metrics") {
    ExportMetrics();
    response = net::HttpResponse(200, "text/plain; version=0.0.4", MetricsRegistry::Default().Render());
  } else if (path == "/healthz" || path == "/livez" || path == "/readyz") {
    absl::Status health;
    if (behind_since.has_value() && env.clock().Monotonic() - *behind_since >= kUnhealthyAfter) {
      health = last_error.ok() ? absl::UnavailableError("waiting for the API server") : last_error;
    }
    if (path == "/readyz" && !ever_synced) health = absl::UnavailableError("service rules not loaded yet");
    std::string body = health.ok() ? "ok\n" : StrCat(std::string(health.message()), "\n");
    response = net::HttpResponse(health.ok() ? 200 : 503, "text/plain; charset=utf-8", body);
  } else if (path == "/proxyMode") {
    response = net::HttpResponse(200, "text/plain; charset=utf-8", "nftables");
  }
  Task<absl::Status> send = writer.Send(std::move(response));
  absl::Status ignored = co_await std::move(send);
  (void)ignored;
}

}  // namespace keelson::proxy
