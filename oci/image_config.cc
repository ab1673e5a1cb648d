#include "oci/image_config.h"

#include <absl/strings/match.h>
#include <absl/strings/str_split.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/json_guard.h"
#include "base/status.h"

namespace keelson::oci {
namespace {

using Json = nlohmann::json;

constexpr int kMaxImageConfigDepth = 32;
constexpr size_t kMaxLayers = 512;

absl::Status Wrong(std::string_view field, std::string_view what) {
  return absl::InvalidArgumentError(StrCat("image config: ", field, ": ", what));
}

// The member, or null when it is absent or null.
const Json* Member(const Json& object, const char* name) {
  auto it = object.find(name);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

// A NUL would end the value early for the kernel and for nobody else.
absl::StatusOr<std::string> Text(const Json& json, std::string_view field) {
  if (!json.is_string()) return Wrong(field, StrCat("must be a string, is ", json.type_name()));
  const std::string& text = json.get_ref<const std::string&>();
  if (text.find('\0') != std::string::npos) return Wrong(field, "contains a NUL byte");
  return text;
}

absl::Status ReadText(const Json& object, const char* name, std::string_view field, std::string* out) {
  const Json* json = Member(object, name);
  if (json == nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(*out, Text(*json, field));
  return absl::OkStatus();
}

absl::Status ReadTexts(const Json& object, const char* name, std::string_view field,
                       std::vector<std::string>* out) {
  const Json* json = Member(object, name);
  if (json == nullptr) return absl::OkStatus();
  if (!json->is_array()) return Wrong(field, StrCat("must be an array of strings, is ", json->type_name()));
  for (const Json& item : *json) {
    ASSIGN_OR_RETURN(std::string text, Text(item, StrCat(field, "[", out->size(), "]")));
    out->push_back(std::move(text));
  }
  return absl::OkStatus();
}

// Old builders wrote a command of one word as a string.
absl::Status ReadCommand(const Json& object, const char* name, std::string_view field,
                         std::vector<std::string>* out) {
  const Json* json = Member(object, name);
  if (json == nullptr || !json->is_string()) return ReadTexts(object, name, field, out);
  ASSIGN_OR_RETURN(std::string text, Text(*json, field));
  if (!text.empty()) out->push_back(std::move(text));
  return absl::OkStatus();
}

// A volume becomes a folder on the host and a mount point: it must not lead out of either (CVE-2022-23648).
absl::StatusOr<std::string> VolumePath(const std::string& text) {
  std::string path;
  for (const absl::string_view part : absl::StrSplit(text, '/', absl::SkipEmpty())) {
    if (part == ".") continue;
    if (part == "..") return Wrong("config.Volumes", StrCat("\"", text, "\" contains \"..\""));
    StrAppend(&path, "/", part);
  }
  if (path.empty()) return Wrong("config.Volumes", StrCat("\"", text, "\" is no path below the root"));
  return path;
}

absl::Status ReadVolumes(const Json& config, ImageConfig* out) {
  const Json* json = Member(config, "Volumes");
  if (json == nullptr) return absl::OkStatus();
  if (!json->is_object()) return Wrong("config.Volumes", StrCat("must be an object, is ", json->type_name()));
  for (auto it = json->begin(); it != json->end(); ++it) {
    if (it.key().find('\0') != std::string::npos) return Wrong("config.Volumes", "contains a NUL byte");
    ASSIGN_OR_RETURN(std::string path, VolumePath(it.key()));
    out->volumes.push_back(std::move(path));
  }
  std::sort(out->volumes.begin(), out->volumes.end());
  out->volumes.erase(std::unique(out->volumes.begin(), out->volumes.end()), out->volumes.end());
  return absl::OkStatus();
}

absl::Status ReadLabels(const Json& config, ImageConfig* out) {
  const Json* json = Member(config, "Labels");
  if (json == nullptr) return absl::OkStatus();
  if (!json->is_object()) return Wrong("config.Labels", StrCat("must be an object, is ", json->type_name()));
  for (auto it = json->begin(); it != json->end(); ++it) {
    ASSIGN_OR_RETURN(out->labels[it.key()], Text(it.value(), StrCat("config.Labels[", it.key(), "]")));
  }
  return absl::OkStatus();
}

absl::Status ReadConfig(const Json& config, ImageConfig* out) {
  RETURN_IF_ERROR(ReadText(config, "User", "config.User", &out->user));
  RETURN_IF_ERROR(ReadTexts(config, "Env", "config.Env", &out->env));
  RETURN_IF_ERROR(ReadCommand(config, "Entrypoint", "config.Entrypoint", &out->entrypoint));
  RETURN_IF_ERROR(ReadCommand(config, "Cmd", "config.Cmd", &out->cmd));
  RETURN_IF_ERROR(ReadText(config, "WorkingDir", "config.WorkingDir", &out->working_dir));
  RETURN_IF_ERROR(ReadText(config, "StopSignal", "config.StopSignal", &out->stop_signal));
  RETURN_IF_ERROR(ReadVolumes(config, out));
  return ReadLabels(config, out);
}

bool IsDigest(std::string_view text) {
  const bool sha256 = absl::StartsWith(Av(text), "sha256:"), sha512 = absl::StartsWith(Av(text), "sha512:");
  if (!sha256 && !sha512) return false;
  const std::string_view hex = text.substr(7);
  return hex.size() == (sha256 ? 64 : 128) &&
         hex.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

absl::Status ReadRootfs(const Json& rootfs, ImageConfig* out) {
  RETURN_IF_ERROR(ReadTexts(rootfs, "diff_ids", "rootfs.diff_ids", &out->diff_ids));
  if (out->diff_ids.size() > kMaxLayers) {
    return Wrong("rootfs.diff_ids", StrCat(out->diff_ids.size(), " layers; at most ", kMaxLayers));
  }
  for (size_t i = 0; i < out->diff_ids.size(); ++i) {
    if (!IsDigest(out->diff_ids[i])) return Wrong(StrCat("rootfs.diff_ids[", i, "]"), "is not a digest");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ImageConfig> ParseImageConfig(std::string_view json) {
  if (json.size() > kMaxImageConfigBytes) {
    return absl::InvalidArgumentError(
        StrCat("image config: ", json.size(), " bytes; at most ", kMaxImageConfigBytes));
  }
  if (JsonDeeperThan(json, kMaxImageConfigDepth)) {
    return absl::InvalidArgumentError(
        StrCat("image config: nested deeper than ", kMaxImageConfigDepth, " levels"));
  }
  const Json top = Json::parse(json.begin(), json.end(), nullptr, /*allow_exceptions=*/false);
  if (!top.is_object()) return absl::InvalidArgumentError("image config: not a JSON object");
  ImageConfig out;
  RETURN_IF_ERROR(ReadText(top, "architecture", "architecture", &out.architecture));
  RETURN_IF_ERROR(ReadText(top, "os", "os", &out.os));
  RETURN_IF_ERROR(ReadText(top, "variant", "variant", &out.variant));
  if (const Json* config = Member(top, "config")) {
    if (!config->is_object()) return Wrong("config", StrCat("must be an object, is ", config->type_name()));
    RETURN_IF_ERROR(ReadConfig(*config, &out));
  }
  if (const Json* rootfs = Member(top, "rootfs")) {
    if (!rootfs->is_object()) return Wrong("rootfs", StrCat("must be an object, is ", rootfs->type_name()));
    RETURN_IF_ERROR(ReadRootfs(*rootfs, &out));
  }
  return out;
}

}  // namespace keelson::oci
