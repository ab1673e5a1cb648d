// Localhost profiles: the runtime-spec's JSON, or Docker's superset of it with conditions.
#include <absl/strings/str_join.h>
#include <seccomp.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <set>

#include "base/json_guard.h"
#include "base/status.h"
#include "oci/seccomp.h"

namespace keelson::oci {
namespace {

using ProfileJson = nlohmann::json;

constexpr int kMaxProfileDepth = 16;
constexpr uint32_t kMaxErrno = 4095;
constexpr uint32_t kSyscallArgs = 6;
constexpr size_t kNamesInWarning = 8;

constexpr std::array<std::string_view, 9> kActions = {
    "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL",  "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",   "SCMP_ACT_TRAP",  "SCMP_ACT_TRACE", "SCMP_ACT_NOTIFY"};
constexpr std::array<std::string_view, 7> kOperators = {"SCMP_CMP_NE",       "SCMP_CMP_LT", "SCMP_CMP_LE",
                                                        "SCMP_CMP_EQ",       "SCMP_CMP_GE", "SCMP_CMP_GT",
                                                        "SCMP_CMP_MASKED_EQ"};
constexpr std::array<std::string_view, 5> kFlags = {
    "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_NEW_LISTENER", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"};
// The runtime-spec's name and the architecture of libseccomp.
struct Architecture {
  std::string_view name;
  uint32_t token;
};
constexpr Architecture kArchitectures[] = {
    {"SCMP_ARCH_X86", SCMP_ARCH_X86},
    {"SCMP_ARCH_X86_64", SCMP_ARCH_X86_64},
    {"SCMP_ARCH_X32", SCMP_ARCH_X32},
    {"SCMP_ARCH_ARM", SCMP_ARCH_ARM},
    {"SCMP_ARCH_AARCH64", SCMP_ARCH_AARCH64},
    {"SCMP_ARCH_MIPS", SCMP_ARCH_MIPS},
    {"SCMP_ARCH_MIPS64", SCMP_ARCH_MIPS64},
    {"SCMP_ARCH_MIPS64N32", SCMP_ARCH_MIPS64N32},
    {"SCMP_ARCH_MIPSEL", SCMP_ARCH_MIPSEL},
    {"SCMP_ARCH_MIPSEL64", SCMP_ARCH_MIPSEL64},
    {"SCMP_ARCH_MIPSEL64N32", SCMP_ARCH_MIPSEL64N32},
    {"SCMP_ARCH_PPC", SCMP_ARCH_PPC},
    {"SCMP_ARCH_PPC64", SCMP_ARCH_PPC64},
    {"SCMP_ARCH_PPC64LE", SCMP_ARCH_PPC64LE},
    {"SCMP_ARCH_S390", SCMP_ARCH_S390},
    {"SCMP_ARCH_S390X", SCMP_ARCH_S390X},
    {"SCMP_ARCH_PARISC", SCMP_ARCH_PARISC},
    {"SCMP_ARCH_PARISC64", SCMP_ARCH_PARISC64},
    {"SCMP_ARCH_RISCV64", SCMP_ARCH_RISCV64},
};

absl::Status Wrong(std::string_view field, std::string_view what) {
  return absl::InvalidArgumentError(StrCat("seccomp profile: ", field, ": ", what));
}

template <class Range>
bool IsOneOf(const Range& range, std::string_view text) {
  return std::find(range.begin(), range.end(), text) != range.end();
}

bool IsArchitecture(std::string_view name) {
  return std::any_of(std::begin(kArchitectures), std::end(kArchitectures),
                     [&](const Architecture& a) { return a.name == name; });
}

std::string_view NativeArchitecture(const std::string& go_name) {
  static const auto* const table = new std::map<std::string, std::string_view>{
      {"amd64", "SCMP_ARCH_X86_64"},    {"386", "SCMP_ARCH_X86"},          {"arm64", "SCMP_ARCH_AARCH64"},
      {"arm", "SCMP_ARCH_ARM"},         {"s390x", "SCMP_ARCH_S390X"},      {"riscv64", "SCMP_ARCH_RISCV64"},
      {"ppc64le", "SCMP_ARCH_PPC64LE"}, {"mips64le", "SCMP_ARCH_MIPSEL64"}};
  auto it = table->find(go_name);
  return it == table->end() ? std::string_view() : it->second;
}

const ProfileJson* Member(const ProfileJson& object, const char* name) {
  auto it = object.find(name);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

absl::StatusOr<std::string> Text(const ProfileJson& object, const char* name, std::string_view where) {
  const ProfileJson* json = Member(object, name);
  if (json == nullptr) return std::string();
  if (!json->is_string()) return Wrong(StrCat(where, name), "must be a string");
  const std::string& text = json->get_ref<const std::string&>();
  if (text.find('\0') != std::string::npos) return Wrong(StrCat(where, name), "contains a NUL byte");
  return text;
}

absl::StatusOr<std::vector<std::string>> Texts(const ProfileJson& object, const char* name,
                                               std::string_view where) {
  std::vector<std::string> texts;
  const ProfileJson* json = Member(object, name);
  if (json == nullptr) return texts;
  if (!json->is_array()) return Wrong(StrCat(where, name), "must be an array of strings");
  for (const ProfileJson& item : *json) {
    if (!item.is_string()) return Wrong(StrCat(where, name), "must be an array of strings");
    texts.push_back(item.get<std::string>());
  }
  return texts;
}

absl::StatusOr<std::optional<uint64_t>> Number(const ProfileJson& object, const char* name,
                                               std::string_view where, uint64_t max) {
  const ProfileJson* json = Member(object, name);
  if (json == nullptr) return std::optional<uint64_t>();
  if (!json->is_number_unsigned()) return Wrong(StrCat(where, name), "must be a whole number, not negative");
  const uint64_t value = json->get<uint64_t>();
  if (value > max) return Wrong(StrCat(where, name), StrCat(value, " is more than ", max));
  return std::optional<uint64_t>(value);
}

absl::StatusOr<std::optional<uint32_t>> Errno(const ProfileJson& object, const char* name,
                                              std::string_view where) {
  ASSIGN_OR_RETURN(const std::optional<uint64_t> value, Number(object, name, where, kMaxErrno));
  if (!value.has_value()) return std::optional<uint32_t>();
  return std::optional<uint32_t>(static_cast<uint32_t>(*value));
}

// includes / excludes of Docker's form.
struct Condition {
  std::vector<std::string> capabilities, architectures;
  int min_kernel = 0;  // 1000 * major + minor; 0: not asked
};

absl::StatusOr<int> ParseKernel(const std::string& text, std::string_view where) {
  int parts[2] = {0, 0};
  size_t part = 0, digits = 0;
  for (const char c : text) {
    if (c == '.' && part == 0 && digits > 0) {
      part = 1;
      digits = 0;
    } else if (c >= '0' && c <= '9' && ++digits <= 3) {
      parts[part] = parts[part] * 10 + (c - '0');
    } else {
      return Wrong(StrCat(where, "minKernel"), StrCat("\"", text, "\" is not MAJOR.MINOR"));
    }
  }
  if (part != 1 || digits == 0) {
    return Wrong(StrCat(where, "minKernel"), StrCat("\"", text, "\" is not MAJOR.MINOR"));
  }
  return parts[0] * 1000 + parts[1];
}

absl::StatusOr<Condition> ParseCondition(const ProfileJson& rule, const char* name,
                                         const std::string& where) {
  Condition condition;
  const ProfileJson* json = Member(rule, name);
  if (json == nullptr) return condition;
  const std::string inside = StrCat(where, name, ".");
  if (!json->is_object()) return Wrong(StrCat(where, name), "must be an object");
  ASSIGN_OR_RETURN(condition.capabilities, Texts(*json, "caps", inside));
  ASSIGN_OR_RETURN(condition.architectures, Texts(*json, "arches", inside));
  ASSIGN_OR_RETURN(const std::string kernel, Text(*json, "minKernel", inside));
  if (!kernel.empty()) {
    ASSIGN_OR_RETURN(condition.min_kernel, ParseKernel(kernel, inside));
  }
  return condition;
}

bool Applies(const Condition& includes, const Condition& excludes, const SeccompContext& context) {
  const int kernel = context.kernel_major * 1000 + context.kernel_minor;
  for (const std::string& capability : excludes.capabilities) {
    if (IsOneOf(context.capabilities, capability)) return false;
  }
  if (IsOneOf(excludes.architectures, context.architecture)) return false;
  if (excludes.min_kernel != 0 && kernel >= excludes.min_kernel) return false;
  for (const std::string& capability : includes.capabilities) {
    if (!IsOneOf(context.capabilities, capability)) return false;
  }
  if (!includes.architectures.empty() && !IsOneOf(includes.architectures, context.architecture)) return false;
  return kernel >= includes.min_kernel;
}

absl::StatusOr<SeccompArg> ParseArg(const ProfileJson& json, const std::string& where) {
  if (!json.is_object()) return Wrong(where, "must be an object");
  const std::string inside = where + ".";
  SeccompArg arg;
  ASSIGN_OR_RETURN(const std::optional<uint64_t> index, Number(json, "index", inside, kSyscallArgs - 1));
  ASSIGN_OR_RETURN(const std::optional<uint64_t> value, Number(json, "value", inside, UINT64_MAX));
  ASSIGN_OR_RETURN(const std::optional<uint64_t> value_two, Number(json, "valueTwo", inside, UINT64_MAX));
  ASSIGN_OR_RETURN(arg.op, Text(json, "op", inside));
  if (!IsOneOf(kOperators, arg.op)) return Wrong(inside + "op", StrCat("unknown operator \"", arg.op, "\""));
  arg.index = static_cast<uint32_t>(index.value_or(0));
  arg.value = value.value_or(0);
  arg.value_two = value_two.value_or(0);
  return arg;
}

absl::StatusOr<std::vector<std::string>> RuleNames(const ProfileJson& json, const std::string& where) {
  ASSIGN_OR_RETURN(std::vector<std::string> names, Texts(json, "names", where));
  ASSIGN_OR_RETURN(const std::string name, Text(json, "name", where));
  if (!name.empty()) {
    if (!names.empty()) return Wrong(where + "name", "both name and names are set");
    names.push_back(name);
  }
  if (names.empty()) return Wrong(where + "names", "is empty");
  for (const std::string& n : names) {
    if (n.empty() || n.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") != std::string::npos) {
      return Wrong(where + "names", StrCat("\"", n, "\" is no name of a system call"));
    }
  }
  return names;
}

// nullopt: its conditions are not met.
absl::StatusOr<std::optional<SeccompRule>> ParseRule(const ProfileJson& json, const std::string& where,
                                                     const SeccompContext& context) {
  if (!json.is_object()) return Wrong(where, "must be an object");
  const std::string inside = where + ".";
  SeccompRule rule;
  ASSIGN_OR_RETURN(rule.names, RuleNames(json, inside));
  ASSIGN_OR_RETURN(rule.action, Text(json, "action", inside));
  if (!IsOneOf(kActions, rule.action)) {
    return Wrong(inside + "action", StrCat("unknown action \"", rule.action, "\""));
  }
  ASSIGN_OR_RETURN(rule.errno_ret, Errno(json, "errnoRet", inside));
  if (const ProfileJson* args = Member(json, "args")) {
    if (!args->is_array()) return Wrong(inside + "args", "must be an array");
    if (args->size() > kSyscallArgs) return Wrong(inside + "args", StrCat("more than ", kSyscallArgs));
    for (const ProfileJson& item : *args) {
      ASSIGN_OR_RETURN(SeccompArg arg, ParseArg(item, StrCat(inside, "args[", rule.args.size(), "]")));
      rule.args.push_back(std::move(arg));
    }
  }
  ASSIGN_OR_RETURN(const Condition includes, ParseCondition(json, "includes", inside));
  ASSIGN_OR_RETURN(const Condition excludes, ParseCondition(json, "excludes", inside));
  if (!Applies(includes, excludes, context)) return std::optional<SeccompRule>();
  return std::optional<SeccompRule>(std::move(rule));
}

absl::Status ReadRules(const ProfileJson& top, const SeccompContext& context, SeccompProfile* profile) {
  const ProfileJson* rules = Member(top, "syscalls");
  if (rules == nullptr) return absl::OkStatus();
  if (!rules->is_array()) return Wrong("syscalls", "must be an array");
  if (rules->size() > kMaxSeccompRules) {
    return Wrong("syscalls", StrCat(rules->size(), " rules; at most ", kMaxSeccompRules));
  }
  size_t names = 0, index = 0;
  for (const ProfileJson& item : *rules) {
    ASSIGN_OR_RETURN(std::optional<SeccompRule> rule,
                     ParseRule(item, StrCat("syscalls[", index++, "]"), context));
    if (!rule.has_value()) continue;
    names += rule->names.size();
    if (names > kMaxSeccompNames) return Wrong("syscalls", StrCat("more than ", kMaxSeccompNames, " names"));
    profile->rules.push_back(*std::move(rule));
  }
  return absl::OkStatus();
}

// archMap: the entry of this machine gives the list.
absl::Status ReadArchMap(const ProfileJson& map, const SeccompContext& context, SeccompProfile* profile) {
  if (!map.is_array()) return Wrong("archMap", "must be an array");
  const std::string_view native = NativeArchitecture(context.architecture);
  for (const ProfileJson& entry : map) {
    if (!entry.is_object()) return Wrong("archMap", "must be an array of objects");
    ASSIGN_OR_RETURN(const std::string architecture, Text(entry, "architecture", "archMap."));
    ASSIGN_OR_RETURN(const std::vector<std::string> more, Texts(entry, "subArchitectures", "archMap."));
    if (architecture != native) continue;
    profile->architectures.push_back(architecture);
    profile->architectures.insert(profile->architectures.end(), more.begin(), more.end());
  }
  return absl::OkStatus();
}

absl::Status ReadArchitectures(const ProfileJson& top, const SeccompContext& context,
                               SeccompProfile* profile) {
  ASSIGN_OR_RETURN(profile->architectures, Texts(top, "architectures", ""));
  const ProfileJson* map = Member(top, "archMap");
  if (map != nullptr && !map->empty()) {
    if (!profile->architectures.empty()) return Wrong("archMap", "both architectures and archMap are set");
    RETURN_IF_ERROR(ReadArchMap(*map, context, profile));
  }
  for (const std::string& name : profile->architectures) {
    if (!IsArchitecture(name)) return Wrong("architectures", StrCat("unknown architecture \"", name, "\""));
  }
  return absl::OkStatus();
}

absl::Status CheckNotify(const SeccompProfile& profile) {
  const bool notifies = std::any_of(profile.rules.begin(), profile.rules.end(),
                                    [](const SeccompRule& rule) { return rule.action == "SCMP_ACT_NOTIFY"; });
  if (profile.default_action == "SCMP_ACT_NOTIFY") {
    return Wrong("defaultAction", "SCMP_ACT_NOTIFY cannot be the default");
  }
  if (notifies && profile.listener_path.empty()) {
    return Wrong("listenerPath", "is missing; SCMP_ACT_NOTIFY needs it");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SeccompProfile> ParseSeccompProfile(std::string_view json, const SeccompContext& context,
                                                   std::vector<std::string>* warnings) {
  if (json.size() > kMaxSeccompProfileBytes) {
    return absl::InvalidArgumentError(
        StrCat("seccomp profile: ", json.size(), " bytes; at most ", kMaxSeccompProfileBytes));
  }
  if (JsonDeeperThan(json, kMaxProfileDepth)) {
    return absl::InvalidArgumentError(
        StrCat("seccomp profile: nested deeper than ", kMaxProfileDepth, " levels"));
  }
  const ProfileJson top = ProfileJson::parse(json.begin(), json.end(), nullptr, /*allow_exceptions=*/false);
  if (!top.is_object()) return absl::InvalidArgumentError("seccomp profile: not a JSON object");
  SeccompProfile profile;
  ASSIGN_OR_RETURN(profile.default_action, Text(top, "defaultAction", ""));
  if (!IsOneOf(kActions, profile.default_action)) {
    return Wrong("defaultAction", StrCat("unknown action \"", profile.default_action, "\""));
  }
  ASSIGN_OR_RETURN(profile.default_errno_ret, Errno(top, "defaultErrnoRet", ""));
  ASSIGN_OR_RETURN(profile.flags, Texts(top, "flags", ""));
  for (const std::string& flag : profile.flags) {
    if (!IsOneOf(kFlags, flag)) return Wrong("flags", StrCat("unknown flag \"", flag, "\""));
  }
  ASSIGN_OR_RETURN(profile.listener_path, Text(top, "listenerPath", ""));
  ASSIGN_OR_RETURN(profile.listener_metadata, Text(top, "listenerMetadata", ""));
  RETURN_IF_ERROR(ReadArchitectures(top, context, &profile));
  RETURN_IF_ERROR(ReadRules(top, context, &profile));
  RETURN_IF_ERROR(CheckNotify(profile));
  std::vector<std::string> unknown = UnknownSyscalls(profile);
  if (warnings != nullptr && !unknown.empty()) {
    const size_t count = unknown.size();
    unknown.resize(std::min(count, kNamesInWarning));
    warnings->push_back(StrCat("seccomp profile: ", count, " system calls unknown here do not count: ",
                               absl::StrJoin(unknown, ", "), count > kNamesInWarning ? ", ..." : ""));
  }
  return profile;
}

std::vector<std::string> UnknownSyscalls(const SeccompProfile& profile) {
  std::set<std::string> unknown;
  for (const SeccompRule& rule : profile.rules) {
    for (const std::string& name : rule.names) {
      const bool known = std::any_of(
          std::begin(kArchitectures), std::end(kArchitectures), [&](const Architecture& architecture) {
            return seccomp_syscall_resolve_name_arch(architecture.token, name.c_str()) != __NR_SCMP_ERROR;
          });
      if (!known) unknown.insert(name);
    }
  }
  return {unknown.begin(), unknown.end()};
}

}  // namespace keelson::oci
