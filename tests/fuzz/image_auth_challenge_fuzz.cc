// WWW-Authenticate of a registry and the answers of its token server.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "images/registry_auth.h"

namespace {

using namespace keelson::images;  // NOLINT

void Require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const AuthChallenge& challenge : ParseChallenges(text)) Require(!challenge.scheme.empty());
  auto token = ParseTokenResponse(text);
  if (token.ok()) {
    Require(!token->token.empty() && token->token.find_first_of("\r\n ") == std::string::npos);
    Require(token->lifetime >= absl::Seconds(60) && token->lifetime <= absl::Hours(1));
  }
  std::string summary = ErrorSummary(text);
  Require(summary.size() <= 300 && summary.find('\n') == std::string::npos);
  return 0;
}
