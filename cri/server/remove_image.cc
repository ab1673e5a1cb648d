#include "base/status.h"
#include "cri/server/image_server.h"

namespace keelson::cri {

Task<absl::StatusOr<v1::RemoveImageResponse>> ImageServer::RemoveImage(v1::RemoveImageRequest request) {
  if (request.image().image().empty()) co_return absl::InvalidArgumentError("image.image: required");
  CO_RETURN_IF_ERROR_SYNC(CheckImageHandler(request.image(), runtime_handlers_));
  // CRI: the image and all its names go, by whichever it is named.
  std::string name = request.image().image();
  const images::ImageRecord* record = store_.Find(name);
  if (record == nullptr) co_return v1::RemoveImageResponse();
  CO_RETURN_IF_ERROR(store_.Remove(record->id));
  co_return v1::RemoveImageResponse();
}

}  // namespace keelson::cri
