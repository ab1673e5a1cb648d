// UnpackLayer: from the compressed bytes of a layer to a directory overlayfs can use, in one pass and with
// buffers of fixed size: digest, decompression, diff ID, tar, files. For one thread that may block.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "images/byte_source.h"
#include "images/layer_tree.h"

namespace keelson::images {

inline constexpr uint64_t kMaxLayerEntries = 4'000'000;
inline constexpr uint64_t kMaxTrailingBytes = 16 << 20;  // behind the end mark of the archive

// Unpacked bytes an image may still have; its layers, unpacked in parallel, share one.
class ByteBudget {
 public:
  explicit ByteBudget(uint64_t bytes) : left_(static_cast<int64_t>(bytes)) {}
  // False when it is used up.
  bool Take(uint64_t bytes) {
    return left_.fetch_sub(static_cast<int64_t>(bytes)) >= static_cast<int64_t>(bytes);
  }

 private:
  std::atomic<int64_t> left_;
};

struct UnpackOptions {
  LayerTreeOptions tree;
  uint64_t max_entries = kMaxLayerEntries;
  uint64_t expected_bytes = 0;   // of the compressed blob; 0: unknown
  std::string expected_digest;   // of the blob; "" : unknown
  std::string expected_diff_id;  // "" : unknown
  int save_fd = -1;              // the compressed bytes are written here as well; stays the caller's
  bool files_only = false;       // an archive of an image: directories, plain files, symlinks, no whiteouts
  bool allow_symlinks = true;
};

struct UnpackedLayer {
  std::string digest;  // of the blob
  uint64_t blob_bytes = 0;
  std::string diff_id;
  bool compressed = false;
  LayerUsage usage;
  std::vector<std::string> implicit_dirs;
};

// `root_fd`: an empty directory, the caller's. `budget` may be null. After an error the directory holds what
// was written so far. DataLoss: digest, size or diff ID differ from what was expected, damaged compression;
// InvalidArgument: the archive or an entry is refused, "entry NAME: why"; ResourceExhausted: a limit or the
// disk.
absl::StatusOr<UnpackedLayer> UnpackLayer(ByteSource* source, int root_fd, ByteBudget* budget,
                                          const UnpackOptions& options);

}  // namespace keelson::images
