// One large ReplicationController on hollow nodes: from its creation until the last of its pods is bound.
#include "api/core/v1/node.pb.h"
#include "api/core/v1/pod.pb.h"
#include "api/time.h"
#include "base/status.h"
#include "base/strings.h"
#include "client/http_api_client.h"
#include "client/informer.h"
#include "tests/bench/api_rows.h"

namespace keelson::bench {
namespace {

namespace corev1 = ::k8s::core::v1;

constexpr absl::Duration kBoundLimit = absl::Seconds(120);
constexpr absl::Duration kHeartbeat = absl::Seconds(10);

// Registers the nodes and keeps them Ready, as so many kubelets without pods would.
class HollowNodes {
 public:
  HollowNodes(Target target, int count)
      : target_(target), client_(target.env, net::HttpClientOptions()), count_(count) {}

  Task<absl::Status> Register() {
    for (int i = 0; i < count_; ++i) {
      net::HttpClientRequest create =
          JsonRequest("POST", "/api/v1/nodes",
                      StrCat(R"({"apiVersion":"v1","kind":"Node","metadata":{"name":"hollow-)", i, R"("}})"));
      CO_ASSIGN_OR_RETURN([[maybe_unused]] net::HttpClientResponse made,
                          Exchange(target_, &client_, std::move(create)));
      CO_RETURN_IF_ERROR(Renew(i, true));
    }
    co_return absl::OkStatus();
  }

  Task<void> Heartbeats() {
    while (true) {
      Task<void> sleep = target_.env->clock().Sleep(kHeartbeat);
      co_await std::move(sleep);
      for (int i = 0; i < count_; ++i) {
        Task<absl::Status> renew = Renew(i, false);
        absl::Status status = co_await std::move(renew);
        if (!status.ok()) std::fprintf(stderr, "hollow node %d: %s\n", i, status.ToString().c_str());
      }
    }
  }

  Task<absl::Status> Unregister() {
    for (int i = 0; i < count_; ++i) {
      net::HttpClientRequest remove = JsonRequest("DELETE", StrCat("/api/v1/nodes/hollow-", i));
      CO_ASSIGN_OR_RETURN([[maybe_unused]] net::HttpClientResponse gone,
                          Exchange(target_, &client_, std::move(remove)));
    }
    co_return absl::OkStatus();
  }

 private:
  Task<absl::Status> Renew(int i, bool first) {
    std::string now = api::FormatTime(api::ToApiTime(target_.env->clock().Now()));
    std::string condition =
        StrCat(R"({"type":"Ready","status":"True","reason":"KubeletReady","message":"hollow",)",
               R"("lastHeartbeatTime":")", now, R"(","lastTransitionTime":")", now, R"("})");
    std::string capacity = R"({"cpu":"64","memory":"256Gi","pods":"250","ephemeral-storage":"1Ti"})";
    std::string status = StrCat(R"({"status":{"conditions":[)", condition, "]");
    if (first) StrAppend(&status, R"(,"capacity":)", capacity, R"(,"allocatable":)", capacity);
    status += "}}";
    net::HttpClientRequest patch = JsonRequest("PATCH", StrCat("/api/v1/nodes/hollow-", i, "/status"), status,
                                               "application/strategic-merge-patch+json");
    CO_ASSIGN_OR_RETURN([[maybe_unused]] net::HttpClientResponse done,
                        Exchange(target_, &client_, std::move(patch)));
    co_return absl::OkStatus();
  }

