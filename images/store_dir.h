// StoreDir: where the store keeps things, and the file operations on them. Blocking calls; the store runs
// them in the pool.
//
//   lock, version                          one process at a time
//   blobs/sha256/HEX                       manifests, configurations, layers as they came
//   layers/HEX/diff, layers/HEX/layer.json an unpacked layer by its chain ID: a lowerdir of overlayfs
//   images/HEX.json                        an image; what no record names does not exist
//   rootfs/KEY/{upper,work,rootfs.json}    what a container writes
//   tmp/N, trash/N                         half made, half removed: dropped when the store is opened
//   empty/{a,b}                            lowerdirs of images without layers
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "images/records.h"

namespace keelson::images {

class StoreDir {
 public:
  explicit StoreDir(std::string root) : root_(std::move(root)) {}

  // Makes the directories (mode 0700: layers hold setuid programs), takes the lock. FailedPrecondition:
  // another process has it, or a newer version made it.
  absl::Status Open();

  const std::string& root() const { return root_; }
  std::string blob(std::string_view digest) const;
  std::string layer(std::string_view chain_id) const;       // .../layers/HEX
  std::string layer_diff(std::string_view chain_id) const;  // .../layers/HEX/diff
  std::string image(std::string_view id) const;
  std::string rootfs(std::string_view key) const;
  std::string sub(std::string_view name) const { return root_ + "/" + std::string(name); }

  // To a name that nobody knows, fsync, rename.
  absl::Status WriteBlob(const std::string& digest, std::string_view bytes,
                         const std::string& temp_name) const;
  // NotFound; DataLoss when the bytes do not have the digest.
  absl::StatusOr<std::string> ReadBlob(const std::string& digest, size_t max_bytes) const;
  // Moves to the trash under that name, at once; missing is success.
  absl::Status Discard(const std::string& path, const std::string& temp_name) const;
  // Removes what is in the trash under that name.
  absl::Status PurgeTrash(const std::string& temp_name) const;
  // Empties a directory; errors are logged.
  void Clear(const std::string& name) const;
  // All of the file system to the disk.
  absl::Status Sync() const;

 private:
  std::string root_;
  Fd lock_;
};

// [A-Za-z0-9][A-Za-z0-9._-]{0,127}: container IDs, one path component.
bool IsRootfsKey(std::string_view key);

}  // namespace keelson::images
