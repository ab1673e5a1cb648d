// Byte-exact tests of the server over a socketpair, on the fake clock.
#include "net/http_server.h"

#include <absl/strings/match.h>
#include <absl/strings/str_replace.h>
#include <zlib.h>

#include "base/status.h"
#include "base/strings.h"
#include "net/test_util.h"

namespace keelson::net {
namespace {

constexpr std::string_view kDate = "Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n";

// One handler for all tests: what it does is in the path.
class TestHandler : public HttpHandler {
 public:
  explicit TestHandler(FakeEnv* env) : env_(env) {}

  Task<void> Handle(HttpRequest request, ResponseWriter& writer) override {
    last = request;
    ++calls;
    const std::string& path = request.target.path;
    if (path == "/stream") return Stream(&writer);
    if (path == "/wait") return WaitForGo(&writer, false);
    if (path == "/wait-shielded") return WaitForGo(&writer, true);
    if (path == "/flood") return Flood(&writer);
    if (path == "/abort") return AbortStream(&writer);
    if (path == "/upgrade") return Echo(&writer);
    if (path == "/silent") return Silent();
    if (path == "/big") return Big(&writer);
    if (path == "/pieces") return Pieces(&writer);
    if (path == "/204") return NoContent(&writer);
    if (path == "/split") return Split(&writer);
    return Simple(&writer, std::move(request));
  }

  Task<void> Simple(ResponseWriter* writer, HttpRequest request) {
    HttpResponse response(200, "text/plain",
                          StrCat(request.method, " ", request.target.path, " ", request.body));
    Task<absl::Status> send = writer->Send(std::move(response));
    (void)co_await std::move(send);
  }
  Task<void> NoContent(ResponseWriter* writer) {
    HttpResponse response(204, "", std::string("ignored"));
    Task<absl::Status> send = writer->Send(std::move(response));
    (void)co_await std::move(send);
  }
  Task<void> Split(ResponseWriter* writer) {
    HttpResponse response(200, "text/plain\r\nEvil: 1", std::string("x"));
    Task<absl::Status> send = writer->Send(std::move(response));
    (void)co_await std::move(send);
  }
  Task<void> Silent() { co_return; }
  Task<void> Big(ResponseWriter* writer) {
    HttpResponse response(200, "text/plain", std::string(big_bytes, 'x'));
    Task<absl::Status> send = writer->Send(std::move(response));
    last_write = co_await std::move(send);
  }
  Task<void> Pieces(ResponseWriter* writer) {
    HttpBody body;
    SharedBytes item = MakeSharedBytes(std::string(10000, 'i'));
    for (int i = 0; i < 20; ++i) {
      body.AppendSlice(nullptr, ",");
      body.Append(item);
    }
    HttpResponse response(200, "text/plain", std::move(body));
    Task<absl::Status> send = writer->Send(std::move(response));
    (void)co_await std::move(send);
  }
  Task<void> Stream(ResponseWriter* writer) {
    HttpHeaders headers;
    headers.Add("Content-Type", "text/plain");
    Task<absl::Status> start = writer->StartStream(200, std::move(headers));
    (void)co_await std::move(start);
    for (const char* piece : {"one", "", "three!"}) {
      Task<absl::Status> write = writer->Write(MakeSharedBytes(piece));
      (void)co_await std::move(write);
      Task<void> sleep = env_->clock().Sleep(absl::Seconds(1));
      co_await std::move(sleep);
    }
  }
  Task<void> AbortStream(ResponseWriter* writer) {
    Task<absl::Status> start = writer->StartStream(200, HttpHeaders());
    (void)co_await std::move(start);
    Task<absl::Status> write = writer->Write(MakeSharedBytes("half"));
    (void)co_await std::move(write);
    writer->Abort();
  }
  Task<void> WaitForGo(ResponseWriter* writer, bool shielded) {
    struct Note {
      TestHandler* handler;
      bool finished = false;
      ~Note() { ++(finished ? handler->finished : handler->cancelled); }
    } note{this};
    if (shielded) writer->IgnoreDisconnect();
    Task<void> wait = go.Wait();
    co_await std::move(wait);
    saw_disconnect = writer->disconnected().is_set();
    HttpResponse response(200, "", std::string("gone"));
    Task<absl::Status> send = writer->Send(std::move(response));
    last_write = co_await std::move(send);
    note.finished = true;
  }
  Task<void> Flood(ResponseWriter* writer) {
    Task<absl::Status> start = writer->StartStream(200, HttpHeaders());
    (void)co_await std::move(start);
    writer->IgnoreDisconnect();
    while (true) {
      Task<absl::Status> write = writer->Write(MakeSharedBytes(std::string(100000, 'f')));
      last_write = co_await std::move(write);
      if (!last_write.ok()) break;
      flooded_bytes += 100000;
    }
  }
  Task<void> Echo(ResponseWriter* writer) {
    HttpHeaders headers;
    headers.Add("Connection", "Upgrade");
    headers.Add("Upgrade", "echo");
    Task<absl::StatusOr<std::unique_ptr<ByteStream>>> hijack = writer->Hijack(101, std::move(headers));
    absl::StatusOr<std::unique_ptr<ByteStream>> stream = co_await std::move(hijack);
    if (!stream.ok()) co_return;
    char buffer[8];
    while (true) {
      Task<absl::StatusOr<size_t>> read = (*stream)->Read(buffer, sizeof buffer);
      absl::StatusOr<size_t> n = co_await std::move(read);
      if (!n.ok() || *n == 0) break;
      Task<absl::Status> write = (*stream)->Write(std::string_view(buffer, *n));
      (void)co_await std::move(write);
    }
    ++finished;
  }

