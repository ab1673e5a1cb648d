#include "kubelet/node_status.h"

#include <absl/strings/ascii.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "api/time.h"
#include "base/fd.h"
#include "base/status.h"

namespace keelson::kubelet {
namespace {

namespace fs = std::filesystem;
namespace corev1 = ::k8s::core::v1;

// The Kubernetes level this kubelet follows.
constexpr char kKubeletVersion[] = "v1.37.2+keelson-" KEELSON_VERSION;
constexpr size_t kMaxNamesPerImage = 5;  // upstream: MaxNamesPerImageInNodeStatus

std::string ReadLine(const std::string& path) {
  absl::StatusOr<std::string> text = ReadFile(path, 64 << 10);
  return text.ok() ? std::string(absl::StripAsciiWhitespace(*text)) : "";
}

std::string Arch() {
  struct utsname name;
  if (::uname(&name) != 0) return "amd64";
  std::string machine = name.machine;
  if (machine == "x86_64") return "amd64";
  if (machine == "aarch64") return "arm64";
  return machine;
}

corev1::NodeCondition Condition(const char* type, bool value, const char* reason, std::string message,
                                const corev1::NodeStatus& before, absl::Time now) {
  corev1::NodeCondition out;
  out.set_type(type);
  out.set_status(value ? "True" : "False");
  out.set_reason(reason);
  out.set_message(std::move(message));
  *out.mutable_last_heartbeat_time() = api::ToApiTime(now);
  *out.mutable_last_transition_time() = api::ToApiTime(now);
  for (const auto& old : before.conditions()) {
    if (old.type() == type && old.status() == out.status() && old.has_last_transition_time()) {
      *out.mutable_last_transition_time() = old.last_transition_time();
    }
  }
  return out;
}

corev1::NodeCondition ReadyCondition(const NodeHealth& h, const corev1::NodeStatus& before, absl::Time now) {
  std::vector<std::string> problems;
  if (!h.runtime_known) {
    problems.push_back("container runtime status check may not have completed yet");
  } else {
    if (!h.runtime_ready) problems.push_back(StrCat("container runtime is down: ", h.runtime_message));
    if (!h.network_ready)
      problems.push_back(StrCat("container runtime network not ready: ", h.network_message));
  }
  if (!h.pleg_message.empty()) problems.push_back(StrCat("PLEG is not healthy: ", h.pleg_message));
  if (problems.empty()) {
    return Condition("Ready", true, "KubeletReady", "kubelet is posting ready status", before, now);
  }
  std::string text = problems.size() == 1 ? problems[0] : StrCat("[", absl::StrJoin(problems, ", "), "]");
  return Condition("Ready", false, "KubeletNotReady", text, before, now);
}

void SetResourceMap(const ResourceList& list,
                    google::protobuf::Map<std::string, ::k8s::api::resource::Quantity>* out) {
  for (const auto& [name, quantity] : list) (*out)[name] = quantity.ToProto();
}

void SetImages(const KubeletOptions& options, std::vector<criv1::Image> images, corev1::NodeStatus& out) {
  std::sort(images.begin(), images.end(), [](const auto& a, const auto& b) {
    return a.size() != b.size() ? a.size() > b.size() : a.id() < b.id();
  });
  for (const auto& image : images) {
    if (options.node_status_max_images >= 0 && out.images_size() >= options.node_status_max_images) break;
    corev1::ContainerImage* c = out.add_images();
    for (const auto& digest : image.repo_digests()) c->add_names(digest);
    for (const auto& tag : image.repo_tags()) c->add_names(tag);
    if (c->names_size() > static_cast<int>(kMaxNamesPerImage)) {
      c->mutable_names()->DeleteSubrange(kMaxNamesPerImage, c->names_size() - kMaxNamesPerImage);
    }
    c->set_size_bytes(image.size());
  }
}

}  // namespace

MachineInfo ReadMachineInfo(const KubeletOptions& options, const std::string& kubelet_dir) {
  MachineInfo out;
  int cpus = 0;
  if (absl::StatusOr<std::string> text = ReadFile(options.proc_root + "/cpuinfo", 16 << 20); text.ok()) {
    for (absl::string_view line : absl::StrSplit(*text, '\n')) cpus += line.substr(0, 9) == "processor";
  }
  out.cpus = cpus > 0 ? cpus : std::max<int>(::sysconf(_SC_NPROCESSORS_ONLN), 1);
  if (absl::StatusOr<std::string> text = ReadFile(options.proc_root + "/meminfo", 1 << 20); text.ok()) {
    for (absl::string_view line : absl::StrSplit(*text, '\n')) {
      std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
      int64_t kib = 0;
      if (words.size() >= 2 && words[0] == "MemTotal:" && absl::SimpleAtoi(words[1], &kib))
        out.memory_bytes = kib * 1024;
    }
  }
  for (std::string dir = kubelet_dir; !dir.empty(); dir = fs::path(dir).parent_path().string()) {
    struct statvfs disk;
    if (::statvfs(dir.c_str(), &disk) == 0) {
      out.ephemeral_storage_bytes = static_cast<int64_t>(disk.f_blocks) * disk.f_frsize;
      break;
    }
    if (dir == "/") break;
  }
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(options.sys_root + "/kernel/mm/hugepages", ec)) {
    std::string name = entry.path().filename().string();  // hugepages-2048kB
    int64_t kib = 0, count = 0;
    size_t dash = name.find('-'), unit = name.find("kB");
    if (dash == std::string::npos || unit == std::string::npos) continue;
    if (!absl::SimpleAtoi(name.substr(dash + 1, unit - dash - 1), &kib)) continue;
    if (!absl::SimpleAtoi(ReadLine(entry.path().string() + "/nr_hugepages"), &count)) continue;
    std::string size = api::Quantity::FromValue(kib * 1024, api::Quantity::Format::kBinarySI).ToString();
    out.hugepages_bytes["hugepages-" + size] = count * kib * 1024;
  }
  out.machine_id = ReadLine(options.host_root + "/etc/machine-id");
  out.system_uuid = ReadLine(options.sys_root + "/class/dmi/id/product_uuid");
  if (out.system_uuid.empty()) out.system_uuid = out.machine_id;
  out.boot_id = ReadLine(options.proc_root + "/sys/kernel/random/boot_id");
  out.kernel_version = ReadLine(options.proc_root + "/sys/kernel/osrelease");
  if (absl::StatusOr<std::string> text = ReadFile(options.host_root + "/etc/os-release", 1 << 20);
      text.ok()) {
    for (absl::string_view line : absl::StrSplit(*text, '\n')) {
      constexpr absl::string_view kPretty = "PRETTY_NAME=";
      if (line.substr(0, kPretty.size()) != kPretty) continue;
      line.remove_prefix(kPretty.size());
      if (line.size() >= 2 && line.front() == '"') line = line.substr(1, line.size() - 2);
      out.os_image = std::string(line);
    }
  }
  if (out.os_image.empty()) out.os_image = "Linux";
  out.hostname = ReadLine(options.proc_root + "/sys/kernel/hostname");
  out.architecture = Arch();
  return out;
}

