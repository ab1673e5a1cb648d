#include "net/spdy_connection.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <utility>

#include "base/log.h"
#include "base/strings.h"

namespace keelson::net {
namespace {

constexpr size_t kSpdyReadBytes = 32 << 10;
constexpr size_t kMaxDataFrameBytes = 16 << 10;     // so that streams take turns
constexpr uint32_t kSessionWindowBytes = 16 << 20;  // what is unread is bounded by the streams' windows
constexpr size_t kSessionUpdateBytes = 1 << 20;
constexpr int64_t kMaxWindowBytes = 0x7fffffff;
// Replies (to pings, new streams) that may wait for a peer that does not read. Much more than the writers'
// limit: two ends that both stop reading because their own data waits would wait for ever.
constexpr size_t kMaxSpdyReplyBytes = 1 << 20;

}  // namespace

struct SpdyStream::State {
  uint32_t id = 0;
  HttpHeaders headers;
  std::deque<std::string> received;
  size_t received_bytes = 0;  // unread
  size_t front_offset = 0;    // of received.front(), read already
  size_t unacknowledged_bytes = 0;
  bool remote_fin = false, local_fin = false;
  bool replied = false;
  bool dropped = false;  // nobody reads it any more
  int64_t send_window = 0;
  absl::Status status;  // reset, or the connection's end
  WaitList readable, writable, read;

