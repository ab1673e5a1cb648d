#include "master/apiserver/pod_qos.h"

#include <map>
#include <string>

#include "api/quantity.h"

namespace keelson::master {
namespace {

using api::Quantity;
using Resources = google::protobuf::Map<std::string, ::k8s::api::resource::Quantity>;

// Adds the cpu and memory entries that are not zero; returns how many.
int Sum(const Resources& from, std::map<std::string, Quantity>& into) {
  int found = 0;
  for (const char* name : {"cpu", "memory"}) {
    auto it = from.find(name);
    if (it == from.end()) continue;
    Quantity q = Quantity::Of(it->second);
    if (q.Sign() <= 0) continue;
    into[name].Add(q);
    ++found;
  }
  return found;
}

}  // namespace

std::string_view PodQosClass(const ::k8s::core::v1::PodSpec& spec) {
  std::map<std::string, Quantity> requests, limits;
  bool guaranteed = true;
  auto visit = [&](const ::k8s::core::v1::ResourceRequirements& r) {
    Sum(r.requests(), requests);
    if (Sum(r.limits(), limits) != 2) guaranteed = false;
  };
  if (spec.has_resources() && (!spec.resources().requests().empty() || !spec.resources().limits().empty())) {
    visit(spec.resources());
  } else {
    for (const auto& c : spec.containers()) visit(c.resources());
    for (const auto& c : spec.init_containers()) visit(c.resources());
  }
  if (requests.empty() && limits.empty()) return "BestEffort";
  return guaranteed && requests == limits ? "Guaranteed" : "Burstable";
}

}  // namespace keelson::master
