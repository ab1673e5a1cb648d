#include "cgroups/dir_fd.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "base/status.h"
#include "base/strings.h"
#include "cgroups/layout.h"

namespace keelson::cgroups {

namespace {

// cgroupfs says EBUSY for "not while it has children or processes": the caller's state, not the kernel's.
absl::Status CgroupErrno(int error_number, const std::string& context) {
  if (error_number == EBUSY) {
    return absl::FailedPreconditionError(StrCat(context,
                                                ": busy (processes or child cgroups, or the memory in "
                                                "use exceeds the limit)"));
  }
  return ErrnoStatus(error_number, context);
}

std::string OrDot(std::string_view relative) { return relative.empty() ? "." : std::string(relative); }

// The directory that holds `relative`'s last component.
struct PathParts {
  std::string parent, name;
};
PathParts SplitLast(std::string_view relative) {
  size_t slash = relative.rfind('/');
  if (slash == std::string_view::npos) return {".", std::string(relative)};
  return {std::string(relative.substr(0, slash)), std::string(relative.substr(slash + 1))};
}

}  // namespace

absl::StatusOr<DirFd> DirFd::Open(const std::string& path) {
  ASSIGN_OR_RETURN(Fd fd, OpenFile(path, O_RDONLY | O_DIRECTORY));
  return DirFd(std::move(fd), path);
}

absl::StatusOr<DirFd> DirFd::OpenDir(std::string_view relative) const {
  auto fd = OpenBeneath(fd_.get(), OrDot(relative), O_RDONLY | O_DIRECTORY);
  if (!fd.ok()) return Annotate(fd.status(), path_);
  return DirFd(*std::move(fd), StrCat(path_, "/", relative));
}

bool DirFd::Exists(std::string_view relative) const {
  return OpenBeneath(fd_.get(), OrDot(relative), O_PATH).ok();
}

absl::StatusOr<std::string> DirFd::Read(std::string_view relative) const {
  auto fd = OpenBeneath(fd_.get(), std::string(relative), O_RDONLY);
  if (!fd.ok()) return Annotate(fd.status(), path_);
  auto text = ReadFd(fd->get(), kMaxCgroupFileBytes);
  if (!text.ok()) return Annotate(text.status(), StrCat("read ", path_, "/", relative));
  return text;
}

absl::Status DirFd::Write(std::string_view relative, std::string_view value, bool create) const {
  int flags = O_WRONLY | O_TRUNC | (create ? O_CREAT : 0);
  auto fd = OpenBeneath(fd_.get(), std::string(relative), flags, 0644);
  if (!fd.ok()) return Annotate(fd.status(), path_);
  ssize_t written;
  do {
    written = ::write(fd->get(), value.data(), value.size());
  } while (written < 0 && errno == EINTR);
  if (written < 0) return CgroupErrno(errno, StrCat("write \"", value, "\" to ", path_, "/", relative));
  if (static_cast<size_t>(written) != value.size()) {
    return absl::InternalError(StrCat("write \"", value, "\" to ", path_, "/", relative, ": cut short"));
  }
  return absl::OkStatus();
}

absl::Status DirFd::MakeDir(std::string_view relative) const {
  PathParts at = SplitLast(relative);
  auto parent = OpenBeneath(fd_.get(), at.parent, O_RDONLY | O_DIRECTORY);
  if (!parent.ok()) return Annotate(parent.status(), path_);
  if (::mkdirat(parent->get(), at.name.c_str(), 0755) == 0 || errno == EEXIST) return absl::OkStatus();
  return CgroupErrno(errno, StrCat("mkdir ", path_, "/", relative));
}

absl::Status DirFd::RemoveDir(std::string_view relative) const {
  PathParts at = SplitLast(relative);
  auto parent = OpenBeneath(fd_.get(), at.parent, O_RDONLY | O_DIRECTORY);
  if (absl::IsNotFound(parent.status())) return absl::OkStatus();
  if (!parent.ok()) return Annotate(parent.status(), path_);
  if (::unlinkat(parent->get(), at.name.c_str(), AT_REMOVEDIR) == 0 || errno == ENOENT)
    return absl::OkStatus();
  return CgroupErrno(errno, StrCat("rmdir ", path_, "/", relative));
}

absl::Status DirFd::RemoveFile(std::string_view relative) const {
  PathParts at = SplitLast(relative);
  auto parent = OpenBeneath(fd_.get(), at.parent, O_RDONLY | O_DIRECTORY);
  if (absl::IsNotFound(parent.status())) return absl::OkStatus();
  if (!parent.ok()) return Annotate(parent.status(), path_);
  if (::unlinkat(parent->get(), at.name.c_str(), 0) == 0 || errno == ENOENT) return absl::OkStatus();
  return ErrnoStatus(errno, StrCat("unlink ", path_, "/", relative));
}

absl::StatusOr<std::vector<std::string>> DirFd::List(std::string_view relative, bool directories) const {
  auto fd = OpenBeneath(fd_.get(), OrDot(relative), O_RDONLY | O_DIRECTORY);
  if (!fd.ok()) return Annotate(fd.status(), path_);
  std::unique_ptr<DIR, int (*)(DIR*)> dir(::fdopendir(fd->get()), ::closedir);
  if (dir == nullptr) return ErrnoStatus(errno, StrCat("list ", path_, "/", relative));
  fd->release();
  std::vector<std::string> names;
  for (errno = 0; dirent* entry = ::readdir(dir.get()); errno = 0) {
    std::string_view name = entry->d_name;
    if (name == "." || name == "..") continue;
    bool is_directory = entry->d_type == DT_DIR;
    if (entry->d_type == DT_UNKNOWN) {
      struct stat st;
      is_directory =
          ::fstatat(::dirfd(dir.get()), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
    }
    if (is_directory == directories) names.emplace_back(name);
  }
  if (errno == ENODEV || errno == ENOENT)
    return absl::NotFoundError(StrCat("list ", path_, "/", relative, ": gone"));
  if (errno != 0) return ErrnoStatus(errno, StrCat("list ", path_, "/", relative));
  std::sort(names.begin(), names.end());
  return names;
}

absl::StatusOr<std::vector<std::string>> DirFd::Directories(std::string_view relative) const {
  return List(relative, true);
}
absl::StatusOr<std::vector<std::string>> DirFd::Files(std::string_view relative) const {
  return List(relative, false);
}

}  // namespace keelson::cgroups
