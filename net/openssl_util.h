// Owners and small readers around OpenSSL. Internal to net/.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace keelson::net {

struct OpensslDelete {
  void operator()(X509* p) const { X509_free(p); }
  void operator()(EVP_PKEY* p) const { EVP_PKEY_free(p); }
  void operator()(BIO* p) const { BIO_free_all(p); }
};
using X509Ptr = std::unique_ptr<X509, OpensslDelete>;
using KeyPtr = std::unique_ptr<EVP_PKEY, OpensslDelete>;
using BioPtr = std::unique_ptr<BIO, OpensslDelete>;

// The newest entry of OpenSSL's error queue as "context: reason"; empties the queue.
std::string OpensslError(std::string_view context);
absl::Status OpensslStatus(std::string_view context);

// All certificates of a PEM text, in order; other blocks are skipped. Stops at the first that does not parse.
std::vector<X509Ptr> ReadCertificates(std::string_view pem);
absl::StatusOr<KeyPtr> ReadPrivateKey(std::string_view pem);
BioPtr MemoryBio(std::string_view bytes);
std::string TakeBio(BIO* bio);

std::string SubjectCommonName(const X509_NAME* name);
std::vector<std::string> SubjectOrganizations(const X509_NAME* name);
std::string FingerprintSha256(const X509* certificate);
absl::Time TimeOf(const ASN1_TIME* time);

}  // namespace keelson::net
