#include "cri/server/request_checks.h"

#include <utility>

#include "base/status.h"
#include "base/strings.h"
#include "cri/server/sandbox_parts.h"
#include "cri/server/server_state.h"
#include "oci/cdi.h"
#include "oci/spec.h"

namespace keelson::cri {

namespace {

constexpr std::string_view kUsernsField = "security_context.namespace_options.userns_options";

using IdMappings = google::protobuf::RepeatedPtrField<v1::IDMapping>;

absl::Status CheckNoMappings(const v1::UserNamespace& user) {
  if (user.mode() != v1::NODE || (user.uids().empty() && user.gids().empty())) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat(kUsernsField, ".mode: NODE, but there are mappings"));
}

// KEP-127: one range, from ID 0 of the container on, the same for users and groups as containerd asks.
absl::Status CheckUserNamespace(const v1::NamespaceOption& options) {
  if (!options.has_userns_options()) return absl::OkStatus();
  const v1::UserNamespace& user = options.userns_options();
  if (user.mode() == v1::NODE) return CheckNoMappings(user);
  if (user.mode() != v1::POD)
    return absl::InvalidArgumentError(StrCat(kUsernsField, ".mode: want POD or NODE"));
  for (const auto& [name, maps] : {std::pair("uids", &user.uids()), std::pair("gids", &user.gids())}) {
    if (maps->size() != 1)
      return absl::InvalidArgumentError(StrCat(kUsernsField, ".", name, ": want exactly one mapping"));
    if ((*maps)[0].container_id() != 0 || (*maps)[0].length() == 0) {
      return absl::InvalidArgumentError(
          StrCat(kUsernsField, ".", name, ": the mapping must begin at container ID 0"));
    }
  }
  if (options.network() == v1::NODE || options.ipc() == v1::NODE || options.pid() == v1::NODE) {
    return absl::InvalidArgumentError(StrCat(
        kUsernsField, ": a pod with a user namespace cannot share the host's network, IPC or PID namespace"));
  }
  return absl::OkStatus();
}

// Own mode of a namespace in a pod: POD, CONTAINER (PID only) or NODE.
absl::Status CheckNamespaces(const v1::NamespaceOption& options) {
  if (options.network() != v1::POD && options.network() != v1::NODE) {
    return absl::InvalidArgumentError("security_context.namespace_options.network: want POD or NODE");
  }
  if (options.ipc() != v1::POD && options.ipc() != v1::NODE) {
    return absl::InvalidArgumentError("security_context.namespace_options.ipc: want POD or NODE");
  }
  if (options.pid() == v1::TARGET) {
    return absl::InvalidArgumentError("security_context.namespace_options.pid: TARGET is for containers");
  }
  return CheckUserNamespace(options);
}

absl::Status CheckPortMapping(const v1::PortMapping& mapping) {
  constexpr int kMaxPort = 65535;
  if (!v1::Protocol_IsValid(mapping.protocol())) {
    return absl::InvalidArgumentError(
        StrCat("protocol: unknown value ", static_cast<int>(mapping.protocol())));
  }
  if (mapping.host_port() == 0) return absl::OkStatus();  // nothing is mapped
  if (mapping.host_port() < 0 || mapping.host_port() > kMaxPort || mapping.container_port() < 1 ||
      mapping.container_port() > kMaxPort) {
    return absl::InvalidArgumentError(
        StrCat(mapping.host_port(), " -> ", mapping.container_port(), ": ports are 1 to ", kMaxPort));
  }
  return absl::OkStatus();
}

template <class Security>
absl::Status CheckGroupsPolicy(const Security& security) {
  if (v1::SupplementalGroupsPolicy_IsValid(security.supplemental_groups_policy())) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat("security_context.supplemental_groups_policy: unknown value ",
                                           static_cast<int>(security.supplemental_groups_policy())));
}

absl::Status CheckMount(const v1::Mount& mount) {
  if (!mount.has_image()) {
    if (mount.image_sub_path().empty()) return absl::OkStatus();
    return absl::InvalidArgumentError("image_sub_path: there is no image");
  }
  if (!mount.host_path().empty()) return absl::InvalidArgumentError("image and host_path exclude each other");
  if (!mount.readonly()) return absl::InvalidArgumentError("an image can only be mounted readonly");
  return absl::OkStatus();
}

