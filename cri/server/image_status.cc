#include "base/status.h"
#include "cri/server/image_server.h"
#include "cri/server/verbose_info.h"
#include "images/records.h"

namespace keelson::cri {

Task<absl::StatusOr<v1::ImageStatusResponse>> ImageServer::ImageStatus(v1::ImageStatusRequest request) {
  if (request.image().image().empty()) co_return absl::InvalidArgumentError("image.image: required");
  CO_RETURN_IF_ERROR_SYNC(CheckImageHandler(request.image(), runtime_handlers_));
  v1::ImageStatusResponse response;
  const images::ImageRecord* record = store_.Find(request.image().image());
  if (record == nullptr) co_return response;
  *response.mutable_image() = ImageOf(*record);
  if (request.verbose()) {
    std::vector<std::string> chain = images::ChainIdsOf(record->config.diff_ids);
    (*response.mutable_info())["info"] =
        ImageInfoJson(chain.empty() ? "" : chain.back(), record->config_json);
  }
  co_return response;
}

}  // namespace keelson::cri
