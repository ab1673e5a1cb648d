// Rows of requests that wait for their answer: create, get, patch, list.
#include <algorithm>

#include "base/status.h"
#include "base/strings.h"
#include "tests/bench/api_rows.h"

namespace keelson::bench {
namespace {

constexpr size_t kValueBytes = 1024;
constexpr char kConfigMaps[] = "/api/v1/namespaces/bench/configmaps";
constexpr char kPods[] = "/api/v1/namespaces/bench/pods";
constexpr size_t kSetupConnections = 16;
constexpr size_t kMaxListBytes = 256 << 20;

std::string ConfigMap(const std::string& name) {
  return StrCat(R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":")", name,
                R"("},"data":{"value":")", std::string(kValueBytes, 'v'), R"("}})");
}

// About 1.6 KB as JSON once the server has filled in the rest.
std::string Pod(size_t number) {
  std::string name = StrCat("pod-", number);
  return StrCat(
      R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":")", name,
      R"(","labels":{"app":"bench","number":")", number,
      R"(","tier":"frontend"},"annotations":{"bench.keelson.io/note":"kept by the loader to give the pod a usual size"}},)",
      R"("spec":{"schedulerName":"nobody","containers":[{"name":"app","image":"registry.example.com/team/app:1.2.3",)",
      R"("args":["--listen=:8080","--backend=mysql.default.svc.cluster.local:3306"],"env":[{"name":"MYSQL_HOST",)",
      R"("value":"mysql"},{"name":"NODE","valueFrom":{"fieldRef":{"fieldPath":"spec.nodeName"}}}],)",
      R"("ports":[{"name":"http","containerPort":8080}],"resources":{"requests":{"cpu":"100m","memory":"128Mi"},)",
      R"("limits":{"memory":"256Mi"}}}]}})");
}

net::HttpClientOptions ClientOptions(size_t connections) {
  net::HttpClientOptions options;
  options.user_agent = "keelson-bench";
  options.max_idle_per_endpoint = connections;
  options.max_connections_per_endpoint = connections;
  options.max_body_bytes = kMaxListBytes;
  return options;
}

// State of one RunLoad that its connections share.
struct Running {
  Running(Target to, Load* what)
      : target(std::move(to)),
        client(target.env, ClientOptions(what->connections)),
        load(what),
        warm_left(what->connections),
        left(what->connections) {}
  Target target;
  net::HttpClient client;
  Load* load;
  AsyncEvent go, warm, done;
  size_t warm_left, left;
};

void CountError(Load* load, const std::string& text) {
  if (load->errors++ == 0) load->first_error = text;
}

Task<void> OneConnection(Running* running) {
  Load* load = running->load;
  Clock& clock = running->target.env->clock();
  Task<absl::StatusOr<net::HttpClientResponse>> first =
      running->client.Do(running->target.endpoint, JsonRequest("GET", "/readyz"));
  absl::StatusOr<net::HttpClientResponse> opened = co_await std::move(first);
  if (!opened.ok()) CountError(load, opened.status().ToString());
  if (--running->warm_left == 0) running->warm.Set();
  Task<void> go = running->go.Wait();
  co_await std::move(go);
  while (load->next < load->total) {
    net::HttpClientRequest request = load->make(load->next++);
    absl::Duration start = clock.Monotonic();
    Task<absl::StatusOr<net::HttpClientResponse>> call =
        running->client.Do(running->target.endpoint, std::move(request));
    absl::StatusOr<net::HttpClientResponse> response = co_await std::move(call);
    load->ms.push_back(absl::ToDoubleMilliseconds(clock.Monotonic() - start));
    if (!response.ok()) {
      CountError(load, response.status().ToString());
    } else if (response->status < 200 || response->status > 299) {
      CountError(load, StrCat(response->status, " ", response->body.substr(0, 300)));
    }
  }
  if (--running->left == 0) running->done.Set();
}

}  // namespace

net::HttpClientRequest JsonRequest(std::string method, std::string target, std::string body,
                                   std::string content_type) {
  net::HttpClientRequest request;
  request.method = std::move(method);
  request.target = std::move(target);
  request.headers.Add("Accept", "application/json");
  if (!body.empty()) {
    request.headers.Add("Content-Type", std::move(content_type));
    request.body = net::MakeSharedBytes(std::move(body));
  }
  return request;
}

absl::StatusOr<Target> OpenTarget(Env* env, const std::string& kubeconfig, int server_pid) {
  Target target;
  target.env = env;
  target.server_pid = server_pid;
  ASSIGN_OR_RETURN(target.config, client::LoadKubeConfig(kubeconfig));
  ASSIGN_OR_RETURN(net::HttpUrl url, net::HttpUrl::Parse(target.config.server));
  net::TlsClientConfig tls;
  tls.ca_pem = target.config.ca_pem;
  tls.certificate_pem = target.config.client_certificate_pem;
  tls.private_key_pem = target.config.client_key_pem;
  ASSIGN_OR_RETURN(std::shared_ptr<net::TlsClientContext> context, net::TlsClientContext::Create(tls));
  target.endpoint = net::HttpEndpoint::FromUrl(url, std::move(context));
  return target;
}

Task<absl::StatusOr<net::HttpClientResponse>> Exchange(Target target, net::HttpClient* client,
                                                       net::HttpClientRequest request, int status) {
  std::string what = StrCat(request.method, " ", request.target);
  CO_ASSIGN_OR_RETURN(net::HttpClientResponse response, client->Do(target.endpoint, std::move(request)));
  const bool as_asked =
      status == 0 ? response.status >= 200 && response.status <= 299 : response.status == status;
  if (!as_asked)
    co_return absl::InternalError(StrCat(what, ": ", response.status, " ", response.body.substr(0, 500)));
  co_return response;
}

