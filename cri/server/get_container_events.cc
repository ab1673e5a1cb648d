#include "cri/server/runtime_server.h"

namespace keelson::cri {

Task<absl::StatusOr<std::unique_ptr<ContainerEventReader>>> RuntimeServer::GetContainerEvents(
    v1::GetEventsRequest request) {
  co_return events_.Subscribe();
}

}  // namespace keelson::cri
