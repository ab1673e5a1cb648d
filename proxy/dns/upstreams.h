// Which resolvers stand behind ours, read from a resolv.conf.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "net/address.h"

namespace keelson::proxy::dns {

inline constexpr size_t kMaxUpstreams = 3;  // as the C library's resolver
inline constexpr size_t kMaxResolvConfBytes = 64 << 10;

// "nameserver" lines in order, without `own` addresses (asking ourselves is a loop) and without what does not
// parse. Pure.
std::vector<net::IpAddress> ParseResolvConf(std::string_view text, const std::vector<net::IpAddress>& own);

// The same from a file. When only a local stub (127.0.0.53: systemd-resolved) is named, the file it keeps its
// own upstreams in is read instead, because the stub may be configured to ask us. Empty when there is none.
std::vector<net::IpAddress> LoadUpstreams(const std::string& path, const std::vector<net::IpAddress>& own);

}  // namespace keelson::proxy::dns
