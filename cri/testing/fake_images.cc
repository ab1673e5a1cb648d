// FakeRuntime: the image service.
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <functional>

#include "cri/testing/fake_runtime_state.h"

namespace keelson::cri {

namespace {

// "nginx" -> "docker.io/library/nginx:latest": the form runtimes keep and compare by.
std::string Normalize(const std::string& reference) {
  std::string name = reference, digest;
  if (size_t at = name.find('@'); at != std::string::npos) {
    digest = name.substr(at);
    name.resize(at);
  }
  size_t slash = name.find('/');
  std::string first = name.substr(0, slash);
  bool has_host =
      slash != std::string::npos && (first.find_first_of(".:") != std::string::npos || first == "localhost");
  if (!has_host) name = absl::StrCat("docker.io/", slash == std::string::npos ? "library/" : "", name);
  bool has_tag = name.rfind(':') != std::string::npos && name.rfind(':') > name.rfind('/');
  if (!digest.empty()) return has_tag ? name.substr(0, name.rfind(':')) + digest : name + digest;
  return has_tag ? name : name + ":latest";
}

// A stable stand-in for a digest; FNV-1a spread over 256 bits.
std::string FakeDigest(const std::string& text) {
  std::string digest = "sha256:";
  for (uint64_t round = 0; round < 4; ++round) {
    uint64_t hash = 0xcbf29ce484222325 + round;
    for (unsigned char byte : text) hash = (hash ^ byte) * 0x100000001b3;
    absl::StrAppend(&digest, absl::Hex(hash, absl::kZeroPad16));
  }
  return digest;
}

std::string Repository(const std::string& normalized) {
  size_t at = normalized.find('@');
  if (at != std::string::npos) return normalized.substr(0, at);
  return normalized.substr(0, normalized.rfind(':'));
}

}  // namespace

void FakeRuntime::AddRegistryImage(std::string reference, uint64_t size_bytes, absl::Duration latency) {
  registry_[Normalize(reference)] = RegistryImage{size_bytes, latency};
}

void FakeRuntime::SetPullError(std::string reference, absl::Status status) {
  if (status.ok()) {
    pull_errors_.erase(Normalize(reference));
  } else {
    pull_errors_[Normalize(reference)] = std::move(status);
  }
}

void FakeRuntime::AddLocalImage(std::string reference, uint64_t size_bytes) {
  StoreImage(reference, size_bytes);
}

bool FakeRuntime::HasImage(std::string_view reference) const { return FindImage(reference) != nullptr; }

int FakeRuntime::pulls(std::string_view reference) const {
  auto it = pulls_.find(Normalize(std::string(reference)));
  return it == pulls_.end() ? 0 : it->second;
}

FakeRuntime::ImageRecord* FakeRuntime::FindImage(std::string_view reference_or_id) const {
  if (reference_or_id.empty()) return nullptr;
  std::string wanted(reference_or_id);
  std::string normalized = Normalize(wanted);
  for (const auto& record : images_) {
    const auto& image = record->image;
    if (image.id() == wanted || image.id() == "sha256:" + wanted) return record.get();
    for (const auto& tag : image.repo_tags()) {
      if (tag == normalized) return record.get();
    }
    for (const auto& digest : image.repo_digests()) {
      if (digest == normalized || digest == wanted) return record.get();
    }
  }
  return nullptr;
}

FakeRuntime::ImageRecord& FakeRuntime::StoreImage(const std::string& reference, uint64_t size_bytes) {
  if (ImageRecord* present = FindImage(reference)) return *present;
  std::string normalized = Normalize(reference);
  auto record = std::make_unique<ImageRecord>();
  record->image.set_id(FakeDigest("config " + normalized));
  record->image.set_size(size_bytes);
  size_t at = normalized.find('@');
  if (at == std::string::npos) {
    record->image.add_repo_tags(normalized);
    record->image.add_repo_digests(absl::StrCat(Repository(normalized), "@", FakeDigest(normalized)));
  } else {
    record->image.add_repo_digests(normalized);
  }
  record->image.mutable_spec()->set_image(reference);
  images_.push_back(std::move(record));
  return *images_.back();
}

absl::StatusOr<v1::ListImagesResponse> FakeRuntime::DoListImages(const v1::ListImagesRequest& request) {
  v1::ListImagesResponse response;
  const std::string& wanted = request.filter().image().image();
  ImageRecord* only = wanted.empty() ? nullptr : FindImage(wanted);
  for (const auto& record : images_) {
    if (wanted.empty() || record.get() == only) *response.add_images() = record->image;
  }
  return response;
}

absl::StatusOr<v1::StreamImagesResponse> FakeRuntime::DoStreamImages(const v1::StreamImagesRequest& request) {
  if (!options_.supports_stream_lists) return absl::UnimplementedError("unknown method StreamImages");
  v1::ListImagesRequest list;
  *list.mutable_filter() = request.filter();
  auto images = DoListImages(list);
  v1::StreamImagesResponse response;
  *response.mutable_images() = std::move(*images->mutable_images());
  return response;
}

absl::StatusOr<v1::ImageStatusResponse> FakeRuntime::DoImageStatus(const v1::ImageStatusRequest& request) {
  v1::ImageStatusResponse response;
  if (ImageRecord* record = FindImage(request.image().image())) *response.mutable_image() = record->image;
  return response;
}

Task<absl::Status> FakeRuntime::PullCourse(std::string reference) {
  auto known = registry_.find(Normalize(reference));
  absl::Duration latency = known == registry_.end() ? options_.pull_latency : known->second.latency;
  ++pulls_[Normalize(reference)];
  if (latency > absl::ZeroDuration()) CO_RETURN_IF_ERROR(Delay(latency));
  co_return absl::OkStatus();
}

absl::StatusOr<v1::PullImageResponse> FakeRuntime::DoPullImage(const v1::PullImageRequest& request) {
  const std::string& reference = request.image().image();
  if (reference.empty()) return absl::InvalidArgumentError("image reference is empty");
  std::string normalized = Normalize(reference);
  if (auto error = pull_errors_.find(normalized); error != pull_errors_.end()) return error->second;
  auto known = registry_.find(normalized);
  if (known == registry_.end() && !options_.pull_unknown_images) {
    return absl::NotFoundError(
        absl::StrCat("failed to pull and unpack image \"", normalized, "\": not found"));
  }
  ImageRecord& record = StoreImage(reference, known == registry_.end() ? 1 << 20 : known->second.size_bytes);
  v1::PullImageResponse response;
  response.set_image_ref(record.image.id());
  return response;
}

absl::StatusOr<v1::RemoveImageResponse> FakeRuntime::DoRemoveImage(const v1::RemoveImageRequest& request) {
  ImageRecord* record = FindImage(request.image().image());
  auto entry =
      std::find_if(images_.begin(), images_.end(), [&](const auto& image) { return image.get() == record; });
  if (entry != images_.end()) images_.erase(entry);
  return v1::RemoveImageResponse();
}

absl::StatusOr<v1::ImageFsInfoResponse> FakeRuntime::DoImageFsInfo(const v1::ImageFsInfoRequest&) {
  v1::ImageFsInfoResponse response;
  auto* filesystem = response.add_image_filesystems();
  filesystem->set_timestamp(NowNs());
  filesystem->mutable_fs_id()->set_mountpoint("/var/lib/fake-runtime");
  uint64_t used_bytes = 0;
  for (const auto& record : images_) used_bytes += record->image.size();
  filesystem->mutable_used_bytes()->set_value(used_bytes);
  filesystem->mutable_inodes_used()->set_value(images_.size());
  return response;
}

}  // namespace keelson::cri
