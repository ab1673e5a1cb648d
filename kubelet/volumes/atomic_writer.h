// AtomicWriter: a folder whose files change all at once, laid out as upstream's so that programs that watch
// for it work:
//   ..2026_11_22_21_07_01.123456789/a/b   the files
//   ..data -> ..2026_11_22_21_07_01.123456789
//   a -> ..data/a                         one link for every first path component
// A reader sees the old files or the new ones. Everything goes through one directory descriptor.
#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstdint>
#include <string>

#include "kubelet/volumes/payload.h"

namespace keelson::kubelet {

// `group` >= 0: files and folders belong to it and are readable by it (fsGroup). True when something changed.
absl::StatusOr<bool> WriteAtomically(int dir_fd, const Payload& payload, int64_t group, absl::Time now);

}  // namespace keelson::kubelet
