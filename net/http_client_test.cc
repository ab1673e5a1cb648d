#include "net/http_client.h"

#include <absl/strings/match.h>

#include "base/status.h"
#include "base/strings.h"
#include "net/http_server.h"
#include "net/test_util.h"

namespace keelson::net {
namespace {

class ClientTestHandler : public HttpHandler {
 public:
  explicit ClientTestHandler(FakeEnv* env) : env_(env) {}
  Task<void> Handle(HttpRequest request, ResponseWriter& writer) override {
    last = request;
    if (request.target.path == "/stream") return Stream(&writer);
    if (request.target.path == "/cut") return Cut(&writer);
    if (request.target.path == "/hang") return Hang();
    if (request.target.path == "/upgrade") return Echo(&writer);
    return Simple(&writer, std::move(request));
  }
  Task<void> Simple(ResponseWriter* writer, HttpRequest request) {
    std::string body =
        request.target.path == "/big" ? std::string(300000, 'b') : StrCat(request.method, request.body);
    HttpResponse response(request.target.path == "/404" ? 404 : 200, "text/plain", std::move(body));
    Task<absl::Status> send = writer->Send(std::move(response));
    (void)co_await std::move(send);
  }
  Task<void> Stream(ResponseWriter* writer) {
    Task<absl::Status> start = writer->StartStream(200, HttpHeaders());
    (void)co_await std::move(start);
    for (int i = 0; i < 3; ++i) {
      Task<absl::Status> write = writer->Write(MakeSharedBytes(StrCat("event ", i, "\n")));
      (void)co_await std::move(write);
      Task<void> sleep = env_->clock().Sleep(absl::Seconds(20));
      co_await std::move(sleep);
    }
  }
  Task<void> Cut(ResponseWriter* writer) {
    Task<absl::Status> start = writer->StartStream(200, HttpHeaders());
    (void)co_await std::move(start);
    Task<absl::Status> write = writer->Write(MakeSharedBytes("half"));
    (void)co_await std::move(write);
    writer->Abort();
  }
  Task<void> Hang() {
    Task<void> sleep = env_->clock().Sleep(absl::Hours(1));
    co_await std::move(sleep);
  }
  Task<void> Echo(ResponseWriter* writer) {
    HttpHeaders headers{{"Connection", "Upgrade"}, {"Upgrade", "echo"}};
    Task<absl::StatusOr<std::unique_ptr<ByteStream>>> hijack = writer->Hijack(101, std::move(headers));
    absl::StatusOr<std::unique_ptr<ByteStream>> stream = co_await std::move(hijack);
    char buffer[64];
    Task<absl::StatusOr<size_t>> read = (*stream)->Read(buffer, sizeof buffer);
    absl::StatusOr<size_t> n = co_await std::move(read);
    if (!n.ok()) co_return;
    Task<absl::Status> write = (*stream)->Write(std::string_view(buffer, *n));
    (void)co_await std::move(write);
  }
  HttpRequest last;

 private:
  FakeEnv* env_;
};

class HttpClientTest : public ::testing::Test {
 protected:
  void SetUp() override {
    endpoint_.unix_path = dir_.path() + "/s.sock";
    ASSERT_TRUE(server_.ListenUnix(endpoint_.unix_path).ok());
  }
  void TearDown() override {
    client_.reset();
    env_.AwaitVoid(server_.Close());
  }
  absl::StatusOr<HttpClientResponse> Do(std::string target, std::string method = "GET",
                                        std::string body = "") {
    HttpClientRequest request;
    request.method = std::move(method);
    request.target = std::move(target);
    if (!body.empty()) request.body = MakeSharedBytes(std::move(body));
    return env_.Await(client_->Do(endpoint_, std::move(request)));
  }
  absl::StatusOr<std::unique_ptr<HttpResponseStream>> Open(std::string target) {
    HttpClientRequest request;
    request.target = std::move(target);
    return env_.Await(client_->Open(endpoint_, std::move(request)));
  }

