// CheckpointContainer, through runc and criu (KEP-2008), and what CheckpointPod shares with it.
#include <absl/time/time.h>
#include <fcntl.h>

#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/server/checkpoint_archive.h"
#include "cri/server/container_checkpoint.h"
#include "cri/server/runtime_server.h"

namespace keelson::cri {

namespace {

// For requests that name none.
constexpr absl::Duration kCheckpointTimeout = absl::Minutes(10);

std::string Rfc3339(int64_t ns) {
  return absl::FormatTime(absl::RFC3339_full, absl::FromUnixNanos(ns), absl::UTCTimeZone());
}

}  // namespace

Task<absl::StatusOr<v1::CheckpointContainerResponse>> RuntimeServer::CheckpointContainer(
    v1::CheckpointContainerRequest request) {
  const std::string scratch = NewScratch("dump");
  return InScratch(&env_, scratch, CheckpointContainerIn(std::move(request), scratch));
}

Task<absl::StatusOr<v1::CheckpointContainerResponse>> RuntimeServer::CheckpointContainerIn(
    v1::CheckpointContainerRequest request, std::string scratch) {
  CO_ASSIGN_OR_RETURN_SYNC(std::shared_ptr<Container> container, FindContainer(request.container_id()));
  const std::string id = container->record.id();
  const std::string location = request.location();
  CO_RETURN_IF_ERROR_SYNC(CheckCheckpointLocation(location));
  if (request.timeout() < 0) co_return absl::InvalidArgumentError("timeout: must not be negative");
  CO_ASSIGN_OR_RETURN_SYNC(oci::OciRuntime * runtime, RuntimeFor(container->record.runtime_handler()));
  CO_RETURN_IF_ERROR(runtime->CanCheckpoint());
  CO_RETURN_IF_ERROR_SYNC(FindRunningContainer(id).status());

  FrozenDump dump;
  dump.container = container;
  dump.dir = scratch;
  // Its images go to whoever reads them: the cgroups in them are the host's.
  dump.cgroup = "";
  const std::string archive = scratch + "/archive.tar";
  dump.archive = archive;
  dump.timeout = request.timeout() > 0 ? absl::Seconds(request.timeout()) : kCheckpointTimeout;
  auto prepare = [dir = scratch, location]() -> absl::Status {
    RETURN_IF_ERROR(CheckArchivePlace(location, "location"));
    return MakeDirs(dir, 0700);
  };
  Task<absl::Status> preparing = env_.Blocking<absl::Status>(prepare);
  absl::Status status = co_await std::move(preparing);
  if (!status.ok()) co_return Annotate(status, StrCat("checkpoint container ", id));
  // Frozen until it is packed: what it has written has to be as its memory says.
  std::vector<FrozenDump> dumps;
  dumps.push_back(std::move(dump));
  Task<absl::Status> checkpoint = CheckpointFrozen(std::move(dumps), runtime, "", "");
  status = co_await std::move(checkpoint);
  if (!status.ok()) co_return Annotate(status, StrCat("checkpoint container ", id));
  // It runs on meanwhile.
  auto publish = [archive, location]() -> absl::Status {
    ASSIGN_OR_RETURN(Fd from, OpenFile(archive, O_RDONLY));
    return WriteNewFile(location, 0600, /*durable=*/true, [&](int fd) { return CopyRest(from.get(), fd); });
  };
  Task<absl::Status> publishing = env_.Blocking<absl::Status>(publish);
  status = co_await std::move(publishing);
  if (!status.ok()) co_return Annotate(status, StrCat("checkpoint container ", id));
  co_return v1::CheckpointContainerResponse();
}

absl::Status RuntimeServer::WriteCriuConfig(const std::string& id, const std::string& cgroup) const {
  // No connection outlives its address: its two ends find it closed when they are restored.
  std::string text = "tcp-close\n";
  // What the processes are in is named from their container's cgroup on, and so goes with it.
  if (!cgroup.empty()) StrAppend(&text, "cgroup-root=/", cgroup, "\n");
  return WriteFileAtomic(CriuConfigPath(id), text, 0600, /*durable=*/false);
}

CheckpointFacts RuntimeServer::FactsOf(const Container& container, int64_t at_ns) const {
  const records::Container& record = container.record;
  CheckpointFacts facts;
  facts.id = record.id();
  facts.name = record.config().metadata().name();
  facts.image_ref = record.image_ref();
  facts.image_name = record.config().image().user_specified_image().empty()
                         ? record.config().image().image()
                         : record.config().image().user_specified_image();
  facts.runtime = record.runtime_handler();
  facts.created_at = Rfc3339(record.created_at_ns());
  facts.checkpointed_at = Rfc3339(at_ns);
  facts.restored = record.from_checkpoint();
  facts.image_id = record.image_id();
  facts.stdin_open = record.config().stdin();
  facts.supplemental_groups = SupplementalGroupsOf(record.config());
  return facts;
}

}  // namespace keelson::cri
