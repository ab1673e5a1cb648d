#include "cri/server/checkpoint_spec.h"

#include <absl/strings/str_join.h>
#include <simdjson.h>

#include <algorithm>
#include <set>

#include "base/status.h"
#include "base/strings.h"
#include "cri/server/container_checkpoint.h"

namespace keelson::cri {

namespace {

// Of a process section: a text that is the same for what means the same.
using Reader = std::string (*)(const simdjson::dom::element& spec);

std::string Cut(std::string text) {
  constexpr size_t kMaxShownBytes = 200;
  if (text.size() > kMaxShownBytes) text.replace(kMaxShownBytes, std::string::npos, "...");
  return text.empty() ? "none" : text;
}

std::string At(const simdjson::dom::element& spec, std::string_view pointer) {
  simdjson::dom::element value;
  if (spec.at_pointer(pointer).get(value) != simdjson::SUCCESS) return "";
  return simdjson::minify(value);
}

// A flag that is not there is off.
std::string FlagAt(const simdjson::dom::element& spec, std::string_view pointer) {
  const std::string text = At(spec, pointer);
  return text.empty() ? "false" : text;
}

std::string CapabilitiesOf(const simdjson::dom::element& spec) {
  std::string out;
  for (const char* set : {"bounding", "effective", "permitted", "inheritable", "ambient"}) {
    std::set<std::string_view> names;
    simdjson::dom::array array;
    if (spec.at_pointer(StrCat("/process/capabilities/", set)).get(array) == simdjson::SUCCESS) {
      for (const simdjson::dom::element& element : array) {
        std::string_view name;
        if (element.get(name) == simdjson::SUCCESS) names.insert(name);
      }
    }
    StrAppend(&out, out.empty() ? "" : "; ", set);
    for (std::string_view name : names) StrAppend(&out, " ", name);
  }
  return out;
}

// The program and how many arguments it has: a kubelet writes addresses of the new pod into them.
std::string CommandOf(const simdjson::dom::element& spec) {
  simdjson::dom::array args;
  if (spec.at_pointer("/process/args").get(args) != simdjson::SUCCESS || args.size() == 0) return "";
  return StrCat(simdjson::minify(args.at(0)), " and ", args.size() - 1, " arguments");
}

// "" : not there, or no text.
std::string_view TextAt(const simdjson::dom::element& spec, std::string_view pointer) {
  std::string_view text;
  return spec.at_pointer(pointer).get(text) == simdjson::SUCCESS ? text : std::string_view();
}

// Kinds of namespaces; a PID namespace of others is not one of its own.
std::string NamespacesOfSpec(const simdjson::dom::element& spec) {
  std::set<std::string> kinds;
  simdjson::dom::array array;
  if (spec.at_pointer("/linux/namespaces").get(array) == simdjson::SUCCESS) {
    for (const simdjson::dom::element& element : array) {
      const std::string_view type = TextAt(element, "/type");
      const bool others = type == "pid" && !TextAt(element, "/path").empty();
      kinds.insert(StrCat(type, others ? " of others" : ""));
    }
  }
  return absl::StrJoin(kinds, ", ");
}

std::string DevicesOfSpec(const simdjson::dom::element& spec) {
  std::set<std::string> devices;
  simdjson::dom::array array;
  if (spec.at_pointer("/linux/devices").get(array) == simdjson::SUCCESS) {
    for (const simdjson::dom::element& element : array) {
      devices.insert(StrCat(TextAt(element, "/path"), " ", TextAt(element, "/type"), " ",
                            At(element, "/major"), ":", At(element, "/minor")));
    }
  }
  return absl::StrJoin(devices, ", ");
}

// Where files of the host are mounted: criu takes these from the new container, each by its place.
std::set<std::string_view> BindMountsOf(const simdjson::dom::element& spec) {
  std::set<std::string_view> out;
  simdjson::dom::array mounts;
  if (spec.at_pointer("/mounts").get(mounts) != simdjson::SUCCESS) return out;
  for (const simdjson::dom::element& mount : mounts) {
    bool bind = TextAt(mount, "/type") == "bind";
    simdjson::dom::array options;
    if (mount.at_pointer("/options").get(options) == simdjson::SUCCESS) {
      for (const simdjson::dom::element& option : options) {
        std::string_view word;
        if (option.get(word) == simdjson::SUCCESS) bind = bind || word == "bind" || word == "rbind";
      }
    }
    if (bind) out.insert(TextAt(mount, "/destination"));
  }
  return out;
}

absl::Status CheckSameMounts(const simdjson::dom::element& had, const simdjson::dom::element& wants) {
  const std::set<std::string_view> before = BindMountsOf(had), now = BindMountsOf(wants);
  for (std::string_view place : before) {
    if (now.contains(place)) continue;
    return absl::InvalidArgumentError(StrCat("mounts: none at ", Cut(std::string(place)),
                                             "; the container in the checkpoint has one there"));
  }
  for (std::string_view place : now) {
    if (before.contains(place)) continue;
    return absl::InvalidArgumentError(
        StrCat("mounts[", Cut(std::string(place)), "]: the container in the checkpoint has none there"));
  }
  return absl::OkStatus();
}

constexpr struct {
  const char* field;
  Reader read;
} kProcessFields[] = {
    {"command, args", CommandOf},
    {"tty", [](const auto& spec) { return FlagAt(spec, "/process/terminal"); }},
    {"working_dir", [](const auto& spec) { return At(spec, "/process/cwd"); }},
    {"linux.security_context.run_as_user", [](const auto& spec) { return At(spec, "/process/user/uid"); }},
    {"linux.security_context.no_new_privs",
     [](const auto& spec) { return FlagAt(spec, "/process/noNewPrivileges"); }},
    {"linux.security_context.readonly_rootfs",
     [](const auto& spec) { return FlagAt(spec, "/root/readonly"); }},
    {"linux.security_context.namespace_options", NamespacesOfSpec},
    {"linux.security_context.seccomp",
     [](const auto& spec) {
       return std::string(At(spec, "/linux/seccomp").empty() ? "no filter" : "a filter");
     }},
};

}  // namespace

absl::Status CheckSameProcess(const v1::LinuxContainerSecurityContext& asked, std::string_view spec_dump,
                              std::string_view wanted) {
  simdjson::dom::parser parsers[2];
  simdjson::dom::element had, wants;
  if (parsers[0].parse(simdjson::padded_string(spec_dump)).get(had) != simdjson::SUCCESS) {
    return absl::InvalidArgumentError(StrCat(kSpecDumpName, " of the checkpoint: is no JSON"));
  }
  if (parsers[1].parse(simdjson::padded_string(wanted)).get(wants) != simdjson::SUCCESS) {
    return absl::InternalError("config.json of the container: is no JSON");
  }
  auto differ = [&](const char* field, Reader read) -> absl::Status {
    const std::string before = read(had), now = read(wants);
    if (before == now) return absl::OkStatus();
    return absl::InvalidArgumentError(
        StrCat(field, ": ", Cut(now), "; the container in the checkpoint has ", Cut(before)));
  };
  for (const auto& [field, read] : kProcessFields) RETURN_IF_ERROR(differ(field, read));
  if (asked.has_run_as_group()) {
    RETURN_IF_ERROR(differ("linux.security_context.run_as_group",
                           [](const auto& spec) { return At(spec, "/process/user/gid"); }));
  }
  const auto& added = asked.capabilities().add_capabilities();
  if (!asked.privileged() && std::find(added.begin(), added.end(), "ALL") == added.end()) {
    RETURN_IF_ERROR(differ("linux.security_context.capabilities", CapabilitiesOf));
  }
  if (!asked.privileged()) RETURN_IF_ERROR(differ("devices", DevicesOfSpec));
  return CheckSameMounts(had, wants);
}

absl::StatusOr<std::vector<std::string>> CheckpointedCommand(std::string_view spec_dump) {
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  if (parser.parse(simdjson::padded_string(spec_dump)).get(root) != simdjson::SUCCESS) {
    return absl::InvalidArgumentError(StrCat(kSpecDumpName, ": is no JSON"));
  }
  simdjson::dom::array args;
  if (root.at_pointer("/process/args").get(args) != simdjson::SUCCESS || args.size() == 0) {
    return absl::InvalidArgumentError(StrCat(kSpecDumpName, ": \"process.args\": want a list of strings"));
  }
  std::vector<std::string> out;
  for (const simdjson::dom::element& element : args) {
    std::string_view word;
    if (element.get(word) != simdjson::SUCCESS || word.find('\0') != std::string_view::npos) {
      return absl::InvalidArgumentError(StrCat(kSpecDumpName, ": \"process.args\": want a list of strings"));
    }
    out.emplace_back(word);
  }
  return out;
}

}  // namespace keelson::cri
