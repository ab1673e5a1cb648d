#include <absl/strings/str_cat.h>
#include <sys/uio.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/log.h"
#include "base/strings.h"
#include "net/http_server_impl.h"

namespace keelson::net {

namespace {

// Input taken while a handler runs (pipelined requests); beyond it we stop reading and with it watching.
constexpr size_t kMaxPipelinedBytes = 64 << 10;
constexpr size_t kRequestReadBytes = 4 << 10;
constexpr size_t kBodyReadBytes = 16 << 10;
constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
// A TLS record's payload; smaller pieces are gathered up to it.
constexpr size_t kRecordBytes = 16 << 10;
constexpr int kRequestsBeforeYield = 16;
constexpr size_t kMaxKeptOutputBytes = 32 << 10;
// Input read and dropped after an error response, so that the client gets to read it before a reset.
constexpr size_t kMaxLingerBytes = 256 << 10;
constexpr absl::Duration kLingerTimeout = absl::Seconds(2);
constexpr size_t kGzipStepBytes = 64 << 10;
constexpr int kGzipLevel = 1;

bool StatusHasBody(int status) { return status >= 200 && status != 204 && status != 304; }

// Header bytes that would end the field early never reach the wire.
void AppendSafe(std::string* out, std::string_view value) {
  for (char c : value) out->push_back(c == '\r' || c == '\n' || c == '\0' ? ' ' : c);
}

}  // namespace

Connection::Connection(HttpServer::Impl* server, Fd fd, std::shared_ptr<TlsServerContext> tls_context,
                       std::string peer_address)
    : server_(server),
      tls_context_(std::move(tls_context)),
      peer_address_(std::move(peer_address)),
      socket_(Socket::Make(server->executor, std::move(fd))),
      scope_(server->executor) {
  socket_->set_on_readable([this] { OnReadable(); });
}

Connection::~Connection() = default;

void Connection::Start() { scope_.Spawn("http connection", Run()); }

void Connection::SetPhase(Phase phase, absl::Duration timeout) {
  phase_ = phase;
  phase_since_ = server_->clock->Monotonic();
  deadline_ = timeout == absl::InfiniteDuration() ? timeout : phase_since_ + timeout;
  if (deadline_ != absl::InfiniteDuration()) server_->WakeSweepBy(deadline_);
}

void Connection::CheckDeadline(absl::Duration now) {
  if (now < deadline_ || phase_ == Phase::kDone) return;
  deadline_ = absl::InfiniteDuration();
  switch (phase_) {
    case Phase::kHeaders:
    case Phase::kBody:
      // Answered with 408 by the reader; a second time means that even that is stuck.
      if (timed_out_) {
        socket_->Close();
        break;
      }
      timed_out_ = true;
      deadline_ = now + kLingerTimeout;
      socket_->WakeReader();
      break;
    case Phase::kHandler:
      socket_->Fail(absl::DeadlineExceededError("the client reads nothing"));
      OnDisconnect();
      break;
    default:
      socket_->Close();
      break;
  }
}

void Connection::BeginClose() {
  closing_ = true;
  bool streaming = response_ == ResponseState::kStream || response_ == ResponseState::kHijacked;
  if (phase_ == Phase::kIdle || phase_ == Phase::kHandshake || (phase_ == Phase::kHandler && streaming))
    Cancel();
}

void Connection::Cancel() { scope_.Cancel(); }

// While a handler runs: keeps pipelined input, notices the client's end.
void Connection::OnReadable() {
  if (phase_ != Phase::kHandler || response_ == ResponseState::kHijacked) return;
  while (input_.size() < kMaxPipelinedBytes) {
    ssize_t n = input_.FillFrom(socket_.get(), kRequestReadBytes);
    if (n > 0) continue;
    if (n == kWouldBlock) {
      socket_->ArmRead();
    } else {
      OnDisconnect();
    }
    return;
  }
}

void Connection::OnDisconnect() {
  keep_alive_ = false;
  disconnected_.Set();
  if (!ignore_disconnect_) scope_.Cancel();
}

namespace {

// Tells the server when the connection's task ends, however it ends.
class EndNotice {
 public:
  EndNotice(HttpServer::Impl* server, Connection* connection) : server_(server), connection_(connection) {}
  ~EndNotice() { server_->ConnectionEnded(connection_); }

