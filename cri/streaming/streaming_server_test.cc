// The server on a loopback port with a client of our own, on the fake clock.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/fake_env.h"
#include "base/strings.h"
#include "cri/streaming/streaming.h"
#include "cri/streaming/testing/stream_client.h"
#include "net/http_server.h"
#include "net/stream_util.h"
#include "net/test_util.h"

namespace keelson::cri {
namespace {

using ::testing::HasSubstr;
using testing::OpenForward;
using testing::ReadToEnd;
using testing::RemoteResult;
using testing::RemoteRun;
using ::testing::StartsWith;

Task<void> Echo(std::unique_ptr<net::ByteStream> stream) {
  Task<std::string> read = ReadToEnd(stream.get());
  std::string text = co_await std::move(read);
  std::string answer = "echo:" + text;
  Task<absl::Status> write = stream->Write(answer);
  (void)co_await std::move(write);
  Task<absl::Status> close = stream->CloseWrite();
  (void)co_await std::move(close);
}

// Commands: "cat" copies stdin to stdout, "exit N", "flood N" bytes, "sizes" prints them, "wait" for the
// client to go, "fail".
class FakeBackend : public StreamingBackend {
 public:
  explicit FakeBackend(FakeEnv* env) : scope_(env->executor()) {}

  Task<absl::StatusOr<int>> Exec(v1::ExecRequest request, StreamSession* session) override {
    ++running;
    const std::string command = request.cmd(0);
    absl::StatusOr<int> result = 0;
    if (command == "cat") {
      for (;;) {
        Task<absl::StatusOr<std::string>> read = session->ReadStdin();
        absl::StatusOr<std::string> piece = co_await std::move(read);
        if (!piece.ok() || piece->empty()) break;
        Task<absl::Status> write = session->WriteStdout(*piece);
        absl::Status status = co_await std::move(write);
        if (!status.ok()) break;
      }
      if (session->has_stderr()) {
        Task<absl::Status> write = session->WriteStderr("done\n");
        (void)co_await std::move(write);
      }
    } else if (command == "exit") {
      result = atoi(request.cmd(1).c_str());
    } else if (command == "flood") {
      std::string data(static_cast<size_t>(atoi(request.cmd(1).c_str())), 'f');
      Task<absl::Status> write = session->WriteStdout(data);
      flood_status = co_await std::move(write);
    } else if (command == "sizes") {
      for (int i = 0; i < 2; ++i) {
        Task<absl::StatusOr<TerminalSize>> next = session->NextResize();
        absl::StatusOr<TerminalSize> size = co_await std::move(next);
        std::string text = size.ok() ? StrCat(size->columns, "x", size->rows, ";") : "none;";
        Task<absl::Status> write = session->WriteStdout(text);
        (void)co_await std::move(write);
        if (size.ok() && size->columns == 100) break;
      }
    } else if (command == "leave") {  // while tasks still wait for input
      scope_.Spawn("stdin", ReadOnce(session));
      scope_.Spawn("resize", SizeOnce(session));
      Task<absl::Status> write = session->WriteStdout("left");
      (void)co_await std::move(write);
      result = 2;
    } else if (command == "wait") {
      Task<void> wait = session->disconnected().Wait();
      co_await std::move(wait);
      ++disconnects;
    } else {
      result = absl::NotFoundError("container c not found");
    }
    --running;
    co_return result;
  }

  Task<void> ReadOnce(StreamSession* session) {
    Task<absl::StatusOr<std::string>> read = session->ReadStdin();
    absl::StatusOr<std::string> piece = co_await std::move(read);
    if (absl::IsUnavailable(piece.status())) ++left;
  }
  Task<void> SizeOnce(StreamSession* session) {
    Task<absl::StatusOr<TerminalSize>> next = session->NextResize();
    absl::StatusOr<TerminalSize> size = co_await std::move(next);
    if (absl::IsCancelled(size.status())) ++left;
  }

  Task<absl::Status> Attach(v1::AttachRequest request, StreamSession* session) override {
    std::string text = "attached to " + request.container_id();
    Task<absl::Status> write = session->WriteStdout(text);
    (void)co_await std::move(write);
    co_return absl::OkStatus();
  }

