// LayerTree: writes what a layer says below one directory, as overlayfs wants to see it. The names come from
// strangers: every step is taken by descriptor (openat2), a symbolic link is followed inside the directory
// only, and nothing outside is ever touched. For one thread that may block.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <sys/types.h>
#include <time.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/fd.h"

namespace keelson::images {

inline constexpr size_t kMaxLayerPathBytes = 4095;       // PATH_MAX without the NUL
inline constexpr size_t kMaxXattrBytes = 64 << 10;       // of one value
inline constexpr size_t kMaxXattrs = 64;                 // of one entry
inline constexpr size_t kMaxImplicitDirBytes = 8 << 20;  // their names together

// "./usr//bin/" -> "usr/bin"; the root is "". Leading slashes are dropped: the root is the layer's.
// InvalidArgument: a ".." component, NUL, too long.
absl::StatusOr<std::string> LayerPath(std::string_view raw);

struct EntryAttributes {
  mode_t mode = 0644;  // permission bits with setuid, setgid and sticky
  uid_t uid = 0;
  gid_t gid = 0;
  timespec mtime{};
  std::vector<std::pair<std::string, std::string>> xattrs;
};

struct LayerTreeOptions {
  bool set_owner = true;      // false: everything belongs to us (tests without root)
  bool allow_devices = true;  // false: device nodes are refused
  std::string opaque_xattr = "trusted.overlay.opaque";
};

// What one layer put on disk.
struct LayerUsage {
  uint64_t used_bytes = 0;  // rounded up to 4 KiB for each file
  uint64_t inodes = 0;
};

class LayerTree {
 public:
  // `root_fd` stays the caller's and outlives the tree.
  LayerTree(int root_fd, LayerTreeOptions options) : root_fd_(root_fd), options_(std::move(options)) {}

  // Paths as LayerPath gives them. An entry that is there already is replaced, a directory by a directory
  // keeps its contents. InvalidArgument: what is refused, with the reason; else errors of the disk.
  absl::Status Directory(const std::string& path, const EntryAttributes& attributes);
  // The file to write to; FinishFile sets its attributes.
  absl::StatusOr<Fd> File(const std::string& path);
  absl::Status FinishFile(int fd, uint64_t size_bytes, const EntryAttributes& attributes);
  absl::Status Symlink(const std::string& path, const std::string& target, const EntryAttributes& attributes);
  absl::Status HardLink(const std::string& path, const std::string& target);
  // S_IFCHR, S_IFBLK or S_IFIFO.
  absl::Status Node(const std::string& path, mode_t type, dev_t device, const EntryAttributes& attributes);
  // `path` of the layers below is hidden.
  absl::Status Whiteout(const std::string& path);
  // All that the layers below have in directory `path` is hidden.
  absl::Status Opaque(const std::string& path);
  // Times of directories, which later entries would have changed.
  absl::Status Finish();

  const LayerUsage& usage() const { return usage_; }
  // Directories that entries needed and no entry described: they have the attributes of the layer below, if
  // that has them.
  const std::vector<std::string>& implicit_dirs() const { return implicit_dirs_; }
  // Extended attributes that were left out: not user.* and not security.capability.
  uint64_t dropped_xattrs() const { return dropped_xattrs_; }

 private:
  struct Place {
    int parent = -1;
    std::string name;
  };
  // The directory of `path`, made where missing, and its last component.
  absl::StatusOr<Place> Locate(const std::string& path);
  absl::StatusOr<int> OpenParent(const std::string& dir);
  absl::Status MakeImplicitDirs(const std::string& dir);
  // Makes room for a new entry. `was_whiteout`: one of this layer stood there.
  absl::Status Clear(const Place& place, bool* was_whiteout);
  absl::Status SetFdAttributes(int fd, const EntryAttributes& attributes);
  absl::Status SetXattrs(int fd, const EntryAttributes& attributes);
  absl::Status ApplyTimes();

  int root_fd_;
  LayerTreeOptions options_;
  LayerUsage usage_;
  std::string cached_dir_;
  Fd cached_parent_;
  std::vector<std::pair<std::string, timespec>> dir_times_;
  size_t dir_times_bytes_ = 0;
  std::vector<std::string> implicit_dirs_;
  size_t implicit_bytes_ = 0;
  uint64_t dropped_xattrs_ = 0;
};

// rm -rf of `name` in `parent_fd`, however deep it is; never across a mount point or through a symbolic link.
// Missing is success.
absl::Status RemoveTreeAt(int parent_fd, const std::string& name);

// Blocks and inodes below a directory; hard links count once. Stops at mount points; what changes meanwhile
// may be missed.
absl::StatusOr<LayerUsage> MeasureTree(int dir_fd);

// Gives the directories `paths` of a layer the attributes they have in the nearest of the layers below,
// which are given highest first.
absl::Status CopyImplicitDirs(int layer_fd, const std::vector<std::string>& paths,
                              const std::vector<int>& lower_fds, bool set_owner);

}  // namespace keelson::images
