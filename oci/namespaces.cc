// The namespaces of a container: the sandbox's pinned ones, the host's, or new ones.
#include "base/status.h"
#include "oci/spec_parts.h"

namespace keelson::oci {
namespace {

constexpr std::string_view kNamespacesField = "security_context.namespace_options";

absl::StatusOr<std::vector<IdMap>> IdMaps(
    const google::protobuf::RepeatedPtrField<criv1::IDMapping>& mappings, std::string_view field) {
  std::vector<IdMap> maps;
  for (const criv1::IDMapping& m : mappings) {
    const uint64_t limit = uint64_t{1} << 32;
    if (m.length() == 0 || uint64_t{m.host_id()} + m.length() > limit ||
        uint64_t{m.container_id()} + m.length() > limit) {
      return absl::InvalidArgumentError(StrCat(field, ": a range that is empty or too long"));
    }
    maps.push_back({m.container_id(), m.host_id(), m.length()});
  }
  if (maps.empty()) return absl::InvalidArgumentError(StrCat(field, ": a user namespace needs a mapping"));
  return maps;
}

bool IsMapped(const std::vector<IdMap>& maps, uint32_t id) {
  for (const IdMap& map : maps) {
    if (id >= map.container_id && id - map.container_id < map.size) return true;
  }
  return false;
}

absl::Status BuildUserNamespace(const SpecInput& input, const criv1::UserNamespace& options,
                                RuntimeSpec* spec) {
  const std::string field = StrCat(kNamespacesField, ".userns_options");
  ASSIGN_OR_RETURN(spec->uid_mappings, IdMaps(options.uids(), field + ".uids"));
  ASSIGN_OR_RETURN(spec->gid_mappings, IdMaps(options.gids(), field + ".gids"));
  if (!IsMapped(spec->uid_mappings, input.user.uid)) {
    return absl::InvalidArgumentError(StrCat(field, ".uids: uid ", input.user.uid, " is not mapped"));
  }
  std::vector<uint32_t> gids = input.user.additional_gids;
  gids.push_back(input.user.gid);
  for (const uint32_t gid : gids) {
    if (IsMapped(spec->gid_mappings, gid)) continue;
    return absl::InvalidArgumentError(StrCat(field, ".gids: gid ", gid, " is not mapped"));
  }
  return absl::OkStatus();
}

absl::Status CheckMode(criv1::NamespaceMode mode, const std::string& path, std::string_view name) {
  if (mode == criv1::NODE && !path.empty()) {
    return absl::FailedPreconditionError(
        StrCat(kNamespacesField, ".", name, ": NODE, but the sandbox has a namespace of its own"));
  }
  if (mode == criv1::TARGET || (mode == criv1::CONTAINER && name != "pid")) {
    return absl::InvalidArgumentError(StrCat(kNamespacesField, ".", name, ": ",
                                             criv1::NamespaceMode_Name(mode),
                                             " is not a mode of this namespace"));
  }
  return absl::OkStatus();
}

absl::Status AddPid(const SpecInput& input, criv1::NamespaceMode mode, RuntimeSpec* spec) {
  const std::string& path = input.namespaces.pid;
  if (input.namespaces.pid_host) {
    if (mode == criv1::NODE) return absl::OkStatus();
    return absl::FailedPreconditionError(StrCat(kNamespacesField, ".pid: ", criv1::NamespaceMode_Name(mode),
                                                ", but the sandbox is in the host's"));
  }
  if (mode == criv1::NODE) {
    return absl::FailedPreconditionError(
        StrCat(kNamespacesField, ".pid: NODE, but the sandbox is not in the host's"));
  }
  if (path.empty() && mode != criv1::CONTAINER) {
    return absl::FailedPreconditionError(StrCat(kNamespacesField, ".pid: ", criv1::NamespaceMode_Name(mode),
                                                ", but there is no namespace to join"));
  }
  spec->namespaces.push_back({"pid", path});
  return absl::OkStatus();
}

}  // namespace

absl::Status BuildNamespaces(const SpecInput& input, RuntimeSpec* spec) {
  const auto& security = input.container->linux().security_context();
  const criv1::NamespaceOption& options = security.namespace_options();
  RETURN_IF_ERROR(AddPid(input, options.pid(), spec));
  RETURN_IF_ERROR(CheckMode(options.network(), input.namespaces.network, "network"));
  RETURN_IF_ERROR(CheckMode(options.ipc(), input.namespaces.ipc, "ipc"));
  if (!input.namespaces.network.empty()) spec->namespaces.push_back({"network", input.namespaces.network});
  if (!input.namespaces.ipc.empty()) spec->namespaces.push_back({"ipc", input.namespaces.ipc});
  if (!input.namespaces.uts.empty()) spec->namespaces.push_back({"uts", input.namespaces.uts});
  spec->namespaces.push_back({"mount", ""});
  // On v2 a container sees its own cgroup as the root; a privileged one manages the host's.
  if (!input.namespaces.cgroup.empty() || (input.host.cgroup_v2 && !security.privileged())) {
    spec->namespaces.push_back({"cgroup", input.namespaces.cgroup});
  }
  const criv1::UserNamespace& user = options.userns_options();
  const bool wanted = options.has_userns_options() && user.mode() == criv1::POD;
  if (options.has_userns_options() && user.mode() != criv1::POD && user.mode() != criv1::NODE) {
    return absl::InvalidArgumentError(StrCat(kNamespacesField,
                                             ".userns_options.mode: ", criv1::NamespaceMode_Name(user.mode()),
                                             " is not a mode of this namespace"));
  }
  if (!wanted && input.namespaces.user.empty()) return absl::OkStatus();
  if (!wanted) {
    return absl::FailedPreconditionError(StrCat(
        kNamespacesField, ".userns_options: the sandbox has a user namespace, the container asks for none"));
  }
  spec->namespaces.push_back({"user", input.namespaces.user});
  return BuildUserNamespace(input, user, spec);
}

}  // namespace keelson::oci
