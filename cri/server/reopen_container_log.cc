#include <utility>

#include "base/status.h"
#include "cri/server/runtime_server.h"

namespace keelson::cri {

Task<absl::StatusOr<v1::ReopenContainerLogResponse>> RuntimeServer::ReopenContainerLog(
    v1::ReopenContainerLogRequest request) {
  CO_ASSIGN_OR_RETURN_SYNC(std::shared_ptr<Container> container,
                           FindRunningContainer(request.container_id()));
  if (!container->record.log_path().empty()) {
    CO_ASSIGN_OR_RETURN_SYNC(std::shared_ptr<Sandbox> sandbox, FindSandbox(container->record.sandbox_id()));
    auto prepare = [directory = sandbox->record.config().log_directory(),
                    path = container->record.config().log_path()] { return PrepareLog(directory, path); };
    Task<absl::Status> prepared = env_.Blocking<absl::Status>(prepare);
    absl::Status status = co_await std::move(prepared);
    if (!status.ok()) co_return status;
    CO_RETURN_IF_ERROR(deps_.monitor->ReopenLog(ContainerDir(container->record.id())));
  }
  co_return v1::ReopenContainerLogResponse();
}

}  // namespace keelson::cri
