#include "oci/spec.h"

#include <absl/strings/match.h>

#include <nlohmann/json.hpp>

#include "base/json_guard.h"
#include "base/status.h"
#include "oci/signals.h"
#include "oci/spec_parts.h"

namespace keelson::oci {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kMaxConfigDepth = 32;
constexpr size_t kMaxConfigBytes = 8 << 20;
constexpr char kCriuConfig[] = "org.criu.config";

bool Matches(std::string_view key, const std::vector<std::string>& patterns) {
  for (const std::string& pattern : patterns) {
    if (pattern == key) return true;
    if (absl::EndsWith(pattern, "*") &&
        absl::StartsWith(Av(key), absl::string_view(pattern).substr(0, pattern.size() - 1))) {
      return true;
    }
  }
  return false;
}

// What other CRI runtimes tell the OCI runtime and its hooks, and what the container and its pod say
// themselves.
std::map<std::string, std::string> Annotations(const SpecInput& input) {
  std::map<std::string, std::string> out;
  for (const auto& [key, value] : input.sandbox->annotations()) {
    if (Matches(key, input.pod_annotation_patterns)) out[key] = value;
  }
  for (const auto& [key, value] : input.container->annotations()) out[key] = value;
  // criu runs programs that its configuration names.
  out.erase(kCriuConfig);
  if (!input.criu_config_path.empty()) out[kCriuConfig] = input.criu_config_path;
  const criv1::PodSandboxMetadata& pod = input.sandbox->metadata();
  out["io.kubernetes.cri.container-type"] = "container";
  out["io.kubernetes.cri.container-name"] = input.container->metadata().name();
  out["io.kubernetes.cri.image-name"] = input.container->image().image();
  out["io.kubernetes.cri.sandbox-id"] = input.sandbox_id;
  out["io.kubernetes.cri.sandbox-name"] = pod.name();
  out["io.kubernetes.cri.sandbox-namespace"] = pod.namespace_();
  out["io.kubernetes.cri.sandbox-uid"] = pod.uid();
  return out;
}

absl::Status CheckInput(const SpecInput& input) {
  if (input.container == nullptr || input.sandbox == nullptr) {
    return absl::InvalidArgumentError("config: is missing");
  }
  if (input.container->linux().security_context().privileged() &&
      !input.sandbox->linux().security_context().privileged()) {
    return absl::InvalidArgumentError(
        "security_context.privileged: no privileged container in a sandbox that is not");
  }
  return absl::OkStatus();
}

std::string StopSignal(const SpecInput& input, Warnings* warnings) {
  const std::string wanted = SignalName(input.container->stop_signal());
  if (!wanted.empty()) return wanted;
  if (input.image.stop_signal.empty()) return "SIGTERM";
  absl::StatusOr<int> number = ParseSignal(input.image.stop_signal);
  if (number.ok()) return SignalName(*number);
  warnings->push_back(StrCat("the image's stop signal: ", number.status().message(), ", SIGTERM instead"));
  return "SIGTERM";
}

absl::Status AddPaths(const google::protobuf::RepeatedPtrField<std::string>& paths, std::string_view field,
                      std::vector<std::string>* out) {
  for (const std::string& path : paths) {
    if (!absl::StartsWith(path, "/")) {
      return absl::InvalidArgumentError(
          StrCat("security_context.", field, ": \"", path, "\" is not absolute"));
    }
    out->push_back(path);
  }
  return absl::OkStatus();
}

absl::Status BuildLinux(const SpecInput& input, RuntimeSpec* spec, Warnings* warnings) {
  const auto& linux_config = input.container->linux();
  const auto& security = linux_config.security_context();
  RETURN_IF_ERROR(BuildNamespaces(input, spec));
  ASSIGN_OR_RETURN(spec->resources, BuildResources(linux_config.resources(), input.host, warnings));
  RETURN_IF_ERROR(BuildDevices(input, spec));
  RETURN_IF_ERROR(BuildConfinement(input, spec, warnings));
  spec->cgroups_path = input.cgroups_path;
  if (security.privileged()) return absl::OkStatus();
  RETURN_IF_ERROR(AddPaths(security.masked_paths(), "masked_paths", &spec->masked_paths));
  return AddPaths(security.readonly_paths(), "readonly_paths", &spec->readonly_paths);
}

}  // namespace

