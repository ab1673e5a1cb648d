// CDI specifications as values.
#include <absl/strings/match.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/json_guard.h"
#include "base/status.h"
#include "oci/cdi.h"
#include "oci/spec_parts.h"

namespace keelson::oci {
namespace {

using Json = nlohmann::json;

constexpr int kMaxDepth = 16;
constexpr size_t kMaxVendorChars = 253, kMaxClassChars = 63;
constexpr std::string_view kVersions[] = {"0.3.0", "0.4.0", "0.5.0", "0.6.0",
                                          "0.7.0", "0.8.0", "1.0.0", "1.1.0"};
constexpr std::string_view kHooks[] = {"prestart",       "createRuntime", "createContainer",
                                       "startContainer", "poststart",     "poststop"};
constexpr size_t kV040 = 1, kV050 = 2, kV060 = 3, kV070 = 4, kV110 = 7;  // places in kVersions

bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsAlphanumeric(char c) { return IsLetter(c) || IsDigit(c); }

// Letters, digits and `inner` between; the first and the last are no `inner`.
bool IsName(std::string_view name, std::string_view inner) {
  if (name.empty() || !IsAlphanumeric(name.front()) || !IsAlphanumeric(name.back())) return false;
  return std::all_of(name.begin(), name.end(),
                     [&](char c) { return IsAlphanumeric(c) || inner.find(c) != std::string_view::npos; });
}

bool IsKind(std::string_view kind) {
  const size_t slash = kind.find('/');
  if (slash == std::string_view::npos) return false;
  const std::string_view vendor = kind.substr(0, slash), device_class = kind.substr(slash + 1);
  return IsName(vendor, "_-.") && IsLetter(vendor.front()) && vendor.size() <= kMaxVendorChars &&
         IsName(device_class, "_-.") && IsLetter(device_class.front()) &&
         device_class.size() <= kMaxClassChars;
}

bool IsDeviceName(std::string_view name) { return IsName(name, "_-.:"); }

// What the whole document is judged by: the first mistake, and the version its fields need.
struct Verdict {
  absl::Status status;
  size_t version = 0;
  std::string version_field;

  void Wrong(std::string_view where, std::string_view what) {
    if (status.ok()) status = absl::InvalidArgumentError(StrCat(where, ": ", what));
  }
  void Needs(size_t wanted, std::string_view field) {
    if (wanted <= version) return;
    version = wanted;
    version_field = field;
  }
};

// One JSON object, read field by field; Done() complains about fields nobody asked for. null is absence.
class Object {
 public:
  Object(const Json& json, std::string where, Verdict* verdict)
      : json_(json), where_(std::move(where)), verdict_(verdict) {
    if (!json_.is_object()) verdict_->Wrong(where_, "want an object");
  }

  std::string Name(std::string_view field) const {
    return where_.empty() ? std::string(field) : StrCat(where_, ".", field);
  }
  void Wrong(std::string_view field, std::string_view what) const { verdict_->Wrong(Name(field), what); }
  void Needs(size_t version, std::string_view field) const { verdict_->Needs(version, Name(field)); }

  // Null: not there.
  const Json* Find(std::string_view field) {
    known_.insert(std::string(field));
    if (!json_.is_object()) return nullptr;
    auto it = json_.find(std::string(field));
    return it == json_.end() || it->is_null() ? nullptr : &*it;
  }

  std::string String(std::string_view field) {
    const Json* json = Find(field);
    return json == nullptr ? "" : Text(*json, Name(field));
  }
  std::string Required(std::string_view field) {
    std::string text = String(field);
    if (text.empty()) Wrong(field, "required");
    return text;
  }
  std::string AbsolutePath(std::string_view field) {
    std::string path = Required(field);
    if (!absl::StartsWith(path, "/")) Wrong(field, StrCat("\"", path, "\" is not absolute"));
    return path;
  }
  std::optional<int64_t> Integer(std::string_view field, int64_t low, int64_t high) {
    const Json* json = Find(field);
    if (json == nullptr) return std::nullopt;
    return Number(*json, Name(field), low, high);
  }
  std::optional<uint32_t> Unsigned(std::string_view field) {
    std::optional<int64_t> value = Integer(field, 0, UINT32_MAX);
    if (!value.has_value()) return std::nullopt;
    return static_cast<uint32_t>(*value);
  }
  std::vector<std::string> Strings(std::string_view field) {
    std::vector<std::string> out;
    Each(field, [&](const Json& item, const std::string& where) { out.push_back(Text(item, where)); });
    return out;
  }
  std::vector<uint32_t> Numbers(std::string_view field) {
    std::vector<uint32_t> out;
    Each(field, [&](const Json& item, const std::string& where) {
      out.push_back(static_cast<uint32_t>(Number(item, where, 0, UINT32_MAX)));
    });
    return out;
  }
  // visit(item, "place[7]")
  template <class Visit>
  void Each(std::string_view field, Visit visit) {
    const Json* list = Find(field);
    if (list == nullptr) return;
    if (!list->is_array()) return Wrong(field, "want a list");
    size_t i = 0;
    for (const Json& item : *list) visit(item, StrCat(Name(field), "[", i++, "]"));
  }
  void Environment(const std::vector<std::string>& env, std::string_view field) const {
    for (const std::string& entry : env) {
      const size_t equals = entry.find('=');
      if (equals == std::string::npos || equals == 0) {
        Wrong(field, StrCat("\"", entry, "\" is not NAME=VALUE"));
      }
    }
  }
  void Annotations() {
    const Json* map = Find("annotations");
    if (map == nullptr) return;
    if (!map->is_object()) return Wrong("annotations", "want an object");
    if (!map->empty()) Needs(kV060, "annotations");
    for (const Json& value : *map) {
      if (!value.is_string()) Wrong("annotations", "want strings");
    }
  }
  void Done() {
    if (!json_.is_object()) return;
    for (auto it = json_.begin(); it != json_.end(); ++it) {
      if (known_.count(it.key()) == 0) Wrong(it.key(), "unknown field");
    }
  }

