// The rows of docs/bench/README.md that load a running master over TLS, one function each. Each prints its
// figures.
#pragma once

#include <absl/status/status.h>

#include <functional>
#include <string>
#include <vector>

#include "base/env.h"
#include "base/task.h"
#include "client/kubeconfig.h"
#include "net/http_client.h"
#include "tests/bench/measure.h"

namespace keelson::bench {

// A master as its administrator reaches it.
struct Target {
  Env* env = nullptr;
  client::KubeConfig config;
  net::HttpEndpoint endpoint;
  int server_pid = 0;
};
absl::StatusOr<Target> OpenTarget(Env* env, const std::string& kubeconfig, int server_pid);

// ---- requests (api_requests.cc) ----

net::HttpClientRequest JsonRequest(std::string method, std::string target, std::string body = "",
                                   std::string content_type = "application/json");
// One exchange; another status than `status` (0: any 2xx) is an error with the server's words.
Task<absl::StatusOr<net::HttpClientResponse>> Exchange(Target target, net::HttpClient* client,
                                                       net::HttpClientRequest request, int status = 0);

// `total` requests over `connections` connections that each wait for their answer.
struct Load {
  size_t connections = 1;
  size_t total = 0;
  std::function<net::HttpClientRequest(size_t number)> make;
  // Filled in by RunLoad.
  std::vector<double> ms;
  size_t next = 0, errors = 0;
  std::string first_error;
};
// Connections are opened before the clock starts. An error is one of the set-up; failed requests are counted.
Task<absl::Status> RunLoad(Target target, Load* load, CpuWindow* window);
// RunLoad, printed.
Task<absl::Status> LoadRow(Target target, std::string name, Load load);

struct Sizes {
  size_t creates_1 = 2000, creates_16 = 6000, creates_64 = 7000;  // 15,000 ConfigMap writes together
  size_t gets = 20000, pods = 5000, patches = 10000, lists = 20;
};
Task<absl::Status> CreateRows(Target target, Sizes sizes);
Task<absl::Status> GetRow(Target target, Sizes sizes);
// Creates the pods of PatchRow and ListRow; they ask for a scheduler that nobody is.
Task<absl::Status> CreatePods(Target target, Sizes sizes);
Task<absl::Status> PatchRow(Target target, Sizes sizes);
Task<absl::Status> ListRow(Target target, Sizes sizes);

// 100 watchers at 200 creates a second for 5 s: from the request to the event (watch_row.cc).
Task<absl::Status> WatchRow(Target target);
// One ReplicationController, its pods bound to hollow nodes (rc_row.cc).
Task<absl::Status> RcRow(Target target, int nodes, int replicas);

// ---- start (start_row.cc) ----

struct StartOptions {
  std::string keelson, root;
  int port = 0, runs = 5;
};
// PKI and kubeconfigs of a cluster under `root`, as `keelson up` makes them.
absl::Status MakePki(Env* env, const StartOptions& options);
// From exec to /readyz and to the default ServiceAccount, each time with an empty store.
Task<absl::Status> StartRow(Env* env, StartOptions options);
// 4 KiB appended and fdatasync'ed in `dir`, one after the other.
absl::Status FsyncRow(Env* env, const std::string& dir);

}  // namespace keelson::bench
