#include "net/websocket_connection.h"

#include <algorithm>
#include <utility>

#include "base/strings.h"

namespace keelson::net {
namespace {

constexpr size_t kWebSocketReadBytes = 32 << 10;
constexpr size_t kMaxPongBytes = 1 << 20;  // pongs that wait for a peer that does not read
constexpr size_t kTunnelMessageBytes = 32 << 10;

class Tunnel : public ByteStream {
 public:
  explicit Tunnel(std::shared_ptr<WebSocketConnection> connection) : connection_(std::move(connection)) {}
  ~Tunnel() override { connection_->Close(); }
  Task<absl::StatusOr<size_t>> Read(char* buffer, size_t size) override {
    while (offset_ == data_.size()) {
      Task<absl::StatusOr<std::optional<WebSocketMessage>>> read = connection_->Read();
      absl::StatusOr<std::optional<WebSocketMessage>> message = co_await std::move(read);
      if (!message.ok()) co_return message.status();
      if (!message->has_value()) co_return size_t{0};
      if ((*message)->text) {
        connection_->Finish(kWebSocketProtocolError, "binary messages expected");
        co_return absl::InvalidArgumentError("websocket tunnel: text message");
      }
      data_ = std::move((*message)->data);
      offset_ = 0;
    }
    size_t n = data_.copy(buffer, size, offset_);
    offset_ += n;
    co_return n;
  }
  Task<absl::Status> Write(std::string_view data) override {
    while (!data.empty()) {
      std::string_view piece = data.substr(0, kTunnelMessageBytes);
      Task<absl::Status> write = connection_->Write(WebSocketOpcode::kBinary, piece);
      absl::Status status = co_await std::move(write);
      if (!status.ok()) co_return status;
      data.remove_prefix(piece.size());
    }
    Task<absl::Status> drained = connection_->Drained();
    co_return co_await std::move(drained);
  }
  Task<absl::Status> CloseWrite() override {
    connection_->Finish(kWebSocketNormal, "");
    Task<absl::Status> drained = connection_->Drained();
    co_return co_await std::move(drained);
  }
  void Close() override { connection_->Close(); }

 private:
  std::shared_ptr<WebSocketConnection> connection_;
  std::string data_;
  size_t offset_ = 0;
};

}  // namespace

WebSocketConnection::WebSocketConnection(std::shared_ptr<ByteStream> stream, WebSocketOptions options)
    : stream_(std::move(stream)),
      options_(options),
      writer_(std::make_shared<FrameWriter>(stream_, options.write_buffer_bytes)),
      decoder_(/*expect_mask=*/options.mask_random == nullptr, options.max_message_bytes),
      buffer_(std::make_unique<char[]>(kWebSocketReadBytes)) {}
WebSocketConnection::~WebSocketConnection() = default;

std::shared_ptr<WebSocketConnection> WebSocketConnection::Start(Scope* scope,
                                                                std::shared_ptr<ByteStream> stream,
                                                                WebSocketOptions options) {
  std::shared_ptr<WebSocketConnection> self(new WebSocketConnection(std::move(stream), options));
  if (scope->closing()) self->Close();
  scope->Spawn("WebSocket writer", FrameWriter::Run(self->writer_));
  return self;
}

std::string WebSocketConnection::Encode(WebSocketOpcode opcode, std::string_view payload) {
  std::optional<uint32_t> mask;
  if (options_.mask_random != nullptr) mask = static_cast<uint32_t>(options_.mask_random->Next());
  return EncodeWebSocketFrame(opcode, payload, /*final=*/true, mask);
}

Task<absl::StatusOr<std::optional<WebSocketMessage>>> WebSocketConnection::Read() {
  std::shared_ptr<WebSocketConnection> self = shared_from_this();
  while (!peer_closed_) {
    absl::StatusOr<std::optional<WebSocketFrame>> frame = decoder_.Next();
    if (frame.ok() && frame->has_value()) {
      const WebSocketFrame& f = **frame;
      switch (f.opcode) {
        case WebSocketOpcode::kPing: {
          writer_->Put(Encode(WebSocketOpcode::kPong, f.payload));
          Task<absl::Status> room = writer_->Room(kMaxPongBytes);
          (void)co_await std::move(room);
          continue;
        }
        case WebSocketOpcode::kPong:
          continue;
        case WebSocketOpcode::kClose:
          peer_closed_ = true;
          Finish(kWebSocketNormal, "");
          continue;
        case WebSocketOpcode::kText:
        case WebSocketOpcode::kBinary:
          partial_.text = f.opcode == WebSocketOpcode::kText;
          partial_.data.clear();
          break;
        case WebSocketOpcode::kContinuation:
          break;
      }
      if (partial_.data.size() + f.payload.size() > options_.max_message_bytes) {
        frame = absl::ResourceExhaustedError(
            StrCat("websocket: message of more than ", options_.max_message_bytes, " bytes"));
      } else {
        partial_.data += f.payload;
        if (!f.final) continue;
        WebSocketMessage message = std::exchange(partial_, WebSocketMessage());
        co_return std::optional<WebSocketMessage>(std::move(message));
      }
    }
    if (!frame.ok()) {
      peer_closed_ = true;
      const bool large = absl::IsResourceExhausted(frame.status());
      Finish(large ? kWebSocketTooLarge : kWebSocketProtocolError, Sv(frame.status().message()));
      co_return frame.status();
    }
    Task<absl::StatusOr<size_t>> read = stream_->Read(buffer_.get(), kWebSocketReadBytes);
    absl::StatusOr<size_t> n = co_await std::move(read);
    if (!n.ok()) co_return n.status();
    if (*n == 0) co_return absl::UnavailableError("connection closed by the peer");
    decoder_.Append(std::string_view(buffer_.get(), *n));
  }
  co_return std::optional<WebSocketMessage>();
}

Task<absl::Status> WebSocketConnection::Write(WebSocketOpcode opcode, std::string_view payload) {
  std::shared_ptr<WebSocketConnection> self = shared_from_this();
  Task<absl::Status> room = writer_->Room();
  absl::Status status = co_await std::move(room);
  if (status.ok()) writer_->Put(Encode(opcode, payload));
  co_return status;
}

void WebSocketConnection::Finish(uint16_t code, std::string_view reason) {
  if (writer_->finishing()) return;
  writer_->Put(Encode(WebSocketOpcode::kClose, WebSocketClosePayload(code, reason)));
  writer_->Finish();
}

void WebSocketConnection::Close() {
  writer_->Fail(absl::UnavailableError("connection closed"));
  stream_->Close();
}

std::unique_ptr<ByteStream> WebSocketByteStream(std::shared_ptr<WebSocketConnection> connection) {
  return std::make_unique<Tunnel>(std::move(connection));
}

}  // namespace keelson::net