 private:
  std::string Text(const Json& json, const std::string& where) {
    if (!json.is_string()) {
      verdict_->Wrong(where, "want a string");
      return "";
    }
    std::string text = json.get<std::string>();
    if (text.find('\0') != std::string::npos) verdict_->Wrong(where, "contains a NUL byte");
    return text;
  }
  int64_t Number(const Json& json, const std::string& where, int64_t low, int64_t high) {
    const bool fits = json.is_number_integer() &&
                      (!json.is_number_unsigned() || json.get<uint64_t>() <= uint64_t{INT64_MAX});
    const int64_t value = fits ? json.get<int64_t>() : low;
    if (!fits || value < low || value > high) {
      verdict_->Wrong(where, StrCat("want a number from ", low, " to ", high));
      return low;
    }
    return value;
  }

  const Json& json_;
  std::string where_;
  Verdict* verdict_;
  std::set<std::string> known_;
};

CdiDeviceNode ReadNode(Object node) {
  CdiDeviceNode out;
  out.path = CleanPath(node.AbsolutePath("path"));
  if (out.path == "/") node.Wrong("path", "is the root");
  out.host_path = out.path;
  if (node.Find("hostPath") != nullptr && !node.String("hostPath").empty()) {
    node.Needs(kV050, "hostPath");
    out.host_path = node.AbsolutePath("hostPath");
  }
  const std::string type = node.String("type");
  if (type == "u") {
    out.type = 'c';
  } else if (type == "b" || type == "c" || type == "p") {
    out.type = type[0];
  } else if (!type.empty()) {
    node.Wrong("type", StrCat("\"", type, "\" is none of b, c, u and p"));
  }
  constexpr int64_t kMaxNumber = UINT32_MAX;
  out.major = node.Integer("major", 0, kMaxNumber).value_or(0);
  out.minor = node.Integer("minor", 0, kMaxNumber).value_or(0);
  out.file_mode = node.Unsigned("fileMode");
  out.permissions = node.String("permissions");
  if (out.permissions.empty()) out.permissions = "rwm";
  const std::set<char> letters(out.permissions.begin(), out.permissions.end());
  if (out.permissions != "none" && (out.permissions.find_first_not_of("rwm") != std::string::npos ||
                                    letters.size() != out.permissions.size())) {
    node.Wrong("permissions", StrCat("\"", out.permissions, "\" is not made of r, w and m"));
  }
  out.uid = node.Unsigned("uid");
  out.gid = node.Unsigned("gid");
  node.Done();
  return out;
}

SpecMount ReadMount(Object mount) {
  SpecMount out;
  out.source = mount.Required("hostPath");
  out.destination = CleanPath(mount.AbsolutePath("containerPath"));
  if (out.destination == "/") mount.Wrong("containerPath", "nothing is mounted over the root");
  out.type = mount.String("type");
  if (!out.type.empty()) mount.Needs(kV040, "type");
  out.options = mount.Strings("options");
  const bool bind_option = std::any_of(out.options.begin(), out.options.end(),
                                       [](const std::string& o) { return o == "bind" || o == "rbind"; });
  if (bind_option || out.type.empty() || out.type == "none" || out.type == "bind") {
    out.type = "bind";
    if (!bind_option) out.options.insert(out.options.begin(), "rbind");
    if (!absl::StartsWith(out.source, "/")) {
      mount.Wrong("hostPath", StrCat("\"", out.source, "\" is not absolute"));
    }
  }
  mount.Done();
  return out;
}

void ReadHook(Object hook, SpecHooks* hooks) {
  const std::string name = hook.Required("hookName");
  if (std::find(std::begin(kHooks), std::end(kHooks), name) == std::end(kHooks)) {
    hook.Wrong("hookName", StrCat("\"", name, "\" is no hook of the runtime-spec"));
  }
  SpecHook out;
  out.path = hook.AbsolutePath("path");
  out.args = hook.Strings("args");
  out.env = hook.Strings("env");
  hook.Environment(out.env, "env");
  if (auto timeout = hook.Integer("timeout", 1, INT32_MAX)) out.timeout_s = static_cast<int>(*timeout);
  hook.Done();
  (*hooks)[name].push_back(std::move(out));
}

CdiEdits ReadEdits(Object* parent, Verdict* verdict) {
  CdiEdits out;
  const Json* json = parent->Find("containerEdits");
  if (json == nullptr) return out;
  Object edits(*json, parent->Name("containerEdits"), verdict);
  out.env = edits.Strings("env");
  edits.Environment(out.env, "env");
  edits.Each("deviceNodes", [&](const Json& item, const std::string& where) {
    out.device_nodes.push_back(ReadNode(Object(item, where, verdict)));
  });
  edits.Each("mounts", [&](const Json& item, const std::string& where) {
    out.mounts.push_back(ReadMount(Object(item, where, verdict)));
  });
  edits.Each("hooks", [&](const Json& item, const std::string& where) {
    ReadHook(Object(item, where, verdict), &out.hooks);
  });
  // The specification's text spells it both ways.
  for (const char* field : {"additionalGids", "additionalGIDs"}) {
    for (const uint32_t gid : edits.Numbers(field)) {
      edits.Needs(kV070, field);
      if (gid != 0) out.additional_gids.push_back(gid);
    }
  }
  if (edits.Find("intelRdt") != nullptr) {
    edits.Needs(kV070, "intelRdt");
    out.unsupported.push_back(edits.Name("intelRdt"));
  }
  edits.Each("netDevices", [&](const Json&, const std::string& where) {
    edits.Needs(kV110, "netDevices");
    out.unsupported.push_back(where);
  });
  edits.Done();
  return out;
}

CdiDevice ReadDevice(Object device, Verdict* verdict) {
  CdiDevice out;
  out.name = device.Required("name");
  if (!IsDeviceName(out.name)) device.Wrong("name", StrCat("\"", out.name, "\" is no device name"));
  if (!out.name.empty() && IsDigit(out.name[0])) device.Needs(kV050, "name");
  device.Annotations();
  out.edits = ReadEdits(&device, verdict);
  if (out.edits.Empty()) device.Wrong("containerEdits", "says nothing");
  device.Done();
  return out;
}

}  // namespace

bool CdiEdits::Empty() const {
  return env.empty() && device_nodes.empty() && mounts.empty() && hooks.empty() && additional_gids.empty() &&
         unsupported.empty();
}

absl::StatusOr<CdiSpec> ParseCdiSpec(std::string_view json) {
  if (json.size() > kMaxCdiFileBytes) {
    return absl::InvalidArgumentError(StrCat("larger than ", kMaxCdiFileBytes, " bytes"));
  }
  if (JsonDeeperThan(json, kMaxDepth)) return absl::InvalidArgumentError("nested too deeply");
  const Json document = Json::parse(json.begin(), json.end(), nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded()) return absl::InvalidArgumentError("is not JSON");
  if (!document.is_object()) return absl::InvalidArgumentError("want an object");
  Verdict verdict;
  Object top(document, "", &verdict);
  CdiSpec spec;
  std::string version = top.Required("cdiVersion");
  if (absl::StartsWith(version, "v")) version.erase(0, 1);
  const auto* known = std::find(std::begin(kVersions), std::end(kVersions), version);
  if (known == std::end(kVersions)) {
    top.Wrong("cdiVersion",
              StrCat("\"", version, "\" is none of ", kVersions[0], " to ", *std::rbegin(kVersions)));
  }
  spec.kind = top.Required("kind");
  if (!IsKind(spec.kind)) top.Wrong("kind", StrCat("\"", spec.kind, "\" is not VENDOR/CLASS"));
  if (spec.kind.find('.', spec.kind.find('/') + 1) != std::string::npos) top.Needs(kV060, "kind");
  top.Annotations();
  spec.edits = ReadEdits(&top, &verdict);
  std::set<std::string> names;
  top.Each("devices", [&](const Json& item, const std::string& where) {
    spec.devices.push_back(ReadDevice(Object(item, where, &verdict), &verdict));
    if (!names.insert(spec.devices.back().name).second) {
      verdict.Wrong(where, StrCat("\"", spec.devices.back().name, "\" is there twice"));
    }
  });
  if (spec.devices.empty()) top.Wrong("devices", "names none");
  top.Done();
  if (verdict.status.ok() && static_cast<size_t>(known - std::begin(kVersions)) < verdict.version) {
    verdict.Wrong("cdiVersion",
                  StrCat(verdict.version_field, " needs ", kVersions[verdict.version], ", not ", version));
  }
  if (!verdict.status.ok()) return verdict.status;
  return spec;
}

absl::Status CheckCdiDeviceName(std::string_view name) {
  const size_t equals = name.find('=');
  if (equals != std::string_view::npos && IsKind(name.substr(0, equals)) &&
      IsDeviceName(name.substr(equals + 1))) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(StrCat("CDI device \"", name, "\" is not VENDOR/CLASS=NAME"));
}

}  // namespace keelson::oci
