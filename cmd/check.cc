#include "cmd/check.h"

#include <absl/strings/str_split.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cstdlib>
#include <set>

#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"
#include "cgroups/layout.h"
#include "cmd/supervisor.h"
#include "net/proc_ports.h"

namespace keelson {
namespace {

using Severity = Finding::Severity;

constexpr uint64_t kMinFreeBytes = 1ull << 30;

std::string FindProgram(const std::string& name, const std::string& path) {
  for (absl::string_view dir : absl::StrSplit(path, ':')) {
    std::string candidate = StrCat(dir, "/", name);
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return "";
}

class Checker {
 public:
  Checker(const ClusterLayout& layout, const CheckOptions& options) : layout_(layout), options_(options) {}

  std::vector<Finding> Run() {
    Root();
    Programs();
    Ports();
    Kernel();
    Disk();
    return std::move(findings_);
  }

 private:
  void Add(Severity severity, std::string what, std::string found, std::string fix = "") {
    findings_.push_back({severity, std::move(what), std::move(found), std::move(fix)});
  }

  void Root() {
    if (::geteuid() == 0) return Add(Severity::kOk, "user", "root");
    Add(Severity::kError, "user", "not root", "run as root: namespaces, cgroups and nftables need it");
  }

  void Programs() {
    std::string path = options_.path;
    if (path.empty()) {
      const char* environment = std::getenv("PATH");
      path = environment != nullptr ? environment : "/usr/sbin:/usr/bin:/sbin:/bin";
    }
    struct Program {
      const char* name;
      const char* package;
      bool needed;
    };
    std::vector<Program> programs = {{"nft", "nftables", true},
                                     {"docker-registry", "docker-registry", false},
                                     {"kubectl", "kubernetes-client", false}};
    if (layout_.own_containerd()) {
      programs.push_back({"containerd", "containerd", true});
      programs.push_back({"runc", "runc", true});
    }
    for (const Program& program : programs) {
      std::string found = FindProgram(program.name, path);
      if (!found.empty()) {
        Add(Severity::kOk, StrCat("program ", program.name), found);
      } else {
        Add(program.needed ? Severity::kError : Severity::kWarning, StrCat("program ", program.name),
            "not found in PATH", StrCat("apt-get install ", program.package));
      }
    }
    if (layout_.own_containerd() && ::access("/usr/lib/cni/ptp", X_OK) != 0) {
      Add(Severity::kError, "CNI plugins", "/usr/lib/cni/ptp is missing",
          "apt-get install containernetworking-plugins");
    }
  }

  bool OurOwn(int pid) const {
    for (const char* name : {"up", "master", "kubelet", "proxy", "containerd", "registry"}) {
      auto identity = ReadPidFile(layout_.pid_file(name));
      if (identity.ok() && identity->pid == pid) return true;
    }
    return false;
  }

  void Ports() {
    const ClusterOptions& o = layout_.options;
    struct Port {
      uint16_t port;
      const char* use;
      const char* flag;
    };
    const Port ports[] = {{o.secure_port, "API server", "--secure-port"},
                          {o.kubelet_port, "kubelet", "--kubelet-port"},
                          {o.kubelet_healthz_port, "kubelet healthz", "--kubelet-healthz-port"},
                          {o.proxy_healthz_port, "proxy healthz", "--proxy-healthz-port"},
                          {o.registry_port, "local registry", "--registry-port"}};
    for (const Port& port : ports) {
      std::string what = StrCat("port ", port.port, " (", port.use, ")");
      auto owner = net::FindPortOwner(port.port, /*udp=*/false, options_.proc_root);
      if (!owner.ok()) {
        Add(Severity::kWarning, what, std::string(owner.status().message()));
      } else if (!owner->has_value() || (options_.ignore_own && OurOwn((*owner)->pid))) {
        Add(Severity::kOk, what, owner->has_value() ? "ours" : "free");
      } else {
        Add(Severity::kError, what, StrCat("in use by ", (*owner)->ToString()),
            StrCat("stop it, or choose another port with ", port.flag));
      }
    }
    NodePorts();
  }

  // A program that listens in the NodePort range loses its port to a Service that gets the same number.
  void NodePorts() {
    constexpr uint16_t kFirst = 30000, kLast = 32767;
    auto sockets = net::ListListeningSockets(options_.proc_root);
    if (!sockets.ok()) return;
    std::set<uint16_t> taken;
    for (const net::ListeningSocket& socket : *sockets) {
      if (!socket.udp && socket.port >= kFirst && socket.port <= kLast) taken.insert(socket.port);
    }
    for (uint16_t port : taken) {
      auto owner = net::FindPortOwner(port, /*udp=*/false, options_.proc_root);
      if (!owner.ok() || !owner->has_value()) continue;
      Add(Severity::kWarning, StrCat("port ", port, " (NodePorts)"),
          StrCat("in use by ", (*owner)->ToString()),
          "stop it, or do not give this number to a Service: the book's application uses 30001");
    }
  }

  void Kernel() {
    auto filesystems = ReadFile(options_.proc_root + "/filesystems");
    for (const char* name : {"overlay", "tmpfs"}) {
      bool known = filesystems.ok() && filesystems->find(StrCat("\t", name, "\n")) != std::string::npos;
      if (known) {
        Add(Severity::kOk, StrCat("filesystem ", name), "present");
      } else {
        Add(Severity::kError, StrCat("filesystem ", name), "not known to the kernel",
            StrCat("modprobe ", name));
      }
    }
    auto mounts = ReadFile(options_.proc_root + "/mounts");
    auto entries = mounts.ok() ? cgroups::ParseMounts(*mounts) : mounts.status();
    auto cgroup_layout = entries.ok() ? cgroups::LayoutOf(*entries, "") : entries.status();
    if (cgroup_layout.ok()) {
      Add(Severity::kOk, "cgroups", std::string(cgroups::ModeName(cgroup_layout->mode)));
    } else {
      Add(Severity::kError, "cgroups", std::string(cgroup_layout.status().message()),
          "mount the cgroup2 hierarchy at /sys/fs/cgroup");
    }
    for (const char* firewall : {"firewalld", "ufw"}) {
      if (::access(StrCat("/run/", firewall).c_str(), F_OK) == 0) {
        Add(Severity::kWarning, "firewall", StrCat(firewall, " is running and may drop pod traffic"),
            StrCat("allow ", layout_.options.pod_cidr, " and ", layout_.options.service_cidr,
                   ", or stop it"));
      }
    }
    if (::access("/var/run/docker.sock", F_OK) == 0) {
      Add(Severity::kWarning, "firewall", "docker is running: its FORWARD policy may drop pod traffic",
          "iptables -P FORWARD ACCEPT, or stop docker");
    }
  }

  void Disk() {
    struct statvfs fs;
    std::string at = layout_.paths.root.empty() ? "/var/lib" : "/";
    if (::statvfs(at.c_str(), &fs) != 0) return;
    uint64_t free_bytes = static_cast<uint64_t>(fs.f_bavail) * fs.f_frsize;
    std::string found = StrCat(free_bytes >> 20, " MiB free below ", at);
    if (free_bytes < kMinFreeBytes) {
      Add(Severity::kWarning, "disk", found, "free at least 1 GiB, images need it");
    } else {
      Add(Severity::kOk, "disk", found);
    }
  }

  const ClusterLayout& layout_;
  const CheckOptions& options_;
  std::vector<Finding> findings_;
};

}  // namespace

std::vector<Finding> CheckHost(const ClusterLayout& layout, const CheckOptions& options) {
  return Checker(layout, options).Run();
}

bool HasErrors(const std::vector<Finding>& findings) {
  for (const Finding& finding : findings) {
    if (finding.severity == Severity::kError) return true;
  }
  return false;
}

std::string FormatFindings(const std::vector<Finding>& findings, bool with_ok) {
  std::string out;
  for (const Finding& finding : findings) {
    if (finding.severity == Severity::kOk && !with_ok) continue;
    const char* mark = finding.severity == Severity::kOk        ? "ok     "
                       : finding.severity == Severity::kWarning ? "warning"
                                                                : "ERROR  ";
    StrAppend(&out, mark, "  ", finding.what, ": ", finding.found);
    if (!finding.fix.empty()) StrAppend(&out, "\n         fix: ", finding.fix);
    StrAppend(&out, "\n");
  }
  return out;
}

}  // namespace keelson
