#include "cmd/cluster_layout.h"

#include <absl/strings/ascii.h>
#include <absl/strings/str_split.h>
#include <unistd.h>

#include <algorithm>
#include <climits>

#include "api/labels.h"
#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"
#include "cgroups/layout.h"
#include "cgroups/systemd_units.h"
#include "cri/server/cgroup_names.h"
#include "net/address.h"
#include "net/netlink.h"

namespace keelson {
namespace {

constexpr int kNodeCidrPrefix = 24;
constexpr size_t kMaxMarkerBytes = 64 << 10;

std::string FindNodeIp() {
  auto address = net::NodeAddress();
  return address.ok() ? address->ToString()
                      : "127.0.0.1";  // a machine without a network is a cluster of its own
}

absl::Status CheckOverlaps(const ClusterLayout& layout, const net::Cidr& pods, const net::Cidr& services) {
  if (pods.Overlaps(services)) {
    return absl::InvalidArgumentError(StrCat("--pod-cidr ", pods.ToString(), " overlaps --service-cidr ",
                                             services.ToString(), ": choose other blocks"));
  }
  ASSIGN_OR_RETURN(net::IpAddress node, net::IpAddress::Parse(layout.options.node_ip));
  for (const auto& [flag, block] : {std::pair("--pod-cidr", pods), std::pair("--service-cidr", services)}) {
    if (block.Contains(node)) {
      return absl::InvalidArgumentError(StrCat(flag, " ", block.ToString(),
                                               " contains the node's own address ", node.ToString(),
                                               ": choose another block"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::string ClusterLayout::server_url() const { return StrCat("https://127.0.0.1:", options.secure_port); }

std::string ClusterLayout::nft_table() const {
  // "keelson-NAME" without characters nft would want quoted.
  std::string table = paths.cgroup_root.empty() ? "keelson" : paths.cgroup_root;
  for (char& c : table) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c))) c = '_';
  }
  return table;
}

std::string ClusterLayout::node_pod_cidr() const {
  auto block = net::Cidr::Parse(options.pod_cidr);
  if (!block.ok() || block->prefix_length() >= kNodeCidrPrefix) return options.pod_cidr;
  return block->Subnet(kNodeCidrPrefix, 0)->ToString();
}

std::string ClusterLayout::service_ip(uint64_t n) const {
  auto block = net::Cidr::Parse(options.service_cidr);
  return block->Nth(n)->ToString();  // checked by MakeClusterLayout
}

std::string ClusterLayout::cri_cgroup(bool systemd) const {
  return cri::DefaultCgroupParent(paths.cgroup_root.empty() ? "keelson-cri" : paths.cgroup_root + "/cri",
                                  systemd);
}

absl::StatusOr<std::string> ChooseCgroupDriver(const ClusterOptions& options, bool systemd_makes_cgroups,
                                               std::string_view made_with) {
  const std::string& driver = options.cgroup_driver;
  const bool own_cri = options.container_runtime_endpoint.empty() && options.container_runtime == "cri";
  if (driver == "auto") {
    const bool systemd = systemd_makes_cgroups && own_cri && options.root.empty();
    return systemd && (made_with.empty() || made_with == "systemd") ? "systemd" : "cgroupfs";
  }
  if (driver == "cgroupfs") return driver;
  if (driver != "systemd") {
    return absl::InvalidArgumentError(StrCat("--cgroup-driver ", driver, ": want auto, cgroupfs or systemd"));
  }
  if (!own_cri) {
    return absl::InvalidArgumentError(
        "--cgroup-driver systemd: only for --container-runtime cri; another runtime has its own setting, and "
        "tells it the kubelet");
  }
  if (!options.root.empty()) {
    return absl::InvalidArgumentError(
        "--cgroup-driver systemd: a cluster below --root has cgroups of its own, made without systemd");
  }
  if (!systemd_makes_cgroups) {
    return absl::InvalidArgumentError(
        "--cgroup-driver systemd: this host was not booted with systemd, has other hierarchies than cgroup "
        "v2, "
        "or lacks systemd's bus or library");
  }
  return driver;
}

std::string RenderMarker(const ClusterOptions& options) {
  return StrCat("pod_cidr=", options.pod_cidr, "\nservice_cidr=", options.service_cidr,
                "\nnode_name=", options.node_name, "\ncontainer_runtime=", options.container_runtime,
                "\ncontainer_runtime_endpoint=", options.container_runtime_endpoint,
                "\ncgroup_driver=", options.cgroup_driver, "\n");
}

std::string MarkedCgroupDriver(std::string_view marker) {
  std::string driver = "cgroupfs";  // markers of before there was a choice
  for (absl::string_view line : absl::StrSplit(Av(marker), '\n', absl::SkipEmpty())) {
    std::pair<std::string, std::string> field = absl::StrSplit(line, absl::MaxSplits('=', 1));
    if (field.first == "cgroup_driver") driver = field.second;
  }
  return driver;
}

bool ApplyMarker(ClusterLayout* layout) {
  auto text = ReadFile(layout->marker_file(), kMaxMarkerBytes);
  if (!text.ok()) return false;
  for (absl::string_view line : absl::StrSplit(*text, '\n', absl::SkipEmpty())) {
    std::pair<std::string, std::string> field = absl::StrSplit(line, absl::MaxSplits('=', 1));
    bool is_block = net::Cidr::ParseStrict(field.second).ok();
    if (field.first == "pod_cidr" && is_block) layout->options.pod_cidr = field.second;
    if (field.first == "service_cidr" && is_block) layout->options.service_cidr = field.second;
    if (field.first == "node_name") layout->options.node_name = field.second;
    if (field.first == "container_runtime") layout->options.container_runtime = field.second;
    if (field.first == "container_runtime_endpoint")
      layout->options.container_runtime_endpoint = field.second;
  }
  return true;
}

absl::StatusOr<ClusterLayout> MakeClusterLayout(ClusterOptions options) {
  ClusterLayout layout;
  if (!options.root.empty() && !options.root.starts_with('/')) {
    return absl::InvalidArgumentError(StrCat("--root ", options.root, ": must be an absolute path"));
  }
  layout.paths = Paths::WithRoot(options.root);
  if (options.node_name.empty()) {
    char name[HOST_NAME_MAX + 1] = {};
    if (::gethostname(name, HOST_NAME_MAX) != 0) return ErrnoStatus(errno, "gethostname");
    options.node_name = absl::AsciiStrToLower(name);
    if (!options.root.empty()) {
      // What a folder may be called and a node may not becomes a dash.
      std::string suffix =
          absl::AsciiStrToLower(layout.paths.cgroup_root.substr(std::string("keelson-").size()));
      std::replace_if(
          suffix.begin(), suffix.end(), [](char c) { return !absl::ascii_isalnum(c); }, '-');
      suffix.erase(suffix.find_last_not_of('-') + 1);
      if (!suffix.empty()) StrAppend(&options.node_name, "-", suffix);
    }
  }
  for (const std::string& message : api::IsDns1123Subdomain(options.node_name)) {
    return absl::InvalidArgumentError(StrCat("--hostname-override ", options.node_name, ": ", message));
  }
  if (options.container_runtime != "cri" && options.container_runtime != "containerd") {
    return absl::InvalidArgumentError(
        StrCat("--container-runtime ", options.container_runtime, ": want cri or containerd"));
  }
  absl::StatusOr<cgroups::Layout> cgroups = cgroups::Discover();
  const bool systemd = cgroups.ok() && cgroups::SystemdMakesCgroups(cgroups->mode);
  const absl::StatusOr<std::string> marker = ReadFile(layout.marker_file(), kMaxMarkerBytes);
  ASSIGN_OR_RETURN(
      options.cgroup_driver,
      ChooseCgroupDriver(options, systemd, marker.ok() ? MarkedCgroupDriver(*marker) : std::string()));
  if (options.node_ip.empty()) options.node_ip = FindNodeIp();
  auto pods = net::Cidr::ParseStrict(options.pod_cidr);
  if (!pods.ok()) return Annotate(pods.status(), "--pod-cidr");
  auto services = net::Cidr::ParseStrict(options.service_cidr);
  if (!services.ok()) return Annotate(services.status(), "--service-cidr");
  if (services->size() < 32) {
    return absl::InvalidArgumentError(
        "--service-cidr: too small, give at least a /27 (the DNS server is its tenth address)");
  }
  char exe[PATH_MAX + 1] = {};
  ssize_t length = ::readlink("/proc/self/exe", exe, PATH_MAX);
  if (length <= 0) return ErrnoStatus(errno, "readlink /proc/self/exe");
  layout.executable.assign(exe, static_cast<size_t>(length));
  layout.options = std::move(options);
  RETURN_IF_ERROR(CheckOverlaps(layout, *pods, *services));
  // Unix socket paths end at 107 bytes; say so here rather than when the runtime starts.
  if (layout.containerd_socket().size() + 8 > 107) {
    return absl::InvalidArgumentError(
        StrCat("--root ", layout.paths.root, ": too long, socket paths below it exceed 107 bytes"));
  }
  return layout;
}

}  // namespace keelson
