// Authentication with registries (distribution's token protocol): the challenge of a 401 and the answers of
// token servers. Pure.
#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "images/image_store.h"

namespace keelson::images {

inline constexpr size_t kMaxChallengeBytes = 16 << 10;
inline constexpr size_t kMaxTokenBytes = 256 << 10;

struct AuthChallenge {
  std::string scheme;  // lower case: "bearer", "basic"
  std::string realm, service, scope, error;
};

// One WWW-Authenticate field, which may hold several challenges (RFC 9110 11.6.1). What cannot be read is
// left out.
std::vector<AuthChallenge> ParseChallenges(std::string_view header);

struct RegistryToken {
  std::string token;
  absl::Duration lifetime;  // at least the minute that the protocol promises
};
// The body of a token server's answer.
absl::StatusOr<RegistryToken> ParseTokenResponse(std::string_view json);

// The "errors" of a registry's answer as one line, for messages: "MANIFEST_UNKNOWN: manifest unknown"; ""
// when it is not of that form. Control characters are taken out, the length is bounded.
std::string ErrorSummary(std::string_view json);

// What a registry is called where credentials are kept: "https://index.docker.io/v1/" -> "docker.io",
// "https://host/path/" -> "host/path".
std::string NormalAuthKey(std::string key);

}  // namespace keelson::images
