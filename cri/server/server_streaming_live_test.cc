// Exec, attach and port-forward through the server's own streaming endpoint, over SPDY and WebSocket. Under
// cri/testing/with_keelson_cri.
#include <absl/strings/match.h>
#include <absl/strings/str_split.h>
#include <gmock/gmock.h>
#include <stdlib.h>

#include "base/status.h"
#include "cri/streaming/testing/stream_client.h"
#include "cri/testing/live_test.h"
#include "net/tls_files.h"

namespace keelson::cri {
namespace {

using ::testing::HasSubstr;
using testing::RemoteResult;
using testing::RemoteRun;
using ::testing::StartsWith;

// What to speak to the server with; null when it serves in plain text (with_keelson_cri without
// --streaming-tls).
std::shared_ptr<net::TlsClientContext> StreamingTls(bool with_certificate = true) {
  auto variable = [](const char* name) {
    const char* value = ::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  net::TlsClientFiles files;
  files.ca_file = variable("KEELSON_TEST_CRI_STREAMING_CA");
  if (files.ca_file.empty()) return nullptr;
  if (with_certificate) {
    files.certificate_file = variable("KEELSON_TEST_CRI_STREAMING_CERT");
    files.private_key_file = variable("KEELSON_TEST_CRI_STREAMING_KEY");
  }
  return net::TlsClientContext::Create(net::ReadTlsClientFiles(files).value()).value();
}

enum class Protocol { kSpdy, kWebSocketV4, kWebSocketV5 };

class ServerStreamingLiveTest : public LiveTest, public ::testing::WithParamInterface<Protocol> {
 protected:
  void SetUp() override {
    LiveTest::SetUp();
    if (live_ != nullptr && !HasFailure()) pod_ = RunPod(PodConfig("streaming"));
  }
  RemoteResult Run(const std::string& url, RemoteRun run) {
    absl::StatusOr<RemoteResult> result = absl::UnknownError("");
    run.tls = StreamingTls();
    EXPECT_THAT(url, StartsWith(run.tls == nullptr ? "http://127.0.0.1:" : "https://127.0.0.1:"));
    if (GetParam() == Protocol::kSpdy) {
      result = Call(testing::RunOverSpdy(&env_, url, run));
    } else {
      run.protocol = GetParam() == Protocol::kWebSocketV4 ? net::kChannelV4 : net::kChannelV5;
      result = Call(testing::RunOverWebSocket(&env_, url, run));
    }
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *result : RemoteResult();
  }
  RemoteResult Exec(const std::string& id, std::vector<std::string> command, RemoteRun run) {
    v1::ExecRequest request;
    request.set_container_id(id);
    for (const std::string& word : command) request.add_cmd(word);
    request.set_stdin(run.has_stdin);
    request.set_stdout(run.has_stdout);
    request.set_stderr(run.has_stderr);
    request.set_tty(run.tty);
    auto response = Call(runtime().Exec(request));
    EXPECT_TRUE(response.ok()) << response.status();
    return response.ok() ? Run(response->url(), std::move(run)) : RemoteResult();
  }
  RemoteResult Attach(const std::string& id, RemoteRun run) {
    v1::AttachRequest request;
    request.set_container_id(id);
    request.set_stdin(run.has_stdin);
    request.set_stdout(run.has_stdout);
    request.set_stderr(run.has_stderr);
    request.set_tty(run.tty);
    auto response = Call(runtime().Attach(request));
    EXPECT_TRUE(response.ok()) << response.status();
    return response.ok() ? Run(response->url(), std::move(run)) : RemoteResult();
  }
  std::string pod_;
};

TEST_P(ServerStreamingLiveTest, ExecWithThreeStreams) {
  std::string id = Start(pod_, Script("c", kForever));
  RemoteRun run;
  run.has_stderr = true;
  RemoteResult result = Exec(id, {"sh", "-c", "echo out; echo err >&2"}, run);
  EXPECT_EQ(result.out, "out\n");
  EXPECT_EQ(result.err, "err\n");
  EXPECT_THAT(result.error, HasSubstr("Success"));
  result = Exec(id, {"sh", "-c", "exit 42"}, run);
  EXPECT_THAT(result.error, HasSubstr("NonZeroExitCode"));
  EXPECT_THAT(result.error, HasSubstr("42"));
  result = Exec(id, {"/no/such/program"}, run);
  EXPECT_THAT(result.error, HasSubstr("/no/such/program"));
  EXPECT_THAT(result.error, HasSubstr("Failure"));
  if (GetParam() == Protocol::kWebSocketV4) return;  // it cannot half-close
  run.has_stdin = true;
  run.stdin_data = std::string(1 << 20, 'x') + "\n";
  result = Exec(id, {"sh", "-c", "wc -c; echo done >&2"}, run);
  EXPECT_EQ(result.out, StrCat((1 << 20) + 1, "\n"));
  EXPECT_EQ(result.err, "done\n");
}

TEST_P(ServerStreamingLiveTest, ExecOnATerminal) {
  std::string id = Start(pod_, Script("c", kForever));
  RemoteRun run;
  run.tty = run.has_stdin = true;
  run.has_stderr = false;
  run.sizes = {{.width = 101, .height = 33}};
  run.stdin_data = "stty size; tty; exit 3\n";
  RemoteResult result = Exec(id, {"sh", "-c", "sleep 0.3; exec sh"}, run);
  EXPECT_THAT(result.out, HasSubstr("33 101"));
  EXPECT_THAT(result.out, HasSubstr("/dev/pts/"));
  EXPECT_THAT(result.error, HasSubstr("3"));
}

TEST_P(ServerStreamingLiveTest, AClientThatLeavesTakesItsCommandAlong) {
  std::string id = Start(pod_, Script("c", kForever));
  RemoteRun run;
  run.timeout = absl::Seconds(1);
  v1::ExecRequest request;
  request.set_container_id(id);
  for (const char* word : {"sleep", "4343"}) request.add_cmd(word);
  request.set_stdout(true);
  request.set_stderr(true);
  run.has_stderr = true;
  auto response = Call(runtime().Exec(request));
  ASSERT_TRUE(response.ok());
  absl::StatusOr<RemoteResult> result = GetParam() == Protocol::kSpdy
                                            ? Call(testing::RunOverSpdy(&env_, response->url(), run))
                                            : Call(testing::RunOverWebSocket(&env_, response->url(), run));
  EXPECT_FALSE(result.ok()) << "it ran into its limit";
  absl::Duration limit = env_.clock().Monotonic() + absl::Seconds(20);
  std::string left = "1\n";
  while (left != "0\n" && env_.clock().Monotonic() < limit)
    left = LiveTest::Exec(id, "ps | grep -c '[s]leep 4343' || true");
  EXPECT_EQ(left, "0\n");
}

TEST_P(ServerStreamingLiveTest, AttachToAShell) {
  v1::ContainerConfig config = Script("shell", "");
  config.clear_command();
  config.add_command("sh");
  config.set_stdin(true);
  config.set_stdin_once(true);
  std::string id = Start(pod_, config);
  RemoteRun run;
  run.has_stdin = run.has_stderr = true;
  // Without half-close the shell is told to go.
  run.stdin_data = GetParam() == Protocol::kWebSocketV4 ? "echo hello; echo err >&2; exit 5\n"
                                                        : "echo hello; echo err >&2\n";
  RemoteResult result = Attach(id, run);
  EXPECT_EQ(result.out, "hello\n");
  EXPECT_EQ(result.err, "err\n");
  v1::ContainerStatus status = WaitExited(id);
  EXPECT_EQ(status.exit_code(), GetParam() == Protocol::kWebSocketV4 ? 5 : 0)
      << "its stdin closed with the client's";
  EXPECT_EQ(Log(id), "hello\nerr\n") << "the log has it, too";
}

TEST_P(ServerStreamingLiveTest, AttachOnATerminal) {
  v1::ContainerConfig config = Script("terminal", "");
  config.clear_command();
  config.add_command("sh");
  config.set_stdin(true);
  config.set_tty(true);
  std::string id = Start(pod_, config);
  RemoteRun run;
  run.has_stdin = run.tty = true;
  run.has_stderr = false;
  run.stdin_data = "tty; exit 6\n";
  RemoteResult result = Attach(id, run);
  EXPECT_THAT(result.out, HasSubstr("/dev/"));
  EXPECT_EQ(WaitExited(id).exit_code(), 6);
}

INSTANTIATE_TEST_SUITE_P(All, ServerStreamingLiveTest,
                         ::testing::Values(Protocol::kSpdy, Protocol::kWebSocketV4, Protocol::kWebSocketV5),
                         [](const auto& info) {
                           return std::string(info.param == Protocol::kSpdy          ? "Spdy"
                                              : info.param == Protocol::kWebSocketV4 ? "WebSocketV4"
                                                                                     : "WebSocketV5");
                         });

// ---- port-forward and what needs no protocol ----

class ServerForwardLiveTest : public LiveTest {
 protected:
  void TearDown() override {
    connections_.Cancel();
    while (connections_.live() > 0) Sleep(absl::Milliseconds(1));
    LiveTest::TearDown();
  }
  Scope connections_{env_.executor()};
};

Task<absl::StatusOr<std::string>> Forwarded(Env* env, Scope* scope, std::string url, uint16_t port) {
  CO_ASSIGN_OR_RETURN(net::HttpUpgrade upgrade, testing::UpgradeUrl(env, url, net::UpgradeKind::kSpdy,
                                                                    {"portforward.k8s.io"}, StreamingTls()));
  if (upgrade.stream == nullptr) co_return absl::InternalError("not upgraded");
  std::shared_ptr<net::SpdyConnection> connection =
      net::SpdyConnection::Start(scope, std::move(upgrade.stream), net::SpdyConnection::Role::kClient);
  std::string out;
  for (int i = 0; i < 2; ++i) {
    CO_ASSIGN_OR_RETURN(testing::ForwardedStreams streams, testing::OpenForward(connection, port, i));
    Task<std::string> read = testing::ReadToEnd(streams.data.get());
    std::string text = co_await std::move(read);
    Task<std::string> read_error = testing::ReadToEnd(streams.error.get());
    std::string error = co_await std::move(read_error);
    StrAppend(&out, text, error);
  }
  connection->Close();
  co_return out;
}

TEST_F(ServerForwardLiveTest, PortForwardIntoThePodsNetwork) {
  std::string pod = RunPod(NetworkPodConfig("forward"));
  std::string id = Start(pod, Script("web", "while true; do echo hello | nc -l -p 8080; done"));
  Exec(id, "until netstat -ltn | grep -q 8080; do sleep 0.05; done");
  v1::PortForwardRequest request;
  request.set_pod_sandbox_id(pod);
  request.add_port(8080);
  auto response = Call(runtime().PortForward(request));
  ASSERT_TRUE(response.ok()) << response.status();
  absl::StatusOr<std::string> text = Call(Forwarded(&env_, &connections_, response->url(), 8080));
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_THAT(*text, HasSubstr("hello\n"));
  // A port that was not asked for is none of this client's.
  response = Call(runtime().PortForward(request));
  text = Call(Forwarded(&env_, &connections_, response->url(), 8081));
  EXPECT_TRUE(absl::IsUnavailable(text.status())) << text.status();
  // Where nobody listens the error stream says so.
  request.set_port(0, 8081);
  response = Call(runtime().PortForward(request));
  text = Call(Forwarded(&env_, &connections_, response->url(), 8081));
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_THAT(*text, HasSubstr("8081"));
  StopPod(pod);
  EXPECT_EQ(Call(runtime().PortForward(request)).status().code(), absl::StatusCode::kFailedPrecondition);
}

// A token alone is not enough where a client CA is configured, nor is any certificate of the server's.
TEST_F(ServerForwardLiveTest, ByTlsOnlyWithACertificate) {
  if (StreamingTls() == nullptr) GTEST_SKIP() << "this server streams in plain text";
  std::string pod = RunPod(PodConfig("tls"));
  v1::PortForwardRequest request;
  request.set_pod_sandbox_id(pod);
  auto response = Call(runtime().PortForward(request));
  ASSERT_TRUE(response.ok()) << response.status();
  for (const auto& tls :
       {StreamingTls(/*with_certificate=*/false), net::TlsClientContext::Create({}).value()}) {
    auto upgrade = Call(
        testing::UpgradeUrl(&env_, response->url(), net::UpgradeKind::kSpdy, {"portforward.k8s.io"}, tls));
    EXPECT_TRUE(absl::IsUnavailable(upgrade.status())) << upgrade.status();
  }
  std::string plain = response->url();
  plain.erase(4, 1);
  auto upgrade =
      Call(testing::UpgradeUrl(&env_, plain, net::UpgradeKind::kSpdy, {"portforward.k8s.io"}, nullptr));
  EXPECT_FALSE(upgrade.ok() && upgrade->status == 101);
  // The token has not been spent on them.
  upgrade = Call(testing::UpgradeUrl(&env_, response->url(), net::UpgradeKind::kSpdy, {"portforward.k8s.io"},
                                     StreamingTls()));
  ASSERT_TRUE(upgrade.ok()) << upgrade.status();
  EXPECT_EQ(upgrade->status, 101);
}

TEST_F(ServerForwardLiveTest, WrongStreamsAreRefusedBeforeAUrlIsGiven) {
  std::string pod = RunPod(PodConfig("wrong-streams"));
  std::string id = Start(pod, Script("c", kForever));
  struct Case {
    bool tty, in, out, err;
    bool good;
  };
  for (const Case& test : {Case{false, false, false, false, false}, Case{true, true, true, true, false},
                           Case{true, true, true, false, true}, Case{false, false, true, false, true}}) {
    v1::ExecRequest exec;
    exec.set_container_id(id);
    exec.add_cmd("true");
    exec.set_tty(test.tty);
    exec.set_stdin(test.in);
    exec.set_stdout(test.out);
    exec.set_stderr(test.err);
    v1::AttachRequest attach;
    attach.set_container_id(id);
    attach.set_tty(test.tty);
    attach.set_stdin(test.in);
    attach.set_stdout(test.out);
    attach.set_stderr(test.err);
    EXPECT_EQ(Call(runtime().Exec(exec)).ok(), test.good);
    EXPECT_EQ(Call(runtime().Attach(attach)).ok(), test.good);
  }
  v1::ExecRequest nothing;
  nothing.set_container_id(id);
  nothing.set_stdout(true);
  EXPECT_TRUE(absl::IsInvalidArgument(Call(runtime().Exec(nothing)).status()));
  nothing.add_cmd("true");
  nothing.set_container_id("0123456789");
  EXPECT_TRUE(absl::IsNotFound(Call(runtime().Exec(nothing)).status()));
}

}  // namespace
}  // namespace keelson::cri
