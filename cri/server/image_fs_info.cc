#include "base/status.h"
#include "cri/server/image_server.h"

namespace keelson::cri {

Task<absl::StatusOr<v1::ImageFsInfoResponse>> ImageServer::ImageFsInfo(v1::ImageFsInfoRequest request) {
  CO_ASSIGN_OR_RETURN(images::UsageBytes usage, store_.Usage());
  v1::FilesystemUsage images;
  images.set_timestamp(absl::ToUnixNanos(env_.clock().Now()));
  images.mutable_fs_id()->set_mountpoint(store_.mount_point());
  images.mutable_used_bytes()->set_value(usage.used_bytes);
  images.mutable_inodes_used()->set_value(usage.inodes);
  v1::ImageFsInfoResponse response;
  // Layers and the containers' writable layers share one file system.
  *response.add_container_filesystems() = images;
  *response.add_image_filesystems() = std::move(images);
  co_return response;
}

}  // namespace keelson::cri
