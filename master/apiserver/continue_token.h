// The opaque `continue` of paged lists: revision and last key, in upstream's form (base64 of a small JSON
// object), so that it survives a restart of the server.
#pragma once

#include <absl/status/statusor.h>

#include <string>
#include <string_view>

#include "master/store/store.h"

namespace keelson::master {

struct ContinueToken {
  Revision revision = 0;
  std::string start_after;  // full key; begins with the prefix of the list

  // BadRequest for anything that ToString() did not make for this prefix.
  static absl::StatusOr<ContinueToken> Parse(std::string_view text, std::string_view prefix);
  std::string ToString(std::string_view prefix) const;
};

}  // namespace keelson::master