  Task<absl::StatusOr<std::unique_ptr<net::ByteStream>>> DialPort(std::string sandbox,
                                                                  uint16_t port) override {
    if (port == 81) co_return absl::UnavailableError("connection refused");
    auto [a, b] = net::MemoryStreamPair();
    scope_.Spawn("echo", Echo(std::move(b)));
    ++dials;
    co_return std::move(a);
  }

  Task<void> Close() { return scope_.Close(); }
  int running = 0, disconnects = 0, dials = 0, left = 0;
  absl::Status flood_status;

 private:
  Scope scope_;
};

class Streaming : public ::testing::Test {
 protected:
  void Start(StreamingOptions options = {}) {
    auto server = StreamingServer::Start(env_, backend_, options);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  void TearDown() override {
    if (server_ != nullptr) env_.AwaitVoid(server_->Close());
    env_.AwaitVoid(backend_.Close());
    env_.AwaitVoid(scope_.Close());
    EXPECT_EQ(backend_.running, 0);
  }
  std::string ExecUrl(std::vector<std::string> command, const RemoteRun& run) {
    v1::ExecRequest request;
    request.set_container_id("c");
    for (std::string& word : command) request.add_cmd(std::move(word));
    request.set_stdin(run.has_stdin);
    request.set_stdout(run.has_stdout);
    request.set_stderr(run.has_stderr);
    request.set_tty(run.tty);
    return *server_->ExecUrl(request);
  }
  RemoteResult Exec(bool spdy, std::vector<std::string> command, RemoteRun run) {
    std::string url = ExecUrl(std::move(command), run);
    auto result =
        env_.Await(spdy ? testing::RunOverSpdy(&env_, url, run) : testing::RunOverWebSocket(&env_, url, run));
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *result : RemoteResult();
  }
  net::HttpUpgrade Open(std::string url, net::UpgradeKind kind, std::vector<std::string> protocols) {
    auto upgrade = env_.Await(testing::UpgradeUrl(&env_, url, kind, std::move(protocols)));
    EXPECT_TRUE(upgrade.ok()) << upgrade.status();
    return *std::move(upgrade);
  }
  std::string ForwardUrl(std::vector<int32_t> ports = {}) {
    v1::PortForwardRequest request;
    request.set_pod_sandbox_id("sandbox");
    for (int32_t port : ports) request.add_port(port);
    return *server_->PortForwardUrl(request);
  }

  FakeEnv env_;
  FakeBackend backend_{&env_};
  std::unique_ptr<StreamingServer> server_;
  Scope scope_{env_.executor()};
};

struct Transport {
  bool spdy;
  const char* protocol;
};
class Protocols : public Streaming, public ::testing::WithParamInterface<Transport> {};
INSTANTIATE_TEST_SUITE_P(
    All, Protocols,
    ::testing::Values(Transport{true, "v4.channel.k8s.io"}, Transport{true, "v3.channel.k8s.io"},
                      Transport{true, "v2.channel.k8s.io"}, Transport{true, "channel.k8s.io"},
                      Transport{true, ""}, Transport{false, "v5.channel.k8s.io"},
                      Transport{false, "v4.channel.k8s.io"}, Transport{false, "v4.base64.channel.k8s.io"},
                      Transport{false, "channel.k8s.io"}, Transport{false, "base64.channel.k8s.io"},
                      Transport{false, ""}));

TEST_P(Protocols, ExitCode) {
  Start();
  RemoteRun run;
  run.protocol = GetParam().protocol;
  RemoteResult result = Exec(GetParam().spdy, {"exit", "3"}, run);
  EXPECT_EQ(result.http_status, 101);
  const bool json = net::ChannelVersion(run.protocol) >= 4;
  if (json) {
    EXPECT_THAT(result.error, HasSubstr("\"status\":\"Failure\""));
    EXPECT_THAT(result.error, HasSubstr("\"reason\":\"NonZeroExitCode\""));
    EXPECT_THAT(result.error, HasSubstr("{\"reason\":\"ExitCode\",\"message\":\"3\"}"));
  } else {
    EXPECT_EQ(result.error, "command terminated with non-zero exit code: exit status 3");
  }
  result = Exec(GetParam().spdy, {"exit", "0"}, run);
  EXPECT_THAT(result.error, json ? HasSubstr("\"status\":\"Success\"") : HasSubstr(""));
  if (!json) {
    EXPECT_EQ(result.error, "");
  }
  result = Exec(GetParam().spdy, {"fail"}, run);
  EXPECT_THAT(result.error, HasSubstr("error executing command in container: container c not found"));
}

TEST_P(Protocols, Flood) {
  Start();
  RemoteRun run;
  run.protocol = GetParam().protocol;
  RemoteResult result = Exec(GetParam().spdy, {"flood", "3000000"}, run);
  EXPECT_EQ(result.out.size(), 3000000u);
  EXPECT_EQ(result.out.find_first_not_of('f'), std::string::npos);
}

class HalfClosing : public Streaming, public ::testing::WithParamInterface<Transport> {};
INSTANTIATE_TEST_SUITE_P(All, HalfClosing,
                         ::testing::Values(Transport{true, "v4.channel.k8s.io"},
                                           Transport{true, "channel.k8s.io"},
                                           Transport{false, "v5.channel.k8s.io"}));

TEST_P(HalfClosing, StdinEndsAndOutputFollows) {
  Start();
  RemoteRun run;
  run.protocol = GetParam().protocol;
  run.has_stdin = true;
  run.stdin_data = std::string(1000000, 'i') + "\nend";
  RemoteResult result = Exec(GetParam().spdy, {"cat"}, run);
  EXPECT_EQ(result.out, run.stdin_data);
  EXPECT_EQ(result.err, "done\n");
}

TEST_F(Streaming, TerminalSizes) {
  Start();
  RemoteRun run;
  run.has_stderr = false;
  run.tty = true;
  run.sizes = {{80, 24}, {100, 50}};
  RemoteResult result = Exec(true, {"sizes"}, run);
  EXPECT_THAT(result.out, HasSubstr("100x50;"));
  run.protocol = "v5.channel.k8s.io";
  result = Exec(false, {"sizes"}, run);
  EXPECT_THAT(result.out, HasSubstr("100x50;"));
}

TEST_F(Streaming, ACommandMayEndWhileItsInputIsOpen) {
  Start();
  for (bool spdy : {true, false}) {
    RemoteRun run;
    run.tty = true;
    run.has_stdin = true;
    run.half_close = false;
    run.has_stderr = false;
    if (!spdy) run.protocol = net::kChannelV5;
    RemoteResult result = Exec(spdy, {"leave"}, run);
    EXPECT_EQ(result.out, "left");
    EXPECT_THAT(result.error, HasSubstr("\"2\""));
  }
  env_.Settle();
  EXPECT_EQ(backend_.left, 4);
}

TEST_F(Streaming, Attach) {
  Start();
  v1::AttachRequest request;
  request.set_container_id("abc");
  request.set_stdout(true);
  RemoteRun run;
  run.has_stderr = false;
  auto result = env_.Await(testing::RunOverSpdy(&env_, *server_->AttachUrl(request), run));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->out, "attached to abc");
  EXPECT_THAT(result->error, HasSubstr("Success"));
}

TEST_F(Streaming, TokensAreForOneUse) {
  Start();
  RemoteRun run;
  std::string url = ExecUrl({"exit", "0"}, run);
  EXPECT_THAT(url, StartsWith("http://127.0.0.1:"));
  EXPECT_EQ(url.size() - url.rfind('/') - 1, 32u);  // 128 bits
  EXPECT_EQ(env_.Await(testing::RunOverSpdy(&env_, url, run))->http_status, 101);
  EXPECT_EQ(env_.Await(testing::RunOverSpdy(&env_, url, run))->http_status, 404);
  url = ExecUrl({"exit", "0"}, run);
  env_.Advance(absl::Seconds(61));
  EXPECT_EQ(env_.Await(testing::RunOverSpdy(&env_, url, run))->http_status, 404);
  // The token of an exec is none for attach or port-forward.
  url = ExecUrl({"exit", "0"}, run);
  url.replace(url.find("/exec/"), 6, "/attach/");
  EXPECT_EQ(env_.Await(testing::RunOverSpdy(&env_, url, run))->http_status, 404);
}

TEST_F(Streaming, PendingTokensAreBounded) {
  StreamingOptions options;
  options.max_pending_tokens = 2;
  Start(options);
  v1::ExecRequest request;
  EXPECT_TRUE(server_->ExecUrl(request).ok());
  EXPECT_TRUE(server_->ExecUrl(request).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(server_->ExecUrl(request).status()));
  env_.Advance(absl::Seconds(61));
  EXPECT_TRUE(server_->ExecUrl(request).ok());
}

Task<int> PlainGet(Env* env, std::string url, net::HttpHeaders headers) {
  net::HttpUrl parsed = *net::HttpUrl::Parse(url);
  net::HttpClient client(env, net::HttpClientOptions());
  net::HttpClientRequest request;
  request.target = parsed.target;
  request.headers = std::move(headers);
  Task<absl::StatusOr<net::HttpClientResponse>> call =
      client.Do(net::HttpEndpoint::FromUrl(parsed, nullptr), std::move(request));
  absl::StatusOr<net::HttpClientResponse> response = co_await std::move(call);
  co_return response.ok() ? response->status : -1;
}

TEST_F(Streaming, ExecOverPlainGetIsRefused) {
  Start();
  RemoteRun run;
  std::string url = ExecUrl({"exit", "0"}, run);
  EXPECT_EQ(env_.Await(PlainGet(&env_, url, {})), 400);
  EXPECT_EQ(env_.Await(testing::RunOverSpdy(&env_, url, run))->http_status, 101);  // the token is still good
}

TEST_F(Streaming, PagesOfOthersAreRefused) {
  Start();
  RemoteRun run;
  std::string url = ExecUrl({"exit", "0"}, run);
  net::HttpHeaders offer{{"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}};
  net::HttpHeaders headers = net::UpgradeForward(offer, net::UpgradeKind::kWebSocket);
  headers.Add("Origin", "https://evil.example");
  EXPECT_EQ(env_.Await(PlainGet(&env_, url, headers)), 403);
}

TEST_F(Streaming, UnknownProtocolIsRefused) {
  Start();
  RemoteRun run;
  run.protocol = "v9.channel.k8s.io";
  RemoteResult result = Exec(true, {"exit", "0"}, run);
  EXPECT_EQ(result.http_status, 403);
  EXPECT_THAT(result.body, HasSubstr("client supports [v9.channel.k8s.io]"));
}

TEST_F(Streaming, StreamsThatDoNotCome) {
  Start();
  RemoteRun run;
  run.has_stdin = true;
  net::HttpUpgrade upgrade = Open(ExecUrl({"cat"}, run), net::UpgradeKind::kSpdy, {net::kChannelV4});
  ASSERT_NE(upgrade.stream, nullptr);
  auto connection =
      net::SpdyConnection::Start(&scope_, std::move(upgrade.stream), net::SpdyConnection::Role::kClient);
  auto error = env_.Await(connection->Open({{"streamtype", "error"}}));
  ASSERT_TRUE(error.ok()) << error.status();
  env_.Advance(absl::Seconds(31));
  EXPECT_TRUE(connection->closed().is_set());
  EXPECT_EQ(backend_.running, 0);
}

TEST_F(Streaming, AClientThatGoesIsNoticed) {
  Start();
  for (bool spdy : {true, false}) {
    RemoteRun run;
    run.has_stdout = run.has_stderr = false;
    net::UpgradeKind kind = spdy ? net::UpgradeKind::kSpdy : net::UpgradeKind::kWebSocket;
    net::HttpUpgrade upgrade = Open(ExecUrl({"wait"}, run), kind, {net::kChannelV4});
    if (spdy) {
      auto connection =
          net::SpdyConnection::Start(&scope_, std::move(upgrade.stream), net::SpdyConnection::Role::kClient);
      ASSERT_TRUE(env_.Await(connection->Open({{"streamtype", "error"}})).ok());
      env_.Settle();
      EXPECT_EQ(backend_.running, 1);
      connection->Close();
    } else {
      env_.Settle();
      EXPECT_EQ(backend_.running, 1);
      upgrade.stream.reset();
    }
    env_.Settle();
    EXPECT_EQ(backend_.running, 0);
  }
  EXPECT_EQ(backend_.disconnects, 2);
}

TEST_F(Streaming, IdleSessionsEnd) {
  Start();
  RemoteRun run;
  run.has_stdout = run.has_stderr = false;
  net::HttpUpgrade upgrade = Open(ExecUrl({"wait"}, run), net::UpgradeKind::kWebSocket, {net::kChannelV4});
  env_.Settle();
  EXPECT_EQ(backend_.running, 1);
  env_.Advance(absl::Hours(4) + absl::Seconds(1));
  EXPECT_EQ(backend_.running, 0);
}

TEST_F(Streaming, CloseEndsSessions) {
  Start();
  RemoteRun run;
  run.has_stdout = run.has_stderr = false;
  net::HttpUpgrade upgrade = Open(ExecUrl({"wait"}, run), net::UpgradeKind::kWebSocket, {net::kChannelV4});
  env_.Settle();
  EXPECT_EQ(backend_.running, 1);
  env_.AwaitVoid(server_->Close());
  backend_.running = 0;  // cancelled: it did not come to count itself out
  EXPECT_THAT(env_.Await(ReadToEnd(upgrade.stream.get())), StartsWith("\x82\x01\x03"));
}

TEST_F(Streaming, ASlowClientHoldsTheCommandBack) {
  Start();
  RemoteRun run;
  run.has_stderr = false;
  backend_.flood_status = absl::UnknownError("not ended");
  net::HttpUpgrade upgrade =
      Open(ExecUrl({"flood", "30000000"}, run), net::UpgradeKind::kWebSocket, {net::kChannelV5});
  env_.Settle();
  EXPECT_EQ(backend_.running, 1);  // the socket is full, and so is our buffer
  upgrade.stream.reset();
  env_.Settle();
  EXPECT_EQ(backend_.running, 0);
  EXPECT_TRUE(absl::IsUnavailable(backend_.flood_status)) << backend_.flood_status;
}

// ---- port-forward ----

TEST_F(Streaming, ManyForwardsOverOneConnection) {
  Start();
  for (bool tunneled : {false, true}) {
    net::UpgradeKind kind = tunneled ? net::UpgradeKind::kWebSocket : net::UpgradeKind::kSpdy;
    net::HttpUpgrade upgrade =
        Open(ForwardUrl(), kind, {tunneled ? net::kTunneledPortForward : net::kPortForwardV1});
    ASSERT_NE(upgrade.stream, nullptr) << upgrade.body;
    std::shared_ptr<net::ByteStream> stream = std::move(upgrade.stream);
    if (tunneled) {
      net::WebSocketOptions options;
      options.mask_random = &env_.random();
      stream = net::WebSocketByteStream(net::WebSocketConnection::Start(&scope_, std::move(stream), options));
    }
    auto connection = net::SpdyConnection::Start(&scope_, stream, net::SpdyConnection::Role::kClient);
    std::vector<testing::ForwardedStreams> open;
    for (int i = 0; i < 20; ++i) {
      auto pair = env_.Await(OpenForward(connection, 80, i));
      ASSERT_TRUE(pair.ok()) << pair.status();
      open.push_back(*std::move(pair));
    }
    for (int i = 0; i < 20; ++i) {
      ASSERT_TRUE(env_.Await(open[i].data->Write(StrCat("number ", i))).ok());
      ASSERT_TRUE(env_.Await(open[i].data->CloseWrite()).ok());  // the answer comes all the same
    }
    for (int i = 0; i < 20; ++i) {
      EXPECT_EQ(env_.Await(ReadToEnd(open[i].data.get())), StrCat("echo:number ", i));
      EXPECT_EQ(env_.Await(ReadToEnd(open[i].error.get())), "");
    }
    open.clear();
    env_.Settle();
    EXPECT_EQ(connection->streams(), 0u);
    connection->Close();
  }
  EXPECT_EQ(backend_.dials, 40);
}

TEST_F(Streaming, ForwardFailureIsTold) {
  Start();
  net::HttpUpgrade upgrade = Open(ForwardUrl(), net::UpgradeKind::kSpdy, {net::kPortForwardV1});
  auto connection =
      net::SpdyConnection::Start(&scope_, std::move(upgrade.stream), net::SpdyConnection::Role::kClient);
  auto bad = env_.Await(OpenForward(connection, 81, 1));
  ASSERT_TRUE(bad.ok());
  EXPECT_EQ(env_.Await(ReadToEnd(bad->error.get())),
            "error forwarding port 81 to pod sandbox sandbox: connection refused");
  EXPECT_THAT(env_.Await(ReadToEnd(bad->data.get())), HasSubstr("reset"));
  // The connection goes on; an old client pairs by stream numbers.
  auto good = env_.Await(OpenForward(connection, 80, -1));
  ASSERT_TRUE(env_.Await(good->data->Write("x")).ok());
  ASSERT_TRUE(env_.Await(good->data->CloseWrite()).ok());
  EXPECT_EQ(env_.Await(ReadToEnd(good->data.get())), "echo:x");
  connection->Close();
}

TEST_F(Streaming, HalvesOfForwardsAreDropped) {
  Start();
  net::HttpUpgrade upgrade = Open(ForwardUrl({80}), net::UpgradeKind::kSpdy, {net::kPortForwardV1});
  auto connection =
      net::SpdyConnection::Start(&scope_, std::move(upgrade.stream), net::SpdyConnection::Role::kClient);
  auto half = env_.Await(connection->Open({{"streamtype", "error"}, {"port", "80"}, {"requestid", "1"}}));
  ASSERT_TRUE(half.ok());
  auto bad = env_.Await(connection->Open({{"streamtype", "error"}, {"port", "http"}}));
  auto other = env_.Await(connection->Open({{"streamtype", "data"}, {"port", "90"}}));  // not asked for
  env_.Settle();
  EXPECT_EQ(connection->streams(), 1u);
  env_.Advance(absl::Seconds(31));
  EXPECT_EQ(connection->streams(), 0u);
  connection->Close();
}

TEST_F(Streaming, ForwardOverWebSocketChannels) {
  Start();
  EXPECT_EQ(Open(ForwardUrl(), net::UpgradeKind::kWebSocket, {net::kChannelV4}).status, 400);
  net::HttpUpgrade upgrade = Open(ForwardUrl({80, 81}), net::UpgradeKind::kWebSocket, {net::kChannelV4});
  net::WebSocketOptions options;
  options.mask_random = &env_.random();
  auto connection = net::WebSocketConnection::Start(&scope_, std::move(upgrade.stream), options);
  std::vector<std::string> messages;
  for (int i = 0; i < 5; ++i) {
    auto message = env_.Await(connection->Read());
    ASSERT_TRUE(message.ok() && message->has_value());
    messages.push_back((*message)->data);
  }
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(messages[i], std::string({static_cast<char>(i), static_cast<char>(80 + i / 2), '\0'}));
  }
  EXPECT_THAT(messages[4], HasSubstr("\3error forwarding port 81"));
  ASSERT_TRUE(env_.Await(connection->Write(net::WebSocketOpcode::kBinary, std::string("\0abc", 4))).ok());
  env_.Settle();
  connection->Close();
}

TEST_F(Streaming, Tls) {
  net::TestPki pki(env_.clock().Now());
  StreamingOptions options;
  options.tls = pki.Server();
  Start(options);
  RemoteRun run;
  run.tls = pki.Client();
  std::string url = ExecUrl({"exit", "1"}, run);
  EXPECT_THAT(url, StartsWith("https://"));
  auto result = env_.Await(testing::RunOverSpdy(&env_, url, run));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(result->error, HasSubstr("NonZeroExitCode"));
  // A renewed certificate counts from the next connection on.
  std::string before = ExecUrl({"exit", "0"}, run), after = ExecUrl({"exit", "0"}, run);
  net::CertificateSpec spec;
  spec.common_name = "renewed";
  spec.ip_addresses = {"127.0.0.1"};
  spec.server = true;
  net::KeyPair renewed = *pki.other_ca.Issue(spec, env_.clock().Now());
  net::TlsServerConfig config;
  config.certificate_pem = renewed.certificate_pem;
  config.private_key_pem = renewed.private_key_pem;
  server_->SetTls(*net::TlsServerContext::Create(config));
  EXPECT_FALSE(env_.Await(testing::RunOverSpdy(&env_, before, run)).ok());
  net::TlsClientConfig trust;
  trust.ca_pem = pki.other_ca.certificate_pem();
  run.tls = *net::TlsClientContext::Create(trust);
  EXPECT_EQ(env_.Await(testing::RunOverSpdy(&env_, after, run))->http_status, 101);
}

TEST_F(Streaming, UrlsOfTheUnspecifiedAddressNameTheLoopback) {
  StreamingOptions options;
  options.address = "0.0.0.0";
  Start(options);
  RemoteRun run;
  std::string url = ExecUrl({"exit", "0"}, run);
  EXPECT_THAT(url, StartsWith("http://127.0.0.1:"));
  EXPECT_EQ(env_.Await(testing::RunOverSpdy(&env_, url, run))->http_status, 101);
}

}  // namespace
}  // namespace keelson::cri
