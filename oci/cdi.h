// CDI, the Container Device Interface (github.com/cncf-tags/container-device-interface, SPEC.md up to 1.1.0
// without netDevices and intelRdt): what vendors' files say a container needs for a device, as edits of its
// specification. Parsing, resolving and applying are pure; the two functions that look at the host say so.
//
// Files are read anew for each container that asks for a device: drivers write and remove them at any time,
// often one for each claim.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "oci/spec.h"

namespace keelson::oci {

inline constexpr size_t kMaxCdiFileBytes = 1 << 20;
inline constexpr size_t kMaxCdiFiles = 4096;           // in all directories together
inline constexpr size_t kMaxCdiTotalBytes = 64 << 20;  // of those files
inline constexpr size_t kMaxCdiDevices = 1024;         // one container asks for

struct CdiDeviceNode {
  std::string path, host_path;   // both absolute; in the container, on the host
  char type = 0;                 // 'b', 'c', 'p'; 0: the host node's
  int64_t major = 0, minor = 0;  // major 0: the host node's
  std::optional<uint32_t> file_mode, uid, gid;
  std::string permissions;  // of "rwm"; "none"
};

struct CdiEdits {
  std::vector<std::string> env;  // KEY=VALUE
  std::vector<CdiDeviceNode> device_nodes;
  std::vector<SpecMount> mounts;
  SpecHooks hooks;
  std::vector<uint32_t> additional_gids;
  std::vector<std::string> unsupported;  // fields that ask for what this runtime does not do
  bool Empty() const;
};

struct CdiDevice {
  std::string name;
  CdiEdits edits;
};

struct CdiSpec {
  std::string kind;  // VENDOR/CLASS
  CdiEdits edits;    // for every container with one of the devices
  std::vector<CdiDevice> devices;
};

// A file of a specification directory. Of two directories the one with the higher number wins.
struct CdiFile {
  std::string path;
  size_t dir = 0;
  absl::StatusOr<CdiSpec> spec;  // or why it cannot be used
};

// InvalidArgument names the field. Unknown fields, and fields younger than the file's cdiVersion, are refused
// as the specification says.
absl::StatusOr<CdiSpec> ParseCdiSpec(std::string_view json);

// VENDOR/CLASS=NAME.
absl::Status CheckCdiDeviceName(std::string_view name);

// The devices a container asks for, each once: CDI_devices first, then annotations cdi.k8s.io/* in the order
// of their keys, whose values are names with commas between. InvalidArgument names the field.
absl::StatusOr<std::vector<std::string>> CdiDevicesOf(const criv1::ContainerConfig& config);

// The *.json and *.yaml files of `dirs`, in the order of the directories and of their names. A missing
// directory is an empty one. Blocking.
absl::StatusOr<std::vector<CdiFile>> ReadCdiFiles(const std::vector<std::string>& dirs);

// The edits of `names` in their order, those of a file as a whole once and before its first device's.
// NotFound names the devices that are nowhere, `dirs`, and the files that could not be used;
// FailedPrecondition: two files of one directory define a device, or there are no `dirs`; Unimplemented names
// the field.
absl::StatusOr<CdiEdits> ResolveCdiDevices(const std::vector<CdiFile>& files,
                                           const std::vector<std::string>& dirs,
                                           const std::vector<std::string>& names);

// Nodes of the host by path, or why there is none.
using CdiHostNodes = std::map<std::string, absl::StatusOr<HostDevice>>;

// Looks up the nodes, and that sources of mounts and programs of hooks exist. Blocking.
absl::StatusOr<CdiHostNodes> LookUpCdiHost(const CdiEdits& edits);

// Fills in the cdi_ fields of `input` and adds groups to its user, which must be there already: nodes without
// an owner get the container's.
absl::Status ApplyCdiEdits(const CdiEdits& edits, const CdiHostNodes& nodes, SpecInput* input);

}  // namespace keelson::oci
