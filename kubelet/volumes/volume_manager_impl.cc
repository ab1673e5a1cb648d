#include "kubelet/volumes/volume_manager_impl.h"

#include <stdlib.h>

#include <climits>
#include <utility>
#include <vector>

#include "api/quantity.h"
#include "api/status_error.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson::kubelet {
namespace {

constexpr size_t kMaxNameBytes = 255;

// A name that becomes one path component.
absl::Status CheckName(std::string_view what, const std::string& name) {
  if (name.empty() || name == "." || name == ".." || name.size() > kMaxNameBytes ||
      name.find('/') != std::string::npos || name.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError(StrCat(what, " \"", name, "\" cannot be part of a path"));
  }
  return absl::OkStatus();
}

std::string RealPath(const std::string& path) {
  char resolved[PATH_MAX];
  return ::realpath(path.c_str(), resolved) != nullptr ? resolved : path;
}

std::string PodDir(const VolumeManagerOptions& options, const std::string& uid) {
  // Resolved, as the kernel's mount table has it.
  return StrCat(RealPath(options.kubelet_dir), "/pods/", uid);
}

std::string VolumePath(const VolumeManagerOptions& options, const std::string& uid, std::string_view type,
                       const std::string& name) {
  return StrCat(PodDir(options, uid), "/volumes/kubernetes.io~", type, "/", name);
}

int64_t FsGroup(const corev1::Pod& pod) {
  const auto& context = pod.spec().security_context();
  return context.has_fs_group() ? context.fs_group() : -1;
}

template <class Source>
PayloadDefaults Defaults(const Source& source) {
  PayloadDefaults defaults;
  if (source.has_default_mode()) defaults.mode = static_cast<uint32_t>(source.default_mode());
  if (source.has_default_user()) defaults.user = source.default_user();
  return defaults;
}

// JSON name of the source that is set: "nfs"; "" when none is.
std::string SourceName(const google::protobuf::Message& source) {
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  source.GetReflection()->ListFields(source, &fields);
  return fields.empty() ? "" : fields.front()->json_name();
}

// Upstream's names of the folders.
std::string PayloadType(const corev1::VolumeSource& source) {
  if (source.has_config_map()) return "configmap";
  if (source.has_secret()) return "secret";
  if (source.has_downward_api()) return "downward-api";
  if (source.has_projected()) return "projected";
  return "";
}

bool Names(const corev1::Pod& pod, const std::string& kind, const std::string& name) {
  bool secret = kind == "Secret";
  for (const auto& volume : pod.spec().volumes()) {
    const auto& source = volume.volume_source();
    if (!secret && source.config_map().local_object_reference().name() == name) return true;
    if (secret && source.secret().secret_name() == name) return true;
    for (const auto& part : source.projected().sources()) {
      if (!secret && part.config_map().local_object_reference().name() == name) return true;
      if (secret && part.secret().local_object_reference().name() == name) return true;
    }
  }
  return false;
}

// Of a tmpfs: the smallest of the volume's limit, the pod's memory limit and the node's memory.
int64_t MemoryVolumeSize(const corev1::Pod& pod, const corev1::EmptyDirVolumeSource& source,
                         const ResourceList& allocatable) {
  int64_t size = 0;
  auto lower = [&](int64_t bytes) {
    if (bytes > 0 && (size == 0 || bytes < size)) size = bytes;
  };
  if (auto memory = allocatable.find("memory"); memory != allocatable.end()) lower(memory->second.Value());
  ResourceList limits = PodLimits(pod);
  if (auto memory = limits.find("memory"); memory != limits.end()) lower(memory->second.Value());
  if (source.has_size_limit()) lower(api::Quantity::Of(source.size_limit()).Value());
  return size;
}

}  // namespace

VolumeManagerImpl::VolumeManagerImpl(Env& env, CachedObjects* objects, std::shared_ptr<Mounter> mounter,
                                     VolumeManagerOptions options)
    : env_(env),
      objects_(objects),
      mounter_(std::move(mounter)),
      options_(std::move(options)),
      scope_(env.executor()) {
  if (objects_ != nullptr) {
    objects_->set_change_listener([this](const std::string& kind, const std::string& ns,
                                         const std::string& name) { OnObjectChange(kind, ns, name); });
  }
}

VolumeManagerImpl::~VolumeManagerImpl() = default;

