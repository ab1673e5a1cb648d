// What the store writes down: one small file for each image, layer and root file system, with a checksum in
// its first line. Pure.
#pragma once

#include <absl/status/statusor.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "images/image_store.h"
#include "images/layer_tree.h"

namespace keelson::images {

inline constexpr size_t kMaxRecordBytes = 1 << 20;

struct StoredLayer {
  std::string digest;       // of the blob
  uint64_t size_bytes = 0;  // of the blob
  std::string media_type;
  std::string diff_id;
  std::string chain_id;  // names the directory
};

struct StoredImage {
  ImageRecord record;  // config and config_json are not in the file: they are the blob `record.id`
  std::string manifest_digest;
  uint64_t manifest_bytes = 0;
  uint64_t config_bytes = 0;
  std::vector<StoredLayer> layers;  // lowest first

  std::vector<std::string> ChainIds() const;
  std::vector<std::string> BlobDigests() const;  // manifest, configuration, layers
};

struct LayerRecord {
  std::string chain_id, diff_id;
  std::string digest;  // of the blob it came from
  uint64_t blob_bytes = 0;
  bool compressed = false;
  LayerUsage usage;
};

struct RootfsRecord {
  std::string key, image_id, mount_path;
  bool readonly = false;
  std::vector<std::string> chain_ids;  // lowest first
  std::string userns_path;
  uint32_t project = 0;  // that its writable layer is counted under (project_quota.h); 0: none
  std::string selinux_label;
};

std::string EncodeImage(const StoredImage& image);
std::string EncodeLayer(const LayerRecord& layer);
std::string EncodeRootfs(const RootfsRecord& rootfs);
// DataLoss: cut or changed since it was written; Unimplemented: of a newer version.
absl::StatusOr<StoredImage> ParseImage(std::string_view text);
absl::StatusOr<LayerRecord> ParseLayer(std::string_view text);
absl::StatusOr<RootfsRecord> ParseRootfs(std::string_view text);

// Name of the top layer of `diff_ids` and all below it (image-spec, config.md "ChainID"): one for each layer.
std::vector<std::string> ChainIdsOf(const std::vector<std::string>& diff_ids);

// "created" of an image's configuration; the Unix epoch when it says nothing.
absl::Time CreatedAt(std::string_view config_json);

}  // namespace keelson::images
