// AttachClient: one client of a container's attach socket (monitor.h): its output as packets, its stdin.
#pragma once

#include <absl/status/statusor.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "base/env.h"

namespace keelson::oci {

struct AttachChunk {
  bool is_stderr = false;  // always false with a terminal
  std::string data;        // never empty
};

// On the loop. One reader and one writer at a time. Destroying it disconnects, which for a container with
// stdin_once closes the stdin; cancel and await pending calls before.
class AttachClient {
 public:
  virtual ~AttachClient() = default;
  // What the container writes from the moment of connecting on. nullopt: it has ended.
  virtual Task<absl::StatusOr<std::optional<AttachChunk>>> Read() = 0;
  // Returns when the monitor has taken all of it: a container that does not read holds the writer back.
  // FailedPrecondition when the monitor has gone or CloseStdin() was called.
  virtual Task<absl::Status> WriteStdin(std::string data) = 0;
  // Half-close: no more stdin; with stdin_once the container reads end of file. Output keeps coming.
  virtual void CloseStdin() = 0;
};

// The monitor's packets and what it reads at once at most.
inline constexpr size_t kMaxAttachReadBytes = 64 << 10;
inline constexpr size_t kAttachWriteBytes = 8 << 10;
inline constexpr absl::Duration kAttachConnectTimeout = absl::Seconds(5);

// `socket_path`: of ContainerMonitor::AttachSocketPath(); any length. NotFound: the container has no monitor.
Task<absl::StatusOr<std::unique_ptr<AttachClient>>> ConnectAttach(Env* env, std::string socket_path);

}  // namespace keelson::oci
