#include "cri/nri/connection.h"

#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "cri/nri/proto/ttrpc.pb.h"
#include "net/stream_util.h"

namespace keelson::cri::nri {

namespace {

constexpr size_t kReadBytes = 16 << 10;
constexpr size_t kWriteBufferBytes = 1 << 20;  // calls wait for each other here, answers do not

// However a call ends, nobody looks for its answer any more.
template <class Map>
class EraseAtEnd {
 public:
  EraseAtEnd(Map* map, typename Map::key_type key) : map_(map), key_(key) {}
  ~EraseAtEnd() { map_->erase(key_); }

 private:
  Map* map_;
  typename Map::key_type key_;
};

class CountDown {
 public:
  explicit CountDown(int* count) : count_(count) {}
  ~CountDown() { --*count_; }

 private:
  int* count_;
};

absl::Status StatusOf(const ttrpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.code()), status.message());
}

}  // namespace

Connection::Connection(Env* env, Scope* scope, std::unique_ptr<net::ByteStream> stream, Side side,
                       Handler handler, std::function<void()> on_close)
    : env_(env),
      scope_(scope),
      stream_(std::move(stream)),
      writer_(std::make_shared<net::FrameWriter>(stream_, kWriteBufferBytes)),
      our_calls_(side == Side::kRuntime ? kPluginConnection : kRuntimeConnection),
      their_calls_(side == Side::kRuntime ? kRuntimeConnection : kPluginConnection),
      handler_(std::move(handler)),
      on_close_(std::move(on_close)) {}

std::shared_ptr<Connection> Connection::Start(Env* env, Scope* scope, std::unique_ptr<net::ByteStream> stream,
                                              Side side, Handler handler, std::function<void()> on_close) {
  std::shared_ptr<Connection> self(
      new Connection(env, scope, std::move(stream), side, std::move(handler), std::move(on_close)));
  scope->Spawn("nri write", net::FrameWriter::Run(self->writer_));
  scope->Spawn("nri read", Read(self));
  return self;
}

void Connection::Close(absl::Status reason) {
  if (closed()) return;
  closed_ = reason.ok() ? absl::UnavailableError("closed") : std::move(reason);
  for (auto& [stream, pending] : pending_) {
    if (pending->done.is_set()) continue;
    pending->result.status = closed_;
    pending->done.Set();
  }
  writer_->Fail(closed_);
  stream_->Close();
  if (on_close_) std::exchange(on_close_, nullptr)();
}

Task<void> Connection::Read(std::shared_ptr<Connection> self) {
  std::string buffer(kReadBytes, '\0');
  auto from_mux = [&](uint32_t connection, std::string_view bytes) -> absl::Status {
    const bool ours = connection == self->our_calls_;
    if (!ours && connection != self->their_calls_) return absl::OkStatus();  // nobody listens there
    TtrpcDecoder& decoder = ours ? self->answers_ : self->requests_;
    return decoder.Feed(bytes,
                        [&](TtrpcMessage message) { return self->Take(self, std::move(message), ours); });
  };
  while (!self->closed()) {
    Task<absl::StatusOr<size_t>> read = self->stream_->Read(buffer.data(), buffer.size());
    absl::StatusOr<size_t> got = co_await std::move(read);
    absl::Status status = got.status();
    if (status.ok() && *got == 0) status = absl::UnavailableError("the peer closed the connection");
    if (status.ok()) status = self->mux_.Feed(std::string_view(buffer).substr(0, *got), from_mux);
    if (!status.ok()) self->Close(status);
  }
  // What waits in the scope of a connection that has ended must not keep its owner alive.
  if (self->peer_calls_ == 0) self->handler_ = nullptr;
}

