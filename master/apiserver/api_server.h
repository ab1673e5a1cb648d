// ApiServer: the API of `keelson master` put together: Pipeline, HTTP front end, local clients, and the
// objects every cluster starts with (system namespaces, priority classes, the `kubernetes` Service). The
// caller owns the listening HttpServer and the Store.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <memory>
#include <string>

#include "base/env.h"
#include "base/task.h"
#include "client/api_client.h"
#include "master/apiserver/http_frontend.h"
#include "master/apiserver/pipeline.h"
#include "master/store/store.h"
#include "net/http_server.h"

namespace keelson::master {

struct ApiServerOptions {
  std::string service_cidr = "10.96.0.0/12";
  std::string cluster_dns;  // no Service can have this address; "": the tenth of service_cidr
  int node_port_min = 30000, node_port_max = 32767;  // inclusive
  // Where nodes and pods reach this server, for discovery. The `kubernetes` Service is the bootstrap
  // controller's.
  std::string advertise_address;
  uint16_t advertise_port = 6443;
  // For pods/log: client certificate known to kubelets. Null: logs are answered with 503.
  std::shared_ptr<net::TlsClientContext> kubelet_tls;
  absl::Duration bookmark_interval = absl::Minutes(1);
  absl::Duration repair_interval = absl::Minutes(3);  // of service addresses and ports
};

class ApiServer {
 public:
  // env and store outlive Stop(). InvalidArgument names the option.
  static absl::StatusOr<std::unique_ptr<ApiServer>> Create(Env& env, Store& store, ApiServerOptions options);
  ~ApiServer();  // after Stop()

  // Loads the caches, creates the objects every cluster starts with. Requests are answered from then on
  // (/readyz says so); health checks before.
  Task<absl::Status> Start();
  // Ends watches and background tasks. The HttpServer is closed before.
  Task<void> Stop();

  net::HttpHandler& handler() { return *frontend_; }
  Pipeline& pipeline() { return *pipeline_; }
  // A client that acts as `user_name` in group system:masters ("system:kube-controller-manager", ...).
  std::unique_ptr<client::ApiClient> NewClient(std::string user_name);

 private:
  ApiServer(Env& env, ApiServerOptions options, std::unique_ptr<Pipeline> pipeline);
  Task<void> RepairForever();

  Env& env_;
  const ApiServerOptions options_;
  std::unique_ptr<Pipeline> pipeline_;
  std::unique_ptr<HttpFrontend> frontend_;
  Scope scope_;
};

// bootstrap.cc: creates the system namespaces and priority classes that are missing. Runs any number of
// times.
Task<absl::Status> Bootstrap(client::ApiClient& client);

}  // namespace keelson::master
