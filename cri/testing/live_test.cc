#include "cri/testing/live_test.h"

#include <absl/strings/ascii.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/fd.h"

namespace keelson::cri {

namespace {

constexpr absl::Duration kExitLimit = absl::Seconds(60);

Task<absl::Status> Nap(Env* env, absl::Duration duration) {
  Task<void> nap = env->clock().Sleep(duration);
  co_await std::move(nap);
  co_return absl::OkStatus();
}

Task<absl::Status> Closed(Scope* scope) {
  Task<void> close = scope->Close();
  co_await std::move(close);
  co_return absl::OkStatus();
}

}  // namespace

Task<void> FollowEvents(RuntimeService* runtime, bool* subscribed,
                        std::function<void(const v1::ContainerEventResponse&)> take) {
  Task<absl::StatusOr<std::unique_ptr<ContainerEventReader>>> subscribe =
      runtime->GetContainerEvents(v1::GetEventsRequest());
  absl::StatusOr<std::unique_ptr<ContainerEventReader>> reader = co_await std::move(subscribe);
  if (!reader.ok()) co_return;
  *subscribed = true;
  while (true) {
    Task<absl::StatusOr<std::optional<v1::ContainerEventResponse>>> next = (*reader)->Next();
    absl::StatusOr<std::optional<v1::ContainerEventResponse>> event = co_await std::move(next);
    if (!event.ok() || !event->has_value()) co_return;
    take(**event);
  }
}

Fd ConnectedTo(const std::string& ip, int type, uint16_t port, int limit_s) {
  Fd out(::socket(AF_INET, type | SOCK_CLOEXEC, 0));
  timeval limit{limit_s, 0};
  ::setsockopt(out.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ::setsockopt(out.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  ::inet_pton(AF_INET, ip.c_str(), &address.sin_addr);
  if (::connect(out.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return Fd();
  return out;
}

std::string Trimmed(const std::string& text) { return std::string(absl::StripAsciiWhitespace(text)); }

void LiveTest::SetUp() {
  live_ = LiveServer::FromEnvironment(env_);
  if (live_ == nullptr) GTEST_SKIP() << "runs under cri/testing/with_keelson_cri";
  if (!live_->Own()) {
    ASSERT_TRUE(live_->Connect().ok());
  } else {
    ASSERT_TRUE(live_->Spawn().ok());
    absl::Status up = env_.RunUntilDone(live_->WaitUntilUp());
    ASSERT_TRUE(up.ok()) << up;
  }
  char pattern[] = "/tmp/keelson-live-XXXXXX";
  ASSERT_NE(::mkdtemp(pattern), nullptr);
  dir_ = pattern;
  for (const std::string& image : {live_->busybox(), live_->user_image()}) {
    v1::ImageStatusRequest status;
    status.mutable_image()->set_image(image);
    auto present = Call(images().ImageStatus(status));
    if (present.ok() && present->has_image()) continue;
    v1::PullImageRequest request;
    request.mutable_image()->set_image(image);
    auto pulled = Call(images().PullImage(request));
    ASSERT_TRUE(pulled.ok()) << pulled.status();
  }
}

void LiveTest::TearDown() {
  if (live_ == nullptr) return;
  for (const std::string& pod : pods_) {
    v1::RemovePodSandboxRequest request;
    request.set_pod_sandbox_id(pod);
    auto removed = Call(runtime().RemovePodSandbox(request));
    EXPECT_TRUE(removed.ok()) << removed.status();
  }
  if (live_->Own()) {
    EXPECT_TRUE(env_.RunUntilDone(live_->Kill()).ok());
  }
  live_.reset();
  EXPECT_TRUE(RemoveTree(dir_).ok());
}

void LiveTest::Sleep(absl::Duration duration) { EXPECT_TRUE(env_.RunUntilDone(Nap(&env_, duration)).ok()); }

bool LiveTest::Eventually(const std::function<bool()>& holds, absl::Duration limit) {
  const absl::Duration end = env_.clock().Monotonic() + limit;
  while (!holds()) {
    if (HasFatalFailure() || env_.clock().Monotonic() > end) return false;
    Sleep(absl::Milliseconds(20));
  }
  return true;
}

void LiveTest::SpawnServer(const std::vector<std::string>& options) {
  EXPECT_TRUE(live_->Spawn(options).ok());
  absl::Status up = env_.RunUntilDone(live_->WaitUntilUp());
  EXPECT_TRUE(up.ok()) << up;
}

void LiveTest::Close(Scope* scope) { EXPECT_TRUE(env_.RunUntilDone(Closed(scope)).ok()); }

v1::PodSandboxConfig LiveTest::PodConfig(const std::string& name) {
  v1::PodSandboxConfig config;
  config.mutable_metadata()->set_name(name);
  config.mutable_metadata()->set_namespace_("live");
  config.mutable_metadata()->set_uid(StrCat(name, "-", env_.random().Suffix(8)));
  config.set_log_directory(StrCat(dir_, "/", config.metadata().uid()));
  auto* options = config.mutable_linux()->mutable_security_context()->mutable_namespace_options();
  options->set_network(v1::NODE);
  options->set_pid(v1::CONTAINER);
  return config;
}

v1::PodSandboxConfig LiveTest::NetworkPodConfig(const std::string& name) {
  v1::PodSandboxConfig config = PodConfig(name);
  config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_network(v1::POD);
  return config;
}

absl::StatusOr<std::string> LiveTest::TryRunPod(const v1::PodSandboxConfig& config) {
  v1::RunPodSandboxRequest request;
  *request.mutable_config() = config;
  auto response = Call(runtime().RunPodSandbox(request));
  if (!response.ok()) return response.status();
  pods_.push_back(response->pod_sandbox_id());
  return response->pod_sandbox_id();
}

std::string LiveTest::RunPod(const v1::PodSandboxConfig& config) {
  absl::StatusOr<std::string> id = TryRunPod(config);
  EXPECT_TRUE(id.ok()) << id.status();
  return id.ok() ? *id : "";
}

void LiveTest::StopPod(const std::string& id) {
  v1::StopPodSandboxRequest request;
  request.set_pod_sandbox_id(id);
  auto response = Call(runtime().StopPodSandbox(request));
  EXPECT_TRUE(response.ok()) << response.status();
}

void LiveTest::RemovePod(const std::string& id) {
  v1::RemovePodSandboxRequest request;
  request.set_pod_sandbox_id(id);
  auto response = Call(runtime().RemovePodSandbox(request));
  EXPECT_TRUE(response.ok()) << response.status();
}

v1::PodSandboxStatus LiveTest::PodStatus(const std::string& id) {
  v1::PodSandboxStatusRequest request;
  request.set_pod_sandbox_id(id);
  auto response = Call(runtime().PodSandboxStatus(request));
  EXPECT_TRUE(response.ok()) << response.status();
  return response.ok() ? response->status() : v1::PodSandboxStatus();
}

v1::ContainerConfig LiveTest::Script(const std::string& name, const std::string& script) {
  v1::ContainerConfig config;
  config.mutable_metadata()->set_name(name);
  config.mutable_metadata()->set_attempt(static_cast<uint32_t>(next_++));
  config.mutable_image()->set_image(live_->busybox());
  for (const std::string& word : {std::string("sh"), std::string("-c"), script}) config.add_command(word);
  config.set_log_path(StrCat(name, "/", config.metadata().attempt(), ".log"));
  auto* options = config.mutable_linux()->mutable_security_context()->mutable_namespace_options();
  options->set_pid(v1::CONTAINER);
  return config;
}

absl::StatusOr<std::string> LiveTest::TryCreate(const std::string& pod, const v1::ContainerConfig& config) {
  v1::CreateContainerRequest request;
  request.set_pod_sandbox_id(pod);
  *request.mutable_config() = config;
  auto response = Call(runtime().CreateContainer(request));
  if (!response.ok()) return response.status();
  return response->container_id();
}

std::string LiveTest::Create(const std::string& pod, const v1::ContainerConfig& config) {
  absl::StatusOr<std::string> id = TryCreate(pod, config);
  EXPECT_TRUE(id.ok()) << id.status();
  return id.ok() ? *id : "";
}

absl::Status LiveTest::TryStart(const std::string& id) {
  v1::StartContainerRequest request;
  request.set_container_id(id);
  return Call(runtime().StartContainer(request)).status();
}

std::string LiveTest::Start(const std::string& pod, const v1::ContainerConfig& config) {
  std::string id = Create(pod, config);
  absl::Status started = TryStart(id);
  EXPECT_TRUE(started.ok()) << started;
  return id;
}

absl::Status LiveTest::Stop(const std::string& id, int64_t timeout_s) {
  v1::StopContainerRequest request;
  request.set_container_id(id);
  request.set_timeout(timeout_s);
  return Call(runtime().StopContainer(request)).status();
}

absl::Status LiveTest::Remove(const std::string& id) {
  v1::RemoveContainerRequest request;
  request.set_container_id(id);
  return Call(runtime().RemoveContainer(request)).status();
}

v1::ContainerStatus LiveTest::Status(const std::string& id) {
  v1::ContainerStatusRequest request;
  request.set_container_id(id);
  auto response = Call(runtime().ContainerStatus(request));
  EXPECT_TRUE(response.ok()) << response.status();
  return response.ok() ? response->status() : v1::ContainerStatus();
}

v1::ContainerStatus LiveTest::WaitExited(const std::string& id) {
  absl::Duration limit = env_.clock().Monotonic() + kExitLimit;
  while (true) {
    v1::ContainerStatus status = Status(id);
    if (status.state() == v1::CONTAINER_EXITED || status.id().empty()) return status;
    if (env_.clock().Monotonic() > limit) {
      ADD_FAILURE() << "container " << id << " still runs";
      return status;
    }
    Sleep(absl::Milliseconds(10));
  }
}

int LiveTest::Pid(const std::string& id) {
  v1::ContainerStatusRequest request;
  request.set_container_id(id);
  request.set_verbose(true);
  auto response = Call(runtime().ContainerStatus(request));
  EXPECT_TRUE(response.ok()) << response.status();
  if (!response.ok()) return 0;
  const std::string& info = response->info().at("info");
  constexpr std::string_view kKey = "\"pid\":";
  size_t at = info.find(kKey);
  int pid = 0;
  std::string_view digits = std::string_view(info).substr(at + kKey.size());
  EXPECT_TRUE(at != std::string::npos && absl::SimpleAtoi(Av(digits.substr(0, digits.find(','))), &pid))
      << info;
  return pid;
}

absl::StatusOr<ExecOutput> LiveTest::TryExec(const std::string& id, std::vector<std::string> command,
                                             int64_t timeout_s) {
  v1::ExecSyncRequest request;
  request.set_container_id(id);
  request.set_timeout(timeout_s);
  for (const std::string& word : command) request.add_cmd(word);
  auto response = Call(runtime().ExecSync(request));
  if (!response.ok()) return response.status();
  return ExecOutput{response->stdout(), response->stderr(), response->exit_code()};
}

ExecOutput LiveTest::RunIn(const std::string& id, std::vector<std::string> command) {
  absl::StatusOr<ExecOutput> result = TryExec(id, std::move(command));
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? *result : ExecOutput();
}

std::string LiveTest::Exec(const std::string& id, const std::string& script) {
  absl::StatusOr<ExecOutput> result = TryExec(id, {"sh", "-c", script});
  EXPECT_TRUE(result.ok()) << script << ": " << result.status();
  if (!result.ok()) return "";
  EXPECT_EQ(result->code, 0) << script << ": " << result->out << result->err;
  return result->out;
}

std::string LiveTest::Output(const std::string& pod, const v1::ContainerConfig& config) {
  std::string id = Start(pod, config);
  if (id.empty()) return "";
  WaitExited(id);
  return Log(id);
}

std::string LiveTest::Log(const std::string& id) {
  absl::StatusOr<std::string> text = ReadFile(Status(id).log_path());
  EXPECT_TRUE(text.ok()) << text.status();
  if (!text.ok()) return "";
  std::string out;
  for (absl::string_view line : absl::StrSplit(*text, '\n')) {
    std::vector<absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(' ', 3));
    if (parts.size() == 4) StrAppend(&out, Sv(parts[3]), parts[2] == "P" ? "" : "\n");
  }
  return out;
}

}  // namespace keelson::cri
