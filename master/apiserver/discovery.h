// Discovery: which groups, versions and resources there are; from the registry alone.
#pragma once

#include <absl/status/statusor.h>

#include <string>

#include "net/http_message.h"

namespace keelson::master {

inline constexpr char kGitVersion[] = "v1.37.0+keelson";

struct DiscoveryOptions {
  std::string server_address;  // "192.0.2.1:6443", told to old clients
};

class Discovery {
 public:
  explicit Discovery(DiscoveryOptions options) : options_(std::move(options)) {}
  // "/", "/version", "/api", "/apis" and below, aggregated (apidiscovery.k8s.io/v2) where the client asks for
  // it. UnknownPath for others.
  absl::StatusOr<net::HttpResponse> Serve(const net::HttpRequest& request) const;

 private:
  const DiscoveryOptions options_;
};

}  // namespace keelson::master
