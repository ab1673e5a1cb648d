#include "kubelet/image_manager.h"

#include <algorithm>
#include <limits>

#include "base/log.h"
#include "base/status.h"
#include "kubelet/generate_container_config.h"

namespace keelson::kubelet {
namespace {

// Gives the slot back however the pull ends.
class SlotGuard {
 public:
  explicit SlotGuard(Semaphore& slots) : slots_(slots) {}
  ~SlotGuard() { slots_.Release(); }

 private:
  Semaphore& slots_;
};

std::string Quoted(const std::string& text) { return StrCat("\"", text, "\""); }

std::string Took(absl::Duration d) { return absl::FormatDuration(absl::Trunc(d, absl::Milliseconds(1))); }

size_t Slots(const ImageManagerOptions& options) {
  if (options.serialize_pulls) return 1;
  return options.max_parallel_pulls > 0 ? options.max_parallel_pulls : std::numeric_limits<int>::max();
}

}  // namespace

std::string ContainerFieldPath(const corev1::Pod& pod, const std::string& container) {
  for (const auto& c : pod.spec().containers()) {
    if (c.name() == container) return StrCat("spec.containers{", container, "}");
  }
  for (const auto& c : pod.spec().init_containers()) {
    if (c.name() == container) return StrCat("spec.initContainers{", container, "}");
  }
  for (const auto& c : pod.spec().ephemeral_containers()) {
    if (c.ephemeral_container_common().name() == container) {
      return StrCat("spec.ephemeralContainers{", container, "}");
    }
  }
  return "";
}

std::string EffectivePullPolicy(const corev1::Container& container) {
  if (!container.image_pull_policy().empty()) return container.image_pull_policy();
  std::string image = ApplyDefaultImageTag(container.image());
  constexpr std::string_view kLatest = ":latest";
  bool latest = image.size() >= kLatest.size() &&
                image.compare(image.size() - kLatest.size(), kLatest.size(), kLatest) == 0;
  return latest ? "Always" : "IfNotPresent";
}

ImageManager::ImageManager(Env& env, cri::ImageService& images, client::EventRecorder* events,
                           ObjectCache* objects, ImageManagerOptions options)
    : env_(env),
      images_(images),
      events_(events),
      objects_(objects),
      options_(options),
      slots_(Slots(options)),
      scope_(env.executor()) {}

ImageManager::~ImageManager() = default;

void ImageManager::Event(const corev1::Pod& pod, const corev1::Container& c, const char* type,
                         const char* reason, const std::string& message) {
  if (events_ != nullptr) events_->Event(pod, type, reason, message, ContainerFieldPath(pod, c.name()));
}

Task<absl::StatusOr<criv1::ImageStatusResponse>> ImageManager::Inspect(std::string image) {
  criv1::ImageStatusRequest request;
  request.mutable_image()->set_image(image);
  return images_.ImageStatus(std::move(request));
}

Task<std::vector<criv1::AuthConfig>> ImageManager::Credentials(PodPtr pod, std::string image) {
  std::vector<criv1::AuthConfig> out;
  if (objects_ == nullptr) co_return out;
  for (int i = 0; i < pod->spec().image_pull_secrets_size(); ++i) {
    std::string name = pod->spec().image_pull_secrets(i).name();
    Task<absl::StatusOr<std::shared_ptr<const corev1::Secret>>> task =
        objects_->GetSecret(pod->metadata().namespace_(), name);
    absl::StatusOr<std::shared_ptr<const corev1::Secret>> secret = co_await std::move(task);
    if (!secret.ok() || *secret == nullptr) {
      if (events_ != nullptr) {
        events_->Event(*pod, "Warning", "FailedToRetrieveImagePullSecret",
                       StrCat("Unable to retrieve some image pull secrets (", name,
                              "); attempting to pull the image may not succeed."));
      }
      continue;
    }
    std::vector<criv1::AuthConfig> found = CredentialsFromSecret(**secret, image);
    out.insert(out.end(), found.begin(), found.end());
  }
  co_return out;
}

Task<void> ImageManager::RunPull(std::string key, std::shared_ptr<Pull> pull, std::string image,
                                 std::vector<criv1::AuthConfig> credentials,
                                 criv1::PodSandboxConfig sandbox) {
  const absl::Duration asked = env_.clock().Monotonic();
  Task<void> acquire = slots_.Acquire();
  co_await std::move(acquire);
  SlotGuard slot(slots_);
  const absl::Duration started = env_.clock().Monotonic();
  pull->waited = started - asked;
  size_t attempts = std::max<size_t>(credentials.size(), 1);
  for (size_t i = 0; i < attempts; ++i) {
    criv1::PullImageRequest request;
    request.mutable_image()->set_image(image);
    request.mutable_image()->set_user_specified_image(image);
    *request.mutable_sandbox_config() = sandbox;
    if (i < credentials.size()) *request.mutable_auth() = credentials[i];
    Task<absl::StatusOr<criv1::PullImageResponse>> task = images_.PullImage(std::move(request));
    absl::StatusOr<criv1::PullImageResponse> response = co_await std::move(task);
    pull->status = response.status();
    if (response.ok()) {
      pull->image_ref = response->image_ref();
      break;
    }
  }
  pull->took = env_.clock().Monotonic() - started;
  pulls_.erase(key);
  pull->done.Set();
}

Task<EnsuredImage> ImageManager::Ensure(PodPtr pod, corev1::Container container,
                                        criv1::PodSandboxConfig sandbox) {
  EnsuredImage out;
  if (container.image().empty() || container.image().find_first_of(" \t\n") != std::string::npos) {
    out.reason = "InvalidImageName";
    out.message = StrCat("Failed to apply default image tag ", Quoted(container.image()),
                         ": couldn't parse image name: invalid reference format");
    out.retry_after = absl::Seconds(10);
    Event(*pod, container, "Warning", "InspectFailed", out.message);
    Event(*pod, container, "Warning", "Failed", StrCat("Error: ", out.reason));
    co_return out;
  }
  const std::string image = ApplyDefaultImageTag(container.image());
  Task<absl::StatusOr<criv1::ImageStatusResponse>> inspect = Inspect(image);
  absl::StatusOr<criv1::ImageStatusResponse> found = co_await std::move(inspect);
  if (!found.ok()) {
    out.reason = "ImageInspectError";
    out.message =
        StrCat("Failed to inspect image ", Quoted(container.image()), ": ", Sv(found.status().message()));
    out.retry_after = absl::Seconds(10);
    Event(*pod, container, "Warning", "InspectFailed", out.message);
    Event(*pod, container, "Warning", "Failed", StrCat("Error: ", out.reason));
    co_return out;
  }
  const std::string policy = EffectivePullPolicy(container);
  const bool present = found->has_image() && !found->image().id().empty();
  const std::string key = StrCat(PodUid(*pod), "/", image);
  if (policy == "Never" && !present) {
    out.reason = "ErrImageNeverPull";
    out.message =
        StrCat("Container image ", Quoted(container.image()), " is not present with pull policy of Never");
    out.retry_after = absl::Seconds(10);
    Event(*pod, container, "Warning", "ErrImageNeverPull", out.message);
    Event(*pod, container, "Warning", "Failed", StrCat("Error: ", out.reason));
    co_return out;
  }
  if (present && policy != "Always") {
    Event(*pod, container, "Normal", "Pulled",
          StrCat("Container image ", Quoted(container.image()), " already present on machine"));
  } else {
    const absl::Time now = env_.clock().Now();
    // Measured since the last failure: the entry's own time.
    absl::Duration left = backoff_.RemainingSinceUpdate(key, now);
    if (left > absl::ZeroDuration()) {
      out.reason = "ImagePullBackOff";
      out.message = StrCat("Back-off pulling image ", Quoted(container.image()));
      Event(*pod, container, "Normal", "BackOff", out.message);
      Event(*pod, container, "Warning", "Failed", StrCat("Error: ", out.reason));
      auto last = last_errors_.find(key);
      if (last != last_errors_.end()) StrAppend(&out.message, ": ErrImagePull: ", last->second);
      out.retry_after = left;
      co_return out;
    }
    Task<std::vector<criv1::AuthConfig>> secrets = Credentials(pod, image);
    std::vector<criv1::AuthConfig> credentials = co_await std::move(secrets);
    std::string pull_key = image;
    for (const auto& c : credentials) StrAppend(&pull_key, "\n", c.SerializeAsString());
    std::shared_ptr<Pull>& slot = pulls_[pull_key];
    std::shared_ptr<Pull> pull = slot;
    const absl::Duration asked = env_.clock().Monotonic();
    Event(*pod, container, "Normal", "Pulling", StrCat("Pulling image ", Quoted(container.image())));
    if (pull == nullptr) {
      pull = std::make_shared<Pull>();
      slot = pull;
      scope_.Spawn("image-pull", RunPull(pull_key, pull, image, std::move(credentials), std::move(sandbox)));
    }
    Task<void> wait = pull->done.Wait();
    co_await std::move(wait);
    if (!pull->status.ok()) {
      out.reason = "ErrImagePull";
      out.message = std::string(Sv(pull->status.message()));
      last_errors_[key] = out.message;
      Event(*pod, container, "Warning", "Failed",
            StrCat("Failed to pull image ", Quoted(container.image()), ": ", out.message));
      Event(*pod, container, "Warning", "Failed", StrCat("Error: ", out.reason));
      absl::Time failed = env_.clock().Now();
      backoff_.Next(key, failed, failed);
      out.retry_after = absl::Seconds(1);  // ImagePullBackOff is told then
      co_return out;
    }
    last_errors_.erase(key);
    Task<absl::StatusOr<criv1::ImageStatusResponse>> again = Inspect(image);
    absl::StatusOr<criv1::ImageStatusResponse> pulled = co_await std::move(again);
    if (pulled.ok()) found = std::move(pulled);
    std::string size =
        found->image().size() > 0 ? StrCat(" Image size: ", found->image().size(), " bytes.") : "";
    Event(*pod, container, "Normal", "Pulled",
          StrCat("Successfully pulled image ", Quoted(container.image()), " in ", Took(pull->took), " (",
                 Took(env_.clock().Monotonic() - asked), " including waiting).", size));
    out.image_ref = pull->image_ref;
  }
  if (out.image_ref.empty()) out.image_ref = found->image().id();
  if (out.image_ref.empty()) out.image_ref = image;
  if (found->image().has_uid()) {
    out.uid = found->image().uid().value();
  } else if (!found->image().username().empty()) {
    out.uid = -1;
    out.username = found->image().username();
  }
  co_return out;
}

void ImageManager::CollectBackoff() { backoff_.Collect(env_.clock().Now()); }

Task<void> ImageManager::Stop() {
  Task<void> close = scope_.Close();
  co_await std::move(close);
}

}  // namespace keelson::kubelet