bool SameMappings(const IdMappings& a, const IdMappings& b) {
  if (a.size() != b.size()) return false;
  for (int i = 0; i < a.size(); ++i) {
    if (a[i].host_id() != b[i].host_id() || a[i].container_id() != b[i].container_id() ||
        a[i].length() != b[i].length()) {
      return false;
    }
  }
  return true;
}

std::string MappingsText(const IdMappings& mappings) {
  std::string out;
  for (const v1::IDMapping& m : mappings) {
    StrAppend(&out, out.empty() ? "" : ", ", m.container_id(), " -> ", m.host_id(), " (", m.length(), ")");
  }
  return out.empty() ? "none" : out;
}

absl::Status AsThePods(const IdMappings& mappings, const IdMappings& pods, std::string_view field) {
  if (SameMappings(mappings, pods)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat(field, ": ", MappingsText(mappings), "; the pod's: ", MappingsText(pods)));
}

}  // namespace

absl::Status CheckPodConfig(const v1::PodSandboxConfig& config) {
  if (!config.has_metadata() || config.metadata().name().empty()) {
    return absl::InvalidArgumentError("config.metadata.name: required");
  }
  if (config.has_windows()) return absl::InvalidArgumentError("config.windows: this is a Linux runtime");
  for (int i = 0; i < config.port_mappings_size(); ++i) {
    RETURN_IF_ERROR(Annotate(CheckPortMapping(config.port_mappings(i)), StrCat("port_mappings[", i, "]")));
  }
  RETURN_IF_ERROR(CheckGroupsPolicy(config.linux().security_context()));
  RETURN_IF_ERROR(PauseUser(config).status());
  RETURN_IF_ERROR(oci::CheckSeccompField(PauseConfig(config).linux().security_context()));
  return CheckNamespaces(NamespacesOf(config));
}

absl::Status CheckContainerConfig(const v1::ContainerConfig& config) {
  if (!config.has_metadata() || config.metadata().name().empty()) {
    return absl::InvalidArgumentError("config.metadata.name: required");
  }
  if (config.image().image().empty()) return absl::InvalidArgumentError("config.image.image: required");
  if (config.has_windows()) return absl::InvalidArgumentError("config.windows: this is a Linux runtime");
  if (!v1::Signal_IsValid(config.stop_signal())) {
    return absl::InvalidArgumentError(
        StrCat("config.stop_signal: unknown value ", static_cast<int>(config.stop_signal())));
  }
  RETURN_IF_ERROR(Annotate(oci::CdiDevicesOf(config).status(), "config"));
  if (!config.log_path().empty()) RETURN_IF_ERROR(CheckLogPath(config.log_path()));
  for (const v1::Mount& mount : config.mounts()) {
    RETURN_IF_ERROR(Annotate(CheckMount(mount), StrCat("mounts[", mount.container_path(), "]")));
  }
  return CheckGroupsPolicy(config.linux().security_context());
}

absl::Status CheckIdMappings(const v1::ContainerConfig& config, const v1::PodSandboxConfig& pod) {
  const bool mapped = HasUserNamespace(pod);
  const v1::UserNamespace& pods = NamespacesOf(pod).userns_options();
  const v1::NamespaceOption& options = NamespacesOf(config);
  if (options.has_userns_options()) {
    const v1::UserNamespace& own = options.userns_options();
    RETURN_IF_ERROR(CheckNoMappings(own));
    if (own.mode() == v1::POD && mapped) {
      RETURN_IF_ERROR(AsThePods(own.uids(), pods.uids(), StrCat(kUsernsField, ".uids")));
      RETURN_IF_ERROR(AsThePods(own.gids(), pods.gids(), StrCat(kUsernsField, ".gids")));
    }
  }
  for (const v1::Mount& mount : config.mounts()) {
    if (mount.uidmappings().empty() && mount.gidmappings().empty()) continue;
    const std::string field = StrCat("mounts[", mount.container_path(), "]");
    if (!mapped) {
      return absl::InvalidArgumentError(StrCat(field, ": ID mappings, but the pod has no user namespace"));
    }
    RETURN_IF_ERROR(AsThePods(mount.uidmappings(), pods.uids(), StrCat(field, ".uidMappings")));
    RETURN_IF_ERROR(AsThePods(mount.gidmappings(), pods.gids(), StrCat(field, ".gidMappings")));
  }
  return absl::OkStatus();
}

}  // namespace keelson::cri