std::vector<std::string> FindNodeIps(const std::string& proc_root) {
  std::string interface;
  if (absl::StatusOr<std::string> text = ReadFile(proc_root + "/net/route", 1 << 20); text.ok()) {
    for (absl::string_view line : absl::StrSplit(*text, '\n')) {
      std::vector<std::string> words = absl::StrSplit(line, '\t');
      if (words.size() > 7 && words[1] == "00000000" && words[7] == "00000000") {
        interface = words[0];
        break;
      }
    }
  }
  struct ifaddrs* list = nullptr;
  std::vector<std::string> v4, v6, other4;
  if (::getifaddrs(&list) == 0) {
    for (auto* a = list; a != nullptr; a = a->ifa_next) {
      if (a->ifa_addr == nullptr || (a->ifa_flags & IFF_LOOPBACK) != 0 || (a->ifa_flags & IFF_UP) == 0)
        continue;
      char text[INET6_ADDRSTRLEN] = "";
      if (a->ifa_addr->sa_family == AF_INET) {
        ::inet_ntop(AF_INET, &reinterpret_cast<sockaddr_in*>(a->ifa_addr)->sin_addr, text, sizeof text);
        (interface == a->ifa_name ? v4 : other4).push_back(text);
      } else if (a->ifa_addr->sa_family == AF_INET6 && interface == a->ifa_name) {
        const auto* in6 = reinterpret_cast<sockaddr_in6*>(a->ifa_addr);
        if (IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr)) continue;
        ::inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof text);
        v6.push_back(text);
      }
    }
    ::freeifaddrs(list);
  }
  std::vector<std::string> out;
  if (!v4.empty()) {
    out.push_back(v4.front());
  } else if (!v6.empty()) {
    out.push_back(v6.front());
  } else if (!other4.empty()) {
    out.push_back(other4.front());
  } else {
    out.push_back("127.0.0.1");
  }
  return out;
}

