#include "master/controllers/endpoint_slice_mirroring_controller.h"

#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <map>
#include <utility>

#include "api/object.h"
#include "base/status.h"
#include "base/strings.h"
#include "master/controllers/service_endpoints.h"
#include "master/controllers/slice_writer.h"
#include "net/address.h"

namespace keelson::master {

namespace corev1 = ::k8s::core::v1;
namespace discoveryv1 = ::k8s::discovery::v1;
using client::ObjectPtr;
using google::protobuf::util::MessageDifferencer;

namespace {

constexpr int kMirroringWorkers = 5;
constexpr char kMirrorManagedBy[] = "endpointslicemirroring-controller.k8s.io";
constexpr char kSkipMirrorLabel[] = "endpointslice.kubernetes.io/skip-mirror";
constexpr char kLeaderAnnotation[] = "control-plane.alpha.kubernetes.io/leader";
constexpr char kChangeTimeAnnotation[] = "endpoints.kubernetes.io/last-change-trigger-time";
constexpr char kLastAppliedAnnotation[] = "kubectl.kubernetes.io/last-applied-configuration";
constexpr char kMirrorsByEndpoints[] = "mirrored-endpoints";

// Family and ports, sorted.
using MirrorKey = std::pair<std::string, std::vector<ResolvedPort>>;

discoveryv1::EndpointSlice MirrorSlice(const corev1::Endpoints& endpoints, const MirrorKey& key) {
  discoveryv1::EndpointSlice slice;
  auto* meta = slice.mutable_metadata();
  meta->set_namespace_(endpoints.metadata().namespace_());
  meta->set_generate_name(endpoints.metadata().name() + "-");
  *meta->mutable_labels() = endpoints.metadata().labels();
  (*meta->mutable_labels())[kServiceNameLabel] = endpoints.metadata().name();
  (*meta->mutable_labels())[kSliceManagedByLabel] = kMirrorManagedBy;
  for (const auto& [name, value] : endpoints.metadata().annotations()) {
    if (name != kChangeTimeAnnotation && name != kLastAppliedAnnotation) {
      (*meta->mutable_annotations())[name] = value;
    }
  }
  auto* owner = meta->add_owner_references();
  owner->set_api_version("v1");
  owner->set_kind("Endpoints");
  owner->set_name(endpoints.metadata().name());
  owner->set_uid(endpoints.metadata().uid());
  owner->set_controller(true);
  owner->set_block_owner_deletion(true);
  slice.set_address_type(key.first);
  AddPorts(key.second, &slice);
  return slice;
}

bool SameEndpoint(const discoveryv1::Endpoint& a, const discoveryv1::Endpoint& b) {
  return a.addresses(0) == b.addresses(0) && a.hostname() == b.hostname() && a.node_name() == b.node_name() &&
         MessageDifferencer::Equals(a.target_ref(), b.target_ref());
}

}  // namespace

EndpointsMirror MirrorOf(const corev1::Endpoints& endpoints) {
  EndpointsMirror out;
  std::map<MirrorKey, std::vector<discoveryv1::Endpoint>> groups;
  for (const corev1::EndpointSubset& subset : endpoints.subsets()) {
    std::vector<ResolvedPort> ports;
    for (const corev1::EndpointPort& port : subset.ports()) {
      ports.push_back(
          {port.name(), port.protocol().empty() ? "TCP" : port.protocol(), port.app_protocol(), port.port()});
    }
    std::sort(ports.begin(), ports.end());
    int taken = 0;
    auto add = [&](const corev1::EndpointAddress& address, bool ready) {
      if (taken == kMaxMirroredAddresses) {
        ++out.over;
        return;
      }
      absl::StatusOr<net::IpAddress> ip = net::IpAddress::Parse(address.ip());
      if (!ip.ok()) {
        ++out.invalid;
        return;
      }
      ++taken;
      discoveryv1::Endpoint endpoint;
      endpoint.add_addresses(ip->ToString());
      endpoint.mutable_conditions()->set_ready(ready);
      if (!address.hostname().empty()) endpoint.set_hostname(address.hostname());
      if (address.has_node_name()) endpoint.set_node_name(address.node_name());
      if (address.has_target_ref()) *endpoint.mutable_target_ref() = address.target_ref();
      auto& group = groups[{ip->is_v6() ? "IPv6" : "IPv4", ports}];
      auto known = std::find_if(group.begin(), group.end(),
                                [&](const auto& other) { return SameEndpoint(other, endpoint); });
      if (known != group.end()) {
        *known = std::move(endpoint);
      } else if (group.size() < static_cast<size_t>(kMaxMirroredAddresses)) {
        group.push_back(std::move(endpoint));
      } else {
        ++out.over;
      }
    };
    for (const auto& address : subset.addresses()) add(address, true);
    for (const auto& address : subset.not_ready_addresses()) add(address, false);
  }
  for (auto& [key, members] : groups) {
    discoveryv1::EndpointSlice& slice = out.slices.emplace_back(MirrorSlice(endpoints, key));
    for (discoveryv1::Endpoint& endpoint : members) *slice.add_endpoints() = std::move(endpoint);
  }
  return out;
}

EndpointSliceMirroringController::EndpointSliceMirroringController(ControllerContext context)
    : context_(context),
      services_(context.informers.For<corev1::Service>()),
      endpoints_(context.informers.For<corev1::Endpoints>()),
      slices_(context.informers.For<Slice>()),
      loop_(context.env, name(), *this) {
  slices_.AddIndex(kMirrorsByEndpoints, [](const api::Message& object) {
    std::string key = ServiceOfSlice(object, kMirrorManagedBy);
    return key.empty() ? std::vector<std::string>() : std::vector<std::string>({key});
  });
  for (client::Informer* informer : {&services_, &endpoints_}) {
    informer->AddHandler([this](const ObjectPtr& before, const ObjectPtr& after) {
      loop_.queue().Add(api::NamespacedName(after != nullptr ? *after : *before));
    });
  }
  slices_.AddHandler([this](const ObjectPtr& before, const ObjectPtr& after) {
    for (const ObjectPtr& slice : {before, after}) {
      std::string key = slice == nullptr ? "" : ServiceOfSlice(*slice, kMirrorManagedBy);
      if (!key.empty()) loop_.queue().Add(key);
    }
  });
}

void EndpointSliceMirroringController::Start() { loop_.Start(kMirroringWorkers); }
Task<void> EndpointSliceMirroringController::Stop() { return loop_.Stop(); }

EndpointSliceMirroringController::EndpointsPtr EndpointSliceMirroringController::Mirrored(
    const std::string& key) const {
  auto service = services_.Get<corev1::Service>(key);
  if (service == nullptr || !service->spec().selector().empty()) return nullptr;
  EndpointsPtr endpoints = endpoints_.Get<corev1::Endpoints>(key);
  if (endpoints == nullptr || endpoints->metadata().has_deletion_timestamp()) return nullptr;
  const auto& labels = endpoints->metadata().labels();
  auto skip = labels.find(kSkipMirrorLabel);
  if (skip != labels.end() && skip->second == "true") return nullptr;
  return endpoints->metadata().annotations().contains(kLeaderAnnotation) ? nullptr : endpoints;
}

void EndpointSliceMirroringController::TellOfLosses(const corev1::Endpoints& endpoints, int invalid,
                                                    int over) {
  if (invalid > 0) {
    context_.events.Event(
        endpoints, "Warning", "InvalidIPAddress",
        StrCat("Skipped ", invalid, " invalid IP addresses when mirroring to EndpointSlices"));
  }
  if (over > 0) {
    context_.events.Event(endpoints, "Warning", "TooManyAddressesToMirror",
                          StrCat("A max of ", kMaxMirroredAddresses,
                                 " addresses can be mirrored to EndpointSlices per Endpoints subset. ",
                                 invalid + over, " addresses were skipped"));
  }
}

Task<absl::StatusOr<client::Requeue>> EndpointSliceMirroringController::Reconcile(std::string key) {
  EndpointsMirror mirror;
  EndpointsPtr endpoints = Mirrored(key);
  if (endpoints != nullptr) mirror = MirrorOf(*endpoints);
  std::vector<SlicePtr> existing;
  for (const ObjectPtr& object : slices_.ByIndex(kMirrorsByEndpoints, key)) {
    existing.push_back(api::As<Slice>(object));
  }
  const bool nothing_left = mirror.slices.empty() && mirror.invalid > 0;
  Task<absl::StatusOr<bool>> write =
      WriteSlices(&context_.client, std::move(existing), std::move(mirror.slices),
                  SliceMetadata::kLabelsAnnotationsAndOwners);
  absl::StatusOr<bool> written = co_await std::move(write);
  if (!written.ok()) co_return written.status();
  if (*written || nothing_left) TellOfLosses(*endpoints, mirror.invalid, mirror.over);
  co_return client::Requeue();
}

}  // namespace keelson::master
