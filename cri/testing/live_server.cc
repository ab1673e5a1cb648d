#include "cri/testing/live_server.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/fd.h"
#include "base/strings.h"
#include "cri/remote/remote_image_files.h"

namespace keelson::cri {

namespace {

constexpr absl::Duration kStartLimit = absl::Seconds(60);
constexpr absl::Duration kPollInterval = absl::Milliseconds(5);

std::string Variable(const char* name) {
  const char* value = ::getenv(name);
  return value == nullptr ? "" : value;
}

bool Accepts(const std::string& endpoint) {
  absl::StatusOr<std::string> path = SocketPathOf(endpoint);
  if (!path.ok()) return false;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path->copy(address.sun_path, sizeof address.sun_path - 1);
  Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return ::connect(probe.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
}

}  // namespace

std::unique_ptr<LiveServer> LiveServer::FromEnvironment(Env& env) {
  if (Variable("KEELSON_TEST_CRI_PODS_DIR").empty()) return nullptr;
  std::unique_ptr<LiveServer> live(new LiveServer(env));
  live->endpoint_ = Variable("KEELSON_TEST_CRI_ENDPOINT");
  live->handler_ = Variable("KEELSON_TEST_CRI_HANDLER");
  live->busybox_ = Variable("KEELSON_TEST_CRI_BUSYBOX");
  live->user_image_ = Variable("KEELSON_TEST_CRI_USER_IMAGE");
  live->words_ = absl::StrSplit(Variable("KEELSON_TEST_CRI_SERVER"), '\n');
  (void)absl::SimpleAtoi(Variable("KEELSON_TEST_CRI_SERVER_PID"), &live->given_pid_);
  live->paths_.pods_dir = Variable("KEELSON_TEST_CRI_PODS_DIR");
  live->paths_.run_dir = live->paths_.pods_dir.substr(0, live->paths_.pods_dir.rfind('/'));
  live->paths_.state_dir = Variable("KEELSON_TEST_CRI_STATE_DIR");
  live->paths_.cni_conf_dir = Variable("KEELSON_TEST_CRI_CNI_CONF_DIR");
  live->paths_.cni_bin_dir = Variable("KEELSON_TEST_CRI_CNI_BIN_DIR");
  live->paths_.cdi_dirs = absl::StrSplit(Variable("KEELSON_TEST_CRI_CDI_DIRS"), ':', absl::SkipEmpty());
  live->paths_.nri_socket = Variable("KEELSON_TEST_CRI_NRI_SOCKET");
  live->paths_.nri_plugins = Variable("KEELSON_TEST_CRI_NRI_PLUGINS");
  live->paths_.log = Variable("KEELSON_TEST_CRI_LOG");
  live->paths_.cgroup = Variable("KEELSON_TEST_CRI_CGROUP");
  live->paths_.systemd = live->paths_.cgroup.ends_with(".slice");
  return live;
}

std::string LiveServer::CgroupParent(const std::string& name) const {
  if (!paths_.systemd) return StrCat("/", paths_.cgroup, "/", name);
  std::string slice = paths_.cgroup.substr(paths_.cgroup.rfind('/') + 1);
  return StrCat(slice.substr(0, slice.rfind('.')), "-", name, ".slice");
}

std::string LiveServer::CgroupOf(const std::string& name, const std::string& container_id) const {
  std::string parent = CgroupParent(name);
  std::string path =
      name.empty() ? paths_.cgroup : StrCat(paths_.cgroup, "/", parent.substr(parent.rfind('/') + 1));
  return StrCat(path, "/", paths_.systemd ? StrCat("keelson-", container_id, ".scope") : container_id);
}

absl::Status LiveServer::Connect() {
  remote_.reset();
  image_files_.reset();
  RemoteOptions options;
  options.endpoint = endpoint_;
  ASSIGN_OR_RETURN(remote_, RemoteRuntime::Create(env_, options));
  ASSIGN_OR_RETURN(image_files_, ConnectImageFiles(env_, endpoint_));
  return absl::OkStatus();
}

absl::Status LiveServer::Spawn(const std::vector<std::string>& more) {
  ASSIGN_OR_RETURN(Fd log, OpenFile(paths_.log, O_WRONLY | O_CREAT | O_APPEND, 0644));
  SpawnOptions options;
  options.argv = words_;
  options.argv.insert(options.argv.end(), more.begin(), more.end());
  options.stdout_fd = options.stderr_fd = log.get();
  ASSIGN_OR_RETURN(server_, env_.subprocess().Spawn(options));
  return absl::OkStatus();
}

Task<absl::Status> LiveServer::WaitUntilUp() {
  absl::Duration limit = env_.clock().Monotonic() + kStartLimit;
  while (true) {
    if (Accepts(endpoint_)) {
      // What accepts may be the socket of the one before: a child of it that has not come to its exec yet
      // holds it open, and who has connected is cut off at that moment.
      CO_RETURN_IF_ERROR_SYNC(Connect());
      Task<absl::StatusOr<v1::VersionResponse>> ask = runtime().Version(v1::VersionRequest());
      absl::StatusOr<v1::VersionResponse> version = co_await std::move(ask);
      if (!absl::IsUnavailable(version.status())) co_return version.status();
    }
    if (env_.clock().Monotonic() > limit)
      co_return absl::DeadlineExceededError("keelson cri did not come up");
    if (absl::IsNotFound(server_->Signal(0))) {
      co_return absl::UnavailableError("keelson cri ended while it started");
    }
    Task<void> nap = env_.clock().Sleep(kPollInterval);
    co_await std::move(nap);
  }
}

bool LiveServer::Ended() const { return server_ != nullptr && absl::IsNotFound(server_->Signal(0)); }

Task<absl::Status> LiveServer::Kill() {
  absl::Status killed = server_->Signal(SIGKILL);
  if (!killed.ok() && !absl::IsNotFound(killed)) co_return killed;
  Task<int> wait = server_->Wait();
  co_await std::move(wait);
  co_return absl::OkStatus();
}

}  // namespace keelson::cri
