#include "master/controllers/slice_writer.h"

#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <utility>

#include "api/status_error.h"

namespace keelson::master {

using google::protobuf::util::MessageDifferencer;
using Slice = ::k8s::discovery::v1::EndpointSlice;
using SlicePtr = std::shared_ptr<const Slice>;

namespace {

bool SameFamilyAndPorts(const Slice& a, const Slice& b) {
  return a.address_type() == b.address_type() &&
         std::equal(a.ports().begin(), a.ports().end(), b.ports().begin(), b.ports().end(),
                    [](const auto& x, const auto& y) { return MessageDifferencer::Equals(x, y); });
}

std::vector<SlicePtr>::iterator ToTakeOver(std::vector<SlicePtr>& existing, const Slice& want,
                                           const std::vector<Slice>& wanted) {
  auto same = std::find_if(existing.begin(), existing.end(),
                           [&](const SlicePtr& slice) { return SameFamilyAndPorts(*slice, want); });
  if (same != existing.end()) return same;
  return std::find_if(existing.begin(), existing.end(), [&](const SlicePtr& slice) {
    return slice->address_type() == want.address_type() &&  // which cannot change
           std::none_of(wanted.begin(), wanted.end(),
                        [&](const Slice& other) { return SameFamilyAndPorts(*slice, other); });
  });
}

}  // namespace

Task<absl::StatusOr<bool>> WriteSlices(client::ApiClient* client, std::vector<SlicePtr> existing,
                                       std::vector<Slice> wanted, SliceMetadata metadata) {
  bool written = false;
  for (const Slice& want : wanted) {
    auto reuse = ToTakeOver(existing, want, wanted);
    if (reuse == existing.end()) {
      written = true;
      Task<absl::StatusOr<SlicePtr>> create = client->Create<Slice>(want);
      absl::StatusOr<SlicePtr> created = co_await std::move(create);
      if (!created.ok()) co_return created.status();
      continue;
    }
    SlicePtr current = *reuse;
    existing.erase(reuse);
    Slice updated = *current;
    *updated.mutable_endpoints() = want.endpoints();
    *updated.mutable_ports() = want.ports();
    *updated.mutable_metadata()->mutable_labels() = want.metadata().labels();
    if (metadata == SliceMetadata::kLabelsAnnotationsAndOwners) {
      *updated.mutable_metadata()->mutable_annotations() = want.metadata().annotations();
      *updated.mutable_metadata()->mutable_owner_references() = want.metadata().owner_references();
    }
    if (MessageDifferencer::Equals(updated, *current)) continue;
    written = true;
    Task<absl::StatusOr<SlicePtr>> update = client->Update<Slice>(std::move(updated));
    absl::StatusOr<SlicePtr> result = co_await std::move(update);
    if (!result.ok()) co_return result.status();
  }
  for (const SlicePtr& extra : existing) {
    Task<absl::Status> remove =
        client->Delete<Slice>(extra->metadata().namespace_(), extra->metadata().name());
    absl::Status removed = co_await std::move(remove);
    if (!removed.ok() && !api::IsNotFound(removed)) co_return removed;
  }
  co_return written;
}

}  // namespace keelson::master
