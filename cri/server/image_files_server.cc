#include "cri/server/image_files_server.h"

#include "base/status.h"
#include "base/strings.h"

namespace keelson::cri {

namespace {

absl::Status CheckAbsolute(const std::string& path) {
  if (path.starts_with("/") && path.find('\0') == std::string::npos) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat("path: \"", path, "\" is not absolute"));
}

}  // namespace

Task<absl::StatusOr<files::ImportResponse>> ImageFilesServer::Import(files::ImportRequest request) {
  CO_RETURN_IF_ERROR_SYNC(CheckAbsolute(request.path()));
  CO_ASSIGN_OR_RETURN(std::vector<std::string> ids, store_.Import(request.path()));
  files::ImportResponse response;
  for (const std::string& id : ids) {
    files::ImportedImage* image = response.add_images();
    image->set_id(id);
    const images::ImageRecord* record = store_.Find(id);
    if (record == nullptr) continue;
    image->mutable_repo_tags()->Assign(record->repo_tags.begin(), record->repo_tags.end());
  }
  co_return response;
}

Task<absl::StatusOr<files::ExportResponse>> ImageFilesServer::Export(files::ExportRequest request) {
  CO_RETURN_IF_ERROR_SYNC(CheckAbsolute(request.path()));
  CO_RETURN_IF_ERROR(store_.Export(request.image(), request.path(), request.docker_archive()));
  co_return files::ExportResponse();
}

}  // namespace keelson::cri
