// DirFd: a directory held open; everything below is reached by openat2 beneath it, so neither a symlink nor a
// path that came from outside leads away. All cgroup files are read and written through it.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"

namespace keelson::cgroups {

class DirFd {
 public:
  static absl::StatusOr<DirFd> Open(const std::string& path);

  // `relative` may be "" (this directory itself) in the calls on directories.
  absl::StatusOr<DirFd> OpenDir(std::string_view relative) const;
  bool Exists(std::string_view relative) const;
  absl::StatusOr<std::string> Read(std::string_view relative) const;  // at most kMaxCgroupFileBytes
  // One write(2), as cgroup files want it. The kernel's errno decides the code (EBUSY: FailedPrecondition).
  absl::Status Write(std::string_view relative, std::string_view value, bool create = false) const;
  // AlreadyExists is success.
  absl::Status MakeDir(std::string_view relative) const;
  // Missing is success. EBUSY is FailedPrecondition.
  absl::Status RemoveDir(std::string_view relative) const;
  absl::Status RemoveFile(std::string_view relative) const;
  // Names, sorted.
  absl::StatusOr<std::vector<std::string>> Directories(std::string_view relative) const;
  absl::StatusOr<std::vector<std::string>> Files(std::string_view relative) const;
  const std::string& path() const { return path_; }

 private:
  DirFd(Fd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
  absl::StatusOr<std::vector<std::string>> List(std::string_view relative, bool directories) const;

  Fd fd_;
  std::string path_;  // for messages
};

}  // namespace keelson::cgroups