  Target target_;
  net::HttpClient client_;
  const int count_;
};

struct Progress {
  size_t created = 0, bound = 0;
  absl::Duration last_created, last_bound;
};

Task<bool> Until(Env* env, std::function<bool()> done) {
  absl::Duration end = env->clock().Monotonic() + kBoundLimit;
  while (!done()) {
    if (env->clock().Monotonic() > end) co_return false;
    Task<void> sleep = env->clock().Sleep(absl::Milliseconds(2));
    co_await std::move(sleep);
  }
  co_return true;
}

// True when the scheduler may use it.
bool Usable(const corev1::Node& node) {
  return node.spec().taints_size() == 0 && node.metadata().name().starts_with("hollow-");
}

// DELETE of the collection, while the garbage collector goes for the same pods.
Task<absl::Status> DeleteAll(Target target, std::string path, size_t count) {
  net::HttpClientOptions options;
  net::HttpClient client(target.env, options);
  net::HttpClientRequest request = JsonRequest("DELETE", std::move(path));
  request.timeout = kBoundLimit;
  CpuWindow window(target.env, target.server_pid);
  CO_ASSIGN_OR_RETURN([[maybe_unused]] net::HttpClientResponse gone,
                      Exchange(target, &client, std::move(request)));
  window.End();
  Row row("delete_collection");
  row.Set("objects", count).Set("seconds", window.wall_s()).SetCpu(window, count).Print();
  co_return absl::OkStatus();
}

std::string Controller(int replicas) {
  return StrCat(
      R"({"apiVersion":"v1","kind":"ReplicationController","metadata":{"name":"hollow"},"spec":{"replicas":)",
      replicas, R"(,"selector":{"app":"hollow"},"template":{"metadata":{"labels":{"app":"hollow"}},)",
      R"("spec":{"containers":[{"name":"app","image":"registry.example.com/app:1","resources":)",
      R"({"requests":{"cpu":"10m","memory":"16Mi"}}}]}}}})");
}

Task<absl::Status> Measure(Target target, client::Informer* pods, Progress* progress, int nodes,
                           int replicas) {
  Env* env = target.env;
  net::HttpClient client(env, net::HttpClientOptions());
  Task<void> synced = pods->WaitForSync();
  co_await std::move(synced);
  std::string ns = R"({"apiVersion":"v1","kind":"Namespace","metadata":{"name":"bench-rc"}})";
  net::HttpClientRequest make_ns = JsonRequest("POST", "/api/v1/namespaces", ns);
  CO_ASSIGN_OR_RETURN([[maybe_unused]] net::HttpClientResponse made,
                      Exchange(target, &client, std::move(make_ns)));
  CpuWindow window(env, target.server_pid);
  absl::Duration start = env->clock().Monotonic();
  net::HttpClientRequest create =
      JsonRequest("POST", "/api/v1/namespaces/bench-rc/replicationcontrollers", Controller(replicas));
  CO_ASSIGN_OR_RETURN(made, Exchange(target, &client, std::move(create)));
  Task<bool> wait =
      Until(env, [progress, replicas] { return progress->bound >= static_cast<size_t>(replicas); });
  bool all = co_await std::move(wait);
  window.End();
  Row row("rc_bound");
  row.Set("nodes", nodes)
      .Set("replicas", replicas)
      .Set("created", progress->created)
      .Set("bound", progress->bound);
  row.Set("all_created_s", absl::ToDoubleSeconds(progress->last_created - start));
  row.Set("seconds", all ? absl::ToDoubleSeconds(progress->last_bound - start) : 1e9);
  row.SetCpu(window, static_cast<size_t>(replicas)).Set("errors", all ? 0 : 1);
  row.Print();
  net::HttpClientRequest scale =
      JsonRequest("DELETE", "/api/v1/namespaces/bench-rc/replicationcontrollers/hollow");
  CO_ASSIGN_OR_RETURN(made, Exchange(target, &client, std::move(scale)));
  co_return absl::OkStatus();
}

}  // namespace

Task<absl::Status> RcRow(Target target, int nodes, int replicas) {
  Env* env = target.env;
  CO_ASSIGN_OR_RETURN_SYNC(std::unique_ptr<client::ApiClient> api,
                           client::NewHttpApiClient(*env, target.config));
  HollowNodes hollow(target, nodes);
  CO_RETURN_IF_ERROR(hollow.Register());
  Scope scope(env->executor());
  scope.Spawn("heartbeats", hollow.Heartbeats());
  client::Informer node_informer(*env, *api, client::GvrOf<corev1::Node>());
  node_informer.Start();
  Task<bool> usable = Until(env, [&node_informer, nodes] {
    int count = 0;
    for (const auto& node : node_informer.ListAs<corev1::Node>()) count += Usable(*node) ? 1 : 0;
    return count == nodes;
  });
  bool ready = co_await std::move(usable);
  absl::Status status =
      ready ? absl::OkStatus() : absl::DeadlineExceededError("hollow nodes keep their taints");
  client::InformerOptions options;
  options.ns = "bench-rc";
  client::Informer pods(*env, *api, client::GvrOf<corev1::Pod>(), options);
  Progress progress;
  pods.AddHandler([env, &progress](const client::ObjectPtr& before, const client::ObjectPtr& after) {
    if (after == nullptr) return;
    const auto& pod = static_cast<const corev1::Pod&>(*after);
    const bool was_bound =
        before != nullptr && !static_cast<const corev1::Pod&>(*before).spec().node_name().empty();
    if (before == nullptr) {
      ++progress.created;
      progress.last_created = env->clock().Monotonic();
    }
    if (was_bound || pod.spec().node_name().empty()) return;
    ++progress.bound;
    progress.last_bound = env->clock().Monotonic();
  });
  pods.Start();
  if (status.ok()) {
    Task<absl::Status> measure = Measure(target, &pods, &progress, nodes, replicas);
    status = co_await std::move(measure);
  }
  Task<absl::Status> clean = DeleteAll(target, "/api/v1/namespaces/bench-rc/pods?gracePeriodSeconds=0",
                                       static_cast<size_t>(replicas));
  absl::Status cleaned = co_await std::move(clean);
  Task<void> close = scope.Close();
  co_await std::move(close);
  Task<void> stop_pods = pods.Stop();
  co_await std::move(stop_pods);
  Task<void> stop_nodes = node_informer.Stop();
  co_await std::move(stop_nodes);
  CO_RETURN_IF_ERROR(hollow.Unregister());
  co_return status.ok() ? cleaned : status;
}

}  // namespace keelson::bench
