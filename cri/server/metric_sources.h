// What CRI's metrics want besides cgroups and interface counters: descriptors and sockets of processes, names
// of block devices, the space of a file system. From /proc and statvfs only. All calls block: Env::Blocking.
#pragma once

#include <absl/status/statusor.h>
#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keelson::cri {

// Of one container; what is beyond is not counted.
inline constexpr size_t kMaxCountedProcesses = 1000;
inline constexpr size_t kMaxCountedDescriptors = 100000;

struct ProcessCounts {
  uint64_t processes = 0, file_descriptors = 0, sockets = 0;
};
// A process that ends meanwhile counts as it was seen.
ProcessCounts CountProcesses(const std::vector<pid_t>& pids, const std::string& proc_root = "/proc");

// The soft limit of open files in the text of /proc/PID/limits; nullopt: unlimited, or not there. Pure.
std::optional<uint64_t> OpenFilesLimit(std::string_view limits_text);
std::optional<uint64_t> ReadOpenFilesLimit(pid_t pid, const std::string& proc_root = "/proc");

// (major, minor) -> "/dev/vda".
using BlockDeviceNames = std::map<std::pair<uint32_t, uint32_t>, std::string>;
// The text of /proc/partitions; lines that do not fit are left out. Pure.
BlockDeviceNames ParsePartitions(std::string_view text);
BlockDeviceNames ReadBlockDeviceNames(const std::string& proc_root = "/proc");

struct FilesystemSpace {
  std::string device;  // "/dev/vda1", else "MAJOR:MINOR"
  uint64_t size_bytes = 0, inodes = 0, free_inodes = 0;
};
absl::StatusOr<FilesystemSpace> ReadFilesystemSpace(const std::string& path, const BlockDeviceNames& names);

}  // namespace keelson::cri
