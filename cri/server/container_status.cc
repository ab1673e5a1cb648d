#include "base/fd.h"
#include "base/status.h"
#include "cri/server/runtime_server.h"
#include "cri/server/verbose_info.h"
#include "oci/signals.h"

namespace keelson::cri {

v1::ImageSpec ShownImage(const v1::ImageSpec& asked, const images::ImageRecord* image) {
  v1::ImageSpec shown = asked;
  if (image != nullptr && !image->repo_tags.empty()) shown.set_image(image->repo_tags.front());
  return shown;
}

v1::ContainerStatus RuntimeServer::ContainerStatusOf(const Container& container) const {
  const records::Container& record = container.record;
  v1::ContainerStatus status;
  status.set_id(record.id());
  *status.mutable_metadata() = record.config().metadata();
  status.set_state(StateOf(container));
  status.set_created_at(record.created_at_ns());
  status.set_started_at(record.started_at_ns());
  status.set_finished_at(record.finished_at_ns());
  status.set_exit_code(record.exit_code());
  *status.mutable_image() = ShownImage(record.config().image(), deps_.images->Find(record.image_id()));
  status.set_image_ref(record.image_ref());
  status.set_image_id(record.image_id());
  status.set_reason(record.reason());
  status.set_message(record.message());
  *status.mutable_labels() = record.config().labels();
  *status.mutable_annotations() = record.config().annotations();
  *status.mutable_mounts() = record.config().mounts();
  for (v1::Mount& mount : *status.mutable_mounts()) {
    if (!mount.has_image() || !mount.image().image_ref().empty()) continue;
    // Made by an older server, which did not keep it.
    const images::ImageRecord* image = deps_.images->Find(mount.image().image());
    if (image != nullptr) mount.mutable_image()->set_image_ref(image->id);
  }
  status.set_log_path(record.log_path());
  *status.mutable_resources()->mutable_linux() = record.resources();
  *status.mutable_user() = record.user();
  absl::StatusOr<int> stop_signal = oci::ParseSignal(record.stop_signal());
  if (stop_signal.ok()) status.set_stop_signal(oci::SignalToCri(*stop_signal));
  return status;
}

Task<absl::StatusOr<v1::ContainerStatusResponse>> RuntimeServer::ContainerStatus(
    v1::ContainerStatusRequest request) {
  CO_ASSIGN_OR_RETURN_SYNC(std::shared_ptr<Container> container, FindContainer(request.container_id()));
  v1::ContainerStatusResponse response;
  *response.mutable_status() = ContainerStatusOf(*container);
  if (request.verbose()) {
    absl::StatusOr<std::string> spec =
        ReadFile(ContainerDir(container->record.id()) + "/config.json", kMaxConfigJsonBytes);
    (*response.mutable_info())["info"] = ContainerInfoJson(container->record, spec.ok() ? *spec : "");
  }
  co_return response;
}

}  // namespace keelson::cri
