#include "kubelet/pleg.h"

#include <algorithm>

#include "base/log.h"
#include "base/status.h"

namespace keelson::kubelet {
namespace {

constexpr absl::Duration kEventRetry = absl::Seconds(5);  // after an event stream broke
constexpr absl::Duration kEventsUnimplementedRetry = absl::Minutes(10);

template <class T>
bool NewerFirst(const T& a, const T& b) {
  if (a.created_at() != b.created_at()) return a.created_at() > b.created_at();
  if (a.metadata().attempt() != b.metadata().attempt())
    return a.metadata().attempt() > b.metadata().attempt();
  return a.id() > b.id();
}

std::string UidOf(const google::protobuf::Map<std::string, std::string>& labels) {
  auto it = labels.find(kLabelPodUid);
  return it == labels.end() ? "" : it->second;
}

}  // namespace

Pleg::Pleg(Env& env, cri::RuntimeService& runtime, PodCache& cache, PlegOptions options,
           std::function<void(const PlegEvent&)> on_event)
    : env_(env),
      runtime_(runtime),
      cache_(cache),
      options_(std::move(options)),
      on_event_(std::move(on_event)),
      scope_(env.executor()),
      last_relist_(env.clock().Monotonic()) {}

Pleg::~Pleg() = default;

void Pleg::Start() {
  scope_.Spawn("pleg-relist", RelistLoop());
  scope_.Spawn("pleg-events", EventLoop());
}

Task<void> Pleg::Stop() {
  Task<void> close = scope_.Close();
  co_await std::move(close);
}

bool Pleg::Ours(const google::protobuf::Map<std::string, std::string>& labels) const {
  if (UidOf(labels).empty()) return false;
  auto it = labels.find(kLabelNode);
  return it == labels.end() || options_.node_name.empty() || it->second == options_.node_name;
}

// By pod UID; `uid` "" : all.
Task<absl::StatusOr<Pleg::ListedPods>> Pleg::List(std::string uid) {
  criv1::ListPodSandboxRequest pods;
  criv1::ListContainersRequest containers;
  if (!uid.empty()) {
    (*pods.mutable_filter()->mutable_label_selector())[kLabelPodUid] = uid;
    (*containers.mutable_filter()->mutable_label_selector())[kLabelPodUid] = uid;
  }
  CO_ASSIGN_OR_RETURN(criv1::ListPodSandboxResponse sandboxes, runtime_.ListPodSandbox(std::move(pods)));
  CO_ASSIGN_OR_RETURN(criv1::ListContainersResponse list, runtime_.ListContainers(std::move(containers)));
  ListedPods out;
  for (auto& s : *sandboxes.mutable_items()) {
    if (Ours(s.labels())) out[UidOf(s.labels())].sandboxes.push_back(std::move(s));
  }
  for (auto& c : *list.mutable_containers()) {
    if (Ours(c.labels())) out[UidOf(c.labels())].containers.push_back(std::move(c));
  }
  co_return out;
}

Pleg::Record Pleg::RecordOf(const Listed& listed) {
  Record out;
  for (const auto& s : listed.sandboxes) out.sandboxes[s.id()] = s.state();
  for (const auto& c : listed.containers) out.containers[c.id()] = c.state();
  return out;
}

Task<absl::StatusOr<RuntimePodStatusPtr>> Pleg::Inspect(std::string uid,
                                                        std::vector<criv1::PodSandbox> sandboxes,
                                                        std::vector<criv1::Container> containers,
                                                        uint64_t mark) {
  auto out = std::make_shared<RuntimePodStatus>();
  out->uid = uid;
  out->mark = mark;
  std::sort(sandboxes.begin(), sandboxes.end(), NewerFirst<criv1::PodSandbox>);
  std::sort(containers.begin(), containers.end(), NewerFirst<criv1::Container>);
  if (!sandboxes.empty()) {
    out->name = sandboxes.front().metadata().name();
    out->ns = sandboxes.front().metadata().namespace_();
  } else if (!containers.empty()) {
    auto label = [&](const char* key) {
      auto it = containers.front().labels().find(key);
      return it == containers.front().labels().end() ? std::string() : it->second;
    };
    out->name = label(kLabelPodName);
    out->ns = label(kLabelPodNamespace);
  }
  for (const auto& s : sandboxes) {
    criv1::PodSandboxStatusRequest request;
    request.set_pod_sandbox_id(s.id());
    Task<absl::StatusOr<criv1::PodSandboxStatusResponse>> task =
        runtime_.PodSandboxStatus(std::move(request));
    absl::StatusOr<criv1::PodSandboxStatusResponse> response = co_await std::move(task);
    if (!response.ok()) {
      if (absl::IsNotFound(response.status())) continue;  // removed meanwhile
      co_return Annotate(response.status(), StrCat("status of sandbox ", s.id()));
    }
    out->sandboxes.push_back(std::move(*response->mutable_status()));
  }
  for (const auto& s : out->sandboxes) {
    if (s.state() != criv1::SANDBOX_READY) continue;
    if (!s.network().ip().empty()) out->ips.push_back(s.network().ip());
    for (const auto& ip : s.network().additional_ips()) out->ips.push_back(ip.ip());
    break;
  }
  for (const auto& c : containers) {
    criv1::ContainerStatusRequest request;
    request.set_container_id(c.id());
    Task<absl::StatusOr<criv1::ContainerStatusResponse>> task = runtime_.ContainerStatus(std::move(request));
    absl::StatusOr<criv1::ContainerStatusResponse> response = co_await std::move(task);
    if (!response.ok()) {
      if (absl::IsNotFound(response.status())) continue;
      co_return Annotate(response.status(), StrCat("status of container ", c.id()));
    }
    out->containers.push_back(std::move(*response->mutable_status()));
    out->sandbox_of[c.id()] = c.pod_sandbox_id();
  }
  co_return RuntimePodStatusPtr(std::move(out));
}

void Pleg::Emit(const std::string& uid, const Record& before, const Record& after) {
  bool any = false;
  auto emit = [&](PlegEventType type, const std::string& id) {
    any = true;
    on_event_({type, uid, id});
  };
  for (const auto& [id, state] : after.containers) {
    auto it = before.containers.find(id);
    if (it != before.containers.end() && it->second == state) continue;
    if (state == criv1::CONTAINER_RUNNING) emit(PlegEventType::kContainerStarted, id);
    if (state == criv1::CONTAINER_EXITED) emit(PlegEventType::kContainerDied, id);
  }
  for (const auto& [id, state] : before.containers) {
    if (after.containers.count(id) > 0) continue;
    emit(state == criv1::CONTAINER_EXITED ? PlegEventType::kContainerRemoved : PlegEventType::kContainerDied,
         id);
  }
  if (!any && before.sandboxes != after.sandboxes) emit(PlegEventType::kSandboxChanged, "");
}

Task<absl::Status> Pleg::Relist() {
  const uint64_t mark = cache_.Mark();
  const absl::Duration started = env_.clock().Monotonic();
  CO_ASSIGN_OR_RETURN(ListedPods listed, List(""));
  std::set<std::string> uids;
  for (const auto& [uid, l] : listed) uids.insert(uid);
  for (const auto& [uid, r] : records_) uids.insert(uid);
  std::vector<std::string> order(uids.begin(), uids.end());
  for (const std::string& uid : order) {
    if (record_marks_[uid] > mark) continue;  // refreshed on its own since
    Listed now;
    auto it = listed.find(uid);
    if (it != listed.end()) now = std::move(it->second);
    Record after = RecordOf(now);
    Record before;
    if (auto r = records_.find(uid); r != records_.end()) before = r->second;
    const bool gone = now.sandboxes.empty() && now.containers.empty();
    if (before == after && retry_.count(uid) == 0 && !gone) continue;
    if (gone) {
      cache_.Delete(uid, mark);
      records_.erase(uid);
      record_marks_.erase(uid);
      retry_.erase(uid);
      Emit(uid, before, after);
      continue;
    }
    Task<absl::StatusOr<RuntimePodStatusPtr>> task =
        Inspect(uid, std::move(now.sandboxes), std::move(now.containers), mark);
    absl::StatusOr<RuntimePodStatusPtr> status = co_await std::move(task);
    if (record_marks_[uid] > mark) continue;
    const bool failed = !status.ok();
    if (failed) LogWarning("pod status unknown", {{"pod_uid", uid}, {"error", status.status()}});
    cache_.Set(uid, std::move(status), mark);
    if (failed) {
      retry_.insert(uid);
      continue;
    }
    retry_.erase(uid);
    records_[uid] = after;
    record_marks_[uid] = mark;
    Emit(uid, before, after);
  }
  cache_.SetGlobal(mark);
  last_relist_ = started;
  relisted_ = true;
  co_return absl::OkStatus();
}

Task<absl::StatusOr<RuntimePodStatusPtr>> Pleg::Refresh(std::string uid) {
  const uint64_t mark = cache_.Mark();
  CO_ASSIGN_OR_RETURN(ListedPods listed, List(uid));
  Listed now = std::move(listed[uid]);
  Record after = RecordOf(now);
  Task<absl::StatusOr<RuntimePodStatusPtr>> task =
      Inspect(uid, std::move(now.sandboxes), std::move(now.containers), mark);
  absl::StatusOr<RuntimePodStatusPtr> status = co_await std::move(task);
  if (!status.ok()) co_return status.status();
  if (auto it = record_marks_.find(uid); it != record_marks_.end() && it->second > mark) co_return status;
  Record before;
  if (auto r = records_.find(uid); r != records_.end()) before = r->second;
  records_[uid] = after;
  record_marks_[uid] = mark;
  retry_.erase(uid);
  cache_.Set(uid, status, mark);
  if (before != after) Emit(uid, before, after);
  co_return status;
}

Task<void> Pleg::RelistLoop() {
  while (true) {
    Task<void> sleep = env_.clock().Sleep(options_.relist_period);
    co_await std::move(sleep);
    if (events_working_ && relisted_ && retry_.empty() &&
        env_.clock().Monotonic() - last_relist_ < options_.relist_period_with_events) {
      continue;
    }
    Task<absl::Status> task = Relist();
    absl::Status status = co_await std::move(task);
    if (!status.ok()) LogWarning("relist failed", {{"error", status}});
  }
}

Task<void> Pleg::RefreshForEvent(std::string uid) {
  if (!refreshing_.insert(uid).second) {
    refresh_again_.insert(uid);
    co_return;
  }
  do {
    refresh_again_.erase(uid);
    Task<absl::StatusOr<RuntimePodStatusPtr>> task = Refresh(uid);
    absl::StatusOr<RuntimePodStatusPtr> status = co_await std::move(task);
    if (!status.ok()) retry_.insert(uid);
  } while (refresh_again_.count(uid) > 0);
  refreshing_.erase(uid);
}

Task<void> Pleg::EventLoop() {
  while (true) {
    criv1::GetEventsRequest request;
    Task<absl::StatusOr<std::unique_ptr<cri::ContainerEventReader>>> open =
        runtime_.GetContainerEvents(std::move(request));
    absl::StatusOr<std::unique_ptr<cri::ContainerEventReader>> reader = co_await std::move(open);
    absl::Status why = reader.status();
    bool first = true;
    while (why.ok()) {
      Task<absl::StatusOr<std::optional<criv1::ContainerEventResponse>>> next = (*reader)->Next();
      absl::StatusOr<std::optional<criv1::ContainerEventResponse>> event = co_await std::move(next);
      if (!event.ok()) {
        why = event.status();
        break;
      }
      if (!event->has_value()) break;
      if (first) events_working_ = true;  // believed only once one has come
      first = false;
      const auto& sandbox = (*event)->pod_sandbox_status();
      std::string uid = sandbox.metadata().uid();
      if (uid.empty() || (!sandbox.labels().empty() && !Ours(sandbox.labels()))) continue;
      scope_.Spawn("pleg-refresh", RefreshForEvent(uid));
    }
    const bool had = events_working_;
    events_working_ = false;
    last_relist_ = std::min(last_relist_, env_.clock().Monotonic() - options_.relist_period);
    const bool never = absl::IsUnimplemented(why);
    if (never && !had) LogDebug("runtime offers no container events; relisting", {{"error", why}});
    Task<void> sleep = env_.clock().Sleep(never ? kEventsUnimplementedRetry : kEventRetry);
    co_await std::move(sleep);
  }
}

absl::Status Pleg::Healthy() const {
  absl::Duration ago = env_.clock().Monotonic() - last_relist_;
  absl::Duration bound = options_.unhealthy_after +
                         (events_working_ ? options_.relist_period_with_events : absl::ZeroDuration());
  if (!relisted_) return absl::UnavailableError("pleg has yet to be successful");
  if (ago > bound) {
    return absl::UnavailableError(StrCat("pleg was last seen active ", absl::FormatDuration(ago),
                                         " ago; threshold is ", absl::FormatDuration(bound)));
  }
  return absl::OkStatus();
}

}  // namespace keelson::kubelet
