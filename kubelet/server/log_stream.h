// Reads a container's log file for a client: the last lines, then with follow what is written later, over
// rotations, until the container has ended.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <functional>
#include <memory>
#include <string>

#include "base/env.h"
#include "base/fd.h"
#include "base/task.h"
#include "kubelet/server/cri_log.h"
#include "net/http_server.h"

namespace keelson::kubelet {

inline constexpr size_t kLogPieceBytes = 64 << 10;  // read and sent at a time
inline constexpr absl::Duration kLogFollowInterval =
    absl::Seconds(1);  // between looks without an inotify event

// Whether the container still runs; asked each second while nothing comes.
using StillRunning = std::function<Task<bool>()>;

// Sends the log as the body of a 200. Errors before the first byte (no such file) are returned and nothing
// was sent.
Task<absl::Status> StreamLog(Env& env, std::string path, LogRequest request, StillRunning running,
                             net::ResponseWriter& writer);

// Offset of the start of the last `lines` lines of the file; 0 when it has fewer. `size` bytes are looked at.
absl::StatusOr<int64_t> TailOffset(int fd, int64_t size, int64_t lines);

}  // namespace keelson::kubelet
