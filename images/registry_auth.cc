#include "images/registry_auth.h"

#include <absl/strings/ascii.h>
#include <absl/strings/escaping.h>
#include <absl/strings/match.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/status.h"
#include "base/strings.h"
#include "images/registry_config.h"

namespace keelson::images {
namespace {

using Json = nlohmann::json;

constexpr int kMaxJsonDepth = 16;
constexpr size_t kMaxChallenges = 8;
constexpr absl::Duration kDefaultLifetime = absl::Seconds(60);
constexpr absl::Duration kMaxLifetime = absl::Hours(1);

bool IsTokenChar(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || absl::StrContains("!#$%&'*+-.^_`|~", c);
}

class ChallengeReader {
 public:
  explicit ChallengeReader(std::string_view text) : text_(text) {}

  std::vector<AuthChallenge> Read() {
    std::vector<AuthChallenge> out;
    while (out.size() < kMaxChallenges) {
      Skip(" \t,");
      std::string scheme = Word();
      if (scheme.empty()) return out;
      AuthChallenge challenge;
      challenge.scheme = absl::AsciiStrToLower(scheme);
      Parameters(&challenge);
      out.push_back(std::move(challenge));
    }
    return out;
  }

 private:
  void Skip(std::string_view set) {
    while (at_ < text_.size() && set.find(text_[at_]) != std::string_view::npos) ++at_;
  }
  std::string Word() {
    size_t begin = at_;
    while (at_ < text_.size() && IsTokenChar(text_[at_])) ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }
  // NAME=VALUE, ...; a word without '=' is the scheme of the next challenge.
  void Parameters(AuthChallenge* out) {
    while (true) {
      size_t before = at_;
      Skip(" \t,");
      std::string name = absl::AsciiStrToLower(Word());
      Skip(" \t");
      if (name.empty() || at_ >= text_.size() || text_[at_] != '=') {
        at_ = before;
        // A byte that fits nowhere must not stop the reader for ever.
        if (name.empty()) at_ = text_.size();
        return;
      }
      ++at_;
      Skip(" \t");
      std::string value = Value();
      if (name == "realm") out->realm = value;
      if (name == "service") out->service = value;
      if (name == "scope") out->scope = value;
      if (name == "error") out->error = value;
    }
  }
  std::string Value() {
    if (at_ >= text_.size() || text_[at_] != '"') return Word();
    ++at_;
    std::string out;
    while (at_ < text_.size() && text_[at_] != '"') {
      if (text_[at_] == '\\' && at_ + 1 < text_.size()) ++at_;
      out.push_back(text_[at_++]);
    }
    if (at_ < text_.size()) ++at_;
    return out;
  }