  void WakeAll() {
    readable.NotifyAll();
    writable.NotifyAll();
    read.NotifyAll();
  }
};

// ---- stream ----

SpdyStream::SpdyStream(std::shared_ptr<SpdyConnection> connection, std::shared_ptr<State> state)
    : connection_(std::move(connection)), state_(std::move(state)) {}
SpdyStream::~SpdyStream() { Close(); }
uint32_t SpdyStream::id() const { return state_->id; }
const HttpHeaders& SpdyStream::headers() const { return state_->headers; }

Task<absl::StatusOr<size_t>> SpdyStream::Read(char* buffer, size_t size) {
  std::shared_ptr<State> state = state_;
  std::shared_ptr<SpdyConnection> connection = connection_;
  while (state->received_bytes == 0) {
    if (state->dropped) co_return absl::UnavailableError("stream closed");
    if (state->remote_fin) co_return size_t{0};
    if (!state->status.ok()) co_return state->status;
    Task<void> wait = state->readable.Wait();
    co_await std::move(wait);
  }
  size_t done = 0;
  while (done < size && !state->received.empty()) {
    std::string_view front = std::string_view(state->received.front()).substr(state->front_offset);
    size_t take = std::min(front.size(), size - done);
    std::memcpy(buffer + done, front.data(), take);
    done += take;
    state->front_offset += take;
    if (take == front.size()) {
      state->received.pop_front();
      state->front_offset = 0;
    }
  }
  state->received_bytes -= done;
  connection->Took(state, done);
  co_return done;
}

Task<absl::Status> SpdyStream::Write(std::string_view data) {
  return connection_->Send(state_, data, /*fin=*/false);
}

Task<absl::Status> SpdyStream::CloseWrite() {
  return connection_->Send(state_, std::string_view(), /*fin=*/true);
}

void SpdyStream::Close() {
  if (state_->dropped) return;
  state_->dropped = true;
  state_->received.clear();
  state_->received_bytes = 0;
  if (state_->status.ok() && !(state_->local_fin && state_->remote_fin)) {
    connection_->Reset(state_, SpdyRstStatus::kCancel);
  }
  state_->WakeAll();
}

// ---- connection ----

SpdyConnection::SpdyConnection(std::shared_ptr<ByteStream> stream, Role role, SpdyOptions options)
    : stream_(std::move(stream)),
      role_(role),
      options_(options),
      writer_(std::make_shared<FrameWriter>(stream_, options.write_buffer_bytes)),
      accepted_(options.max_streams),
      next_id_(role == Role::kClient ? 1 : 2) {}

SpdyConnection::~SpdyConnection() = default;

std::shared_ptr<SpdyConnection> SpdyConnection::Start(Scope* scope, std::shared_ptr<ByteStream> stream,
                                                      Role role, SpdyOptions options) {
  std::shared_ptr<SpdyConnection> self(new SpdyConnection(std::move(stream), role, options));
  self->writer_->Put(
      SpdyEncoder::Settings({{kSpdySettingMaxConcurrentStreams, static_cast<uint32_t>(options.max_streams)},
                             {kSpdySettingInitialWindowSize, options.stream_window_bytes}}));
  self->writer_->Put(SpdyEncoder::WindowUpdate(0, kSessionWindowBytes - kSpdyDefaultWindowBytes));
  if (scope->closing()) self->Fail(absl::UnavailableError("shutting down"));
  scope->Spawn("SPDY writer", FrameWriter::Run(self->writer_));
  scope->Spawn("SPDY reader", ReadLoop(self));
  return self;
}

Task<absl::StatusOr<std::unique_ptr<SpdyStream>>> SpdyConnection::Accept() {
  std::shared_ptr<SpdyConnection> self = shared_from_this();
  Task<std::optional<StatePtr>> pop = accepted_.Pop();
  std::optional<StatePtr> state = co_await std::move(pop);
  if (!state.has_value()) co_return status_.ok() ? absl::UnavailableError("connection closed") : status_;
  co_return std::unique_ptr<SpdyStream>(new SpdyStream(self, *std::move(state)));
}

Task<absl::StatusOr<std::unique_ptr<SpdyStream>>> SpdyConnection::Open(HttpHeaders headers) {
  std::shared_ptr<SpdyConnection> self = shared_from_this();
  if (!status_.ok()) co_return status_;
  if (dropping_ || next_id_ > kSpdyMaxStreamId - 2) {
    co_return absl::FailedPreconditionError("the connection takes no more streams");
  }
  auto state = std::make_shared<SpdyStream::State>();
  state->id = next_id_;
  next_id_ += 2;
  state->send_window = initial_send_window_;
  state->headers = headers;
  streams_[state->id] = state;
  writer_->Put(encoder_.SynStream(state->id, headers));
  std::unique_ptr<SpdyStream> stream(new SpdyStream(self, state));
  while (!state->replied && state->status.ok()) {
    Task<void> wait = state->writable.Wait();
    co_await std::move(wait);
  }
  if (!state->replied) co_return state->status;
  co_return std::move(stream);
}

void SpdyConnection::Finish() {
  if (dropping_ || !status_.ok()) return;
  dropping_ = true;
  writer_->Put(SpdyEncoder::GoAway(last_peer_id_, SpdyGoAwayStatus::kOk));
  writer_->Finish();
  for (auto& [id, state] : streams_) {
    state->received.clear();
    state->received_bytes = 0;
    state->WakeAll();
  }
  session_window_.NotifyAll();
}

void SpdyConnection::Close() { Fail(absl::UnavailableError("connection closed")); }

void SpdyConnection::Fail(absl::Status status) {
  if (!status_.ok()) return;
  status_ = std::move(status);
  writer_->Fail(status_);
  stream_->Close();
  auto streams = std::exchange(streams_, {});
  for (auto& [id, state] : streams) {
    if (state->status.ok()) state->status = status_;
    state->WakeAll();
  }
  accepted_.Close();
  session_window_.NotifyAll();
  closed_.Set();
}

SpdyConnection::StatePtr SpdyConnection::Find(uint32_t id) {
  auto it = streams_.find(id);
  return it == streams_.end() ? nullptr : it->second;
}

void SpdyConnection::Forget(const StatePtr& state) {
  streams_.erase(state->id);
  session_window_.NotifyAll();  // a writer of the stream may wait there
}

void SpdyConnection::ForgetIfDone(const StatePtr& state) {
  if (state->local_fin && state->remote_fin) Forget(state);
}

void SpdyConnection::Reset(const StatePtr& state, SpdyRstStatus status) {
  writer_->Put(SpdyEncoder::RstStream(state->id, status));
  if (state->status.ok()) state->status = absl::UnavailableError("stream closed");
  state->WakeAll();
  Forget(state);
}

// The reader of a stream has taken bytes: the peer may send as many again.
void SpdyConnection::Took(const StatePtr& state, size_t bytes) {
  state->unacknowledged_bytes += bytes;
  if (peer_windows_ && !state->remote_fin &&
      state->unacknowledged_bytes >= options_.stream_window_bytes / 2) {
    writer_->Put(SpdyEncoder::WindowUpdate(state->id, static_cast<uint32_t>(state->unacknowledged_bytes)));
    state->unacknowledged_bytes = 0;
  }
  state->read.NotifyAll();
}

size_t SpdyConnection::SendAllowance(const SpdyStream::State& state) const {
  int64_t allowed = kMaxDataFrameBytes;
  if (peer_windows_) allowed = std::min(allowed, state.send_window);
  if (peer_session_window_) allowed = std::min(allowed, session_send_window_);
  return static_cast<size_t>(std::max<int64_t>(allowed, 0));
}

Task<absl::Status> SpdyConnection::Send(StatePtr state, std::string_view data, bool fin) {
  std::shared_ptr<SpdyConnection> self = shared_from_this();
  while (!data.empty() || fin) {
    if (!state->status.ok()) co_return state->status;
    if (dropping_) co_return absl::FailedPreconditionError("connection is being closed");
    if (state->local_fin) {
      if (fin) break;
      co_return absl::FailedPreconditionError("stream is closed for writing");
    }
    if (!data.empty() && SendAllowance(*state) == 0) {
      WaitList* blocked = &state->writable;
      if (peer_session_window_ && session_send_window_ <= 0) blocked = &session_window_;
      Task<void> wait = blocked->Wait();
      co_await std::move(wait);
      continue;
    }
    Task<absl::Status> room = writer_->Room();
    absl::Status status = co_await std::move(room);
    if (!status.ok()) co_return status;
    // Others may have run meanwhile.
    if (!state->status.ok()) co_return state->status;
    size_t take = std::min(data.size(), SendAllowance(*state));
    if (take == 0 && !data.empty()) continue;
    const bool last = fin && take == data.size();
    writer_->Put(SpdyEncoder::Data(state->id, data.substr(0, take), last));
    state->send_window -= static_cast<int64_t>(take);
    session_send_window_ -= static_cast<int64_t>(take);
    data.remove_prefix(take);
    if (last) {
      state->local_fin = true;
      ForgetIfDone(state);
      break;
    }
  }
  co_return absl::OkStatus();
}

// ---- what comes from the peer ----

Task<void> SpdyConnection::ReadLoop(std::shared_ptr<SpdyConnection> self) {
  CloseSpdyAtEnd end(self);
  auto buffer = std::make_unique<char[]>(kSpdyReadBytes);
  while (self->status_.ok()) {
    Task<absl::StatusOr<size_t>> read = self->stream_->Read(buffer.get(), kSpdyReadBytes);
    absl::StatusOr<size_t> n = co_await std::move(read);
    if (!n.ok() || *n == 0) {
      self->Fail(n.ok() ? absl::UnavailableError("connection closed by the peer") : n.status());
      co_return;
    }
    self->decoder_.Append(std::string_view(buffer.get(), *n));
    while (self->status_.ok()) {
      absl::StatusOr<std::optional<SpdyFrame>> next = self->decoder_.Next();
      absl::Status status = next.status();
      if (status.ok() && !next->has_value()) break;
      StatePtr overrun;
      if (status.ok()) {
        if ((*next)->type == SpdyFrameType::kData) overrun = self->Find((*next)->stream_id);
        status = self->Handle(*std::move(*next));
      }
      if (!status.ok()) {
        LogDebug("SPDY connection is broken", {{"error", status}});
        self->writer_->Put(SpdyEncoder::GoAway(self->last_peer_id_, SpdyGoAwayStatus::kProtocolError));
        self->writer_->Finish();
        Task<absl::Status> drained = self->writer_->Drained();
        (void)co_await std::move(drained);
        self->Fail(status);
        co_return;
      }
      while (overrun != nullptr && overrun->received_bytes > self->options_.stream_window_bytes &&
             overrun->status.ok() && !overrun->dropped && !self->dropping_) {
        Task<void> wait = overrun->read.Wait();
        co_await std::move(wait);
      }
      if (self->dropping_) continue;
      Task<absl::Status> room = self->writer_->Room(kMaxSpdyReplyBytes);
      (void)co_await std::move(room);
    }
  }
}

absl::Status SpdyConnection::Handle(SpdyFrame frame) {
  switch (frame.type) {
    case SpdyFrameType::kSynStream:
      return OnSynStream(std::move(frame));
    case SpdyFrameType::kSynReply: {
      StatePtr state = Find(frame.stream_id);
      if (state == nullptr || state->replied) return absl::OkStatus();
      state->replied = true;
      state->remote_fin = frame.fin();
      state->WakeAll();
      return absl::OkStatus();
    }
    case SpdyFrameType::kHeaders: {  // more headers of a stream: nothing we know sends them
      StatePtr state = Find(frame.stream_id);
      if (state == nullptr || !frame.fin()) return absl::OkStatus();
      state->remote_fin = true;
      state->WakeAll();
      ForgetIfDone(state);
      return absl::OkStatus();
    }
    case SpdyFrameType::kRstStream: {
      StatePtr state = Find(frame.stream_id);
      if (state == nullptr) return absl::OkStatus();
      const bool refused = frame.status == static_cast<uint32_t>(SpdyRstStatus::kRefusedStream);
      std::string text = StrCat("stream reset by the peer (", frame.status, ")");
      state->status = refused ? absl::FailedPreconditionError("stream refused by the peer")
                              : absl::UnavailableError(text);
      Forget(state);
      state->WakeAll();
      return absl::OkStatus();
    }
    case SpdyFrameType::kSettings:
      return OnSettings(frame);
    case SpdyFrameType::kPing:
      // Ours are odd for a client, even for a server; we send none.
      if ((frame.stream_id % 2 == 1) == (role_ == Role::kServer))
        writer_->Put(SpdyEncoder::Ping(frame.stream_id));
      return absl::OkStatus();
    case SpdyFrameType::kGoAway:
      // The peer opens nothing more and closes when its streams are done.
      return absl::OkStatus();
    case SpdyFrameType::kWindowUpdate:
      return OnWindowUpdate(frame);
    case SpdyFrameType::kData:
      OnData(std::move(frame));
      return absl::OkStatus();
    case SpdyFrameType::kUnknown:
      return absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::Status SpdyConnection::OnSynStream(SpdyFrame frame) {
  const bool theirs = (frame.stream_id % 2 == 1) == (role_ == Role::kServer);
  if (!theirs || frame.stream_id <= last_peer_id_) {
    return absl::InvalidArgumentError(
        StrCat("SPDY: the peer opened stream ", frame.stream_id, " after ", last_peer_id_));
  }
  last_peer_id_ = frame.stream_id;
  if (dropping_) return absl::OkStatus();
  auto state = std::make_shared<SpdyStream::State>();
  if (streams_.size() >= options_.max_streams || !accepted_.TryPush(state)) {
    writer_->Put(SpdyEncoder::RstStream(frame.stream_id, SpdyRstStatus::kRefusedStream));
    return absl::OkStatus();
  }
  state->id = frame.stream_id;
  state->headers = std::move(frame.headers);
  state->replied = true;
  state->remote_fin = frame.fin();
  state->local_fin = (frame.flags & kSpdyUnidirectional) != 0;
  state->send_window = initial_send_window_;
  streams_[state->id] = state;
  if (!state->local_fin) writer_->Put(encoder_.SynReply(state->id, HttpHeaders()));
  ForgetIfDone(state);
  return absl::OkStatus();
}

void SpdyConnection::OnData(SpdyFrame frame) {
  const size_t bytes = frame.data.size();
  session_unacknowledged_bytes_ += bytes;
  if (peer_session_window_ && session_unacknowledged_bytes_ >= kSessionUpdateBytes) {
    writer_->Put(SpdyEncoder::WindowUpdate(0, static_cast<uint32_t>(session_unacknowledged_bytes_)));
    session_unacknowledged_bytes_ = 0;
  }
  StatePtr state = Find(frame.stream_id);
  if (state == nullptr || state->remote_fin) return;  // reset or finished: the peer may not know yet
  if (bytes != 0 && !dropping_ && !state->dropped) {
    state->received_bytes += bytes;
    state->received.push_back(std::move(frame.data));
  }
  if (frame.fin()) state->remote_fin = true;
  state->readable.NotifyAll();
  ForgetIfDone(state);
}

absl::Status SpdyConnection::OnSettings(const SpdyFrame& frame) {
  for (const SpdySetting& setting : frame.settings) {
    if (setting.id != kSpdySettingInitialWindowSize) continue;
    if (setting.value > kMaxWindowBytes) return absl::InvalidArgumentError("SPDY: window too large");
    const int64_t change = int64_t{setting.value} - initial_send_window_;
    initial_send_window_ = setting.value;
    peer_windows_ = true;
    for (auto& [id, state] : streams_) {
      state->send_window += change;
      state->writable.NotifyAll();
    }
  }
  return absl::OkStatus();
}

absl::Status SpdyConnection::OnWindowUpdate(const SpdyFrame& frame) {
  if (frame.stream_id == 0) {
    peer_session_window_ = true;
    session_send_window_ += frame.delta;
    if (session_send_window_ > kMaxWindowBytes)
      return absl::InvalidArgumentError("SPDY: the session's window is too large");
    session_window_.NotifyAll();
    return absl::OkStatus();
  }
  StatePtr state = Find(frame.stream_id);
  if (state == nullptr) return absl::OkStatus();
  state->send_window += frame.delta;
  if (state->send_window > kMaxWindowBytes) {
    Reset(state, SpdyRstStatus::kFlowControlError);
    return absl::OkStatus();
  }
  state->writable.NotifyAll();
  return absl::OkStatus();
}

}  // namespace keelson::net
