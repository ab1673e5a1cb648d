#include "net/upgrade_proxy.h"

#include <utility>

#include "net/stream_util.h"

namespace keelson::net {

Task<absl::StatusOr<HttpUpgrade>> OpenUpgrade(UpgradeProxy proxy, HttpEndpoint endpoint, std::string target,
                                              HttpRequest request, std::string protocol) {
  HttpClientRequest forward;
  forward.method = request.method;
  forward.target = std::move(target);
  if (protocol.empty()) {
    forward.headers = UpgradeForward(request.headers, UpgradeKindOf(request.headers));
  } else {
    HttpHeaders offer;
    offer.Add(kStreamProtocolHeader, std::move(protocol));
    forward.method = "POST";
    forward.headers = UpgradeForward(offer, UpgradeKind::kSpdy);
  }
  Task<absl::StatusOr<HttpUpgrade>> call = proxy.client->Upgrade(std::move(endpoint), std::move(forward));
  absl::StatusOr<HttpUpgrade> upgrade = co_await std::move(call);
  if (!upgrade.ok()) co_return upgrade.status();
  if (upgrade->stream == nullptr && upgrade->body.size() > kMaxRefusalBytes)
    upgrade->body.resize(kMaxRefusalBytes);
  co_return std::move(upgrade);
}

Task<absl::StatusOr<std::optional<UpgradeRefusal>>> ProxyUpgrade(UpgradeProxy proxy, HttpEndpoint endpoint,
                                                                 std::string target, HttpRequest request,
                                                                 ResponseWriter* writer) {
  Task<absl::StatusOr<HttpUpgrade>> open =
      OpenUpgrade(proxy, std::move(endpoint), std::move(target), std::move(request));
  absl::StatusOr<HttpUpgrade> upgrade = co_await std::move(open);
  if (!upgrade.ok()) co_return upgrade.status();
  if (upgrade->stream == nullptr) {
    UpgradeRefusal refusal;
    refusal.status = upgrade->status;
    refusal.body = std::move(upgrade->body);
    co_return std::optional<UpgradeRefusal>(std::move(refusal));
  }
  HttpHeaders answer;
  for (const char* name :
       {"Connection", "Upgrade", kStreamProtocolHeader, "Sec-WebSocket-Accept", "Sec-WebSocket-Protocol"}) {
    const std::string* value = upgrade->headers.Find(name);
    if (value != nullptr) answer.Add(name, *value);
  }
  Task<absl::StatusOr<std::unique_ptr<ByteStream>>> hijack = writer->Hijack(101, std::move(answer));
  absl::StatusOr<std::unique_ptr<ByteStream>> stream = co_await std::move(hijack);
  if (!stream.ok()) co_return stream.status();
  Task<void> splice =
      Splice(proxy.scope, proxy.clock, *std::move(stream), std::move(upgrade->stream), proxy.idle);
  co_await std::move(splice);
  co_return std::optional<UpgradeRefusal>();
}

}  // namespace keelson::net
