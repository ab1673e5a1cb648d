// Opening: what is on disk becomes the store's state, what a crash left half made goes.
#include <sys/stat.h>
#include <unistd.h>

#include <memory>

#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "images/digest.h"
#include "images/project_quota.h"
#include "images/store.h"

namespace keelson::images {
namespace {

absl::StatusOr<std::string> ReadRecord(const std::string& path) {
  auto text = ReadFile(path, kMaxRecordBytes);
  if (!text.ok()) return Annotate(text.status(), path);
  return text;
}

// Missing, damaged or no file at all is what a crash leaves: it goes, with what hangs on it. A file that
// cannot be read now (no descriptors left, a disk error) says nothing against what it describes: the store is
// not opened then.
bool IsUnreadable(const absl::Status& status) {
  return !status.ok() && !absl::IsNotFound(status) && !absl::IsDataLoss(status) &&
         !absl::IsFailedPrecondition(status);
}

bool IsHexName(const std::string& name) { return name.size() == kSha256HexBytes && IsHex(name); }

}  // namespace

absl::StatusOr<std::unique_ptr<ImageStore>> ImageStore::Open(Env& env, ImageStoreOptions options) {
  auto store = std::make_unique<Store>(env, std::move(options));
  RETURN_IF_ERROR(store->Load());
  return std::unique_ptr<ImageStore>(std::move(store));
}

absl::Status Store::Load() {
  RETURN_IF_ERROR(dir_.Open());
  RETURN_IF_ERROR(DropLeftovers());
  RETURN_IF_ERROR(LoadLayers());
  RETURN_IF_ERROR(LoadImages());
  RETURN_IF_ERROR(LoadRootfs());
  absl::Status counted = ProbeProjectUsage(dir_.root());
  counts_projects_ = counted.ok();
  LogInfo(counts_projects_ ? "image store: writable layers are counted by project quota"
                           : "image store: writable layers are measured by walking them",
          {{"dir", dir_.root()}, {"why", counted}});
  DropUnused();
  return absl::OkStatus();
}

absl::Status Store::DropLeftovers() {
  ASSIGN_OR_RETURN(std::vector<std::string> half_made, FolderNames(dir_.sub("tmp")));
  for (const std::string& name : half_made) Trash(dir_.sub("tmp/" + name));
  ASSIGN_OR_RETURN(std::vector<std::string> trash, FolderNames(dir_.sub("trash")));
  for (const std::string& name : trash) {
    env_.RunInPool([dir = dir_.root(), name] { (void)StoreDir(dir).PurgeTrash(name); }, [] {});
  }
  return absl::OkStatus();
}

absl::Status Store::LoadLayers() {
  ASSIGN_OR_RETURN(std::vector<std::string> layers, FolderNames(dir_.sub("layers")));
  for (const std::string& name : layers) {
    std::string path = dir_.sub("layers/" + name);
    auto text = ReadRecord(path + "/layer.json");
    absl::Status status = text.status();
    if (IsUnreadable(status)) return status;
    if (status.ok()) {
      auto layer = ParseLayer(*text);
      status = layer.status();
      struct stat st;
      if (status.ok() && IsHexName(name) && layer->chain_id == StrCat(kSha256Prefix, name) &&
          ::stat((path + "/diff").c_str(), &st) == 0) {
        AddLayerOnDisk(*layer);
        continue;
      }
    }
    LogInfo("image store: dropping a layer that is not whole", {{"layer", name}, {"error", status}});
    Trash(path);
  }
  ASSIGN_OR_RETURN(std::vector<std::string> blobs, FolderNames(dir_.sub("blobs/sha256")));
  for (const std::string& name : blobs) {
    struct stat st;
    std::string path = dir_.sub("blobs/sha256/" + name);
    if (!IsHexName(name) || ::lstat(path.c_str(), &st) != 0 || !S_ISREG(st.st_mode)) {
      Trash(path);
      continue;
    }
    AddBlobOnDisk(StrCat(kSha256Prefix, name), static_cast<uint64_t>(st.st_size));
  }
  return absl::OkStatus();
}

absl::Status Store::LoadImages() {
  ASSIGN_OR_RETURN(std::vector<std::string> records, FolderNames(dir_.sub("images")));
  for (const std::string& name : records) {
    std::string path = dir_.sub("images/" + name);
    auto text = ReadRecord(path);
    if (IsUnreadable(text.status())) return text.status();
    auto image = text.ok() ? ParseImage(*text) : absl::StatusOr<StoredImage>(text.status());
    absl::Status status = image.status();
    if (status.ok() && path != dir_.image(image->record.id)) {
      status = absl::DataLossError("file of another name");
    }
    if (status.ok()) {
      auto config = dir_.ReadBlob(image->record.id, oci::kMaxImageConfigBytes);
      status = config.status();
      if (IsUnreadable(status)) return Annotate(status, path);
      if (status.ok()) {
        image->record.config_json = *std::move(config);
        auto parsed = CheckConfig(image->record.config_json);
        status = parsed.status();
        if (status.ok()) image->record.config = *std::move(parsed);
        image->record.created_at = CreatedAt(image->record.config_json);
      }
    }
    if (status.ok() && blobs_.count(image->manifest_digest) == 0) {
      status = absl::DataLossError("its manifest is missing");
    }
    for (size_t i = 0; status.ok() && i < image->layers.size(); ++i) {
      if (layers_.count(image->layers[i].chain_id) == 0) status = absl::DataLossError("a layer is missing");
    }
    if (!status.ok()) {
      LogWarning("image store: dropping an image that is not whole", {{"record", name}, {"error", status}});
      Trash(path);
      continue;
    }
    // A crash between two writes may have left a tag at two images: the later pull has it.
    for (const std::string& tag : std::vector<std::string>(image->record.repo_tags)) {
      auto other = names_.find(tag);
      if (other == names_.end()) continue;
      StoredImage* holder = images_.at(other->second).get();
      bool newer = image->record.pulled_at >= holder->record.pulled_at;
      std::vector<std::string>& loser = newer ? holder->record.repo_tags : image->record.repo_tags;
      std::erase(loser, tag);
      if (newer) names_.erase(other);
    }
    Index(std::make_unique<StoredImage>(*std::move(image)));
  }
  return absl::OkStatus();
}

absl::Status Store::LoadRootfs() {
  ASSIGN_OR_RETURN(std::vector<std::string> keys, FolderNames(dir_.sub("rootfs")));
  for (const std::string& key : keys) {
    std::string path = dir_.sub("rootfs/" + key);
    auto text = ReadRecord(path + "/rootfs.json");
    if (IsUnreadable(text.status())) return text.status();
    auto rootfs = text.ok() ? ParseRootfs(*text) : absl::StatusOr<RootfsRecord>(text.status());
    if (!rootfs.ok() || rootfs->key != key || !IsRootfsKey(key)) {
      LogInfo("image store: dropping a root file system that is not whole",
              {{"key", key}, {"error", rootfs.status()}});
      Trash(path);
      continue;
    }
    for (const std::string& chain_id : rootfs->chain_ids) ++layer_references_[chain_id];
    if (rootfs->project != 0) projects_.insert(rootfs->project);
    rootfs_[key] = *std::move(rootfs);
  }
  return absl::OkStatus();
}

void Store::DropUnused() {
  std::vector<std::string> layers, blobs;
  for (const auto& [chain_id, layer] : layers_) layers.push_back(chain_id);
  for (const auto& [digest, bytes] : blobs_) blobs.push_back(digest);
  for (const std::string& chain_id : layers) CollectLayer(chain_id);
  for (const std::string& digest : blobs) CollectBlob(digest);
}

}  // namespace keelson::images
