#include "net/openssl_util.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>

#include <ctime>

#include "base/strings.h"

namespace keelson::net {

std::string OpensslError(std::string_view context) {
  unsigned long code = ERR_peek_last_error();
  ERR_clear_error();
  if (code == 0) return StrCat(context, ": failed");
  const char* reason = ERR_reason_error_string(code);
  return StrCat(context, ": ", reason == nullptr ? "error" : reason);
}

absl::Status OpensslStatus(std::string_view context) { return absl::InternalError(OpensslError(context)); }

BioPtr MemoryBio(std::string_view bytes) {
  return BioPtr(BIO_new_mem_buf(bytes.data(), static_cast<int>(bytes.size())));
}

std::string TakeBio(BIO* bio) {
  char* data = nullptr;
  long size = BIO_get_mem_data(bio, &data);
  return std::string(data, static_cast<size_t>(size));
}

std::vector<X509Ptr> ReadCertificates(std::string_view pem) {
  std::vector<X509Ptr> out;
  BioPtr bio = MemoryBio(pem);
  while (X509* certificate = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr))
    out.emplace_back(certificate);
  ERR_clear_error();
  return out;
}

absl::StatusOr<KeyPtr> ReadPrivateKey(std::string_view pem) {
  BioPtr bio = MemoryBio(pem);
  // An empty password, so that an encrypted key fails instead of asking on the terminal.
  KeyPtr key(PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, const_cast<char*>("")));
  if (key == nullptr) {
    ERR_clear_error();
    return absl::InvalidArgumentError("private key: not a PEM private key");
  }
  return key;
}

namespace {

std::vector<std::string> NameEntries(const X509_NAME* name, int nid) {
  std::vector<std::string> out;
  int index = -1;
  while ((index = X509_NAME_get_index_by_NID(const_cast<X509_NAME*>(name), nid, index)) >= 0) {
    const ASN1_STRING* data = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, index));
    unsigned char* utf8 = nullptr;
    int size = ASN1_STRING_to_UTF8(&utf8, data);
    if (size < 0) continue;
    out.emplace_back(reinterpret_cast<char*>(utf8), static_cast<size_t>(size));
    OPENSSL_free(utf8);
  }
  return out;
}

}  // namespace

std::string SubjectCommonName(const X509_NAME* name) {
  std::vector<std::string> names = NameEntries(name, NID_commonName);
  return names.empty() ? std::string() : names.back();
}

std::vector<std::string> SubjectOrganizations(const X509_NAME* name) {
  return NameEntries(name, NID_organizationName);
}

std::string FingerprintSha256(const X509* certificate) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  if (X509_digest(certificate, EVP_sha256(), digest, &size) != 1) return {};
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (unsigned i = 0; i < size; ++i) {
    out += kHex[digest[i] >> 4];
    out += kHex[digest[i] & 15];
  }
  return out;
}

absl::Time TimeOf(const ASN1_TIME* time) {
  std::tm tm{};
  if (ASN1_TIME_to_tm(time, &tm) != 1) return absl::InfinitePast();
  return absl::FromTimeT(::timegm(&tm));
}

}  // namespace keelson::net