 private:
  HttpServer::Impl* server_;
  Connection* connection_;
};

}  // namespace

Task<void> Connection::Run() {
  EndNotice notice(server_, this);
  if (tls_context_ != nullptr) {
    SetPhase(Phase::kHandshake, server_->options.handshake_timeout);
    Task<absl::Status> handshake = socket_->ServerHandshake(tls_context_);
    absl::Status status = co_await std::move(handshake);
    if (!status.ok()) {
      ++server_->stats.handshake_errors_total;
      LogDebug("TLS handshake failed",
               {{"server", server_->options.name}, {"peer", peer_address_}, {"error", status}});
      phase_ = Phase::kDone;
      socket_->Close();
      co_return;
    }
    peer_certificate_ = socket_->PeerCert();
  }
  int without_yield = 0;
  while (true) {
    Task<bool> read = ReadRequest();
    bool have_request = co_await std::move(read);
    if (!have_request) break;
    Task<void> handle = RunHandler();
    co_await std::move(handle);
    if (!keep_alive_) break;
    if (!input_.empty() && ++without_yield % kRequestsBeforeYield == 0) {
      auto yield = boost::asio::post(server_->executor, boost::asio::use_awaitable);
      co_await std::move(yield);
    }
  }
  phase_ = Phase::kDone;
  socket_->Close();
}

// More bytes into input_; false at the end of stream or on error.
Task<bool> Connection::FillInput() {
  // An armed wait that has not fired means the kernel has nothing for us: save the read.
  bool skip_read = socket_->read_armed() && !socket_->has_pending();
  size_t want = phase_ == Phase::kBody ? kBodyReadBytes : kRequestReadBytes;
  while (true) {
    if (timed_out_) co_return false;
    if (!skip_read) {
      ssize_t n = input_.FillFrom(socket_.get(), want);
      if (n > 0) co_return true;
      if (n != kWouldBlock) co_return false;
    }
    skip_read = false;
    if (phase_ == Phase::kIdle) input_.Shrink();
    Task<void> wait = socket_->WaitReadable();
    co_await std::move(wait);
  }
}

// True with a whole request in parser_; false when the connection is to end.
Task<bool> Connection::ReadRequest() {
  const HttpServerOptions& options = server_->options;
  parser_.emplace(server_->parser_limits);
  SetPhase(Phase::kIdle, options.idle_timeout);
  if (closing_) co_return false;
  bool answered_expect = false;
  while (true) {
    if (!input_.empty()) {
      if (phase_ == Phase::kIdle) SetPhase(Phase::kHeaders, options.header_timeout);
      size_t used = parser_->Put(input_.view());
      input_.Consume(used);
      RequestParser::State state = parser_->state();
      if (state == RequestParser::State::kDone || state == RequestParser::State::kError) break;
      if (state == RequestParser::State::kBody) {
        if (phase_ == Phase::kHeaders) SetPhase(Phase::kBody, options.body_timeout);
        if (used > 0 && !input_.empty()) continue;
        if (parser_->expect_continue() && !answered_expect && input_.empty()) {
          answered_expect = true;
          Task<absl::Status> send = WriteOut(kContinue);
          absl::Status status = co_await std::move(send);
          if (!status.ok()) co_return false;
        }
      }
    }
    Task<bool> fill = FillInput();
    bool more = co_await std::move(fill);
    if (!more) break;
  }
  if (timed_out_) {
    timed_out_ = false;
    Task<void> send = SendError(408, "the request did not arrive in time");
    co_await std::move(send);
    co_return false;
  }
  if (parser_->state() == RequestParser::State::kError) {
    Task<void> send = SendError(parser_->error_status(), parser_->error_message());
    co_await std::move(send);
    co_return false;
  }
  co_return parser_->state() == RequestParser::State::kDone;
}

Task<void> Connection::SendError(int status, std::string message) {
  keep_alive_ = false;
  http_1_0_ = false;
  SetPhase(Phase::kLinger, kLingerTimeout);
  message += '\n';
  HttpHeaders headers;
  headers.Add("Content-Type", "text/plain; charset=utf-8");
  output_.clear();
  AppendHead(status, headers, message.size());
  output_ += message;
  Task<absl::Status> write = WriteOut(output_);
  absl::Status written = co_await std::move(write);
  if (!written.ok()) co_return;
  Task<void> linger = Linger();
  co_await std::move(linger);
}

Task<void> Connection::Linger() {
  socket_->ShutdownWrite();
  SetPhase(Phase::kLinger, kLingerTimeout);
  size_t dropped = input_.size();
  input_.Consume(input_.size());
  while (dropped < kMaxLingerBytes) {
    Task<bool> fill = FillInput();
    bool more = co_await std::move(fill);
    if (!more) co_return;
    dropped += input_.size();
    input_.Consume(input_.size());
  }
}

Task<void> Connection::RunHandler() {
  HttpRequest request = std::move(parser_->request());
  keep_alive_ = parser_->keep_alive() && !closing_;
  http_1_0_ = parser_->http_1_0();
  head_request_ = request.method == "HEAD";
  accepts_gzip_ = server_->options.gzip_min_bytes != 0 && request.headers.HasToken("Accept-Encoding", "gzip");
  response_ = ResponseState::kNone;
  abort_ = false;
  ignore_disconnect_ = false;
  disconnected_.Reset();
  request.peer_address = peer_address_;
  request.tls = tls_context_ != nullptr;
  request.peer_certificate = peer_certificate_;
  ++server_->stats.requests_total;
  SetPhase(Phase::kHandler, absl::InfiniteDuration());
  // Bytes OpenSSL already holds would never make the descriptor readable.
  if (socket_->has_pending()) {
    OnReadable();
  } else {
    socket_->ArmRead();
  }

  Task<void> handle = server_->handler->Handle(std::move(request), *this);
  co_await std::move(handle);

  if (response_ == ResponseState::kNone) {
    LogError("handler sent no response", {{"server", server_->options.name}});
    HttpResponse missing(500, "text/plain; charset=utf-8", std::string("no response\n"));
    Task<absl::Status> send = Send(std::move(missing));
    absl::Status sent = co_await std::move(send);
    if (!sent.ok()) keep_alive_ = false;
  }
  if (abort_ || response_ == ResponseState::kHijacked) {
    keep_alive_ = false;
  } else if (response_ == ResponseState::kStream && !http_1_0_ && !head_request_ && !disconnected_.is_set()) {
    Task<absl::Status> end = WriteOut("0\r\n\r\n");
    absl::Status status = co_await std::move(end);
    if (!status.ok()) keep_alive_ = false;
  }
  if (closing_) keep_alive_ = false;
  if (output_.capacity() > kMaxKeptOutputBytes) output_ = std::string();
}

void Connection::AppendHead(int status, const HttpHeaders& headers, std::optional<size_t> content_length) {
  if (closing_ && status != 101) keep_alive_ = false;
  StrAppend(&output_, "HTTP/1.1 ", status, " ", HttpReasonPhrase(status), "\r\n");
  for (const auto& [name, value] : headers) {
    output_ += name;
    output_ += ": ";
    AppendSafe(&output_, value);
    output_ += "\r\n";
  }
  output_ += server_->DateHeader();
  if (content_length.has_value() && StatusHasBody(status))
    StrAppend(&output_, "Content-Length: ", *content_length, "\r\n");
  if (status != 101 && !keep_alive_) {
    output_ += "Connection: close\r\n";
  } else if (status != 101 && http_1_0_) {
    output_ += "Connection: keep-alive\r\n";
  }
}

// A stalled client trips write_stall_timeout through the sweep.
Task<absl::Status> Connection::WriteOut(std::string_view data) {
  while (!data.empty()) {
    ssize_t n = socket_->TryWrite(data);
    if (n > 0) {
      data.remove_prefix(static_cast<size_t>(n));
      continue;
    }
    if (n != kWouldBlock) co_return socket_->error();
    bool guard = phase_ == Phase::kHandler;
    if (guard) SetPhase(Phase::kHandler, server_->options.write_stall_timeout);
    Task<void> wait = socket_->WaitWritable();
    co_await std::move(wait);
    if (guard) deadline_ = absl::InfiniteDuration();
  }
  co_return absl::OkStatus();
}

// output_ followed by the body, with few system calls and without copying what is large.
Task<absl::Status> Connection::WriteGathered(HttpBody body) {
  if (output_.size() + body.size_bytes() <= kRecordBytes) {
    for (const HttpBody::Piece& piece : body.pieces()) output_.append(piece.bytes);
    Task<absl::Status> write = WriteOut(output_);
    absl::Status status = co_await std::move(write);
    co_return status;
  }
  for (const HttpBody::Piece& piece : body.pieces()) {
    std::string_view rest = piece.bytes;
    while (!rest.empty()) {
      // Small pieces fill a record; a large one is written from where it lies once the record is full.
      if (output_.empty() && rest.size() >= kRecordBytes) {
        Task<absl::Status> write = WriteOut(rest);
        absl::Status status = co_await std::move(write);
        if (!status.ok()) co_return status;
        break;
      }
      size_t take = std::min(rest.size(), kRecordBytes - std::min(kRecordBytes, output_.size()));
      output_.append(rest.substr(0, take));
      rest.remove_prefix(take);
      if (output_.size() < kRecordBytes) continue;
      Task<absl::Status> write = WriteOut(output_);
      absl::Status status = co_await std::move(write);
      output_.clear();
      if (!status.ok()) co_return status;
    }
  }
  Task<absl::Status> write = WriteOut(output_);
  absl::Status status = co_await std::move(write);
  output_.clear();
  co_return status;
}

bool Connection::WantsGzip(const HttpResponse& response) const {
  return accepts_gzip_ && !http_1_0_ && response.body.size_bytes() > server_->options.gzip_min_bytes &&
         StatusHasBody(response.status) && !response.headers.Has("Content-Encoding");
}

Task<absl::Status> Connection::Send(HttpResponse response) {
  KEELSON_CHECK(response_ == ResponseState::kNone, "second response to one request");
  if (WantsGzip(response)) {
    Task<absl::Status> compressed = SendCompressed(std::move(response));
    absl::Status status = co_await std::move(compressed);
    co_return status;
  }
  response_ = ResponseState::kSent;
  output_.clear();
  AppendHead(response.status, response.headers, response.body.size_bytes());
  output_ += "\r\n";
  HttpBody body;
  if (!head_request_ && StatusHasBody(response.status)) body = std::move(response.body);
  Task<absl::Status> write = WriteGathered(std::move(body));
  absl::Status status = co_await std::move(write);
  if (!status.ok()) keep_alive_ = false;
  co_return status;
}

namespace {

// Streaming gzip over body pieces.
class Gzip {
 public:
  Gzip() {
    KEELSON_CHECK(deflateInit2(&stream_, kGzipLevel, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK,
                  "deflateInit2");
  }
  ~Gzip() { deflateEnd(&stream_); }
  void Compress(std::string_view input, bool finish, std::string* out) {
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(input.data()));
    stream_.avail_in = static_cast<uInt>(input.size());
    std::array<char, 16 << 10> buffer;
    do {
      stream_.next_out = reinterpret_cast<Bytef*>(buffer.data());
      stream_.avail_out = buffer.size();
      deflate(&stream_, finish ? Z_FINISH : Z_NO_FLUSH);
      out->append(buffer.data(), buffer.size() - stream_.avail_out);
    } while (stream_.avail_out == 0);
  }

