#include "kubelet/resources.h"

#include <algorithm>
#include <set>

#include "cgroups/conversions.h"

namespace keelson::kubelet {
namespace {

using QuantityMap = google::protobuf::Map<std::string, ::k8s::api::resource::Quantity>;

constexpr int64_t kMinShares = 2;
constexpr int64_t kMinQuotaUs = 1000;
constexpr int64_t kSystemCriticalPriority = 2'000'000'000;

void AddAll(const ResourceList& from, ResourceList& to) {
  for (const auto& [name, quantity] : from) to[name].Add(quantity);
}

void MaxAll(const ResourceList& from, ResourceList& to) {
  for (const auto& [name, quantity] : from) {
    auto [it, fresh] = to.try_emplace(name, quantity);
    if (!fresh && it->second < quantity) it->second = quantity;
  }
}

ResourceList ToList(const QuantityMap& map) {
  ResourceList out;
  for (const auto& [name, quantity] : map) out[name] = api::Quantity::Of(quantity);
  return out;
}

// Requests of one container, limits standing in.
ResourceList RequestsOf(const corev1::Container& c) {
  ResourceList out = ToList(c.resources().limits());
  for (const auto& [name, quantity] : c.resources().requests()) out[name] = api::Quantity::Of(quantity);
  return out;
}

// Sum over containers and sidecars, at least the peak of the init phase.
template <class Of>
ResourceList Aggregate(const corev1::Pod& pod, Of of) {
  ResourceList sum, init_peak, sidecars;
  for (const auto& c : pod.spec().containers()) AddAll(of(c), sum);
  for (const auto& c : pod.spec().init_containers()) {
    ResourceList own = of(c);
    if (IsRestartableInit(c)) {
      AddAll(own, sidecars);
      MaxAll(sidecars, init_peak);
    } else {
      AddAll(sidecars, own);
      MaxAll(own, init_peak);
    }
  }
  AddAll(sidecars, sum);
  MaxAll(init_peak, sum);
  return sum;
}

const api::Quantity* Find(const ResourceList& list, const char* name) {
  auto it = list.find(name);
  return it == list.end() ? nullptr : &it->second;
}

}  // namespace

std::string_view QosName(QosClass qos) {
  switch (qos) {
    case QosClass::kGuaranteed:
      return "Guaranteed";
    case QosClass::kBurstable:
      return "Burstable";
    default:
      return "BestEffort";
  }
}

QosClass ComputeQos(const corev1::Pod& pod) {
  bool any = false, guaranteed = true;
  auto look = [&](const corev1::ResourceRequirements& r) {
    for (const char* name : {"cpu", "memory"}) {
      api::Quantity limit = GetQuantity(r.limits(), name), request = GetQuantity(r.requests(), name);
      if (limit.Sign() > 0 || request.Sign() > 0) any = true;
      if (limit.Sign() <= 0 || (request.Sign() > 0 && request != limit)) guaranteed = false;
    }
  };
  if (pod.spec().has_resources() &&
      (pod.spec().resources().limits_size() > 0 || pod.spec().resources().requests_size() > 0)) {
    look(pod.spec().resources());
  } else {
    for (const auto& c : pod.spec().containers()) look(c.resources());
    for (const auto& c : pod.spec().init_containers()) look(c.resources());
  }
  if (!any) return QosClass::kBestEffort;
  return guaranteed ? QosClass::kGuaranteed : QosClass::kBurstable;
}

ResourceList PodRequests(const corev1::Pod& pod) {
  ResourceList out = Aggregate(pod, RequestsOf);
  if (pod.spec().has_resources()) {
    for (const auto& [name, q] : pod.spec().resources().limits()) out[name] = api::Quantity::Of(q);
    for (const auto& [name, q] : pod.spec().resources().requests()) out[name] = api::Quantity::Of(q);
  }
  for (const auto& [name, q] : pod.spec().overhead()) out[name].Add(api::Quantity::Of(q));
  return out;
}

ResourceList PodLimits(const corev1::Pod& pod) {
  ResourceList out =
      Aggregate(pod, [](const corev1::Container& c) { return ToList(c.resources().limits()); });
  for (const char* name : {"cpu", "memory"}) {
    auto unbounded = [&](const corev1::Container& c) {
      return GetQuantity(c.resources().limits(), name).IsZero();
    };
    const auto& spec = pod.spec();
    if (std::any_of(spec.containers().begin(), spec.containers().end(), unbounded)) out.erase(name);
  }
  if (pod.spec().has_resources()) {
    for (const auto& [name, q] : pod.spec().resources().limits()) out[name] = api::Quantity::Of(q);
  }
  for (const auto& [name, q] : pod.spec().overhead()) {
    auto it = out.find(name);
    if (it != out.end()) it->second.Add(api::Quantity::Of(q));
  }
  return out;
}

int64_t MilliCpuToShares(int64_t milli_cpu) {
  if (milli_cpu <= 0) return kMinShares;
  return std::clamp<int64_t>(milli_cpu * 1024 / 1000, kMinShares, 262144);
}

int64_t MilliCpuToQuota(int64_t milli_cpu, int64_t period_us) {
  if (milli_cpu <= 0) return 0;
  return std::max(milli_cpu * period_us / 1000, kMinQuotaUs);
}

int64_t OomScoreAdj(const corev1::Pod& pod, const corev1::Container& container,
                    int64_t memory_capacity_bytes) {
  if (pod.spec().has_priority() && pod.spec().priority() >= kSystemCriticalPriority) return -997;
  switch (ComputeQos(pod)) {
    case QosClass::kGuaranteed:
      return -997;
    case QosClass::kBestEffort:
      return 1000;
    default:
      break;
  }
  ResourceList requests = RequestsOf(container);
  const api::Quantity* memory = Find(requests, "memory");
  double request = memory == nullptr ? 0 : memory->ToDouble();
  double capacity = std::max<double>(memory_capacity_bytes, 1);
  int64_t adjust = 1000 - static_cast<int64_t>(1000 * request / capacity);
  return std::clamp<int64_t>(adjust, 3, 999);
}

criv1::LinuxContainerResources ContainerLinuxResources(const corev1::Pod& pod,
                                                       const corev1::Container& container,
                                                       const ResourceOptions& options) {
  criv1::LinuxContainerResources out;
  const auto& r = container.resources();
  api::Quantity cpu_limit = GetQuantity(r.limits(), "cpu");
  api::Quantity cpu_request = r.requests().contains("cpu") ? GetQuantity(r.requests(), "cpu") : cpu_limit;
  out.set_cpu_shares(MilliCpuToShares(cpu_request.MilliValue()));
  if (options.cpu_cfs_quota && cpu_limit.Sign() > 0) {
    out.set_cpu_period(options.cfs_period_us);
    out.set_cpu_quota(MilliCpuToQuota(cpu_limit.MilliValue(), options.cfs_period_us));
  }
  api::Quantity memory = GetQuantity(r.limits(), "memory");
  if (memory.Sign() > 0) {
    out.set_memory_limit_in_bytes(memory.Value());
    out.set_memory_swap_limit_in_bytes(memory.Value());  // no swap beyond memory
  }
  out.set_oom_score_adj(OomScoreAdj(pod, container, options.memory_capacity_bytes));
  for (const auto& [name, quantity] : r.limits()) {
    constexpr std::string_view kHuge = "hugepages-";
    if (name.compare(0, kHuge.size(), kHuge) != 0) continue;
    auto* huge = out.add_hugepage_limits();
    // "2Mi" is "2MB" to the runtime.
    std::string size = name.substr(kHuge.size());
    if (!size.empty() && size.back() == 'i') size.back() = 'B';
    huge->set_page_size(size);
    huge->set_limit(api::Quantity::Of(quantity).Value());
  }
  return out;
}

criv1::LinuxContainerResources PodLinuxResources(const corev1::Pod& pod, const ResourceOptions& options) {
  criv1::LinuxContainerResources out;
  ResourceList requests = PodRequests(pod), limits = PodLimits(pod);
  const api::Quantity* cpu = Find(requests, "cpu");
  out.set_cpu_shares(MilliCpuToShares(cpu == nullptr ? 0 : cpu->MilliValue()));
  const api::Quantity* cpu_limit = Find(limits, "cpu");
  if (options.cpu_cfs_quota && cpu_limit != nullptr && cpu_limit->Sign() > 0) {
    out.set_cpu_period(options.cfs_period_us);
    out.set_cpu_quota(MilliCpuToQuota(cpu_limit->MilliValue(), options.cfs_period_us));
  }
  const api::Quantity* memory = Find(limits, "memory");
  if (memory != nullptr && memory->Sign() > 0) out.set_memory_limit_in_bytes(memory->Value());
  return out;
}

std::string PodCgroupParent(const corev1::Pod& pod, std::string_view root, bool systemd) {
  std::string_view qos;
  switch (ComputeQos(pod)) {
    case QosClass::kBurstable:
      qos = "burstable";
      break;
    case QosClass::kBestEffort:
      qos = "besteffort";
      break;
    default:
      break;
  }
  if (systemd) {
    std::string path =
        cgroups::ToSystemdPath(StrCat(root, "/kubepods", qos.empty() ? "" : "/", qos, "/pod", PodUid(pod)));
    return path.substr(path.rfind('/') + 1);
  }
  while (!root.empty() && root.front() == '/') root.remove_prefix(1);
  return StrCat("/", root, root.empty() ? "" : "/", "kubepods", qos.empty() ? "" : "/", qos, "/pod",
                PodUid(pod));
}

api::Quantity GetQuantity(const QuantityMap& map, const std::string& name) {
  auto it = map.find(name);
  return it == map.end() ? api::Quantity() : api::Quantity::Of(it->second);
}

}  // namespace keelson::kubelet
