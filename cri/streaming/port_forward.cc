#include "cri/streaming/port_forward.h"

#include <absl/strings/numbers.h>

#include <algorithm>
#include <map>
#include <utility>

#include "base/log.h"
#include "base/strings.h"
#include "net/remote_command.h"
#include "net/spdy_connection.h"
#include "net/stream_util.h"
#include "net/websocket_connection.h"

namespace keelson::cri {
namespace {

constexpr size_t kCopyBytes = 32 << 10;
constexpr size_t kMaxPendingPairs = 128;  // of which one stream has come
constexpr size_t kMaxRequestIdBytes = 64;
constexpr size_t kMaxChannelBytes = 256 << 10;  // unread, of one port of a WebSocket

std::string DialFailure(uint16_t port, const std::string& sandbox, const absl::Status& status) {
  return StrCat("error forwarding port ", port, " to pod sandbox ", sandbox, ": ", Sv(status.message()));
}

// ---- SPDY ----

struct Pair {
  uint16_t port = 0;
  std::unique_ptr<net::SpdyStream> data, error;
  std::unique_ptr<net::ByteStream> target;
  AsyncEvent back_done;
};

class SetAtEnd {
 public:
  explicit SetAtEnd(AsyncEvent* event) : event_(event) {}
  ~SetAtEnd() { event_->Set(); }

