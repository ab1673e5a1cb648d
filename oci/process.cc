// The process of a container: what runs, as whom, in which environment.
#include <absl/strings/match.h>
#include <absl/strings/str_split.h>

#include <map>

#include "base/status.h"
#include "oci/capabilities.h"
#include "oci/spec_parts.h"

namespace keelson::oci {
namespace {

constexpr std::string_view kDefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
// As nodes give their containers; not "infinity", which programs that close all descriptors suffer from.
constexpr uint64_t kMaxOpenFiles = 1048576;

absl::Status NoNul(std::string_view text, std::string_view field) {
  if (text.find('\0') == std::string_view::npos) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat(field, ": contains a NUL byte"));
}

// RFC 3629, without surrogates and overlong forms.
bool IsUtf8(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const size_t more = byte < 0x80 ? 0 : byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
    if ((byte >= 0x80 && byte < 0xc2) || byte > 0xf4 || i + more >= text.size()) return false;
    uint32_t code = more == 0 ? byte : byte & (0x3fu >> more);
    for (size_t k = 1; k <= more; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      if ((next & 0xc0) != 0x80) return false;
      code = code << 6 | (next & 0x3fu);
    }
    if ((more == 2 && (code < 0x800 || (code >= 0xd800 && code < 0xe000))) ||
        (more == 3 && (code < 0x10000 || code > 0x10ffff))) {
      return false;
    }
    i += more + 1;
  }
  return true;
}

// CRI command replaces entrypoint and cmd, args replaces cmd (ContainerConfig.command, args).
absl::StatusOr<std::vector<std::string>> ResolveArgs(const SpecInput& input) {
  const criv1::ContainerConfig& config = *input.container;
  std::vector<std::string> args(config.command().begin(), config.command().end());
  if (args.empty()) args = input.image.entrypoint;
  if (!config.args().empty()) {
    args.insert(args.end(), config.args().begin(), config.args().end());
  } else if (config.command().empty()) {
    args.insert(args.end(), input.image.cmd.begin(), input.image.cmd.end());
  }
  if (args.empty()) {
    return absl::InvalidArgumentError("command: neither the container nor its image names one");
  }
  for (const std::string& arg : args) RETURN_IF_ERROR(NoNul(arg, "command, args"));
  if (!input.init_binary_path.empty()) args.insert(args.begin(), {std::string(kInitPath), "--"});
  return args;
}

// KEY=VALUE in order of first appearance; the last value of a key counts.
class Environment {
 public:
  void Set(std::string_view key, std::string_view value) {
    auto [it, added] = places_.try_emplace(std::string(key), entries_.size());
    if (added) entries_.emplace_back();
    entries_[it->second] = StrCat(key, "=", value);
  }
  // An entry without "=" has no value to give and is left out.
  void SetEntry(std::string_view entry) {
    const size_t equals = entry.find('=');
    if (equals == std::string_view::npos || equals == 0) return;
    Set(entry.substr(0, equals), entry.substr(equals + 1));
  }
  bool Has(std::string_view key) const { return places_.count(std::string(key)) != 0; }
  std::vector<std::string> Take() { return std::move(entries_); }

 private:
  std::map<std::string, size_t> places_;
  std::vector<std::string> entries_;
};

