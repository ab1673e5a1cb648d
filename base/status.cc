#include "base/status.h"

#include <string>

namespace keelson {

Status Annotate(const Status& status, std::string_view context) {
  if (status.ok()) return status;
  Status annotated(status.code(), StrCat(context, ": ", status.message()));
  status.ForEachPayload(
      [&](absl::string_view url, const absl::Cord& payload) { annotated.SetPayload(url, payload); });
  return annotated;
}

Status ErrnoStatus(int error_number, std::string_view context) {
  return absl::ErrnoToStatus(error_number, Av(context));
}

}  // namespace keelson