 private:
  AsyncEvent* event_;
};

// From the pod to the client. Its end is the client's sign that the connection is over: the error stream is
// finished with it, as there is nothing left to report.
Task<void> CopyToClient(std::shared_ptr<Pair> pair) {
  SetAtEnd end(&pair->back_done);
  auto buffer = std::make_unique<char[]>(kCopyBytes);
  for (;;) {
    Task<absl::StatusOr<size_t>> read = pair->target->Read(buffer.get(), kCopyBytes);
    absl::StatusOr<size_t> n = co_await std::move(read);
    if (!n.ok() || *n == 0) break;
    Task<absl::Status> write = pair->data->Write(std::string_view(buffer.get(), *n));
    absl::Status status = co_await std::move(write);
    if (!status.ok()) {  // the client has reset the stream
      pair->target->Close();
      co_return;
    }
  }
  Task<absl::Status> half = pair->data->CloseWrite();
  (void)co_await std::move(half);
  Task<absl::Status> error = pair->error->CloseWrite();
  (void)co_await std::move(error);
}

// From the client to the pod.
Task<void> CopyToPod(std::shared_ptr<Pair> pair) {
  auto buffer = std::make_unique<char[]>(kCopyBytes);
  for (;;) {
    Task<absl::StatusOr<size_t>> read = pair->data->Read(buffer.get(), kCopyBytes);
    absl::StatusOr<size_t> n = co_await std::move(read);
    if (!n.ok()) break;
    if (*n == 0) {
      Task<absl::Status> half = pair->target->CloseWrite();
      absl::Status status = co_await std::move(half);
      if (!status.ok()) break;
      co_return;
    }
    Task<absl::Status> write = pair->target->Write(std::string_view(buffer.get(), *n));
    absl::Status status = co_await std::move(write);
    if (!status.ok()) break;
  }
  pair->target->Close();
}

Task<void> ForwardPair(PortForwardContext context, std::shared_ptr<Pair> pair) {
  Task<absl::StatusOr<std::unique_ptr<net::ByteStream>>> dial =
      context.backend->DialPort(context.pod_sandbox_id, pair->port);
  absl::StatusOr<std::unique_ptr<net::ByteStream>> target = co_await std::move(dial);
  if (!target.ok()) {
    std::string text = DialFailure(pair->port, context.pod_sandbox_id, target.status());
    Task<absl::Status> write = pair->error->Write(text);
    (void)co_await std::move(write);
    Task<absl::Status> close = pair->error->CloseWrite();
    (void)co_await std::move(close);
    co_return;  // the data stream is reset with the pair
  }
  pair->target = *std::move(target);
  if (context.scope->closing()) co_return;
  context.scope->Spawn("port-forward: to the client", CopyToClient(pair));
  Task<void> copy = CopyToPod(pair);
  co_await std::move(copy);
  Task<void> wait = pair->back_done.Wait();
  co_await std::move(wait);
}

// Streams that wait for their other half.
struct Pending {
  std::map<std::string, std::shared_ptr<Pair>> pairs;
};

absl::StatusOr<uint16_t> PortOf(const net::HttpHeaders& headers) {
  uint32_t port = 0;
  if (!absl::SimpleAtoi(Av(headers.Get(net::kPortHeader)), &port) || port == 0 || port > UINT16_MAX) {
    return absl::InvalidArgumentError(
        StrCat("port header \"", headers.Get(net::kPortHeader).substr(0, 16), "\" is not a port"));
  }
  return static_cast<uint16_t>(port);
}

struct Added {
  std::shared_ptr<Pair> whole;  // set: both halves are there
  std::string half_id;          // set: this was the first half
};

// Puts the stream to its other half.
absl::StatusOr<Added> AddStream(Pending* pending, std::unique_ptr<net::SpdyStream> stream,
                                const std::vector<int32_t>& ports) {
  const net::HttpHeaders& headers = stream->headers();
  const std::string type(headers.Get(net::kStreamTypeHeader));
  if (type != net::kStreamError && type != net::kStreamData)
    return absl::InvalidArgumentError(StrCat("stream of type \"", type, "\""));
  absl::StatusOr<uint16_t> port = PortOf(headers);
  if (!port.ok()) return port.status();
  if (!ports.empty() && std::find(ports.begin(), ports.end(), *port) == ports.end())
    return absl::PermissionDeniedError(StrCat("port ", *port, " is not one of those asked for"));
  std::string id(headers.Get(net::kRequestIdHeader));
  if (id.size() > kMaxRequestIdBytes) return absl::InvalidArgumentError("requestID too long");
  // Clients from before the header open the error stream just before the data stream.
  if (id.empty()) id = StrCat("#", type == net::kStreamError ? stream->id() : stream->id() - 2);
  Added added;
  auto it = pending->pairs.find(id);
  if (it == pending->pairs.end()) {
    if (pending->pairs.size() >= kMaxPendingPairs)
      return absl::ResourceExhaustedError("too many half-open connections");
    it = pending->pairs.emplace(id, std::make_shared<Pair>()).first;
    it->second->port = *port;
    added.half_id = id;
  }
  std::shared_ptr<Pair> pair = it->second;
  std::unique_ptr<net::SpdyStream>& place = type == net::kStreamError ? pair->error : pair->data;
  if (place != nullptr || pair->port != *port)
    return absl::InvalidArgumentError(StrCat("second ", type, " stream of request ", id));
  place = std::move(stream);
  if (pair->error == nullptr || pair->data == nullptr) return added;
  pending->pairs.erase(it);
  added.whole = std::move(pair);
  return added;
}

// Drops a half whose other half does not come.
void DropLater(const PortForwardContext& context, const std::shared_ptr<Pending>& pending, std::string id) {
  std::weak_ptr<Pair> half = pending->pairs[id];
  context.clock->Schedule(context.creation_timeout, [weak = std::weak_ptr(pending), half, id] {
    std::shared_ptr<Pending> all = weak.lock();
    if (all == nullptr) return;
    auto it = all->pairs.find(id);
    if (it != all->pairs.end() && it->second == half.lock()) all->pairs.erase(it);
  });
}

}  // namespace

Task<void> ServeSpdyPortForward(PortForwardContext context, std::shared_ptr<net::ByteStream> stream) {
  std::shared_ptr<net::SpdyConnection> connection =
      net::SpdyConnection::Start(context.scope, std::move(stream), net::SpdyConnection::Role::kServer);
  net::CloseSpdyAtEnd close(connection);
  auto pending = std::make_shared<Pending>();
  for (;;) {
    Task<absl::StatusOr<std::unique_ptr<net::SpdyStream>>> accept = connection->Accept();
    absl::StatusOr<std::unique_ptr<net::SpdyStream>> next = co_await std::move(accept);
    if (!next.ok()) co_return;
    // A stream that is not taken is reset in there.
    absl::StatusOr<Added> added = AddStream(pending.get(), *std::move(next), context.ports);
    if (!added.ok()) {
      LogDebug("port-forward: stream refused",
               {{"sandbox", context.pod_sandbox_id}, {"error", added.status()}});
      continue;
    }
    if (added->whole != nullptr) {
      context.scope->Spawn("port-forward", ForwardPair(context, std::move(added->whole)));
    } else if (!added->half_id.empty()) {
      DropLater(context, pending, added->half_id);
    }
  }
}

// ---- WebSocket channels ----

namespace {

struct PortChannel {
  uint8_t number = 0;  // of the data channel; the error channel is the next
  uint16_t port = 0;
  std::string input;  // from the client, for the pod
  WaitList input_changed, input_taken;
  std::unique_ptr<net::ByteStream> target;
  bool ended = false;
};

struct ChannelForward {
  std::shared_ptr<net::WebSocketConnection> connection;
  bool base64 = false;
  bool closed = false;
  std::vector<std::unique_ptr<PortChannel>> channels;
  size_t open = 0;