 private:
  z_stream stream_{};
};

}  // namespace

// Compressed step by step as a chunked stream, giving the loop to others in between.
Task<absl::Status> Connection::SendCompressed(HttpResponse response) {
  response.headers.Set("Content-Encoding", "gzip");
  response.headers.Add("Vary", "Accept-Encoding");
  Task<absl::Status> start = StartStream(response.status, std::move(response.headers));
  absl::Status status = co_await std::move(start);
  if (!status.ok() || head_request_) co_return status;
  Gzip gzip;
  std::string compressed;
  size_t step_bytes = 0;
  for (const HttpBody::Piece& piece : response.body.pieces()) {
    for (size_t at = 0; at < piece.bytes.size(); at += kGzipStepBytes) {
      std::string_view part = piece.bytes.substr(at, kGzipStepBytes);
      gzip.Compress(part, false, &compressed);
      step_bytes += part.size();
      if (step_bytes < kGzipStepBytes) continue;
      step_bytes = 0;
      SharedBytes chunk = MakeSharedBytes(std::move(compressed));
      compressed = std::string();
      Task<absl::Status> write = Write(std::move(chunk));
      absl::Status written = co_await std::move(write);
      if (!written.ok()) co_return written;
      auto yield = boost::asio::post(server_->executor, boost::asio::use_awaitable);
      co_await std::move(yield);
    }
  }
  gzip.Compress({}, true, &compressed);
  SharedBytes last = MakeSharedBytes(std::move(compressed));
  Task<absl::Status> write = Write(std::move(last));
  absl::Status written = co_await std::move(write);
  co_return written;
}

Task<absl::Status> Connection::StartStream(int status, HttpHeaders headers) {
  KEELSON_CHECK(response_ == ResponseState::kNone, "second response to one request");
  response_ = ResponseState::kStream;
  if (http_1_0_) keep_alive_ = false;
  output_.clear();
  AppendHead(status, headers, std::nullopt);
  if (!http_1_0_) output_ += "Transfer-Encoding: chunked\r\n";
  output_ += "\r\n";
  Task<absl::Status> write = WriteOut(output_);
  absl::Status written = co_await std::move(write);
  output_.clear();
  // The server may have begun to close before it knew this one to be a stream.
  if (closing_) scope_.Cancel();
  co_return written;
}

Task<absl::Status> Connection::Write(SharedBytes piece) {
  HttpBody body(std::move(piece));
  return WriteBody(std::move(body));
}

Task<absl::Status> Connection::WriteBody(HttpBody pieces) {
  KEELSON_CHECK(response_ == ResponseState::kStream, "Write without StartStream");
  if (disconnected_.is_set()) co_return absl::UnavailableError("the client is gone");
  if (pieces.size_bytes() == 0 || head_request_) co_return absl::OkStatus();
  output_.clear();
  if (!http_1_0_) {
    StrAppend(&output_, absl::Hex(pieces.size_bytes()), "\r\n");
    pieces.AppendSlice(nullptr, "\r\n");
  }
  Task<absl::Status> write = WriteGathered(std::move(pieces));
  absl::Status status = co_await std::move(write);
  output_.clear();
  if (!status.ok()) keep_alive_ = false;
  co_return status;
}

Task<absl::StatusOr<std::unique_ptr<ByteStream>>> Connection::Hijack(int status, HttpHeaders headers) {
  KEELSON_CHECK(response_ == ResponseState::kNone, "second response to one request");
  response_ = ResponseState::kHijacked;
  output_.clear();
  http_1_0_ = false;
  keep_alive_ = true;  // no "Connection: close" beside the caller's "Connection: Upgrade"
  AppendHead(status, headers, std::nullopt);
  output_ += "\r\n";
  Task<absl::Status> write = WriteOut(output_);
  absl::Status written = co_await std::move(write);
  output_.clear();
  keep_alive_ = false;
  if (!written.ok()) co_return written;
  if (closing_) scope_.Cancel();
  std::string early(input_.view());
  input_.Consume(input_.size());
  SocketOwner socket(socket_.shared());
  co_return MakeSocketStream(std::move(socket), std::move(early));
}

}  // namespace keelson::net
