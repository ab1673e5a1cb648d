// Where the images of a registry come from: mirrors and their settings (hosts.toml as containerd reads it),
// credentials (docker's config.json) and HTTP proxies. Parsing is pure; the Load functions read small files.
#pragma once

#include <absl/status/statusor.h>

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "images/image_store.h"
#include "net/http_message.h"

namespace keelson::images {

inline constexpr size_t kMaxHostsFileBytes = 256 << 10;
inline constexpr size_t kMaxRegistryHosts = 32;
inline constexpr size_t kMaxAuthFileBytes = 1 << 20;
inline constexpr size_t kMaxAuthEntries = 1024;

// One server that is asked for the images of a registry.
struct RegistryHost {
  std::string url;  // as written, for messages
  bool tls = true;
  std::string host;  // name or address, no brackets
  uint16_t port = 443;
  std::string api_path = "/v2";  // no slash at the end
  bool pull = true, resolve = true;
  bool skip_verify = false;
  std::vector<std::string> ca_files;  // besides the system's
  std::string client_cert_file, client_key_file;
  std::vector<std::pair<std::string, std::string>> headers;
  bool upstream = false;  // the registry itself, not a mirror

  std::string authority() const { return net::JoinHostPort(host, port); }
};

// In the order they are asked; the registry itself comes last.
struct RegistryHosts {
  std::vector<RegistryHost> hosts;
};

// hosts.toml: `server`, [host."URL"] with capabilities, ca, client, skip_verify, override_path and
// [host."URL".header]. InvalidArgument "line N: ..." for what is not TOML or a key that is not known.
// `domain` of the reference: its own server when the file names none. Relative files lie in `dir`.
absl::StatusOr<RegistryHosts> ParseHostsToml(std::string_view text, std::string_view domain,
                                             const std::string& dir);
// Without any file: https, plain http for localhost and loopback addresses (port 443 excepted).
RegistryHosts DefaultRegistryHosts(std::string_view domain);
// DIR/DOMAIN/hosts.toml, else DIR/_default/hosts.toml, else the default.
absl::StatusOr<RegistryHosts> LoadRegistryHosts(const std::string& registries_dir, std::string_view domain);

// docker's config.json: entries by registry, longest path prefix first.
class AuthFile {
 public:
  // InvalidArgument names the entry.
  static absl::StatusOr<AuthFile> Parse(std::string_view json);
  // "" or a missing file: empty.
  static absl::StatusOr<AuthFile> Load(const std::string& path);
  // For "docker.io/library/busybox"; "docker.io" finds "https://index.docker.io/v1/" too.
  std::optional<RegistryCredentials> Find(std::string_view name) const;
  // credsStore and credHelpers are set: programs we do not run.
  bool has_helpers() const { return has_helpers_; }
  size_t size() const { return entries_.size(); }

 private:
  std::map<std::string, RegistryCredentials> entries_;
  bool has_helpers_ = false;
};

// HTTP_PROXY, HTTPS_PROXY, NO_PROXY (and in lower case), as curl and Go read them.
struct ProxySettings {
  std::string http_proxy, https_proxy;  // URLs; "" : direct
  std::string no_proxy;                 // "*", names with their sub-domains, addresses, CIDRs, with :PORT
  static ProxySettings FromEnvironment();
};

struct ProxyChoice {
  std::string host;  // "" : direct
  uint16_t port = 0;
  std::string authorization;  // Proxy-Authorization, from user:password in the URL
};
// Loopback is always direct. InvalidArgument for a proxy URL that is not http://.
absl::StatusOr<ProxyChoice> ChooseProxy(const ProxySettings& settings, bool tls, const std::string& host,
                                        uint16_t port);

std::string Base64(std::string_view bytes);

}  // namespace keelson::images
