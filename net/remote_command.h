// What exec, attach and port-forward over HTTP upgrades are made of, apart from the bytes: who asks for which
// protocol, what is answered, and how channels lie in WebSocket messages. Pure. Used by the CRI streaming
// server, the kubelet and the API server.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/http_message.h"
#include "net/websocket.h"

namespace keelson::net {

inline constexpr char kSpdyUpgrade[] = "SPDY/3.1";
inline constexpr char kStreamProtocolHeader[] = "X-Stream-Protocol-Version";

// Subprotocols of exec and attach. v1: errors as text. v2: nothing new on the wire. v3: resize. v4: the error
// stream is a metav1.Status. v5 (WebSocket only): a channel can be closed.
inline constexpr char kChannelV1[] = "channel.k8s.io";
inline constexpr char kChannelV2[] = "v2.channel.k8s.io";
inline constexpr char kChannelV3[] = "v3.channel.k8s.io";
inline constexpr char kChannelV4[] = "v4.channel.k8s.io";
inline constexpr char kChannelV5[] = "v5.channel.k8s.io";
inline constexpr char kBase64ChannelV1[] = "base64.channel.k8s.io";
inline constexpr char kBase64ChannelV4[] = "v4.base64.channel.k8s.io";
inline constexpr char kPortForwardV1[] = "portforward.k8s.io";
// SPDY in the binary messages of a WebSocket.
inline constexpr char kTunneledPortForward[] = "SPDY/3.1+portforward.k8s.io";

// Headers of SPDY streams.
inline constexpr char kStreamTypeHeader[] = "streamType";  // compared without case
inline constexpr char kStreamError[] = "error";
inline constexpr char kStreamStdin[] = "stdin";
inline constexpr char kStreamStdout[] = "stdout";
inline constexpr char kStreamStderr[] = "stderr";
inline constexpr char kStreamResize[] = "resize";
inline constexpr char kStreamData[] = "data";
inline constexpr char kPortHeader[] = "port";
inline constexpr char kRequestIdHeader[] = "requestID";

// First byte of a WebSocket message (exec, attach).
enum class RemoteChannel : uint8_t {
  kStdin = 0,
  kStdout = 1,
  kStderr = 2,
  kError = 3,
  kResize = 4,
  kClose = 255
};

enum class UpgradeKind { kNone, kSpdy, kWebSocket };
// By the Connection and Upgrade headers.
UpgradeKind UpgradeKindOf(const HttpHeaders& headers);

// May this request be upgraded at all? InvalidArgument (400): it asks for no upgrade we know, a WebSocket
// handshake is incomplete or not by GET. PermissionDenied (403): a web page of another origin (the Origin
// header names another host than Host): browsers send WebSocket requests anywhere.
absl::Status CheckUpgrade(const HttpRequest& request);
// True when `origin` ("https://host:port") is the host that was asked.
bool SameOrigin(std::string_view origin, std::string_view host);

// Subprotocols the client offers, in its order (X-Stream-Protocol-Version or Sec-WebSocket-Protocol).
std::vector<std::string> OfferedProtocols(const HttpHeaders& headers, UpgradeKind kind);
// The first offered one that is also `supported`; `otherwise` when the client offers none.
// PermissionDenied, as upstream, when there is no common one.
absl::StatusOr<std::string> ChooseProtocol(const std::vector<std::string>& offered,
                                           std::initializer_list<const char*> supported,
                                           std::string_view otherwise);
// Of exec and attach: 1 to 5; 0 for an unknown name.
int ChannelVersion(std::string_view protocol);
bool IsBase64Channel(std::string_view protocol);

// Headers of the 101 answer.
HttpHeaders UpgradeAnswer(const HttpHeaders& request, UpgradeKind kind, std::string_view protocol);
// Headers of a request that continues `request` to another server: what belongs to the upgrade, and nothing
// else (no credentials, no Origin: it was checked against our own name).
HttpHeaders UpgradeForward(const HttpHeaders& request, UpgradeKind kind);

// A message of `protocol`, channel byte in front.
std::string EncodeChannel(bool base64, RemoteChannel channel, std::string_view data);
struct ChannelMessage {
  uint8_t channel = 0;
  std::string data;
};
// InvalidArgument: empty, or not base64. An unknown channel is the caller's to ignore.
absl::StatusOr<ChannelMessage> DecodeChannel(bool base64, std::string_view message);

// The resize stream: JSON objects {"Width":80,"Height":24} one after the other, cut anywhere.
class ResizeParser {
 public:
  struct Size {
    uint16_t width = 0, height = 0;
  };
  // InvalidArgument: not such an object, or longer than a size can be; the stream is dead then.
  absl::Status Append(std::string_view bytes);
  // The newest size not yet taken.
  std::optional<Size> Take();

 private:
  absl::Status Object(std::string_view text);
  std::string pending_;
  std::optional<Size> newest_;
};

}  // namespace keelson::net