absl::StatusOr<std::vector<std::string>> ResolveEnv(const SpecInput& input, Warnings* warnings) {
  Environment env;
  env.Set("PATH", kDefaultPath);
  if (input.container->tty()) env.Set("TERM", "xterm");
  if (!input.hostname.empty()) env.Set("HOSTNAME", input.hostname);
  for (const std::string& entry : input.image.env) {
    RETURN_IF_ERROR(NoNul(entry, "the image's env"));
    env.SetEntry(entry);
  }
  for (int i = 0; i < input.container->envs_size(); ++i) {
    const criv1::KeyValue& pair = input.container->envs(i);
    const std::string field = StrCat("envs[", i, "]");
    if (pair.key().empty() || pair.key().find('=') != std::string::npos) {
      return absl::InvalidArgumentError(StrCat(field, ".key: \"", pair.key(), "\" is no name of a variable"));
    }
    RETURN_IF_ERROR(NoNul(pair.key(), field + ".key"));
    RETURN_IF_ERROR(NoNul(pair.value(), field + ".value"));
    if (!IsUtf8(pair.value())) {
      warnings->push_back(StrCat(field, ": ", pair.key(), " is not UTF-8, the runtime gets it with U+FFFD"));
    }
    env.Set(pair.key(), pair.value());
  }
  for (const std::string& entry : input.cdi_env) env.SetEntry(entry);
  // Runtimes would read it from the image's passwd file once more.
  if (!env.Has("HOME")) env.Set("HOME", input.user.home);
  return env.Take();
}

// A working directory reached through a descriptor of the runtime leads out of the container
// (CVE-2024-21626). No program starts in /proc/PID/fd for a good reason.
bool LeadsThroughDescriptors(std::string_view clean_path) {
  const std::vector<std::string> parts = absl::StrSplit(Av(clean_path), '/', absl::SkipEmpty());
  if (parts.empty() || parts[0] != "proc") return false;
  for (const std::string& part : parts) {
    if (part == "fd" || part == "cwd" || part == "root" || part == "exe" || part == "map_files") return true;
  }
  return false;
}

absl::StatusOr<std::string> ResolveWorkingDir(const SpecInput& input) {
  const std::string& wanted = input.container->working_dir();
  if (!wanted.empty() && wanted[0] != '/') {
    return absl::InvalidArgumentError(StrCat("working_dir: \"", wanted, "\" is not absolute"));
  }
  const std::string dir = CleanPath(wanted.empty() ? input.image.working_dir : wanted);
  RETURN_IF_ERROR(NoNul(dir, "working_dir"));
  if (LeadsThroughDescriptors(dir)) {
    return absl::InvalidArgumentError(
        StrCat("working_dir: \"", dir, "\" leads through another process's files"));
  }
  return dir;
}

absl::StatusOr<CapabilitySets> ContainerCapabilities(const SpecInput& input, Warnings* warnings) {
  const auto& security = input.container->linux().security_context();
  CapabilityRequest request;
  request.change = security.capabilities();
  request.privileged = security.privileged();
  request.last_capability = input.host.last_capability;
  request.host_capabilities = input.host.bounding_capabilities;
  std::vector<std::string> missing;
  absl::StatusOr<CapabilitySets> sets = ResolveCapabilities(request, &missing);
  for (const std::string& name : missing) {
    warnings->push_back(StrCat("capabilities: ", name, " is not this host's to give, left out"));
  }
  return sets;
}

}  // namespace

absl::StatusOr<SpecProcess> BuildProcess(const SpecInput& input, Warnings* warnings) {
  const auto& linux_config = input.container->linux();
  SpecProcess process;
  process.terminal = input.container->tty();
  process.uid = input.user.uid;
  process.gid = input.user.gid;
  process.additional_gids = input.user.additional_gids;
  ASSIGN_OR_RETURN(process.args, ResolveArgs(input));
  ASSIGN_OR_RETURN(process.env, ResolveEnv(input, warnings));
  ASSIGN_OR_RETURN(process.cwd, ResolveWorkingDir(input));
  ASSIGN_OR_RETURN(process.capabilities, ContainerCapabilities(input, warnings));
  const uint64_t open_files = std::min(kMaxOpenFiles, input.host.max_open_files);
  process.rlimits.push_back({"RLIMIT_NOFILE", open_files, open_files});
  process.no_new_privileges = linux_config.security_context().no_new_privs();
  ASSIGN_OR_RETURN(process.oom_score_adj,
                   ResolveOomScoreAdj(linux_config.resources().oom_score_adj(), input.host, warnings));
  return process;
}

}  // namespace keelson::oci