absl::Status Connection::Take(const std::shared_ptr<Connection>& self, TtrpcMessage message, bool ours) {
  if (closed()) return closed_;
  if (ours) {
    // No call of ours is a stream: nothing else is an answer.
    if (message.type == TtrpcType::kResponse) TakeAnswer(std::move(message));
    return absl::OkStatus();
  }
  if (message.type != TtrpcType::kRequest) return absl::OkStatus();
  if (message.stream % 2 != 1 || message.stream <= last_peer_stream_) {
    return absl::InvalidArgumentError(StrCat("ttrpc request on stream ", message.stream, " after ",
                                             last_peer_stream_, ": they must be odd and grow"));
  }
  last_peer_stream_ = message.stream;
  if (peer_calls_ >= kMaxCallsOfPeer) {
    return absl::ResourceExhaustedError(StrCat("more than ", kMaxCallsOfPeer, " calls under way"));
  }
  ++peer_calls_;
  scope_->Spawn("nri call of a peer", Answer(self, message.stream, std::move(message.payload)));
  return absl::OkStatus();
}

void Connection::TakeAnswer(TtrpcMessage message) {
  auto it = pending_.find(message.stream);
  if (it == pending_.end() || it->second->done.is_set()) return;  // too late: that call is lost
  CallResult& result = it->second->result;
  ttrpc::Response response;
  result.answered = true;
  if (!response.ParseFromString(message.payload)) {
    result.status = absl::InternalError("the answer is no ttrpc response");
  } else {
    result.status = StatusOf(response.status());
    result.payload = std::move(*response.mutable_payload());
  }
  it->second->done.Set();
}

Task<void> Connection::Answer(std::shared_ptr<Connection> self, uint32_t stream, std::string payload) {
  CountDown count(&self->peer_calls_);
  ttrpc::Request request;
  absl::StatusOr<std::string> answer = absl::InvalidArgumentError("the request is no ttrpc request");
  if (request.ParseFromString(payload)) {
    Task<absl::StatusOr<std::string>> handle =
        self->handler_(request.service(), request.method(), std::move(*request.mutable_payload()));
    answer = co_await std::move(handle);
  }
  ttrpc::Response response;
  if (answer.ok()) {
    response.set_payload(*std::move(answer));
  } else {
    response.mutable_status()->set_code(static_cast<int>(answer.status().code()));
    response.mutable_status()->set_message(std::string(answer.status().message()));
  }
  // Whoever asks and does not read waits here, and comes to the limit of its calls.
  Task<absl::Status> room = self->writer_->Room();
  absl::Status status = co_await std::move(room);
  if (!status.ok()) co_return;
  self->Send(self->their_calls_, stream, TtrpcType::kResponse, response.SerializeAsString());
}

void Connection::Send(uint32_t connection, uint32_t stream, TtrpcType type, std::string_view payload) {
  absl::StatusOr<std::string> frames = EncodeMessage(connection, stream, type, payload);
  if (frames.ok()) {
    writer_->Put(*frames);
  } else {
    Close(frames.status());
  }
}

Task<CallResult> Connection::Call(std::shared_ptr<Connection> self, std::string service, std::string method,
                                  std::string payload, absl::Duration timeout) {
  CallResult refused;
  if (self->closed()) {
    refused.status = self->closed_;
    co_return refused;
  }
  const std::string what = method;
  ttrpc::Request request;
  request.set_service(std::move(service));
  request.set_method(std::move(method));
  request.set_payload(std::move(payload));
  request.set_timeout_nano(absl::ToInt64Nanoseconds(timeout));
  const uint32_t stream = self->next_stream_;
  absl::StatusOr<std::string> frames =
      EncodeMessage(self->our_calls_, stream, TtrpcType::kRequest, request.SerializeAsString());
  if (!frames.ok()) {
    refused.answered = true;  // nothing was sent, and the connection is as it was
    refused.status = frames.status();
    co_return refused;
  }
  self->next_stream_ += 2;
  auto pending = std::make_shared<Pending>();
  self->pending_[stream] = pending;
  EraseAtEnd erase(&self->pending_, stream);
  net::OneShotTimer timer(self->env_->clock(), timeout, [self, what, timeout] {
    self->Close(
        absl::DeadlineExceededError(StrCat(what, ": no answer within ", absl::FormatDuration(timeout))));
  });
  self->writer_->Put(*frames);
  Task<void> wait = pending->done.Wait();
  co_await std::move(wait);
  co_return pending->result;
}

}  // namespace keelson::cri::nri
