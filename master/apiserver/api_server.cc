#include "master/apiserver/api_server.h"

#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "master/apiserver/local_client.h"

namespace keelson::master {

absl::StatusOr<std::unique_ptr<ApiServer>> ApiServer::Create(Env& env, Store& store,
                                                             ApiServerOptions options) {
  PipelineOptions pipeline_options;
  pipeline_options.service_cidr = options.service_cidr;
  pipeline_options.cluster_dns = options.cluster_dns;
  pipeline_options.node_port_min = options.node_port_min;
  pipeline_options.node_port_max = options.node_port_max;
  pipeline_options.bookmark_interval = options.bookmark_interval;
  absl::StatusOr<std::unique_ptr<Pipeline>> pipeline =
      Pipeline::Create(env, store, std::move(pipeline_options));
  if (!pipeline.ok()) return pipeline.status();
  return std::unique_ptr<ApiServer>(new ApiServer(env, std::move(options), *std::move(pipeline)));
}

ApiServer::ApiServer(Env& env, ApiServerOptions options, std::unique_ptr<Pipeline> pipeline)
    : env_(env), options_(std::move(options)), pipeline_(std::move(pipeline)), scope_(env.executor()) {
  HttpFrontendOptions frontend;
  frontend.discovery.server_address = StrCat(options_.advertise_address, ":", options_.advertise_port);
  frontend.pod_log.kubelet_tls = options_.kubelet_tls;
  frontend_ = std::make_unique<HttpFrontend>(env_, *pipeline_, std::move(frontend));
}

ApiServer::~ApiServer() = default;

Task<absl::Status> ApiServer::Start() {
  Task<absl::Status> start = pipeline_->Start();
  absl::Status status = co_await std::move(start);
  if (!status.ok()) co_return status;
  std::unique_ptr<client::ApiClient> client = NewClient("system:apiserver");
  Task<absl::Status> bootstrap = Bootstrap(*client);
  status = co_await std::move(bootstrap);
  if (!status.ok()) co_return Annotate(status, "create the objects every cluster starts with");
  scope_.Spawn("apiserver-repair", RepairForever());
  co_return absl::OkStatus();
}

Task<void> ApiServer::RepairForever() {
  for (;;) {
    Task<void> sleep = env_.clock().Sleep(options_.repair_interval);
    co_await std::move(sleep);
    pipeline_->allocator().Repair(*pipeline_);
  }
}

Task<void> ApiServer::Stop() {
  Task<void> close = scope_.Close();
  co_await std::move(close);
  Task<void> close_streams = frontend_->Close();
  co_await std::move(close_streams);
  Task<void> stop = pipeline_->Stop();
  co_await std::move(stop);
}

std::unique_ptr<client::ApiClient> ApiServer::NewClient(std::string user_name) {
  UserInfo user;
  user.name = std::move(user_name);
  user.groups = {std::string(kGroupMasters), std::string(kGroupAuthenticated)};
  return NewLocalClient(*pipeline_, std::move(user));
}

}  // namespace keelson::master