absl::StatusOr<SpecOutput> GenerateSpec(const SpecInput& input) {
  RETURN_IF_ERROR(CheckInput(input));
  RuntimeSpec spec;
  SpecOutput out;
  ASSIGN_OR_RETURN(spec.process, BuildProcess(input, &out.warnings));
  RETURN_IF_ERROR(BuildLinux(input, &spec, &out.warnings));
  ASSIGN_OR_RETURN(MountPlan plan, PlanMounts(input));
  spec.mounts = std::move(plan.mounts);
  spec.rootfs_propagation = plan.rootfs_propagation;
  spec.root_path = input.rootfs_path;
  spec.root_readonly =
      input.rootfs_readonly_layer || input.container->linux().security_context().readonly_rootfs();
  spec.hooks = input.cdi_hooks;
  spec.annotations = Annotations(input);
  // crun would put the process one below its scope, where nobody looks for limits and figures.
  if (input.host.systemd_cgroup && input.host.cgroup_v2 && input.runtime_handler == "crun") {
    spec.annotations["run.oci.systemd.subgroup"] = "";
  }

  out.config_json = RenderSpec(spec);
  out.stop_signal = StopSignal(input, &out.warnings);
  out.args = spec.process.args;
  out.oom_score_adj = spec.process.oom_score_adj;
  out.bind_sources = std::move(plan.bind_sources);
  return out;
}

absl::StatusOr<std::string> GenerateExecProcess(std::string_view config_json,
                                                const std::vector<std::string>& command, bool tty) {
  if (command.empty()) return absl::InvalidArgumentError("cmd: is empty");
  for (const std::string& arg : command) {
    if (arg.find('\0') != std::string::npos) return absl::InvalidArgumentError("cmd: contains a NUL byte");
  }
  if (config_json.size() > kMaxConfigBytes || JsonDeeperThan(config_json, kMaxConfigDepth)) {
    return absl::InternalError("config.json of the container: too large");
  }
  Json config = Json::parse(config_json.begin(), config_json.end(), nullptr, /*allow_exceptions=*/false);
  if (!config.is_object() || !config.contains("process") || !config["process"].is_object()) {
    return absl::InternalError("config.json of the container: has no process");
  }
  Json process = std::move(config["process"]);
  process["args"] = command;
  process["terminal"] = tty;
  process.erase("consoleSize");
  // Whatever made the container's config: an exec'd program inherits what is ambient and nothing else.
  if (auto capabilities = process.find("capabilities");
      capabilities != process.end() && capabilities->is_object()) {
    (*capabilities)["inheritable"] = capabilities->value("ambient", Json::array());
  }
  if (tty && process.contains("env") && process["env"].is_array()) {
    bool has_term = false;
    for (const Json& entry : process["env"]) {
      has_term |= entry.is_string() && absl::StartsWith(entry.get_ref<const std::string&>(), "TERM=");
    }
    if (!has_term) process["env"].push_back("TERM=xterm");
  }
  return process.dump(-1, ' ', false, Json::error_handler_t::replace);
}

absl::StatusOr<std::string> ReplaceResources(std::string_view config_json, std::string_view resources_json) {
  if (config_json.size() > kMaxConfigBytes || JsonDeeperThan(config_json, kMaxConfigDepth)) {
    return absl::InternalError("config.json of the container: too large");
  }
  Json config = Json::parse(config_json.begin(), config_json.end(), nullptr, /*allow_exceptions=*/false);
  Json resources =
      Json::parse(resources_json.begin(), resources_json.end(), nullptr, /*allow_exceptions=*/false);
  if (!config.is_object() || !config.contains("linux") || !config["linux"].is_object() ||
      !resources.is_object()) {
    return absl::InternalError("config.json of the container: has no linux section");
  }
  Json& old = config["linux"]["resources"];
  if (old.is_object() && old.contains("devices")) resources["devices"] = old["devices"];
  old = std::move(resources);
  return config.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace keelson::oci
