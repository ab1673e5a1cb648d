#include "cmd/check.h"

#include <absl/strings/match.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <set>
#include <utility>

#include "base/env.h"
#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"
#include "cgroups/layout.h"
#include "cmd/host_network.h"
#include "cmd/packet_check.h"
#include "cmd/supervisor.h"
#include "net/netlink.h"
#include "net/proc_ports.h"
#include "oci/probe.h"
#include "oci/runtime.h"
#include "oci/selinux.h"

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

Task<absl::Status> ReadVersion(Env* env, std::string program, std::string* output) {
  SubprocessOptions options;
  options.argv = {program, "--version"};
  options.timeout = absl::Seconds(10);
  CO_ASSIGN_OR_RETURN(SubprocessResult result, env->subprocess().Run(options));
  *output = result.stdout_data;
  co_return absl::OkStatus();
}

class Checker {
 public:
  Checker(const ClusterLayout& layout, const CheckOptions& options) : layout_(layout), options_(options) {}

  std::vector<Finding> Run() {
    Root();
    Programs();
    Ports();
    Network();
    Kernel();
    Disk();
    if (options_.packets && !HasErrors(findings_)) {
      for (Finding& finding : CheckPackets(layout_)) findings_.push_back(std::move(finding));
    }
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
    if (layout_.own_cri()) {
      programs.push_back({"conmon", "conmon", true});
      // Either will do: the one that is missing is only a handler less.
      bool has_runc = !FindProgram("runc", path).empty();
      programs.push_back({"crun", "crun", !has_runc});
      programs.push_back({"runc", "runc", false});
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
    if (layout_.own_runtime()) {
      Apparmor(path);
      Selinux();
      RuntimeHoles(path);
    }
    if (layout_.own_runtime() && ::access("/usr/lib/cni/ptp", X_OK) != 0) {
      Add(Severity::kError, "CNI plugins", "/usr/lib/cni/ptp is missing",
          "apt-get install containernetworking-plugins");
    }
  }

  // Debian and Ubuntu have AppArmor on; without its parser containers run outside of it.
  void Apparmor(const std::string& path) {
    if (!ReadFile(options_.proc_root + "/self/attr/apparmor/current").ok()) return;
    std::string parser = FindProgram("apparmor_parser", path + ":/sbin");
    if (!parser.empty()) return Add(Severity::kOk, "AppArmor", parser);
    Add(Severity::kWarning, "AppArmor",
        "is on, but there is no apparmor_parser to load the profile of containers with: they run without it",
        "apt-get install apparmor");
  }

  void Selinux() {
    auto mounts = ReadFile(options_.proc_root + "/mounts");
    if (!mounts.ok() || !absl::StrContains(*mounts, " selinuxfs ")) return;
    absl::Status policy = oci::CheckSelinuxPolicy();
    if (policy.ok()) return Add(Severity::kOk, "SELinux", "its policy knows containers");
    Add(Severity::kWarning, "SELinux", std::string(policy.message()),
        "containers get no labels until its policy knows container_t");
  }

  // Published holes of the OCI runtimes that containers will be started by.
  void RuntimeHoles(const std::string& path) {
    for (const char* name : {"crun", "runc"}) {
      std::string program = FindProgram(name, path);
      if (program.empty()) continue;
      RealEnv env{Paths()};
      std::string output;
      absl::Status status = env.RunUntilDone(ReadVersion(&env, program, &output));
      auto version = oci::ParseRuntimeVersion(name, output);
      if (!status.ok() || !version.ok()) {
        Add(Severity::kWarning, StrCat("OCI runtime ", name),
            StrCat(program, " --version says nothing of use: ",
                   status.ok() ? version.status().message() : status.message()),
            StrCat("apt-get install ", name));
        continue;
      }
      // "runc 1.1.5: CVE-2025-31133: what it lets through; fixed in 1.2.8": here the name is enough.
      std::vector<std::string> cves;
      for (const std::string& hole : oci::KnownVulnerabilities(name, *version)) {
        std::vector<std::string> parts = absl::StrSplit(hole, ": ");
        cves.push_back(parts.size() > 1 ? parts[1] : hole);
      }
      if (cves.empty()) {
        Add(Severity::kOk, StrCat("OCI runtime ", name), *version);
      } else {
        Add(Severity::kWarning, StrCat("OCI runtime ", name),
            StrCat(*version, " has known holes: ", absl::StrJoin(cves, ", ")),
            StrCat("install a newer ", name, "; the log of keelson cri says what each lets through"));
      }
    }
  }

  bool OurOwn(int pid) const {
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(layout_.paths.run_dir, ignored)) {
      if (entry.path().extension() != ".pid") continue;
      auto identity = ReadPidFile(entry.path());
      if (identity.ok() && identity->pid == pid) return true;
    }
    return false;
  }