ResourceList NodeCapacity(const MachineInfo& m, const KubeletOptions& options) {
  ResourceList out;
  constexpr auto kBinary = api::Quantity::Format::kBinarySI;
  out["cpu"] = api::Quantity::FromValue(m.cpus);
  out["memory"] = api::Quantity::FromValue(m.memory_bytes, kBinary);
  if (options.local_storage_capacity_isolation)
    out["ephemeral-storage"] = api::Quantity::FromValue(m.ephemeral_storage_bytes, kBinary);
  int64_t pods = options.max_pods;
  if (options.pods_per_core > 0) pods = std::min<int64_t>(pods, int64_t{options.pods_per_core} * m.cpus);
  out["pods"] = api::Quantity::FromValue(pods);
  for (const auto& [name, bytes] : m.hugepages_bytes) out[name] = api::Quantity::FromValue(bytes, kBinary);
  return out;
}

absl::StatusOr<int64_t> ThresholdBytes(const std::string& text, int64_t total) {
  if (!text.empty() && text.back() == '%') {
    double percent = 0;
    if (!absl::SimpleAtod(text.substr(0, text.size() - 1), &percent) || percent < 0 || percent > 100) {
      return absl::InvalidArgumentError(StrCat("invalid percentage \"", text, "\""));
    }
    return static_cast<int64_t>(static_cast<double>(total) * percent / 100);
  }
  ASSIGN_OR_RETURN(api::Quantity quantity, api::Quantity::Parse(text));
  return quantity.Value();
}

absl::StatusOr<ResourceList> NodeAllocatable(const ResourceList& capacity, const KubeletOptions& options) {
  ResourceList out = capacity;
  auto take = [&](const std::string& name, const api::Quantity& amount) {
    auto it = out.find(name);
    if (it == out.end()) return;
    it->second.Sub(amount);
    if (it->second.Sign() < 0) it->second = api::Quantity();
  };
  for (const auto* reserved : {&options.kube_reserved, &options.system_reserved}) {
    for (const auto& [name, text] : *reserved) {
      absl::StatusOr<api::Quantity> quantity = api::Quantity::Parse(text);
      if (!quantity.ok()) return Annotate(quantity.status(), StrCat("reserved ", name));
      take(name, *quantity);
    }
  }
  constexpr std::pair<const char*, const char*> kSignals[] = {{"memory.available", "memory"},
                                                              {"nodefs.available", "ephemeral-storage"}};
  for (const auto& [signal, resource] : kSignals) {
    auto it = options.eviction_hard.find(signal);
    auto total = capacity.find(resource);
    if (it == options.eviction_hard.end() || total == capacity.end()) continue;
    absl::StatusOr<int64_t> bytes = ThresholdBytes(it->second, total->second.Value());
    if (!bytes.ok()) return Annotate(bytes.status(), StrCat("evictionHard ", signal));
    take(resource, api::Quantity::FromValue(*bytes, api::Quantity::Format::kBinarySI));
  }
  return out;
}

