// PodStreamProxy: pods/exec, pods/attach and pods/portforward. Checks the request, opens the connection to
// the node's kubelet with the API server's client certificate, and hands the bytes through; the WebSocket
// protocols a kubelet may not know are translated (stream_translator.h).
#pragma once

#include <absl/status/status.h>

#include <memory>
#include <string>

#include "base/env.h"
#include "master/apiserver/pipeline.h"
#include "master/apiserver/request.h"
#include "master/apiserver/stream_translator.h"
#include "net/http_client.h"
#include "net/http_server.h"

namespace keelson::master {

// The kubelet's query for a request to `subresource`: names differ (stdin is input), the container is in the
// path. BadRequest: no command, or no stream at all. Pure.
absl::StatusOr<net::QueryParams> KubeletStreamQuery(const std::string& subresource,
                                                    const net::QueryParams& query,
                                                    TranslatedStreams* streams);

class PodStreamProxy {
 public:
  // Both outlive Close(). `kubelet_tls` null: not served.
  PodStreamProxy(Env& env, Pipeline& pipeline, std::shared_ptr<net::TlsClientContext> kubelet_tls);
  // Ends what is under way; the HttpServer is closed before.
  Task<void> Close() { return scope_.Close(); }

  static bool IsStream(const std::string& subresource);

  // Serves the connection to its end, or returns the error to send. `code` gets what was answered.
  Task<absl::Status> Serve(ApiRequest request, net::HttpRequest http, net::ResponseWriter& writer, int* code);

 private:
  Env& env_;
  Pipeline& pipeline_;
  const std::shared_ptr<net::TlsClientContext> kubelet_tls_;
  net::HttpClient client_;
  Scope scope_;
};

}  // namespace keelson::master
