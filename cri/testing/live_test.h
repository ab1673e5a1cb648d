// LiveTest: a gtest fixture over the server that with_keelson_cri started, or with --no-server over one of
// its own: calls in one line, pods that go away with the test.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/env.h"
#include "base/fd.h"
#include "base/strings.h"
#include "base/task.h"
#include "cri/testing/live_server.h"

namespace keelson::cri {

template <class Response>
Task<absl::Status> StoreAnswer(Task<absl::StatusOr<Response>> call, absl::StatusOr<Response>* out) {
  absl::StatusOr<Response> answer = co_await std::move(call);
  *out = std::move(answer);
  co_return absl::OkStatus();
}

// A script that ends only by a signal.
inline constexpr char kForever[] = "while true; do sleep 1000 & wait $!; done";

inline v1::LinuxContainerSecurityContext* Security(v1::ContainerConfig* config) {
  return config->mutable_linux()->mutable_security_context();
}
inline v1::NamespaceOption* Options(v1::ContainerConfig* config) {
  return Security(config)->mutable_namespace_options();
}
inline v1::NamespaceOption* Options(v1::PodSandboxConfig* config) {
  return config->mutable_linux()->mutable_security_context()->mutable_namespace_options();
}

// Every event of containers from now on, until it is cancelled or the stream ends. `subscribed` is set when
// the first can come.
Task<void> FollowEvents(RuntimeService* runtime, bool* subscribed,
                        std::function<void(const v1::ContainerEventResponse&)> take);

// A socket of this type (SOCK_STREAM, SOCK_DGRAM) to an IPv4 address, whose reads and writes end after
// `limit_s` seconds; an empty one where nobody is.
Fd ConnectedTo(const std::string& ip, int type, uint16_t port, int limit_s = 10);

std::string Trimmed(const std::string& text);  // without white space at both ends

struct ExecOutput {
  std::string out, err;
  int code = -1;
};

class LiveTest : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  RuntimeService& runtime() { return live_->runtime(); }
  ImageService& images() { return live_->images(); }
  template <class Response>
  absl::StatusOr<Response> Call(Task<absl::StatusOr<Response>> call) {
    absl::StatusOr<Response> out = absl::UnknownError("not answered");
    absl::Status ran = env_.RunUntilDone(StoreAnswer(std::move(call), &out));
    EXPECT_TRUE(ran.ok()) << ran;
    return out;
  }
  void Sleep(absl::Duration duration);
  // Asks again and again, until `limit` at most: whether it came true.
  bool Eventually(const std::function<bool()>& holds, absl::Duration limit = absl::Seconds(30));

  void Close(Scope* scope);  // ends what it runs, and waits for it

  // With --no-server: starts a server where none runs, with more options, and waits until it answers.
  void SpawnServer(const std::vector<std::string>& options = {});
  // The server is killed when `condition` holds, with `call` under way, and started again after `between`.
  template <class Response>
  absl::StatusOr<Response> KillDuring(
      Task<absl::StatusOr<Response>> call, const std::function<bool()>& condition,
      const std::function<void()>& between = [] {}) {
    auto answer = std::make_shared<absl::StatusOr<Response>>(absl::UnknownError("not answered"));
    Scope scope(env_.executor());
    scope.Spawn("call", KeepAnswer(std::move(call), answer));
    EXPECT_TRUE(Eventually(condition, kKillLimit)) << "the moment did not come";
    EXPECT_TRUE(env_.RunUntilDone(live_->Kill()).ok());
    Close(&scope);
    between();
    SpawnServer();
    return *answer;
  }

  // On the host's network, PID namespaces of the containers' own, logs below logs(). Names are unique.
  v1::PodSandboxConfig PodConfig(const std::string& name);
  // The same with a network of its own.
  v1::PodSandboxConfig NetworkPodConfig(const std::string& name);
  absl::StatusOr<std::string> TryRunPod(const v1::PodSandboxConfig& config);
  std::string RunPod(const v1::PodSandboxConfig& config);  // fails the test
  void StopPod(const std::string& id);
  void RemovePod(const std::string& id);
  v1::PodSandboxStatus PodStatus(const std::string& id);

  // busybox, `sh -c script`; namespaces as the pod's.
  v1::ContainerConfig Script(const std::string& name, const std::string& script);
  absl::StatusOr<std::string> TryCreate(const std::string& pod, const v1::ContainerConfig& config);
  std::string Create(const std::string& pod, const v1::ContainerConfig& config);
  absl::Status TryStart(const std::string& id);
  std::string Start(const std::string& pod, const v1::ContainerConfig& config);  // created and started
  absl::Status Stop(const std::string& id, int64_t timeout_s);
  absl::Status Remove(const std::string& id);
  v1::ContainerStatus Status(const std::string& id);
  v1::ContainerStatus WaitExited(const std::string& id);
  int Pid(const std::string& id);  // of a container's first process
  absl::StatusOr<ExecOutput> TryExec(const std::string& id, std::vector<std::string> command,
                                     int64_t timeout_s = 60);
  // The same, whatever its exit code; fails the test on an error.
  ExecOutput RunIn(const std::string& id, std::vector<std::string> command);
  // stdout of `sh -c script` in a container; fails the test when it does not exit with 0.
  std::string Exec(const std::string& id, const std::string& script);
  // Runs the container to its end: its stdout, from the log.
  std::string Output(const std::string& pod, const v1::ContainerConfig& config);
  // Messages of a CRI log, without time, stream and tag.
  std::string Log(const std::string& id);

  const std::string& dir() const { return dir_; }  // for files of the test

  RealEnv env_{Paths()};
  std::unique_ptr<LiveServer> live_;

 private:
  std::string dir_;
  template <class Response>
  static Task<void> KeepAnswer(Task<absl::StatusOr<Response>> call,
                               std::shared_ptr<absl::StatusOr<Response>> out) {
    absl::StatusOr<Response> answer = co_await std::move(call);
    *out = std::move(answer);
  }

  // An emulated processor, and a busy one.
  static constexpr absl::Duration kKillLimit = absl::Seconds(180);
  std::vector<std::string> pods_;
  int next_ = 0;
};

}  // namespace keelson::cri
