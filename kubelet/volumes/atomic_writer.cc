#include "kubelet/volumes/atomic_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <set>
#include <vector>

#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson::kubelet {
namespace {

constexpr char kData[] = "..data";
constexpr char kDataTemp[] = "..data_tmp";
constexpr uint32_t kGroupRead = 0440;
constexpr uint32_t kGroupFolder = 0110;
constexpr int kMaxDepth = 64;
constexpr size_t kMaxFileBytes = 64 << 20;

std::string Readlink(int dir_fd, const std::string& name) {
  char target[4096];
  ssize_t n = ::readlinkat(dir_fd, name.c_str(), target, sizeof target);
  return n <= 0 ? "" : std::string(target, static_cast<size_t>(n));
}

// Files and folders below `name`; the folder holds only what we wrote.
absl::Status Remove(int dir_fd, const std::string& name, int depth = 0) {
  if (depth > kMaxDepth) return absl::ResourceExhaustedError(StrCat("remove ", name, ": nested too deep"));
  if (::unlinkat(dir_fd, name.c_str(), 0) == 0 || errno == ENOENT) return absl::OkStatus();
  if (errno != EISDIR && errno != EPERM) return ErrnoStatus(errno, StrCat("unlink ", name));
  Fd sub(::openat(dir_fd, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!sub.valid()) return ErrnoStatus(errno, StrCat("open ", name));
  ASSIGN_OR_RETURN(std::vector<std::string> children, FolderNames(sub.get()));
  for (const std::string& child : children) RETURN_IF_ERROR(Remove(sub.get(), child, depth + 1));
  if (::unlinkat(dir_fd, name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT) {
    return ErrnoStatus(errno, StrCat("rmdir ", name));
  }
  return absl::OkStatus();
}

std::string FirstComponent(const std::string& path) { return path.substr(0, path.find('/')); }

uint32_t ModeOf(const PayloadFile& file, int64_t group) {
  return (file.mode & 07777) | (group >= 0 ? kGroupRead : 0);
}

bool SameFile(int data_fd, const std::string& path, const PayloadFile& want, int64_t group) {
  auto fd = OpenBeneath(data_fd, path, O_RDONLY | O_NOFOLLOW);
  struct stat st;
  if (!fd.ok() || ::fstat(fd->get(), &st) != 0 || !S_ISREG(st.st_mode)) return false;
  if (static_cast<size_t>(st.st_size) != want.data.size()) return false;
  if ((st.st_mode & 07777) != ModeOf(want, group)) return false;
  if (group >= 0 && st.st_gid != static_cast<gid_t>(group)) return false;
  if (want.user >= 0 && st.st_uid != static_cast<uid_t>(want.user)) return false;
  auto data = ReadFd(fd->get(), kMaxFileBytes);
  return data.ok() && *data == want.data;
}

size_t CountFiles(int dir_fd, int depth = 0) {
  size_t count = 0;
  auto names = FolderNames(dir_fd);
  for (const std::string& name : names.ok() ? *names : std::vector<std::string>()) {
    Fd sub(::openat(dir_fd, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    count += sub.valid() && depth < kMaxDepth ? CountFiles(sub.get(), depth + 1) : 1;
  }
  return count;
}

// What ..data shows is the payload, and every link is there.
bool IsCurrent(int dir_fd, const Payload& payload, int64_t group) {
  std::string target = Readlink(dir_fd, kData);
  if (!target.starts_with("..") || target.find('/') != std::string::npos) return false;
  Fd data(::openat(dir_fd, target.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!data.valid() || CountFiles(data.get()) != payload.size()) return false;
  for (const auto& [path, file] : payload) {
    std::string first = FirstComponent(path);
    if (Readlink(dir_fd, first) != StrCat(kData, "/", first) || !SameFile(data.get(), path, file, group))
      return false;
  }
  return true;
}

absl::Status Own(int fd, const std::string& what, int64_t user, int64_t group) {
  if (user < 0 && group < 0) return absl::OkStatus();
  uid_t uid = user < 0 ? static_cast<uid_t>(-1) : static_cast<uid_t>(user);
  gid_t gid = group < 0 ? static_cast<gid_t>(-1) : static_cast<gid_t>(group);
  return ::fchown(fd, uid, gid) == 0 ? absl::OkStatus() : ErrnoStatus(errno, StrCat("chown ", what));
}

absl::StatusOr<Fd> MakeFolder(int parent_fd, const std::string& name, int64_t group) {
  if (::mkdirat(parent_fd, name.c_str(), 0755) != 0 && errno != EEXIST)
    return ErrnoStatus(errno, StrCat("mkdir ", name));
  Fd fd(::openat(parent_fd, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, StrCat("open ", name));
  RETURN_IF_ERROR(Own(fd.get(), name, -1, group));
  uint32_t mode = 0755 | (group >= 0 ? S_ISGID | kGroupRead | kGroupFolder : 0);
  if (::fchmod(fd.get(), mode) != 0) return ErrnoStatus(errno, StrCat("chmod ", name));
  return fd;
}

absl::Status WriteFile(int dir_fd, const std::string& path, const PayloadFile& file, int64_t group) {
  int parent = dir_fd;
  Fd folder;
  size_t start = 0;
  for (size_t slash = path.find('/'); slash != std::string::npos; slash = path.find('/', start)) {
    ASSIGN_OR_RETURN(folder, MakeFolder(parent, path.substr(start, slash - start), group));
    parent = folder.get();
    start = slash + 1;
  }
  std::string name = path.substr(start);
  Fd fd(::openat(parent, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd.valid()) return ErrnoStatus(errno, StrCat("create ", path));
  RETURN_IF_ERROR(WriteAll(fd.get(), file.data));
  RETURN_IF_ERROR(Own(fd.get(), path, file.user, group));
  // After chown, which clears setuid bits; the umask does not count.
  if (::fchmod(fd.get(), ModeOf(file, group)) != 0) return ErrnoStatus(errno, StrCat("chmod ", path));
  return absl::OkStatus();
}

absl::Status Link(int dir_fd, const std::string& target, const std::string& name, const std::string& temp) {
  (void)::unlinkat(dir_fd, temp.c_str(), 0);
  if (::symlinkat(target.c_str(), dir_fd, temp.c_str()) != 0)
    return ErrnoStatus(errno, StrCat("symlink ", temp));
  if (::renameat(dir_fd, temp.c_str(), dir_fd, name.c_str()) != 0)
    return ErrnoStatus(errno, StrCat("rename to ", name));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<bool> WriteAtomically(int dir_fd, const Payload& payload, int64_t group, absl::Time now) {
  for (const auto& [path, file] : payload) {
    if (absl::Status status = CheckPayloadPath(path); !status.ok()) return status;
  }
  if (IsCurrent(dir_fd, payload, group)) return false;
  std::string stamp = StrCat("..", absl::FormatTime("%Y_%m_%d_%H_%M_%S", now, absl::UTCTimeZone()), ".",
                             absl::ToUnixNanos(now) % 1000000000);
  if (Readlink(dir_fd, kData) == stamp) stamp += ".1";  // twice within one tick of the clock
  RETURN_IF_ERROR(Remove(dir_fd, stamp));
  {
    ASSIGN_OR_RETURN(Fd folder, MakeFolder(dir_fd, stamp, group));
    for (const auto& [path, file] : payload) RETURN_IF_ERROR(WriteFile(folder.get(), path, file, group));
  }
  std::set<std::string> firsts;
  for (const auto& [path, file] : payload) firsts.insert(FirstComponent(path));
  // New names first appear with the swap below: until then their links point into the void, as upstream's.
  RETURN_IF_ERROR(Link(dir_fd, stamp, kData, kDataTemp));
  for (const std::string& first : firsts) {
    std::string target = StrCat(kData, "/", first);
    if (Readlink(dir_fd, first) != target) RETURN_IF_ERROR(Link(dir_fd, target, first, "..link_tmp"));
  }
  ASSIGN_OR_RETURN(std::vector<std::string> names, FolderNames(dir_fd));
  for (const std::string& name : names) {
    bool ours = name == kData || name == stamp || firsts.contains(name);
    bool stale_folder = name.starts_with("..");
    bool stale_link = Readlink(dir_fd, name).starts_with(StrCat(kData, "/"));
    if (!ours && (stale_folder || stale_link)) RETURN_IF_ERROR(Remove(dir_fd, name));
  }
  return true;
}

}  // namespace keelson::kubelet
