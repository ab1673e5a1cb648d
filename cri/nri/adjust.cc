#include "cri/nri/adjust.h"

#include <absl/strings/match.h>
#include <absl/strings/str_split.h>

#include <algorithm>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "base/json_guard.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/nri/changes.h"

namespace keelson::cri::nri {

namespace {

using AdjustJson = nlohmann::ordered_json;
using google::protobuf::RepeatedPtrField;

constexpr int kMaxAdjustDepth = 32;
constexpr size_t kMaxAdjustBytes = 16 << 20;
constexpr uint32_t kPermissions = 07777;
constexpr int64_t kMaxScore = 1000;

// "" where there is none.
std::string TextIn(const AdjustJson& json, const char* key) {
  if (!json.is_object()) return "";
  auto found = json.find(key);
  return found != json.end() && found->is_string() ? found->get<std::string>() : "";
}

absl::Status Bad(std::string_view field, std::string_view why) {
  return absl::InvalidArgumentError(StrCat("adjust.", field, ": ", why));
}

absl::Status Unsupported(std::string_view field, std::string_view why) {
  return absl::UnimplementedError(StrCat("adjust.", field, ": ", why));
}

absl::Status CheckText(std::string_view field, std::string_view text) {
  if (text.find('\0') == std::string_view::npos) return absl::OkStatus();
  return Bad(field, "has a NUL byte");
}

absl::Status CheckPath(std::string_view field, std::string_view path) {
  RETURN_IF_ERROR(CheckText(field, path));
  if (path.starts_with('/')) return absl::OkStatus();
  return Bad(field, StrCat("\"", path, "\" is no absolute path"));
}

// Without "..", ".", "//" and a slash at the end.
std::string Clean(std::string_view path) {
  std::vector<absl::string_view> parts;
  for (absl::string_view part : absl::StrSplit(Av(path), '/')) {
    if (part.empty() || part == ".") continue;
    if (part != "..") {
      parts.push_back(part);
    } else if (!parts.empty()) {
      parts.pop_back();
    }
  }
  std::string out;
  for (absl::string_view part : parts) StrAppend(&out, "/", part);
  return out.empty() ? "/" : out;
}

AdjustJson Texts(const RepeatedPtrField<std::string>& from) {
  AdjustJson json = AdjustJson::array();
  for (const std::string& text : from) json.push_back(text);
  return json;
}

void EraseWhere(AdjustJson* list, const std::function<bool(const AdjustJson&)>& drop) {
  if (!list->is_array()) return;
  list->erase(std::remove_if(list->begin(), list->end(), drop), list->end());
}

AdjustJson& Array(AdjustJson& parent, const char* key) {
  AdjustJson& list = parent[key];
  if (!list.is_array()) list = AdjustJson::array();
  return list;
}

AdjustJson& Object(AdjustJson& parent, const char* key) {
  AdjustJson& object = parent[key];
  if (!object.is_object()) object = AdjustJson::object();
  return object;
}

void EraseKey(AdjustJson* parent, const char* object, const std::string& key) {
  auto found = parent->find(object);
  if (found != parent->end() && found->is_object()) found->erase(key);
}

// criu runs programs that its options name, and the runtime looks for the container where these put it.
bool IsOurs(std::string_view annotation) {
  return annotation == "org.criu.config" || annotation == "run.oci.systemd.subgroup";
}

absl::Status AdjustAnnotations(const pb::ContainerAdjustment& adjust, AdjustJson* config) {
  std::map<std::string, std::string> set;
  std::string bare;
  for (const auto& [key, value] : adjust.annotations()) {
    RETURN_IF_ERROR(CheckText("annotations", key));
    RETURN_IF_ERROR(CheckText("annotations", value));
    const bool removed = MarkedForRemoval(key, &bare);
    if (bare.empty()) return Bad("annotations", "has an empty key");
    if (IsOurs(bare)) return Unsupported("annotations", StrCat(bare, " is the runtime's own"));
    if (removed) {
      EraseKey(config, "annotations", bare);
    } else {
      set[key] = value;
    }
  }
  for (const auto& [key, value] : set) Object(*config, "annotations")[key] = value;
  return absl::OkStatus();
}

absl::Status AdjustEnv(const pb::ContainerAdjustment& adjust, AdjustJson* process) {
  std::set<std::string> gone;
  std::map<std::string, std::string> set;
  std::vector<std::string> order;
  for (const pb::KeyValue& entry : adjust.env()) {
    RETURN_IF_ERROR(CheckText("env", entry.key()));
    RETURN_IF_ERROR(CheckText("env", entry.value()));
    std::string bare;
    const bool removed = MarkedForRemoval(entry.key(), &bare);
    if (bare.empty() || bare.find('=') != std::string::npos)
      return Bad("env", StrCat("\"", bare, "\" is no name"));
    if (removed) {
      gone.insert(bare);
    } else {
      if (!set.contains(bare)) order.push_back(bare);
      set[bare] = entry.value();
    }
  }
  if (gone.empty() && set.empty()) return absl::OkStatus();
  AdjustJson env = AdjustJson::array();
  for (const AdjustJson& item : Array(*process, "env")) {
    const std::string text = item.is_string() ? item.get<std::string>() : "";
    const std::string name = text.substr(0, text.find('='));
    auto found = set.find(name);
    if (found != set.end()) {  // in its place
      env.push_back(StrCat(name, "=", found->second));
      set.erase(found);
    } else if (!gone.contains(name)) {
      env.push_back(text);
    }
  }
  for (const std::string& name : order) {
    if (auto found = set.find(name); found != set.end()) env.push_back(StrCat(name, "=", found->second));
  }
  (*process)["env"] = std::move(env);
  return absl::OkStatus();
}

absl::Status AdjustProcess(const pb::ContainerAdjustment& adjust, AdjustJson* process) {
  RETURN_IF_ERROR(AdjustEnv(adjust, process));
  if (adjust.args_size() > 0) {
    for (const std::string& arg : adjust.args()) RETURN_IF_ERROR(CheckText("args", arg));
    (*process)["args"] = Texts(adjust.args());
  }
  for (const pb::POSIXRlimit& limit : adjust.rlimits()) {
    if (!absl::StartsWith(limit.type(), "RLIMIT_")) {
      return Bad("rlimits", StrCat("\"", limit.type(), "\" is no type such as RLIMIT_NOFILE"));
    }
    if (limit.soft() > limit.hard()) return Bad("rlimits", StrCat(limit.type(), ": soft is more than hard"));
    AdjustJson& limits = Array(*process, "rlimits");
    EraseWhere(&limits, [&](const AdjustJson& other) { return TextIn(other, "type") == limit.type(); });
    limits.push_back(AdjustJson{{"type", limit.type()}, {"hard", limit.hard()}, {"soft", limit.soft()}});
  }
  if (adjust.linux().has_oom_score_adj()) {
    const int64_t score = adjust.linux().oom_score_adj().value();
    if (score < -kMaxScore || score > kMaxScore) return Bad("linux.oom_score_adj", "is not in -1000..1000");
    (*process)["oomScoreAdj"] = score;
  }
  return absl::OkStatus();
}

absl::Status AddHooks(const RepeatedPtrField<pb::Hook>& from, const char* name, AdjustJson* config) {
  for (const pb::Hook& hook : from) {
    const std::string field = StrCat("hooks.", name);
    RETURN_IF_ERROR(CheckPath(field, hook.path()));
    for (const std::string& arg : hook.args()) RETURN_IF_ERROR(CheckText(field, arg));
    for (const std::string& entry : hook.env()) RETURN_IF_ERROR(CheckText(field, entry));
    AdjustJson item = AdjustJson::object();
    item["path"] = hook.path();
    if (hook.args_size() > 0) item["args"] = Texts(hook.args());
    if (hook.env_size() > 0) item["env"] = Texts(hook.env());
    if (hook.has_timeout()) {
      if (hook.timeout().value() <= 0) return Bad(field, "timeout is not more than 0");
      item["timeout"] = hook.timeout().value();
    }
    Array(Object(*config, "hooks"), name).push_back(std::move(item));
  }
  return absl::OkStatus();
}

absl::Status AdjustHooks(const pb::Hooks& hooks, AdjustJson* config) {
  RETURN_IF_ERROR(AddHooks(hooks.prestart(), "prestart", config));
  RETURN_IF_ERROR(AddHooks(hooks.create_runtime(), "createRuntime", config));
  RETURN_IF_ERROR(AddHooks(hooks.create_container(), "createContainer", config));
  RETURN_IF_ERROR(AddHooks(hooks.start_container(), "startContainer", config));
  RETURN_IF_ERROR(AddHooks(hooks.poststart(), "poststart", config));
  return AddHooks(hooks.poststop(), "poststop", config);
}

absl::Status AddMount(const pb::Mount& mount, AdjustJson* config) {
  RETURN_IF_ERROR(CheckPath("mounts.destination", mount.destination()));
  const bool binds = std::any_of(mount.options().begin(), mount.options().end(),
                                 [](const std::string& o) { return o == "bind" || o == "rbind"; });
  if (mount.type() == "bind" || binds) RETURN_IF_ERROR(CheckPath("mounts.source", mount.source()));
  RETURN_IF_ERROR(CheckText("mounts.source", mount.source()));
  RETURN_IF_ERROR(CheckText("mounts.type", mount.type()));
  AdjustJson item = AdjustJson::object();
  item["destination"] = Clean(mount.destination());
  item["type"] = mount.type();
  item["source"] = mount.source();
  item["options"] = AdjustJson::array();
  for (const std::string& option : mount.options()) {
    RETURN_IF_ERROR(CheckText("mounts.options", option));
    if (option == "relabel")
      return Unsupported("mounts.options", "\"relabel\": no SELinux labels are set for plugins");
    item["options"].push_back(option);
    // The root's propagation lets the mount's through.
    if (option == "rshared" ||
        (option == "rslave" && TextIn((*config)["linux"], "rootfsPropagation") != "rshared")) {
      (*config)["linux"]["rootfsPropagation"] = option;
    }
  }
  Array(*config, "mounts").push_back(std::move(item));
  return absl::OkStatus();
}

absl::Status AdjustMounts(const pb::ContainerAdjustment& adjust, AdjustJson* config) {
  if (adjust.mounts().empty()) return absl::OkStatus();
  AdjustJson& mounts = Array(*config, "mounts");
  std::string bare;
  for (const pb::Mount& mount : adjust.mounts()) {
    (void)MarkedForRemoval(mount.destination(), &bare);
    const std::string at = Clean(bare);
    EraseWhere(&mounts, [&](const AdjustJson& other) { return Clean(TextIn(other, "destination")) == at; });
  }
  for (const pb::Mount& mount : adjust.mounts()) {
    if (!MarkedForRemoval(mount.destination(), &bare)) RETURN_IF_ERROR(AddMount(mount, config));
  }
  // Outer ones first, as they were.
  auto depth = [](const AdjustJson& mount) {
    const std::string at = Clean(TextIn(mount, "destination"));
    return at == "/" ? 0 : std::count(at.begin(), at.end(), '/');
  };
  std::stable_sort(mounts.begin(), mounts.end(),
                   [&](const AdjustJson& a, const AdjustJson& b) { return depth(a) < depth(b); });
  return absl::OkStatus();
}

AdjustJson RuleOf(bool allow, const std::string& type, std::optional<int64_t> major,
                  std::optional<int64_t> minor, const std::string& access) {
  AdjustJson rule = AdjustJson::object();
  rule["allow"] = allow;
  if (!type.empty() && type != "a") rule["type"] = type;
  if (major.has_value()) rule["major"] = *major;
  if (minor.has_value()) rule["minor"] = *minor;
  rule["access"] = access;
  return rule;
}

absl::Status AddDevice(const pb::LinuxDevice& device, AdjustJson* linux_section) {
  RETURN_IF_ERROR(CheckPath("linux.devices.path", device.path()));
  const std::string type = device.type() == "u" ? "c" : device.type();
  if (type != "c" && type != "b" && type != "p") {
    return Bad("linux.devices.type", StrCat("\"", device.type(), "\": want c, b, u or p"));
  }
  if (device.major() < 0 || device.minor() < 0) return Bad("linux.devices", "a number is less than 0");
  AdjustJson item = AdjustJson::object();
  item["path"] = Clean(device.path());
  item["type"] = type;
  if (type != "p") {
    item["major"] = device.major();
    item["minor"] = device.minor();
  }
  if (device.has_file_mode()) item["fileMode"] = device.file_mode().value() & kPermissions;
  if (device.has_uid()) item["uid"] = device.uid().value();
  if (device.has_gid()) item["gid"] = device.gid().value();
  Array(*linux_section, "devices").push_back(std::move(item));
  if (type != "p") {
    Array(Object(*linux_section, "resources"), "devices")
        .push_back(RuleOf(true, type, device.major(), device.minor(), "rwm"));
  }
  return absl::OkStatus();
}

absl::Status AdjustDevices(const pb::LinuxContainerAdjustment& adjust, AdjustJson* linux_section) {
  std::string bare;
  for (const pb::LinuxDevice& device : adjust.devices()) {
    (void)MarkedForRemoval(device.path(), &bare);
    const std::string at = Clean(bare);
    if (!linux_section->contains("devices")) break;
    EraseWhere(&(*linux_section)["devices"],
               [&](const AdjustJson& other) { return Clean(TextIn(other, "path")) == at; });
  }
  for (const pb::LinuxDevice& device : adjust.devices()) {
    if (!MarkedForRemoval(device.path(), &bare)) RETURN_IF_ERROR(AddDevice(device, linux_section));
  }
  for (const pb::LinuxDeviceCgroup& rule : adjust.resources().devices()) {
    if (rule.access().empty() || rule.access().find_first_not_of("rwm") != std::string::npos) {
      return Bad("linux.resources.devices.access", "want some of rwm");
    }
    if (!rule.type().empty() && rule.type() != "a" && rule.type() != "b" && rule.type() != "c") {
      return Bad("linux.resources.devices.type", "want a, b or c");
    }
    std::optional<int64_t> major, minor;
    if (rule.has_major()) major = rule.major().value();
    if (rule.has_minor()) minor = rule.minor().value();
    Array(Object(*linux_section, "resources"), "devices")
        .push_back(RuleOf(rule.allow(), rule.type(), major, minor, rule.access()));
  }
  return absl::OkStatus();
}

// What is in the container's cgroup is limited, counted and killed with it.
absl::Status CheckCgroupsPath(const std::string& path, const SpecFacts& facts) {
  constexpr std::string_view kField = "linux.cgroups_path";
  RETURN_IF_ERROR(CheckText(kField, path));
  if (facts.systemd_cgroup) {
    const std::vector<std::string> parts = absl::StrSplit(path, ':');
    if (parts.size() != 3 || !absl::EndsWith(parts[0], ".slice") || parts[0].find('/') != std::string::npos ||
        parts[1] != "keelson" || parts[2] != facts.container_id) {
      return Bad(kField, StrCat("\"", path, "\": want SLICE:keelson:", facts.container_id));
    }
    return absl::OkStatus();
  }
  if (Clean(path) != path || path.size() <= facts.container_id.size() ||
      !absl::EndsWith(path, "/" + facts.container_id)) {
    return Bad(kField, StrCat("\"", path, "\": want an absolute path whose last part is the container's ID, ",
                              facts.container_id, ": all that is in that cgroup ends with the container"));
  }
  return absl::OkStatus();
}

absl::Status AdjustNamespaces(const pb::LinuxContainerAdjustment& adjust, AdjustJson* linux_section) {
  static const std::set<std::string> kTypes = {"pid", "network", "ipc", "uts", "cgroup"};
  for (const pb::LinuxNamespace& ns : adjust.namespaces()) {
    std::string type;
    const bool removed = MarkedForRemoval(ns.type(), &type);
    if (type == "mount" || type == "user") {
      return Unsupported("linux.namespaces",
                         StrCat(type, ": the container's root file system is made for the one it has"));
    }
    if (!kTypes.contains(type)) return Bad("linux.namespaces", StrCat("\"", type, "\" is no namespace"));
    if (!ns.path().empty()) RETURN_IF_ERROR(CheckPath("linux.namespaces.path", ns.path()));
    AdjustJson& list = Array(*linux_section, "namespaces");
    EraseWhere(&list, [&](const AdjustJson& other) { return TextIn(other, "type") == type; });
    if (removed) continue;
    AdjustJson item = AdjustJson::object();
    item["type"] = type;
    if (!ns.path().empty()) item["path"] = ns.path();
    list.push_back(std::move(item));
  }
  return absl::OkStatus();
}

absl::Status AdjustSysctl(const pb::LinuxContainerAdjustment& adjust, AdjustJson* linux_section) {
  std::map<std::string, std::string> set;
  for (const auto& [key, value] : adjust.sysctl()) {
    std::string bare;
    const bool removed = MarkedForRemoval(key, &bare);
    RETURN_IF_ERROR(CheckText("linux.sysctl", key));
    RETURN_IF_ERROR(CheckText("linux.sysctl", value));
    if (bare.empty() || bare.find("..") != std::string::npos || bare[0] == '/') {
      return Bad("linux.sysctl", StrCat("\"", bare, "\" is no name"));
    }
    if (removed) {
      EraseKey(linux_section, "sysctl", bare);
    } else {
      set[bare] = value;
    }
  }
  for (const auto& [key, value] : set) Object(*linux_section, "sysctl")[key] = value;
  return absl::OkStatus();
}

AdjustJson SeccompJson(const pb::LinuxSeccomp& from) {
  AdjustJson out = AdjustJson::object();
  out["defaultAction"] = from.default_action();
  if (from.has_default_errno()) out["defaultErrnoRet"] = from.default_errno().value();
  if (from.architectures_size() > 0) out["architectures"] = Texts(from.architectures());
  if (from.flags_size() > 0) out["flags"] = Texts(from.flags());
  if (!from.listener_path().empty()) out["listenerPath"] = from.listener_path();
  if (!from.listener_metadata().empty()) out["listenerMetadata"] = from.listener_metadata();
  for (const pb::LinuxSyscall& rule : from.syscalls()) {
    AdjustJson item = AdjustJson::object();
    item["names"] = Texts(rule.names());
    item["action"] = rule.action();
    if (rule.has_errno_ret()) item["errnoRet"] = rule.errno_ret().value();
    for (const pb::LinuxSeccompArg& arg : rule.args()) {
      AdjustJson one = AdjustJson::object();
      one["index"] = arg.index();
      one["value"] = arg.value();
      if (arg.value_two() != 0) one["valueTwo"] = arg.value_two();
      one["op"] = arg.op();
      Array(item, "args").push_back(std::move(one));
    }
    Array(out, "syscalls").push_back(std::move(item));
  }
  return out;
}

absl::Status CheckSeccomp(const pb::LinuxSeccomp& policy) {
  if (!absl::StartsWith(policy.default_action(), "SCMP_ACT_")) {
    return Bad("linux.seccomp_policy.default_action", "want SCMP_ACT_...");
  }
  for (const pb::LinuxSyscall& rule : policy.syscalls()) {
    if (rule.names().empty() || !absl::StartsWith(rule.action(), "SCMP_ACT_")) {
      return Bad("linux.seccomp_policy.syscalls", "want names, and SCMP_ACT_... as action");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckSizes(const pb::ContainerAdjustment& adjust) {
  const auto& linux_part = adjust.linux();
  for (const auto& [field, size] : std::initializer_list<std::pair<const char*, size_t>>{
           {"annotations", adjust.annotations_size()},
           {"mounts", adjust.mounts_size()},
           {"env", adjust.env_size()},
           {"args", adjust.args_size()},
           {"rlimits", adjust.rlimits_size()},
           {"linux.devices", linux_part.devices_size()},
           {"linux.resources.devices", linux_part.resources().devices_size()},
           {"linux.namespaces", linux_part.namespaces_size()},
           {"linux.sysctl", linux_part.sysctl_size()},
           {"linux.seccomp_policy.syscalls", linux_part.seccomp_policy().syscalls_size()}}) {
    if (size > kMaxAdjustmentEntries)
      return Bad(field, StrCat("has more than ", kMaxAdjustmentEntries, " entries"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSupported(const pb::ContainerAdjustment& adjust) {
  const pb::LinuxContainerAdjustment& linux_part = adjust.linux();
  constexpr std::string_view kYounger = "neither crun nor runc of the versions this runtime drives takes it";
  if (linux_part.io_priority().class_() != pb::LINUX_IOPRIO_CLASS_NONE) {
    return Unsupported("linux.io_priority", kYounger);
  }
  if (linux_part.scheduler().policy() != pb::LINUX_SCHED_NONE)
    return Unsupported("linux.scheduler", kYounger);
  if (linux_part.has_memory_policy()) return Unsupported("linux.memory_policy", kYounger);
  if (!linux_part.net_devices().empty()) return Unsupported("linux.net_devices", kYounger);
  const pb::LinuxRdt& rdt = linux_part.rdt();
  if (rdt.has_clos_id() || rdt.has_schemata() || rdt.has_enable_monitoring()) {
    return Unsupported("linux.rdt", "this runtime sets no RDT");
  }
  return absl::OkStatus();
}

std::vector<std::pair<std::string, std::string>> PropagatedSources(const pb::ContainerAdjustment& adjust) {
  std::vector<std::pair<std::string, std::string>> out;
  for (const pb::Mount& mount : adjust.mounts()) {
    if (mount.destination().starts_with('-')) continue;
    for (const std::string& option : mount.options()) {
      if (option == "rshared" || option == "rslave") out.emplace_back(mount.source(), option);
    }
  }
  return out;
}

absl::StatusOr<AdjustedSpec> ApplyAdjustment(std::string_view config_json,
                                             const pb::ContainerAdjustment& adjust, const SpecFacts& facts) {
  RETURN_IF_ERROR(CheckSizes(adjust));
  RETURN_IF_ERROR(CheckSupported(adjust));
  if (config_json.size() > kMaxAdjustBytes || JsonDeeperThan(config_json, kMaxAdjustDepth)) {
    return absl::InternalError("config.json of the container: too large");
  }
  AdjustJson config =
      AdjustJson::parse(config_json.begin(), config_json.end(), nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) return absl::InternalError("config.json of the container: is no object");
  RETURN_IF_ERROR(AdjustAnnotations(adjust, &config));
  RETURN_IF_ERROR(AdjustProcess(adjust, &Object(config, "process")));
  RETURN_IF_ERROR(AdjustHooks(adjust.hooks(), &config));
  AdjustJson& linux_section = Object(config, "linux");
  const pb::LinuxContainerAdjustment& linux_part = adjust.linux();
  RETURN_IF_ERROR(AdjustDevices(linux_part, &linux_section));
  if (!linux_part.cgroups_path().empty()) {
    RETURN_IF_ERROR(CheckCgroupsPath(linux_part.cgroups_path(), facts));
    linux_section["cgroupsPath"] = linux_part.cgroups_path();
  }
  if (linux_part.has_seccomp_policy()) {
    RETURN_IF_ERROR(CheckSeccomp(linux_part.seccomp_policy()));
    linux_section["seccomp"] = SeccompJson(linux_part.seccomp_policy());
  }
  RETURN_IF_ERROR(AdjustNamespaces(linux_part, &linux_section));
  RETURN_IF_ERROR(AdjustSysctl(linux_part, &linux_section));
  RETURN_IF_ERROR(AdjustMounts(adjust, &config));
  AdjustedSpec out;
  for (const AdjustJson& ns : Array(linux_section, "namespaces")) {
    out.own_pid_namespace |= TextIn(ns, "type") == "pid" && TextIn(ns, "path").empty();
  }
  out.cgroups_path = TextIn(config["linux"], "cgroupsPath");
  out.config_json = config.dump(-1, ' ', false, AdjustJson::error_handler_t::replace);
  return out;
}

}  // namespace keelson::cri::nri
