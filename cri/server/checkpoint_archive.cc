#include "cri/server/checkpoint_archive.h"

#include <absl/strings/str_split.h>
#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson::cri {

namespace {

constexpr size_t kCopyBytes = 256 << 10;
// Each holds a descriptor while its folder is read.
constexpr int kMaxDepth = 256;
constexpr size_t kMaxXattrBytes = 64 << 10;  // the kernel's own bound
constexpr char kOpaque[] = "trusted.overlay.opaque";

class TarWriter {
 public:
  explicit TarWriter(int fd) : archive_(::archive_write_new(), ::archive_write_free) {
    ::archive_write_set_format_pax_restricted(archive_.get());
    ::archive_write_set_bytes_in_last_block(archive_.get(), 1);
    ok_ = ::archive_write_open_fd(archive_.get(), fd) == ARCHIVE_OK;
  }
  absl::Status AddText(const std::string& name, std::string_view text) {
    Entry entry = NewEntry(name, AE_IFREG, 0600);
    ::archive_entry_set_size(entry.get(), static_cast<int64_t>(text.size()));
    RETURN_IF_ERROR(Header(entry));
    return Data(text);
  }
  // `fd`: the file, open for reading.
  absl::Status AddOpenFile(const std::string& name, int fd, const struct stat& info, bool own) {
    Entry entry = own ? NewEntry(name, AE_IFREG, 0600) : EntryOf(name, info);
    ::archive_entry_set_size(entry.get(), info.st_size);
    if (!own) AddXattrs(fd, entry.get());
    RETURN_IF_ERROR(Header(entry));
    std::string buffer(kCopyBytes, '\0');
    off_t left = info.st_size;
    while (left > 0) {
      ssize_t n = ::read(fd, buffer.data(), std::min<size_t>(buffer.size(), static_cast<size_t>(left)));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return ErrnoStatus(errno, StrCat("read ", name));
      if (n == 0) {
        // It was cut off meanwhile.
        n = static_cast<ssize_t>(std::min<off_t>(left, static_cast<off_t>(buffer.size())));
        std::fill(buffer.begin(), buffer.end(), '\0');
      }
      RETURN_IF_ERROR(Data(std::string_view(buffer.data(), static_cast<size_t>(n))));
      left -= n;
    }
    return absl::OkStatus();
  }
  absl::Status AddPlain(const std::string& name, const struct stat& info, const std::string& link) {
    Entry entry = EntryOf(name, info);
    if (S_ISLNK(info.st_mode)) ::archive_entry_set_symlink(entry.get(), link.c_str());
    if (S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode)) {
      ::archive_entry_set_rdevmajor(entry.get(), ::major(info.st_rdev));
      ::archive_entry_set_rdevminor(entry.get(), ::minor(info.st_rdev));
    }
    return Header(entry);
  }
  absl::Status AddFolder(const std::string& name, int fd, const struct stat& info, bool own) {
    Entry entry = own ? NewEntry(name + "/", AE_IFDIR, 0700) : EntryOf(name + "/", info);
    if (!own) AddXattrs(fd, entry.get());
    return Header(entry);
  }
  absl::Status Close() {
    return ok_ && ::archive_write_close(archive_.get()) == ARCHIVE_OK ? absl::OkStatus() : Error();
  }

 private:
  using Entry = std::unique_ptr<archive_entry, void (*)(archive_entry*)>;