Task<absl::Status> RunLoad(Target target, Load* load, CpuWindow* window) {
  Running running(target, load);
  load->ms.reserve(load->total);
  Scope scope(target.env->executor());
  for (size_t i = 0; i < load->connections; ++i) scope.Spawn("connection", OneConnection(&running));
  Task<void> warm = running.warm.Wait();
  co_await std::move(warm);
  *window = CpuWindow(target.env, target.server_pid);
  running.go.Set();
  Task<void> done = running.done.Wait();
  co_await std::move(done);
  window->End();
  Task<void> close = scope.Close();
  co_await std::move(close);
  co_return absl::OkStatus();
}

Task<absl::Status> LoadRow(Target target, std::string name, Load load) {
  CpuWindow window(target.env, target.server_pid);
  CO_RETURN_IF_ERROR(RunLoad(target, &load, &window));
  Row row(name);
  row.Set("connections", load.connections).Set("requests", load.total);
  row.Set("per_s", static_cast<double>(load.total) / window.wall_s())
      .SetLatencies(load.ms)
      .SetCpu(window, load.total);
  row.Set("errors", load.errors);
  if (load.errors > 0) row.Set("first_error", load.first_error);
  row.Print();
  co_return absl::OkStatus();
}

Task<absl::Status> CreateRows(Target target, Sizes sizes) {
  net::HttpClient client(target.env, ClientOptions(1));
  std::string ns = R"({"apiVersion":"v1","kind":"Namespace","metadata":{"name":"bench"}})";
  net::HttpClientRequest request = JsonRequest("POST", "/api/v1/namespaces", ns);
  CO_ASSIGN_OR_RETURN([[maybe_unused]] net::HttpClientResponse made,
                      Exchange(target, &client, std::move(request)));
  const std::pair<size_t, size_t> runs[] = {
      {1, sizes.creates_1}, {16, sizes.creates_16}, {64, sizes.creates_64}};
  for (const auto& [connections, total] : runs) {
    Load load;
    load.connections = connections;
    load.total = total;
    load.make = [connections = connections](size_t number) {
      return JsonRequest("POST", kConfigMaps, ConfigMap(StrCat("c", connections, "-", number)));
    };
    CO_RETURN_IF_ERROR(LoadRow(target, StrCat("create_configmap_", connections), std::move(load)));
  }
  co_return absl::OkStatus();
}

Task<absl::Status> GetRow(Target target, Sizes sizes) {
  Load load;
  load.connections = 64;
  load.total = sizes.gets;
  load.make = [count = sizes.creates_64](size_t number) {
    return JsonRequest("GET", StrCat(kConfigMaps, "/c64-", number % count));
  };
  CO_RETURN_IF_ERROR(LoadRow(target, "get_64", std::move(load)));
  co_return absl::OkStatus();
}

Task<absl::Status> CreatePods(Target target, Sizes sizes) {
  Load load;
  load.connections = kSetupConnections;
  load.total = sizes.pods;
  load.make = [](size_t number) { return JsonRequest("POST", kPods, Pod(number)); };
  CO_RETURN_IF_ERROR(LoadRow(target, "create_pod_16", std::move(load)));
  co_return absl::OkStatus();
}

Task<absl::Status> PatchRow(Target target, Sizes sizes) {
  Load load;
  load.connections = 64;
  load.total = sizes.patches;
  load.make = [count = sizes.pods](size_t number) {
    std::string patch =
        StrCat(R"({"metadata":{"annotations":{"bench.keelson.io/round":")", number, R"("}}})");
    return JsonRequest("PATCH", StrCat(kPods, "/pod-", number % count), patch,
                       "application/strategic-merge-patch+json");
  };
  CO_RETURN_IF_ERROR(LoadRow(target, "patch_pod_64", std::move(load)));
  co_return absl::OkStatus();
}

Task<absl::Status> ListRow(Target target, Sizes sizes) {
  net::HttpClient client(target.env, ClientOptions(1));
  net::HttpClientRequest warm = JsonRequest("GET", "/readyz");
  CO_ASSIGN_OR_RETURN([[maybe_unused]] net::HttpClientResponse ready,
                      Exchange(target, &client, std::move(warm)));
  std::vector<double> ms, cpu_ms;
  double first_cpu_ms = 0, others_s = 0, wall_s = 0;
  size_t bytes = 0;
  for (size_t i = 0; i <= sizes.lists; ++i) {
    CpuWindow window(target.env, target.server_pid);
    net::HttpClientRequest request = JsonRequest("GET", kPods);
    CO_ASSIGN_OR_RETURN(net::HttpClientResponse response, Exchange(target, &client, std::move(request)));
    window.End();
    bytes = response.body.size();
    if (i == 0) {
      first_cpu_ms = window.server_cpu_s() * 1e3;  // nothing encoded yet
      continue;
    }
    ms.push_back(window.wall_s() * 1e3);
    cpu_ms.push_back(window.server_cpu_s() * 1e3);
    others_s += window.others_cpu_s();
    wall_s += window.wall_s();
  }
  Row row("list_pods");
  row.Set("objects", sizes.pods).Set("bytes", bytes).SetLatencies(ms);
  row.Set("server_cpu_ms", Percentile(cpu_ms, 0.5)).Set("first_server_cpu_ms", first_cpu_ms);
  row.Set("others_cpu_percent", others_s * 100 / wall_s).Print();
  co_return absl::OkStatus();
}

}  // namespace keelson::bench
