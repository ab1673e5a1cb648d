// HttpFrontend: the API over HTTP. Authenticates, maps path, query, body and Accept header to an ApiRequest,
// runs the Pipeline, encodes the answer. One loop.
#pragma once

#include <memory>
#include <string>

#include "base/env.h"
#include "base/metrics.h"
#include "master/apiserver/discovery.h"
#include "master/apiserver/negotiation.h"
#include "master/apiserver/openapi.h"
#include "master/apiserver/pipeline.h"
#include "master/apiserver/pod_log.h"
#include "master/apiserver/pod_stream.h"
#include "master/apiserver/request_path.h"
#include "master/apiserver/response_encoder.h"
#include "net/http_server.h"

namespace keelson::master {

struct HttpFrontendOptions {
  DiscoveryOptions discovery;
  PodLogOptions pod_log;
};

class HttpFrontend : public net::HttpHandler {
 public:
  // Both outlive every Handle().
  HttpFrontend(Env& env, Pipeline& pipeline, HttpFrontendOptions options);
  ~HttpFrontend() override;
  // Ends upgraded connections; the HttpServer is closed before.
  Task<void> Close() { return pod_stream_.Close(); }

  Task<void> Handle(net::HttpRequest request, net::ResponseWriter& writer) override;

 private:
  struct Exchange;  // one request on its way

  Task<void> Route(Exchange& x);
  Task<void> ServePath(Exchange& x);  // everything but resources
  Task<void> ServeResource(Exchange& x);
  Task<void> ServeWatch(Exchange& x);
  Task<void> ServeLog(Exchange& x);
  Task<void> ServeStream(Exchange& x);
  Task<void> SendError(Exchange& x, absl::Status status);
  Task<void> SendResponse(Exchange& x, int code, std::string content_type, net::HttpBody body);
  Task<void> SendHealth(Exchange& x, std::string name, bool readiness);

  absl::Status ReadOptions(Exchange& x);
  absl::Status ReadBody(Exchange& x);
  absl::Status ReadDeleteOptions(Exchange& x);

  Env& env_;
  Pipeline& pipeline_;
  const HttpFrontendOptions options_;
  Discovery discovery_;
  OpenApi openapi_;
  PodLogProxy pod_log_;
  PodStreamProxy pod_stream_;
};

}  // namespace keelson::master
