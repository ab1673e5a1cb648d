// RecordStore: one file per sandbox and per container below a directory (base/version_file.h), each version
// whole or not there, and guarded by a checksum. Not fsynced: what it describes does not survive a power loss
// either, and a torn file is told from a whole one. Synchronous: a file of a few KiB in the page cache.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>
#include <string_view>
#include <vector>

#include "cri/server/records.pb.h"

namespace keelson::cri {

inline constexpr size_t kMaxRecordBytes = 64 << 20;  // above three of the largest CRI messages

class RecordStore {
 public:
  // Makes <dir>/sandboxes and <dir>/containers (0700).
  static absl::StatusOr<RecordStore> Open(const std::string& dir);

  absl::Status Put(const records::Sandbox& record);
  absl::Status Put(const records::Container& record);
  absl::Status RemoveSandbox(const std::string& id);
  absl::Status RemoveContainer(const std::string& id);
  // All that can be read. A file that is torn is named in `broken` and set aside as NAME.broken;
  // Unimplemented: one is of a newer format.
  absl::StatusOr<std::vector<records::Sandbox>> LoadSandboxes(std::vector<std::string>* broken);
  absl::StatusOr<std::vector<records::Container>> LoadContainers(std::vector<std::string>* broken);

 private:
  explicit RecordStore(std::string dir) : dir_(std::move(dir)) {}
  std::string dir_;
};

// The bytes of a record file and back. DataLoss: torn or changed; Unimplemented: a newer format. Pure.
std::string EncodeRecord(const google::protobuf::MessageLite& message);
absl::Status DecodeRecord(std::string_view bytes, google::protobuf::MessageLite* message);

}  // namespace keelson::cri
