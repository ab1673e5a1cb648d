// What runc, crun and conmon say when something goes wrong, made into one vocabulary. Pure.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstddef>
#include <string>
#include <string_view>

namespace keelson::oci {

inline constexpr size_t kMaxRuntimeMessageBytes = 4096;

// The cause in the output of a runtime command (stderr, or its log in text or JSON form), without time
// stamps, levels and the layers runc puts in front. "" when it said nothing.
std::string RuntimeMessage(std::string_view output);

// Status for a failed `command` ("create", "exec", "kill", ...) on container `id`: "runc exec ID: cause".
// NotFound: no such container, and for kill also one that has ended. InvalidArgument: the program, the
// working directory or the signal is not there, in the same words for both runtimes. FailedPrecondition: the
// container is in the wrong state, or a limit is below what is used. AlreadyExists. PermissionDenied: a lower
// oom_score_adj. Else Internal.
absl::Status RuntimeError(std::string_view runtime, std::string_view command, std::string_view id,
                          std::string_view output);

// The first error in the text of criu (its log, or stderr); without one, how the text begins.
std::string CriuCause(std::string_view log);

// What conmon writes to its sync pipe: {"data": PID} or {"data": -1, "message": "..."}.
struct SyncMessage {
  int value = 0;
  std::string message;
};
inline constexpr size_t kMaxSyncMessageBytes = 64 << 10;
// The message may hold bytes that are not UTF-8 or not escaped: conmon quotes only some.
absl::StatusOr<SyncMessage> ParseSyncMessage(std::string_view line);

}  // namespace keelson::oci
