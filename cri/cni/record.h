// CniRecord: what is kept on disk per attachment, so that DEL runs with the configuration ADD had, also after
// a restart and after the configuration changed. Pure text; written by Cni.
#pragma once

#include <absl/status/statusor.h>

#include <string>
#include <string_view>

#include "cri/cni/config.h"

namespace keelson::cri {

inline constexpr size_t kMaxCniRecordBytes = 4 << 20;
inline constexpr size_t kMaxCniRecordFileBytes = 3 * kMaxCniRecordBytes;  // of a file that keeps its versions

struct CniRecord {
  CniAttachment attachment;
  bool added = false;  // false: ADD has begun; how far it got is unknown
  CniNetwork network;
  std::string result_json;  // of the last plugin, when added
};

std::string EncodeCniRecord(const CniRecord& record);
// Untrusted as any file: fuzzed. DataLoss.
absl::StatusOr<CniRecord> DecodeCniRecord(std::string_view json);

// "CONTAINER@INTERFACE.json"; the container ID has no '@'.
std::string CniRecordName(const std::string& container_id, const std::string& interface);

}  // namespace keelson::cri
