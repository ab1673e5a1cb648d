// Which fields of KubeletConfiguration have an effect here. Everything else that is set is named to the user.
#include <absl/strings/match.h>

#include <set>

#include "base/status.h"
#include "base/strings.h"
#include "kubelet/config/kubelet_settings.h"

namespace keelson::kubelet {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// Have an effect, or are what we do anyway whatever they say.
const std::set<std::string_view>& Implemented() {
  static const auto& fields = *new std::set<std::string_view>{
      "enableServer",
      "staticPodPath",
      "podLogsDir",
      "syncFrequency",
      "fileCheckFrequency",
      "httpCheckFrequency",
      "staticPodURL",
      "address",
      "port",
      "tlsCertFile",
      "tlsPrivateKeyFile",
      "authentication.x509.clientCAFile",
      "enableDebuggingHandlers",
      "healthzPort",
      "healthzBindAddress",
      "clusterDomain",
      "clusterDNS",
      "nodeStatusUpdateFrequency",
      "nodeStatusReportFrequency",
      "nodeLeaseDurationSeconds",
      "imageMinimumGCAge",
      "imageGCHighThresholdPercent",
      "imageGCLowThresholdPercent",
      "cgroupRoot",
      "cgroupsPerQOS",
      "cgroupDriver",
      "runtimeRequestTimeout",
      "streamingConnectionIdleTimeout",
      "maxPods",
      "podCIDR",
      "podPidsLimit",
      "resolvConf",
      "cpuCFSQuota",
      "cpuCFSQuotaPeriod",
      "nodeStatusMaxImages",
      "serializeImagePulls",
      "maxParallelImagePulls",
      "evictionHard",
      "evictionPressureTransitionPeriod",
      "mergeDefaultEvictionSettings",
      "evictionSoft",
      "evictionSoftGracePeriod",
      "evictionMinimumReclaim",
      "evictionMaxPodGracePeriod",
      "failSwapOn",
      "localStorageCapacityIsolation",
      "podsPerCore",
      "containerLogMaxSize",
      "containerLogMaxFiles",
      "containerLogMonitorInterval",
      "systemReserved",
      "kubeReserved",
      "allowedUnsafeSysctls",
      "providerID",
      "seccompDefault",
      "registerWithTaints",
      "registerNode",
      "containerRuntimeEndpoint",
      "imageServiceEndpoint",
      "crashLoopBackOff.maxContainerRestartPeriod",
  };
  return fields;
}

// What promises isolation or opens a door: refused unless it has this value.
struct Only {
  const char* field;
  const char* value;
};
constexpr Only kRefused[] = {
    {"cpuManagerPolicy", "none"},          {"memoryManagerPolicy", "None"},
    {"topologyManagerPolicy", "none"},     {"readOnlyPort", "0"},
    {"serverTLSBootstrap", "false"},       {"authentication.anonymous.enabled", "false"},
    {"memorySwap.swapBehavior", "NoSwap"}, {"runOnce", "false"},
    {"authorization.mode", "Webhook"},
};

// Upstream's defaults of fields without effect: setting them to that says nothing.
constexpr Only kDefaults[] = {
    {"authentication.webhook.enabled", "false"},
    {"hairpinMode", "promiscuous-bridge"},
    {"contentType", "application/vnd.kubernetes.protobuf"},
    {"enableControllerAttachDetach", "true"},
    {"makeIPTablesUtilChains", "true"},
    {"iptablesMasqueradeBit", "14"},
    {"iptablesDropBit", "15"},
    {"registryPullQPS", "5"},
    {"registryBurst", "10"},
    {"eventRecordQPS", "50"},
    {"eventBurst", "100"},
    {"kubeAPIQPS", "50"},
    {"kubeAPIBurst", "100"},
    {"oomScoreAdj", "-999"},
    {"maxOpenFiles", "1000000"},
    {"topologyManagerScope", "container"},
    {"configMapAndSecretChangeDetectionStrategy", "Watch"},
    {"enableSystemLogHandler", "true"},
    {"enableProfilingHandler", "true"},
    {"enableDebugFlagsHandler", "true"},
    {"containerLogMaxWorkers", "1"},
    {"failCgroupV1", "false"},
    {"singleProcessOOMKill", "true"},
    {"memoryThrottlingFactor", "0.9"},
    {"enableSystemLogQuery", "false"},
    {"tlsMinVersion", "VersionTLS12"},
    {"imagePullCredentialsVerificationPolicy", "NeverVerifyPreloadedImages"},
};

std::string TextOf(const Message& message, const FieldDescriptor* field) {
  const auto* reflection = message.GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return reflection->GetString(message, field);
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection->GetBool(message, field) ? "true" : "false";
    case FieldDescriptor::CPPTYPE_INT32:
      return StrCat(reflection->GetInt32(message, field));
    case FieldDescriptor::CPPTYPE_INT64:
      return StrCat(reflection->GetInt64(message, field));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return StrCat(reflection->GetDouble(message, field));
    default:
      return "";
  }
}

absl::Status Look(const Message& message, const std::string& prefix, std::vector<std::string>* warnings) {
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    std::string name = StrCat(prefix, field->json_name());
    if (Implemented().contains(name)) continue;
    bool duration = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && !field->is_repeated() &&
                    field->message_type() == ::k8s::meta::v1::Duration::descriptor();
    if (duration) {
      const auto& value =
          static_cast<const ::k8s::meta::v1::Duration&>(message.GetReflection()->GetMessage(message, field));
      if (value.duration() != 0) warnings->push_back(StrCat(name, " has no effect"));
      continue;
    }
    // `logging` is raw JSON every generated configuration carries; lines are logfmt on stderr whatever it
    // says.
    if (name == "logging" || name == "tracing") {
      if (name == "tracing") warnings->push_back("tracing has no effect");
      continue;
    }
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && !field->is_repeated()) {
      RETURN_IF_ERROR(Look(message.GetReflection()->GetMessage(message, field), StrCat(name, "."), warnings));
      continue;
    }
    std::string value = field->is_repeated() ? "" : TextOf(message, field);
    bool silent = false;
    for (const Only& rule : kRefused) {
      if (name != rule.field) continue;
      if (value != rule.value) {
        return absl::InvalidArgumentError(
            StrCat(name, ": \"", value, "\" is not implemented, only \"", rule.value, "\" is"));
      }
      silent = true;
    }
    for (const Only& rule : kDefaults) silent = silent || (name == rule.field && value == rule.value);
    if (name == "reservedSystemCPUs" || name == "reservedMemory" || name == "qosReserved") {
      return absl::InvalidArgumentError(StrCat(name, ": is not implemented"));
    }
    if (!silent)
      warnings->push_back(StrCat(name, value.empty() ? "" : StrCat(" \"", value, "\""), " has no effect"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ReportUnimplemented(const KubeletConfiguration& config) {
  std::vector<std::string> warnings;
  RETURN_IF_ERROR(Look(config, "", &warnings));
  return warnings;
}

}  // namespace keelson::kubelet
