// Connection: one plugin's Unix stream, on which both sides call each other. It knows ttrpc and nothing of
// NRI. A bad frame, an end of stream or Close() ends it for good: calls under way are lost, nothing else is
// touched.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/env.h"
#include "base/task.h"
#include "cri/nri/wire.h"
#include "net/byte_stream.h"
#include "net/frame_writer.h"

namespace keelson::cri::nri {

inline constexpr int kMaxCallsOfPeer = 16;  // under way at a time; one more ends the connection

// What became of a call: `answered` the peer sent an answer, which may be an error of its own (status); else
// the connection is lost, or the answer did not come in time, and status says which.
struct CallResult {
  bool answered = false;
  absl::Status status;
  std::string payload;  // of a good answer
};

class Connection {
 public:
  // Answers the peer's calls; its parameters are service, method and payload. Runs in a task of its own.
  using Handler = std::function<Task<absl::StatusOr<std::string>>(std::string, std::string, std::string)>;

  // Which end of the stream this is.
  enum class Side { kRuntime, kPlugin };

  // Reads and writes in tasks of `scope`, which ends before `env`. `handler` is dropped when the connection
  // ends and no call of it is under way. `on_close` runs once, on the loop.
  static std::shared_ptr<Connection> Start(Env* env, Scope* scope, std::unique_ptr<net::ByteStream> stream,
                                           Side side, Handler handler, std::function<void()> on_close);

  // At the end of `timeout` the connection is closed: a peer that is late is given up.
  static Task<CallResult> Call(std::shared_ptr<Connection> self, std::string service, std::string method,
                               std::string payload, absl::Duration timeout);

  // Idempotent; the first reason stays.
  void Close(absl::Status reason);
  bool closed() const { return !closed_.ok(); }
  const absl::Status& reason() const { return closed_; }

 private:
  struct Pending {
    AsyncEvent done;
    CallResult result;
  };

  Connection(Env* env, Scope* scope, std::unique_ptr<net::ByteStream> stream, Side side, Handler handler,
             std::function<void()> on_close);
  static Task<void> Read(std::shared_ptr<Connection> self);
  static Task<void> Answer(std::shared_ptr<Connection> self, uint32_t stream, std::string payload);
  absl::Status Take(const std::shared_ptr<Connection>& self, TtrpcMessage message, bool from_calls_of_ours);
  void TakeAnswer(TtrpcMessage message);
  void Send(uint32_t connection, uint32_t stream, TtrpcType type, std::string_view payload);

  Env* const env_;
  Scope* const scope_;
  const std::shared_ptr<net::ByteStream> stream_;
  const std::shared_ptr<net::FrameWriter> writer_;
  const uint32_t our_calls_, their_calls_;  // connections of the mux
  Handler handler_;
  std::function<void()> on_close_;
  absl::Status closed_;
  MuxDecoder mux_;
  TtrpcDecoder answers_, requests_;
  std::map<uint32_t, std::shared_ptr<Pending>> pending_;  // by stream
  uint32_t next_stream_ = 1, last_peer_stream_ = 0;
  int peer_calls_ = 0;
};

}  // namespace keelson::cri::nri
