#include "master/apiserver/continue_token.h"

#include <absl/strings/escaping.h>

#include <nlohmann/json.hpp>

#include "api/status_error.h"
#include "base/strings.h"

namespace keelson::master {
namespace {

absl::Status Bad(std::string_view why) { return api::BadRequest(StrCat("continue key is not valid: ", why)); }

}  // namespace

// "start" is relative to the prefix and ends with NUL: the first possible key after the last one.
std::string ContinueToken::ToString(std::string_view prefix) const {
  nlohmann::ordered_json json;
  json["v"] = "meta.k8s.io/v1";
  json["rv"] = revision;
  std::string start = start_after.substr(prefix.size());
  start.push_back('\0');
  json["start"] = start;
  return absl::WebSafeBase64Escape(json.dump());
}

absl::StatusOr<ContinueToken> ContinueToken::Parse(std::string_view text, std::string_view prefix) {
  std::string decoded;
  if (!absl::WebSafeBase64Unescape(Av(text), &decoded)) return Bad("illegal base64 data");
  nlohmann::json json = nlohmann::json::parse(decoded, nullptr, false);
  if (!json.is_object()) return Bad("not an object");
  if (json.value("v", nlohmann::json()) != "meta.k8s.io/v1")
    return Bad("server does not recognize this encoded version");
  auto rv = json.find("rv");
  auto start = json.find("start");
  if (rv == json.end() || !rv->is_number_integer()) return Bad("incorrect encoded start resourceVersion");
  if (start == json.end() || !start->is_string()) return Bad("encoded start key empty");
  ContinueToken token;
  token.revision = rv->get<Revision>();
  if (token.revision <= 0) return Bad("incorrect encoded start resourceVersion (version meta.k8s.io/v1)");
  std::string key = start->get<std::string>();
  if (key.empty() || key.back() != '\0' || key.find("..") != std::string::npos)
    return Bad("malformed start key");
  key.pop_back();
  token.start_after = StrCat(prefix, key);
  return token;
}

}  // namespace keelson::master
