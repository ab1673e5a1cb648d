#include "images/store_dir.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "images/digest.h"
#include "images/layer_tree.h"

namespace keelson::images {
namespace {

constexpr std::string_view kVersion = "1\n";
constexpr size_t kMaxKeyBytes = 128;

std::string HexOf(std::string_view digest) {
  KEELSON_CHECK(IsDigest(digest), "not a digest: ", digest);
  return std::string(digest.substr(kSha256Prefix.size()));
}

}  // namespace

bool IsRootfsKey(std::string_view key) {
  auto alnum = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  return !key.empty() && key.size() <= kMaxKeyBytes && alnum(key[0]) &&
         std::all_of(key.begin(), key.end(),
                     [&](char c) { return alnum(c) || c == '.' || c == '_' || c == '-'; });
}

absl::Status StoreDir::Open() {
  RETURN_IF_ERROR(MakeDirs(root_, 0700));
  if (::chmod(root_.c_str(), 0700) != 0) return ErrnoStatus(errno, StrCat("chmod ", root_));
  ASSIGN_OR_RETURN(lock_, OpenFile(sub("lock"), O_RDWR | O_CREAT));
  if (::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return ErrnoStatus(errno, StrCat("lock ", root_));
    return absl::FailedPreconditionError(StrCat("image store ", root_, ": another process uses it"));
  }
  auto version = ReadFile(sub("version"), 64);
  if (absl::IsNotFound(version.status())) {
    RETURN_IF_ERROR(WriteFileAtomic(sub("version"), kVersion));
  } else if (!version.ok()) {
    return version.status();
  } else if (*version != kVersion) {
    return absl::FailedPreconditionError(
        StrCat("image store ", root_, ": made by another version of keelson"));
  }
  for (const char* name : {"blobs", "blobs/sha256", "layers", "images", "rootfs", "tmp", "trash", "empty",
                           "empty/a", "empty/b"}) {
    RETURN_IF_ERROR(MakeDirs(sub(name), 0755));
  }
  return absl::OkStatus();
}

std::string StoreDir::blob(std::string_view digest) const {
  return StrCat(root_, "/blobs/sha256/", HexOf(digest));
}
std::string StoreDir::layer(std::string_view chain_id) const {
  return StrCat(root_, "/layers/", HexOf(chain_id));
}
std::string StoreDir::layer_diff(std::string_view chain_id) const { return layer(chain_id) + "/diff"; }
std::string StoreDir::image(std::string_view id) const {
  return StrCat(root_, "/images/", HexOf(id), ".json");
}
std::string StoreDir::rootfs(std::string_view key) const {
  KEELSON_CHECK(IsRootfsKey(key), "not a key: ", key);
  return StrCat(root_, "/rootfs/", key);
}

absl::Status StoreDir::WriteBlob(const std::string& digest, std::string_view bytes,
                                 const std::string& temp_name) const {
  std::string temp = sub("tmp/" + temp_name);
  {
    ASSIGN_OR_RETURN(Fd fd, OpenFile(temp, O_WRONLY | O_CREAT | O_EXCL, 0644));
    absl::Status status = WriteAll(fd.get(), bytes);
    if (status.ok() && ::fsync(fd.get()) != 0) status = ErrnoStatus(errno, "fsync");
    if (!status.ok()) {
      ::unlink(temp.c_str());
      return Annotate(status, StrCat("write blob ", digest));
    }
  }
  if (::rename(temp.c_str(), blob(digest).c_str()) != 0) {
    return ErrnoStatus(errno, StrCat("rename blob ", digest));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> StoreDir::ReadBlob(const std::string& digest, size_t max_bytes) const {
  ASSIGN_OR_RETURN(std::string bytes, ReadFile(blob(digest), max_bytes));
  if (DigestOf(bytes) != digest) return absl::DataLossError(StrCat("blob ", digest, ": damaged on disk"));
  return bytes;
}

absl::Status StoreDir::Discard(const std::string& path, const std::string& temp_name) const {
  if (::rename(path.c_str(), sub("trash/" + temp_name).c_str()) != 0 && errno != ENOENT) {
    return ErrnoStatus(errno, StrCat("remove ", path));
  }
  return absl::OkStatus();
}

absl::Status StoreDir::PurgeTrash(const std::string& temp_name) const {
  ASSIGN_OR_RETURN(Fd trash, OpenFile(sub("trash"), O_RDONLY | O_DIRECTORY));
  return RemoveTreeAt(trash.get(), temp_name);
}

void StoreDir::Clear(const std::string& name) const {
  auto fd = OpenFile(sub(name), O_RDONLY | O_DIRECTORY);
  if (!fd.ok()) return;
  auto children = FolderNames(fd->get());
  if (!children.ok()) return;
  for (const std::string& child : *children) {
    absl::Status status = RemoveTreeAt(fd->get(), child);
    if (!status.ok()) LogWarning("cannot remove a leftover", {{"dir", sub(name)}, {"error", status}});
  }
}

absl::Status StoreDir::Sync() const {
  ASSIGN_OR_RETURN(Fd fd, OpenFile(root_, O_RDONLY | O_DIRECTORY));
  if (::syncfs(fd.get()) != 0) return ErrnoStatus(errno, StrCat("sync ", root_));
  return absl::OkStatus();
}

}  // namespace keelson::images
