// The vocabulary of HTTP/1.1 shared by server and client: headers, target, request, body. Pure; no I/O.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "net/tls.h"

namespace keelson::net {

// Immutable bytes shared by many responses (an object's encoding is made once and sent to every watcher).
using SharedBytes = std::shared_ptr<const std::string>;
inline SharedBytes MakeSharedBytes(std::string bytes) {
  return std::make_shared<const std::string>(std::move(bytes));
}

// Header fields in the order they came. Names compare without case.
class HttpHeaders {
 public:
  struct Field {
    std::string name, value;
  };
  HttpHeaders() = default;
  HttpHeaders(std::initializer_list<Field> fields) : fields_(fields) {}

  void Add(std::string name, std::string value) { fields_.push_back({std::move(name), std::move(value)}); }
  // Replaces every field of that name.
  void Set(std::string_view name, std::string value);
  void Remove(std::string_view name);
  bool Has(std::string_view name) const { return Find(name) != nullptr; }
  // First value; empty when absent.
  std::string_view Get(std::string_view name) const;
  const std::string* Find(std::string_view name) const;
  std::vector<std::string_view> GetAll(std::string_view name) const;
  // True when a comma-separated field of that name holds `token` (no case): HasToken("Connection",
  // "upgrade").
  bool HasToken(std::string_view name, std::string_view token) const;
  size_t size() const { return fields_.size(); }
  bool empty() const { return fields_.empty(); }
  std::vector<Field>::const_iterator begin() const { return fields_.begin(); }
  std::vector<Field>::const_iterator end() const { return fields_.end(); }

 private:
  std::vector<Field> fields_;
};

// Decoded query parameters in order; a name may come several times.
class QueryParams {
 public:
  void Add(std::string name, std::string value) { params_.emplace_back(std::move(name), std::move(value)); }
  bool Has(std::string_view name) const;
  // First value; empty when absent.
  std::string_view Get(std::string_view name) const;
  std::vector<std::string_view> GetAll(std::string_view name) const;
  size_t size() const { return params_.size(); }
  bool empty() const { return params_.empty(); }
  std::vector<std::pair<std::string, std::string>>::const_iterator begin() const { return params_.begin(); }
  std::vector<std::pair<std::string, std::string>>::const_iterator end() const { return params_.end(); }
  // "a=b&c=d", percent-encoded; no leading '?'.
  std::string Encode() const;

 private:
  std::vector<std::pair<std::string, std::string>> params_;
};

inline constexpr size_t kMaxTargetBytes = 16 << 10;
inline constexpr size_t kMaxQueryParams = 256;

// A request target split up. "/api/v1/pods?watch=1" or absolute form ("http://h/p?q": scheme and host
// dropped).
struct HttpTarget {
  std::string raw_path;  // as sent, percent-encoded
  std::string path;      // decoded once
  std::string raw_query;
  QueryParams query;  // decoded, '+' is a space

  // InvalidArgument: not starting with '/', bad percent-encoding, NUL or control bytes, over the limits
  // above. Dot segments are not resolved: handlers match literally.
  static absl::StatusOr<HttpTarget> Parse(std::string_view target);
};

// Everything but unreserved characters (RFC 3986 2.3) as %XX. `keep_slash` for whole paths.
std::string PercentEncode(std::string_view text, bool keep_slash = false);
absl::StatusOr<std::string> PercentDecode(std::string_view text, bool plus_is_space = false);

struct HttpRequest {
  std::string method;  // upper case as sent
  HttpTarget target;
  HttpHeaders headers;
  std::string body;          // whole, transfer coding removed, at most max_body_bytes
  std::string peer_address;  // "192.0.2.1:443", "[2001:db8::1]:443", "unix"
  bool tls = false;
  // Null when the client gave no certificate (or no TLS).
  std::shared_ptr<const PeerCertificate> peer_certificate;
};

// A body of one or many pieces, none of them copied before the socket.
class HttpBody {
 public:
  HttpBody() = default;
  HttpBody(std::string bytes) { Append(std::move(bytes)); }    // NOLINT
  HttpBody(const char* bytes) { Append(std::string(bytes)); }  // NOLINT
  HttpBody(SharedBytes bytes) { Append(std::move(bytes)); }    // NOLINT
  void Append(std::string bytes) {
    if (!bytes.empty()) Append(MakeSharedBytes(std::move(bytes)));
  }
  void Append(SharedBytes bytes) {
    if (bytes != nullptr && !bytes->empty()) {
      std::string_view view = *bytes;
      AppendSlice(std::move(bytes), view);
    }
  }
  // `slice` lies inside *owner, or (owner null) lives forever: literals such as "," between list items.
  void AppendSlice(SharedBytes owner, std::string_view slice) {
    size_bytes_ += slice.size();
    pieces_.push_back({std::move(owner), slice});
  }
  struct Piece {
    SharedBytes owner;
    std::string_view bytes;
  };
  const std::vector<Piece>& pieces() const { return pieces_; }
  size_t size_bytes() const { return size_bytes_; }
  std::string Flatten() const;

 private:
  std::vector<Piece> pieces_;
  size_t size_bytes_ = 0;
};

struct HttpResponse {
  int status = 200;
  HttpHeaders headers;  // Content-Length, Date and Connection are the server's
  HttpBody body;

  HttpResponse() = default;
  HttpResponse(int status_in, std::string_view content_type, HttpBody body_in)
      : status(status_in), body(std::move(body_in)) {
    if (!content_type.empty()) headers.Add("Content-Type", std::string(content_type));
  }
};

// "Not Found" for 404; "Unknown" for codes without a name.
std::string_view HttpReasonPhrase(int status);

// "https://[::1]:6443/base?x=y" taken apart.
struct HttpUrl {
  bool tls = false;
  std::string host;    // without brackets
  uint16_t port = 0;   // 80 or 443 when absent
  std::string target;  // "/base?x=y", at least "/"
  // InvalidArgument for other schemes, user info, empty host, bad port.
  static absl::StatusOr<HttpUrl> Parse(std::string_view url);
};

// "host:port", IPv6 in brackets.
std::string JoinHostPort(std::string_view host, uint16_t port);

}  // namespace keelson::net
