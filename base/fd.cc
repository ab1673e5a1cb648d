#include "base/fd.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>

#include "base/status.h"
#include "base/strings.h"

namespace keelson {

Fd& Fd::operator=(Fd&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

Fd::~Fd() { reset(); }

void Fd::reset() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

absl::StatusOr<Fd> OpenFile(const std::string& path, int flags, unsigned mode) {
  Fd fd(::open(path.c_str(), flags | O_CLOEXEC, mode));
  if (!fd.valid()) return ErrnoStatus(errno, StrCat("open ", path));
  return fd;
}

namespace {

constexpr size_t kCopyBytes = 256 << 10;

absl::StatusOr<Fd> OpenAt2(int dir_fd, const std::string& path, int flags, unsigned mode, uint64_t resolve) {
  open_how how{};
  how.flags = static_cast<uint64_t>(flags | O_CLOEXEC);
  // O_TMPFILE contains O_DIRECTORY: compare the whole. A mode without creation is EINVAL.
  how.mode = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE ? mode : 0;
  how.resolve = resolve | RESOLVE_NO_MAGICLINKS;
  for (int tries = 0; tries < 16; ++tries) {
    long fd = ::syscall(SYS_openat2, dir_fd, path.c_str(), &how, sizeof how);
    if (fd >= 0) return Fd(static_cast<int>(fd));
    if (errno == EAGAIN || errno == EINTR) continue;  // a rename raced the walk
    if (errno == EXDEV || errno == ELOOP) {
      return absl::PermissionDeniedError(StrCat("open ", path, ": the path leaves its directory"));
    }
    return ErrnoStatus(errno, StrCat("open ", path));
  }
  return absl::UnavailableError(StrCat("open ", path, ": renamed under us too often"));
}

std::string FolderOf(const std::string& path) {
  size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

absl::Status FsyncDirOf(const std::string& path) {
  std::string dir = FolderOf(path);
  ASSIGN_OR_RETURN(Fd fd, OpenFile(dir, O_RDONLY | O_DIRECTORY));
  if (::fsync(fd.get()) != 0) return ErrnoStatus(errno, StrCat("fsync ", dir));
  return absl::OkStatus();
}

absl::Status RemoveTreeAt(int parent_fd, const std::string& name, dev_t device, int depth) {
  constexpr int kMaxDepth = 512;
  if (depth > kMaxDepth) return absl::ResourceExhaustedError(StrCat("remove ", name, ": nested too deep"));
  if (::unlinkat(parent_fd, name.c_str(), 0) == 0 || errno == ENOENT) return absl::OkStatus();
  if (errno != EISDIR && errno != EPERM) return ErrnoStatus(errno, StrCat("unlink ", name));
  Fd dir_fd(::openat(parent_fd, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!dir_fd.valid()) return ErrnoStatus(errno, StrCat("open ", name));
  struct stat st;
  if (::fstat(dir_fd.get(), &st) != 0) return ErrnoStatus(errno, StrCat("stat ", name));
  if (st.st_dev != device) {
    return absl::FailedPreconditionError(StrCat("remove ", name, ": something is still mounted there"));
  }
  auto children = FolderNames(dir_fd.get());
  // NotFound: somebody removes it at the same time.
  if (!children.ok() && !absl::IsNotFound(children.status())) return Annotate(children.status(), name);
  for (size_t i = 0; children.ok() && i < children->size(); ++i) {
    RETURN_IF_ERROR(RemoveTreeAt(dir_fd.get(), (*children)[i], device, depth + 1));
  }
  if (::unlinkat(parent_fd, name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT) {
    return ErrnoStatus(errno, StrCat("rmdir ", name));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Fd> OpenBeneath(int dir_fd, const std::string& path, int flags, unsigned mode) {
  return OpenAt2(dir_fd, path, flags, mode, RESOLVE_BENEATH);
}

absl::StatusOr<Fd> OpenInRoot(int dir_fd, const std::string& path, int flags, unsigned mode) {
  return OpenAt2(dir_fd, path, flags, mode, RESOLVE_IN_ROOT);
}

absl::StatusOr<std::string> ReadFd(int fd, size_t max_bytes) {
  std::string out;
  char buffer[16384];
  while (true) {
    ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n < 0) {
      if (errno == EINTR) continue;
      return ErrnoStatus(errno, "read");
    }
    if (n == 0) return out;
    if (out.size() + static_cast<size_t>(n) > max_bytes) {
      return absl::ResourceExhaustedError(StrCat("larger than ", max_bytes, " bytes"));
    }
    out.append(buffer, static_cast<size_t>(n));
  }
}

absl::StatusOr<std::string> ReadFile(const std::string& path, size_t max_bytes) {
  ASSIGN_OR_RETURN(Fd fd, OpenFile(path, O_RDONLY));
  auto data = ReadFd(fd.get(), max_bytes);
  if (!data.ok()) return Annotate(data.status(), StrCat("read ", path));
  return data;
}

absl::Status WriteAll(int fd, std::string_view data) {
  while (!data.empty()) {
    ssize_t n = ::write(fd, data.data(), data.size());
    if (n < 0) {
      if (errno == EINTR) continue;
      return ErrnoStatus(errno, "write");
    }
    data.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

namespace {

// All of a new file but its name.
absl::Status Fill(int fd, unsigned mode, bool durable, absl::FunctionRef<absl::Status(int fd)> write) {
  RETURN_IF_ERROR(write(fd));
  if (::fchmod(fd, mode) != 0) return ErrnoStatus(errno, "chmod");
  if (durable && ::fsync(fd) != 0) return ErrnoStatus(errno, "fsync");
  return absl::OkStatus();
}

// By a file PATH.XXXXXX that is renamed.
absl::Status WriteRenamed(const std::string& path, unsigned mode, bool durable,
                          absl::FunctionRef<absl::Status(int fd)> write) {
  std::string temp = path + ".XXXXXX";
  Fd fd(::mkostemp(temp.data(), O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, StrCat("create ", temp));
  absl::Status status = Fill(fd.get(), mode, durable, write);
  if (status.ok() && ::rename(temp.c_str(), path.c_str()) != 0) status = ErrnoStatus(errno, "rename");
  if (!status.ok()) {
    ::unlink(temp.c_str());
    return Annotate(status, StrCat("write ", path));
  }
  return durable ? FsyncDirOf(path) : absl::OkStatus();
}

// linkat(2) does not replace: where the name is taken, another first. Only a kill between the two calls
// leaves it.
absl::Status NameUnnamed(int fd, const std::string& path) {
  const std::string open_file = StrCat("/proc/self/fd/", fd);
  std::string name = path;
  for (int attempt = 0;
       ::linkat(AT_FDCWD, open_file.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) != 0;) {
    if (errno != EEXIST || ++attempt > TMP_MAX) return ErrnoStatus(errno, StrCat("link ", name));
    name = path + ".XXXXXX";
    Fd reserved(::mkostemp(name.data(), O_CLOEXEC));
    if (!reserved.valid() || ::unlink(name.c_str()) != 0) return ErrnoStatus(errno, StrCat("create ", name));
  }
  if (name == path || ::rename(name.c_str(), path.c_str()) == 0) return absl::OkStatus();
  absl::Status status = ErrnoStatus(errno, StrCat("rename to ", path));
  ::unlink(name.c_str());
  return status;
}

}  // namespace

absl::Status WriteFileAtomic(const std::string& path, std::string_view data, unsigned mode, bool durable) {
  return WriteRenamed(path, mode, durable, [data](int fd) { return WriteAll(fd, data); });
}

absl::Status CopyRest(int from, int to) {
  while (true) {
    ssize_t n = ::copy_file_range(from, nullptr, to, nullptr, 1 << 30, 0);
    if (n == 0) return absl::OkStatus();
    if (n > 0) continue;
    if (errno != EXDEV && errno != EINVAL && errno != ENOSYS) return ErrnoStatus(errno, "copy");
    break;
  }
  std::string buffer(kCopyBytes, '\0');
  while (true) {
    ssize_t n = ::read(from, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, "read");
    if (n == 0) return absl::OkStatus();
    RETURN_IF_ERROR(WriteAll(to, std::string_view(buffer.data(), static_cast<size_t>(n))));
  }
}

absl::Status WriteNewFile(const std::string& path, unsigned mode, bool durable,
                          absl::FunctionRef<absl::Status(int fd)> write) {
  Fd fd(::open(FolderOf(path).c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!fd.valid() && (errno == EOPNOTSUPP || errno == EISDIR))
    return WriteRenamed(path, mode, durable, write);
  if (!fd.valid()) return ErrnoStatus(errno, StrCat("create ", path));
  absl::Status status = Fill(fd.get(), mode, durable, write);
  if (status.ok()) status = NameUnnamed(fd.get(), path);
  if (!status.ok()) return Annotate(status, StrCat("write ", path));
  return durable ? FsyncDirOf(path) : absl::OkStatus();
}

absl::Status MakeDirs(const std::string& path, unsigned mode) {
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    std::string part = path.substr(0, slash);
    if (::mkdir(part.c_str(), mode) != 0 && errno != EEXIST)
      return ErrnoStatus(errno, StrCat("mkdir ", part));
    if (slash == std::string::npos) break;
  }
  struct stat st;
  if (::stat(path.c_str(), &st) != 0) return ErrnoStatus(errno, StrCat("stat ", path));
  if (!S_ISDIR(st.st_mode)) return absl::FailedPreconditionError(StrCat("mkdir ", path, ": a file is there"));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> FolderNames(int dir_fd, size_t max_names) {
  Fd fd(::openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));  // an offset of its own
  if (!fd.valid()) return ErrnoStatus(errno, "open folder");
  std::unique_ptr<DIR, int (*)(DIR*)> dir(::fdopendir(fd.get()), ::closedir);
  if (dir == nullptr) return ErrnoStatus(errno, "read folder");
  fd.release();
  std::vector<std::string> names;
  for (errno = 0; const dirent* entry = ::readdir(dir.get()); errno = 0) {
    std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    if (names.size() >= max_names) {
      return absl::ResourceExhaustedError(StrCat("read folder: more than ", max_names, " entries"));
    }
    names.push_back(std::move(name));
  }
  if (errno != 0) return ErrnoStatus(errno, "read folder");
  std::sort(names.begin(), names.end());
  return names;
}

absl::StatusOr<std::vector<std::string>> FolderNames(const std::string& path, size_t max_names) {
  ASSIGN_OR_RETURN(Fd fd, OpenFile(path, O_RDONLY | O_DIRECTORY));
  auto names = FolderNames(fd.get(), max_names);
  if (!names.ok()) return Annotate(names.status(), path);
  return names;
}

absl::Status RemoveTree(const std::string& path) {
  struct stat st;
  if (::lstat(path.c_str(), &st) != 0) {
    return errno == ENOENT ? absl::OkStatus() : ErrnoStatus(errno, StrCat("stat ", path));
  }
  return RemoveTreeAt(AT_FDCWD, path, st.st_dev, 0);
}

}  // namespace keelson
