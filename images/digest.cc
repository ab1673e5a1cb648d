#include "images/digest.h"

#include <openssl/evp.h>

#include <algorithm>

#include "base/log.h"
#include "base/strings.h"

namespace keelson::images {

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  KEELSON_CHECK(context_ != nullptr && EVP_DigestInit_ex(context_, EVP_sha256(), nullptr) == 1, "sha256");
}

Sha256::~Sha256() { EVP_MD_CTX_free(context_); }

void Sha256::Update(std::string_view bytes) { EVP_DigestUpdate(context_, bytes.data(), bytes.size()); }

std::string Sha256::Finish() {
  static constexpr char kDigits[] = "0123456789abcdef";
  unsigned char raw[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  EVP_DigestFinal_ex(context_, raw, &size);
  EVP_DigestInit_ex(context_, EVP_sha256(), nullptr);
  std::string out(kSha256Prefix);
  for (unsigned i = 0; i < size; ++i) {
    out.push_back(kDigits[raw[i] >> 4]);
    out.push_back(kDigits[raw[i] & 15]);
  }
  return out;
}

std::string DigestOf(std::string_view bytes) {
  Sha256 hash;
  hash.Update(bytes);
  return hash.Finish();
}

bool IsHex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool IsDigest(std::string_view digest) {
  return digest.size() == kSha256Prefix.size() + kSha256HexBytes &&
         digest.substr(0, kSha256Prefix.size()) == kSha256Prefix &&
         IsHex(digest.substr(kSha256Prefix.size()));
}

absl::StatusOr<std::string> DigestHex(std::string_view digest) {
  constexpr size_t kShownBytes = 100;
  std::string_view shown = digest.substr(0, kShownBytes);
  if (IsDigest(digest)) return std::string(digest.substr(kSha256Prefix.size()));
  if (digest.substr(0, 7) == "sha512:" || digest.substr(0, 7) == "sha384:") {
    return absl::InvalidArgumentError(StrCat("digest ", shown, ": algorithm not supported, only sha256 is"));
  }
  return absl::InvalidArgumentError(
      StrCat("digest \"", shown, "\": not sha256: and 64 lower-case hex digits"));
}

}  // namespace keelson::images