std::map<std::string, std::string> NodeLabels(const KubeletOptions& options, const MachineInfo& machine) {
  std::map<std::string, std::string> out = options.node_labels;
  out["kubernetes.io/hostname"] = options.hostname.empty() ? options.node_name : options.hostname;
  for (const char* prefix : {"kubernetes.io/", "beta.kubernetes.io/"}) {
    out[StrCat(prefix, "os")] = machine.operating_system;
    out[StrCat(prefix, "arch")] = machine.architecture;
  }
  return out;
}

corev1::NodeStatus MakeNodeStatus(const KubeletOptions& options, const NodeStatusInputs& in,
                                  const corev1::NodeStatus& before) {
  corev1::NodeStatus out;
  ResourceList capacity = NodeCapacity(in.machine, options);
  SetResourceMap(capacity, out.mutable_capacity());
  absl::StatusOr<ResourceList> allocatable = NodeAllocatable(capacity, options);
  SetResourceMap(allocatable.ok() ? *allocatable : capacity, out.mutable_allocatable());
  // Resources others put there (device plugins, extended resources) stay.
  for (const auto& [name, q] : before.capacity()) {
    if (capacity.count(name) == 0 && name.find('/') != std::string::npos) (*out.mutable_capacity())[name] = q;
  }
  for (const auto& [name, q] : before.allocatable()) {
    if (capacity.count(name) == 0 && name.find('/') != std::string::npos)
      (*out.mutable_allocatable())[name] = q;
  }

  const NodeHealth& h = in.health;
  auto add = [&](corev1::NodeCondition c) { *out.add_conditions() = std::move(c); };
  add(Condition("MemoryPressure", h.memory_pressure,
                h.memory_pressure ? "KubeletHasInsufficientMemory" : "KubeletHasSufficientMemory",
                h.memory_pressure ? "kubelet has insufficient memory available"
                                  : "kubelet has sufficient memory available",
                before, in.now));
  add(Condition("DiskPressure", h.disk_pressure,
                h.disk_pressure ? "KubeletHasDiskPressure" : "KubeletHasNoDiskPressure",
                h.disk_pressure ? "kubelet has disk pressure" : "kubelet has no disk pressure", before,
                in.now));
  add(Condition(
      "PIDPressure", h.pid_pressure, h.pid_pressure ? "KubeletHasInsufficientPID" : "KubeletHasSufficientPID",
      h.pid_pressure ? "kubelet has insufficient PID available" : "kubelet has sufficient PID available",
      before, in.now));
  add(ReadyCondition(h, before, in.now));
  for (const auto& old : before.conditions()) {
    bool ours = std::any_of(out.conditions().begin(), out.conditions().end(),
                            [&](const auto& c) { return c.type() == old.type(); });
    if (!ours) *out.add_conditions() = old;
  }

  for (const std::string& ip : in.node_ips) {
    auto* a = out.add_addresses();
    a->set_type("InternalIP");
    a->set_address(ip);
  }
  auto* hostname = out.add_addresses();
  hostname->set_type("Hostname");
  hostname->set_address(options.hostname.empty() ? options.node_name : options.hostname);
  out.mutable_daemon_endpoints()->mutable_kubelet_endpoint()->set_port(options.kubelet_port);

  auto& info = *out.mutable_node_info();
  info.set_machine_id(in.machine.machine_id);
  info.set_system_uuid(in.machine.system_uuid);
  info.set_boot_id(in.machine.boot_id);
  info.set_kernel_version(in.machine.kernel_version);
  info.set_os_image(in.machine.os_image);
  info.set_container_runtime_version(in.runtime_version);
  info.set_kubelet_version(kKubeletVersion);
  info.set_operating_system(in.machine.operating_system);
  info.set_architecture(in.machine.architecture);
  SetImages(options, in.images, out);
  for (const auto& handler : in.runtime_handlers) {
    auto* r = out.add_runtime_handlers();
    r->set_name(handler.name());
    r->mutable_features()->set_recursive_read_only_mounts(handler.features().recursive_read_only_mounts());
    r->mutable_features()->set_user_namespaces(handler.features().user_namespaces());
  }
  *out.mutable_volumes_in_use() = before.volumes_in_use();
  *out.mutable_volumes_attached() = before.volumes_attached();
  return out;
}

}  // namespace keelson::kubelet
