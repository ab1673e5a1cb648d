// What the kernel says about mounts, as text: /proc/mounts and /proc/PID/mountinfo (proc(5)). Pure.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace keelson {

// A node with thousands of pods stays far below.
inline constexpr size_t kMaxMountInfoBytes = 64 << 20;

// One field with its octal escapes (\040 for a space) undone; what is no escape stays as it is.
std::string UnescapeMountField(std::string_view field);

// Mount points of a mountinfo text in file order, a point as often as it is mounted on. Later ones lie over
// or below earlier ones, so that unmounting goes from the end. Lines that do not parse are left out.
std::vector<std::string> ParseMountPoints(std::string_view mountinfo);

// Those of them below one of `dirs`. A folder itself is left out: a disk that its owner mounted there stays.
std::vector<std::string> MountPointsBelow(std::string_view mountinfo, const std::vector<std::string>& dirs);

}  // namespace keelson
