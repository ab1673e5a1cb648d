// Export: an image as an OCI image layout or as an archive that `docker load` reads.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "base/status.h"
#include "base/strings.h"
#include "images/digest.h"
#include "images/store.h"
#include "images/tar_writer.h"

namespace keelson::images {
namespace {

std::string HexOf(const std::string& digest) { return digest.substr(kSha256Prefix.size()); }

absl::Status CopyBlob(const StoreDir& dir, const std::string& digest, const std::string& to) {
  ASSIGN_OR_RETURN(Fd in, OpenFile(dir.blob(digest), O_RDONLY));
  ASSIGN_OR_RETURN(Fd out, OpenFile(to, O_WRONLY | O_CREAT | O_TRUNC, 0644));
  return Annotate(CopyRest(in.get(), out.get()), StrCat("copy to ", to));
}

absl::Status ExportLayout(const StoreDir& dir, const StoredImage& image, const std::vector<std::string>& tags,
                          const std::string& path) {
  RETURN_IF_ERROR(MakeDirs(path));
  ASSIGN_OR_RETURN(std::vector<std::string> there, FolderNames(path));
  for (const std::string& name : there) {
    if (name[0] != '.') return absl::AlreadyExistsError(StrCat(path, ": not an empty directory"));
  }
  RETURN_IF_ERROR(MakeDirs(path + "/blobs/sha256"));
  for (const std::string& digest : image.BlobDigests()) {
    RETURN_IF_ERROR(CopyBlob(dir, digest, StrCat(path, "/blobs/sha256/", HexOf(digest))));
  }
  RETURN_IF_ERROR(WriteFileAtomic(path + "/oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}"));
  ASSIGN_OR_RETURN(std::string json, dir.ReadBlob(image.manifest_digest, kMaxManifestBytes));
  ASSIGN_OR_RETURN(ManifestOrIndex parsed, ParseManifest(json, ""));
  Descriptor entry;
  entry.media_type = parsed.manifest.media_type;
  entry.digest = image.manifest_digest;
  entry.size_bytes = json.size();
  entry.platform = {image.record.config.os, image.record.config.architecture, image.record.config.variant};
  std::vector<Descriptor> entries;
  for (const std::string& tag : tags) {
    entry.ref_name = tag;
    entries.push_back(entry);
  }
  if (entries.empty()) entries.push_back(entry);
  return WriteFileAtomic(path + "/index.json", EncodeIndex(entries));
}

absl::Status AddBlob(const StoreDir& dir, const std::string& digest, const std::string& name,
                     TarWriter* tar) {
  ASSIGN_OR_RETURN(Fd fd, OpenFile(dir.blob(digest), O_RDONLY));
  struct stat st;
  if (::fstat(fd.get(), &st) != 0) return ErrnoStatus(errno, StrCat("stat blob ", digest));
  return tar->AddFile({.name = name}, fd.get(), static_cast<uint64_t>(st.st_size));
}

absl::Status WriteArchive(const StoreDir& dir, const StoredImage& image, const std::vector<std::string>& tags,
                          int fd) {
  TarWriter tar(fd);
  ArchiveImage entry;
  entry.config_path = HexOf(image.record.id) + ".json";
  entry.repo_tags = tags;
  std::set<std::string> written;
  for (const StoredLayer& layer : image.layers) {
    std::string name = HexOf(layer.digest) + ".tar";
    entry.layer_paths.push_back(name);
    if (written.insert(name).second) RETURN_IF_ERROR(AddBlob(dir, layer.digest, name, &tar));
  }
  RETURN_IF_ERROR(AddBlob(dir, image.record.id, entry.config_path, &tar));
  RETURN_IF_ERROR(tar.AddBytes({.name = "manifest.json"}, EncodeDockerArchive({entry})));
  return tar.Close();
}

}  // namespace

Task<absl::Status> Store::Export(std::string reference_or_id, std::string path, bool docker_archive) {
  std::string what = StrCat("export ", reference_or_id);
  const StoredImage* found = FindStored(reference_or_id);
  if (found == nullptr) co_return absl::NotFoundError(StrCat(what, ": no such image"));
  StoredImage image = *found;
  Holds holds(this);
  for (const std::string& digest : image.BlobDigests()) {
    if (blobs_.count(digest) == 0) {
      co_return absl::FailedPreconditionError(
          StrCat(what, ": blob ", digest, " was not kept when the image was pulled (keep_layer_blobs)"));
    }
    holds.AddBlob(digest);
  }
  std::vector<std::string> tags = image.record.repo_tags;
  auto reference = Reference::Parse(reference_or_id);
  if (reference.ok() && names_.count(reference->ToString()) != 0 && reference->digest.empty()) {
    tags = {reference->ToString()};
  }
  absl::AnyInvocable<absl::Status()> work = [root = dir_.root(), image, tags, path, docker_archive] {
    StoreDir dir(root);
    if (!docker_archive) return ExportLayout(dir, image, tags, path);
    return WriteNewFile(path, 0644, /*durable=*/true,
                        [&](int fd) { return WriteArchive(dir, image, tags, fd); });
  };
  Task<absl::Status> run = env_.Blocking<absl::Status>(std::move(work));
  absl::Status status = co_await std::move(run);
  if (!status.ok()) co_return Annotate(status, what);
  co_return absl::OkStatus();
}

}  // namespace keelson::images
