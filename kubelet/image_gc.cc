#include "kubelet/image_gc.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <limits>

#include "base/log.h"
#include "base/status.h"

namespace keelson::kubelet {

std::vector<std::string> PlanImageGc(std::vector<ImageRecord> images, int64_t bytes, absl::Duration min_age,
                                     absl::Time now) {
  std::sort(images.begin(), images.end(), [](const auto& a, const auto& b) {
    if (a.last_used != b.last_used) return a.last_used < b.last_used;
    return a.first_seen != b.first_seen ? a.first_seen < b.first_seen : a.id < b.id;
  });
  std::vector<std::string> out;
  for (const ImageRecord& image : images) {
    if (bytes <= 0) break;
    if (image.in_use || image.pinned || now - image.first_seen < min_age) continue;
    out.push_back(image.id);
    bytes -= static_cast<int64_t>(image.size_bytes);
  }
  return out;
}

int64_t BytesToFree(int64_t capacity, int64_t available, int high_percent, int low_percent) {
  if (capacity <= 0) return 0;
  available = std::min(available, capacity);
  int64_t used_percent = 100 - available * 100 / capacity;
  if (used_percent < high_percent) return 0;
  return std::max<int64_t>(capacity * (100 - low_percent) / 100 - available, 0);
}

ImageGc::ImageGc(Env& env, cri::RuntimeService& runtime, cri::ImageService& images,
                 const KubeletOptions& options)
    : env_(env), runtime_(runtime), images_(images), options_(options) {}

Task<absl::Status> ImageGc::NoteImages() {
  const absl::Time now = env_.clock().Now();
  criv1::ListImagesRequest list_images;
  CO_ASSIGN_OR_RETURN(criv1::ListImagesResponse images, images_.ListImages(std::move(list_images)));
  criv1::ListContainersRequest list_containers;
  CO_ASSIGN_OR_RETURN(criv1::ListContainersResponse containers,
                      runtime_.ListContainers(std::move(list_containers)));
  std::set<std::string> used;
  for (const auto& c : containers.containers()) {
    used.insert(c.image_ref());
    used.insert(c.image_id());
    used.insert(c.image().image());
  }
  std::map<std::string, ImageRecord> next;
  for (const auto& image : images.images()) {
    ImageRecord r;
    if (auto it = records_.find(image.id()); it != records_.end()) {
      r = it->second;
    } else {
      r.id = image.id();
      r.first_seen = now;
      r.last_used = absl::InfinitePast();
    }
    r.size_bytes = image.size();
    r.pinned = image.pinned();
    r.in_use = used.count(image.id()) > 0;
    for (const auto& name : image.repo_tags()) r.in_use = r.in_use || used.count(name) > 0;
    for (const auto& name : image.repo_digests()) r.in_use = r.in_use || used.count(name) > 0;
    if (r.in_use) r.last_used = now;
    next[r.id] = r;
  }
  records_ = std::move(next);
  co_return absl::OkStatus();
}

Task<absl::Status> ImageGc::Collect() {
  CO_RETURN_IF_ERROR(NoteImages());
  criv1::ImageFsInfoRequest ask;
  CO_ASSIGN_OR_RETURN(criv1::ImageFsInfoResponse info, images_.ImageFsInfo(std::move(ask)));
  if (info.image_filesystems_size() == 0) co_return absl::OkStatus();
  struct statvfs fs;
  if (::statvfs(info.image_filesystems(0).fs_id().mountpoint().c_str(), &fs) != 0) co_return absl::OkStatus();
  const int64_t unit = static_cast<int64_t>(fs.f_frsize);
  const int64_t wanted =
      BytesToFree(static_cast<int64_t>(fs.f_blocks) * unit, static_cast<int64_t>(fs.f_bavail) * unit,
                  options_.image_gc_high_threshold_percent, options_.image_gc_low_threshold_percent);
  if (wanted == 0) co_return absl::OkStatus();
  Task<void> remove = Remove(wanted);
  co_await std::move(remove);
  co_return absl::OkStatus();
}

Task<absl::Status> ImageGc::RemoveUnused() {
  CO_RETURN_IF_ERROR(NoteImages());
  Task<void> remove = Remove(std::numeric_limits<int64_t>::max());
  co_await std::move(remove);
  co_return absl::OkStatus();
}

Task<void> ImageGc::Remove(int64_t wanted_bytes) {
  std::vector<ImageRecord> all;
  for (const auto& [id, r] : records_) all.push_back(r);
  std::vector<std::string> plan =
      PlanImageGc(all, wanted_bytes, options_.image_minimum_gc_age, env_.clock().Now());
  for (const std::string& id : plan) {
    criv1::RemoveImageRequest request;
    request.mutable_image()->set_image(id);
    Task<absl::StatusOr<criv1::RemoveImageResponse>> task = images_.RemoveImage(std::move(request));
    absl::StatusOr<criv1::RemoveImageResponse> removed = co_await std::move(task);
    if (!removed.ok()) LogWarning("image not removed", {{"image", id}, {"error", removed.status()}});
  }
  LogInfo("images removed to free disk", {{"wanted_bytes", wanted_bytes}, {"images", plan.size()}});
}

}  // namespace keelson::kubelet
