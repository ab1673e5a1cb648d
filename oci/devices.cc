// Device nodes of a container and who may use which device.
#include <absl/strings/match.h>

#include <algorithm>

#include "base/status.h"
#include "oci/spec_parts.h"

namespace keelson::oci {
namespace {

constexpr uint32_t kPermissionBits = 0777;
// Of the container's own /dev, whatever the host has there.
constexpr std::string_view kOwnPaths[] = {"/dev/console", "/dev/fd", "/dev/mqueue", "/dev/pts", "/dev/shm"};

bool IsOwnPath(const std::string& path) {
  return std::any_of(std::begin(kOwnPaths), std::end(kOwnPaths),
                     [&](std::string_view own) { return IsAtOrBelow(path, own); });
}

absl::Status CheckPermissions(std::string_view permissions, std::string_view field) {
  bool seen[3] = {false, false, false};
  for (const char c : permissions) {
    const size_t index = std::string_view("rwm").find(c);
    if (index == std::string_view::npos || seen[index]) {
      return absl::InvalidArgumentError(
          StrCat(field, ".permissions: \"", permissions, "\" is not made of r, w and m"));
    }
    seen[index] = true;
  }
  return absl::OkStatus();
}

void AddNode(const HostDevice& device, RuntimeSpec* spec) {
  const std::string path = CleanPath(device.path);
  for (SpecDevice& other : spec->devices) {
    if (other.path != path) continue;
    other = {path,       device.type, device.major, device.minor, device.mode & kPermissionBits,
             device.uid, device.gid};
    return;
  }
  spec->devices.push_back(
      {path, device.type, device.major, device.minor, device.mode & kPermissionBits, device.uid, device.gid});
}

void AddRule(const HostDevice& device, const std::string& permissions, RuntimeSpec* spec) {
  if (device.type != 'c' && device.type != 'b') return;
  spec->resources.devices.push_back({true, device.type, device.major, device.minor, permissions});
}

absl::Status AddDevice(const HostDevice& device, const std::string& permissions, std::string_view field,
                       RuntimeSpec* spec) {
  if (!absl::StartsWith(device.path, "/")) {
    return absl::InvalidArgumentError(
        StrCat(field, ".container_path: \"", device.path, "\" is not absolute"));
  }
  const std::string access = permissions.empty() ? "rwm" : permissions;
  RETURN_IF_ERROR(CheckPermissions(access, field));
  AddNode(device, spec);
  AddRule(device, access, spec);
  return absl::OkStatus();
}

}  // namespace

absl::Status BuildDevices(const SpecInput& input, RuntimeSpec* spec) {
  const bool privileged = input.container->linux().security_context().privileged();
  // The OCI runtime adds the devices every container has (null, zero, random, tty, ...) and their rules.
  spec->resources.devices.push_back({privileged, 'a', std::nullopt, std::nullopt, "rwm"});
  if (privileged) {
    for (const HostDevice& device : input.all_host_devices) {
      if (!IsOwnPath(CleanPath(device.path))) AddNode(device, spec);
    }
  }
  for (int i = 0; i < input.container->devices_size(); ++i) {
    const criv1::Device& wanted = input.container->devices(i);
    const std::string field = StrCat("devices[", i, "]");
    const auto index = static_cast<size_t>(i);
    if (index >= input.devices.size() || input.devices[index].empty()) {
      return absl::InvalidArgumentError(
          StrCat(field, ".host_path: \"", wanted.host_path(), "\" is no device of this host"));
    }
    for (const HostDevice& device : input.devices[index]) {
      const std::string& permissions =
          wanted.permissions().empty() ? device.permissions : wanted.permissions();
      RETURN_IF_ERROR(AddDevice(device, permissions, field, spec));
    }
  }
  for (const HostDevice& device : input.cdi_devices) {
    if (device.permissions == "none") {
      AddNode(device, spec);
      continue;
    }
    RETURN_IF_ERROR(AddDevice(device, device.permissions, "CDI_devices", spec));
  }
  return absl::OkStatus();
}

}  // namespace keelson::oci
