// Certificates of the cluster: ECDSA P-256 authority and leaf certificates. Time comes from the caller; keys
// and serial numbers from OpenSSL's generator. Private keys are PKCS#8 PEM, unencrypted, files 0600.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace keelson::net {

// NotBefore of what we issue lies this far back, for nodes whose clock is behind.
inline constexpr absl::Duration kCertificateBackdate = absl::Hours(1);
inline constexpr absl::Duration kDefaultCaValidity = absl::Hours(24 * 3650);
inline constexpr absl::Duration kDefaultLeafValidity = absl::Hours(24 * 365);

struct KeyPair {
  std::string certificate_pem;  // leaf first
  std::string private_key_pem;
};

// What to put into a leaf certificate.
struct CertificateSpec {
  std::string common_name;                 // user name of a client
  std::vector<std::string> organizations;  // its groups
  std::vector<std::string> dns_names;      // SAN
  std::vector<std::string> ip_addresses;   // SAN, literals
  bool server = false;                     // extended key usages
  bool client = false;
  absl::Duration validity = kDefaultLeafValidity;  // from now; never beyond the authority's own end
};

struct CertificateInfo {
  std::string common_name;
  std::vector<std::string> organizations;
  std::vector<std::string> dns_names;
  std::vector<std::string> ip_addresses;  // canonical text
  bool is_ca = false;
  bool server = false, client = false;
  absl::Time not_before, not_after;
  std::string issuer_common_name;
  std::string serial_hex;
  std::string fingerprint_sha256;  // lower-case hex of the DER
};

class CertificateAuthority {
 public:
  // Self-signed, path length 0.
  static absl::StatusOr<CertificateAuthority> Create(std::string_view common_name, absl::Time now,
                                                     absl::Duration validity = kDefaultCaValidity);
  // InvalidArgument: not a CA certificate, or the key is another's.
  static absl::StatusOr<CertificateAuthority> Load(KeyPair pair);
  // Files as SaveKeyPair writes them. Missing files: NotFound.
  static absl::StatusOr<CertificateAuthority> LoadFiles(const std::string& cert_path,
                                                        const std::string& key_path);

  absl::StatusOr<KeyPair> Issue(const CertificateSpec& spec, absl::Time now) const;
  const std::string& certificate_pem() const { return pair_.certificate_pem; }
  const KeyPair& pair() const { return pair_; }

 private:
  explicit CertificateAuthority(KeyPair pair) : pair_(std::move(pair)) {}
  KeyPair pair_;
};

// First certificate of the PEM text.
absl::StatusOr<CertificateInfo> ParseCertificate(std::string_view certificate_pem);
// True when less than a third of the lifetime is left, or `spec` names a subject, SAN or usage it lacks.
bool NeedsRenewal(const CertificateInfo& info, absl::Time now);
bool CertificateCovers(const CertificateInfo& info, const CertificateSpec& spec);
// Chain, time and usage. FailedPrecondition with OpenSSL's reason.
enum class CertificateUse { kAny, kServer, kClient };
absl::Status VerifyCertificate(std::string_view certificate_pem, std::string_view ca_pem, absl::Time now,
                               CertificateUse use = CertificateUse::kAny);
// InvalidArgument when the private key does not belong to the certificate.
absl::Status CheckKeyPair(const KeyPair& pair);

// Key first (0600), then the certificate (0644), each atomically and durably; folders are made (0700 for the
// key's).
absl::Status SaveKeyPair(const KeyPair& pair, const std::string& cert_path, const std::string& key_path);
// NotFound when either is missing; InvalidArgument when they do not belong together.
absl::StatusOr<KeyPair> LoadKeyPair(const std::string& cert_path, const std::string& key_path);
// A fresh P-256 private key (service-account signing).
absl::StatusOr<std::string> GeneratePrivateKeyPem();

}  // namespace keelson::net
