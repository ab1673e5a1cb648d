// ImageFilesService: images from and to files, through the server that holds the image store. Our own, not
// CRI's; served beside it on the same socket. Same rules as cri/runtime_service.h.
#pragma once

#include <absl/status/statusor.h>

#include "base/task.h"
#include "cri/proto/keelson/image_files.pb.h"

namespace keelson::cri {

class ImageFilesService {
 public:
  virtual ~ImageFilesService() = default;
  virtual Task<absl::StatusOr<files::ImportResponse>> Import(files::ImportRequest request) = 0;
  virtual Task<absl::StatusOr<files::ExportResponse>> Export(files::ExportRequest request) = 0;
};

}  // namespace keelson::cri
