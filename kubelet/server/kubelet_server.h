// KubeletServer: the kubelet's HTTPS port (10250), for the API server, and plain healthz on loopback (10248).
//
//   /healthz /metrics /pods /runningpods /containerLogs/{namespace}/{pod}/{container}
//   /exec/{namespace}/{pod}[/{uid}]/{container}?command=&input=1&output=1&error=1&tty=1   an upgrade to SPDY
//   /attach/...  /portForward/{namespace}/{pod}[/{uid}]                                    or WebSocket
//   POST /run/{namespace}/{pod}[/{uid}]/{container}?cmd=
//
// Who may: a client certificate of clientCAFile whose user is kube-apiserver-kubelet-client or that is in the
// group system:masters. None or one that does not verify: 401; another user: 403. One loop.
#pragma once

#include <absl/status/status.h>

#include <memory>
#include <string>

#include "base/env.h"
#include "base/task.h"
#include "kubelet/config/kubelet_settings.h"
#include "kubelet/node_api.h"
#include "net/http_server.h"

namespace keelson::kubelet {

// What a path and query of exec and the like ask for. Pure.
struct StreamTarget {
  std::string ns, pod, uid, container;
  StreamRequest request;
  std::vector<int32_t> ports;
};
// InvalidArgument names what is missing.
absl::StatusOr<StreamTarget> ParseStreamTarget(const net::HttpTarget& target);

inline constexpr char kApiServerUser[] = "kube-apiserver-kubelet-client";
inline constexpr char kMastersGroup[] = "system:masters";

// 0: let in; 401 or 403. `who` gets the user's name. Pure.
int Authorize(const net::HttpRequest& request, std::string* who);

class KubeletServer {
 public:
  // env and node outlive Stop(). `node_name`, `node_ips` and `cert_dir` are for the certificate made when
  // none is configured.
  KubeletServer(Env& env, NodeApi& node, ServerSettings settings, std::string node_name,
                std::vector<std::string> node_ips, std::string cert_dir);
  ~KubeletServer();

  // Listens. AlreadyExists names who has the port; InvalidArgument names the certificate file.
  absl::Status Start();
  Task<void> Stop();

  // For tests: the handler behind the ports, authorisation included.
  net::HttpHandler& handler();
  uint16_t port() const;
  uint16_t healthz_port() const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace keelson::kubelet
