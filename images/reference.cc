#include "images/reference.h"

#include <algorithm>

#include "base/strings.h"
#include "images/digest.h"

namespace keelson::images {
namespace {

constexpr std::string_view kDefaultDomain = "docker.io";
constexpr std::string_view kOldDefaultDomain = "index.docker.io";
// Longest text that can be valid: name, tag, digest and separators.
constexpr size_t kMaxReferenceBytes = kMaxReferenceNameBytes + kMaxTagBytes + 2 + 7 + kSha256HexBytes;

bool IsLower(char c) { return c >= 'a' && c <= 'z'; }
bool IsUpper(char c) { return c >= 'A' && c <= 'Z'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsAlnum(char c) { return IsLower(c) || IsUpper(c) || IsDigit(c); }

// Lower-case letters and digits, with ".", "_", "__" or dashes between them.
bool ValidPathComponent(std::string_view text) {
  size_t at = 0;
  while (true) {
    size_t begin = at;
    while (at < text.size() && (IsLower(text[at]) || IsDigit(text[at]))) ++at;
    if (at == begin) return false;
    if (at == text.size()) return true;
    if (text[at] == '-') {
      while (at < text.size() && text[at] == '-') ++at;
    } else if (text[at] == '.') {
      ++at;
    } else if (text[at] == '_') {
      at += at + 1 < text.size() && text[at + 1] == '_' ? 2 : 1;
    } else {
      return false;
    }
  }
}

bool ValidHostLabel(std::string_view text) {
  if (text.empty() || text.front() == '-' || text.back() == '-') return false;
  return std::all_of(text.begin(), text.end(), [](char c) { return IsAlnum(c) || c == '-'; });
}

bool ValidPort(std::string_view text) {
  return !text.empty() && text.size() <= 5 && std::all_of(text.begin(), text.end(), IsDigit);
}

bool ValidDomain(std::string_view text) {
  if (!text.empty() && text.front() == '[') {
    size_t end = text.find(']');
    if (end == std::string_view::npos || end < 3) return false;
    for (char c : text.substr(1, end - 1)) {
      if (!IsDigit(c) && !(c >= 'a' && c <= 'f') && !(c >= 'A' && c <= 'F') && c != ':') return false;
    }
    return end + 1 == text.size() || (text[end + 1] == ':' && ValidPort(text.substr(end + 2)));
  }
  size_t colon = text.find(':');
  if (colon != std::string_view::npos) {
    if (!ValidPort(text.substr(colon + 1))) return false;
    text = text.substr(0, colon);
  }
  while (true) {
    size_t dot = text.find('.');
    if (!ValidHostLabel(text.substr(0, dot))) return false;
    if (dot == std::string_view::npos) return true;
    text.remove_prefix(dot + 1);
  }
}

bool ValidTag(std::string_view text) {
  if (text.empty() || text.size() > kMaxTagBytes || text.front() == '.' || text.front() == '-') return false;
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return IsAlnum(c) || c == '_' || c == '.' || c == '-'; });
}

// "docker.io", "my.registry", "localhost", "host:5000", "Host": not a part of the path.
bool LooksLikeDomain(std::string_view first) {
  return first == "localhost" || first.find_first_of(".:[") != std::string_view::npos ||
         std::any_of(first.begin(), first.end(), IsUpper);
}

}  // namespace

std::string Reference::ToString() const {
  return digest.empty() ? StrCat(domain, "/", path, ":", tag) : StrCat(domain, "/", path, "@", digest);
}

absl::StatusOr<Reference> Reference::Parse(std::string_view text) {
  auto wrong = [&](std::string_view why) {
    return absl::InvalidArgumentError(
        StrCat("image reference \"", text.substr(0, kMaxReferenceBytes), "\": ", why));
  };
  if (text.empty()) return wrong("empty");
  if (text.size() > kMaxReferenceBytes) return wrong(StrCat("longer than ", kMaxReferenceBytes, " bytes"));
  Reference out;
  std::string_view rest = text;
  size_t at_sign = rest.find('@');
  if (at_sign != std::string_view::npos) {
    std::string_view digest = rest.substr(at_sign + 1);
    auto hex = DigestHex(digest);
    if (!hex.ok()) return wrong(Sv(hex.status().message()));
    out.digest = std::string(digest);
    rest = rest.substr(0, at_sign);
  }
  size_t slash = rest.rfind('/');
  size_t colon = rest.rfind(':');
  // A colon before the last slash belongs to the domain's port.
  if (colon != std::string_view::npos && (slash == std::string_view::npos || colon > slash)) {
    std::string_view tag = rest.substr(colon + 1);
    if (!ValidTag(tag)) return wrong("the tag must be 1 to 128 letters, digits, '_', '.' or '-'");
    if (out.digest.empty()) out.tag = std::string(tag);
    rest = rest.substr(0, colon);
  }
  size_t first_slash = rest.find('/');
  std::string_view path = rest;
  if (first_slash != std::string_view::npos && LooksLikeDomain(rest.substr(0, first_slash))) {
    out.domain = std::string(rest.substr(0, first_slash));
    path = rest.substr(first_slash + 1);
    if (!ValidDomain(out.domain)) return wrong("the registry must be HOST or HOST:PORT");
  }
  if (out.domain.empty() || out.domain == kOldDefaultDomain) out.domain = std::string(kDefaultDomain);
  if (path.size() == kSha256HexBytes && IsHex(path) && first_slash == std::string_view::npos) {
    return wrong("64 hex digits are an image ID, not a name");
  }
  std::string_view left = path;
  while (true) {
    size_t end = left.find('/');
    if (!ValidPathComponent(left.substr(0, end))) {
      return wrong(
          "the name must be lower-case letters and digits, separated by '/', '.', '_', '__' or dashes");
    }
    if (end == std::string_view::npos) break;
    left.remove_prefix(end + 1);
  }
  out.path = std::string(path);
  if (out.domain == kDefaultDomain && path.find('/') == std::string_view::npos) {
    out.path = StrCat("library/", path);
  }
  if (out.Name().size() > kMaxReferenceNameBytes) {
    return wrong(StrCat("the name is longer than ", kMaxReferenceNameBytes, " bytes"));
  }
  if (out.digest.empty() && out.tag.empty()) out.tag = "latest";
  return out;
}

}  // namespace keelson::images
