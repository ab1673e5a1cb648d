#include <absl/strings/escaping.h>

#include "base/env.h"
#include "base/log.h"

namespace keelson {

uint64_t Random::Uniform(uint64_t bound) {
  KEELSON_CHECK(bound > 0, "Uniform(0)");
  return Next() % bound;  // the bias is below 2^-32 for every bound we use
}

double Random::Fraction() { return static_cast<double>(Next() >> 11) * 0x1.0p-53; }

std::string Random::Suffix(size_t length) {
  static constexpr std::string_view kAlphabet = "bcdfghjklmnpqrstvwxz2456789";
  std::string out(length, '\0');
  for (char& c : out) c = kAlphabet[Uniform(kAlphabet.size())];
  return out;
}

std::string Random::Uuid() {
  unsigned char bytes[16];
  for (int i = 0; i < 2; ++i) {
    uint64_t bits = Next();
    for (int j = 0; j < 8; ++j) bytes[i * 8 + j] = static_cast<unsigned char>(bits >> (8 * j));
  }
  bytes[6] = static_cast<unsigned char>((bytes[6] & 0x0f) | 0x40);
  bytes[8] = static_cast<unsigned char>((bytes[8] & 0x3f) | 0x80);
  std::string hex = absl::BytesToHexString(absl::string_view(reinterpret_cast<char*>(bytes), sizeof bytes));
  return StrCat(hex.substr(0, 8), "-", hex.substr(8, 4), "-", hex.substr(12, 4), "-", hex.substr(16, 4), "-",
                hex.substr(20));
}

}  // namespace keelson