Task<void> VolumeManagerImpl::Stop() {
  if (objects_ != nullptr) objects_->set_change_listener(nullptr);
  Task<void> close = scope_.Close();
  co_await std::move(close);
}

ResourceList VolumeManagerImpl::Allocatable() const {
  return options_.allocatable ? options_.allocatable() : ResourceList();
}

Task<absl::StatusOr<PodVolumes>> VolumeManagerImpl::Mount(PodPtr pod) {
  const std::string uid = PodUid(*pod);
  CO_RETURN_IF_ERROR_SYNC(CheckName("metadata.uid", uid));
  PodStatePtr& slot = pods_[uid];
  if (slot == nullptr) slot = std::make_shared<PodState>();
  PodStatePtr state = slot;
  Task<AsyncMutex::Guard> lock = state->mutex.Lock();
  AsyncMutex::Guard guard = co_await std::move(lock);
  state->pod = pod;
  state->gone = false;
  PodVolumes volumes;
  for (int i = 0; i < pod->spec().volumes_size(); ++i) {
    const std::string& name = pod->spec().volumes(i).name();
    Task<absl::StatusOr<MountedVolume>> mount = MountOne(pod, i);
    absl::StatusOr<MountedVolume> mounted = co_await std::move(mount);
    if (!mounted.ok())
      co_return Annotate(mounted.status(), StrCat("MountVolume.SetUp failed for volume \"", name, "\""));
    volumes.by_name[name] = *std::move(mounted);
  }
  state->mounted = volumes.by_name;
  co_return volumes;
}

Task<absl::StatusOr<MountedVolume>> VolumeManagerImpl::MountOne(PodPtr pod, int index) {
  const corev1::Volume& volume = pod->spec().volumes(index);
  const corev1::VolumeSource& source = volume.volume_source();
  const std::string uid = PodUid(*pod);
  CO_RETURN_IF_ERROR_SYNC(CheckName(StrCat("spec.volumes[", index, "].name"), volume.name()));
  std::shared_ptr<Mounter> mounter = mounter_;
  MountedVolume mounted;
  std::string kind = SourceName(source);
  if (source.has_host_path()) {
    mounted.host_path = StrCat(options_.host_root, source.host_path().path());
    std::string type = source.host_path().type(), path = mounted.host_path;
    Task<absl::Status> check =
        env_.Blocking<absl::Status>([path, type] { return CheckHostPath(path, type); });
    absl::Status status = co_await std::move(check);
    if (!status.ok()) co_return status;
    co_return mounted;
  }
  if (source.has_empty_dir() || kind.empty()) {
    EmptyDirSpec spec;
    spec.path = VolumePath(options_, uid, "empty-dir", volume.name());
    const std::string& medium = source.empty_dir().medium();
    if (!medium.empty() && medium != "Memory") {
      co_return absl::UnimplementedError(
          StrCat("spec.volumes[", index, "].emptyDir.medium: \"", medium, "\" is not implemented"));
    }
    spec.memory = medium == "Memory";
    if (spec.memory) spec.size_bytes = MemoryVolumeSize(*pod, source.empty_dir(), Allocatable());
    if (source.empty_dir().has_mode()) spec.mode = static_cast<uint32_t>(source.empty_dir().mode());
    spec.fs_group = FsGroup(*pod);
    mounted.host_path = spec.path;
    mounted.selinux_relabel = true;
    Task<absl::Status> set_up =
        env_.Blocking<absl::Status>([mounter, spec] { return SetUpEmptyDir(*mounter, spec); });
    absl::Status status = co_await std::move(set_up);
    if (!status.ok()) co_return status;
    co_return mounted;
  }
  std::string type = PayloadType(source);
  if (type.empty()) {
    co_return absl::UnimplementedError(
        StrCat("spec.volumes[", index, "].", kind, ": volumes of this type are not implemented"));
  }
  CO_ASSIGN_OR_RETURN(Payload payload, GatherPayload(pod, volume));
  std::string path = VolumePath(options_, uid, type, volume.name());
  bool memory = type != "configmap";  // secrets and what may hold them never touch a disk
  int64_t fs_group = FsGroup(*pod);
  absl::Time now = env_.clock().Now();
  Task<absl::Status> set_up =
      env_.Blocking<absl::Status>([mounter, path, memory, payload = std::move(payload), fs_group, now] {
        return SetUpPayloadDir(*mounter, path, memory, payload, fs_group, now);
      });
  absl::Status status = co_await std::move(set_up);
  if (!status.ok()) co_return status;
  mounted.host_path = path;
  mounted.read_only = true;
  mounted.selinux_relabel = true;
  co_return mounted;
}

