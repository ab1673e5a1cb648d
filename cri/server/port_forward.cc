#include <utility>

#include "base/status.h"
#include "base/strings.h"
#include "cri/server/namespaces.h"
#include "cri/server/runtime_server.h"
#include "net/socket.h"

namespace keelson::cri {

namespace {
constexpr absl::Duration kDialTimeout = absl::Seconds(10);
constexpr char kHostNetwork[] = "/proc/self/ns/net";
}  // namespace

Task<absl::StatusOr<v1::PortForwardResponse>> RuntimeServer::PortForward(v1::PortForwardRequest request) {
  CO_ASSIGN_OR_RETURN_SYNC(std::shared_ptr<Sandbox> sandbox, FindSandbox(request.pod_sandbox_id()));
  if (sandbox->record.state() != records::SANDBOX_RUNNING) {
    co_return absl::FailedPreconditionError(StrCat("pod sandbox ", sandbox->record.id(), " is not running"));
  }
  if (streaming_ == nullptr) co_return absl::UnavailableError("the streaming server is not up");
  request.set_pod_sandbox_id(sandbox->record.id());
  v1::PortForwardResponse response;
  CO_ASSIGN_OR_RETURN_SYNC(*response.mutable_url(), streaming_->PortForwardUrl(request));
  co_return response;
}

Task<absl::StatusOr<std::unique_ptr<net::ByteStream>>> RuntimeServer::DialPort(std::string pod_sandbox_id,
                                                                               uint16_t port) {
  CO_ASSIGN_OR_RETURN_SYNC(std::shared_ptr<Sandbox> sandbox, FindSandbox(pod_sandbox_id));
  if (sandbox->record.state() != records::SANDBOX_RUNNING) {
    co_return absl::FailedPreconditionError(StrCat("pod sandbox ", sandbox->record.id(), " is not running"));
  }
  std::string netns = HostNetwork(sandbox->record.config())
                          ? kHostNetwork
                          : StrCat(SandboxDir(sandbox->record.id()), "/ns/", kNetNamespace);
  Task<void> acquire = dials_.Acquire();
  co_await std::move(acquire);
  auto dial = [netns, port] { return ConnectInNamespace(netns, port, kDialTimeout); };
  Task<absl::StatusOr<Fd>> dialled = env_.Blocking<absl::StatusOr<Fd>>(dial);
  absl::StatusOr<Fd> fd = co_await std::move(dialled);
  dials_.Release();
  if (!fd.ok()) co_return fd.status();
  net::SocketOwner socket(net::Socket::Make(env_.executor(), *std::move(fd)));
  co_return net::MakeSocketStream(std::move(socket), "");
}

}  // namespace keelson::cri
