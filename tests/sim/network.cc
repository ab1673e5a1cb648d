#include "tests/sim/network.h"

#include <absl/strings/numbers.h>

#include "api/status_error.h"
#include "base/log.h"
#include "base/strings.h"
#include "master/apiserver/local_client.h"
#include "master/apiserver/registry.h"

namespace keelson::sim {
namespace {

constexpr absl::Duration kWatchIdle =
    absl::Minutes(3);  // as HttpApiClientOptions: a silent stream is dead by then
constexpr absl::Duration kMaxHop = absl::Milliseconds(2);  // one way, without faults
constexpr absl::Duration kRefused = absl::Milliseconds(1);

absl::Status Lost(const std::string& what) {
  return absl::UnavailableError(StrCat(what, ": connection lost"));
}

}  // namespace

SimNetwork::SimNetwork(Env& env, uint64_t seed, std::function<void(std::string)> violation)
    : env_(env), random_(seed), violation_(std::move(violation)) {}

SimNetwork::~SimNetwork() = default;

bool SimNetwork::Chance(double p) { return p > 0 && static_cast<double>(random_() >> 11) * 0x1.0p-53 < p; }

absl::Duration SimNetwork::Uniform(absl::Duration bound) {
  return absl::Microseconds(random_() % (absl::ToInt64Microseconds(bound) + 1));
}

void SimNetwork::Serve(master::ApiServer* server, History* history) {
  server_ = server;
  history_ = history;
  scope_ = std::make_unique<Scope>(env_.executor());
}

Task<void> SimNetwork::Unserve() {
  if (server_ == nullptr) co_return;
  server_ = nullptr;
  for (auto& weak : pending_) {
    if (std::shared_ptr<PendingBase> pending = weak.lock()) {
      pending->lost = true;
      pending->done.Set();
    }
  }
  pending_.clear();
  BreakWatches();
  Task<void> close = scope_->Close();
  co_await std::move(close);
  scope_.reset();
}

void SimNetwork::BreakWatches() {
  for (auto& weak : streams_) {
    if (std::shared_ptr<Stream> stream = weak.lock()) End(*stream, Lost("watch"));
  }
  streams_.clear();
}

void SimNetwork::CutOff(const std::string& host) {
  cut_.insert(host);
  for (auto& weak : streams_) {
    std::shared_ptr<Stream> stream = weak.lock();
    if (stream == nullptr || stream->host != host) continue;
    if (Chance(0.5)) {
      End(*stream, Lost("watch"));
      continue;
    }
    stream->stalled = true;
    std::weak_ptr<Stream> later = stream;
    env_.clock().Schedule(kWatchIdle, [this, later] {
      if (std::shared_ptr<Stream> s = later.lock()) End(*s, Lost("watch"));
    });
  }
}

void SimNetwork::End(Stream& stream, absl::Status status) {
  if (!stream.end.has_value()) stream.end = std::move(status);
  stream.changed.NotifyAll();
}

void SimNetwork::Deliver(Stream& stream, client::WatchEvent event) {
  master::Revision revision = 0;
  if (!absl::SimpleAtoi(event.resource_version, &revision)) {
    violation_(StrCat("watch of ", stream.prefix, ": resourceVersion \"", event.resource_version, "\""));
  }
  const bool bookmark = event.type == client::WatchEventType::kBookmark;
  if (revision < stream.last || (revision == stream.last && !bookmark)) {
    violation_(StrCat("watch of ", stream.prefix, " went from ", stream.last, " to ", revision));
  }
  if (!stream.prefix.empty()) {
    // A bookmark says that everything up to and including its revision was sent.
    master::Revision before = history_->Before(stream.prefix, bookmark ? revision + 1 : revision);
    if (before > stream.last) {
      violation_(
          StrCat("watch of ", stream.prefix, " from ", stream.last, " to ", revision, " missed ", before));
    }
  }
  stream.last = revision;
  stream.queue.push_back(std::move(event));
  stream.changed.NotifyAll();
}

template <class R>
Task<void> SimNetwork::RunCall(std::shared_ptr<client::ApiClient> local, Task<R> call,
                               std::shared_ptr<Pending<R>> pending) {
  R result = co_await std::move(call);
  pending->result.emplace(std::move(result));
  pending->done.Set();
}

Task<void> SimNetwork::Pump(SimNetwork* net, std::shared_ptr<client::ApiClient> local,
                            api::GroupVersionResource gvr, std::string ns, client::WatchOptions options,
                            std::shared_ptr<Stream> stream) {
  Task<absl::StatusOr<std::unique_ptr<client::Watcher>>> watch = local->Watch(gvr, ns, options);
  absl::StatusOr<std::unique_ptr<client::Watcher>> watcher = co_await std::move(watch);
  stream->opened = watcher.status();
  stream->changed.NotifyAll();
  if (!watcher.ok()) co_return;
  while (!stream->closed && !stream->end.has_value()) {
    Task<absl::StatusOr<std::optional<client::WatchEvent>>> next = (*watcher)->Next();
    absl::StatusOr<std::optional<client::WatchEvent>> event = co_await std::move(next);
    if (stream->stalled || stream->closed || stream->end.has_value()) co_return;
    if (!event.ok() || !event->has_value()) {
      net->End(*stream, event.status());
      co_return;
    }
    net->Deliver(*stream, **std::move(event));
  }
}

std::unique_ptr<SimClient> SimNetwork::NewClient(std::string host, master::UserInfo user) {
  return std::make_unique<SimClient>(*this, std::move(host), std::move(user));
}

// The client's end of a watch.
class SimWatcher : public client::Watcher {
 public:
  explicit SimWatcher(std::shared_ptr<SimNetwork::Stream> stream) : stream_(std::move(stream)) {}
  ~SimWatcher() override { stream_->closed = true; }
  Task<absl::StatusOr<std::optional<client::WatchEvent>>> Next() override {
    while (stream_->queue.empty() && !stream_->end.has_value()) {
      Task<void> wait = stream_->changed.Wait();
      co_await std::move(wait);
    }
    if (!stream_->queue.empty()) {
      std::optional<client::WatchEvent> event(std::move(stream_->queue.front()));
      stream_->queue.pop_front();
      co_return event;
    }
    if (!stream_->end->ok()) co_return *stream_->end;
    co_return std::optional<client::WatchEvent>();
  }

