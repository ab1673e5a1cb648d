// From CDI devices to what a specification gets. Pure.
#include "oci/cdi.h"

#include <absl/strings/match.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>

#include <algorithm>
#include <set>

#include "base/status.h"

namespace keelson::oci {
namespace {

constexpr absl::string_view kAnnotationPrefix = "cdi.k8s.io/";
constexpr size_t kBrokenFilesNamed = 3;
constexpr uint32_t kPermissionBits = 0777;
constexpr uint32_t kDefaultMode = 0666;

struct Definition {
  const CdiFile* file = nullptr;
  const CdiDevice* device = nullptr;
  const CdiFile* other = nullptr;  // of the same directory
};

std::map<std::string, Definition> Definitions(const std::vector<CdiFile>& files) {
  std::map<std::string, Definition> out;
  for (const CdiFile& file : files) {
    if (!file.spec.ok()) continue;
    for (const CdiDevice& device : file.spec->devices) {
      Definition& definition = out[StrCat(file.spec->kind, "=", device.name)];
      if (definition.file == nullptr || definition.file->dir < file.dir) {
        definition = {&file, &device, nullptr};
      } else if (definition.file->dir == file.dir) {
        definition.other = &file;
      }
    }
  }
  return out;
}

absl::Status NotFound(const std::vector<std::string>& names, const std::vector<CdiFile>& files,
                      const std::vector<std::string>& dirs) {
  std::string text =
      StrCat(names.size() == 1 ? "CDI device " : "CDI devices ", std::string(absl::StrJoin(names, ", ")),
             ": defined by no file in ", std::string(absl::StrJoin(dirs, ", ")));
  size_t broken = 0;
  for (const CdiFile& file : files) {
    if (file.spec.ok() || ++broken > kBrokenFilesNamed) continue;
    StrAppend(&text, "; cannot be used: ", file.path, ": ", Sv(file.spec.status().message()));
  }
  if (broken > kBrokenFilesNamed) StrAppend(&text, "; and ", broken - kBrokenFilesNamed, " more");
  return absl::NotFoundError(text);
}

template <class T>
void Append(const std::vector<T>& from, std::vector<T>* to) {
  to->insert(to->end(), from.begin(), from.end());
}

void Append(const CdiEdits& from, CdiEdits* to) {
  Append(from.env, &to->env);
  Append(from.device_nodes, &to->device_nodes);
  Append(from.mounts, &to->mounts);
  for (const auto& [name, hooks] : from.hooks) Append(hooks, &to->hooks[name]);
  Append(from.additional_gids, &to->additional_gids);
  Append(from.unsupported, &to->unsupported);
}

// A vendor may say all there is to know about a node, which then need not exist on the host.
absl::StatusOr<HostDevice> DeviceOf(const CdiDeviceNode& node, const CdiHostNodes& nodes,
                                    const ProcessUser& user) {
  HostDevice device;
  device.path = node.path;
  device.type = node.type;
  device.major = node.major;
  device.minor = node.minor;
  device.permissions = node.permissions;
  device.mode = kDefaultMode;
  const bool complete = node.type != 0 && (node.major != 0 || node.type == 'p');
  auto host = nodes.find(node.host_path);
  const bool on_host = host != nodes.end() && host->second.ok();
  if (on_host) device.mode = host->second->mode & kPermissionBits;
  if (!complete) {
    if (!on_host) {
      const absl::Status why = host == nodes.end() ? absl::NotFoundError("not there") : host->second.status();
      return Annotate(why, StrCat("CDI device node ", node.host_path));
    }
    if (node.type != 0 && node.type != host->second->type) {
      return absl::InvalidArgumentError(StrCat("CDI device node ", node.host_path, ": is of type ",
                                               std::string(1, host->second->type), ", not ",
                                               std::string(1, node.type)));
    }
    device.type = host->second->type;
    if (node.major == 0) {
      device.major = host->second->major;
      device.minor = host->second->minor;
    }
  }
  if (node.file_mode.has_value()) device.mode = *node.file_mode & kPermissionBits;
  device.uid = node.uid.value_or(user.uid);
  device.gid = node.gid.value_or(user.gid);
  return device;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> CdiDevicesOf(const criv1::ContainerConfig& config) {
  std::vector<std::string> names;
  std::set<std::string> seen;
  auto add = [&](std::string_view name, std::string_view field) -> absl::Status {
    RETURN_IF_ERROR(Annotate(CheckCdiDeviceName(name), field));
    if (seen.insert(std::string(name)).second) names.push_back(std::string(name));
    if (names.size() <= kMaxCdiDevices) return absl::OkStatus();
    return absl::InvalidArgumentError(StrCat(field, ": more than ", kMaxCdiDevices, " CDI devices"));
  };
  for (int i = 0; i < config.cdi_devices_size(); ++i) {
    RETURN_IF_ERROR(add(config.cdi_devices(i).name(), StrCat("CDI_devices[", i, "].name")));
  }
  const std::map<std::string, std::string> annotations(config.annotations().begin(),
                                                       config.annotations().end());
  for (auto it = annotations.lower_bound(std::string(kAnnotationPrefix));
       it != annotations.end() && absl::StartsWith(it->first, kAnnotationPrefix); ++it) {
    for (const absl::string_view name : absl::StrSplit(it->second, ',')) {
      RETURN_IF_ERROR(add(Sv(name), StrCat("annotations[", it->first, "]")));
    }
  }
  return names;
}

absl::StatusOr<CdiEdits> ResolveCdiDevices(const std::vector<CdiFile>& files,
                                           const std::vector<std::string>& dirs,
                                           const std::vector<std::string>& names) {
  CdiEdits edits;
  if (names.empty()) return edits;
  if (dirs.empty()) {
    return absl::FailedPreconditionError(
        StrCat("CDI device ", names[0], ": CDI is switched off here (--cdi-spec-dir is empty)"));
  }
  const std::map<std::string, Definition> definitions = Definitions(files);
  std::vector<std::string> missing;
  std::set<const CdiFile*> begun;
  for (const std::string& name : names) {
    auto it = definitions.find(name);
    if (it == definitions.end()) {
      missing.push_back(name);
      continue;
    }
    const Definition& found = it->second;
    if (found.other != nullptr) {
      return absl::FailedPreconditionError(StrCat("CDI device ", name, ": defined by ", found.file->path,
                                                  " and by ", found.other->path, ", of one directory"));
    }
    if (begun.insert(found.file).second) Append(found.file->spec->edits, &edits);
    Append(found.device->edits, &edits);
    if (!edits.unsupported.empty()) {
      return absl::UnimplementedError(
          StrCat("CDI device ", name, ": ", found.file->path, ": ", edits.unsupported[0],
                 ": this runtime does not do that; take the field out of the file, or "
                 "run the pod on a node whose runtime does"));
    }
  }
  if (!missing.empty()) return NotFound(missing, files, dirs);
  return edits;
}

absl::Status ApplyCdiEdits(const CdiEdits& edits, const CdiHostNodes& nodes, SpecInput* input) {
  for (const CdiDeviceNode& node : edits.device_nodes) {
    ASSIGN_OR_RETURN(HostDevice device, DeviceOf(node, nodes, input->user));
    input->cdi_devices.push_back(std::move(device));
  }
  Append(edits.env, &input->cdi_env);
  Append(edits.mounts, &input->cdi_mounts);
  for (const auto& [name, hooks] : edits.hooks) Append(hooks, &input->cdi_hooks[name]);
  std::vector<uint32_t>& groups = input->user.additional_gids;
  for (const uint32_t gid : edits.additional_gids) {
    if (std::find(groups.begin(), groups.end(), gid) == groups.end()) groups.push_back(gid);
  }
  return absl::OkStatus();
}

}  // namespace keelson::oci