  static Entry NewEntry(const std::string& name, unsigned type, mode_t mode) {
    Entry entry(::archive_entry_new(), ::archive_entry_free);
    ::archive_entry_set_pathname(entry.get(), name.c_str());
    ::archive_entry_set_filetype(entry.get(), type);
    ::archive_entry_set_perm(entry.get(), mode);
    ::archive_entry_set_size(entry.get(), 0);
    ::archive_entry_set_mtime(entry.get(), 0, 0);
    return entry;
  }
  static Entry EntryOf(const std::string& name, const struct stat& info) {
    Entry entry = NewEntry(name, info.st_mode & S_IFMT, info.st_mode & 07777);
    ::archive_entry_set_uid(entry.get(), info.st_uid);
    ::archive_entry_set_gid(entry.get(), info.st_gid);
    ::archive_entry_set_mtime(entry.get(), info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
    return entry;
  }
  // Those that belong to the file, not to overlayfs.
  static void AddXattrs(int fd, archive_entry* entry) {
    std::string names(kMaxXattrBytes, '\0');
    ssize_t n = ::flistxattr(fd, names.data(), names.size());
    if (n <= 0) return;
    names.resize(static_cast<size_t>(n));
    std::string value(kMaxXattrBytes, '\0');
    for (absl::string_view name : absl::StrSplit(names, '\0', absl::SkipEmpty())) {
      if (name != "security.capability" && name.substr(0, 5) != "user.") continue;
      ssize_t size = ::fgetxattr(fd, std::string(name).c_str(), value.data(), value.size());
      if (size < 0) continue;
      ::archive_entry_xattr_add_entry(entry, std::string(name).c_str(), value.data(),
                                      static_cast<size_t>(size));
    }
  }
  absl::Status Header(const Entry& entry) {
    return ok_ && ::archive_write_header(archive_.get(), entry.get()) >= ARCHIVE_WARN ? absl::OkStatus()
                                                                                      : Error();
  }
  absl::Status Data(std::string_view bytes) {
    la_ssize_t n = ::archive_write_data(archive_.get(), bytes.data(), bytes.size());
    return n == static_cast<la_ssize_t>(bytes.size()) ? absl::OkStatus() : Error();
  }
  absl::Status Error() {
    const char* text = ::archive_error_string(archive_.get());
    return absl::DataLossError(StrCat("write archive: ", text == nullptr ? "failed" : text));
  }

  std::unique_ptr<archive, int (*)(archive*)> archive_;
  bool ok_ = false;
};

absl::StatusOr<std::vector<std::string>> NamesIn(int dir) {
  Fd copy(::openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!copy.valid()) return ErrnoStatus(errno, "open folder");
  std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(copy.release()), ::closedir);
  if (stream == nullptr) return ErrnoStatus(errno, "read folder");
  std::vector<std::string> names;
  while (dirent* entry = ::readdir(stream.get())) {
    std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(std::move(name));
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool IsWhiteout(const struct stat& info) { return S_ISCHR(info.st_mode) && info.st_rdev == 0; }

bool IsOpaque(int dir) {
  char value = 0;
  return ::fgetxattr(dir, kOpaque, &value, 1) == 1 && value == 'y';
}

// What is below `dir`. The container may change it meanwhile: what has gone is left out, and no symlink is
// followed.
class TreeWriter {
 public:
  // `own`: files of ours, without owners, times and overlayfs.
  TreeWriter(TarWriter* tar, bool own) : tar_(tar), own_(own) {}

  absl::Status Add(int dir, const std::string& prefix, int depth) {
    if (depth > kMaxDepth) {
      return absl::ResourceExhaustedError(StrCat(prefix, ": folders nested deeper than ", kMaxDepth));
    }
    if (!own_ && IsOpaque(dir)) RETURN_IF_ERROR(tar_->AddText(prefix + ".wh..wh..opq", ""));
    ASSIGN_OR_RETURN(std::vector<std::string> names, NamesIn(dir));
    for (const std::string& name : names) RETURN_IF_ERROR(AddOne(dir, name, prefix, depth));
    return absl::OkStatus();
  }

 private:
  absl::Status AddOne(int dir, const std::string& name, const std::string& prefix, int depth) {
    struct stat info;
    if (::fstatat(dir, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return absl::OkStatus();
    if (S_ISSOCK(info.st_mode)) return absl::OkStatus();  // tar has none
    if (!own_ && IsWhiteout(info)) return tar_->AddText(StrCat(prefix, ".wh.", name), "");
    std::string path = prefix + name;
    if (!S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode)) {
      std::string link(PATH_MAX, '\0');
      if (S_ISLNK(info.st_mode)) {
        ssize_t n = ::readlinkat(dir, name.c_str(), link.data(), link.size());
        if (n < 0) return absl::OkStatus();
        link.resize(static_cast<size_t>(n));
      }
      return tar_->AddPlain(path, info, link);
    }
    int kind = S_ISDIR(info.st_mode) ? O_DIRECTORY : O_NONBLOCK;
    Fd fd(::openat(dir, name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | kind));
    if (!fd.valid() && errno == ENOENT) return absl::OkStatus();
    if (!fd.valid()) return ErrnoStatus(errno, StrCat("open ", path));
    // It may be another one by now.
    if (::fstat(fd.get(), &info) != 0) return ErrnoStatus(errno, StrCat("stat ", path));
    if (S_ISREG(info.st_mode)) return tar_->AddOpenFile(path, fd.get(), info, own_);
    if (!S_ISDIR(info.st_mode)) return absl::OkStatus();
    RETURN_IF_ERROR(tar_->AddFolder(path, fd.get(), info, own_));
    return Add(fd.get(), path + "/", depth + 1);
  }

  TarWriter* tar_;
  bool own_;
};

absl::Status AddTree(TarWriter* tar, const std::string& dir, const std::string& prefix, bool own) {
  ASSIGN_OR_RETURN(Fd fd, OpenFile(dir, O_RDONLY | O_DIRECTORY));
  return TreeWriter(tar, own).Add(fd.get(), prefix, 0);
}

absl::Status AddFile(TarWriter* tar, const std::string& path, const std::string& name) {
  ASSIGN_OR_RETURN(Fd fd, OpenFile(path, O_RDONLY | O_NOFOLLOW));
  struct stat info;
  if (::fstat(fd.get(), &info) != 0) return ErrnoStatus(errno, StrCat("stat ", path));
  return tar->AddOpenFile(name, fd.get(), info, /*own=*/true);
}

// A tar in the tar: its length stands before it, so it is a file first.
absl::Status AddTreeAsTar(TarWriter* tar, const std::string& dir, const std::string& work_dir,
                          const std::string& name) {
  std::string path = StrCat(work_dir, "/", name);
  ASSIGN_OR_RETURN(Fd fd, OpenFile(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  RETURN_IF_ERROR(Annotate(WriteLayerTar(dir, fd.get()), name));
  fd.reset();
  RETURN_IF_ERROR(AddFile(tar, path, name));
  if (::unlink(path.c_str()) != 0) return ErrnoStatus(errno, StrCat("unlink ", path));
  return absl::OkStatus();
}

absl::Status WriteParts(const CheckpointParts& parts, int fd) {
  TarWriter tar(fd);
  RETURN_IF_ERROR(tar.AddText("config.dump", parts.config_dump));
  RETURN_IF_ERROR(tar.AddText("spec.dump", parts.spec_dump));
  for (const char* name : {"dump.log", "stats-dump"}) {
    absl::Status added = AddFile(&tar, StrCat(parts.work_dir, "/", name), name);
    if (!added.ok() && !absl::IsNotFound(added)) return added;
  }
  if (!parts.upper_dir.empty()) {
    RETURN_IF_ERROR(AddTreeAsTar(&tar, parts.upper_dir, parts.work_dir, "rootfs-diff.tar"));
  }
  if (!parts.volumes_dir.empty()) {
    RETURN_IF_ERROR(AddTreeAsTar(&tar, parts.volumes_dir, parts.work_dir, "volumes.tar"));
  }
  ASSIGN_OR_RETURN(Fd images, OpenFile(parts.images_dir, O_RDONLY | O_DIRECTORY));
  struct stat info;
  if (::fstat(images.get(), &info) != 0) return ErrnoStatus(errno, "stat the images");
  RETURN_IF_ERROR(tar.AddFolder("checkpoint", images.get(), info, /*own=*/true));
  RETURN_IF_ERROR(AddTree(&tar, parts.images_dir, "checkpoint/", /*own=*/true));
  return tar.Close();
}

}  // namespace

std::string EncodeCheckpointFacts(const CheckpointFacts& facts) {
  nlohmann::ordered_json json;
  json["id"] = facts.id;
  json["name"] = facts.name;
  json["rootfsImage"] = facts.image_name;
  json["rootfsImageRef"] = facts.image_ref;
  json["rootfsImageName"] = facts.image_name;
  json["runtime"] = facts.runtime;
  json["createdTime"] = facts.created_at;
  json["checkpointedTime"] = facts.checkpointed_at;
  json["restored"] = false;
  // An image's name is what somebody wrote.
  return json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

absl::Status WriteLayerTar(const std::string& upper_dir, int fd) {
  TarWriter tar(fd);
  RETURN_IF_ERROR(AddTree(&tar, upper_dir, "", /*own=*/false));
  return tar.Close();
}

namespace {

// A new file at `path`, filled by `write`, or none.
template <class Write>
absl::Status WriteNew(const std::string& path, bool durable, Write write) {
  ASSIGN_OR_RETURN(Fd fd, OpenFile(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  absl::Status written = write(fd.get());
  if (written.ok() && durable && ::fsync(fd.get()) != 0) written = ErrnoStatus(errno, StrCat("sync ", path));
  if (!written.ok()) ::unlink(path.c_str());
  return written;
}

}  // namespace

absl::Status WriteCheckpointArchive(const CheckpointParts& parts, const std::string& path, bool durable) {
  return WriteNew(path, durable, [&](int fd) { return WriteParts(parts, fd); });
}

absl::Status WriteFilesTar(const std::string& dir, const std::vector<std::string>& names,
                           const std::string& path) {
  return WriteNew(path, /*durable=*/true, [&](int fd) -> absl::Status {
    TarWriter tar(fd);
    for (const std::string& name : names) RETURN_IF_ERROR(AddFile(&tar, StrCat(dir, "/", name), name));
    return tar.Close();
  });
}

absl::Status CheckCheckpointLocation(std::string_view location, std::string_view field) {
  auto refuse = [&](std::string_view why) {
    return absl::InvalidArgumentError(StrCat(field, " \"", location, "\": ", why));
  };
  if (location.empty()) return absl::InvalidArgumentError(StrCat(field, ": required"));
  if (location.find('\0') != std::string_view::npos)
    return absl::InvalidArgumentError(StrCat(field, ": a NUL byte"));
  if (location.front() != '/') return refuse("want an absolute path");
  if (location.size() >= PATH_MAX) return absl::InvalidArgumentError(StrCat(field, ": too long"));
  std::vector<absl::string_view> words = absl::StrSplit(Av(location.substr(1)), '/');
  for (absl::string_view word : words) {
    if (word.empty()) return refuse("an empty component");
    if (word == "." || word == "..") return refuse("\".\" or \"..\" in it");
  }
  constexpr size_t kRoomForSuffix = 32;
  if (words.back().size() + kRoomForSuffix > NAME_MAX) return refuse("the file name is too long");
  return absl::OkStatus();
}

}  // namespace keelson::cri
