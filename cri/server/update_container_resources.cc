#include <absl/strings/ascii.h>

#include <utility>

#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/server/runtime_server.h"

namespace keelson::cri {

void MergeResources(const v1::LinuxContainerResources& from, v1::LinuxContainerResources* to,
                    std::vector<std::string>* warnings) {
  const int64_t oom_score_adj = to->oom_score_adj();
  auto keep_unified = to->unified();
  to->MergeFrom(from);
  to->set_oom_score_adj(oom_score_adj);
  if (from.oom_score_adj() != 0 && from.oom_score_adj() != oom_score_adj) {
    warnings->push_back(StrCat("linux.oom_score_adj: an update does not change it, it stays ", oom_score_adj,
                               " instead of ", from.oom_score_adj()));
  }
  if (from.hugepage_limits_size() > 0) *to->mutable_hugepage_limits() = from.hugepage_limits();
  for (const auto& [file, value] : keep_unified) to->mutable_unified()->insert({file, value});
}

cgroups::Resources ChangedHugepages(const v1::LinuxContainerResources& before,
                                    const v1::LinuxContainerResources& after) {
  std::map<std::string, uint64_t> had;
  for (const v1::HugepageLimit& limit : before.hugepage_limits()) had[limit.page_size()] = limit.limit();
  cgroups::Resources changed;
  for (const v1::HugepageLimit& limit : after.hugepage_limits()) {
    auto it = had.find(limit.page_size());
    if (it != had.end() && it->second == limit.limit()) continue;
    changed.hugepage_limit_bytes[limit.page_size()] = limit.limit();
  }
  return changed;
}

Task<absl::StatusOr<v1::UpdateContainerResourcesResponse>> RuntimeServer::UpdateContainerResources(
    v1::UpdateContainerResourcesRequest request) {
  CO_ASSIGN_OR_RETURN_SYNC(std::shared_ptr<Container> container, FindContainer(request.container_id()));
  v1::LinuxContainerResources wanted = std::move(*request.mutable_linux());
  if (PluginsListen()) {
    // Before the container is locked: plugins may want limits of others changed, and those theirs of this.
    CO_ASSIGN_OR_RETURN(wanted, UpdateByPlugins(container, wanted));
  }
  CO_RETURN_IF_ERROR(SetLimits(container, std::move(wanted)));
  if (PluginsListen()) {
    Task<void> tell = TellMade(Made::kUpdated, container);
    co_await std::move(tell);
  }
  co_return v1::UpdateContainerResourcesResponse();
}

Task<absl::Status> RuntimeServer::SetLimits(std::shared_ptr<Container> container,
                                            v1::LinuxContainerResources wanted) {
  Task<AsyncMutex::Guard> lock = container->mutex.Lock();
  AsyncMutex::Guard guard = co_await std::move(lock);
  records::Container& record = container->record;
  if (container->removed || record.removing()) {
    co_return absl::FailedPreconditionError(
        StrCat("update container ", record.id(), ": it is being removed"));
  }
  std::vector<std::string> warnings;
  v1::LinuxContainerResources merged = record.resources();
  MergeResources(wanted, &merged, &warnings);
  CO_ASSIGN_OR_RETURN_SYNC(std::string json, oci::GenerateResources(merged, deps_.host, &warnings));
  Warn(record.id(), warnings);
  // Of one that has ended the new limits are kept, as containerd does: a resize races with the end.
  if (record.state() == records::CONTAINER_CREATED) {
    // The bundle waits for its start: only its limits are written anew.
    auto replace = [path = ContainerDir(record.id()) + "/config.json", json]() -> absl::Status {
      ASSIGN_OR_RETURN(std::string config, ReadFile(path, kMaxConfigJsonBytes));
      ASSIGN_OR_RETURN(std::string changed, oci::ReplaceResources(config, json));
      return WriteFileAtomic(path, changed, 0600, /*durable=*/false);
    };
    Task<absl::Status> replaced = env_.Blocking<absl::Status>(replace);
    absl::Status status = co_await std::move(replaced);
    if (!status.ok()) co_return Annotate(status, StrCat("update container ", record.id()));
  } else if (record.state() != records::CONTAINER_EXITED) {
    CO_ASSIGN_OR_RETURN_SYNC(oci::OciRuntime * runtime, RuntimeFor(record.runtime_handler()));
    CO_RETURN_IF_ERROR(runtime->Update(record.id(), json));
    // runc's update does not know them.
    const cgroups::Resources hugepages = ChangedHugepages(record.resources(), merged);
    if (deps_.host.hugetlb_controller && !hugepages.hugepage_limit_bytes.empty()) {
      absl::Status applied = deps_.cgroups->Apply(record.cgroup_path(), hugepages);
      if (!applied.ok() && !absl::IsNotFound(applied)) {  // not found: it has ended meanwhile
        co_return Annotate(applied, "linux.hugepage_limits");
      }
    }
  }
  *record.mutable_resources() = merged;
  if (record.state() == records::CONTAINER_RUNNING) {
    Task<void> tell = TellSystemd(container);
    co_await std::move(tell);
  }
  co_return Save(*container);
}

// runc 1.1 does not tell it of a swap limit of 0; crun 1.8 of the weight of the CPU alone, and of no update.
Task<void> RuntimeServer::TellSystemd(std::shared_ptr<Container> container) {
  const records::Container& record = container->record;
  if (deps_.systemd_units == nullptr || !deps_.host.cgroup_v2 || ScopeParent(record.cgroup_path()).empty())
    co_return;
  auto tell = [this, path = record.cgroup_path(), asked = record.resources()]() -> absl::Status {
    ASSIGN_OR_RETURN(cgroups::Resources limits, oci::CgroupResources(asked, deps_.host));
    // What shares become is the runtime's to say: there are two formulas.
    limits.cpu_shares.reset();
    if (asked.cpu_shares() != 0) {
      ASSIGN_OR_RETURN(std::string weight,
                       ReadFile(StrCat(deps_.cgroups->layout().unified_mount, "/", path, "/cpu.weight")));
      limits.unified["cpu.weight"] = std::string(absl::StripAsciiWhitespace(weight));
    }
    if (cgroups::LimitProperties(limits, /*v2=*/true).empty()) return absl::OkStatus();
    ASSIGN_OR_RETURN(cgroups::SystemdUnits * units, deps_.systemd_units());
    RETURN_IF_ERROR(units->SetLimits(path.substr(path.rfind('/') + 1), limits));
    // systemd rounds quotas.
    return deps_.cgroups->Apply(path, limits);
  };
  Task<absl::Status> telling = env_.Blocking<absl::Status>(tell);
  absl::Status told = co_await std::move(telling);
  if (told.ok() || absl::IsNotFound(told)) co_return;  // not found: it has ended meanwhile
  LogWarning("systemd does not know a container's limits and may take them back when it reloads",
             {{"container", record.id()}, {"error", told}});
}

}  // namespace keelson::cri
