// Requests and limits, of a container and of a pod as a whole.
#include <absl/container/flat_hash_map.h>
#include <absl/strings/match.h>

#include <algorithm>
#include <map>

#include "api/labels.h"
#include "api/quantity.h"
#include "api/validation_internal.h"
#include "base/strings.h"

namespace keelson::api::validation {

namespace corev1 = ::k8s::core::v1;

namespace {

using Amounts = std::map<std::string, Quantity>;
using ResourceMap = google::protobuf::Map<std::string, ::k8s::api::resource::Quantity>;

bool IsHugePages(const std::string& name) { return absl::StartsWith(name, "hugepages-"); }
bool IsExtended(const std::string& name) {
  return absl::StrContains(name, "/") && !absl::StrContains(name, "kubernetes.io/");
}

void ResourceName(const std::string& name, bool of_pod, const std::string& path, Errors& errors) {
  const std::vector<std::string> messages = IsQualifiedName(name);
  if (!messages.empty()) return errors.Messages(path, name, messages);
  if (name == "cpu" || name == "memory" || IsHugePages(name)) return;
  if (name != "ephemeral-storage" && !absl::StrContains(name, "/")) {
    errors.InvalidText(path, name, "must be a standard resource type or fully qualified");
  } else if (of_pod) {
    errors.NotSupported(path, name, {"cpu", "hugepages-", "memory"});
  }
}

// Those that are valid.
Amounts Read(const ResourceMap& list, bool of_pod, const std::string& path, Errors& errors) {
  Amounts out;
  const std::map<std::string, ::k8s::api::resource::Quantity> sorted(list.begin(), list.end());
  for (const auto& [name, proto] : sorted) {
    const std::string here = KeyOf(path, name);
    ResourceName(name, of_pod, here, errors);
    auto quantity = Quantity::Parse(proto.string());
    if (!quantity.ok()) {
      errors.InvalidText(here, proto.string(), std::string(quantity.status().message()));
    } else if (quantity->Sign() < 0) {
      errors.InvalidText(here, proto.string(), "must be greater than or equal to 0");
    } else {
      if (IsExtended(name) && quantity->MilliValue() % 1000 != 0) {
        errors.InvalidText(here, proto.string(), "must be an integer");
      }
      out.emplace(name, *quantity);
    }
  }
  return out;
}

void Check(const corev1::ResourceRequirements& resources, bool of_pod, const std::string& path,
           Errors& errors) {
  const std::string requests_path = Child(path, "requests"), limits_path = Child(path, "limits");
  const Amounts limits = Read(resources.limits(), of_pod, limits_path, errors);
  const Amounts requests = Read(resources.requests(), of_pod, requests_path, errors);
  for (const auto& [name, request] : requests) {
    // There is no more of it to give than there is.
    const bool exact = IsHugePages(name) || IsExtended(name);
    auto limit = limits.find(name);
    if (limit == limits.end()) {
      if (exact) errors.Required(limits_path, "Limit must be set for non overcommitable resources");
    } else if (exact ? request.Cmp(limit->second) != 0 : request.Cmp(limit->second) > 0) {
      errors.InvalidText(requests_path, request.ToString(),
                         StrCat("must be ", exact ? "" : "less than or ", "equal to ", name, " limit of ",
                                limit->second.ToString()));
    }
  }
  auto any = [&](auto&& is) {
    auto named = [&](const auto& entry) { return is(entry.first); };
    return std::any_of(limits.begin(), limits.end(), named) ||
           std::any_of(requests.begin(), requests.end(), named);
  };
  if (any(IsHugePages) && !any([](const std::string& n) { return n == "cpu" || n == "memory"; })) {
    errors.Forbidden(path, "HugePages require cpu or memory");
  }
}

void AddTo(Amounts& sum, const Amounts& more) {
  for (const auto& [name, amount] : more) sum[name].Add(amount);
}

// What the containers need at once: all that run, or one of the init phase beside the sidecars before it.
Amounts Aggregate(const corev1::PodSpec& spec, const ResourceMap& (*of)(const corev1::Container&)) {
  Amounts running, sidecars, peak;
  auto read = [&](const corev1::Container& container) {
    Amounts out;
    for (const auto& [name, quantity] : of(container)) out.emplace(name, Quantity::Of(quantity));
    return out;
  };
  auto at_least = [](Amounts& amounts, const Amounts& least) {
    for (const auto& [name, amount] : least) amounts[name] = std::max(amounts[name], amount);
  };
  for (const corev1::Container& container : spec.containers()) AddTo(running, read(container));
  for (const corev1::Container& container : spec.init_containers()) {
    Amounts step = read(container);
    const bool stays = container.restart_policy() == "Always";
    if (stays) AddTo(running, step);
    AddTo(step, sidecars);
    if (stays) sidecars = step;
    at_least(peak, step);
  }
  at_least(running, peak);
  return running;
}

const ResourceMap& RequestsOf(const corev1::Container& container) { return container.resources().requests(); }
const ResourceMap& LimitsOf(const corev1::Container& container) { return container.resources().limits(); }

}  // namespace

void ResourceRequirements(const corev1::ResourceRequirements& resources, const std::string& path,
                          Errors& errors) {
  Check(resources, false, path, errors);
}

void PodResources(const corev1::PodSpec& spec, const std::string& path, Errors& errors) {
  corev1::ResourceRequirements overhead;
  *overhead.mutable_limits() = spec.overhead();
  Check(overhead, false, Child(path, "overhead"), errors);
  if (!spec.has_resources()) return;
  const std::string here = Child(path, "resources");
  if (!spec.resources().claims().empty()) {
    errors.Forbidden(Child(here, "claims"), "claims may not be set for Resources at pod-level");
  }
  Check(spec.resources(), true, here, errors);
  const ResourceMap &requests = spec.resources().requests(), &limits = spec.resources().limits();
  for (const auto& [name, sum] : Aggregate(spec, RequestsOf)) {
    auto whole = requests.find(name);
    if (whole == requests.end() || sum.Cmp(Quantity::Of(whole->second)) <= 0) continue;
    errors.InvalidText(
        KeyOf(Child(here, "requests"), name), Quantity::Of(whole->second).ToString(),
        StrCat("must be greater than or equal to aggregate container requests of ", sum.ToString()));
  }
  for (const auto& [name, sum] : Aggregate(spec, LimitsOf)) {
    auto whole = limits.find(name);
    if (!IsHugePages(name) || whole == limits.end() || sum.Cmp(Quantity::Of(whole->second)) <= 0) continue;
    errors.InvalidText(
        KeyOf(Child(here, "limits"), name), Quantity::Of(whole->second).ToString(),
        StrCat("must be greater than or equal to aggregate container limits of ", sum.ToString()));
  }
  for (int i = 0; i < spec.containers_size(); ++i) {
    const std::map<std::string, ::k8s::api::resource::Quantity> own(
        spec.containers(i).resources().limits().begin(), spec.containers(i).resources().limits().end());
    for (const auto& [name, limit] : own) {
      auto whole = limits.find(name);
      if (whole == limits.end() || Quantity::Of(limit).Cmp(Quantity::Of(whole->second)) <= 0) continue;
      errors.InvalidText(
          Child(KeyOf(Index(Child(here, "containers"), static_cast<size_t>(i)), name), "limits"),
          Quantity::Of(limit).ToString(),
          StrCat("must be less than or equal to pod limits of ", Quantity::Of(whole->second).ToString()));
    }
  }
}

}  // namespace keelson::api::validation
