#include "cri/server/server_state.h"

#include <absl/strings/ascii.h>
#include <absl/strings/escaping.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/process.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson::cri {

namespace {

// glibc's and musl's resolvers take more servers since years; the file's lines stay bounded all the same.
constexpr int kMaxResolvServers = 16, kMaxResolvSearches = 64;

bool HasLineBreak(std::string_view s) { return s.find_first_of("\n\r") != std::string_view::npos; }

absl::Status CheckWord(std::string_view field, const std::string& word) {
  if (word.empty() || HasLineBreak(word) || word.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError(
        StrCat("dns_config.", field, ": \"", absl::CHexEscape(word), "\" is empty or has a line break"));
  }
  return absl::OkStatus();
}

}  // namespace

void ExitSignal::Set() {
  set_ = true;
  for (const auto& weak : watchers_) {
    if (std::shared_ptr<AsyncEvent> event = weak.lock()) event->Set();
  }
  watchers_.clear();
}

std::shared_ptr<AsyncEvent> ExitSignal::Watch() {
  auto event = std::make_shared<AsyncEvent>();
  if (set_) event->Set();
  std::erase_if(watchers_, [](const std::weak_ptr<AsyncEvent>& weak) { return weak.expired(); });
  if (!set_) watchers_.push_back(event);
  return event;
}

std::string SandboxNameKey(const v1::PodSandboxMetadata& m) {
  return StrCat(m.name(), "_", m.namespace_(), "_", m.uid(), "_", m.attempt());
}

std::string ContainerNameKey(const v1::ContainerMetadata& m, const v1::PodSandboxMetadata& pod) {
  return StrCat(m.name(), "_", SandboxNameKey(pod), "_", m.attempt());
}

v1::PodSandboxState StateOf(const records::Sandbox& record) {
  return record.state() == records::SANDBOX_RUNNING ? v1::SANDBOX_READY : v1::SANDBOX_NOTREADY;
}

v1::ContainerState StateOf(const Container& container) {
  switch (container.record.state()) {
    case records::CONTAINER_STARTING:
      return container.unresolved ? v1::CONTAINER_UNKNOWN : v1::CONTAINER_CREATED;
    case records::CONTAINER_RUNNING:
      return v1::CONTAINER_RUNNING;
    case records::CONTAINER_EXITED:
      return v1::CONTAINER_EXITED;
    default:
      return v1::CONTAINER_CREATED;
  }
}

const v1::NamespaceOption& NamespacesOf(const v1::PodSandboxConfig& config) {
  return config.linux().security_context().namespace_options();
}
const v1::NamespaceOption& NamespacesOf(const v1::ContainerConfig& config) {
  return config.linux().security_context().namespace_options();
}
bool HostNetwork(const v1::PodSandboxConfig& config) { return NamespacesOf(config).network() == v1::NODE; }
bool HostIpc(const v1::PodSandboxConfig& config) { return NamespacesOf(config).ipc() == v1::NODE; }
bool SharesPid(const v1::PodSandboxConfig& config) { return NamespacesOf(config).pid() == v1::POD; }
bool Privileged(const v1::PodSandboxConfig& config) { return config.linux().security_context().privileged(); }

std::vector<int64_t> SupplementalGroupsOf(const v1::ContainerConfig& config) {
  const auto& groups = config.linux().security_context().supplemental_groups();
  const std::set<int64_t> sorted(groups.begin(), groups.end());
  return {sorted.begin(), sorted.end()};
}

bool HasUserNamespace(const v1::PodSandboxConfig& config) {
  v1::NamespaceOption options = NamespacesOf(config);
  return options.has_userns_options() && options.userns_options().mode() == v1::POD;
}

std::optional<uint32_t> MappedRootGroup(const v1::PodSandboxConfig& config) {
  if (!HasUserNamespace(config)) return std::nullopt;
  for (const v1::IDMapping& m : NamespacesOf(config).userns_options().gids()) {
    if (m.container_id() == 0) return m.host_id();
  }
  return std::nullopt;
}

absl::Status MakePodDir(const std::string& dir, std::optional<uint32_t> group) {
  RETURN_IF_ERROR(MakeDirs(dir, 0700));
  if (group.has_value() && ::chown(dir.c_str(), 0, *group) != 0)
    return ErrnoStatus(errno, StrCat("chown ", dir));
  if (::chmod(dir.c_str(), group.has_value() ? 0710 : 0700) != 0)
    return ErrnoStatus(errno, StrCat("chmod ", dir));
  return absl::OkStatus();
}

bool Selects(const ProtoMap& selector, const ProtoMap& labels) {
  for (const auto& [key, value] : selector) {
    auto it = labels.find(key);
    if (it == labels.end() || it->second != value) return false;
  }
  return true;
}

absl::Status CheckLogPath(std::string_view log_path) {
  auto bad = [&](std::string_view why) {
    return absl::InvalidArgumentError(StrCat("log_path \"", absl::CHexEscape(Av(log_path)), "\": ", why));
  };
  if (log_path.starts_with('/')) return bad("must be relative to the pod's log_directory");
  if (log_path.find('\0') != std::string_view::npos || HasLineBreak(log_path))
    return bad("has a control character");
  for (absl::string_view part : absl::StrSplit(Av(log_path), '/')) {
    if (part.empty() || part == ".") return bad("has an empty component");
    if (part == "..") return bad("leads out of the pod's log_directory");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> RenderResolvConf(const v1::DNSConfig& dns) {
  if (dns.servers_size() > kMaxResolvServers || dns.searches_size() > kMaxResolvSearches) {
    return absl::InvalidArgumentError(
        StrCat("dns_config: more than ", kMaxResolvServers, " servers or ", kMaxResolvSearches, " searches"));
  }
  std::string out;
  if (dns.searches_size() > 0) {
    out += "search";
    for (const std::string& search : dns.searches()) {
      RETURN_IF_ERROR(CheckWord("searches", search));
      StrAppend(&out, " ", search);
    }
    out += "\n";
  }
  for (const std::string& server : dns.servers()) {
    RETURN_IF_ERROR(CheckWord("servers", server));
    StrAppend(&out, "nameserver ", server, "\n");
  }
  if (dns.options_size() > 0) {
    out += "options";
    for (const std::string& option : dns.options()) {
      RETURN_IF_ERROR(CheckWord("options", option));
      StrAppend(&out, " ", option);
    }
    out += "\n";
  }
  return out;
}

std::optional<uint64_t> ProcessStartTicks(int pid, const std::string& proc_root) {
  absl::StatusOr<ProcessFacts> facts = ProcessFactsOf(pid, proc_root);
  if (!facts.ok() || facts->dead) return std::nullopt;
  return facts->start_ticks;
}

bool IsAlive(const records::Process& process, const std::string& proc_root) {
  std::optional<uint64_t> ticks = ProcessStartTicks(process.pid(), proc_root);
  return ticks.has_value() && *ticks == process.start_ticks();
}

}  // namespace keelson::cri
