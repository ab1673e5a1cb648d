// Import: OCI image layouts (a directory, or the same as a tar) and `docker save` archives.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/post.hpp>
#include <cerrno>

#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "images/digest.h"
#include "images/store.h"

namespace keelson::images {
namespace {

constexpr uint64_t kMaxArchiveEntries = 100'000;

// One image of an archive, before its layers are looked at.
struct ImportedImage {
  Manifest manifest;          // digests of layers are "" for docker archives
  std::string manifest_json;  // "" : to be made from the layers
  std::string config_json;
  std::vector<std::string> tags;
  std::vector<std::string> layer_files;  // below the directory
  std::string checkpoint_of;
};

std::string BlobFile(const std::string& digest) {
  return StrCat("blobs/sha256/", std::string_view(digest).substr(kSha256Prefix.size()));
}

absl::StatusOr<std::string> ReadBelow(int dir_fd, const std::string& file, size_t max_bytes) {
  ASSIGN_OR_RETURN(Fd fd, OpenBeneath(dir_fd, file, O_RDONLY));
  auto bytes = ReadFd(fd.get(), max_bytes);
  if (!bytes.ok()) return Annotate(bytes.status(), file);
  return bytes;
}

absl::StatusOr<std::string> ReadDigested(int dir_fd, const std::string& digest, size_t max_bytes) {
  ASSIGN_OR_RETURN(std::string bytes, ReadBelow(dir_fd, BlobFile(digest), max_bytes));
  if (DigestOf(bytes) != digest) {
    return absl::DataLossError(StrCat("blob ", digest, ": its bytes have digest ", DigestOf(bytes)));
  }
  return bytes;
}

// The tag of an entry: a whole name. A bare tag ("1.36") names no repository and is left out.
std::vector<std::string> TagsOf(const std::string& ref_name) {
  if (ref_name.find('/') == std::string::npos && ref_name.find(':') == std::string::npos) return {};
  auto reference = Reference::Parse(ref_name);
  if (!reference.ok() || !reference->digest.empty()) return {};
  return {reference->ToString()};
}

absl::StatusOr<ImportedImage> ReadOciImage(int dir_fd, Descriptor entry, const Platform& platform) {
  ImportedImage out;
  out.tags = TagsOf(entry.ref_name);
  for (int depth = 0; depth < kMaxIndexDepth; ++depth) {
    ASSIGN_OR_RETURN(std::string json, ReadDigested(dir_fd, entry.digest, kMaxManifestBytes));
    auto parsed = ParseManifest(json, entry.media_type);
    if (!parsed.ok()) return Annotate(parsed.status(), StrCat("manifest ", entry.digest));
    if (out.checkpoint_of.empty()) out.checkpoint_of = std::move(parsed->checkpoint_of);
    if (parsed->is_index) {
      ASSIGN_OR_RETURN(entry, ChoosePlatform(parsed->entries, platform));
      continue;
    }
    out.manifest = std::move(parsed->manifest);
    out.manifest_json = std::move(json);
    ASSIGN_OR_RETURN(out.config_json,
                     ReadDigested(dir_fd, out.manifest.config.digest, oci::kMaxImageConfigBytes));
    for (const Descriptor& layer : out.manifest.layers) out.layer_files.push_back(BlobFile(layer.digest));
    return out;
  }
  return absl::ResourceExhaustedError(StrCat("indexes nested deeper than ", kMaxIndexDepth, " levels"));
}

absl::StatusOr<std::vector<ImportedImage>> ReadOciLayout(int dir_fd, const std::string& index_json,
                                                         const Platform& platform) {
  ASSIGN_OR_RETURN(ManifestOrIndex index, ParseManifest(index_json, kOciIndex));
  std::vector<ImportedImage> out;
  absl::Status none = absl::NotFoundError("index.json names no image");
  for (const Descriptor& entry : index.entries) {
    auto fits = ChoosePlatform({entry}, platform);
    if (!fits.ok()) {
      none = fits.status();
      continue;
    }
    ASSIGN_OR_RETURN(ImportedImage image, ReadOciImage(dir_fd, entry, platform));
    out.push_back(std::move(image));
  }
  if (out.empty()) return none;
  return out;
}

absl::StatusOr<std::vector<ImportedImage>> ReadDockerArchive(int dir_fd, const std::string& json) {
  ASSIGN_OR_RETURN(std::vector<ArchiveImage> images, ParseDockerArchive(json));
  std::vector<ImportedImage> out;
  for (ArchiveImage& image : images) {
    ImportedImage imported;
    ASSIGN_OR_RETURN(imported.config_json, ReadBelow(dir_fd, image.config_path, oci::kMaxImageConfigBytes));
    imported.manifest.media_type = kOciManifest;
    imported.manifest.config.media_type = kOciConfig;
    imported.manifest.config.digest = DigestOf(imported.config_json);
    imported.manifest.config.size_bytes = imported.config_json.size();
    imported.manifest.layers.resize(image.layer_paths.size());
    for (const std::string& tag : image.repo_tags) {
      ASSIGN_OR_RETURN(Reference reference, Reference::Parse(tag));
      imported.tags.push_back(reference.ToString());
    }
    imported.layer_files = std::move(image.layer_paths);
    out.push_back(std::move(imported));
  }
  if (out.empty()) return absl::NotFoundError("manifest.json names no image");
  return out;
}

absl::StatusOr<std::vector<ImportedImage>> ReadImages(int dir_fd, const Platform& platform) {
  auto index = ReadBelow(dir_fd, "index.json", kMaxManifestBytes);
  if (index.ok()) return ReadOciLayout(dir_fd, *index, platform);
  if (!absl::IsNotFound(index.status())) return index.status();
  auto manifest = ReadBelow(dir_fd, "manifest.json", kMaxManifestBytes);
  if (manifest.ok()) return ReadDockerArchive(dir_fd, *manifest);
  if (!absl::IsNotFound(manifest.status())) return manifest.status();
  return absl::InvalidArgumentError(
      "neither an OCI layout (index.json) nor a docker archive (manifest.json)");
}

// The directory to read from: `path` itself, or `temp_dir` after a tar was unpacked into it.
absl::StatusOr<Fd> OpenSource(const std::string& path, const std::string& temp_dir, uint64_t max_bytes) {
  struct stat st;
  if (::stat(path.c_str(), &st) != 0) return ErrnoStatus(errno, StrCat("stat ", path));
  if (S_ISDIR(st.st_mode)) return OpenFile(path, O_RDONLY | O_DIRECTORY);
  ASSIGN_OR_RETURN(Fd archive, OpenFile(path, O_RDONLY));
  RETURN_IF_ERROR(MakeDirs(temp_dir, 0700));
  ASSIGN_OR_RETURN(Fd dir, OpenFile(temp_dir, O_RDONLY | O_DIRECTORY));
  FdSource source(archive.get());
  ByteBudget budget(max_bytes);
  UnpackOptions options;
  options.files_only = true;
  options.max_entries = kMaxArchiveEntries;
  options.tree.set_owner = false;
  options.tree.allow_devices = false;
  RETURN_IF_ERROR(UnpackLayer(&source, dir.get(), &budget, options).status());
  return dir;
}

struct Source {
  std::shared_ptr<Fd> dir;
  std::vector<ImportedImage> images;
};

}  // namespace

struct ImportEnd {
  ImportEnd(Store* store_in, std::shared_ptr<PullJob> job_in, std::string temp_in)
      : store(store_in), job(std::move(job_in)), temp(std::move(temp_in)) {}
  ImportEnd(const ImportEnd&) = delete;
  ImportEnd& operator=(const ImportEnd&) = delete;
  ~ImportEnd() {
    store->LeaveLayers(job.get());
    store->Trash(store->dir_.sub("tmp/" + temp));
  }
  Store* store;
  std::shared_ptr<PullJob> job;
  std::string temp;
};

Task<absl::StatusOr<std::vector<std::string>>> Store::Import(std::string path) {
  std::string what = StrCat("import ", path);
  auto job = std::make_shared<PullJob>();
  std::string temp = TempName();
  ImportEnd end(this, job, temp);
  using Result = absl::StatusOr<Source>;
  absl::AnyInvocable<Result()> work = [path, temp_dir = dir_.sub("tmp/" + temp), platform = platform_,
                                       max_bytes = options_.max_image_bytes]() -> Result {
    ASSIGN_OR_RETURN(Fd fd, OpenSource(path, temp_dir, max_bytes));
    Source out;
    out.dir = std::make_shared<Fd>(std::move(fd));
    ASSIGN_OR_RETURN(out.images, ReadImages(out.dir->get(), platform));
    return out;
  };
  Task<Result> run = env_.Blocking<Result>(std::move(work));
  Result source = co_await std::move(run);
  if (!source.ok()) co_return Annotate(source.status(), what);
  std::vector<std::string> ids;
  for (ImportedImage& imported : source->images) {
    StoredImage image;
    Holds holds(this);
    image.record.id = imported.manifest.config.digest;
    image.record.repo_tags = imported.tags;
    image.record.checkpoint_of = imported.checkpoint_of;
    absl::Status status = Describe(imported.manifest, imported.config_json, &image);
    if (!status.ok()) co_return Annotate(status, what);
    auto budget = std::make_shared<ByteBudget>(options_.max_image_bytes);
    std::vector<std::shared_ptr<LayerJob>> sources;
    for (size_t i = 0; i < image.layers.size(); ++i) {
      holds.AddLayer(image.layers[i].chain_id);
      if (!image.layers[i].digest.empty()) holds.AddBlob(image.layers[i].digest);
      auto layer = std::make_shared<LayerJob>();
      layer->dir = source->dir;
      layer->file = imported.layer_files[i];
      layer->digest = image.layers[i].digest;
      layer->size_bytes = image.layers[i].size_bytes;
      layer->budget = budget;
      sources.push_back(std::move(layer));
    }
    Task<absl::Status> ensure = EnsureLayers(&image, job, std::move(sources));
    status = co_await std::move(ensure);
    if (!status.ok()) co_return Annotate(status, what);
    if (imported.manifest_json.empty()) {
      image.record.size_bytes = image.config_bytes;
      for (size_t i = 0; i < image.layers.size(); ++i) {
        holds.AddBlob(image.layers[i].digest);
        imported.manifest.layers[i].digest = image.layers[i].digest;
        imported.manifest.layers[i].size_bytes = image.layers[i].size_bytes;
        imported.manifest.layers[i].media_type = image.layers[i].media_type;
        image.record.size_bytes += image.layers[i].size_bytes;
      }
      imported.manifest_json = EncodeManifest(imported.manifest);
    }
    image.manifest_digest = DigestOf(imported.manifest_json);
    image.manifest_bytes = imported.manifest_json.size();
    holds.AddBlob(image.manifest_digest);
    holds.AddBlob(image.record.id);
    Task<absl::Status> put_manifest = PutBlob(image.manifest_digest, imported.manifest_json);
    status = co_await std::move(put_manifest);
    if (!status.ok()) co_return Annotate(status, what);
    Task<absl::Status> put_config = PutBlob(image.record.id, imported.config_json);
    status = co_await std::move(put_config);
    if (!status.ok()) co_return Annotate(status, what);
    std::string id = image.record.id;
    Task<absl::Status> commit = Commit(std::move(image));
    status = co_await std::move(commit);
    if (!status.ok()) co_return Annotate(status, what);
    ids.push_back(std::move(id));
  }
  co_return ids;
}

}  // namespace keelson::images
