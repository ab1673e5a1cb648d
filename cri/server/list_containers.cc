#include "cri/server/runtime_server.h"

namespace keelson::cri {

namespace {

bool Fits(const v1::ContainerFilter& filter, const Container& container) {
  const records::Container& record = container.record;
  return FitsId(filter.id(), record.id()) && FitsId(filter.pod_sandbox_id(), record.sandbox_id()) &&
         (!filter.has_state() || filter.state().state() == StateOf(container)) &&
         Selects(filter.label_selector(), record.config().labels());
}

}  // namespace

v1::Container RuntimeServer::ContainerItemOf(const Container& container) const {
  const records::Container& record = container.record;
  v1::Container item;
  item.set_id(record.id());
  item.set_pod_sandbox_id(record.sandbox_id());
  *item.mutable_metadata() = record.config().metadata();
  *item.mutable_image() = record.config().image();
  item.set_image_ref(record.image_ref());
  item.set_image_id(record.image_id());
  item.set_state(StateOf(container));
  item.set_created_at(record.created_at_ns());
  *item.mutable_labels() = record.config().labels();
  *item.mutable_annotations() = record.config().annotations();
  return item;
}

void RuntimeServer::AddContainers(const v1::ContainerFilter& filter,
                                  google::protobuf::RepeatedPtrField<v1::Container>* out) const {
  for (const auto& [id, container] : containers_) {
    if (Fits(filter, *container)) *out->Add() = ContainerItemOf(*container);
  }
}

Task<absl::StatusOr<v1::ListContainersResponse>> RuntimeServer::ListContainers(
    v1::ListContainersRequest request) {
  v1::ListContainersResponse response;
  AddContainers(request.filter(), response.mutable_containers());
  co_return response;
}

Task<absl::StatusOr<v1::StreamContainersResponse>> RuntimeServer::StreamContainers(
    v1::StreamContainersRequest request) {
  v1::StreamContainersResponse response;
  AddContainers(request.filter(), response.mutable_containers());
  co_return response;
}

}  // namespace keelson::cri
