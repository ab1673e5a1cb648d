#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>

#include "api/time.h"
#include "base/status.h"
#include "base/strings.h"
#include "kubelet/config/kubelet_settings.h"

namespace keelson::kubelet {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

absl::Status Bad(const std::string& flag, const std::string& text, const char* wanted) {
  return absl::InvalidArgumentError(StrCat("--", flag, " \"", text, "\": must be ", wanted));
}

absl::Status SetMap(const std::string& flag, const std::string& text, const FieldDescriptor* field,
                    Message* message) {
  const auto* reflection = message->GetReflection();
  reflection->ClearField(message, field);
  const FieldDescriptor* value_field = field->message_type()->map_value();
  for (absl::string_view part : absl::StrSplit(text, ',', absl::SkipWhitespace())) {
    // Eviction thresholds are written signal<value on the command line.
    size_t at = part.find_first_of("=<");
    if (at == absl::string_view::npos || at == 0) return Bad(flag, text, "a list of key=value");
    Message* entry = reflection->AddMessage(message, field);
    const auto* entry_reflection = entry->GetReflection();
    entry_reflection->SetString(entry, field->message_type()->map_key(), std::string(part.substr(0, at)));
    std::string value(part.substr(at + 1));
    if (value_field->cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
      entry_reflection->SetString(entry, value_field, value);
      continue;
    }
    bool flag_value = false;
    if (!absl::SimpleAtob(value, &flag_value)) return Bad(flag, text, "a list of key=true or key=false");
    entry_reflection->SetBool(entry, value_field, flag_value);
  }
  return absl::OkStatus();
}

absl::Status SetList(const std::string& flag, const std::string& text, const FieldDescriptor* field,
                     Message* message) {
  if (field->cpp_type() != FieldDescriptor::CPPTYPE_STRING)
    return Bad(flag, text, "given in the configuration file");
  const auto* reflection = message->GetReflection();
  reflection->ClearField(message, field);
  for (absl::string_view part : absl::StrSplit(text, ',', absl::SkipWhitespace())) {
    reflection->AddString(message, field, std::string(part));
  }
  return absl::OkStatus();
}

absl::Status SetScalar(const std::string& flag, const std::string& text, const FieldDescriptor* field,
                       Message* message) {
  const auto* reflection = message->GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      reflection->SetString(message, field, text);
      return absl::OkStatus();
    case FieldDescriptor::CPPTYPE_BOOL: {
      bool value = false;
      if (!absl::SimpleAtob(text, &value)) return Bad(flag, text, "true or false");
      reflection->SetBool(message, field, value);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_INT32: {
      int32_t value = 0;
      if (!absl::SimpleAtoi(text, &value)) return Bad(flag, text, "a number");
      reflection->SetInt32(message, field, value);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_INT64: {
      int64_t value = 0;
      if (!absl::SimpleAtoi(text, &value)) return Bad(flag, text, "a number");
      reflection->SetInt64(message, field, value);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_MESSAGE: {
      if (field->message_type() != ::k8s::meta::v1::Duration::descriptor()) break;
      auto value = api::ParseGoDuration(text);
      if (!value.ok()) return Bad(flag, text, "a duration such as 10s");
      auto* duration = static_cast<::k8s::meta::v1::Duration*>(reflection->MutableMessage(message, field));
      duration->set_duration(*value);
      return absl::OkStatus();
    }
    default:
      break;
  }
  return Bad(flag, text, "given in the configuration file");
}

const FieldDescriptor* FieldByJsonName(const Message& message, std::string_view name) {
  const auto* descriptor = message.GetDescriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    if (std::string_view(descriptor->field(i)->json_name()) == name) return descriptor->field(i);
  }
  return nullptr;
}

}  // namespace

const std::vector<ConfigFlag>& ConfigFlags() {
  static const auto& flags = *new std::vector<ConfigFlag>{
      {"address", "address", "Address to serve on"},
      {"allowed-unsafe-sysctls", "allowedUnsafeSysctls", "Sysctls or patterns ending in * that pods may set"},
      {"anonymous-auth", "authentication.anonymous.enabled", "Let anonymous requests in"},
      {"authentication-token-webhook", "authentication.webhook.enabled",
       "Ask the API server about bearer tokens"},
      {"authorization-mode", "authorization.mode", "AlwaysAllow or Webhook"},
      {"cgroup-driver", "cgroupDriver", "cgroupfs or systemd"},
      {"cgroup-root", "cgroupRoot", "Cgroup above kubepods"},
      {"cgroups-per-qos", "cgroupsPerQOS", "Make the QoS cgroups"},
      {"client-ca-file", "authentication.x509.clientCAFile", "Authorities of client certificates"},
      {"cluster-dns", "clusterDNS", "DNS servers of pods with dnsPolicy ClusterFirst"},
      {"cluster-domain", "clusterDomain", "DNS domain of the cluster"},
      {"container-log-max-files", "containerLogMaxFiles", "Log files kept per container"},
      {"container-log-max-size", "containerLogMaxSize", "Size a log file is rotated at, such as 10Mi"},
      {"container-runtime-endpoint", "containerRuntimeEndpoint",
       "CRI socket, unix:///run/containerd/containerd.sock"},
      {"contention-profiling", "enableContentionProfiling", "Profiling of locks"},
      {"cpu-cfs-quota", "cpuCFSQuota", "Enforce CPU limits by quota"},
      {"cpu-cfs-quota-period", "cpuCFSQuotaPeriod", "Period of the quota"},
      {"cpu-manager-policy", "cpuManagerPolicy", "none"},
      {"cpu-manager-reconcile-period", "cpuManagerReconcilePeriod", "Of the CPU manager"},
      {"enable-controller-attach-detach", "enableControllerAttachDetach", "Attach by the controller"},
      {"enable-debugging-handlers", "enableDebuggingHandlers", "Serve logs, exec and port-forward"},
      {"enable-server", "enableServer", "Serve the kubelet's port"},
      {"enforce-node-allocatable", "enforceNodeAllocatable", "Which reservations are enforced: pods"},
      {"event-burst", "eventBurst", "Burst of events"},
      {"event-qps", "eventRecordQPS", "Events a second"},
      {"eviction-hard", "evictionHard", "Thresholds, memory.available<100Mi,..."},
      {"eviction-max-pod-grace-period", "evictionMaxPodGracePeriod", "Grace at soft evictions"},
      {"eviction-minimum-reclaim", "evictionMinimumReclaim", "Least reclaimed by an eviction"},
      {"eviction-pressure-transition-period", "evictionPressureTransitionPeriod",
       "Before pressure is said to be over"},
      {"eviction-soft", "evictionSoft", "Soft thresholds"},
      {"eviction-soft-grace-period", "evictionSoftGracePeriod", "Grace of soft thresholds"},
      {"fail-swap-on", "failSwapOn", "Refuse to start with swap"},
      {"feature-gates", "featureGates", "Name=true,..."},
      {"file-check-frequency", "fileCheckFrequency", "Between looks at the manifest folder"},
      {"hairpin-mode", "hairpinMode", "Of the bridge"},
      {"healthz-bind-address", "healthzBindAddress", "Address of healthz"},
      {"healthz-port", "healthzPort", "Port of healthz, 0: none"},
      {"http-check-frequency", "httpCheckFrequency", "Between looks at the manifest URL"},
      {"image-gc-high-threshold", "imageGCHighThresholdPercent", "Disk use that starts image collection"},
      {"image-gc-low-threshold", "imageGCLowThresholdPercent", "Disk use it goes down to"},
      {"image-service-endpoint", "imageServiceEndpoint", "CRI socket of the image service"},
      {"kube-api-burst", "kubeAPIBurst", "Burst of API calls"},
      {"kube-api-qps", "kubeAPIQPS", "API calls a second"},
      {"kube-reserved", "kubeReserved", "Kept for Kubernetes, cpu=100m,memory=100Mi"},
      {"kube-reserved-cgroup", "kubeReservedCgroup", "Cgroup of kube-reserved"},
      {"kubelet-cgroups", "kubeletCgroups", "Cgroup for the kubelet"},
      {"local-storage-capacity-isolation", "localStorageCapacityIsolation", "Count ephemeral storage"},
      {"make-iptables-util-chains", "makeIPTablesUtilChains", "Chains of iptables"},
      {"manifest-url", "staticPodURL", "URL of static pods"},
      {"max-open-files", "maxOpenFiles", "Descriptors of the kubelet"},
      {"max-pods", "maxPods", "Pods this node takes"},
      {"memory-manager-policy", "memoryManagerPolicy", "None"},
      {"minimum-image-ttl-duration", "imageMinimumGCAge", "Age of images that may be collected"},
      {"node-status-max-images", "nodeStatusMaxImages", "Images named in the Node's status"},
      {"node-status-update-frequency", "nodeStatusUpdateFrequency", "Between looks at the node's status"},
      {"oom-score-adj", "oomScoreAdj", "Of the kubelet"},
      {"pod-cidr", "podCIDR", "Addresses of pods, without an API server"},
      {"pod-manifest-path", "staticPodPath", "Folder or file of static pods"},
      {"pod-max-pids", "podPidsLimit", "Processes of a pod"},
      {"pods-per-core", "podsPerCore", "Pods per CPU"},
      {"port", "port", "Port to serve on"},
      {"protect-kernel-defaults", "protectKernelDefaults", "Refuse to change sysctls"},
      {"provider-id", "providerID", "Of the Node"},
      {"qos-reserved", "qosReserved", "Of QoS classes"},
      {"read-only-port", "readOnlyPort", "Port without authentication; 0: none"},
      {"register-node", "registerNode", "Make the Node object"},
      {"registry-burst", "registryBurst", "Burst of pulls"},
      {"registry-qps", "registryPullQPS", "Pulls a second"},
      {"reserved-cpus", "reservedSystemCPUs", "CPUs kept for the system"},
      {"resolv-conf", "resolvConf", "resolv.conf pods start from"},
      {"rotate-certificates", "rotateCertificates", "Ask for new client certificates"},
      {"rotate-server-certificates", "serverTLSBootstrap", "Ask for serving certificates"},
      {"runtime-request-timeout", "runtimeRequestTimeout", "Bound of a CRI call"},
      {"seccomp-default", "seccompDefault", "RuntimeDefault where a pod says nothing"},
      {"serialize-image-pulls", "serializeImagePulls", "One pull at a time"},
      {"streaming-connection-idle-timeout", "streamingConnectionIdleTimeout", "Of exec and attach"},
      {"sync-frequency", "syncFrequency", "Between syncs of an unchanged pod"},
      {"system-cgroups", "systemCgroups", "Cgroup for the system"},
      {"system-reserved", "systemReserved", "Kept for the system"},
      {"system-reserved-cgroup", "systemReservedCgroup", "Cgroup of system-reserved"},
      {"tls-cert-file", "tlsCertFile", "Serving certificate"},
      {"tls-cipher-suites", "tlsCipherSuites", "Suites offered"},
      {"tls-min-version", "tlsMinVersion", "VersionTLS12 or VersionTLS13"},
      {"tls-private-key-file", "tlsPrivateKeyFile", "Its key"},
      {"topology-manager-policy", "topologyManagerPolicy", "none"},
      {"topology-manager-scope", "topologyManagerScope", "container or pod"},
      {"volume-plugin-dir", "volumePluginDir", "Of flex volumes"},
      {"volume-stats-agg-period", "volumeStatsAggPeriod", "Between volume statistics"},
  };
  return flags;
}

const std::vector<IgnoredFlag>& IgnoredFlags() {
  static const auto& flags = *new std::vector<IgnoredFlag>{
      {"application-metrics-count-limit", "deprecated"},
      {"authentication-token-webhook-cache-ttl", "tokens are not looked up"},
      {"authorization-webhook-cache-authorized-ttl", "authorisation is static"},
      {"authorization-webhook-cache-unauthorized-ttl", "authorisation is static"},
      {"boot-id-file", "deprecated"},
      {"bootstrap-kubeconfig", "certificates are made by whoever wrote the kubeconfig"},
      {"container-hints", "deprecated"},
      {"container-runtime", "deprecated: always remote"},
      {"containerd", "deprecated"},
      {"containerd-namespace", "deprecated"},
      {"enable-load-reader", "deprecated"},
      {"event-storage-age-limit", "deprecated"},
      {"event-storage-event-limit", "deprecated"},
      {"exit-on-lock-contention", "there is no lock file"},
      {"experimental-allocatable-ignore-eviction", "deprecated"},
      {"global-housekeeping-interval", "deprecated"},
      {"housekeeping-interval", "deprecated"},
      {"image-credential-provider-bin-dir", "credential providers are not run"},
      {"image-credential-provider-config", "credential providers are not run"},
      {"iptables-drop-bit", "the proxy decides"},
      {"iptables-masquerade-bit", "the proxy decides"},
      {"keep-terminated-pod-volumes", "deprecated"},
      {"lock-file", "there is no lock file"},
      {"log-cadvisor-usage", "deprecated"},
      {"log-flush-frequency", "lines are written at once"},
      {"log-json-info-buffer-size", "lines are written at once"},
      {"log-json-split-stream", "lines go to stderr"},
      {"log-text-info-buffer-size", "lines are written at once"},
      {"log-text-split-stream", "lines go to stderr"},
      {"logging-format", "lines are logfmt"},
      {"machine-id-file", "deprecated"},
      {"manifest-url-header", "no header is sent"},
      {"maximum-dead-containers", "deprecated"},
      {"maximum-dead-containers-per-container", "deprecated: one is kept"},
      {"minimum-container-ttl-duration", "deprecated"},
      {"node-status-report-frequency", "deprecated as a flag"},
      {"pod-infra-container-image", "deprecated: the runtime's configuration names it"},
      {"reserved-memory", "there is no memory manager"},
      {"runonce", "deprecated"},
      {"storage-driver-buffer-duration", "deprecated"},
      {"storage-driver-db", "deprecated"},
      {"storage-driver-host", "deprecated"},
      {"storage-driver-password", "deprecated"},
      {"storage-driver-secure", "deprecated"},
      {"storage-driver-table", "deprecated"},
      {"storage-driver-user", "deprecated"},
      {"topology-manager-policy-options", "there is no topology manager"},
      {"cpu-manager-policy-options", "there is no CPU manager"},
      {"vmodule", "one level for all"},
  };
  return flags;
}

absl::Status ApplyConfigFlag(const std::string& flag, const std::string& text, KubeletConfiguration* config) {
  for (const ConfigFlag& known : ConfigFlags()) {
    if (flag != known.flag) continue;
    Message* message = config;
    std::vector<std::string> path = absl::StrSplit(known.field, '.');
    for (size_t i = 0; i + 1 < path.size(); ++i) {
      message = message->GetReflection()->MutableMessage(message, FieldByJsonName(*message, path[i]));
    }
    const FieldDescriptor* field = FieldByJsonName(*message, path.back());
    if (field == nullptr) return absl::InternalError(StrCat("--", flag, ": no field ", known.field));
    if (field->is_map()) return SetMap(flag, text, field, message);
    if (field->is_repeated()) return SetList(flag, text, field, message);
    return SetScalar(flag, text, field, message);
  }
  return absl::InvalidArgumentError(StrCat("unknown flag --", flag));
}

}  // namespace keelson::kubelet
