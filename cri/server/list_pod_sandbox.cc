#include "cri/server/runtime_server.h"

namespace keelson::cri {

namespace {

bool Fits(const v1::PodSandboxFilter& filter, const Sandbox& sandbox) {
  return FitsId(filter.id(), sandbox.record.id()) &&
         (!filter.has_state() || filter.state().state() == StateOf(sandbox.record)) &&
         Selects(filter.label_selector(), sandbox.record.config().labels());
}

}  // namespace

v1::PodSandbox RuntimeServer::SandboxItemOf(const Sandbox& sandbox) const {
  const records::Sandbox& record = sandbox.record;
  v1::PodSandbox item;
  item.set_id(record.id());
  *item.mutable_metadata() = record.config().metadata();
  item.set_state(StateOf(record));
  item.set_created_at(record.created_at_ns());
  *item.mutable_labels() = record.config().labels();
  *item.mutable_annotations() = record.config().annotations();
  item.set_runtime_handler(record.runtime_handler());
  return item;
}

void RuntimeServer::AddSandboxes(const v1::PodSandboxFilter& filter,
                                 google::protobuf::RepeatedPtrField<v1::PodSandbox>* out) const {
  for (const auto& [id, sandbox] : sandboxes_) {
    if (Fits(filter, *sandbox)) *out->Add() = SandboxItemOf(*sandbox);
  }
}

Task<absl::StatusOr<v1::ListPodSandboxResponse>> RuntimeServer::ListPodSandbox(
    v1::ListPodSandboxRequest request) {
  v1::ListPodSandboxResponse response;
  AddSandboxes(request.filter(), response.mutable_items());
  co_return response;
}

Task<absl::StatusOr<v1::StreamPodSandboxesResponse>> RuntimeServer::StreamPodSandboxes(
    v1::StreamPodSandboxesRequest request) {
  v1::StreamPodSandboxesResponse response;
  AddSandboxes(request.filter(), response.mutable_pod_sandboxes());
  co_return response;
}

}  // namespace keelson::cri
