// GET pods/NAME/log: the kubelet's :10250/containerLogs passed through.
#pragma once

#include <absl/status/status.h>

#include <memory>

#include "base/env.h"
#include "base/task.h"
#include "master/apiserver/pipeline.h"
#include "net/http_client.h"
#include "net/http_server.h"

namespace keelson::master {

struct PodLogOptions {
  // Client certificate for kubelets and the CA to know them by. Null: logs are not served.
  std::shared_ptr<net::TlsClientContext> kubelet_tls;
};

class PodLogProxy {
 public:
  PodLogProxy(Env& env, Pipeline& pipeline, PodLogOptions options);

  // Sends the whole answer, or returns the error to send. OK: done.
  Task<absl::Status> Serve(const ApiRequest& request, const net::QueryParams& query,
                           net::ResponseWriter& writer);

 private:
  Pipeline& pipeline_;
  const PodLogOptions options_;
  net::HttpClient client_;
};

}  // namespace keelson::master
