#include "master/controllers/node_ipam_controller.h"

#include <algorithm>

#include "api/object.h"
#include "api/status_error.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson::master {

namespace corev1 = ::k8s::core::v1;
using client::ObjectPtr;

namespace {

net::Cidr MustParse(const std::string& text) {
  absl::StatusOr<net::Cidr> cidr = net::Cidr::Parse(text);
  KEELSON_CHECK(cidr.ok(), "cluster CIDR \"", text, "\": ", cidr.status().message());
  return cidr->Masked();
}

std::vector<net::Cidr> CidrsOf(const corev1::Node& node) {
  std::vector<net::Cidr> out;
  auto add = [&](const std::string& text) {
    absl::StatusOr<net::Cidr> cidr = net::Cidr::Parse(text);
    if (cidr.ok()) out.push_back(cidr->Masked());
  };
  if (!node.spec().pod_cidr().empty()) add(node.spec().pod_cidr());
  for (const std::string& text : node.spec().pod_cidrs()) add(text);
  return out;
}

}  // namespace

CidrPool::CidrPool(net::Cidr cluster, int node_prefix_length)
    : cluster_(std::move(cluster)), prefix_(std::max(node_prefix_length, cluster_.prefix_length())) {
  blocks_ = uint64_t{1} << std::min(prefix_ - cluster_.prefix_length(), 32);
}

std::pair<uint64_t, uint64_t> CidrPool::Range(const net::Cidr& cidr) const {
  if (!cluster_.Overlaps(cidr)) return {0, 0};
  if (cidr.prefix_length() <= cluster_.prefix_length()) return {0, blocks_};
  uint64_t per_block = cluster_.size() / blocks_;
  absl::StatusOr<uint64_t> first = cluster_.IndexOf(cidr.network());
  absl::StatusOr<uint64_t> last = cluster_.IndexOf(cidr.last());
  if (!first.ok() || !last.ok()) return {0, 0};
  return {*first / per_block, *last / per_block + 1};
}

void CidrPool::Occupy(const net::Cidr& cidr) {
  auto [first, last] = Range(cidr);
  for (uint64_t i = first; i < last; ++i) taken_.insert(i);
}

void CidrPool::Release(const net::Cidr& cidr) {
  auto [first, last] = Range(cidr);
  for (uint64_t i = first; i < last; ++i) taken_.erase(i);
}

absl::StatusOr<net::Cidr> CidrPool::Allocate() {
  uint64_t free = 0;
  for (uint64_t block : taken_) {
    if (block != free) break;
    ++free;
  }
  if (free >= blocks_) {
    return absl::ResourceExhaustedError(
        StrCat("all ", blocks_, " blocks of ", cluster_.ToString(), " are in use"));
  }
  taken_.insert(free);
  return cluster_.Subnet(prefix_, free);
}

NodeIpamController::NodeIpamController(ControllerContext context, const std::string& cluster_cidr)
    : context_(context),
      nodes_(context.informers.For<corev1::Node>()),
      pool_(MustParse(cluster_cidr), MustParse(cluster_cidr).is_v4() ? kNodePrefixLength : 64),
      loop_(context.env, name(), *this) {
  nodes_.AddHandler([this](const ObjectPtr& before, const ObjectPtr& after) { OnNode(before, after); });
}

void NodeIpamController::Start() { loop_.Start(1); }
Task<void> NodeIpamController::Stop() { return loop_.Stop(); }

void NodeIpamController::OnNode(const ObjectPtr& before, const ObjectPtr& after) {
  const auto* old = before == nullptr ? nullptr : api::As<corev1::Node>(*before);
  if (after == nullptr) {
    for (const net::Cidr& cidr : CidrsOf(*old)) pool_.Release(cidr);
    return;
  }
  const auto* node = api::As<corev1::Node>(*after);
  if (node->spec().pod_cidr().empty()) return loop_.queue().Add(node->metadata().name());
  if (old == nullptr || old->spec().pod_cidr().empty()) {
    for (const net::Cidr& cidr : CidrsOf(*node)) pool_.Occupy(cidr);
  }
}

Task<absl::StatusOr<client::Requeue>> NodeIpamController::Reconcile(std::string key) {
  auto node = nodes_.Get<corev1::Node>(key);
  if (node == nullptr || !node->spec().pod_cidr().empty()) co_return client::Requeue();
  absl::StatusOr<net::Cidr> cidr = pool_.Allocate();
  if (!cidr.ok()) {
    context_.events.Event(*node, "Normal", "CIDRNotAvailable",
                          StrCat("Node ", key, " status is now: CIDRNotAvailable"));
    co_return cidr.status();
  }
  std::string text = cidr->ToString();
  std::string patch = StrCat(R"({"metadata":{"uid":")", node->metadata().uid(), R"("},"spec":{"podCIDR":")",
                             text, R"(","podCIDRs":[")", text, R"("]}})");
  Task<absl::StatusOr<NodePtr>> task =
      context_.client.Patch<corev1::Node>("", key, client::PatchType::kStrategicMerge, std::move(patch));
  absl::StatusOr<NodePtr> patched = co_await std::move(task);
  if (patched.ok()) co_return client::Requeue();
  // Whether it was written is not certain: what the node then carries is occupied again by its event.
  pool_.Release(*cidr);
  if (api::IsNotFound(patched.status())) co_return client::Requeue();
  co_return patched.status();
}

}  // namespace keelson::master
