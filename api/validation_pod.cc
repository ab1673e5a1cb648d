#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>
#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/str_split.h>
#include <google/protobuf/util/message_differencer.h>

#include <algorithm>

#include "api/codec.h"
#include "api/labels.h"
#include "api/quantity.h"
#include "api/validation_internal.h"
#include "base/strings.h"

namespace keelson::api::validation {

namespace corev1 = ::k8s::core::v1;

namespace {

using StringSet = absl::flat_hash_set<std::string>;

constexpr char kOwnUsers[] = "when `hostUsers` is false";
const std::vector<std::string> kProtocols = {"SCTP", "TCP", "UDP"};

void PathWithoutDotDot(const std::string& field, const std::string& path, Errors& errors) {
  for (absl::string_view part : absl::StrSplit(path, '/')) {
    if (part == "..") {
      errors.InvalidText(field, path, "must not contain '..'");
      return;
    }
  }
}

void RelativePath(const std::string& field, const std::string& path, Errors& errors) {
  if (absl::StartsWith(path, "/")) errors.InvalidText(field, path, "must be a relative path");
  PathWithoutDotDot(field, path, errors);
}

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

void FieldRef(const corev1::ObjectFieldSelector& ref, bool volume, const std::string& path, Errors& errors) {
  static const std::vector<std::string> kEnvPaths = {
      "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
      "status.hostIP", "status.hostIPs",     "status.podIP", "status.podIPs"};
  static const std::vector<std::string> kVolumePaths = {
      "metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"};
  if (ref.field_path().empty()) return errors.Required(Child(path, "fieldPath"));
  if (absl::StartsWith(ref.field_path(), "metadata.annotations['") ||
      absl::StartsWith(ref.field_path(), "metadata.labels['")) {
    return;
  }
  errors.OneOf(Child(path, "fieldPath"), ref.field_path(), volume ? kVolumePaths : kEnvPaths);
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
    if (from.has_resource_field_ref() && from.resource_field_ref().resource().empty()) {
      errors.Required(Child(source, "resourceFieldRef.resource"));
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
}

void Probe(const corev1::Probe& probe, bool liveness_like, const std::string& path, Errors& errors) {
  const auto& handler = probe.probe_handler();
  int handlers = handler.has_exec() + handler.has_http_get() + handler.has_tcp_socket() + handler.has_grpc();
  if (handlers == 0) errors.Required(path, "must specify a handler type");
  if (handlers > 1) errors.Forbidden(path, "may not specify more than 1 handler type");
  if (handler.has_exec() && handler.exec().command().empty()) errors.Required(Child(path, "exec.command"));
  if (handler.has_http_get()) HttpGet(handler.http_get(), Child(path, "httpGet"), errors);
  if (handler.has_tcp_socket())
    IntOrStringPort(handler.tcp_socket().port(), Child(path, "tcpSocket.port"), errors);
  if (handler.has_grpc()) errors.Port(Child(path, "grpc.port"), handler.grpc().port());
  errors.NonNegative(Child(path, "initialDelaySeconds"), probe.initial_delay_seconds());
  errors.NonNegative(Child(path, "timeoutSeconds"), probe.timeout_seconds());
  errors.NonNegative(Child(path, "periodSeconds"), probe.period_seconds());
  errors.NonNegative(Child(path, "successThreshold"), probe.success_threshold());
  errors.NonNegative(Child(path, "failureThreshold"), probe.failure_threshold());
  if (liveness_like && probe.success_threshold() != 1) {
    errors.InvalidNumber(Child(path, "successThreshold"), probe.success_threshold(), "must be 1");
  }
}

void Handler(const corev1::LifecycleHandler& handler, const std::string& path, Errors& errors) {
  int handlers = handler.has_exec() + handler.has_http_get() + handler.has_tcp_socket() + handler.has_sleep();
  if (handlers == 0) errors.Required(path, "must specify a handler type");
  if (handlers > 1) errors.Forbidden(path, "may not specify more than 1 handler type");
  if (handler.has_exec() && handler.exec().command().empty()) errors.Required(Child(path, "exec.command"));
  if (handler.has_http_get()) HttpGet(handler.http_get(), Child(path, "httpGet"), errors);
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

// The host's users, not those of a user namespace of the pod's own.
bool HasHostUsers(const corev1::PodSpec& spec) { return !spec.has_host_users() || spec.host_users(); }

template <class Container>
void OneContainer(const Container& container, const StringSet& volumes, bool init, bool host_users,
                  const std::string& path, Errors& errors) {
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
  StringSet mount_paths;
  for (int i = 0; i < container.volume_mounts_size(); ++i) {
    const auto& mount = container.volume_mounts(i);
    std::string here = Index(Child(path, "volumeMounts"), static_cast<size_t>(i));
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
  }
  ResourceRequirements(container.resources(), Child(path, "resources"), errors);
  if (container.security_context().has_proc_mount()) {
    const std::string& proc_mount = container.security_context().proc_mount();
    const std::string here = Child(path, "securityContext.procMount");
    errors.OneOf(here, proc_mount, {"Default", "Unmasked"});
    if (host_users && proc_mount == "Unmasked")
      errors.InvalidText(here, proc_mount, "`hostUsers` must be false to use `Unmasked`");
  }
  if (!host_users && !container.volume_devices().empty())
    errors.Forbidden(Child(path, "volumeDevices"), kOwnUsers);
  bool sidecar = init && container.restart_policy() == "Always";
  if (init && !sidecar) {
    if (container.has_liveness_probe()) {
      errors.Forbidden(Child(path, "livenessProbe"),
                       "may not be set for init containers without restartPolicy=Always");
    }
    if (container.has_readiness_probe()) {
      errors.Forbidden(Child(path, "readinessProbe"),
                       "may not be set for init containers without restartPolicy=Always");
    }
    if (container.has_lifecycle()) {
      errors.Forbidden(Child(path, "lifecycle"),
                       "may not be set for init containers without restartPolicy=Always");
    }
  }
  if (container.has_liveness_probe())
    Probe(container.liveness_probe(), true, Child(path, "livenessProbe"), errors);
  if (container.has_readiness_probe()) {
    Probe(container.readiness_probe(), false, Child(path, "readinessProbe"), errors);
  }
  if (container.has_startup_probe())
    Probe(container.startup_probe(), true, Child(path, "startupProbe"), errors);
  if (container.has_lifecycle()) {
    if (container.lifecycle().has_post_start()) {
      Handler(container.lifecycle().post_start(), Child(path, "lifecycle.postStart"), errors);
    }
    if (container.lifecycle().has_pre_stop()) {
      Handler(container.lifecycle().pre_stop(), Child(path, "lifecycle.preStop"), errors);
    }
  }
}

void Volumes(const corev1::PodSpec& spec, const std::string& path, StringSet* names, Errors& errors) {
  for (int i = 0; i < spec.volumes_size(); ++i) {
    const auto& volume = spec.volumes(i);
    std::string here = Index(path, static_cast<size_t>(i));
    if (volume.name().empty()) {
      errors.Required(Child(here, "name"));
    } else {
      errors.Messages(Child(here, "name"), volume.name(), IsDns1123Label(volume.name()));
      if (!names->insert(volume.name()).second) errors.Duplicate(Child(here, "name"), volume.name());
    }
    const auto& source = volume.volume_source();
    int sources = 0;
    for (int f = 0; f < source.GetDescriptor()->field_count(); ++f) {
      if (!source.GetReflection()->HasField(source, source.GetDescriptor()->field(f))) continue;
      if (++sources > 1) {
        errors.Forbidden(Child(here, source.GetDescriptor()->field(f)->json_name()),
                         "may not specify more than 1 volume type");
      }
    }
    if (sources == 0) errors.Required(here, "must specify a volume type");
    if (source.has_host_path()) {
      if (source.host_path().path().empty()) errors.Required(Child(here, "hostPath.path"));
      PathWithoutDotDot(Child(here, "hostPath.path"), source.host_path().path(), errors);
      static const std::vector<std::string> kTypes = {
          "",     "BlockDevice",  "CharDevice", "Directory", "DirectoryOrCreate",
          "File", "FileOrCreate", "Socket"};
      const std::string& type = source.host_path().type();
      if (std::find(kTypes.begin(), kTypes.end(), type) == kTypes.end()) {
        errors.NotSupported(Child(here, "hostPath.type"), type, kTypes);
      }
    }
    if (source.has_secret() && source.secret().secret_name().empty()) {
      errors.Required(Child(here, "secret.secretName"));
    }
    if (source.has_config_map() && source.config_map().local_object_reference().name().empty()) {
      errors.Required(Child(here, "configMap.name"));
    }
    auto items = [&](const auto& list, const std::string& list_path) {
      for (int k = 0; k < list.size(); ++k) {
        std::string item = Index(list_path, static_cast<size_t>(k));
        if (list[k].key().empty()) errors.Required(Child(item, "key"));
        if (list[k].path().empty()) {
          errors.Required(Child(item, "path"));
        } else {
          RelativePath(Child(item, "path"), list[k].path(), errors);
        }
      }
    };
    if (source.has_secret()) items(source.secret().items(), Child(here, "secret.items"));
    if (source.has_config_map()) items(source.config_map().items(), Child(here, "configMap.items"));
    if (source.has_downward_api()) {
      for (int k = 0; k < source.downward_api().items_size(); ++k) {
        const auto& item = source.downward_api().items(k);
        std::string item_path = Index(Child(here, "downwardAPI"), static_cast<size_t>(k));
        RelativePath(Child(item_path, "path"), item.path(), errors);
        if (item.has_field_ref()) FieldRef(item.field_ref(), true, Child(item_path, "fieldRef"), errors);
      }
    }
  }
}

}  // namespace

void ResourceRequirements(const corev1::ResourceRequirements& resources, const std::string& path,
                          Errors& errors) {
  absl::flat_hash_map<std::string, Quantity> limits;
  auto read = [&](const auto& list, const char* field, auto&& each) {
    std::vector<std::string> names;
    for (const auto& [name, quantity] : list) names.push_back(name);
    std::sort(names.begin(), names.end());
    for (const std::string& name : names) {
      std::string here = KeyOf(Child(path, field), name);
      if (name != "cpu" && name != "memory" && name != "ephemeral-storage" &&
          !absl::StartsWith(name, "hugepages-") && !absl::StrContains(name, "/")) {
        errors.InvalidText(here, name, "must be a standard resource type or fully qualified");
      }
      auto quantity = Quantity::Parse(list.at(name).string());
      if (!quantity.ok()) {
        errors.InvalidText(here, list.at(name).string(), std::string(quantity.status().message()));
        continue;
      }
      if (quantity->Sign() < 0) {
        errors.InvalidText(here, list.at(name).string(), "must be greater than or equal to 0");
        continue;
      }
      each(name, *quantity);
    }
  };
  read(resources.limits(), "limits",
       [&](const std::string& name, const Quantity& q) { limits.emplace(name, q); });
  read(resources.requests(), "requests", [&](const std::string& name, const Quantity& request) {
    auto limit = limits.find(name);
    if (limit != limits.end() && request.Cmp(limit->second) > 0) {
      errors.InvalidText(
          Child(path, "requests"), request.ToString(),
          StrCat("must be less than or equal to ", name, " limit of ", limit->second.ToString()));
    }
  });
}

void PodSpec(const corev1::PodSpec& spec, const std::string& path, Errors& errors) {
  StringSet volumes, names;
  Volumes(spec, Child(path, "volumes"), &volumes, errors);
  auto container_name = [&](const std::string& name, const std::string& here) {
    if (name.empty()) return errors.Required(Child(here, "name"));
    errors.Messages(Child(here, "name"), name, IsDns1123Label(name));
    if (!names.insert(name).second) errors.Duplicate(Child(here, "name"), name);
  };
  if (spec.containers().empty()) errors.Required(Child(path, "containers"));
  for (int i = 0; i < spec.containers_size(); ++i) {
    std::string here = Index(Child(path, "containers"), static_cast<size_t>(i));
    container_name(spec.containers(i).name(), here);
    OneContainer(spec.containers(i), volumes, false, HasHostUsers(spec), here, errors);
  }
  for (int i = 0; i < spec.init_containers_size(); ++i) {
    std::string here = Index(Child(path, "initContainers"), static_cast<size_t>(i));
    container_name(spec.init_containers(i).name(), here);
    OneContainer(spec.init_containers(i), volumes, true, HasHostUsers(spec), here, errors);
    const auto& container = spec.init_containers(i);
    if (container.has_restart_policy() && container.restart_policy() != "Always") {
      errors.NotSupported(Child(here, "restartPolicy"), container.restart_policy(), {"Always"});
    }
  }
  errors.OneOf(Child(path, "restartPolicy"), spec.restart_policy(), {"Always", "Never", "OnFailure"});
  errors.OneOf(Child(path, "dnsPolicy"), spec.dns_policy(),
               {"ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"});
  if (spec.dns_policy() == "None" && spec.dns_config().nameservers().empty()) {
    errors.Required(Child(path, "dnsConfig.nameservers"),
                    "must provide at least one DNS nameserver when `dnsPolicy` is None");
  }
  errors.NonNegative(Child(path, "terminationGracePeriodSeconds"), spec.termination_grace_period_seconds());
  if (spec.has_active_deadline_seconds() && spec.active_deadline_seconds() < 1) {
    errors.InvalidNumber(Child(path, "activeDeadlineSeconds"), spec.active_deadline_seconds(),
                         "must be between 1 and 2147483647, inclusive");
  }
  errors.Labels(Child(path, "nodeSelector"), spec.node_selector());
  if (!spec.node_name().empty()) {
    errors.Messages(Child(path, "nodeName"), spec.node_name(), IsDns1123Subdomain(spec.node_name()));
  }
  if (!spec.hostname().empty())
    errors.Messages(Child(path, "hostname"), spec.hostname(), IsDns1123Label(spec.hostname()));
  if (!spec.subdomain().empty()) {
    errors.Messages(Child(path, "subdomain"), spec.subdomain(), IsDns1123Label(spec.subdomain()));
  }
  if (!spec.service_account_name().empty()) {
    errors.Messages(Child(path, "serviceAccountName"), spec.service_account_name(),
                    IsDns1123Subdomain(spec.service_account_name()));
  }
  for (int i = 0; i < spec.tolerations_size(); ++i) {
    const auto& toleration = spec.tolerations(i);
    std::string here = Index(Child(path, "tolerations"), static_cast<size_t>(i));
    if (!toleration.key().empty())
      errors.Messages(Child(here, "key"), toleration.key(), IsQualifiedName(toleration.key()));
    if (toleration.key().empty() && toleration.operator_() != "Exists") {
      errors.InvalidText(
          Child(here, "operator"), toleration.operator_(),
          "operator must be Exists when `key` is empty, which means \"match all values and all keys\"");
    }
    if (toleration.has_toleration_seconds() && toleration.effect() != "NoExecute") {
      errors.InvalidText(Child(here, "effect"), toleration.effect(),
                         "effect must be 'NoExecute' when `tolerationSeconds` is set");
    }
    if (!toleration.effect().empty()) {
      errors.OneOf(Child(here, "effect"), toleration.effect(),
                   {"NoExecute", "NoSchedule", "PreferNoSchedule"});
    }
    if (!toleration.operator_().empty())
      errors.OneOf(Child(here, "operator"), toleration.operator_(), {"Equal", "Exists"});
  }
  // Other namespaces of the host and the pod's own users: permissions would be surprising.
  if (!HasHostUsers(spec)) {
    if (spec.host_network()) errors.Forbidden(Child(path, "hostNetwork"), kOwnUsers);
    if (spec.host_pid()) errors.Forbidden(Child(path, "HostPID"), kOwnUsers);
    if (spec.host_ipc()) errors.Forbidden(Child(path, "HostIPC"), kOwnUsers);
  }
  if (spec.host_network()) {
    for (int i = 0; i < spec.containers_size(); ++i) {
      for (int k = 0; k < spec.containers(i).ports_size(); ++k) {
        const auto& port = spec.containers(i).ports(k);
        if (port.host_port() != port.container_port()) {
          errors.InvalidNumber(
              Child(Index(Child(Index(Child(path, "containers"), static_cast<size_t>(i)), "ports"),
                          static_cast<size_t>(k)),
                    "containerPort"),
              port.container_port(), "must match `hostPort` when `hostNetwork` is true");
        }
      }
    }
  }
}

void PodUpdate(const corev1::Pod& pod, const corev1::Pod& old, Errors& errors) {
  using google::protobuf::util::MessageDifferencer;
  // Most updates leave the spec alone.
  if (SameBytes(pod.spec(), old.spec())) return;
  // What may change is put back to the old value; what then differs may not.
  corev1::PodSpec munged = pod.spec();
  auto restore_images = [](auto* now, const auto& before) {
    for (int i = 0; i < now->size() && i < before.size(); ++i) (*now)[i].set_image(before[i].image());
  };
  if (munged.containers_size() != old.spec().containers_size()) {
    errors.Forbidden("spec.containers", "pod updates may not add or remove containers");
    return;
  }
  for (int i = 0; i < pod.spec().containers_size(); ++i) {
    if (pod.spec().containers(i).image().empty()) {
      errors.Required(Child(Index("spec.containers", static_cast<size_t>(i)), "image"));
    }
  }
  restore_images(munged.mutable_containers(), old.spec().containers());
  restore_images(munged.mutable_init_containers(), old.spec().init_containers());
  if (old.spec().has_active_deadline_seconds()) {
    if (munged.has_active_deadline_seconds() &&
        munged.active_deadline_seconds() > old.spec().active_deadline_seconds()) {
      errors.InvalidNumber("spec.activeDeadlineSeconds", munged.active_deadline_seconds(),
                           StrCat("must be less than or equal to previous value"));
    }
    munged.set_active_deadline_seconds(old.spec().active_deadline_seconds());
  } else {
    munged.clear_active_deadline_seconds();
  }
  for (const auto& toleration : old.spec().tolerations()) {
    bool kept = std::any_of(pod.spec().tolerations().begin(), pod.spec().tolerations().end(),
                            [&](const auto& t) { return MessageDifferencer::Equals(t, toleration); });
    if (!kept) {
      errors.Forbidden("spec.tolerations",
                       "existing toleration can not be modified except its tolerationSeconds");
      break;
    }
  }
  *munged.mutable_tolerations() = old.spec().tolerations();
  // Written by the eviction and ephemeral-container subresources only.
  if (!MessageDifferencer::Equals(munged, old.spec())) {
    errors.Forbidden(
        "spec",
        "pod updates may not change fields other than "
        "`spec.containers[*].image`,`spec.initContainers[*].image`,"
        "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
        "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)");
  }
}

}  // namespace keelson::api::validation
