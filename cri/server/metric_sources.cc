#include "cri/server/metric_sources.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <dirent.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson::cri {

namespace {

constexpr size_t kMaxLimitsBytes = 16 << 10;
constexpr size_t kMaxPartitionsBytes = 4 << 20;
constexpr std::string_view kSocketPrefix = "socket:[";

void CountDescriptors(const std::string& directory, ProcessCounts* counts) {
  std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(directory.c_str()), ::closedir);
  if (dir == nullptr) return;
  while (counts->file_descriptors < kMaxCountedDescriptors) {
    const dirent* entry = ::readdir(dir.get());
    if (entry == nullptr) return;
    if (entry->d_name[0] == '.') continue;
    ++counts->file_descriptors;
    char target[kSocketPrefix.size()];
    ssize_t n = ::readlinkat(::dirfd(dir.get()), entry->d_name, target, sizeof target);
    if (n > 0 && std::string_view(target, static_cast<size_t>(n)) == kSocketPrefix) ++counts->sockets;
  }
}

}  // namespace

ProcessCounts CountProcesses(const std::vector<pid_t>& pids, const std::string& proc_root) {
  ProcessCounts counts;
  counts.processes = pids.size();
  for (size_t i = 0; i < std::min(pids.size(), kMaxCountedProcesses); ++i) {
    CountDescriptors(StrCat(proc_root, "/", pids[i], "/fd"), &counts);
  }
  return counts;
}

std::optional<uint64_t> OpenFilesLimit(std::string_view limits_text) {
  constexpr std::string_view kName = "Max open files";
  for (absl::string_view line : absl::StrSplit(Av(limits_text), '\n')) {
    if (!Sv(line).starts_with(kName)) continue;
    std::vector<absl::string_view> words = absl::StrSplit(line.substr(kName.size()), ' ', absl::SkipEmpty());
    uint64_t limit = 0;
    if (!words.empty() && absl::SimpleAtoi(words[0], &limit)) return limit;
    return std::nullopt;
  }
  return std::nullopt;
}

std::optional<uint64_t> ReadOpenFilesLimit(pid_t pid, const std::string& proc_root) {
  absl::StatusOr<std::string> text = ReadFile(StrCat(proc_root, "/", pid, "/limits"), kMaxLimitsBytes);
  return text.ok() ? OpenFilesLimit(*text) : std::nullopt;
}

BlockDeviceNames ParsePartitions(std::string_view text) {
  BlockDeviceNames names;
  for (absl::string_view line : absl::StrSplit(Av(text), '\n')) {
    std::vector<absl::string_view> words = absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    uint32_t major = 0, minor = 0;
    if (words.size() != 4 || !absl::SimpleAtoi(words[0], &major) || !absl::SimpleAtoi(words[1], &minor)) {
      continue;
    }
    names[{major, minor}] = StrCat("/dev/", words[3]);
  }
  return names;
}

BlockDeviceNames ReadBlockDeviceNames(const std::string& proc_root) {
  absl::StatusOr<std::string> text = ReadFile(proc_root + "/partitions", kMaxPartitionsBytes);
  return text.ok() ? ParsePartitions(*text) : BlockDeviceNames();
}

absl::StatusOr<FilesystemSpace> ReadFilesystemSpace(const std::string& path, const BlockDeviceNames& names) {
  struct stat info;
  struct statvfs space;
  if (::stat(path.c_str(), &info) != 0 || ::statvfs(path.c_str(), &space) != 0) {
    return ErrnoStatus(errno, StrCat("space of the file system at ", path));
  }
  FilesystemSpace out;
  auto name = names.find({major(info.st_dev), minor(info.st_dev)});
  out.device = name != names.end() ? name->second : StrCat(major(info.st_dev), ":", minor(info.st_dev));
  out.size_bytes = static_cast<uint64_t>(space.f_blocks) * space.f_frsize;
  out.inodes = space.f_files;
  out.free_inodes = space.f_ffree;
  return out;
}

}  // namespace keelson::cri