Task<absl::Status> VolumeManagerImpl::AddConfigMapSource(PodPtr pod, std::string name, bool optional,
                                                         KeyItems items, PayloadDefaults defaults,
                                                         Payload* payload) {
  if (objects_ == nullptr) co_return absl::FailedPreconditionError("ConfigMaps need an API server");
  Task<absl::StatusOr<std::shared_ptr<const corev1::ConfigMap>>> get =
      objects_->GetConfigMap(pod->metadata().namespace_(), name);
  absl::StatusOr<std::shared_ptr<const corev1::ConfigMap>> object = co_await std::move(get);
  if (!object.ok() && !(optional && api::IsNotFound(object.status()))) co_return object.status();
  const corev1::ConfigMap* found = object.ok() ? object->get() : nullptr;
  absl::Status added = AddConfigMap(found, items, optional, defaults, payload);
  co_return added.ok() ? added : Annotate(added, StrCat("configmap ", name));
}

Task<absl::Status> VolumeManagerImpl::AddSecretSource(PodPtr pod, std::string name, bool optional,
                                                      KeyItems items, PayloadDefaults defaults,
                                                      Payload* payload) {
  if (objects_ == nullptr) co_return absl::FailedPreconditionError("Secrets need an API server");
  Task<absl::StatusOr<std::shared_ptr<const corev1::Secret>>> get =
      objects_->GetSecret(pod->metadata().namespace_(), name);
  absl::StatusOr<std::shared_ptr<const corev1::Secret>> object = co_await std::move(get);
  if (!object.ok() && !(optional && api::IsNotFound(object.status()))) co_return object.status();
  const corev1::Secret* found = object.ok() ? object->get() : nullptr;
  absl::Status added = AddSecret(found, items, optional, defaults, payload);
  co_return added.ok() ? added : Annotate(added, StrCat("secret ", name));
}

Task<absl::Status> VolumeManagerImpl::AddProjection(PodPtr pod, corev1::VolumeProjection source,
                                                    std::string field, PayloadDefaults defaults,
                                                    Payload* payload) {
  if (source.has_config_map()) {
    const auto& map = source.config_map();
    Task<absl::Status> add = AddConfigMapSource(pod, map.local_object_reference().name(), map.optional(),
                                                map.items(), defaults, payload);
    co_return co_await std::move(add);
  }
  if (source.has_secret()) {
    const auto& secret = source.secret();
    Task<absl::Status> add = AddSecretSource(pod, secret.local_object_reference().name(), secret.optional(),
                                             secret.items(), defaults, payload);
    co_return co_await std::move(add);
  }
  if (source.has_downward_api()) {
    co_return AddDownwardApi(*pod, source.downward_api().items(), defaults, Allocatable(), payload);
  }
  co_return absl::UnimplementedError(StrCat(field, ".", SourceName(source), ": is not implemented"));
}

Task<absl::StatusOr<Payload>> VolumeManagerImpl::GatherPayload(PodPtr pod, corev1::Volume volume) {
  const corev1::VolumeSource& source = volume.volume_source();
  Payload payload;
  absl::Status status;
  if (source.has_config_map()) {
    const auto& map = source.config_map();
    Task<absl::Status> add = AddConfigMapSource(pod, map.local_object_reference().name(), map.optional(),
                                                map.items(), Defaults(map), &payload);
    status = co_await std::move(add);
  } else if (source.has_secret()) {
    const auto& secret = source.secret();
    Task<absl::Status> add = AddSecretSource(pod, secret.secret_name(), secret.optional(), secret.items(),
                                             Defaults(secret), &payload);
    status = co_await std::move(add);
  } else if (source.has_downward_api()) {
    status = AddDownwardApi(*pod, source.downward_api().items(), Defaults(source.downward_api()),
                            Allocatable(), &payload);
  } else {
    PayloadDefaults defaults = Defaults(source.projected());
    for (int i = 0; status.ok() && i < source.projected().sources_size(); ++i) {
      std::string field = StrCat("spec.volumes[", volume.name(), "].projected.sources[", i, "]");
      Task<absl::Status> add = AddProjection(pod, source.projected().sources(i), field, defaults, &payload);
      status = co_await std::move(add);
    }
  }
  if (!status.ok()) co_return status;
  co_return payload;
}

