// TLS settings shared by server and client: OpenSSL behind two immutable, shareable contexts. TLS 1.2 or
// newer, ALPN http/1.1, no session tickets (a reloaded CA takes effect on the next connection).
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <memory>
#include <string>
#include <vector>

struct ssl_ctx_st;

namespace keelson::net {

// What a peer's certificate says.
struct PeerCertificate {
  bool verified = false;                   // chain to our CA bundle, in time, right purpose
  std::string verify_error;                // why not
  std::string common_name;                 // Kubernetes: user name
  std::vector<std::string> organizations;  // Kubernetes: groups
  std::string fingerprint_sha256;          // lower-case hex of the DER
  absl::Time not_after = absl::InfinitePast();
};

enum class ClientCertificates {
  kNone,      // not asked for
  kOptional,  // asked for; one that does not verify still connects with verified == false, so that the
              // caller can answer 401
  kRequired,  // a missing or unverified one fails the handshake
};

struct TlsServerConfig {
  std::string certificate_pem;  // leaf first, then intermediates
  std::string private_key_pem;
  std::string client_ca_pem;  // bundle; needed unless kNone
  ClientCertificates client_certificates = ClientCertificates::kNone;
};

class TlsServerContext {
 public:
  // InvalidArgument names the field that does not parse, or a key that does not fit the certificate.
  static absl::StatusOr<std::shared_ptr<TlsServerContext>> Create(const TlsServerConfig& config);
  ~TlsServerContext();
  ssl_ctx_st* native() const { return context_; }
  ClientCertificates client_certificates() const { return client_certificates_; }

 private:
  TlsServerContext() = default;
  ssl_ctx_st* context_ = nullptr;
  ClientCertificates client_certificates_ = ClientCertificates::kNone;
};

struct TlsClientConfig {
  std::string ca_pem;           // bundle; empty: the system's
  std::string certificate_pem;  // optional client certificate
  std::string private_key_pem;
  bool insecure_skip_verify = false;  // encrypts but does not know to whom
};

class TlsClientContext {
 public:
  static absl::StatusOr<std::shared_ptr<TlsClientContext>> Create(const TlsClientConfig& config);
  ~TlsClientContext();
  ssl_ctx_st* native() const { return context_; }
  bool insecure_skip_verify() const { return insecure_skip_verify_; }

 private:
  TlsClientContext() = default;
  ssl_ctx_st* context_ = nullptr;
  bool insecure_skip_verify_ = false;
};

}  // namespace keelson::net