  std::string_view text_;
  size_t at_ = 0;
};

// Discarded when it is not JSON or nested too deep.
Json ParseJson(std::string_view text) {
  bool too_deep = false;
  Json out = Json::parse(
      text.begin(), text.end(),
      [&](int depth, Json::parse_event_t, Json&) {
        if (depth > kMaxJsonDepth) too_deep = true;
        return !too_deep;
      },
      /*allow_exceptions=*/false);
  if (too_deep) return Json(Json::value_t::discarded);
  return out;
}

std::string StringOf(const Json& object, const char* name) {
  auto it = object.find(name);
  return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}

bool IsHeaderSafe(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

}  // namespace

std::string NormalAuthKey(std::string key) {
  size_t scheme = key.find("://");
  if (scheme != std::string::npos) key.erase(0, scheme + 3);
  while (!key.empty() && key.back() == '/') key.pop_back();
  for (const char* version : {"/v1", "/v2"}) {
    if (absl::EndsWith(key, version)) key.resize(key.size() - 3);
  }
  if (key == "index.docker.io" || key == "registry-1.docker.io") key = "docker.io";
  return key;
}

std::vector<AuthChallenge> ParseChallenges(std::string_view header) {
  if (header.size() > kMaxChallengeBytes) return {};
  return ChallengeReader(header).Read();
}

absl::StatusOr<RegistryToken> ParseTokenResponse(std::string_view json) {
  if (json.size() > kMaxTokenBytes) return absl::ResourceExhaustedError("token answer too large");
  Json root = ParseJson(json);
  if (!root.is_object()) return absl::InvalidArgumentError("token answer: not a JSON object");
  RegistryToken out;
  out.token = StringOf(root, "token");
  if (out.token.empty()) out.token = StringOf(root, "access_token");
  if (out.token.empty()) return absl::InvalidArgumentError("token answer: no token in it");
  if (!IsHeaderSafe(out.token)) return absl::InvalidArgumentError("token answer: token of odd characters");
  out.lifetime = kDefaultLifetime;
  auto expires = root.find("expires_in");
  if (expires != root.end() && expires->is_number()) {
    double seconds = std::clamp(expires->get<double>(), 0.0, absl::ToDoubleSeconds(kMaxLifetime));
    out.lifetime = std::max(kDefaultLifetime, absl::Seconds(seconds));
  }
  return out;
}

std::string ErrorSummary(std::string_view json) {
  constexpr size_t kMaxBytes = 300;
  if (json.size() > kMaxTokenBytes) return "";
  Json root = ParseJson(json);
  if (!root.is_object()) return "";
  auto errors = root.find("errors");
  std::string out;
  if (errors != root.end() && errors->is_array()) {
    for (const Json& error : *errors) {
      if (!error.is_object() || out.size() > kMaxBytes) continue;
      if (!out.empty()) out += "; ";
      StrAppend(&out, StringOf(error, "code"), ": ", StringOf(error, "message"));
    }
  } else {
    out = StringOf(root, "details");
    if (out.empty()) out = StringOf(root, "error_description");
  }
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  if (out.size() > kMaxBytes) out.resize(kMaxBytes);
  return out;
}

absl::StatusOr<AuthFile> AuthFile::Parse(std::string_view json) {
  if (json.size() > kMaxAuthFileBytes) return absl::ResourceExhaustedError("credential file too large");
  Json root = ParseJson(json);
  if (!root.is_object()) return absl::InvalidArgumentError("credential file: not a JSON object");
  AuthFile out;
  out.has_helpers_ = !StringOf(root, "credsStore").empty() || root.contains("credHelpers");
  auto auths = root.find("auths");
  if (auths == root.end() || auths->is_null()) return out;
  if (!auths->is_object()) return absl::InvalidArgumentError("credential file: auths: not an object");
  for (auto it = auths->begin(); it != auths->end(); ++it) {
    if (!it->is_object()) {
      return absl::InvalidArgumentError(StrCat("credential file: auths[", it.key(), "]: not an object"));
    }
    if (out.entries_.size() >= kMaxAuthEntries) {
      return absl::ResourceExhaustedError("credential file: too many entries");
    }
    RegistryCredentials c;
    c.username = StringOf(*it, "username");
    c.password = StringOf(*it, "password");
    c.identity_token = StringOf(*it, "identitytoken");
    c.registry_token = StringOf(*it, "registrytoken");
    std::string auth = StringOf(*it, "auth");
    if (!auth.empty()) {
      std::string plain;
      size_t colon = std::string::npos;
      if (absl::Base64Unescape(auth, &plain)) colon = plain.find(':');
      if (colon == std::string::npos) {
        return absl::InvalidArgumentError(
            StrCat("credential file: auths[", it.key(), "].auth: not user:password in base64"));
      }
      c.username = plain.substr(0, colon);
      c.password = plain.substr(colon + 1);
      while (!c.password.empty() && c.password.back() == '\0') c.password.pop_back();
    }
    bool empty = c.username.empty() && c.identity_token.empty() && c.registry_token.empty();
    if (!empty) out.entries_[NormalAuthKey(it.key())] = std::move(c);
  }
  return out;
}

}  // namespace keelson::images