Task<absl::StatusOr<std::string>> VolumeManagerImpl::PrepareSubPath(PodPtr pod, std::string container_name,
                                                                    int mount_index, std::string volume_name,
                                                                    std::string sub_path) {
  const std::string uid = PodUid(*pod);
  auto found = pods_.find(uid);
  if (found == pods_.end())
    co_return absl::FailedPreconditionError(StrCat("volume \"", volume_name, "\" is not mounted"));
  PodStatePtr state = found->second;
  Task<AsyncMutex::Guard> lock = state->mutex.Lock();
  AsyncMutex::Guard guard = co_await std::move(lock);
  auto volume = state->mounted.find(volume_name);
  if (volume == state->mounted.end() || state->gone) {
    co_return absl::FailedPreconditionError(StrCat("volume \"", volume_name, "\" is not mounted"));
  }
  CO_RETURN_IF_ERROR_SYNC(CheckName("container name", container_name));
  if (sub_path.starts_with('/'))
    co_return absl::InvalidArgumentError(StrCat("subPath \"", sub_path, "\" must be relative"));
  std::string target =
      StrCat(PodDir(options_, uid), "/volume-subpaths/", volume_name, "/", container_name, "/", mount_index);
  std::string volume_path = volume->second.host_path;
  std::shared_ptr<Mounter> mounter = mounter_;
  Task<absl::Status> bind = env_.Blocking<absl::Status>([mounter, volume_path, sub_path, target] {
    return BindSubPath(*mounter, volume_path, sub_path, target);
  });
  absl::Status status = co_await std::move(bind);
  if (!status.ok()) co_return Annotate(status, StrCat("volume \"", volume_name, "\""));
  co_return target;
}

Task<absl::Status> VolumeManagerImpl::Unmount(std::string uid) {
  CO_RETURN_IF_ERROR_SYNC(CheckName("metadata.uid", uid));
  PodStatePtr state = std::make_shared<PodState>();
  if (auto found = pods_.find(uid); found != pods_.end()) state = found->second;
  Task<AsyncMutex::Guard> lock = state->mutex.Lock();
  AsyncMutex::Guard guard = co_await std::move(lock);
  state->gone = true;
  std::shared_ptr<Mounter> mounter = mounter_;
  std::string dir = PodDir(options_, uid);
  Task<absl::Status> tear_down = env_.Blocking<absl::Status>([mounter, dir]() -> absl::Status {
    RETURN_IF_ERROR(TearDownVolumes(*mounter, dir + "/volume-subpaths"));
    return TearDownVolumes(*mounter, dir + "/volumes");
  });
  absl::Status status = co_await std::move(tear_down);
  if (!status.ok()) co_return Annotate(status, StrCat("unmount volumes of pod ", uid));
  if (auto found = pods_.find(uid); found != pods_.end() && found->second == state) pods_.erase(found);
  co_return absl::OkStatus();
}

void VolumeManagerImpl::OnObjectChange(const std::string& kind, const std::string& ns,
                                       const std::string& name) {
  for (const auto& [uid, state] : pods_) {
    if (state->gone || state->pod == nullptr || state->pod->metadata().namespace_() != ns) continue;
    if (!Names(*state->pod, kind, name) || !rewriting_.insert(uid).second) continue;
    scope_.Spawn(StrCat("rewrite volumes of ", PodName(*state->pod)), Rewrite(state));
  }
}

Task<void> VolumeManagerImpl::Rewrite(PodStatePtr state) {
  Task<AsyncMutex::Guard> lock = state->mutex.Lock();
  AsyncMutex::Guard guard = co_await std::move(lock);
  PodPtr pod = state->pod;
  rewriting_.erase(PodUid(*pod));
  if (state->gone) co_return;
  for (int i = 0; i < pod->spec().volumes_size(); ++i) {
    if (PayloadType(pod->spec().volumes(i).volume_source()).empty()) continue;
    Task<absl::StatusOr<MountedVolume>> mount = MountOne(pod, i);
    absl::StatusOr<MountedVolume> mounted = co_await std::move(mount);
    if (mounted.ok()) continue;
    LogWarning(
        "cannot refresh a volume, its files stay as they were",
        {{"pod", PodName(*pod)}, {"volume", pod->spec().volumes(i).name()}, {"error", mounted.status()}});
  }
}

}  // namespace keelson::kubelet
