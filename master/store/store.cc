#include "master/store/store.h"

#include <absl/strings/cord.h>

#include "base/strings.h"

namespace keelson::master {
namespace {

constexpr char kKindUrl[] = "keelson/store-error";

absl::Status WithKind(absl::Status status, std::string_view kind) {
  status.SetPayload(kKindUrl, absl::Cord(Av(kind)));
  return status;
}

bool HasKind(const absl::Status& status, std::string_view kind) {
  if (status.ok()) return false;
  absl::optional<absl::Cord> payload = status.GetPayload(kKindUrl);
  return payload.has_value() && *payload == Av(kind);
}

}  // namespace

absl::Status ConflictError(std::string_view key, Revision expected, Revision actual) {
  return WithKind(
      absl::AbortedError(StrCat("key ", key, ": expected revision ", expected, ", is at ", actual)),
      "conflict");
}

absl::Status CompactedError(Revision requested, Revision compacted) {
  return WithKind(absl::OutOfRangeError(
                      StrCat("revision ", requested, " is no longer kept (compacted up to ", compacted, ")")),
                  "compacted");
}

absl::Status FutureRevisionError(Revision requested, Revision current) {
  return WithKind(absl::FailedPreconditionError(
                      StrCat("revision ", requested, " lies in the future (current is ", current, ")")),
                  "future");
}

bool IsConflict(const absl::Status& status) { return HasKind(status, "conflict"); }
bool IsCompacted(const absl::Status& status) { return HasKind(status, "compacted"); }
bool IsFutureRevision(const absl::Status& status) { return HasKind(status, "future"); }

}  // namespace keelson::master