  HttpRequest last;
  int calls = 0, cancelled = 0, finished = 0;
  size_t big_bytes = 200 << 10, flooded_bytes = 0;
  bool saw_disconnect = false;
  absl::Status last_write;
  AsyncEvent go;

 private:
  FakeEnv* env_;
};

class HttpServerTest : public ::testing::Test {
 protected:
  void Start(HttpServerOptions options = {}) {
    server_ = std::make_unique<HttpServer>(env_.executor(), &env_.clock(), &handler_, std::move(options));
  }
  Peer Connect() {
    if (server_ == nullptr) Start();
    auto [near, far] = SocketPair();
    server_->Serve(std::move(near));
    env_.Settle();
    return Peer(&env_, std::move(far));
  }
  void TearDown() override {
    if (server_ != nullptr) env_.AwaitVoid(server_->Close());
  }

  FakeEnv env_;
  TestHandler handler_{&env_};
  std::unique_ptr<HttpServer> server_;
};

std::string Ok(std::string_view body, std::string_view extra = "") {
  return StrCat("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n", kDate, "Content-Length: ", body.size(),
                "\r\n", extra, "\r\n", body);
}

TEST_F(HttpServerTest, GetByteExactAndKeepAlive) {
  Peer peer = Connect();
  EXPECT_EQ(peer.Ask("GET /a?x=1 HTTP/1.1\r\nHost: h\r\n\r\n"), Ok("GET /a "));
  EXPECT_EQ(peer.Ask("GET /b HTTP/1.1\r\nHost: h\r\n\r\n"), Ok("GET /b "));
  EXPECT_FALSE(peer.eof());
  EXPECT_EQ(server_->stats().requests_total, 2u);
  EXPECT_EQ(server_->stats().connections, 1u);
}

TEST_F(HttpServerTest, RequestSplitIntoSingleBytes) {
  Peer peer = Connect();
  for (char c : std::string("POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody"))
    peer.Send(std::string(1, c));
  EXPECT_EQ(peer.Receive(), Ok("POST /p body"));
}

TEST_F(HttpServerTest, ChunkedBodyAndBareRequestByteByByte) {
  Peer peer = Connect();
  for (std::string text :
       {"POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        "POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "\r\n\r\nGET /p HTTP/1.0\r\n\r\n"}) {
    for (char c : text) peer.Send(std::string(1, c));
  }
  EXPECT_EQ(peer.Receive(), Ok("POST /p a") + Ok("POST /p ") + Ok("GET /p ", "Connection: close\r\n"));
}

TEST_F(HttpServerTest, RequestIsTakenApart) {
  Peer peer = Connect();
  peer.Ask(
      "PUT /api/v1%2Fx/y?labelSelector=a%3Db&watch=1&watch=2 HTTP/1.1\r\nHOST: h\r\nX-One: a, Upgrade\r\n"
      "Content-Length: 2\r\n\r\nhi");
  const HttpRequest& request = handler_.last;
  EXPECT_EQ(request.method, "PUT");
  EXPECT_EQ(request.target.path, "/api/v1/x/y");
  EXPECT_EQ(request.target.raw_path, "/api/v1%2Fx/y");
  EXPECT_EQ(request.target.query.Get("labelSelector"), "a=b");
  EXPECT_EQ(request.target.query.GetAll("watch").size(), 2u);
  EXPECT_EQ(request.headers.Get("host"), "h");
  EXPECT_TRUE(request.headers.HasToken("x-one", "upgrade"));
  EXPECT_EQ(request.body, "hi");
  EXPECT_EQ(request.peer_address, "unix");
  EXPECT_EQ(request.peer_certificate, nullptr);
}

TEST_F(HttpServerTest, Pipelining) {
  Peer peer = Connect();
  std::string many;
  std::string expected;
  for (int i = 0; i < 40; ++i) {
    StrAppend(&many, "GET /", i, " HTTP/1.1\r\nHost: h\r\n\r\n");
    expected += Ok(StrCat("GET /", i, " "));
  }
  EXPECT_EQ(peer.Ask(many), expected);
}

TEST_F(HttpServerTest, PipelinedBehindAWaitingHandler) {
  Peer peer = Connect();
  EXPECT_EQ(peer.Ask("GET /wait HTTP/1.1\r\nHost: h\r\n\r\n"), "");
  EXPECT_EQ(peer.Ask("GET /next HTTP/1.1\r\nHost: h\r\n\r\n"), "");
  handler_.go.Set();
  EXPECT_EQ(peer.Receive(),
            StrCat("HTTP/1.1 200 OK\r\n", kDate, "Content-Length: 4\r\n\r\ngone", Ok("GET /next ")));
}

TEST_F(HttpServerTest, HeadSendsNoBody) {
  Peer peer = Connect();
  EXPECT_EQ(peer.Ask("HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n"),
            StrCat("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n", kDate, "Content-Length: 8\r\n\r\n"));
  EXPECT_EQ(
      peer.Ask("HEAD /stream HTTP/1.1\r\nHost: h\r\n\r\n"),
      StrCat("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n", kDate, "Transfer-Encoding: chunked\r\n\r\n"));
}

TEST_F(HttpServerTest, NoContentHasNoLength) {
  Peer peer = Connect();
  EXPECT_EQ(peer.Ask("GET /204 HTTP/1.1\r\nHost: h\r\n\r\n"),
            StrCat("HTTP/1.1 204 No Content\r\n", kDate, "\r\n"));
}

TEST_F(HttpServerTest, Http10) {
  Peer peer = Connect();
  EXPECT_EQ(peer.Ask("GET /a HTTP/1.0\r\n\r\n"), Ok("GET /a ", "Connection: close\r\n"));
  EXPECT_TRUE(peer.eof());
  Peer kept = Connect();
  EXPECT_EQ(kept.Ask("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
            Ok("GET /a ", "Connection: keep-alive\r\n"));
  EXPECT_FALSE(kept.eof());
  Peer stream = Connect();
  stream.Send("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  env_.Advance(absl::Seconds(10));
  EXPECT_EQ(stream.Receive(), StrCat("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n", kDate,
                                     "Connection: close\r\n\r\nonethree!"));
  EXPECT_TRUE(stream.eof());
}

TEST_F(HttpServerTest, ConnectionCloseIsObeyed) {
  Peer peer = Connect();
  EXPECT_EQ(peer.Ask("GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"),
            Ok("GET /a ", "Connection: close\r\n"));
  EXPECT_TRUE(peer.eof());
}

TEST_F(HttpServerTest, ChunkedRequestBody) {
  Peer peer = Connect();
  EXPECT_EQ(peer.Ask("POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: "
                     "chunked\r\n\r\n3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\n"
                     "Trailer: x\r\n\r\nGET /n HTTP/1.1\r\nHost: h\r\n\r\n"),
            Ok("POST /p abcde") + Ok("GET /n "));
  EXPECT_FALSE(handler_.last.headers.Has("Trailer"));
}

TEST_F(HttpServerTest, ExpectContinue) {
  Peer peer = Connect();
  EXPECT_EQ(peer.Ask("POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"),
            "HTTP/1.1 100 Continue\r\n\r\n");
  EXPECT_EQ(peer.Ask("abc"), Ok("POST /p abc"));
  // Not asked for when the body is already there.
  EXPECT_EQ(peer.Ask("POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc"),
            Ok("POST /p abc"));
}

TEST_F(HttpServerTest, StreamIsChunkedAndTheConnectionGoesOn) {
  Peer peer = Connect();
  EXPECT_EQ(peer.Ask("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n"),
            StrCat("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n", kDate,
                   "Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n"));
  env_.Advance(absl::Seconds(2));
  EXPECT_EQ(peer.Receive(), "6\r\nthree!\r\n");
  env_.Advance(absl::Seconds(1));
  EXPECT_EQ(peer.Receive(), "0\r\n\r\n");
  EXPECT_TRUE(absl::StartsWith(peer.Ask("GET /a HTTP/1.1\r\nHost: h\r\n\r\n"), "HTTP/1.1 200 OK\r\n"));
}

TEST_F(HttpServerTest, AbortCutsTheStream) {
  Peer peer = Connect();
  std::string got = peer.Ask("GET /abort HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_TRUE(absl::EndsWith(got, "\r\n4\r\nhalf\r\n")) << got;
  EXPECT_TRUE(peer.eof());
}

TEST_F(HttpServerTest, HandlerWithoutResponseIs500) {
  Peer peer = Connect();
  EXPECT_TRUE(absl::StartsWith(peer.Ask("GET /silent HTTP/1.1\r\nHost: h\r\n\r\n"), "HTTP/1.1 500 "));
}

TEST_F(HttpServerTest, MalformedRequests) {
  struct {
    const char* request;
    const char* status;
  } cases[] = {
      {"GET\r\n\r\n", "400"},
      {"GET / HTTP/1.1\r\n\r\n", "400"},  // no Host
      {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"},
      {"GET / HTTP/3.0\r\nHost: a\r\n\r\n", "505"},
      {"GET nopath HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
      {"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
      {"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
      {"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", "400"},  // bare line feed
      {"GET / HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\r\n", "400"},
      {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", "400"},
      {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400"},
      {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
       "400"},
      {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
       "400"},
      {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501"},
      {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", "400"},
      {"GET / HTTP/1.1\r\nHost: a\r\nExpect: magic\r\n\r\n", "417"},
      {"\x16\x03\x01\x02\x01\x01\r\n\r\n", "400"},  // TLS on a plain port
  };
  for (const auto& test : cases) {
    Peer peer = Connect();
    std::string got = peer.Ask(test.request);
    EXPECT_EQ(got.substr(0, 12), StrCat("HTTP/1.1 ", test.status)) << test.request << "\n" << got;
    EXPECT_TRUE(absl::StrContains(got, "Connection: close\r\n"));
    EXPECT_TRUE(peer.eof()) << test.request;
  }
  EXPECT_EQ(handler_.calls, 0);
}

TEST_F(HttpServerTest, LimitsHaveTheirOwnStatus) {
  HttpServerOptions options;
  options.max_header_bytes = 32 << 10;
  options.max_headers = 10;
  options.max_body_bytes = 1000;
  Start(options);
  Peer large_header = Connect();
  std::string big(40 << 10, 'h');
  EXPECT_EQ(large_header.Ask(StrCat("GET / HTTP/1.1\r\nHost: a\r\nX: ", big, "\r\n\r\n")).substr(9, 3),
            "431");
  Peer many = Connect();
  std::string headers;
  for (int i = 0; i < 20; ++i) StrAppend(&headers, "X", i, ": 1\r\n");
  EXPECT_EQ(many.Ask(StrCat("GET / HTTP/1.1\r\nHost: a\r\n", headers, "\r\n")).substr(9, 3), "431");
  Peer target = Connect();
  EXPECT_EQ(
      target.Ask(StrCat("GET /", std::string(20 << 10, 't'), " HTTP/1.1\r\nHost: a\r\n\r\n")).substr(9, 3),
      "414");
  Peer announced = Connect();
  EXPECT_EQ(
      announced.Ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n")
          .substr(9, 3),
      "413");
  Peer chunked = Connect();
  EXPECT_EQ(chunked
                .Ask(StrCat("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n200\r\n",
                            std::string(512, 'x'), "\r\n200\r\n", std::string(512, 'x'), "\r\n0\r\n\r\n"))
                .substr(9, 3),
            "413");
  // A body being pushed at us does not hide the answer.
  Peer pushing = Connect();
  EXPECT_EQ(pushing
                .Ask(StrCat("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n",
                            std::string(100000, 'x')))
                .substr(9, 3),
            "413");
  Peer endless = Connect();
  EXPECT_EQ(endless
                .Ask(StrCat("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;",
                            std::string(40 << 10, 'e')))
                .substr(9, 3),
            "431");
  Peer trailers = Connect();
  EXPECT_EQ(trailers
                .Ask(StrCat("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nT: ",
                            std::string(40 << 10, 'e')))
                .substr(9, 3),
            "431");
  EXPECT_EQ(handler_.calls, 0);
}

TEST_F(HttpServerTest, SlowHeaderGets408) {
  Peer peer = Connect();
  peer.Send("GET / HTTP/1.1\r\nHo");
  for (int i = 0; i < 19; ++i) {
    env_.Advance(absl::Seconds(1));
    peer.Send("x");
  }
  EXPECT_EQ(peer.Receive(), "");
  env_.Advance(absl::Seconds(2));
  EXPECT_EQ(peer.Receive().substr(0, 12), "HTTP/1.1 408");
  EXPECT_EQ(server_->stats().connections, 1u);  // lingers
  env_.Advance(absl::Seconds(3));
  EXPECT_EQ(server_->stats().connections, 0u);
}

TEST_F(HttpServerTest, SlowBodyGets408) {
  Peer peer = Connect();
  peer.Send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nab");
  env_.Advance(absl::Seconds(61));
  EXPECT_EQ(peer.Receive().substr(0, 12), "HTTP/1.1 408");
}

TEST_F(HttpServerTest, IdleConnectionIsClosed) {
  Peer fresh = Connect();
  Peer used = Connect();
  env_.Advance(absl::Seconds(100));
  used.Ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  env_.Advance(absl::Seconds(30));
  EXPECT_TRUE(fresh.eof());
  EXPECT_FALSE(used.eof());
  env_.Advance(absl::Seconds(100));
  EXPECT_TRUE(used.eof());
  EXPECT_EQ(server_->stats().connections, 0u);
}

TEST_F(HttpServerTest, DisconnectCancelsTheHandler) {
  Peer peer = Connect();
  peer.Send("GET /wait HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_EQ(handler_.calls, 1);
  EXPECT_EQ(handler_.cancelled, 0);
  peer.Close();
  EXPECT_EQ(handler_.cancelled, 1);
  EXPECT_EQ(server_->stats().connections, 0u);
}

TEST_F(HttpServerTest, DisconnectDuringStream) {
  Peer peer = Connect();
  peer.Send("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
  peer.Close();
  env_.Settle();
  EXPECT_EQ(server_->stats().connections, 0u);
}

TEST_F(HttpServerTest, ShieldedHandlerRunsToItsEnd) {
  Peer peer = Connect();
  peer.Send("GET /wait-shielded HTTP/1.1\r\nHost: h\r\n\r\n");
  peer.Close();
  EXPECT_EQ(handler_.cancelled, 0);
  handler_.go.Set();
  env_.Settle();
  EXPECT_EQ(handler_.finished, 1);
  EXPECT_TRUE(handler_.saw_disconnect);
  EXPECT_EQ(server_->stats().connections, 0u);
}

TEST_F(HttpServerTest, WriteStallIsCut) {
  Peer peer = Connect();
  peer.Send("GET /flood HTTP/1.1\r\nHost: h\r\n\r\n");
  env_.Settle();
  size_t buffered = handler_.flooded_bytes;
  EXPECT_LT(buffered, 8u << 20);  // back-pressure
  env_.Advance(absl::Seconds(30));
  EXPECT_EQ(handler_.flooded_bytes, buffered);
  EXPECT_EQ(server_->stats().connections, 1u);
  env_.Advance(absl::Seconds(31));
  EXPECT_TRUE(absl::IsDeadlineExceeded(handler_.last_write)) << handler_.last_write;
  EXPECT_EQ(server_->stats().connections, 0u);
}

TEST_F(HttpServerTest, StalledReaderOfALargeBodyIsCut) {
  handler_.big_bytes = 50 << 20;
  Peer peer = Connect();
  peer.Send("GET /big HTTP/1.1\r\nHost: h\r\n\r\n");
  env_.Advance(absl::Seconds(50));
  EXPECT_EQ(server_->stats().connections, 1u);
  EXPECT_GT(peer.Receive().size(), 1000u);  // a client that reads goes on
  EXPECT_EQ(handler_.last_write, absl::OkStatus());
  Peer stuck = Connect();
  stuck.Send("GET /big HTTP/1.1\r\nHost: h\r\n\r\n");
  env_.Advance(absl::Seconds(61));
  // The handler was cancelled in its Send.
  EXPECT_EQ(server_->stats().connections, 1u);
}

TEST_F(HttpServerTest, HijackKeepsEarlyBytes) {
  Peer peer = Connect();
  EXPECT_EQ(
      peer.Ask("GET /upgrade HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly bird"),
      StrCat("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n", kDate,
             "\r\nearly bird"));
  EXPECT_EQ(peer.Ask("more and more"), "more and more");
  peer.HalfClose();
  EXPECT_EQ(handler_.finished, 1);
  EXPECT_TRUE(peer.eof());
}

std::string Gunzip(const std::string& in) {
  z_stream stream{};
  EXPECT_EQ(inflateInit2(&stream, 15 + 16), Z_OK);
  std::string out(1 << 20, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
  stream.avail_in = static_cast<uInt>(in.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(inflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  inflateEnd(&stream);
  return out;
}

TEST_F(HttpServerTest, LargeBodyIsCompressedWhenAsked) {
  Peer peer = Connect();
  std::string got = peer.Ask("GET /big HTTP/1.1\r\nHost: h\r\nAccept-Encoding: deflate, gzip\r\n\r\n");
  EXPECT_TRUE(absl::StrContains(got, "Content-Encoding: gzip\r\n"));
  EXPECT_TRUE(absl::StrContains(got, "Vary: Accept-Encoding\r\n"));
  std::string rest = got.substr(got.find("\r\n\r\n") + 4);
  std::string compressed;
  while (true) {
    size_t size = std::stoul(rest, nullptr, 16);
    rest = rest.substr(rest.find("\r\n") + 2);
    if (size == 0) break;
    compressed += rest.substr(0, size);
    rest = rest.substr(size + 2);
  }
  EXPECT_EQ(Gunzip(compressed), std::string(200 << 10, 'x'));
  EXPECT_LT(compressed.size(), 10000u);
  got = peer.Ask("GET /big HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_TRUE(absl::StrContains(got, "Content-Length: 204800\r\n"));
  handler_.big_bytes = 128 << 10;
  got = peer.Ask("GET /big HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n");
  EXPECT_TRUE(absl::StrContains(got, "Content-Length: 131072\r\n"));
}

TEST_F(HttpServerTest, BodyOfManyPieces) {
  Peer peer = Connect();
  std::string got = peer.Ask("GET /pieces HTTP/1.1\r\nHost: h\r\n\r\n");
  std::string expected;
  for (int i = 0; i < 20; ++i) expected += "," + std::string(10000, 'i');
  EXPECT_EQ(got.substr(got.find("\r\n\r\n") + 4), expected);
}

TEST_F(HttpServerTest, TooManyConnectionsEvictsTheOldestIdle) {
  HttpServerOptions options;
  options.max_connections = 2;
  Start(options);
  Peer busy = Connect();
  busy.Send("GET /wait HTTP/1.1\r\nHost: h\r\n\r\n");
  Peer idle = Connect();
  Peer fresh = Connect();
  EXPECT_TRUE(idle.eof());
  fresh.Send("GET /wait HTTP/1.1\r\nHost: h\r\n\r\n");
  Peer refused = Connect();
  EXPECT_TRUE(refused.eof());
  EXPECT_EQ(server_->stats().refused_total, 1u);
  handler_.go.Set();
  EXPECT_EQ(busy.Receive().substr(9, 3), "200");
  EXPECT_EQ(fresh.Receive().substr(9, 3), "200");
}

Task<void> CloseAndNote(HttpServer* server, bool* done) {
  Task<void> close = server->Close();
  co_await std::move(close);
  *done = true;
}

TEST_F(HttpServerTest, CloseDrains) {
  Peer idle = Connect();
  Peer busy = Connect();
  busy.Send("GET /wait HTTP/1.1\r\nHost: h\r\n\r\n");
  Peer stuck = Connect();
  stuck.Send("GET /wait HTTP/1.1\r\nHost: h\r\n\r\n");
  Peer stream = Connect();
  stream.Send("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
  stream.Receive();
  bool done = false;
  Scope scope(env_.executor());
  scope.Spawn("close", CloseAndNote(server_.get(), &done));
  env_.Settle();
  EXPECT_TRUE(idle.eof());
  EXPECT_TRUE(stream.eof());
  EXPECT_FALSE(busy.eof());
  EXPECT_FALSE(done);
  handler_.go.Set();
  EXPECT_TRUE(absl::StrContains(busy.Receive(), "Connection: close\r\n"));
  env_.Settle();
  EXPECT_TRUE(done);
}

TEST_F(HttpServerTest, CloseCancelsWhatDoesNotEnd) {
  Peer stuck = Connect();
  stuck.Send("GET /wait-shielded HTTP/1.1\r\nHost: h\r\n\r\n");
  bool done = false;
  Scope scope(env_.executor());
  scope.Spawn("close", CloseAndNote(server_.get(), &done));
  env_.Advance(absl::Seconds(4));
  EXPECT_FALSE(done);
  env_.Advance(absl::Seconds(2));
  EXPECT_TRUE(done);
  EXPECT_EQ(handler_.cancelled, 1);
}

TEST_F(HttpServerTest, HeaderValuesCannotSplitTheResponse) {
  Peer peer = Connect();
  EXPECT_EQ(peer.Ask("GET /split HTTP/1.1\r\nHost: h\r\n\r\n"),
            StrCat("HTTP/1.1 200 OK\r\nContent-Type: text/plain  Evil: 1\r\n", kDate,
                   "Content-Length: 1\r\n\r\nx"));
}

TEST_F(HttpServerTest, RecordingWriterKeepsWhatWasSent) {
  RecordingResponseWriter recorder;
  EXPECT_FALSE(recorder.started());
  HttpResponse response(201, "text/plain", std::string("x"));
  EXPECT_TRUE(env_.Await(recorder.Send(response)).ok());
  EXPECT_EQ(recorder.status, 201);
  EXPECT_EQ(recorder.body, "x");
}

TEST_F(HttpServerTest, UnixListener) {
  Start();
  TempDir dir;
  std::string path = dir.path() + "/s.sock";
  ASSERT_TRUE(server_->ListenUnix(path, 0600).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(server_->ListenUnix(path, 0600)));
  EXPECT_TRUE(absl::IsResourceExhausted(server_->ListenUnix(std::string(108, 'p'))));
  env_.AwaitVoid(server_->Close());
  EXPECT_NE(::access(path.c_str(), F_OK), 0);
}

TEST_F(HttpServerTest, PortInUseNamesTheOwner) {
  Start();
  HttpServer::TcpListen listen;
  listen.address = "127.0.0.1";
  absl::StatusOr<uint16_t> port = server_->ListenTcp(listen);
  ASSERT_TRUE(port.ok()) << port.status();
  listen.port = *port;
  absl::Status again = server_->ListenTcp(listen).status();
  EXPECT_TRUE(absl::IsAlreadyExists(again));
  EXPECT_TRUE(absl::StrContains(again.message(),
                                StrCat("port ", int{*port}, " is in use by net_test (pid ", ::getpid(), ")")))
      << again;
  listen.address = "nonsense";
  EXPECT_TRUE(absl::IsInvalidArgument(server_->ListenTcp(listen).status()));
}

}  // namespace
}  // namespace keelson::net
