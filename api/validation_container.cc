// Containers of a pod: image, ports, environment, mounts, probes, hooks, restart rules.
#include <absl/strings/ascii.h>

#include <algorithm>

#include "api/labels.h"
#include "api/options.pb.h"
#include "api/validation_internal.h"
#include "base/strings.h"

namespace keelson::api::validation {

namespace corev1 = ::k8s::core::v1;

namespace {

constexpr size_t kMaxRestartRules = 20;
constexpr size_t kMaxExitCodes = 255;

void EnvName(const std::string& field, const std::string& name, Errors& errors) {
  if (name.empty()) return errors.Required(field);
  // RelaxedEnvironmentVariableValidation: printable ASCII but '='.
  for (unsigned char c : name) {
    if (c < 0x20 || c > 0x7e || c == '=') {
      return errors.InvalidText(
          field, name,
          "a valid environment variable name must consist only of printable ASCII characters "
          "other than '='");
    }
  }
}

void Env(const google::protobuf::RepeatedPtrField<corev1::EnvVar>& env, const std::string& path,
         Errors& errors) {
  for (int i = 0; i < env.size(); ++i) {
    std::string here = Index(path, static_cast<size_t>(i));
    EnvName(Child(here, "name"), env[i].name(), errors);
    if (!env[i].has_value_from()) continue;
    const auto& from = env[i].value_from();
    std::string source = Child(here, "valueFrom");
    int count = from.has_field_ref() + from.has_resource_field_ref() + from.has_config_map_key_ref() +
                from.has_secret_key_ref() + from.has_file_key_ref();
    if (count == 0) {
      errors.InvalidText(
          source, "",
          "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`");
    } else if (count > 1) {
      errors.InvalidText(source, "", "may not have more than one field specified at a time");
    } else if (!env[i].value().empty()) {
      errors.InvalidText(source, "", "may not be specified when `value` is not empty");
    }
    if (from.has_field_ref()) FieldRef(from.field_ref(), false, Child(source, "fieldRef"), errors);
    if (from.has_resource_field_ref()) {
      ResourceFieldRef(from.resource_field_ref(), false, Child(source, "resourceFieldRef"), errors);
    }
    if (from.has_config_map_key_ref()) {
      if (from.config_map_key_ref().local_object_reference().name().empty()) {
        errors.Required(Child(source, "configMapKeyRef.name"));
      }
      if (from.config_map_key_ref().key().empty()) errors.Required(Child(source, "configMapKeyRef.key"));
    }
    if (from.has_secret_key_ref()) {
      if (from.secret_key_ref().local_object_reference().name().empty()) {
        errors.Required(Child(source, "secretKeyRef.name"));
      }
      if (from.secret_key_ref().key().empty()) errors.Required(Child(source, "secretKeyRef.key"));
    }
  }
}

void EnvFrom(const google::protobuf::RepeatedPtrField<corev1::EnvFromSource>& list, const std::string& path,
             Errors& errors) {
  for (int i = 0; i < list.size(); ++i) {
    const std::string here = Index(path, static_cast<size_t>(i));
    if (!list[i].prefix().empty()) EnvName(Child(here, "prefix"), list[i].prefix(), errors);
    auto source = [&](const auto& ref, const char* field) {
      const std::string name = Child(Child(here, field), "name");
      if (ref.local_object_reference().name().empty()) errors.Required(name);
      errors.Name(name, ref.local_object_reference().name(), IsDns1123Subdomain);
    };
    if (list[i].has_config_map_ref()) source(list[i].config_map_ref(), "configMapRef");
    if (list[i].has_secret_ref()) source(list[i].secret_ref(), "secretRef");
    const int sources = list[i].has_config_map_ref() + list[i].has_secret_ref();
    if (sources == 0) errors.InvalidText(path, "", "must specify one of: `configMapRef` or `secretRef`");
    if (sources > 1) errors.InvalidText(path, "", "may not have more than one field specified at a time");
  }
}

void IntOrStringPort(const ::k8s::util::intstr::IntOrString& port, const std::string& path, Errors& errors) {
  if (port.type() == 0) {
    errors.Port(path, port.int_val());
  } else {
    errors.PortName(path, port.str_val());
  }
}

void HttpGet(const corev1::HTTPGetAction& get, const std::string& path, Errors& errors) {
  if (get.path().empty()) errors.Required(Child(path, "path"));
  IntOrStringPort(get.port(), Child(path, "port"), errors);
  errors.OneOf(Child(path, "scheme"), get.scheme(), {"HTTP", "HTTPS"});
  for (const corev1::HTTPHeader& header : get.http_headers()) {
    if (!header.name().empty() && std::all_of(header.name().begin(), header.name().end(), [](char c) {
          return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-';
        })) {
      continue;
    }
    errors.InvalidText(Child(path, "httpHeaders"), header.name(),
                       "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. "
                       "'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')");
  }
}

// What probes and hooks have in common. `handlers`: how many are set.
template <class Handler>
void Action(const Handler& handler, int handlers, const std::string& path, Errors& errors) {
  if (handlers == 0) errors.Required(path, "must specify a handler type");
  if (handlers > 1) errors.Forbidden(path, "may not specify more than 1 handler type");
  if (handler.has_exec() && handler.exec().command().empty()) errors.Required(Child(path, "exec.command"));
  if (handler.has_http_get()) HttpGet(handler.http_get(), Child(path, "httpGet"), errors);
  if (handler.has_tcp_socket()) {
    IntOrStringPort(handler.tcp_socket().port(), Child(path, "tcpSocket.port"), errors);
  }
}

enum class ProbeOf { kLiveness, kReadiness, kStartup };

void Probe(const corev1::Probe& probe, ProbeOf of, const std::string& path, Errors& errors) {
  const auto& handler = probe.probe_handler();
  Action(handler, handler.has_exec() + handler.has_http_get() + handler.has_tcp_socket() + handler.has_grpc(),
         path, errors);
  if (handler.has_grpc()) errors.Port(Child(path, "grpc.port"), handler.grpc().port());
  errors.NonNegative(Child(path, "initialDelaySeconds"), probe.initial_delay_seconds());
  errors.NonNegative(Child(path, "timeoutSeconds"), probe.timeout_seconds());
  errors.NonNegative(Child(path, "periodSeconds"), probe.period_seconds());
  errors.NonNegative(Child(path, "successThreshold"), probe.success_threshold());
  errors.NonNegative(Child(path, "failureThreshold"), probe.failure_threshold());
  const std::string grace = Child(path, "terminationGracePeriodSeconds");
  if (probe.has_termination_grace_period_seconds()) {
    const int64_t grace_s = probe.termination_grace_period_seconds();
    if (grace_s <= 0) errors.InvalidNumber(grace, grace_s, "must be greater than 0");
    if (of == ProbeOf::kReadiness) {
      errors.InvalidNumber(grace, grace_s, "must not be set for readinessProbes");
    }
  }
  if (of != ProbeOf::kReadiness && probe.success_threshold() != 1) {
    errors.InvalidNumber(Child(path, "successThreshold"), probe.success_threshold(), "must be 1");
  }
}

void Hook(const corev1::LifecycleHandler& handler, int64_t grace_s, const std::string& path, Errors& errors) {
  Action(handler,
         handler.has_exec() + handler.has_http_get() + handler.has_tcp_socket() + handler.has_sleep(), path,
         errors);
  if (handler.has_sleep() && (handler.sleep().seconds() < 0 || handler.sleep().seconds() > grace_s)) {
    errors.InvalidNumber(
        Child(path, "sleep"), handler.sleep().seconds(),
        StrCat("must be non-negative and less than terminationGracePeriodSeconds (", grace_s, ")"));
  }
}

void Lifecycle(const corev1::Lifecycle& lifecycle, int64_t grace_s, const std::string& path, Errors& errors) {
  if (lifecycle.has_post_start()) Hook(lifecycle.post_start(), grace_s, Child(path, "postStart"), errors);
  if (lifecycle.has_pre_stop()) Hook(lifecycle.pre_stop(), grace_s, Child(path, "preStop"), errors);
  if (!lifecycle.has_stop_signal()) return;
  // Upstream wants spec.os.name with it; here a pod is a Linux one without.
  const auto* field = corev1::Lifecycle::descriptor()->FindFieldByName("stop_signal");
  const auto& known = field->options().GetExtension(::keelson::options::field).enum_value();
  std::vector<std::string> signals(known.begin(), known.end());
  std::sort(signals.begin(), signals.end());
  errors.Supported(Child(path, "stopSignal"), lifecycle.stop_signal(), signals);
}

void Ports(const google::protobuf::RepeatedPtrField<corev1::ContainerPort>& ports, const std::string& path,
           Errors& errors) {
  StringSet names;
  for (int i = 0; i < ports.size(); ++i) {
    const auto& port = ports[i];
    std::string here = Index(path, static_cast<size_t>(i));
    if (!port.name().empty()) {
      errors.PortName(Child(here, "name"), port.name());
      if (!names.insert(port.name()).second) errors.Duplicate(Child(here, "name"), port.name());
    }
    if (port.container_port() == 0) {
      errors.Required(Child(here, "containerPort"));
    } else {
      errors.Port(Child(here, "containerPort"), port.container_port());
    }
    if (port.host_port() != 0) errors.Port(Child(here, "hostPort"), port.host_port());
    errors.OneOf(Child(here, "protocol"), port.protocol(), kProtocols);
  }
}

// Each host port once: in all of `containers`, which run together.
template <class Containers>
void HostPorts(const Containers& containers, int first, const std::string& path, Errors& errors) {
  StringSet seen;
  int i = first;
  for (const corev1::Container& container : containers) {
    const std::string ports = Child(Index(path, static_cast<size_t>(i++)), "ports");
    for (int k = 0; k < container.ports_size(); ++k) {
      const corev1::ContainerPort& port = container.ports(k);
      if (port.host_port() == 0) continue;
      const std::string key = StrCat(port.protocol(), "/", port.host_ip(), "/", port.host_port());
      if (seen.insert(key).second) continue;
      errors.Duplicate(Child(Index(ports, static_cast<size_t>(k)), "hostPort"), key);
    }
  }
}

void Mounts(const corev1::Container& container, const StringSet& volumes, const std::string& path,
            Errors& errors) {
  StringSet mount_paths;
  for (int i = 0; i < container.volume_mounts_size(); ++i) {
    const corev1::VolumeMount& mount = container.volume_mounts(i);
    std::string here = Index(path, static_cast<size_t>(i));
    if (mount.name().empty()) {
      errors.Required(Child(here, "name"));
    } else if (!volumes.contains(mount.name())) {
      errors.NotFound(Child(here, "name"), mount.name());
    }
    if (mount.mount_path().empty()) errors.Required(Child(here, "mountPath"));
    if (!mount_paths.insert(mount.mount_path()).second) {
      errors.InvalidText(Child(here, "mountPath"), mount.mount_path(), "must be unique");
    }
    if (!mount.sub_path().empty()) RelativePath(Child(here, "subPath"), mount.sub_path(), errors);
    if (!mount.sub_path().empty() && !mount.sub_path_expr().empty()) {
      errors.InvalidText(Child(here, "subPathExpr"), mount.sub_path_expr(),
                         "subPathExpr and subPath are mutually exclusive");
    }
    RelativePath(Child(here, "subPathExpr"), mount.sub_path_expr(), errors);
    const std::string& propagation = mount.mount_propagation();
    if (mount.has_mount_propagation()) {
      const std::string field = Child(path, "mountPropagation");
      errors.Supported(field, propagation, {"Bidirectional", "HostToContainer", "None"});
      if (propagation == "Bidirectional" && !container.security_context().privileged()) {
        errors.Forbidden(field, "Bidirectional mount propagation is available only to privileged containers");
      }
    }
    if (!mount.has_recursive_read_only()) continue;
    const std::string field = Child(path, "recursiveReadOnly");
    errors.Supported(field, mount.recursive_read_only(), {"Disabled", "Enabled", "IfPossible"});
    if (mount.recursive_read_only() != "Enabled" && mount.recursive_read_only() != "IfPossible") continue;
    if (!mount.read_only()) errors.Forbidden(field, "may only be specified when readOnly is true");
    if (mount.has_mount_propagation() && propagation != "None") {
      errors.Forbidden(field, "may only be specified when mountPropagation is None or not specified");
    }
  }
}

void ResizePolicy(const corev1::Container& container, const std::string& pod_policy, const std::string& path,
                  Errors& errors) {
  StringSet resources;
  for (int i = 0; i < container.resize_policy_size(); ++i) {
    const corev1::ContainerResizePolicy& policy = container.resize_policy(i);
    if (!resources.insert(policy.resource_name()).second) {
      errors.Duplicate(Index(path, static_cast<size_t>(i)), policy.resource_name());
    }
    errors.OneOf(path, policy.resource_name(), {"cpu", "memory"});
    errors.OneOf(path, policy.restart_policy(), {"NotRequired", "RestartContainer"});
    if (pod_policy == "Never" && policy.restart_policy() != "NotRequired") {
      errors.InvalidText(path, policy.restart_policy(),
                         "must be 'NotRequired' when pod `restartPolicy` is 'Never'");
    }
  }
}

void RestartRules(const corev1::Container& container, const std::string& path, Errors& errors) {
  const auto& rules = container.restart_policy_rules();
  const std::string here = Child(path, "restartPolicyRules");
  if (!rules.empty() && !container.has_restart_policy()) {
    errors.Required(Child(path, "restartPolicy"), "must specify restartPolicy when restart rules are used");
  }
  if (rules.size() > static_cast<int>(kMaxRestartRules)) {
    errors.TooMany(here, static_cast<size_t>(rules.size()), kMaxRestartRules);
  }
  for (int i = 0; i < rules.size(); ++i) {
    const std::string rule = Index(here, static_cast<size_t>(i));
    errors.Supported(Child(rule, "action"), rules[i].action(), {"Restart", "RestartAllContainers"});
    if (!rules[i].has_exit_codes()) {
      errors.Required(Child(rule, "exitCodes"), "must be specified");
      continue;
    }
    const auto& codes = rules[i].exit_codes();
    errors.Supported(Child(rule, "exitCodes.operator"), codes.operator_(), {"In", "NotIn"});
    if (codes.values_size() > static_cast<int>(kMaxExitCodes)) {
      errors.TooMany(Child(rule, "exitCodes.values"), static_cast<size_t>(codes.values_size()),
                     kMaxExitCodes);
    }
  }
}

void OneContainer(const corev1::PodSpec& spec, const corev1::Container& container, const StringSet& volumes,
                  bool init, const std::string& path, Errors& errors) {
  const bool host_users = !spec.has_host_users() || spec.host_users();
  if (container.image().empty()) {
    errors.Required(Child(path, "image"));
  } else if (container.image() != absl::StripAsciiWhitespace(container.image())) {
    errors.InvalidText(Child(path, "image"), container.image(),
                       "must not have leading or trailing whitespace");
  }
  errors.OneOf(Child(path, "terminationMessagePolicy"), container.termination_message_policy(),
               {"FallbackToLogsOnError", "File"});
  errors.OneOf(Child(path, "imagePullPolicy"), container.image_pull_policy(),
               {"Always", "IfNotPresent", "Never"});
  Ports(container.ports(), Child(path, "ports"), errors);
  Env(container.env(), Child(path, "env"), errors);
  EnvFrom(container.env_from(), Child(path, "envFrom"), errors);
  Mounts(container, volumes, Child(path, "volumeMounts"), errors);
  ResourceRequirements(container.resources(), Child(path, "resources"), errors);
  ResizePolicy(container, spec.restart_policy(), Child(path, "resizePolicy"), errors);
  ContainerSecurity(container.security_context(), host_users, Child(path, "securityContext"), errors);
  if (!host_users && !container.volume_devices().empty()) {
    errors.Forbidden(Child(path, "volumeDevices"), "when `hostUsers` is false");
  }
  RestartRules(container, path, errors);

  // An init container that ends is not watched.
  const bool ends = init && container.restart_policy() != "Always";
  auto of_running = [&](bool set, const char* field) {
    if (set && ends) {
      errors.Forbidden(Child(path, field), "may not be set for init containers without restartPolicy=Always");
    }
    return set && !ends;
  };
  if (of_running(container.has_lifecycle(), "lifecycle")) {
    Lifecycle(container.lifecycle(), spec.termination_grace_period_seconds(), Child(path, "lifecycle"),
              errors);
  }
  if (of_running(container.has_liveness_probe(), "livenessProbe")) {
    Probe(container.liveness_probe(), ProbeOf::kLiveness, Child(path, "livenessProbe"), errors);
  }
  if (of_running(container.has_readiness_probe(), "readinessProbe")) {
    Probe(container.readiness_probe(), ProbeOf::kReadiness, Child(path, "readinessProbe"), errors);
  }
  if (of_running(container.has_startup_probe(), "startupProbe")) {
    Probe(container.startup_probe(), ProbeOf::kStartup, Child(path, "startupProbe"), errors);
  }
}

}  // namespace

void Containers(const corev1::PodSpec& spec, const StringSet& volumes, const std::string& path,
                Errors& errors) {
  StringSet names;
  auto container_name = [&](const std::string& name, const std::string& here) {
    if (name.empty()) return errors.Required(Child(here, "name"));
    errors.Messages(Child(here, "name"), name, IsDns1123Label(name));
    if (!names.insert(name).second) errors.Duplicate(Child(here, "name"), name);
  };
  const std::string containers = Child(path, "containers");
  if (spec.containers().empty()) errors.Required(containers);
  for (int i = 0; i < spec.containers_size(); ++i) {
    const corev1::Container& container = spec.containers(i);
    const std::string here = Index(containers, static_cast<size_t>(i));
    container_name(container.name(), here);
    OneContainer(spec, container, volumes, false, here, errors);
    if (container.has_restart_policy()) {
      errors.Supported(Child(here, "restartPolicy"), container.restart_policy(),
                       {"Always", "Never", "OnFailure"});
    }
    for (int k = 0; spec.host_network() && k < container.ports_size(); ++k) {
      const corev1::ContainerPort& port = container.ports(k);
      if (port.host_port() == port.container_port()) continue;
      errors.InvalidNumber(Child(Index(Child(here, "ports"), static_cast<size_t>(k)), "hostPort"),
                           port.host_port(), "must match `containerPort` when `hostNetwork` is true");
    }
  }
  HostPorts(spec.containers(), 0, containers, errors);
  for (int i = 0; i < spec.init_containers_size(); ++i) {
    const corev1::Container& container = spec.init_containers(i);
    const std::string here = Index(Child(path, "initContainers"), static_cast<size_t>(i));
    container_name(container.name(), here);
    OneContainer(spec, container, volumes, true, here, errors);
    // They run one after the other.
    HostPorts(std::vector<corev1::Container>{container}, i, Child(path, "initContainers"), errors);
    if (!container.has_restart_policy()) continue;
    errors.Supported(Child(here, "restartPolicy"), container.restart_policy(),
                     {"Always", "Never", "OnFailure"});
  }
}

}  // namespace keelson::api::validation
