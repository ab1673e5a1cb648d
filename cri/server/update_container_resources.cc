#include <utility>

#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/server/runtime_server.h"

namespace keelson::cri {

namespace {

// Zero and "" mean "as it is" in CRI: what is set replaces, the rest stays.
void Merge(const v1::LinuxContainerResources& from, v1::LinuxContainerResources* to) {
  int64_t oom_score_adj = to->oom_score_adj();
  auto keep_unified = to->unified();
  to->MergeFrom(from);
  // A change of the score of a running process is not what this call is for.
  to->set_oom_score_adj(oom_score_adj);
  if (from.hugepage_limits_size() > 0) *to->mutable_hugepage_limits() = from.hugepage_limits();
  for (const auto& [file, value] : keep_unified) to->mutable_unified()->insert({file, value});
}

}  // namespace

Task<absl::StatusOr<v1::UpdateContainerResourcesResponse>> RuntimeServer::UpdateContainerResources(
    v1::UpdateContainerResourcesRequest request) {
  CO_ASSIGN_OR_RETURN_SYNC(std::shared_ptr<Container> container, FindContainer(request.container_id()));
  Task<AsyncMutex::Guard> lock = container->mutex.Lock();
  AsyncMutex::Guard guard = co_await std::move(lock);
  records::Container& record = container->record;
  if (container->removed || record.removing() || record.state() == records::CONTAINER_EXITED) {
    co_return absl::FailedPreconditionError(StrCat("update container ", record.id(), ": it has ended"));
  }
  v1::LinuxContainerResources merged = record.resources();
  Merge(request.linux(), &merged);
  CO_ASSIGN_OR_RETURN_SYNC(std::string json, oci::GenerateResources(merged, deps_.host));
  if (record.state() == records::CONTAINER_CREATED) {
    // The bundle waits for its start: only its limits are written anew.
    auto replace = [path = ContainerDir(record.id()) + "/config.json", json]() -> absl::Status {
      ASSIGN_OR_RETURN(std::string config, ReadFile(path, kMaxConfigJsonBytes));
      ASSIGN_OR_RETURN(std::string changed, oci::ReplaceResources(config, json));
      return WriteFileAtomic(path, changed, 0600, /*durable=*/false);
    };
    Task<absl::Status> replaced = env_.Blocking<absl::Status>(replace);
    absl::Status status = co_await std::move(replaced);
    if (!status.ok()) co_return Annotate(status, StrCat("update container ", record.id()));
  } else {
    CO_ASSIGN_OR_RETURN_SYNC(oci::OciRuntime * runtime, RuntimeFor(record.runtime_handler()));
    CO_RETURN_IF_ERROR(runtime->Update(record.id(), json));
  }
  *record.mutable_resources() = merged;
  CO_RETURN_IF_ERROR_SYNC(Save(*container));
  co_return v1::UpdateContainerResourcesResponse();
}

}  // namespace keelson::cri
