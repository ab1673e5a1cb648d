#include "cri/testing/kernel_state.h"

#include <absl/strings/ascii.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <unistd.h>

#include <filesystem>

#include "base/fd.h"
#include "base/strings.h"

namespace keelson::cri {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kCgroups = "/sys/fs/cgroup";
constexpr size_t kIdBytes = 64;
constexpr int kFirstHostPort = 21000, kLastHostPort = 21999;

std::vector<std::string> Names(const std::string& dir) {
  std::vector<std::string> out;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(dir, error)) {
    out.push_back(entry.path().filename().string());
  }
  return out;
}

bool IsId(std::string_view name) {
  if (name.size() != kIdBytes) return false;
  for (char c : name) {
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(c))) return false;
  }
  return true;
}

// Names of a directory as "kind ID"; `suffix` belongs to each.
void AddDir(const std::string& dir, std::string_view kind, std::string_view suffix,
            std::set<std::string>* out) {
  for (const std::string& name : Names(dir)) {
    std::string_view id = name;
    if (id == ".cache") continue;  // crun's, of compiled seccomp filters
    if (id.ends_with(suffix)) id.remove_suffix(suffix.size());
    // An image volume's key is the container's with a number behind.
    if (IsId(id.substr(0, kIdBytes)) &&
        (id.size() == kIdBytes || id.substr(kIdBytes).starts_with("-image"))) {
      out->insert(StrCat(kind, " ", id));
    } else {
      out->insert(StrCat("stray ", dir, "/", name));
    }
  }
}

void AddStrays(const std::string& dir, std::set<std::string>* out) {
  for (const std::string& name : Names(dir)) out->insert(StrCat("stray ", dir, "/", name));
}

void AddMounts(const std::string& pods_dir, std::set<std::string>* out) {
  absl::StatusOr<std::string> text = ReadFile("/proc/self/mountinfo");
  if (!text.ok()) return;
  for (absl::string_view line : absl::StrSplit(*text, '\n')) {
    std::vector<absl::string_view> fields = absl::StrSplit(line, ' ');
    if (fields.size() < 5 || !Sv(fields[4]).starts_with(pods_dir + "/")) continue;
    std::string word = StrCat("mount ", Sv(fields[4]).substr(pods_dir.size() + 1));
    while (!out->insert(word).second) word += " again";
  }
}

void AddCgroups(const std::string& parent, std::set<std::string>* out) {
  std::vector<std::string> tops = Names(std::string(kCgroups));
  tops.emplace_back();
  for (const std::string& top : tops) {
    std::error_code error;
    std::string dir = StrCat(kCgroups, "/", top, top.empty() ? "" : "/", parent);
    for (auto it = fs::recursive_directory_iterator(dir, error);
         !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
      if (!it->is_directory(error)) continue;
      std::string name = it->path().filename().string();
      out->insert(IsId(name) ? StrCat("cgroup ", name) : StrCat("cgroup-parent ", name));
    }
  }
}

void AddNetwork(const LivePaths& paths, std::set<std::string>* out) {
  int veths = 0;
  absl::StatusOr<std::string> devices = ReadFile("/proc/net/dev");
  if (devices.ok()) {
    for (absl::string_view line : absl::StrSplit(*devices, '\n')) {
      if (Sv(absl::StripAsciiWhitespace(line)).starts_with("veth")) out->insert(StrCat("veth ", veths++));
    }
  }
  std::string dir = paths.run_dir + "/cni/networks/keelson";
  for (const std::string& name : Names(dir)) {
    if (name.empty() || !absl::ascii_isdigit(static_cast<unsigned char>(name[0]))) continue;
    absl::StatusOr<std::string> owner = ReadFile(StrCat(dir, "/", name));
    std::string_view id = owner.ok() ? std::string_view(*owner).substr(0, kIdBytes) : std::string_view();
    out->insert(IsId(id) ? StrCat("address ", id) : StrCat("stray ", dir, "/", name));
  }
  for (const std::string& name : Names(paths.state_dir + "/cni")) {
    std::string_view id = std::string_view(name).substr(0, kIdBytes);
    out->insert(IsId(id) ? StrCat("attachment ", id) : StrCat("stray cni/", name));
  }
}

void AddHostPorts(std::string_view ruleset, std::set<std::string>* out) {
  for (absl::string_view word :
       absl::StrSplit(Av(ruleset), absl::ByAnyChar(" \t\n,.:{}="), absl::SkipEmpty())) {
    int port = 0;
    if (absl::SimpleAtoi(word, &port) && port >= kFirstHostPort && port <= kLastHostPort) {
      out->insert(StrCat("host-port ", port));
    }
  }
}

// The value behind `--cid` of one of our monitors.
std::string MonitoredId(const std::vector<std::string>& words, const LivePaths& paths) {
  std::string id;
  bool ours = false;
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    if (words[i] == "--cid") id = words[i + 1];
    ours |= words[i] == "--exit-dir" && words[i + 1] == paths.pods_dir + "/m/exits";
  }
  return ours ? id : "";
}

