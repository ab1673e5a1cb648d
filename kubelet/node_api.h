// NodeApi: what the kubelet's own HTTP server (kubelet/server) asks of the kubelet. Implemented by Kubelet.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>
#include <vector>

#include "base/task.h"
#include "kubelet/types.h"

namespace keelson::kubelet {

struct ContainerLocation {
  std::string pod_uid;
  std::string sandbox_id;
  std::string container_id;  // without "type://"
  std::string log_path;      // absolute, the file being written; older ones beside it
  bool running = false;
  int restart_count = 0;
};

// What exec and attach want of a container.
struct StreamRequest {
  std::vector<std::string> command;  // exec only
  bool with_stdin = false, with_stdout = false, with_stderr = false, tty = false;
};

class NodeApi {
 public:
  virtual ~NodeApi() = default;

  // Pods this node is to run, with the status last generated here; by namespace and name. For /pods.
  virtual std::vector<PodPtr> Pods() const = 0;
  // Pods the runtime has, whoever wants them: names, UID and containers only. For /runningpods.
  virtual Task<absl::StatusOr<std::vector<PodPtr>>> RunningPods() = 0;
  // The newest container of that name, or with `previous` the one before. `uid` "" : any. NotFound: "pod
  // \"web\" not found", "container \"x\" in pod \"web\" is not available"; InvalidArgument: "container c in
  // pod p is waiting to start: ContainerCreating" or "previous terminated container \"x\" in pod \"web\" not
  // found".
  virtual Task<absl::StatusOr<ContainerLocation>> LocateContainer(std::string ns, std::string pod,
                                                                  std::string uid, std::string container,
                                                                  bool previous) = 0;
  // The pod's newest ready sandbox, for port-forward.
  virtual Task<absl::StatusOr<std::string>> LocateSandbox(std::string ns, std::string pod,
                                                          std::string uid) = 0;
  // URLs of the runtime's streaming server, each good for one connection. Errors as of LocateContainer and
  // LocateSandbox, or the runtime's. Attach: whether there is a terminal is the container's to say.
  virtual Task<absl::StatusOr<std::string>> ExecUrl(std::string ns, std::string pod, std::string uid,
                                                    std::string container, StreamRequest request) = 0;
  virtual Task<absl::StatusOr<std::string>> AttachUrl(std::string ns, std::string pod, std::string uid,
                                                      std::string container, StreamRequest request) = 0;
  virtual Task<absl::StatusOr<std::string>> PortForwardUrl(std::string ns, std::string pod, std::string uid,
                                                           std::vector<int32_t> ports) = 0;
  // Runs a command to its end; what it printed. Aborted: it failed, with its output.
  virtual Task<absl::StatusOr<std::string>> RunCommand(std::string ns, std::string pod, std::string uid,
                                                       std::string container,
                                                       std::vector<std::string> command) = 0;
  // For /healthz: OK, or what stands still ("PLEG was last seen active 3m ago").
  virtual absl::Status Healthy() const = 0;
};

}  // namespace keelson::kubelet
