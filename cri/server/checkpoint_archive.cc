#include "cri/server/checkpoint_archive.h"

#include <absl/strings/str_split.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"
#include "images/tar_writer.h"

namespace keelson::cri {

namespace {

// Each holds a descriptor while its folder is read.
constexpr int kMaxDepth = 256;
constexpr size_t kMaxXattrBytes = 64 << 10;  // the kernel's own bound
constexpr char kOpaque[] = "trusted.overlay.opaque";

using images::TarHeader;
using images::TarWriter;

constexpr unsigned kOwnFile = S_IFREG | 0600, kOwnFolder = S_IFDIR | 0700;

absl::Status AddText(TarWriter* tar, const std::string& name, std::string_view text) {
  return tar->AddBytes({.name = name, .mode = kOwnFile}, text);
}

// Those that belong to the file, not to overlayfs.
std::map<std::string, std::string> XattrsOf(int fd) {
  std::map<std::string, std::string> out;
  std::string names(kMaxXattrBytes, '\0');
  ssize_t n = ::flistxattr(fd, names.data(), names.size());
  if (n <= 0) return out;
  names.resize(static_cast<size_t>(n));
  std::string value(kMaxXattrBytes, '\0');
  for (absl::string_view word : absl::StrSplit(names, '\0', absl::SkipEmpty())) {
    if (word != "security.capability" && word.substr(0, 5) != "user.") continue;
    const std::string name(word);
    ssize_t size = ::fgetxattr(fd, name.c_str(), value.data(), value.size());
    if (size >= 0) out[name] = value.substr(0, static_cast<size_t>(size));
  }
  return out;
}

// Of a file or folder that is open for reading; `own`: one of ours, without owner, times and overlayfs.
TarHeader HeaderOf(const std::string& name, int fd, const struct stat& info, bool own) {
  const bool folder = S_ISDIR(info.st_mode);
  const std::string path = folder ? name + "/" : name;
  if (own) return {.name = path, .mode = folder ? kOwnFolder : kOwnFile};
  TarHeader out = TarHeader::Of(path, info);
  out.xattrs = XattrsOf(fd);
  return out;
}

absl::Status AddOpenFile(TarWriter* tar, const std::string& name, int fd, const struct stat& info, bool own) {
  return tar->AddFile(HeaderOf(name, fd, info, own), fd, static_cast<uint64_t>(info.st_size));
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
    if (!own_ && IsOpaque(dir)) RETURN_IF_ERROR(AddText(tar_, prefix + ".wh..wh..opq", ""));
    ASSIGN_OR_RETURN(std::vector<std::string> names, FolderNames(dir));
    for (const std::string& name : names) RETURN_IF_ERROR(AddOne(dir, name, prefix, depth));
    return absl::OkStatus();
  }

 private:
  absl::Status AddOne(int dir, const std::string& name, const std::string& prefix, int depth) {
    struct stat info;
    if (::fstatat(dir, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return absl::OkStatus();
    if (S_ISSOCK(info.st_mode)) return absl::OkStatus();  // tar has none
    if (!own_ && IsWhiteout(info)) return AddText(tar_, StrCat(prefix, ".wh.", name), "");
    std::string path = prefix + name;
    if (!S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode)) {
      TarHeader header = TarHeader::Of(path, info);
      if (S_ISLNK(info.st_mode)) {
        header.link.resize(PATH_MAX);
        ssize_t n = ::readlinkat(dir, name.c_str(), header.link.data(), header.link.size());
        if (n < 0) return absl::OkStatus();
        header.link.resize(static_cast<size_t>(n));
      }
      return tar_->Add(header);
    }
    int kind = S_ISDIR(info.st_mode) ? O_DIRECTORY : O_NONBLOCK;
    Fd fd(::openat(dir, name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | kind));
    if (!fd.valid() && errno == ENOENT) return absl::OkStatus();
    if (!fd.valid()) return ErrnoStatus(errno, StrCat("open ", path));
    // It may be another one by now.
    if (::fstat(fd.get(), &info) != 0) return ErrnoStatus(errno, StrCat("stat ", path));
    if (S_ISREG(info.st_mode)) return AddOpenFile(tar_, path, fd.get(), info, own_);
    if (!S_ISDIR(info.st_mode)) return absl::OkStatus();
    RETURN_IF_ERROR(tar_->Add(HeaderOf(path, fd.get(), info, own_)));
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
  return AddOpenFile(tar, name, fd.get(), info, /*own=*/true);
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
  RETURN_IF_ERROR(AddText(&tar, "config.dump", parts.config_dump));
  RETURN_IF_ERROR(AddText(&tar, "spec.dump", parts.spec_dump));
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
  RETURN_IF_ERROR(tar.Add({.name = "checkpoint/", .mode = kOwnFolder}));
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
  json["restored"] = facts.restored;
  nlohmann::ordered_json& own = json["keelson"] = nlohmann::ordered_json::object();
  if (!facts.image_id.empty()) own["imageId"] = facts.image_id;
  if (facts.stdin_open.has_value()) own["stdin"] = *facts.stdin_open;
  if (facts.supplemental_groups.has_value()) own["supplementalGroups"] = *facts.supplemental_groups;
  // An image's name is what somebody wrote.
  return json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

absl::Status WriteLayerTar(const std::string& upper_dir, int fd) {
  TarWriter tar(fd);
  RETURN_IF_ERROR(AddTree(&tar, upper_dir, "", /*own=*/false));
  return tar.Close();
}

absl::Status WriteCheckpointArchive(const CheckpointParts& parts, const std::string& path) {
  return WriteNewFile(path, 0600, /*durable=*/false, [&](int fd) { return WriteParts(parts, fd); });
}

absl::Status WriteFilesTar(const std::string& dir, const std::vector<std::string>& names,
                           const std::string& path) {
  return WriteNewFile(path, 0600, /*durable=*/true, [&](int fd) -> absl::Status {
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
