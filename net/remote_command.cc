#include "net/remote_command.h"

#include <absl/strings/ascii.h>
#include <absl/strings/escaping.h>
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <absl/strings/strip.h>

#include <algorithm>

#include "base/strings.h"

namespace keelson::net {
namespace {

constexpr size_t kMaxResizeBytes = 512;  // of one object
constexpr size_t kMaxProtocols = 32;     // offered by one client
constexpr size_t kWebSocketKeyBytes = 24;
// kubectl and others may offer a bearer token in the list of subprotocols.
constexpr char kBearerPrefix[] = "base64url.bearer.authorization.k8s.io.";

std::string Lower(std::string_view text) { return absl::AsciiStrToLower(Av(text)); }

bool EndsWithPort(std::string_view host) {
  size_t colon = host.rfind(':');
  size_t bracket = host.rfind(']');
  return colon != std::string_view::npos && (bracket == std::string_view::npos || colon > bracket);
}

}  // namespace

UpgradeKind UpgradeKindOf(const HttpHeaders& headers) {
  if (!headers.HasToken("Connection", "upgrade")) return UpgradeKind::kNone;
  if (headers.HasToken("Upgrade", "websocket")) return UpgradeKind::kWebSocket;
  if (headers.HasToken("Upgrade", kSpdyUpgrade)) return UpgradeKind::kSpdy;
  return UpgradeKind::kNone;
}

bool SameOrigin(std::string_view origin, std::string_view host) {
  std::string from = Lower(origin), to = Lower(host);
  std::string_view port;
  std::string_view rest = from;
  if (absl::StartsWith(from, "https://")) {
    port = ":443";
    rest.remove_prefix(8);
  } else if (absl::StartsWith(from, "http://")) {
    port = ":80";
    rest.remove_prefix(7);
  } else {
    return false;
  }
  if (rest.empty() || to.empty()) return false;
  from = EndsWithPort(rest) ? std::string(rest) : StrCat(rest, port);
  if (!EndsWithPort(to)) to += port;
  return from == to;
}

absl::Status CheckUpgrade(const HttpRequest& request) {
  const UpgradeKind kind = UpgradeKindOf(request.headers);
  if (kind == UpgradeKind::kNone) {
    return absl::InvalidArgumentError(
        "unable to upgrade: missing upgrade headers in request (SPDY/3.1 or websocket)");
  }
  if (request.headers.Has("Origin") &&
      !SameOrigin(request.headers.Get("Origin"), request.headers.Get("Host"))) {
    return absl::PermissionDeniedError(StrCat("unable to upgrade: requests of the origin ",
                                              request.headers.Get("Origin"), " are not served"));
  }
  if (kind == UpgradeKind::kWebSocket) {
    if (request.method != "GET")
      return absl::InvalidArgumentError("unable to upgrade: a websocket is opened by GET");
    if (request.headers.Get("Sec-WebSocket-Version") != "13")
      return absl::InvalidArgumentError("unable to upgrade: Sec-WebSocket-Version must be 13");
    std::string key;
    std::string_view sent = request.headers.Get("Sec-WebSocket-Key");
    if (sent.size() != kWebSocketKeyBytes || !absl::Base64Unescape(Av(sent), &key) || key.size() != 16)
      return absl::InvalidArgumentError("unable to upgrade: Sec-WebSocket-Key must be 16 bytes in base64");
  } else if (request.method != "GET" && request.method != "POST") {
    return absl::InvalidArgumentError("unable to upgrade: POST or GET expected");
  }
  return absl::OkStatus();
}

std::vector<std::string> OfferedProtocols(const HttpHeaders& headers, UpgradeKind kind) {
  std::vector<std::string> out;
  const char* name = kind == UpgradeKind::kWebSocket ? "Sec-WebSocket-Protocol" : kStreamProtocolHeader;
  for (std::string_view value : headers.GetAll(name)) {
    for (absl::string_view piece : absl::StrSplit(Av(value), ',')) {
      piece = absl::StripAsciiWhitespace(piece);
      if (piece.empty() || absl::StartsWith(piece, kBearerPrefix)) continue;
      if (out.size() < kMaxProtocols) out.emplace_back(piece);
    }
  }
  return out;
}

absl::StatusOr<std::string> ChooseProtocol(const std::vector<std::string>& offered,
                                           std::initializer_list<const char*> supported,
                                           std::string_view otherwise) {
  if (offered.empty()) return std::string(otherwise);
  for (const std::string& name : offered) {
    if (std::find(supported.begin(), supported.end(), name) != supported.end()) return name;
  }
  return absl::PermissionDeniedError(
      StrCat("unable to upgrade: unable to negotiate protocol: client supports [",
             absl::StrJoin(offered, " "), "], server accepts [", absl::StrJoin(supported, " "), "]"));
}

int ChannelVersion(std::string_view protocol) {
  if (protocol == kChannelV5) return 5;
  if (protocol == kChannelV4 || protocol == kBase64ChannelV4) return 4;
  if (protocol == kChannelV3) return 3;
  if (protocol == kChannelV2) return 2;
  if (protocol == kChannelV1 || protocol == kBase64ChannelV1) return 1;
  return 0;
}

bool IsBase64Channel(std::string_view protocol) {
  return protocol == kBase64ChannelV4 || protocol == kBase64ChannelV1;
}

HttpHeaders UpgradeAnswer(const HttpHeaders& request, UpgradeKind kind, std::string_view protocol) {
  HttpHeaders out;
  out.Add("Connection", "Upgrade");
  if (kind == UpgradeKind::kSpdy) {
    out.Add("Upgrade", kSpdyUpgrade);
    if (!OfferedProtocols(request, kind).empty()) out.Add(kStreamProtocolHeader, std::string(protocol));
  } else {
    out.Add("Upgrade", "websocket");
    out.Add("Sec-WebSocket-Accept", WebSocketAccept(request.Get("Sec-WebSocket-Key")));
    if (!OfferedProtocols(request, kind).empty()) out.Add("Sec-WebSocket-Protocol", std::string(protocol));
  }
  return out;
}

HttpHeaders UpgradeForward(const HttpHeaders& request, UpgradeKind kind) {
  HttpHeaders out;
  out.Add("Connection", "Upgrade");
  const std::vector<std::string> offered = OfferedProtocols(request, kind);
  if (kind == UpgradeKind::kSpdy) {
    out.Add("Upgrade", kSpdyUpgrade);
    for (const std::string& name : offered) out.Add(kStreamProtocolHeader, name);
  } else {
    out.Add("Upgrade", "websocket");
    out.Add("Sec-WebSocket-Version", "13");
    out.Add("Sec-WebSocket-Key", std::string(request.Get("Sec-WebSocket-Key")));
    if (!offered.empty()) out.Add("Sec-WebSocket-Protocol", absl::StrJoin(offered, ", "));
  }
  return out;
}

std::string EncodeChannel(bool base64, RemoteChannel channel, std::string_view data) {
  const uint8_t number = static_cast<uint8_t>(channel);
  if (!base64) {
    std::string out(1, static_cast<char>(number));
    out.append(data);
    return out;
  }
  return StrCat(std::string(1, static_cast<char>('0' + number)), absl::Base64Escape(Av(data)));
}

absl::StatusOr<ChannelMessage> DecodeChannel(bool base64, std::string_view message) {
  if (message.empty()) return absl::InvalidArgumentError("message without a channel");
  ChannelMessage out;
  const uint8_t first = static_cast<uint8_t>(message[0]);
  message.remove_prefix(1);
  if (!base64) {
    out.channel = first;
    out.data = std::string(message);
    return out;
  }
  if (first < '0' || first > '9') return absl::InvalidArgumentError("message without a channel");
  out.channel = static_cast<uint8_t>(first - '0');
  if (!absl::Base64Unescape(Av(message), &out.data))
    return absl::InvalidArgumentError("message is not base64");
  return out;
}

absl::Status ResizeParser::Append(std::string_view bytes) {
  for (char c : bytes) {
    if (pending_.empty() && (absl::ascii_isspace(static_cast<unsigned char>(c)) || c == '\0')) continue;
    if (pending_.empty() && c != '{') return absl::InvalidArgumentError("terminal size: object expected");
    pending_.push_back(c);
    if (c == '}') {
      absl::Status status = Object(pending_);
      pending_.clear();
      if (!status.ok()) return status;
    } else if (pending_.size() > kMaxResizeBytes) {
      return absl::InvalidArgumentError("terminal size: object too long");
    }
  }
  return absl::OkStatus();
}

// A flat object of numbers; names compare without case, as Go's decoder does.
absl::Status ResizeParser::Object(std::string_view text) {
  Size size;
  text.remove_prefix(1);
  text.remove_suffix(1);
  for (absl::string_view member : absl::StrSplit(Av(text), ',', absl::SkipWhitespace())) {
    std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(member, absl::MaxSplits(':', 1));
    std::string name = absl::AsciiStrToLower(absl::StripAsciiWhitespace(parts.first));
    if (name != "\"width\"" && name != "\"height\"") continue;
    uint32_t value = 0;
    if (!absl::SimpleAtoi(absl::StripAsciiWhitespace(parts.second), &value) || value > UINT16_MAX)
      return absl::InvalidArgumentError(StrCat("terminal size: ", name, " must be a number up to 65535"));
    (name == "\"width\"" ? size.width : size.height) = static_cast<uint16_t>(value);
  }
  newest_ = size;
  return absl::OkStatus();
}

std::optional<ResizeParser::Size> ResizeParser::Take() { return std::exchange(newest_, std::nullopt); }

}  // namespace keelson::net