void AddProcesses(const LivePaths& paths, int server_pid, std::set<std::string>* out) {
  for (const std::string& name : Names("/proc")) {
    int pid = 0;
    if (!absl::SimpleAtoi(name, &pid) || pid == 1 || pid == ::getpid() || pid == server_pid) continue;
    absl::StatusOr<std::string> line = ReadFile(StrCat("/proc/", pid, "/cmdline"));
    absl::StatusOr<std::string> cgroup = ReadFile(StrCat("/proc/", pid, "/cgroup"));
    if (!line.ok() || !cgroup.ok()) continue;
    std::vector<std::string> words = absl::StrSplit(*line, '\0');
    if (words[0] == "docker-registry" || words[0] == "nft") continue;
    std::string monitored = MonitoredId(words, paths);
    size_t at = cgroup->find(paths.cgroup + "/");
    std::string_view rest = at == std::string::npos ? "" : std::string_view(*cgroup).substr(at);
    rest = rest.substr(0, rest.find('\n'));
    std::string_view id = rest.size() >= kIdBytes ? rest.substr(rest.size() - kIdBytes) : "";
    if (IsId(id)) {
      out->insert(StrCat("process-of ", id));
    } else if (!monitored.empty()) {
      out->insert(StrCat("monitor ", monitored));
    } else {
      // A zombie has no words; whose it was is told by its parent.
      out->insert(StrCat("stray process ", pid, " ", line->substr(0, 200)));
    }
  }
}

}  // namespace

Task<absl::StatusOr<KernelState>> LookAround(Env* env, LivePaths paths, int server_pid) {
  SubprocessOptions nft;
  nft.argv = {"nft", "list", "ruleset"};
  Task<absl::StatusOr<SubprocessResult>> run = env->subprocess().Run(std::move(nft));
  absl::StatusOr<SubprocessResult> ruleset = co_await std::move(run);
  if (!ruleset.ok()) co_return ruleset.status();
  KernelState state;
  std::set<std::string>* out = &state.things;
  AddHostPorts(ruleset->stdout_data, out);
  AddDir(paths.state_dir + "/sandboxes", "sandbox-record", ".rec", out);
  AddDir(paths.state_dir + "/containers", "container-record", ".rec", out);
  AddDir(paths.state_dir + "/images/rootfs", "rootfs", "", out);
  AddStrays(paths.state_dir + "/images/tmp", out);
  AddStrays(paths.state_dir + "/images/trash", out);
  AddDir(paths.pods_dir + "/sandboxes", "sandbox-dir", "", out);
  AddDir(paths.pods_dir + "/containers", "container-dir", "", out);
  AddDir(paths.pods_dir + "/crun", "oci-state", "", out);
  AddDir(paths.pods_dir + "/runc", "oci-state", "", out);
  AddDir(paths.pods_dir + "/m/exits", "exit", "", out);
  AddDir(paths.pods_dir + "/m/p", "persist", "", out);
  AddStrays(paths.pods_dir + "/m/t", out);
  AddStrays(paths.pods_dir + "/r", out);
  for (const std::string& name : Names(paths.pods_dir + "/m/a")) {
    // Their names are short forms; what they lead to tells whose they are.
    std::error_code error;
    fs::path target = fs::read_symlink(paths.pods_dir + "/m/a/" + name, error);
    std::string id = target.filename() == "pause" ? target.parent_path().filename() : target.filename();
    out->insert(IsId(id) ? StrCat("attach ", id) : StrCat("stray ", paths.pods_dir, "/m/a/", name));
  }
  AddMounts(paths.pods_dir, out);
  AddCgroups(paths.cgroup, out);
  AddNetwork(paths, out);
  AddProcesses(paths, server_pid, out);
  co_return state;
}

ExpectedState ExpectedOf(const std::vector<v1::PodSandboxStatus>& sandboxes,
                         const std::vector<v1::ContainerStatus>& containers,
                         const std::map<std::string, int>& host_ports) {
  ExpectedState out;
  int veths = 0;
  auto runs = [&out](const std::string& id) {
    for (const char* kind : {"monitor", "process-of", "oci-state", "cgroup", "persist", "attach"}) {
      out.must.insert(StrCat(kind, " ", id));
    }
  };
  for (const v1::PodSandboxStatus& sandbox : sandboxes) {
    const std::string& id = sandbox.id();
    out.must.insert("sandbox-record " + id);
    if (sandbox.state() != v1::SANDBOX_READY) continue;
    out.must.insert("sandbox-dir " + id);
    const v1::NamespaceOption& options = sandbox.linux().namespaces().options();
    if (options.network() == v1::POD) {
      for (const char* ns : {"net", "uts"}) out.must.insert(StrCat("mount sandboxes/", id, "/ns/", ns));
      out.must.insert("address " + id);
      out.must.insert("attachment " + id);
      out.must.insert(StrCat("veth ", veths++));
      auto port = host_ports.find(id);
      if (port != host_ports.end()) out.must.insert(StrCat("host-port ", port->second));
    }
    if (options.ipc() == v1::POD) {
      out.must.insert(StrCat("mount sandboxes/", id, "/ns/ipc"));
      out.must.insert(StrCat("mount sandboxes/", id, "/shm"));
    }
    if (options.pid() == v1::POD) runs(id);
  }
  for (const v1::ContainerStatus& container : containers) {
    const std::string& id = container.id();
    for (const char* kind : {"container-record", "container-dir", "rootfs"})
      out.must.insert(StrCat(kind, " ", id));
    out.must.insert(StrCat("mount containers/", id, "/rootfs"));
    if (container.state() == v1::CONTAINER_RUNNING) runs(id);
    if (container.state() == v1::CONTAINER_EXITED) {
      for (const char* kind : {"exit", "persist", "attach"}) out.may.insert(StrCat(kind, " ", id));
    }
  }
  return out;
}

std::vector<std::string> Difference(const ExpectedState& expected, const KernelState& actual) {
  std::vector<std::string> out;
  for (const std::string& thing : expected.must) {
    if (actual.things.count(thing) == 0) out.push_back("missing " + thing);
  }
  for (const std::string& thing : actual.things) {
    if (expected.must.count(thing) == 0 && expected.may.count(thing) == 0) out.push_back("left " + thing);
  }
  return out;
}

}  // namespace keelson::cri
