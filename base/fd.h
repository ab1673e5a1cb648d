// Owned file descriptor, and walks of paths outsiders can influence (openat2; CONTRIBUTING, rule 7).
#pragma once

#include <absl/functional/function_ref.h>
#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keelson {

// Closes on destruction. Movable.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept;
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd();
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset();

 private:
  int fd_ = -1;
};

// open(2) with O_CLOEXEC. The path is one of ours, not an outsider's.
absl::StatusOr<Fd> OpenFile(const std::string& path, int flags, unsigned mode = 0600);
// openat2(2) with RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS: leaving `dir` by "..", absolute path or symlink is
// PermissionDenied.
absl::StatusOr<Fd> OpenBeneath(int dir_fd, const std::string& path, int flags, unsigned mode = 0600);
// openat2(2) with RESOLVE_IN_ROOT: `dir` is "/" for every symlink met on the way.
absl::StatusOr<Fd> OpenInRoot(int dir_fd, const std::string& path, int flags, unsigned mode = 0600);

// Whole file, at most max_bytes (else ResourceExhausted).
absl::StatusOr<std::string> ReadFile(const std::string& path, size_t max_bytes = 16 << 20);
absl::StatusOr<std::string> ReadFd(int fd, size_t max_bytes);
// write(2) until all is written.
absl::Status WriteAll(int fd, std::string_view data);
// From where `from` is to its end, without its bytes coming through us where the kernel can.
absl::Status CopyRest(int from, int to);
// Temporary file in the same folder, fsync when `durable`, rename over `path`, fsync of the folder when
// `durable`.
absl::Status WriteFileAtomic(const std::string& path, std::string_view data, unsigned mode = 0644,
                             bool durable = true);
// A file that `write` fills (its descriptor reads, too) and that gets the name `path` when it is whole, in
// place of what has it. Until then it has none: a kill leaves nothing (or, where the file system has no
// O_TMPFILE, as NFS, a file PATH.XXXXXX). fsync of file and folder when `durable`. For what is too big for
// WriteFileAtomic.
absl::Status WriteNewFile(const std::string& path, unsigned mode, bool durable,
                          absl::FunctionRef<absl::Status(int fd)> write);
// mkdir -p; existing is success.
absl::Status MakeDirs(const std::string& path, unsigned mode = 0755);
// Names of a folder's entries without "." and "..", sorted. `dir_fd` is open for reading and stays where it
// was. More than max_names: ResourceExhausted.
absl::StatusOr<std::vector<std::string>> FolderNames(int dir_fd, size_t max_names = SIZE_MAX);
absl::StatusOr<std::vector<std::string>> FolderNames(const std::string& path, size_t max_names = SIZE_MAX);
// rm -rf by directory fds, never across a mount point or through a symlink. Missing is success.
absl::Status RemoveTree(const std::string& path);

}  // namespace keelson
