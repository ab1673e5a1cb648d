#include "cri/server/runtime_server.h"

#include <absl/strings/escaping.h>
#include <absl/strings/str_join.h>
#include <sys/stat.h>

#include <filesystem>
#include <utility>

#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/nri/adaptation.h"
#include "cri/server/namespaces.h"
#include "images/overlay.h"

namespace keelson::cri {

namespace {

namespace fs = std::filesystem;

constexpr size_t kMinIdPrefix = 3;
constexpr size_t kIdWords = 4;  // of 64 bits: 64 hex digits, as docker and containerd name things

template <class Map>
auto FindByPrefix(const Map& map, std::string_view id, std::string_view kind)
    -> absl::StatusOr<typename Map::mapped_type> {
  auto exact = map.find(std::string(id));
  if (exact != map.end()) return exact->second;
  typename Map::mapped_type found;
  if (id.size() >= kMinIdPrefix) {
    for (const auto& [key, value] : map) {
      if (!std::string_view(key).starts_with(id)) continue;
      if (found != nullptr) {
        return absl::InvalidArgumentError(
            StrCat(kind, " \"", id, "\": the prefix fits several, give more of the ID"));
      }
      found = value;
    }
  }
  if (found == nullptr) return absl::NotFoundError(StrCat(kind, " \"", id, "\" not found"));
  return found;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RuntimeServer>> RuntimeServer::Create(RuntimeServerDeps deps,
                                                                     RuntimeServerOptions options) {
  if (!deps.runtimes.contains(options.default_handler)) {
    return absl::InvalidArgumentError(
        StrCat("default runtime handler \"", options.default_handler, "\" is not among those available"));
  }
  ASSIGN_OR_RETURN(RecordStore store, RecordStore::Open(options.state_dir));
  RETURN_IF_ERROR(MakeDirs(options.run_dir + "/sandboxes", 0711));
  RETURN_IF_ERROR(MakeDirs(options.run_dir + "/containers", 0711));
  RETURN_IF_ERROR(MakeDirs(options.state_dir + "/volumes", 0700));
  RETURN_IF_ERROR(MakeDirs(options.state_dir + "/restores", 0700));
  RETURN_IF_ERROR(RemoveTree(options.state_dir + "/checkpoints"));  // of a server that was killed
  if (deps.kernel == nullptr) deps.kernel = &RealHostKernel();
  ASSIGN_OR_RETURN(std::string boot_id, deps.kernel->BootId());
  std::unique_ptr<RuntimeServer> server(
      new RuntimeServer(std::move(deps), std::move(options), std::move(store)));
  server->boot_id_ = std::move(boot_id);
  server->ServePlugins();
  return server;
}

RuntimeServer::RuntimeServer(RuntimeServerDeps deps, RuntimeServerOptions options, RecordStore store)
    : deps_(std::move(deps)),
      options_(std::move(options)),
      env_(*deps_.env),
      store_(std::move(store)),
      attach_warmer_(&env_, deps_.cgroups == nullptr ? cgroups::Layout() : deps_.cgroups->layout()),
      scope_(env_.executor()) {}

RuntimeServer::~RuntimeServer() = default;

namespace {

// Whoever is nobody on the host gets to what lies in `dir`.
absl::Status CheckSearchable(const fs::path& dir) {
  for (fs::path at = dir;; at = at.parent_path()) {
    struct stat info;
    if (::stat(at.c_str(), &info) != 0) return ErrnoStatus(errno, StrCat("stat ", at.string()));
    if ((info.st_mode & S_IXOTH) == 0) {
      return absl::FailedPreconditionError(
          StrCat("the root of a pod could not pass ", at.string(), ": chmod o+x it"));
    }
    if (at == at.parent_path()) return absl::OkStatus();
  }
}

}  // namespace

absl::Status ProbeUserNamespaces(const std::string& dir, const std::string& scratch) {
  RETURN_IF_ERROR(CheckSearchable(fs::path(scratch).parent_path()));
  constexpr uint32_t kIds = 65536;
  PinRequest pins;
  pins.dir = scratch + "/ns";
  pins.network = true;
  pins.uid_mappings = pins.gid_mappings = {{0, kIds, kIds}};
  std::string at = scratch + "/mapped";
  // A server that was killed here left them.
  RETURN_IF_ERROR(images::UnmountAll(at));
  RETURN_IF_ERROR(UnpinNamespaces(pins.dir));
  RETURN_IF_ERROR(MakeDirs(at, 0700));
  absl::Status status = PinNamespaces(pins);
  if (status.ok()) status = images::MountIdMapped(dir, at, StrCat(pins.dir, "/", kUserNamespace));
  for (const absl::Status& undone :
       {images::UnmountAll(at), UnpinNamespaces(pins.dir), RemoveTree(scratch)}) {
    if (status.ok()) status = undone;
  }
  return status;
}

Task<void> RuntimeServer::Close() {
  events_.Close();
  Task<void> close = scope_.Close();
  co_await std::move(close);
}

absl::StatusOr<std::shared_ptr<Sandbox>> RuntimeServer::FindSandbox(std::string_view id) const {
  return FindByPrefix(sandboxes_, id, "pod sandbox");
}

absl::StatusOr<std::shared_ptr<Container>> RuntimeServer::FindContainer(std::string_view id) const {
  return FindByPrefix(containers_, id, "container");
}

absl::StatusOr<std::shared_ptr<Container>> RuntimeServer::FindRunningContainer(std::string_view id) const {
  ASSIGN_OR_RETURN(std::shared_ptr<Container> container, FindContainer(id));
  if (container->record.state() != records::CONTAINER_RUNNING) {
    return absl::FailedPreconditionError(StrCat("container \"", id, "\" is not running: it is in state ",
                                                v1::ContainerState_Name(StateOf(*container))));
  }
  return container;
}

std::vector<std::shared_ptr<Container>> RuntimeServer::ContainersOf(const std::string& sandbox_id) const {
  std::vector<std::shared_ptr<Container>> out;
  for (const auto& [id, container] : containers_) {
    if (container->record.sandbox_id() == sandbox_id) out.push_back(container);
  }
  return out;
}

Task<absl::Status> RuntimeServer::EnsureApparmor(v1::LinuxContainerSecurityContext security) {
  CO_ASSIGN_OR_RETURN_SYNC(std::string name, oci::ApparmorProfileOf(security, deps_.host));
  if (deps_.apparmor == nullptr) co_return absl::OkStatus();
  Task<absl::Status> ensure = deps_.apparmor->Ensure(std::move(name));
  absl::Status status = co_await std::move(ensure);
  co_return status;
}

absl::StatusOr<oci::OciRuntime*> RuntimeServer::RuntimeFor(const std::string& handler) const {
  auto it = deps_.runtimes.find(handler.empty() ? options_.default_handler : handler);
  if (it != deps_.runtimes.end()) return it->second;
  std::vector<std::string> names;
  for (const auto& [name, runtime] : deps_.runtimes) names.push_back(name);
  return absl::InvalidArgumentError(
      StrCat("runtime handler \"", handler, "\" is not there; there are: ", absl::StrJoin(names, ", ")));
}

absl::Status RuntimeServer::CheckImageHandlers(const v1::ContainerConfig& config) const {
  RETURN_IF_ERROR(
      Annotate(RuntimeFor(config.image().runtime_handler()).status(), "config.image.runtime_handler"));
  for (const v1::Mount& mount : config.mounts()) {
    RETURN_IF_ERROR(Annotate(RuntimeFor(mount.image().runtime_handler()).status(),
                             StrCat("mounts[", mount.container_path(), "].image.runtime_handler")));
  }
  return absl::OkStatus();
}

void RuntimeServer::Warn(const std::string& id, const std::vector<std::string>& warnings) {
  for (const std::string& warning : warnings) {
    if (warned_.Add(warning)) LogWarning("not as asked for", {{"container", id}, {"warning", warning}});
  }
}

int64_t RuntimeServer::NowNs() const { return absl::ToUnixNanos(env_.clock().Now()); }

std::string RuntimeServer::NewId() {
  std::string bytes;
  for (size_t i = 0; i < kIdWords; ++i) {
    uint64_t word = env_.random().Next();
    bytes.append(reinterpret_cast<const char*>(&word), sizeof word);
  }
  return absl::BytesToHexString(bytes);
}

std::string RuntimeServer::SandboxDir(const std::string& id) const {
  return StrCat(options_.run_dir, "/sandboxes/", id);
}
std::string RuntimeServer::ContainerDir(const std::string& id) const {
  return StrCat(options_.run_dir, "/containers/", id);
}

std::string RuntimeServer::VolumesDir(const std::string& id) const {
  return StrCat(options_.state_dir, "/volumes/", id);
}

std::string RuntimeServer::RestoreDir(const std::string& id) const {
  return StrCat(options_.state_dir, "/restores/", id);
}

void RuntimeServer::FreeName(Names* names, const std::string& key, const std::string& id) {
  auto it = names->find(key);
  if (it != names->end() && it->second == id) names->erase(it);
}

void RuntimeServer::Publish(v1::ContainerEventType type, const std::string& id,
                            const std::string& sandbox_id) {
  if (!events_.has_subscribers()) return;
  v1::ContainerEventResponse event;
  event.set_container_id(id);
  event.set_container_event_type(type);
  event.set_created_at(NowNs());
  auto sandbox = sandboxes_.find(sandbox_id);
  if (sandbox != sandboxes_.end()) *event.mutable_pod_sandbox_status() = SandboxStatusOf(*sandbox->second);
  for (const auto& container : ContainersOf(sandbox_id)) {
    *event.add_containers_statuses() = ContainerStatusOf(*container);
  }
  events_.Publish(event);
}

}  // namespace keelson::cri
