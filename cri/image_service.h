// ImageService: the image half of the Container Runtime Interface v1. Same rules as cri/runtime_service.h.
#pragma once

#include <absl/status/statusor.h>

#include "base/task.h"
#include "cri/proto/runtime/v1/api.pb.h"

namespace keelson::cri {

namespace v1 = ::runtime::v1;

class ImageService {
 public:
  virtual ~ImageService() = default;

  // With filter.image.image set: the image of that reference or ID only.
  virtual Task<absl::StatusOr<v1::ListImagesResponse>> ListImages(v1::ListImagesRequest request) = 0;
  // All parts of the stream merged into one response.
  virtual Task<absl::StatusOr<v1::StreamImagesResponse>> StreamImages(v1::StreamImagesRequest request) = 0;
  // An absent image is success with has_image() == false.
  virtual Task<absl::StatusOr<v1::ImageStatusResponse>> ImageStatus(v1::ImageStatusRequest request) = 0;
  // Returns when the image can be used; image_ref is what CreateContainer takes. May take minutes.
  virtual Task<absl::StatusOr<v1::PullImageResponse>> PullImage(v1::PullImageRequest request) = 0;
  // Removing an absent image is success.
  virtual Task<absl::StatusOr<v1::RemoveImageResponse>> RemoveImage(v1::RemoveImageRequest request) = 0;
  virtual Task<absl::StatusOr<v1::ImageFsInfoResponse>> ImageFsInfo(v1::ImageFsInfoRequest request) = 0;
};

}  // namespace keelson::cri
