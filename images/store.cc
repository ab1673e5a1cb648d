// What the store knows: lookup, references, records.
#include "images/store.h"

#include <absl/strings/match.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "images/digest.h"

namespace keelson::images {
namespace {

constexpr size_t kMinIdPrefixDigits = 3;

// "docker.io/library/busybox" of ".../busybox:1" and ".../busybox@sha256:...".
std::string RepositoryOf(const std::string& name) {
  size_t at = name.find('@');
  if (at != std::string::npos) return name.substr(0, at);
  size_t colon = name.rfind(':');
  return colon == std::string::npos || name.find('/', colon) != std::string::npos ? name
                                                                                  : name.substr(0, colon);
}

void AddUnique(std::vector<std::string>* list, const std::string& item) {
  if (std::find(list->begin(), list->end(), item) == list->end()) list->push_back(item);
}

}  // namespace

Holds::~Holds() {
  for (const std::string& chain_id : layers_) store_->DropLayerReference(chain_id);
  for (const std::string& digest : blobs_) store_->DropBlobReference(digest);
}

void Holds::AddLayer(const std::string& chain_id) {
  ++store_->layer_references_[chain_id];
  layers_.push_back(chain_id);
}

void Holds::AddBlob(const std::string& digest) {
  ++store_->blob_references_[digest];
  blobs_.push_back(digest);
}

Store::Store(Env& env, ImageStoreOptions options)
    : env_(env),
      options_(std::move(options)),
      platform_(HostPlatform()),
      dir_(options_.root_dir),
      unpack_slots_(static_cast<size_t>(std::max(1, options_.parallel_layers))),
      scope_(env.executor()) {
  if (!options_.platform_os.empty()) platform_.os = options_.platform_os;
  if (!options_.platform_architecture.empty()) {
    platform_.architecture = options_.platform_architecture;
    platform_.variant = options_.platform_variant;
  }
}

Store::~Store() {
  if (unpack_threads_.has_value()) unpack_threads_->join();
}

Task<void> Store::Close() {
  // Threads that wait for bytes are told that none will come.
  for (const auto& [chain_id, job] : layer_jobs_) {
    job->cancelled = true;
    if (job->pipe != nullptr) job->pipe->CloseWrite(absl::CancelledError("the image store is closing"));
  }
  Task<void> close = scope_.Close();
  co_await std::move(close);
}

std::string Store::TempName() { return absl::StrCat(absl::Hex(env_.random().Next(), absl::kZeroPad16)); }

// ---- lookup ----

const StoredImage* Store::FindStored(std::string_view text) const {
  auto by_id = [this](const std::string& id) -> const StoredImage* {
    auto it = images_.find(id);
    return it == images_.end() ? nullptr : it->second.get();
  };
  if (IsDigest(text)) return by_id(std::string(text));
  auto reference = Reference::Parse(text);
  if (reference.ok()) {
    auto it = names_.find(reference->ToString());
    if (it != names_.end()) return by_id(it->second);
  }
  std::string_view hex = text;
  if (hex.substr(0, kSha256Prefix.size()) == kSha256Prefix) hex.remove_prefix(kSha256Prefix.size());
  if (hex.size() < kMinIdPrefixDigits || hex.size() > kSha256HexBytes || !IsHex(hex)) return nullptr;
  std::string prefix = StrCat(kSha256Prefix, hex);
  auto first = images_.lower_bound(prefix);
  if (first == images_.end() || !absl::StartsWith(first->first, prefix)) return nullptr;
  auto second = std::next(first);
  if (second != images_.end() && absl::StartsWith(second->first, prefix)) return nullptr;  // not unique
  return first->second.get();
}

const ImageRecord* Store::Find(std::string_view reference_or_id) const {
  const StoredImage* image = FindStored(reference_or_id);
  return image == nullptr ? nullptr : &image->record;
}

std::vector<const ImageRecord*> Store::List() const {
  std::vector<const ImageRecord*> out;
  for (const auto& [id, image] : images_) out.push_back(&image->record);
  return out;
}

// ---- references ----

void Store::Index(std::unique_ptr<StoredImage> image) {
  for (const std::string& chain_id : image->ChainIds()) ++layer_references_[chain_id];
  for (const std::string& digest : image->BlobDigests()) ++blob_references_[digest];
  const std::string id = image->record.id;
  for (const std::string& tag : image->record.repo_tags) names_[tag] = id;
  for (const std::string& digest : image->record.repo_digests) names_[digest] = id;
  images_[id] = std::move(image);
}

void Store::Unindex(const std::string& id) {
  auto it = images_.find(id);
  if (it == images_.end()) return;
  std::unique_ptr<StoredImage> image = std::move(it->second);
  images_.erase(it);
  for (const auto* list : {&image->record.repo_tags, &image->record.repo_digests}) {
    for (const std::string& name : *list) {
      auto name_it = names_.find(name);
      if (name_it != names_.end() && name_it->second == id) names_.erase(name_it);
    }
  }
  for (const std::string& chain_id : image->ChainIds()) DropLayerReference(chain_id);
  for (const std::string& digest : image->BlobDigests()) DropBlobReference(digest);
}

void Store::AddLayerOnDisk(const LayerRecord& layer) {
  if (!layers_.emplace(layer.chain_id, layer).second) return;
  usage_.used_bytes += layer.usage.used_bytes;
  usage_.inodes += layer.usage.inodes;
}

void Store::AddBlobOnDisk(const std::string& digest, uint64_t bytes) {
  if (!blobs_.emplace(digest, bytes).second) return;
  usage_.used_bytes += bytes;
  ++usage_.inodes;
}

void Store::DropLayerReference(const std::string& chain_id) {
  auto it = layer_references_.find(chain_id);
  KEELSON_CHECK(it != layer_references_.end() && it->second > 0, "layer reference ", chain_id);
  if (--it->second > 0) return;
  layer_references_.erase(it);
  CollectLayer(chain_id);
}

void Store::DropBlobReference(const std::string& digest) {
  auto it = blob_references_.find(digest);
  KEELSON_CHECK(it != blob_references_.end() && it->second > 0, "blob reference ", digest);
  if (--it->second > 0) return;
  blob_references_.erase(it);
  CollectBlob(digest);
}

void Store::CollectLayer(const std::string& chain_id) {
  auto it = layers_.find(chain_id);
  if (it == layers_.end() || layer_references_.count(chain_id) != 0) return;
  usage_.used_bytes -= std::min(usage_.used_bytes, it->second.usage.used_bytes);
  usage_.inodes -= std::min(usage_.inodes, it->second.usage.inodes);
  layers_.erase(it);
  Trash(dir_.layer(chain_id));
}

void Store::CollectBlob(const std::string& digest) {
  auto it = blobs_.find(digest);
  if (it == blobs_.end() || blob_references_.count(digest) != 0) return;
  usage_.used_bytes -= std::min(usage_.used_bytes, it->second);
  usage_.inodes -= std::min<uint64_t>(usage_.inodes, 1);
  blobs_.erase(it);
  Trash(dir_.blob(digest));
}

void Store::Trash(const std::string& path) {
  std::string name = TempName();
  absl::Status status = dir_.Discard(path, name);
  if (!status.ok()) {
    LogWarning("image store: cannot remove", {{"path", path}, {"error", status}});
    return;
  }
  env_.RunInPool(
      [root = dir_.root(), name] {
        absl::Status purged = StoreDir(root).PurgeTrash(name);
        if (!purged.ok()) LogWarning("image store: cannot empty the trash", {{"error", purged}});
      },
      [] {});
}

// ---- records ----

Task<absl::Status> Store::WriteRecord(StoredImage image, bool sync_all) {
  absl::AnyInvocable<absl::Status()> work = [root = dir_.root(), image = std::move(image), sync_all] {
    StoreDir dir(root);
    // Everything the record names must be on the disk before the record is.
    if (sync_all) RETURN_IF_ERROR(dir.Sync());
    return WriteFileAtomic(dir.image(image.record.id), EncodeImage(image), 0644, /*durable=*/true);
  };
  Task<absl::Status> write = env_.Blocking<absl::Status>(std::move(work));
  absl::Status status = co_await std::move(write);
  co_return status;
}

Task<absl::Status> Store::PutBlob(std::string digest, std::string bytes) {
  if (blobs_.count(digest) != 0) co_return absl::OkStatus();
  uint64_t size = bytes.size();
  absl::AnyInvocable<absl::Status()> work = [root = dir_.root(), digest, bytes = std::move(bytes),
                                             temp = TempName()] {
    return StoreDir(root).WriteBlob(digest, bytes, temp);
  };
  Task<absl::Status> write = env_.Blocking<absl::Status>(std::move(work));
  absl::Status status = co_await std::move(write);
  if (status.ok()) AddBlobOnDisk(digest, size);
  co_return status;
}

Task<absl::Status> Store::Commit(StoredImage image) {
  Task<AsyncMutex::Guard> lock = commit_mutex_.Lock();
  AsyncMutex::Guard guard = co_await std::move(lock);
  const std::string id = image.record.id;
  auto present = images_.find(id);
  if (present != images_.end()) {
    const ImageRecord& old = present->second->record;
    for (const std::string& tag : old.repo_tags) AddUnique(&image.record.repo_tags, tag);
    for (const std::string& digest : old.repo_digests) AddUnique(&image.record.repo_digests, digest);
    image.record.pinned = image.record.pinned || old.pinned;
    // A manifest that says so of an image that is here without must not take it from its pods.
    if (old.checkpoint_of.empty()) image.record.checkpoint_of.clear();
  }
  image.record.pulled_at = env_.clock().Now();
  Task<absl::Status> write = WriteRecord(image, /*sync_all=*/true);
  absl::Status status = co_await std::move(write);
  if (!status.ok()) co_return status;
  // Tags that were elsewhere until now.
  std::set<std::string> losers;
  for (const std::string& tag : image.record.repo_tags) {
    auto holder = names_.find(tag);
    if (holder == names_.end() || holder->second == id) continue;
    std::erase(images_.at(holder->second)->record.repo_tags, tag);
    losers.insert(holder->second);
  }
  // The new one first: what both use must not be collected in between.
  std::unique_ptr<StoredImage> old;
  auto copy = std::make_unique<StoredImage>(std::move(image));
  std::vector<std::string> chains = copy->ChainIds(), digests = copy->BlobDigests();
  {
    Holds holds(this);
    for (const std::string& chain_id : chains) holds.AddLayer(chain_id);
    for (const std::string& digest : digests) holds.AddBlob(digest);
    Unindex(id);
    Index(std::move(copy));
  }
  for (const std::string& loser : losers) {
    StoredImage stored = *images_.at(loser);
    Task<absl::Status> rewrite = WriteRecord(std::move(stored), /*sync_all=*/false);
    absl::Status rewritten = co_await std::move(rewrite);
    // At the next start the tag is at two images and the later pull gets it.
    if (!rewritten.ok()) LogWarning("image store: cannot rewrite a record", {{"error", rewritten}});
  }
  co_return absl::OkStatus();
}

Task<absl::Status> Store::Remove(std::string reference_or_id) {
  Task<AsyncMutex::Guard> lock = commit_mutex_.Lock();
  AsyncMutex::Guard guard = co_await std::move(lock);
  const StoredImage* found = FindStored(reference_or_id);
  if (found == nullptr) co_return absl::OkStatus();
  StoredImage image = *found;
  const std::string id = image.record.id;
  auto reference = Reference::Parse(reference_or_id);
  std::string name;
  if (reference.ok() && !IsDigest(reference_or_id)) name = reference->ToString();
  auto named = names_.find(name);
  bool by_name = !name.empty() && named != names_.end() && named->second == id;
  if (by_name) {
    std::erase(image.record.repo_tags, name);
    std::erase(image.record.repo_digests, name);
    // The digests of a repository go with its last tag.
    std::string repository = RepositoryOf(name);
    bool tag_left = std::any_of(image.record.repo_tags.begin(), image.record.repo_tags.end(),
                                [&](const std::string& tag) { return RepositoryOf(tag) == repository; });
    if (!tag_left) {
      std::erase_if(image.record.repo_digests,
                    [&](const std::string& digest) { return RepositoryOf(digest) == repository; });
    }
    if (!image.record.repo_tags.empty() || !image.record.repo_digests.empty()) {
      Task<absl::Status> write = WriteRecord(image, /*sync_all=*/false);
      absl::Status status = co_await std::move(write);
      if (!status.ok()) co_return Annotate(status, StrCat("remove image ", reference_or_id));
      auto copy = std::make_unique<StoredImage>(std::move(image));
      Holds holds(this);
      for (const std::string& chain_id : copy->ChainIds()) holds.AddLayer(chain_id);
      for (const std::string& digest : copy->BlobDigests()) holds.AddBlob(digest);
      Unindex(id);
      Index(std::move(copy));
      co_return absl::OkStatus();
    }
  }
  // The record first: what no record names does not exist.
  absl::AnyInvocable<absl::Status()> work = [path = dir_.image(id)]() -> absl::Status {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) return ErrnoStatus(errno, StrCat("unlink ", path));
    return absl::OkStatus();
  };
  Task<absl::Status> unlink = env_.Blocking<absl::Status>(std::move(work));
  absl::Status status = co_await std::move(unlink);
  if (!status.ok()) co_return Annotate(status, StrCat("remove image ", reference_or_id));
  Unindex(id);
  co_return absl::OkStatus();
}

Task<absl::StatusOr<UsageBytes>> Store::Usage() { co_return usage_; }

}  // namespace keelson::images
