#include <absl/strings/numbers.h>

#include "base/status.h"
#include "base/strings.h"
#include "cri/server/image_server.h"

namespace keelson::cri {

v1::Image ImageOf(const images::ImageRecord& record) {
  v1::Image image;
  image.set_id(record.id);
  image.mutable_repo_tags()->Assign(record.repo_tags.begin(), record.repo_tags.end());
  image.mutable_repo_digests()->Assign(record.repo_digests.begin(), record.repo_digests.end());
  image.set_size(record.size_bytes);
  image.set_pinned(record.pinned);
  std::string_view user = record.config.user;
  user = user.substr(0, user.find(':'));
  int64_t uid = 0;
  if (absl::SimpleAtoi(Av(user), &uid)) {
    image.mutable_uid()->set_value(uid);
  } else {
    image.set_username(std::string(user));
  }
  image.mutable_spec()->set_image(record.id);
  return image;
}

namespace {

template <class Response>
Response List(const images::ImageStore& store, const v1::ImageFilter& filter) {
  Response response;
  if (!filter.image().image().empty()) {
    const images::ImageRecord* record = store.Find(filter.image().image());
    if (record != nullptr) *response.add_images() = ImageOf(*record);
    return response;
  }
  for (const images::ImageRecord* record : store.List()) *response.add_images() = ImageOf(*record);
  return response;
}

}  // namespace

Task<absl::StatusOr<v1::ListImagesResponse>> ImageServer::ListImages(v1::ListImagesRequest request) {
  CO_RETURN_IF_ERROR_SYNC(CheckImageHandler(request.filter().image(), runtime_handlers_));
  co_return List<v1::ListImagesResponse>(store_, request.filter());
}

Task<absl::StatusOr<v1::StreamImagesResponse>> ImageServer::StreamImages(v1::StreamImagesRequest request) {
  CO_RETURN_IF_ERROR_SYNC(CheckImageHandler(request.filter().image(), runtime_handlers_));
  co_return List<v1::StreamImagesResponse>(store_, request.filter());
}

}  // namespace keelson::cri
