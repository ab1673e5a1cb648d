#include "kubelet/config/kubelet_settings.h"

#include <absl/strings/ascii.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <absl/strings/strip.h>

#include <memory>
#include <set>

#include "api/labels.h"
#include "api/quantity.h"
#include "api/time.h"
#include "api/yaml.h"
#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"
#include "kubelet/eviction.h"
#include "net/address.h"

namespace keelson::kubelet {
namespace {

constexpr char kConfigApiVersion[] = "kubelet.config.k8s.io/v1beta1";

absl::Status Invalid(std::string_view field, std::string_view why) {
  return absl::InvalidArgumentError(StrCat(field, ": ", why));
}

void SetDuration(const ::k8s::meta::v1::Duration& from, absl::Duration* to) {
  // Upstream: zero means the default.
  if (from.duration() != 0) *to = absl::Nanoseconds(from.duration());
}

absl::Status CheckPort(std::string_view field, int32_t port, bool zero) {
  if (port < (zero ? 0 : 1) || port > 65535) return Invalid(field, StrCat(port, " is no port"));
  return absl::OkStatus();
}

absl::Status CheckReserved(std::string_view field, const std::map<std::string, std::string>& reserved) {
  for (const auto& [name, amount] : reserved) {
    if (name != "cpu" && name != "memory" && name != "ephemeral-storage" && name != "pid") {
      return Invalid(field, StrCat("\"", name, "\" cannot be reserved"));
    }
    auto quantity = api::Quantity::Parse(amount);
    if (!quantity.ok()) return Invalid(StrCat(field, ".", name), Sv(quantity.status().message()));
    if (quantity->Sign() < 0) return Invalid(StrCat(field, ".", name), "must not be negative");
  }
  return absl::OkStatus();
}

// `field`: evictionHard, evictionSoft, evictionMinimumReclaim, evictionSoftGracePeriod.
absl::Status CheckSignal(std::string_view field, const std::string& name, bool says_nothing) {
  // Upstream's that nothing here measures.
  static const std::set<std::string> kNotMeasured = {"containerfs.available", "containerfs.inodesFree",
                                                     "allocatableMemory.available"};
  for (Signal signal : kAllSignals) {
    if (name == SignalName(signal)) return absl::OkStatus();
  }
  if (!kNotMeasured.contains(name)) return Invalid(field, StrCat("unknown signal \"", name, "\""));
  if (says_nothing) return absl::OkStatus();
  return Invalid(StrCat(field, ".", name), "this signal is not implemented");
}

absl::Status CheckEviction(std::string_view field, const std::map<std::string, std::string>& amounts) {
  for (const auto& [name, value] : amounts) {
    auto quantity = api::Quantity::Parse(std::string(absl::StripSuffix(value, "%")));
    RETURN_IF_ERROR(CheckSignal(field, name, quantity.ok() && quantity->IsZero()));
    if (!quantity.ok()) {
      return Invalid(StrCat(field, ".", name),
                     StrCat("\"", value, "\" is neither a quantity nor a percentage"));
    }
    if (quantity->Sign() < 0) return Invalid(StrCat(field, ".", name), "must not be negative");
  }
  return absl::OkStatus();
}

absl::Status FillSoftEviction(const KubeletConfiguration& config, KubeletOptions* o) {
  o->eviction_soft = {config.eviction_soft().begin(), config.eviction_soft().end()};
  RETURN_IF_ERROR(CheckEviction("evictionSoft", o->eviction_soft));
  o->eviction_minimum_reclaim = {config.eviction_minimum_reclaim().begin(),
                                 config.eviction_minimum_reclaim().end()};
  RETURN_IF_ERROR(CheckEviction("evictionMinimumReclaim", o->eviction_minimum_reclaim));
  for (const auto& [name, text] : config.eviction_soft_grace_period()) {
    RETURN_IF_ERROR(CheckSignal("evictionSoftGracePeriod", name, /*says_nothing=*/true));
    auto grace = api::ParseGoDuration(text);
    if (!grace.ok() || *grace < 0) {
      return Invalid(StrCat("evictionSoftGracePeriod.", name),
                     StrCat("\"", text, "\" must be a positive duration such as 1m30s"));
    }
    o->eviction_soft_grace[name] = absl::Nanoseconds(*grace);
  }
  for (const auto& [name, value] : o->eviction_soft) {
    if (o->eviction_soft_grace.count(name) == 0) {
      return Invalid("evictionSoftGracePeriod",
                     StrCat("grace period must be specified for the soft eviction threshold ", name));
    }
  }
  o->eviction_max_pod_grace_period_s = config.eviction_max_pod_grace_period();
  if (o->eviction_max_pod_grace_period_s < 0)
    return Invalid("evictionMaxPodGracePeriod", "must not be negative");
  return absl::OkStatus();
}

absl::Status ParseLabels(const std::string& text, std::map<std::string, std::string>* labels) {
  for (absl::string_view part : absl::StrSplit(text, ',', absl::SkipWhitespace())) {
    std::pair<std::string, std::string> pair = absl::StrSplit(part, absl::MaxSplits('=', 1));
    for (const std::string& message : api::IsQualifiedName(pair.first))
      return Invalid("--node-labels", message);
    if (!api::NodeMayLabelItself(pair.first)) {
      return Invalid(
          "--node-labels",
          StrCat(pair.first,
                 ": the API lets no kubelet set this label on its node (of kubernetes.io and k8s.io only "
                 "those of kubelet.kubernetes.io, node.kubernetes.io and the usual ones); let an "
                 "administrator run kubectl label node"));
    }
    for (const std::string& message : api::IsValidLabelValue(pair.second))
      return Invalid("--node-labels", message);
    (*labels)[pair.first] = pair.second;
  }
  return absl::OkStatus();
}

// key=value:effect, key:effect
absl::Status ParseTaints(const std::string& text, std::vector<::k8s::core::v1::Taint>* taints) {
  for (absl::string_view part : absl::StrSplit(text, ',', absl::SkipWhitespace())) {
    size_t colon = part.rfind(':');
    if (colon == absl::string_view::npos)
      return Invalid("--register-with-taints", "must be key=value:effect");
    ::k8s::core::v1::Taint taint;
    std::pair<std::string, std::string> pair = absl::StrSplit(part.substr(0, colon), absl::MaxSplits('=', 1));
    taint.set_key(pair.first);
    taint.set_value(pair.second);
    taint.set_effect(std::string(part.substr(colon + 1)));
    taints->push_back(taint);
  }
  for (const auto& taint : *taints) {
    for (const std::string& message : api::IsQualifiedName(taint.key()))
      return Invalid("--register-with-taints", message);
    const std::string& effect = taint.effect();
    if (effect != "NoSchedule" && effect != "PreferNoSchedule" && effect != "NoExecute") {
      return Invalid("--register-with-taints", StrCat("\"", effect, "\" is no effect of a taint"));
    }
  }
  return absl::OkStatus();
}

absl::Status FillPods(const KubeletConfiguration& config, KubeletOptions* o) {
  o->static_pod_path = config.static_pod_path();
  o->static_pod_url = config.static_pod_url();
  SetDuration(config.sync_frequency(), &o->sync_frequency);
  SetDuration(config.file_check_frequency(), &o->file_check_frequency);
  SetDuration(config.http_check_frequency(), &o->http_check_frequency);
  if (config.max_pods() < 0) return Invalid("maxPods", "must not be negative");
  if (config.max_pods() != 0) o->max_pods = config.max_pods();
  o->pods_per_core = config.pods_per_core();
  if (config.pods_per_core() < 0) return Invalid("podsPerCore", "must not be negative");
  for (const std::string& server : config.cluster_dns()) {
    if (!net::IpAddress::Parse(server).ok())
      return Invalid("clusterDNS", StrCat("\"", server, "\" is no IP address"));
    o->cluster_dns.push_back(server);
  }
  if (!config.cluster_domain().empty()) o->cluster_domain = config.cluster_domain();
  for (const std::string& message : api::IsDns1123Subdomain(o->cluster_domain))
    return Invalid("clusterDomain", message);
  if (config.has_resolv_conf()) o->resolv_conf = config.resolv_conf();
  o->pod_cidr = config.pod_cidr();
  o->seccomp_default = config.seccomp_default();
  o->allowed_unsafe_sysctls.assign(config.allowed_unsafe_sysctls().begin(),
                                   config.allowed_unsafe_sysctls().end());
  if (config.has_cpu_cfs_quota()) o->cpu_cfs_quota = config.cpu_cfs_quota();
  SetDuration(config.cpu_cfs_quota_period(), &o->cpu_cfs_quota_period);
  if (o->cpu_cfs_quota_period < absl::Milliseconds(1) || o->cpu_cfs_quota_period > absl::Seconds(1)) {
    return Invalid("cpuCFSQuotaPeriod", "must be between 1ms and 1s");
  }
  if (config.has_pod_pids_limit()) o->pod_pids_limit = config.pod_pids_limit();
  if (config.crash_loop_back_off().has_max_container_restart_period()) {
    SetDuration(config.crash_loop_back_off().max_container_restart_period(),
                &o->max_container_restart_period);
    if (o->max_container_restart_period < absl::Seconds(1) ||
        o->max_container_restart_period > absl::Minutes(5)) {
      return Invalid("crashLoopBackOff.maxContainerRestartPeriod", "must be between 1s and 300s");
    }
  }
  return absl::OkStatus();
}

absl::Status FillNode(const KubeletConfiguration& config, KubeletOptions* o) {
  o->provider_id = config.provider_id();
  if (config.has_register_node()) o->register_node = config.register_node();
  for (const auto& taint : config.register_with_taints()) o->register_with_taints.push_back(taint);
  SetDuration(config.node_status_update_frequency(), &o->node_status_update_frequency);
  // Upstream: the report follows the update's frequency when only that is set.
  if (config.node_status_update_frequency().duration() != 0) {
    o->node_status_report_frequency = o->node_status_update_frequency;
  }
  SetDuration(config.node_status_report_frequency(), &o->node_status_report_frequency);
  if (config.node_lease_duration_seconds() < 0)
    return Invalid("nodeLeaseDurationSeconds", "must be greater than 0");
  if (config.node_lease_duration_seconds() != 0)
    o->node_lease_duration_s = config.node_lease_duration_seconds();
  o->kube_reserved = {config.kube_reserved().begin(), config.kube_reserved().end()};
  o->system_reserved = {config.system_reserved().begin(), config.system_reserved().end()};
  RETURN_IF_ERROR(CheckReserved("kubeReserved", o->kube_reserved));
  RETURN_IF_ERROR(CheckReserved("systemReserved", o->system_reserved));
  if (config.eviction_hard_size() > 0) {
    if (!config.merge_default_eviction_settings()) o->eviction_hard.clear();
    for (const auto& [name, value] : config.eviction_hard()) o->eviction_hard[name] = value;
    RETURN_IF_ERROR(CheckEviction("evictionHard", o->eviction_hard));
  }
  RETURN_IF_ERROR(FillSoftEviction(config, o));
  SetDuration(config.eviction_pressure_transition_period(), &o->eviction_pressure_transition_period);
  if (config.has_local_storage_capacity_isolation())
    o->local_storage_capacity_isolation = config.local_storage_capacity_isolation();
  if (config.has_fail_swap_on()) o->fail_swap_on = config.fail_swap_on();
  return absl::OkStatus();
}

absl::Status FillImagesAndLogs(const KubeletConfiguration& config, KubeletOptions* o) {
  if (config.has_serialize_image_pulls()) o->serialize_image_pulls = config.serialize_image_pulls();
  o->max_parallel_image_pulls = config.max_parallel_image_pulls();
  if (o->max_parallel_image_pulls < 0) return Invalid("maxParallelImagePulls", "must not be negative");
  if (o->max_parallel_image_pulls > 1 && o->serialize_image_pulls) {
    return Invalid("maxParallelImagePulls", "cannot be larger than 1 unless serializeImagePulls is false");
  }
  SetDuration(config.image_minimum_gc_age(), &o->image_minimum_gc_age);
  if (config.has_image_gc_high_threshold_percent()) {
    o->image_gc_high_threshold_percent = config.image_gc_high_threshold_percent();
  }
  if (config.has_image_gc_low_threshold_percent()) {
    o->image_gc_low_threshold_percent = config.image_gc_low_threshold_percent();
  }
  int32_t high = o->image_gc_high_threshold_percent, low = o->image_gc_low_threshold_percent;
  if (high < 0 || high > 100) return Invalid("imageGCHighThresholdPercent", "must be between 0 and 100");
  if (low < 0 || low > 100) return Invalid("imageGCLowThresholdPercent", "must be between 0 and 100");
  if (low >= high)
    return Invalid("imageGCLowThresholdPercent", "must be less than imageGCHighThresholdPercent");
  if (config.has_node_status_max_images()) o->node_status_max_images = config.node_status_max_images();
  if (!config.container_log_max_size().empty()) {
    auto size = api::Quantity::Parse(config.container_log_max_size());
    if (!size.ok() || size->Value() <= 0) {
      return Invalid("containerLogMaxSize",
                     StrCat("\"", config.container_log_max_size(), "\" is no positive quantity"));
    }
    o->container_log_max_bytes = size->Value();
  }
  if (config.has_container_log_max_files()) o->container_log_max_files = config.container_log_max_files();
  if (o->container_log_max_files <= 1) return Invalid("containerLogMaxFiles", "must be greater than 1");
  SetDuration(config.container_log_monitor_interval(), &o->container_log_monitor_interval);
  return absl::OkStatus();
}

absl::Status FillServer(const KubeletConfiguration& config, ServerSettings* s) {
  if (config.has_enable_server()) s->enabled = config.enable_server();
  if (!config.address().empty()) s->address = config.address();
  if (!net::IpAddress::Parse(s->address).ok())
    return Invalid("address", StrCat("\"", s->address, "\" is no IP address"));
  if (config.port() != 0) s->port = config.port();
  RETURN_IF_ERROR(CheckPort("port", s->port, false));
  s->tls_cert_file = config.tls_cert_file();
  s->tls_private_key_file = config.tls_private_key_file();
  if (s->tls_cert_file.empty() != s->tls_private_key_file.empty()) {
    return Invalid("tlsCertFile, tlsPrivateKeyFile", "give both or neither");
  }
  s->client_ca_file = config.authentication().x509().client_ca_file();
  if (!config.healthz_bind_address().empty()) s->healthz_address = config.healthz_bind_address();
  if (config.has_healthz_port()) s->healthz_port = config.healthz_port();
  RETURN_IF_ERROR(CheckPort("healthzPort", s->healthz_port, true));
  if (config.has_enable_debugging_handlers()) s->debugging_handlers = config.enable_debugging_handlers();
  return absl::OkStatus();
}

absl::Status FillPaths(const KubeletFlags& flags, const KubeletConfiguration& config, KubeletSettings* s) {
  s->paths = Paths::WithRoot(flags.root);
  if (!flags.root_dir.empty()) s->paths.kubelet_dir = flags.root_dir;
  if (!config.pod_logs_dir().empty()) s->paths.pod_logs_dir = config.pod_logs_dir();
  for (const auto& [name, path] :
       {std::pair("--root-dir", s->paths.kubelet_dir), std::pair("podLogsDir", s->paths.pod_logs_dir)}) {
    if (!path.starts_with('/')) return Invalid(name, StrCat("\"", path, "\" must be an absolute path"));
  }
  if (!config.cgroup_root().empty()) {
    absl::string_view root = config.cgroup_root();
    while (absl::ConsumePrefix(&root, "/")) {
    }
    while (absl::ConsumeSuffix(&root, "/")) {
    }
    for (absl::string_view part : absl::StrSplit(root, '/', absl::SkipEmpty())) {
      if (part == "." || part == "..") return Invalid("cgroupRoot", "must not contain . or ..");
    }
    s->paths.cgroup_root = std::string(root);
  }
  s->cert_dir = flags.cert_dir.empty() ? StrCat(s->paths.kubelet_dir, "/pki") : flags.cert_dir;
  return absl::OkStatus();
}

absl::Status FillIdentity(const KubeletFlags& flags, std::string_view host_name, KubeletOptions* o) {
  std::string host = absl::AsciiStrToLower(Av(host_name));
  o->node_name = flags.hostname_override.empty() ? host : absl::AsciiStrToLower(flags.hostname_override);
  o->hostname = o->node_name;
  for (const std::string& message : api::IsDns1123Subdomain(o->node_name))
    return Invalid("--hostname-override", message);
  for (absl::string_view part : absl::StrSplit(flags.node_ip, ',', absl::SkipWhitespace())) {
    auto address = net::IpAddress::Parse(Sv(absl::StripAsciiWhitespace(part)));
    if (!address.ok()) return Invalid("--node-ip", StrCat("\"", part, "\" is no IP address"));
    if (!address->is_unspecified()) o->node_ips.push_back(address->ToString());
  }
  if (o->node_ips.size() > 2) return Invalid("--node-ip", "at most one address of each family");
  RETURN_IF_ERROR(ParseLabels(flags.node_labels, &o->node_labels));
  return ParseTaints(flags.register_with_taints, &o->register_with_taints);
}

// Names of the files of a --config-dir, in order.
absl::StatusOr<std::vector<std::string>> DropIns(const std::string& folder) {
  auto names = FolderNames(folder);
  if (!names.ok()) return Annotate(names.status(), "--config-dir");
  std::vector<std::string> files;
  for (const std::string& name : *names) {
    if (name.ends_with(".conf")) files.push_back(StrCat(folder, "/", name));
  }
  return files;
}

absl::StatusOr<KubeletConfiguration> ReadConfiguration(const std::string& path) {
  ASSIGN_OR_RETURN(std::string text, ReadFile(path, api::kMaxYamlBytes));
  auto config = ParseKubeletConfiguration(text);
  if (!config.ok()) return Annotate(config.status(), path);
  return config;
}

}  // namespace

absl::StatusOr<KubeletConfiguration> ParseKubeletConfiguration(std::string_view yaml) {
  KubeletConfiguration config;
  std::vector<std::string> strict_errors;
  ASSIGN_OR_RETURN(std::string json, api::YamlDocumentToJson(yaml));
  ASSIGN_OR_RETURN(auto type, api::PeekJsonType(json));
  if (type.kind() != "KubeletConfiguration" || type.api_version() != kConfigApiVersion) {
    return absl::InvalidArgumentError(StrCat("kind \"", type.kind(), "\", apiVersion \"", type.api_version(),
                                             "\": must be KubeletConfiguration of ", kConfigApiVersion));
  }
  RETURN_IF_ERROR(api::DecodeJsonInto(json, config, &strict_errors));
  if (!strict_errors.empty()) return absl::InvalidArgumentError(absl::StrJoin(strict_errors, ", "));
  return config;
}

absl::StatusOr<KubeletSettings> MakeKubeletSettings(const KubeletFlags& flags, std::string_view host_name) {
  KubeletSettings s;
  KubeletConfiguration config;
  if (!flags.config.empty()) {
    auto read = ReadConfiguration(flags.config);
    if (!read.ok()) return Annotate(read.status(), "--config");
    config = *std::move(read);
  }
  if (!flags.config_dir.empty()) {
    ASSIGN_OR_RETURN(std::vector<std::string> files, DropIns(flags.config_dir));
    for (const std::string& file : files) {
      ASSIGN_OR_RETURN(KubeletConfiguration part, ReadConfiguration(file));
      config.MergeFrom(part);
    }
  }
  for (const auto& [flag, text] : flags.config_values) RETURN_IF_ERROR(ApplyConfigFlag(flag, text, &config));
  ASSIGN_OR_RETURN(s.warnings, ReportUnimplemented(config));
  for (const std::string& flag : flags.ignored) {
    for (const IgnoredFlag& known : IgnoredFlags()) {
      if (flag == known.flag) s.warnings.push_back(StrCat("--", flag, " has no effect: ", known.why));
    }
  }
  if (!flags.cloud_provider.empty() && flags.cloud_provider != "external") {
    return Invalid("--cloud-provider",
                   StrCat("\"", flags.cloud_provider, "\" is not implemented, leave it empty"));
  }
  if (flags.cloud_provider == "external") {
    ::k8s::core::v1::Taint taint;
    taint.set_key("node.cloudprovider.kubernetes.io/uninitialized");
    taint.set_value("true");
    taint.set_effect("NoSchedule");
    s.options.register_with_taints.push_back(taint);
  }
  RETURN_IF_ERROR(FillPaths(flags, config, &s));
  RETURN_IF_ERROR(FillIdentity(flags, host_name, &s.options));
  RETURN_IF_ERROR(FillPods(config, &s.options));
  RETURN_IF_ERROR(FillNode(config, &s.options));
  RETURN_IF_ERROR(FillImagesAndLogs(config, &s.options));
  RETURN_IF_ERROR(FillServer(config, &s.server));
  if (flags.runtime_streaming_cert.empty() != flags.runtime_streaming_key.empty()) {
    return Invalid("--runtime-streaming-cert, --runtime-streaming-key", "are given together or not at all");
  }
  s.server.runtime_tls = {flags.runtime_streaming_ca, flags.runtime_streaming_cert,
                          flags.runtime_streaming_key};
  s.options.kubelet_port = s.server.port;
  if (config.has_cgroups_per_qos()) s.options.cgroups_per_qos = config.cgroups_per_qos();
  if (!config.cgroup_driver().empty()) s.options.cgroup_driver = config.cgroup_driver();
  if (s.options.cgroup_driver != "cgroupfs" && s.options.cgroup_driver != "systemd") {
    return Invalid("cgroupDriver", StrCat("\"", s.options.cgroup_driver, "\" must be cgroupfs or systemd"));
  }
  s.runtime_endpoint = config.container_runtime_endpoint().empty() ? "unix:///run/containerd/containerd.sock"
                                                                   : config.container_runtime_endpoint();
  s.image_endpoint = config.image_service_endpoint();
  SetDuration(config.runtime_request_timeout(), &s.runtime_request_timeout);
  SetDuration(config.streaming_connection_idle_timeout(), &s.server.streaming_idle_timeout);
  s.kubeconfig = flags.kubeconfig;
  if (s.kubeconfig.empty()) s.options.register_node = false;
  s.debug_log = flags.verbosity >= 4;
  return s;
}

}  // namespace keelson::kubelet
