#include "proxy/dns/upstreams.h"

#include <absl/strings/ascii.h>
#include <absl/strings/str_split.h>

#include <algorithm>

#include "base/fd.h"
#include "base/strings.h"

namespace keelson::proxy::dns {
namespace {
constexpr std::string_view kStubAddress = "127.0.0.53";
constexpr char kStubUpstreams[] = "/run/systemd/resolve/resolv.conf";
}  // namespace

std::vector<net::IpAddress> ParseResolvConf(std::string_view text, const std::vector<net::IpAddress>& own) {
  std::vector<net::IpAddress> out;
  for (absl::string_view line : absl::StrSplit(Av(text), '\n')) {
    std::vector<absl::string_view> words = absl::StrSplit(line, absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
    if (words.size() < 2 || words[0] != "nameserver" || out.size() >= kMaxUpstreams) continue;
    absl::StatusOr<net::IpAddress> ip = net::IpAddress::Parse(Sv(words[1]));
    if (!ip.ok() || std::find(own.begin(), own.end(), *ip) != own.end()) continue;
    out.push_back(*ip);
  }
  return out;
}

std::vector<net::IpAddress> LoadUpstreams(const std::string& path, const std::vector<net::IpAddress>& own) {
  absl::StatusOr<std::string> text = ReadFile(path, kMaxResolvConfBytes);
  if (!text.ok()) return {};
  std::vector<net::IpAddress> out = ParseResolvConf(*text, own);
  if (out.size() == 1 && out[0].ToString() == kStubAddress) {
    absl::StatusOr<std::string> behind = ReadFile(kStubUpstreams, kMaxResolvConfBytes);
    if (behind.ok()) return ParseResolvConf(*behind, own);
  }
  return out;
}

}  // namespace keelson::proxy::dns
