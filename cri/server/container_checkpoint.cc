#include "cri/server/container_checkpoint.h"

#include <fcntl.h>
#include <simdjson.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/server/checkpoint_json.h"
#include "images/byte_source.h"
#include "images/unpack.h"

namespace keelson::cri {

namespace {

constexpr size_t kCopyBytes = 1 << 20;              // at a time
constexpr char kInventoryName[] = "inventory.img";  // criu has always written it

bool Has(const simdjson::dom::element& object, const char* key) {
  simdjson::dom::element value;
  return object[key].get(value) == simdjson::SUCCESS && !value.is_null();
}

absl::StatusOr<CheckpointFacts> FactsIn(const simdjson::dom::element& root) {
  CheckpointFacts out;
  if (!root.is_object()) return absl::InvalidArgumentError("is no JSON object");
  RETURN_IF_ERROR(OptionalFactText(root, "id", &out.id));
  RETURN_IF_ERROR(OptionalFactText(root, "name", &out.name));
  RETURN_IF_ERROR(OptionalFactText(root, "rootfsImageRef", &out.image_ref));
  RETURN_IF_ERROR(OptionalFactText(root, "rootfsImageName", &out.image_name));
  RETURN_IF_ERROR(OptionalFactText(root, "runtime", &out.runtime));
  RETURN_IF_ERROR(OptionalFactText(root, "createdTime", &out.created_at));
  RETURN_IF_ERROR(OptionalFactText(root, "checkpointedTime", &out.checkpointed_at));
  std::optional<bool> restored;
  RETURN_IF_ERROR(OptionalFactFlag(root, "restored", &restored));
  out.restored = restored.value_or(false);
  if (out.image_ref.empty() && out.image_name.empty()) {
    return absl::InvalidArgumentError(
        "neither \"rootfsImageRef\" nor \"rootfsImageName\" says which image the container was made on");
  }
  if (!Has(root, "keelson")) return out;
  simdjson::dom::element own;
  if (root["keelson"].get(own) != simdjson::SUCCESS || !own.is_object()) {
    return absl::InvalidArgumentError("\"keelson\": want an object");
  }
  RETURN_IF_ERROR(Annotate(OptionalFactText(own, "imageId", &out.image_id), "\"keelson\""));
  RETURN_IF_ERROR(Annotate(OptionalFactFlag(own, "stdin", &out.stdin_open), "\"keelson\""));
  RETURN_IF_ERROR(
      Annotate(OptionalFactNumbers(own, "supplementalGroups", &out.supplemental_groups), "\"keelson\""));
  return out;
}

// A plain file `name` of one folder to another.
absl::Status CopyPlainFile(int from, int to, const std::string& name, images::ByteBudget* budget) {
  // Looked at first: opening is already more than nothing to a device.
  struct stat info;
  if (::fstatat(from, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return absl::NotFoundError(StrCat("there is no ", name, " in it"));
    return ErrnoStatus(errno, StrCat("stat ", name));
  }
  if (!S_ISREG(info.st_mode)) return absl::InvalidArgumentError(StrCat(name, ": is no plain file"));
  Fd source(::openat(from, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (!source.valid()) return ErrnoStatus(errno, StrCat("open ", name));
  if (!budget->Take(static_cast<uint64_t>(info.st_size))) {
    return absl::ResourceExhaustedError(StrCat(name, ": over the limit of ", kMaxCheckpointBytes, " bytes"));
  }
  Fd target(::openat(to, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!target.valid()) return ErrnoStatus(errno, StrCat("create ", name));
  std::string buffer(kCopyBytes, '\0');
  for (uint64_t left = static_cast<uint64_t>(info.st_size); left > 0;) {
    const ssize_t n = ::read(source.get(), buffer.data(), std::min<uint64_t>(left, buffer.size()));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, StrCat("read ", name));
    if (n == 0) return absl::DataLossError(StrCat(name, ": shorter than it was"));
    RETURN_IF_ERROR(WriteAll(target.get(), std::string_view(buffer).substr(0, static_cast<size_t>(n))));
    left -= static_cast<uint64_t>(n);
  }
  return absl::OkStatus();
}

absl::StatusOr<Fd> OpenFolderAt(int dir, const std::string& name) {
  Fd fd(::openat(dir, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (fd.valid()) return fd;
  if (errno == ENOENT) return absl::InvalidArgumentError(StrCat("there is no folder ", name, " in it"));
  if (errno == ENOTDIR || errno == ELOOP) return absl::InvalidArgumentError(StrCat(name, ": is no folder"));
  return ErrnoStatus(errno, name);
}

absl::StatusOr<std::string> ReadPart(const std::string& dir, const char* name, size_t max_bytes) {
  RETURN_IF_ERROR(CheckPlainFile(dir, name));
  absl::StatusOr<std::string> text = ReadFile(StrCat(dir, "/", name), max_bytes);
  if (!text.ok()) return Annotate(text.status(), name);
  return text;
}

}  // namespace

absl::Status FactText(const simdjson::dom::element& object, const char* key, std::string* out) {
  std::string_view value;
  if (object[key].get(value) != simdjson::SUCCESS) {
    return absl::InvalidArgumentError(StrCat("\"", key, "\": want a string"));
  }
  if (value.size() > kMaxFactBytes || value.find('\0') != std::string_view::npos) {
    return absl::InvalidArgumentError(StrCat("\"", key, "\": too long, or with a NUL byte"));
  }
  *out = std::string(value);
  return absl::OkStatus();
}

absl::Status OptionalFactText(const simdjson::dom::element& object, const char* key, std::string* out) {
  return Has(object, key) ? FactText(object, key, out) : absl::OkStatus();
}

absl::Status FactFlag(const simdjson::dom::element& object, const char* key, bool* out) {
  if (object[key].get(*out) != simdjson::SUCCESS) {
    return absl::InvalidArgumentError(StrCat("\"", key, "\": want true or false"));
  }
  return absl::OkStatus();
}

absl::Status OptionalFactFlag(const simdjson::dom::element& object, const char* key,
                              std::optional<bool>* out) {
  return Has(object, key) ? FactFlag(object, key, &out->emplace()) : absl::OkStatus();
}

absl::Status OptionalFactNumbers(const simdjson::dom::element& object, const char* key,
                                 std::optional<std::vector<int64_t>>* out) {
  if (!Has(object, key)) return absl::OkStatus();
  simdjson::dom::array numbers;
  if (object[key].get(numbers) != simdjson::SUCCESS) {
    return absl::InvalidArgumentError(StrCat("\"", key, "\": want a list"));
  }
  out->emplace();
  for (const simdjson::dom::element& element : numbers) {
    if ((*out)->size() >= kMaxFactGroups) {
      return absl::InvalidArgumentError(StrCat("\"", key, "\": more than ", kMaxFactGroups));
    }
    if (element.get((*out)->emplace_back()) != simdjson::SUCCESS) {
      return absl::InvalidArgumentError(StrCat("\"", key, "\": want numbers"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<simdjson::dom::element> ParseFactFile(std::string_view json, size_t max_bytes,
                                                     std::string_view name, simdjson::dom::parser* parser) {
  if (json.size() > max_bytes) return absl::InvalidArgumentError(StrCat(name, ": too long"));
  simdjson::dom::element root;
  if (parser->parse(simdjson::padded_string(json)).get(root) != simdjson::SUCCESS) {
    return absl::InvalidArgumentError(StrCat(name, ": is no JSON"));
  }
  return root;
}

absl::StatusOr<CheckpointFacts> ParseCheckpointFacts(std::string_view config_dump) {
  simdjson::dom::parser parser;
  ASSIGN_OR_RETURN(simdjson::dom::element root,
                   ParseFactFile(config_dump, kMaxConfigDumpBytes, kConfigDumpName, &parser));
  absl::StatusOr<CheckpointFacts> facts = FactsIn(root);
  if (!facts.ok()) return Annotate(facts.status(), kConfigDumpName);
  return facts;
}

CheckpointScratch::~CheckpointScratch() {
  if (dir.empty()) return;
  absl::Status removed = RemoveTree(dir);
  if (!removed.ok()) LogWarning("checkpoint's scratch stays", {{"dir", dir}, {"error", removed}});
}

absl::Status CheckArchivePlace(const std::string& location, std::string_view field) {
  struct stat info;
  std::string folder = location.substr(0, location.rfind('/') + 1);
  if (::stat(folder.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
    return absl::InvalidArgumentError(StrCat(field, " \"", location, "\": there is no folder ", folder));
  }
  if (::lstat(location.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(
        StrCat(field, " \"", location, "\": there is something else than a file"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Fd> OpenCheckpointArchive(const std::string& path) {
  ASSIGN_OR_RETURN(Fd fd, OpenFile(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
  struct stat info;
  if (::fstat(fd.get(), &info) != 0) return ErrnoStatus(errno, StrCat("stat ", path));
  if (!S_ISREG(info.st_mode)) return absl::FailedPreconditionError(StrCat(path, ": is no regular file"));
  if (info.st_uid != ::geteuid() || (info.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return absl::FailedPreconditionError(
        StrCat(path, ": others than root may write it; what it restores gets whatever rights it says"));
  }
  return fd;
}

absl::Status UnpackCheckpointFiles(int tar_fd, const std::string& dir, images::ByteBudget* budget) {
  ASSIGN_OR_RETURN(Fd root, OpenFile(dir, O_RDONLY | O_DIRECTORY));
  images::FdSource source(tar_fd);
  images::UnpackOptions options;
  options.files_only = true;
  options.allow_symlinks = false;  // criu opens its images by name
  options.tree.set_owner = false;
  options.max_entries = kMaxCheckpointEntries;
  return images::UnpackLayer(&source, root.get(), budget, options).status();
}

absl::Status CheckPlainFile(const std::string& dir, std::string_view name) {
  struct stat info;
  if (::lstat(StrCat(dir, "/", name).c_str(), &info) == 0 && S_ISREG(info.st_mode)) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat("there is no ", name, " in it"));
}

absl::Status UnpackContainerArchive(int archive_fd, const std::string& dir, images::ByteBudget* budget) {
  RETURN_IF_ERROR(UnpackCheckpointFiles(archive_fd, dir, budget));
  return CheckPlainFile(StrCat(dir, "/", kImagesName), kInventoryName);
}

absl::Status CopyCheckpointFiles(const std::string& from, const std::string& dir) {
  images::ByteBudget budget(kMaxCheckpointBytes);
  ASSIGN_OR_RETURN(Fd source, OpenFile(from, O_RDONLY | O_DIRECTORY));
  ASSIGN_OR_RETURN(Fd target, OpenFile(dir, O_RDONLY | O_DIRECTORY));
  for (const char* name : {kConfigDumpName, kSpecDumpName, kRootfsDiffName, kVolumesTarName}) {
    const bool required = name == kConfigDumpName || name == kSpecDumpName;
    absl::Status copied = CopyPlainFile(source.get(), target.get(), name, &budget);
    if (absl::IsNotFound(copied) && !required) continue;
    if (absl::IsNotFound(copied)) return absl::InvalidArgumentError(copied.message());
    RETURN_IF_ERROR(copied);
  }
  ASSIGN_OR_RETURN(Fd images_from, OpenFolderAt(source.get(), kImagesName));
  if (::mkdirat(target.get(), kImagesName, 0700) != 0) return ErrnoStatus(errno, kImagesName);
  ASSIGN_OR_RETURN(Fd images_to, OpenFolderAt(target.get(), kImagesName));
  ASSIGN_OR_RETURN(std::vector<std::string> names, FolderNames(images_from.get(), kMaxCheckpointEntries));
  for (const std::string& name : names) {
    RETURN_IF_ERROR(Annotate(CopyPlainFile(images_from.get(), images_to.get(), name, &budget), kImagesName));
  }
  return CheckPlainFile(StrCat(dir, "/", kImagesName), kInventoryName);
}

absl::StatusOr<ContainerCheckpoint> ReadContainerCheckpoint(const std::string& dir) {
  ContainerCheckpoint out;
  ASSIGN_OR_RETURN(std::string config, ReadPart(dir, kConfigDumpName, kMaxConfigDumpBytes));
  ASSIGN_OR_RETURN(out.facts, ParseCheckpointFacts(config));
  ASSIGN_OR_RETURN(out.spec_dump, ReadPart(dir, kSpecDumpName, kMaxSpecDumpBytes));
  return out;
}

absl::Status UnpackPodTree(const std::string& tar, const std::string& dir) {
  absl::StatusOr<Fd> fd = OpenFile(tar, O_RDONLY | O_NOFOLLOW);
  if (absl::IsNotFound(fd.status())) return absl::OkStatus();
  if (!fd.ok()) return fd.status();
  ASSIGN_OR_RETURN(Fd root, OpenFile(dir, O_RDONLY | O_DIRECTORY));
  images::FdSource source(fd->get());
  images::ByteBudget budget(kMaxCheckpointBytes);
  images::UnpackOptions options;
  options.tree.allow_devices = false;
  options.max_entries = kMaxCheckpointEntries;
  return Annotate(images::UnpackLayer(&source, root.get(), &budget, options).status(),
                  StrCat("unpack ", tar));
}

absl::Status FillVolumes(const std::string& tar, const std::string& dir) {
  struct stat info;
  if (::lstat(tar.c_str(), &info) != 0 || ::lstat(dir.c_str(), &info) != 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(std::vector<std::string> volumes, FolderNames(dir));
  RETURN_IF_ERROR(RemoveTree(dir));
  RETURN_IF_ERROR(MakeDirs(dir, 0700));
  RETURN_IF_ERROR(UnpackPodTree(tar, dir));
  for (const std::string& volume : volumes) {
    if (::lstat(StrCat(dir, "/", volume).c_str(), &info) == 0 && S_ISDIR(info.st_mode)) continue;
    return absl::InvalidArgumentError(StrCat(kVolumesTarName, ": there is no folder ", volume, " in it"));
  }
  return absl::OkStatus();
}

}  // namespace keelson::cri
