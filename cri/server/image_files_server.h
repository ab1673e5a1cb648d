// ImageFilesServer: ImageFilesService over images::ImageStore.
#pragma once

#include <absl/status/statusor.h>

#include "cri/image_files.h"
#include "images/image_store.h"

namespace keelson::cri {

class ImageFilesServer : public ImageFilesService {
 public:
  // `store` must outlive it.
  explicit ImageFilesServer(images::ImageStore& store) : store_(store) {}
  Task<absl::StatusOr<files::ImportResponse>> Import(files::ImportRequest request) override;
  Task<absl::StatusOr<files::ExportResponse>> Export(files::ExportRequest request) override;

 private:
  images::ImageStore& store_;
};

}  // namespace keelson::cri
