// SpdyConnection: the streams of one SPDY/3.1 connection over a ByteStream, either end. Written for
// Kubernetes' exec, attach and port-forward: no push, no priorities, headers only when a stream opens.
//
// Flow control. What we have for a stream is bounded by its window, which we announce and widen as the reader
// takes bytes. Go's implementation, which all Kubernetes clients and containerd use, knows no windows: it
// sends more than was allowed and never widens ours. So a peer's windows count only once it has announced
// one (SETTINGS, or WINDOW_UPDATE of the session); before that we widen nothing for it either: Go closes its
// socket with our updates unread, and the kernel then throws away what it had still to send (seen as `kubectl
// cp` without an end). For a peer that overruns our window the connection is not read until the stream's
// reader has caught up.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/task.h"
#include "net/byte_stream.h"
#include "net/frame_writer.h"
#include "net/spdy.h"

namespace keelson::net {

struct SpdyOptions {
  size_t max_streams = 512;                  // open at once, of the peer's; beyond: refused
  uint32_t stream_window_bytes = 256 << 10;  // unread bytes of one stream
  size_t write_buffer_bytes = 64 << 10;      // queued for the peer before writers wait
};

class SpdyConnection;

// One stream, as a ByteStream; half-closed each way by FIN. Read: Unavailable after a reset or the end of the
// connection. Destroying it resets the stream unless both ends have finished it. Unlike of a plain
// ByteStream, a cancelled Read or Write does no harm.
class SpdyStream : public ByteStream {
 public:
  ~SpdyStream() override;
  uint32_t id() const;
  // Of the frame that opened it.
  const HttpHeaders& headers() const;
  Task<absl::StatusOr<size_t>> Read(char* buffer, size_t size) override;
  // Returns when the peer's window and the connection's buffer have taken the bytes.
  Task<absl::Status> Write(std::string_view data) override;
  Task<absl::Status> CloseWrite() override;
  void Close() override;

  struct State;

 private:
  friend class SpdyConnection;
  SpdyStream(std::shared_ptr<SpdyConnection> connection, std::shared_ptr<State> state);
  std::shared_ptr<SpdyConnection> connection_;
  std::shared_ptr<State> state_;
};

class SpdyConnection : public std::enable_shared_from_this<SpdyConnection> {
 public:
  enum class Role { kClient, kServer };

  // Starts the connection's two tasks in `scope`; they end after Close(), or when the peer is gone.
  static std::shared_ptr<SpdyConnection> Start(Scope* scope, std::shared_ptr<ByteStream> stream, Role role,
                                               SpdyOptions options = {});
  ~SpdyConnection();

  // The next stream of the peer; it has had its SYN_REPLY. An error when the connection has ended.
  Task<absl::StatusOr<std::unique_ptr<SpdyStream>>> Accept();
  // Opens a stream and waits for the peer's reply. FailedPrecondition: refused.
  Task<absl::StatusOr<std::unique_ptr<SpdyStream>>> Open(HttpHeaders headers);

  // GOAWAY and half-close after all that is queued; what still comes is dropped. closed() follows when the
  // peer has closed too.
  void Finish();
  // At once. Idempotent.
  void Close();
  // Set when nothing can be exchanged any more.
  AsyncEvent& closed() { return closed_; }
  // Waits until all that was written is with the kernel.
  Task<absl::Status> Drained() { return writer_->Drained(); }
  size_t streams() const { return streams_.size(); }

 private:
  friend class SpdyStream;
  using StatePtr = std::shared_ptr<SpdyStream::State>;
  SpdyConnection(std::shared_ptr<ByteStream> stream, Role role, SpdyOptions options);

  static Task<void> ReadLoop(std::shared_ptr<SpdyConnection> self);
  // Error: the peer broke the protocol.
  absl::Status Handle(SpdyFrame frame);
  absl::Status OnSynStream(SpdyFrame frame);
  void OnData(SpdyFrame frame);
  absl::Status OnSettings(const SpdyFrame& frame);
  absl::Status OnWindowUpdate(const SpdyFrame& frame);
  void Fail(absl::Status status);
  StatePtr Find(uint32_t id);
  void Forget(const StatePtr& state);
  void ForgetIfDone(const StatePtr& state);
  void Reset(const StatePtr& state, SpdyRstStatus status);
  void Took(const StatePtr& state, size_t bytes);
  // Bytes that may be sent on the stream now.
  size_t SendAllowance(const SpdyStream::State& state) const;
  Task<absl::Status> Send(StatePtr state, std::string_view data, bool fin);

  const std::shared_ptr<ByteStream> stream_;
  const Role role_;
  const SpdyOptions options_;
  const std::shared_ptr<FrameWriter> writer_;
  SpdyEncoder encoder_;
  SpdyDecoder decoder_;
  std::map<uint32_t, StatePtr> streams_;
  Channel<StatePtr> accepted_;
  uint32_t next_id_;
  uint32_t last_peer_id_ = 0;
  bool peer_windows_ = false;         // of streams: the peer has announced one
  bool peer_session_window_ = false;  // of the session
  int64_t initial_send_window_ = kSpdyDefaultWindowBytes;
  int64_t session_send_window_ = kSpdyDefaultWindowBytes;
  size_t session_unacknowledged_bytes_ = 0;
  bool dropping_ = false;  // after Finish()
  absl::Status status_;    // why it has ended
  WaitList session_window_;
  AsyncEvent closed_;
};

// Closes a connection when the coroutine that serves it ends, also by cancellation.
class CloseSpdyAtEnd {
 public:
  explicit CloseSpdyAtEnd(std::shared_ptr<SpdyConnection> connection) : connection_(std::move(connection)) {}
  CloseSpdyAtEnd(const CloseSpdyAtEnd&) = delete;
  CloseSpdyAtEnd& operator=(const CloseSpdyAtEnd&) = delete;
  ~CloseSpdyAtEnd() { connection_->Close(); }

 private:
  std::shared_ptr<SpdyConnection> connection_;
};

}  // namespace keelson::net