  void Close() {
    closed = true;
    connection->Close();
    for (auto& channel : channels) End(channel.get());
  }
  void End(PortChannel* channel) {
    channel->ended = true;
    channel->input.clear();
    if (channel->target != nullptr) channel->target->Close();
    channel->input_changed.NotifyAll();
    channel->input_taken.NotifyAll();
  }
};
using ForwardPtr = std::shared_ptr<ChannelForward>;

Task<absl::Status> SendChannel(ForwardPtr forward, uint8_t number, std::string data) {
  std::string message = net::EncodeChannel(forward->base64, static_cast<net::RemoteChannel>(number), data);
  const net::WebSocketOpcode opcode =
      forward->base64 ? net::WebSocketOpcode::kText : net::WebSocketOpcode::kBinary;
  Task<absl::Status> write = forward->connection->Write(opcode, message);
  co_return co_await std::move(write);
}

Task<void> ChannelToPod(ForwardPtr forward, PortChannel* channel) {
  while (!channel->ended) {
    if (channel->input.empty()) {
      Task<void> wait = channel->input_changed.Wait();
      co_await std::move(wait);
      continue;
    }
    std::string piece = std::exchange(channel->input, std::string());
    channel->input_taken.NotifyAll();
    Task<absl::Status> write = channel->target->Write(piece);
    absl::Status status = co_await std::move(write);
    if (!status.ok()) forward->End(channel);
  }
}

// Counts a port's task; the last one ends the connection.
class PortEnd {
 public:
  PortEnd(ForwardPtr forward, PortChannel* channel) : forward_(std::move(forward)), channel_(channel) {}
  ~PortEnd() {
    forward_->End(channel_);
    if (--forward_->open == 0) forward_->connection->Finish(net::kWebSocketNormal, "");
  }

 private:
  ForwardPtr forward_;
  PortChannel* channel_;
};

Task<void> ForwardChannel(PortForwardContext context, ForwardPtr forward, PortChannel* channel) {
  PortEnd end(forward, channel);
  Task<absl::StatusOr<std::unique_ptr<net::ByteStream>>> dial =
      context.backend->DialPort(context.pod_sandbox_id, channel->port);
  absl::StatusOr<std::unique_ptr<net::ByteStream>> target = co_await std::move(dial);
  if (!target.ok()) {
    Task<absl::Status> send =
        SendChannel(forward, static_cast<uint8_t>(channel->number + 1),
                    DialFailure(channel->port, context.pod_sandbox_id, target.status()));
    (void)co_await std::move(send);
    co_return;
  }
  channel->target = *std::move(target);
  if (context.scope->closing() || forward->closed) co_return;
  context.scope->Spawn("port-forward: to the pod", ChannelToPod(forward, channel));
  auto buffer = std::make_unique<char[]>(kCopyBytes);
  for (;;) {
    Task<absl::StatusOr<size_t>> read = channel->target->Read(buffer.get(), kCopyBytes);
    absl::StatusOr<size_t> n = co_await std::move(read);
    if (!n.ok() || *n == 0) co_return;
    Task<absl::Status> send = SendChannel(forward, channel->number, std::string(buffer.get(), *n));
    absl::Status status = co_await std::move(send);
    if (!status.ok()) co_return;
  }
}

class CloseForwardAtEnd {
 public:
  explicit CloseForwardAtEnd(ForwardPtr forward) : forward_(std::move(forward)) {}
  ~CloseForwardAtEnd() { forward_->Close(); }

 private:
  ForwardPtr forward_;
};

}  // namespace

Task<void> ServeWebSocketPortForward(PortForwardContext context, std::shared_ptr<net::ByteStream> stream,
                                     std::string protocol) {
  auto forward = std::make_shared<ChannelForward>();
  forward->connection = net::WebSocketConnection::Start(context.scope, std::move(stream));
  forward->base64 = net::IsBase64Channel(protocol);
  CloseForwardAtEnd close(forward);
  if (context.scope->closing()) co_return;
  forward->open = context.ports.size();
  for (size_t i = 0; i < context.ports.size(); ++i) {
    auto channel = std::make_unique<PortChannel>();
    channel->number = static_cast<uint8_t>(2 * i);
    channel->port = static_cast<uint16_t>(context.ports[i]);
    // Each channel begins with its port, low byte first.
    const std::string port = {static_cast<char>(channel->port & 0xff), static_cast<char>(channel->port >> 8)};
    for (int side = 0; side < 2; ++side) {
      Task<absl::Status> send = SendChannel(forward, static_cast<uint8_t>(channel->number + side), port);
      absl::Status status = co_await std::move(send);
      if (!status.ok()) co_return;
    }
    forward->channels.push_back(std::move(channel));
  }
  for (auto& channel : forward->channels) {
    context.scope->Spawn("port-forward", ForwardChannel(context, forward, channel.get()));
  }
  for (;;) {
    Task<absl::StatusOr<std::optional<net::WebSocketMessage>>> read = forward->connection->Read();
    absl::StatusOr<std::optional<net::WebSocketMessage>> message = co_await std::move(read);
    if (!message.ok() || !message->has_value()) co_return;
    absl::StatusOr<net::ChannelMessage> decoded = net::DecodeChannel(forward->base64, (*message)->data);
    if (!decoded.ok()) co_return;
    const size_t index = decoded->channel / 2;
    if (decoded->channel % 2 != 0 || index >= forward->channels.size()) continue;
    PortChannel* channel = forward->channels[index].get();
    if (channel->ended) continue;
    channel->input += decoded->data;
    channel->input_changed.NotifyAll();
    while (!channel->ended && channel->input.size() > kMaxChannelBytes) {
      Task<void> wait = channel->input_taken.Wait();
      co_await std::move(wait);
    }
  }
}

}  // namespace keelson::cri
