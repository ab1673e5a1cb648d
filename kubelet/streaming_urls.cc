// The part of NodeApi behind exec, attach, port-forward and run: which container, and what the runtime is
// asked.
#include "base/status.h"
#include "base/strings.h"
#include "kubelet/kubelet.h"

namespace keelson::kubelet {
namespace {

// Whether the container was given a terminal: attach has no choice.
bool HasTerminal(const corev1::Pod& pod, const std::string& container) {
  for (const auto& c : pod.spec().containers()) {
    if (c.name() == container) return c.tty();
  }
  for (const auto& c : pod.spec().init_containers()) {
    if (c.name() == container) return c.tty();
  }
  return false;
}

}  // namespace

Task<absl::StatusOr<std::string>> Kubelet::ExecUrl(std::string ns, std::string pod, std::string uid,
                                                   std::string container, StreamRequest request) {
  CO_ASSIGN_OR_RETURN(ContainerLocation location, LocateContainer(ns, pod, uid, container, false));
  criv1::ExecRequest exec;
  exec.set_container_id(location.container_id);
  for (std::string& word : request.command) exec.add_cmd(std::move(word));
  exec.set_tty(request.tty);
  exec.set_stdin(request.with_stdin);
  exec.set_stdout(request.with_stdout);
  exec.set_stderr(request.with_stderr && !request.tty);
  CO_ASSIGN_OR_RETURN(criv1::ExecResponse response, deps_.runtime->Exec(std::move(exec)));
  co_return response.url();
}

Task<absl::StatusOr<std::string>> Kubelet::AttachUrl(std::string ns, std::string pod, std::string uid,
                                                     std::string container, StreamRequest request) {
  CO_ASSIGN_OR_RETURN(ContainerLocation location, LocateContainer(ns, pod, uid, container, false));
  PodPtr found = FindPod(ns, pod, uid);
  criv1::AttachRequest attach;
  attach.set_container_id(location.container_id);
  attach.set_tty(found != nullptr && HasTerminal(*found, container));
  attach.set_stdin(request.with_stdin);
  attach.set_stdout(request.with_stdout);
  attach.set_stderr(request.with_stderr && !attach.tty());
  CO_ASSIGN_OR_RETURN(criv1::AttachResponse response, deps_.runtime->Attach(std::move(attach)));
  co_return response.url();
}

Task<absl::StatusOr<std::string>> Kubelet::PortForwardUrl(std::string ns, std::string pod, std::string uid,
                                                          std::vector<int32_t> ports) {
  CO_ASSIGN_OR_RETURN(std::string sandbox, LocateSandbox(ns, pod, uid));
  criv1::PortForwardRequest forward;
  forward.set_pod_sandbox_id(sandbox);
  for (int32_t port : ports) forward.add_port(port);
  CO_ASSIGN_OR_RETURN(criv1::PortForwardResponse response, deps_.runtime->PortForward(std::move(forward)));
  co_return response.url();
}

Task<absl::StatusOr<std::string>> Kubelet::RunCommand(std::string ns, std::string pod, std::string uid,
                                                      std::string container,
                                                      std::vector<std::string> command) {
  CO_ASSIGN_OR_RETURN(ContainerLocation location, LocateContainer(ns, pod, uid, container, false));
  criv1::ExecSyncRequest exec;
  exec.set_container_id(location.container_id);
  for (std::string& word : command) exec.add_cmd(std::move(word));
  CO_ASSIGN_OR_RETURN(criv1::ExecSyncResponse response, deps_.runtime->ExecSync(std::move(exec)));
  std::string output = response.stdout() + response.stderr();
  if (response.exit_code() != 0) {
    co_return absl::AbortedError(
        StrCat("command terminated with exit code ", response.exit_code(), ": ", output));
  }
  co_return output;
}

}  // namespace keelson::kubelet