  FakeEnv env_;
  TempDir dir_;
  ClientTestHandler handler_{&env_};
  HttpServer server_{env_.executor(), &env_.clock(), &handler_, HttpServerOptions()};
  std::unique_ptr<HttpClient> client_ = std::make_unique<HttpClient>(&env_, HttpClientOptions());
  HttpEndpoint endpoint_;
};

TEST_F(HttpClientTest, ConnectionsAreReused) {
  for (int i = 0; i < 5; ++i) {
    auto response = Do("/x?y=z", "POST", "body");
    ASSERT_TRUE(response.ok()) << response.status();
    EXPECT_EQ(response->status, 200);
    EXPECT_EQ(response->body, "POSTbody");
    EXPECT_EQ(response->headers.Get("content-type"), "text/plain");
  }
  EXPECT_EQ(client_->stats().connects_total, 1u);
  EXPECT_EQ(client_->stats().reused_total, 4u);
  EXPECT_EQ(client_->stats().idle, 1u);
  EXPECT_EQ(handler_.last.headers.Get("User-Agent"), "keelson");
  EXPECT_EQ(handler_.last.headers.Get("Host"), "localhost");
  EXPECT_EQ(Do("/404")->status, 404);
  EXPECT_EQ(Do("/head", "HEAD")->body, "");
  EXPECT_EQ(Do("/big")->body.size(), 300000u);
  EXPECT_EQ(Do("/x", "PUT", std::string(1 << 20, 'u'))->body.size(), (1u << 20) + 3);
  EXPECT_EQ(client_->stats().connects_total, 1u);
}

TEST_F(HttpClientTest, IdleConnectionClosedByTheServerIsReplaced) {
  ASSERT_TRUE(Do("/a").ok());
  HttpClientOptions patient;
  patient.idle_timeout = absl::Hours(1);
  client_ = std::make_unique<HttpClient>(&env_, patient);
  ASSERT_TRUE(Do("/a").ok());
  env_.Advance(absl::Minutes(5));
  ASSERT_TRUE(Do("/a").ok());
  EXPECT_EQ(client_->stats().connects_total, 2u);
}

TEST_F(HttpClientTest, IdleConnectionsArePruned) {
  ASSERT_TRUE(Do("/a").ok());
  EXPECT_EQ(client_->stats().idle, 1u);
  env_.Advance(absl::Seconds(200));
  EXPECT_EQ(client_->stats().idle, 0u);
  EXPECT_EQ(client_->stats().open, 0u);
}

TEST_F(HttpClientTest, StreamPieceByPieceThenReuse) {
  auto stream = Open("/stream");
  ASSERT_TRUE(stream.ok()) << stream.status();
  EXPECT_EQ((*stream)->status(), 200);
  for (int i = 0; i < 3; ++i) {
    auto piece = env_.Await((*stream)->Read(absl::InfiniteDuration()));
    ASSERT_TRUE(piece.ok()) << piece.status();
    EXPECT_EQ(*piece, StrCat("event ", i, "\n"));
  }
  EXPECT_EQ(*env_.Await((*stream)->Read(absl::InfiniteDuration())), "");
  EXPECT_EQ(client_->stats().idle, 1u);
}

TEST_F(HttpClientTest, StreamIdleTimeout) {
  auto stream = Open("/stream");
  ASSERT_TRUE(env_.Await((*stream)->Read(absl::Seconds(5))).ok());
  EXPECT_TRUE(absl::IsDeadlineExceeded(env_.Await((*stream)->Read(absl::Seconds(5))).status()));
  EXPECT_FALSE(env_.Await((*stream)->Read(absl::Seconds(5))).ok());
  EXPECT_EQ(client_->stats().open, 0u);
}

TEST_F(HttpClientTest, DroppedStreamClosesTheConnection) {
  auto stream = Open("/stream");
  ASSERT_TRUE(stream.ok());
  stream->reset();
  env_.Settle();
  EXPECT_EQ(client_->stats().open, 0u);
  EXPECT_EQ(server_.stats().connections, 0u);
}

TEST_F(HttpClientTest, CutStreamIsAnError) {
  auto response = Do("/cut");
  EXPECT_TRUE(absl::IsUnavailable(response.status())) << response.status();
}

TEST_F(HttpClientTest, Deadline) {
  absl::Duration start = env_.clock().Monotonic();
  auto response = Do("/hang");
  EXPECT_TRUE(absl::IsDeadlineExceeded(response.status())) << response.status();
  EXPECT_EQ(env_.clock().Monotonic() - start, absl::Seconds(30));
  env_.Settle();
  EXPECT_EQ(server_.stats().connections, 0u) << "the server's handler was cancelled";
}

TEST_F(HttpClientTest, Upgrade) {
  HttpClientRequest request;
  request.target = "/upgrade";
  request.headers = HttpHeaders{{"Connection", "Upgrade"}, {"Upgrade", "echo"}};
  auto upgrade = env_.Await(client_->Upgrade(endpoint_, request));
  ASSERT_TRUE(upgrade.ok()) << upgrade.status();
  EXPECT_EQ(upgrade->status, 101);
  ASSERT_NE(upgrade->stream, nullptr);
  ASSERT_TRUE(env_.Await(upgrade->stream->Write("ping")).ok());
  char buffer[16];
  auto n = env_.Await(upgrade->stream->Read(buffer, sizeof buffer));
  ASSERT_TRUE(n.ok());
  EXPECT_EQ(std::string(buffer, *n), "ping");
  EXPECT_EQ(*env_.Await(upgrade->stream->Read(buffer, sizeof buffer)), 0u);
  request.target = "/404";
  auto refused = env_.Await(client_->Upgrade(endpoint_, request));
  EXPECT_EQ(refused->status, 404);
  EXPECT_EQ(refused->body, "GET");
  EXPECT_EQ(refused->stream, nullptr);
}

TEST_F(HttpClientTest, BodyLimit) {
  HttpClientOptions options;
  options.max_body_bytes = 1000;
  client_ = std::make_unique<HttpClient>(&env_, options);
  EXPECT_TRUE(absl::IsResourceExhausted(Do("/big").status()));
  EXPECT_EQ(client_->stats().open, 0u);
}

TEST_F(HttpClientTest, ConnectErrorsAreUnavailable) {
  endpoint_.unix_path = dir_.path() + "/none.sock";
  EXPECT_TRUE(absl::IsUnavailable(Do("/").status()));
  EXPECT_EQ(client_->stats().open, 0u);
  endpoint_.unix_path = std::string(200, 'x');
  EXPECT_TRUE(absl::IsInvalidArgument(Do("/").status()));
}

TEST_F(HttpClientTest, RequestsCannotBeSplit) {
  EXPECT_TRUE(absl::IsInvalidArgument(Do("/a b").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Do("/a\r\nX: y").status()));
  HttpClientRequest request;
  request.headers.Add("X", "a\r\nEvil: 1");
  EXPECT_TRUE(absl::IsInvalidArgument(env_.Await(client_->Do(endpoint_, request)).status()));
}

Task<void> KeepStatus(Task<absl::StatusOr<HttpClientResponse>> call, absl::Status* out, int* done) {
  absl::StatusOr<HttpClientResponse> response = co_await std::move(call);
  *out = response.status();
  ++*done;
}

TEST_F(HttpClientTest, ConnectionLimitQueues) {
  HttpClientOptions options;
  options.max_connections_per_endpoint = 1;
  client_ = std::make_unique<HttpClient>(&env_, options);
  Scope scope(env_.executor());
  absl::Status first, second;
  int done = 0;
  HttpClientRequest request;
  request.target = "/hang";
  request.timeout = absl::Seconds(10);
  scope.Spawn("a", KeepStatus(client_->Do(endpoint_, request), &first, &done));
  request.target = "/x";
  request.timeout = absl::Seconds(5);
  scope.Spawn("b", KeepStatus(client_->Do(endpoint_, request), &second, &done));
  env_.Advance(absl::Seconds(6));
  EXPECT_EQ(done, 1);
  EXPECT_TRUE(absl::IsDeadlineExceeded(second)) << second;
  request.timeout = absl::Seconds(50);
  scope.Spawn("c", KeepStatus(client_->Do(endpoint_, request), &second, &done));
  env_.Advance(absl::Seconds(6));
  EXPECT_EQ(done, 3);
  EXPECT_TRUE(absl::IsDeadlineExceeded(first)) << first;
  EXPECT_TRUE(second.ok()) << second;
}

TEST_F(HttpClientTest, CancelledCallLeavesNothing) {
  Scope scope(env_.executor());
  absl::Status status;
  int done = 0;
  HttpClientRequest request;
  request.target = "/hang";
  scope.Spawn("a", KeepStatus(client_->Do(endpoint_, request), &status, &done));
  env_.Settle();
  EXPECT_EQ(client_->stats().open, 1u);
  env_.AwaitVoid(scope.Close());
  EXPECT_EQ(done, 0);
  EXPECT_EQ(client_->stats().open, 0u);
  env_.Settle();
  EXPECT_EQ(server_.stats().connections, 0u);
}

}  // namespace
}  // namespace keelson::net
