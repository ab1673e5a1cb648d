// CheckpointContainer, through runc and criu (KEP-2008). CheckpointPod, RestorePod: refused with the reason.
#include <absl/time/time.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/server/checkpoint_archive.h"
#include "cri/server/runtime_server.h"

namespace keelson::cri {

namespace {

constexpr size_t kMaxConfigJsonBytes = 16 << 20;
// For requests that name none.
constexpr absl::Duration kCheckpointTimeout = absl::Minutes(10);
constexpr char kNoPods[] =
    "checkpoints of whole pods are not made here: CheckpointContainer takes one container at a time, and "
    "archives are read by checkpointctl, not restored";

std::string Rfc3339(int64_t ns) {
  return absl::FormatTime(absl::RFC3339_full, absl::FromUnixNanos(ns), absl::UTCTimeZone());
}

// The scratch folder of one checkpoint, and its unfinished archive.
struct Scratch {
  std::string dir, archive;
  ~Scratch() {
    if (!archive.empty()) ::unlink(archive.c_str());
    absl::Status removed = RemoveTree(dir);
    if (!removed.ok()) LogWarning("checkpoint's scratch stays", {{"dir", dir}, {"error", removed}});
  }
};

absl::Status Prepare(const std::string& dir, const std::string& location) {
  struct stat info;
  std::string folder = location.substr(0, location.rfind('/') + 1);
  if (::stat(folder.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
    return absl::InvalidArgumentError(StrCat("location \"", location, "\": there is no folder ", folder));
  }
  if (::lstat(location.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(
        StrCat("location \"", location, "\": there is something else than a file"));
  }
  RETURN_IF_ERROR(MakeDirs(dir + "/checkpoint", 0700));
  return MakeDirs(dir + "/work", 0700);
}

// In the pool: everything after the dump.
absl::Status Pack(CheckpointParts parts, const std::string& config_path, const std::string& temporary,
                  const std::string& location) {
  ASSIGN_OR_RETURN(parts.spec_dump, ReadFile(config_path, kMaxConfigJsonBytes));
  RETURN_IF_ERROR(WriteCheckpointArchive(parts, temporary));
  if (::rename(temporary.c_str(), location.c_str()) != 0) {
    return ErrnoStatus(errno, StrCat("rename to ", location));
  }
  return absl::OkStatus();
}

}  // namespace

Task<absl::StatusOr<v1::CheckpointContainerResponse>> RuntimeServer::CheckpointContainer(
    v1::CheckpointContainerRequest request) {
  CO_ASSIGN_OR_RETURN_SYNC(std::shared_ptr<Container> container, FindContainer(request.container_id()));
  const std::string id = container->record.id();
  const std::string location = request.location();
  CO_RETURN_IF_ERROR_SYNC(CheckCheckpointLocation(location));
  if (request.timeout() < 0) co_return absl::InvalidArgumentError("timeout: must not be negative");
  CO_ASSIGN_OR_RETURN_SYNC(oci::OciRuntime * runtime, RuntimeFor(container->record.runtime_handler()));
  CO_RETURN_IF_ERROR(runtime->CanCheckpoint());
  CO_RETURN_IF_ERROR_SYNC(FindRunningContainer(id).status());

  Scratch scratch;
  scratch.dir = StrCat(options_.state_dir, "/checkpoints/", id, "-", env_.random().Suffix(8));
  auto prepare = [dir = scratch.dir, location] { return Prepare(dir, location); };
  Task<absl::Status> preparing = env_.Blocking<absl::Status>(prepare);
  absl::Status status = co_await std::move(preparing);
  if (!status.ok()) co_return Annotate(status, StrCat("checkpoint container ", id));

  oci::CheckpointOptions options;
  options.images_dir = scratch.dir + "/checkpoint";
  options.work_dir = scratch.dir + "/work";
  options.timeout = request.timeout() > 0 ? absl::Seconds(request.timeout()) : kCheckpointTimeout;
  const int64_t at_ns = NowNs();
  Task<absl::Status> dumping = runtime->Checkpoint(id, options);
  status = co_await std::move(dumping);
  if (!status.ok()) co_return Annotate(status, StrCat("checkpoint container ", id));

  const records::Container& record = container->record;
  CheckpointFacts facts;
  facts.id = id;
  facts.name = record.config().metadata().name();
  facts.image_ref = record.image_ref();
  facts.image_name = record.config().image().user_specified_image().empty()
                         ? record.config().image().image()
                         : record.config().image().user_specified_image();
  facts.runtime = runtime->name();
  facts.created_at = Rfc3339(record.created_at_ns());
  facts.checkpointed_at = Rfc3339(at_ns);
  CheckpointParts parts;
  parts.config_dump = EncodeCheckpointFacts(facts);
  parts.images_dir = options.images_dir;
  parts.work_dir = options.work_dir;
  parts.upper_dir = deps_.images->RootfsLayer(id);
  scratch.archive = StrCat(location, ".", env_.random().Suffix(8), ".tmp");
  auto pack = [parts, config = ContainerDir(id) + "/config.json", temporary = scratch.archive, location] {
    return Pack(parts, config, temporary, location);
  };
  Task<absl::Status> packing = env_.Blocking<absl::Status>(pack);
  status = co_await std::move(packing);
  if (!status.ok()) co_return Annotate(status, StrCat("checkpoint container ", id));
  co_return v1::CheckpointContainerResponse();
}

Task<absl::StatusOr<v1::CheckpointPodResponse>> RuntimeServer::CheckpointPod(
    v1::CheckpointPodRequest request) {
  CO_RETURN_IF_ERROR_SYNC(FindSandbox(request.pod_sandbox_id()).status());
  co_return absl::UnimplementedError(kNoPods);
}

Task<absl::StatusOr<v1::RestorePodResponse>> RuntimeServer::RestorePod(v1::RestorePodRequest request) {
  co_return absl::UnimplementedError(kNoPods);
}

}  // namespace keelson::cri
