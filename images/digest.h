// SHA-256 digests as images name them: "sha256:" and 64 lower-case hex digits.
#pragma once

#include <absl/status/statusor.h>

#include <cstddef>
#include <string>
#include <string_view>

struct evp_md_ctx_st;

namespace keelson::images {

inline constexpr std::string_view kSha256Prefix = "sha256:";
inline constexpr size_t kSha256HexBytes = 64;

// Of everything given to Update. Not thread-safe; may move between threads.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  void Update(std::string_view bytes);
  // "sha256:..."; afterwards it starts anew.
  std::string Finish();

 private:
  evp_md_ctx_st* context_;
};

std::string DigestOf(std::string_view bytes);

// The 64 hex digits. InvalidArgument names an algorithm that is not sha256 or a malformed digest.
absl::StatusOr<std::string> DigestHex(std::string_view digest);
// True for "sha256:" and 64 lower-case hex digits.
bool IsDigest(std::string_view digest);
bool IsHex(std::string_view text);

}  // namespace keelson::images