  // "" : nobody, or one of our own components.
  std::string HeldBy(const net::ListeningSocket& socket) const {
    net::PortOwner owner = net::FindSocketOwner(socket, options_.proc_root);
    return options_.ignore_own && OurOwn(owner.pid) ? "" : owner.ToString();
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
    auto sockets = net::ListListeningSockets(options_.proc_root);
    if (!sockets.ok()) return Add(Severity::kWarning, "ports", std::string(sockets.status().message()));
    for (const Port& port : ports) {
      std::string what = StrCat("port ", port.port, " (", port.use, ")"), holder, found = "free";
      for (const net::ListeningSocket& socket : *sockets) {
        if (socket.udp || socket.port != port.port) continue;
        found = "ours";
        if (holder.empty()) holder = HeldBy(socket);
      }
      if (holder.empty()) {
        Add(Severity::kOk, what, found);
      } else {
        Add(Severity::kError, what, StrCat("in use by ", holder),
            StrCat("stop it, or choose another port with ", port.flag));
      }
    }
    DnsPort(*sockets);
    NodePorts(*sockets);
  }

  // Cluster DNS binds one address of its own; a server bound to every address keeps it from that.
  void DnsPort(const std::vector<net::ListeningSocket>& sockets) {
    constexpr uint16_t kDns = 53;
    std::string what = StrCat("port ", kDns, " (cluster DNS on ", layout_.dns_ip(), ")");
    for (const net::ListeningSocket& socket : sockets) {
      if (socket.port != kDns || !socket.address.is_unspecified()) continue;
      std::string holder = HeldBy(socket);
      if (holder.empty()) continue;
      return Add(Severity::kError, what,
                 StrCat("in use on every address by ", holder, socket.udp ? ", UDP" : ", TCP"),
                 "stop it, or let it listen on its own addresses only (dnsmasq: bind-interfaces)");
    }
    Add(Severity::kOk, what, "free");
  }

  // A program that listens in the NodePort range loses its port to a Service that gets the same number.
  void NodePorts(const std::vector<net::ListeningSocket>& sockets) {
    constexpr uint16_t kFirst = 30000, kLast = 32767;
    std::set<std::pair<uint16_t, bool>> seen;  // IPv4 and IPv6 of one server are one finding
    for (const net::ListeningSocket& socket : sockets) {
      if (socket.port < kFirst || socket.port > kLast) continue;
      if (!seen.emplace(socket.port, socket.udp).second) continue;
      std::string holder = HeldBy(socket);
      if (holder.empty()) continue;
      Add(Severity::kWarning, StrCat("port ", socket.port, socket.udp ? "/UDP" : "", " (NodePorts)"),
          StrCat("in use by ", holder),
          "stop it, or do not give this number to a Service: the book's application uses 30001");
    }
  }

  void Network() {
    HostNetwork host;
    absl::Status read = [&host]() -> absl::Status {
      ASSIGN_OR_RETURN(net::Netlink netlink, net::Netlink::Open());
      ASSIGN_OR_RETURN(host.addresses, netlink.ListAddresses());
      ASSIGN_OR_RETURN(host.routes, netlink.ListRoutes());
      return absl::OkStatus();
    }();
    auto pods = net::Cidr::Parse(layout_.options.pod_cidr);
    auto services = net::Cidr::Parse(layout_.options.service_cidr);
    if (!read.ok() || !pods.ok() || !services.ok()) {
      return Add(Severity::kWarning, "host network", std::string(read.message()));
    }
    // With the mark of a cluster here, links to its pods and its DNS address are no overlap.
    std::vector<net::Cidr> own;
    ClusterLayout made = layout_;
    if (ApplyMarker(&made)) {
      for (const std::string& block : {made.node_pod_cidr(), made.dns_ip() + "/32"}) {
        auto parsed = net::Cidr::Parse(block);
        if (parsed.ok()) own.push_back(*parsed);
      }
    }
    std::vector<Overlap> overlaps = FindOverlaps(host, *pods, own, *services);
    Block("--pod-cidr", *pods, overlaps);
    // The two suggestions must not overlap either.
    auto suggested = overlaps.empty() ? pods : net::Cidr::Parse(overlaps[0].free);
    Block("--service-cidr", *services,
          FindOverlaps(host, *services, own, suggested.ok() ? *suggested : *pods));
  }

  void Block(const char* flag, const net::Cidr& block, const std::vector<Overlap>& overlaps) {
    std::string what = StrCat(flag, " ", block.ToString());
    if (overlaps.empty()) Add(Severity::kOk, what, "no address or route of this host lies in it");
    for (const Overlap& overlap : overlaps) {
      std::string example = overlap.free.empty() ? "" : StrCat(", for example ", flag, " ", overlap.free);
      Add(Severity::kError, what, StrCat("overlaps ", overlap.with), StrCat("choose another block", example));
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
      Add(Severity::kOk, "cgroups",
          StrCat(cgroups::ModeName(cgroup_layout->mode), ", driver ", layout_.options.cgroup_driver));
    } else {
      Add(Severity::kError, "cgroups", std::string(cgroup_layout.status().message()),
          "mount the cgroup2 hierarchy at /sys/fs/cgroup");
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