 private:
  std::shared_ptr<SimNetwork::Stream> stream_;
};

std::shared_ptr<client::ApiClient> SimClient::Local() const {
  return master::NewLocalClient(net_.server_->pipeline(), user_);
}

template <class R, class Invoke>
Task<R> SimClient::Call(std::string what, bool may_conflict, Invoke invoke) {
  // All of its fate is drawn at once, so that what happens meanwhile does not change the draws of others.
  const bool lose_request = net_.Chance(net_.faults.lose_request);
  const bool lose_answer = net_.Chance(net_.faults.lose_answer);
  const bool conflict = may_conflict && net_.Chance(net_.faults.conflict);
  absl::Duration hop = net_.Uniform(kMaxHop), back = net_.Uniform(kMaxHop);
  if (net_.Chance(net_.faults.slow)) hop += net_.Uniform(net_.faults.max_delay);
  const absl::Duration deadline = net_.env_.clock().Monotonic() + client::kDefaultCallTimeout;
  Task<void> there = net_.env_.clock().Sleep(hop);
  co_await std::move(there);
  if (net_.IsCutOff(host_)) {
    Task<void> timeout = net_.env_.clock().Sleep(deadline - net_.env_.clock().Monotonic());
    co_await std::move(timeout);
    co_return absl::DeadlineExceededError(StrCat(what, ": no answer"));
  }
  if (!net_.Reachable(host_)) {
    Task<void> refused = net_.env_.clock().Sleep(kRefused);
    co_await std::move(refused);
    co_return absl::UnavailableError(StrCat(what, ": connection refused"));
  }
  if (lose_request) co_return Lost(what);
  if (conflict) co_return api::Conflict({}, what);
  auto pending = std::make_shared<SimNetwork::Pending<R>>();
  pending->host = host_;
  std::shared_ptr<client::ApiClient> local = Local();
  Task<R> call = invoke(*local);
  net_.scope_->Spawn(what, SimNetwork::RunCall<R>(local, std::move(call), pending));
  net_.pending_.remove_if([](const auto& weak) { return weak.expired(); });
  net_.pending_.push_back(pending);
  local.reset();
  Task<void> wait = pending->done.Wait();
  co_await std::move(wait);
  if (pending->lost || lose_answer) co_return Lost(what);
  Task<void> home = net_.env_.clock().Sleep(back);
  co_await std::move(home);
  if (net_.IsCutOff(host_)) {
    Task<void> timeout = net_.env_.clock().Sleep(deadline - net_.env_.clock().Monotonic());
    co_await std::move(timeout);
    co_return absl::DeadlineExceededError(StrCat(what, ": no answer"));
  }
  co_return *std::move(pending->result);
}

Task<absl::StatusOr<client::ObjectPtr>> SimClient::Get(api::GroupVersionResource gvr, std::string ns,
                                                       std::string name) {
  return Call<absl::StatusOr<client::ObjectPtr>>(StrCat("get ", gvr.resource), false,
                                                 [=](client::ApiClient& c) { return c.Get(gvr, ns, name); });
}

Task<absl::StatusOr<client::ObjectList>> SimClient::List(api::GroupVersionResource gvr, std::string ns,
                                                         client::ListOptions options) {
  return Call<absl::StatusOr<client::ObjectList>>(
      StrCat("list ", gvr.resource), false, [=](client::ApiClient& c) { return c.List(gvr, ns, options); });
}

Task<absl::StatusOr<client::ObjectPtr>> SimClient::Create(api::GroupVersionResource gvr, std::string ns,
                                                          client::ObjectPtr object, std::string name,
                                                          std::string subresource) {
  return Call<absl::StatusOr<client::ObjectPtr>>(
      StrCat("create ", gvr.resource), false,
      [=](client::ApiClient& c) { return c.Create(gvr, ns, object, name, subresource); });
}

Task<absl::StatusOr<client::ObjectPtr>> SimClient::Update(api::GroupVersionResource gvr, std::string ns,
                                                          client::ObjectPtr object, std::string subresource) {
  return Call<absl::StatusOr<client::ObjectPtr>>(
      StrCat("update ", gvr.resource), true,
      [=](client::ApiClient& c) { return c.Update(gvr, ns, object, subresource); });
}

Task<absl::StatusOr<client::ObjectPtr>> SimClient::Patch(api::GroupVersionResource gvr, std::string ns,
                                                         std::string name, client::PatchType type,
                                                         std::string patch, std::string subresource) {
  return Call<absl::StatusOr<client::ObjectPtr>>(
      StrCat("patch ", gvr.resource), true,
      [=](client::ApiClient& c) { return c.Patch(gvr, ns, name, type, patch, subresource); });
}

Task<absl::Status> SimClient::Delete(api::GroupVersionResource gvr, std::string ns, std::string name,
                                     client::DeleteOptions options) {
  return Call<absl::Status>(StrCat("delete ", gvr.resource), false,
                            [=](client::ApiClient& c) { return c.Delete(gvr, ns, name, options); });
}

Task<absl::StatusOr<std::unique_ptr<client::Watcher>>> SimClient::Watch(api::GroupVersionResource gvr,
                                                                        std::string ns,
                                                                        client::WatchOptions options) {
  const bool fails = net_.Chance(net_.faults.lose_request);
  const bool breaks = net_.Chance(net_.faults.break_watch);
  const absl::Duration breaks_after = net_.Uniform(absl::Minutes(1));
  Task<void> hop = net_.env_.clock().Sleep(net_.Uniform(kMaxHop));
  co_await std::move(hop);
  if (fails || !net_.Reachable(host_)) {
    Task<void> refused =
        net_.env_.clock().Sleep(net_.IsCutOff(host_) ? client::kDefaultCallTimeout : kRefused);
    co_await std::move(refused);
    co_return Lost(StrCat("watch ", gvr.resource));
  }
  auto stream = std::make_shared<SimNetwork::Stream>();
  stream->host = host_;
  (void)absl::SimpleAtoi(options.resource_version, &stream->last);
  const master::ResourceInfo* row = master::Registry::Get().Find(gvr);
  // Without a start the stream begins with the state there is, in the order of names.
  if (stream->last == 0) co_return absl::InvalidArgumentError("the simulation watches from a revision only");
  if (row != nullptr && ns.empty() && options.label_selector.empty() && options.field_selector.empty() &&
      row->storage == row) {
    stream->prefix = row->storage_prefix;
  }
  net_.scope_->Spawn("watch", SimNetwork::Pump(&net_, Local(), gvr, ns, options, stream));
  net_.streams_.remove_if([](const auto& weak) { return weak.expired(); });
  net_.streams_.push_back(stream);
  while (!stream->opened.has_value() && !stream->end.has_value()) {
    Task<void> wait = stream->changed.Wait();
    co_await std::move(wait);
  }
  if (stream->end.has_value()) co_return Lost("watch");
  if (!stream->opened->ok()) co_return *stream->opened;
  if (breaks) {
    std::weak_ptr<SimNetwork::Stream> later = stream;
    SimNetwork* net = &net_;
    net->env_.clock().Schedule(breaks_after, [net, later] {
      if (std::shared_ptr<SimNetwork::Stream> s = later.lock()) net->End(*s, Lost("watch"));
    });
  }
  std::unique_ptr<client::Watcher> watcher = std::make_unique<SimWatcher>(stream);
  co_return watcher;
}

}  // namespace keelson::sim
