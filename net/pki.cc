#include "net/pki.h"

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <algorithm>

#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"
#include "net/address.h"
#include "net/openssl_util.h"

namespace keelson::net {

namespace {

constexpr size_t kMaxPemBytes = 1 << 20;
constexpr int kSerialBytes = 16;
// X.520 upper bound of a common name or organization; OpenSSL refuses longer ones with an opaque message.
constexpr size_t kMaxNameBytes = 64;

struct ExtensionDelete {
  void operator()(X509_EXTENSION* p) const { X509_EXTENSION_free(p); }
  void operator()(GENERAL_NAMES* p) const { GENERAL_NAMES_free(p); }
  void operator()(EXTENDED_KEY_USAGE* p) const { EXTENDED_KEY_USAGE_free(p); }
  void operator()(ASN1_INTEGER* p) const { ASN1_INTEGER_free(p); }
  void operator()(BIGNUM* p) const { BN_free(p); }
  void operator()(X509_STORE* p) const { X509_STORE_free(p); }
  void operator()(X509_STORE_CTX* p) const { X509_STORE_CTX_free(p); }
};
template <class T>
using Owned = std::unique_ptr<T, ExtensionDelete>;

absl::StatusOr<KeyPtr> GenerateKey() {
  KeyPtr key(EVP_EC_gen("P-256"));
  if (key == nullptr) return OpensslStatus("generate P-256 key");
  return key;
}

absl::StatusOr<std::string> KeyToPem(EVP_PKEY* key) {
  BioPtr bio(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_PKCS8PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) != 1) {
    return OpensslStatus("encode private key");
  }
  return TakeBio(bio.get());
}

absl::StatusOr<std::string> CertificateToPem(X509* certificate) {
  BioPtr bio(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_X509(bio.get(), certificate) != 1) return OpensslStatus("encode certificate");
  return TakeBio(bio.get());
}

absl::Status SetTime(ASN1_TIME* field, absl::Time time) {
  if (ASN1_TIME_set(field, absl::ToTimeT(time)) == nullptr) return OpensslStatus("certificate time");
  return absl::OkStatus();
}

absl::Status SetSerial(X509* certificate) {
  unsigned char bytes[kSerialBytes];
  if (RAND_bytes(bytes, sizeof bytes) != 1) return OpensslStatus("serial number");
  bytes[0] = static_cast<unsigned char>((bytes[0] & 0x7f) | 0x40);  // positive, fixed length
  Owned<BIGNUM> number(BN_bin2bn(bytes, sizeof bytes, nullptr));
  if (BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate)) == nullptr) {
    return OpensslStatus("serial number");
  }
  return absl::OkStatus();
}

absl::Status AddName(X509_NAME* name, const char* field, std::string_view value) {
  if (value.size() > kMaxNameBytes) {
    return absl::InvalidArgumentError(
        StrCat("certificate subject ", field, " over ", kMaxNameBytes, " bytes: ", value));
  }
  if (X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8,
                                 reinterpret_cast<const unsigned char*>(value.data()),
                                 static_cast<int>(value.size()), -1, 0) != 1) {
    return OpensslStatus(StrCat("certificate subject ", field));
  }
  return absl::OkStatus();
}

absl::Status AddExtension(X509* certificate, X509V3_CTX* context, int nid, const std::string& value) {
  Owned<X509_EXTENSION> extension(X509V3_EXT_conf_nid(nullptr, context, nid, value.c_str()));
  if (extension == nullptr || X509_add_ext(certificate, extension.get(), -1) != 1) {
    return OpensslStatus(StrCat("certificate extension ", OBJ_nid2sn(nid)));
  }
  return absl::OkStatus();
}

// Built as structures, never as text: a name with a comma must not become two.
absl::Status AddSubjectAltNames(X509* certificate, const CertificateSpec& spec) {
  if (spec.dns_names.empty() && spec.ip_addresses.empty()) return absl::OkStatus();
  Owned<GENERAL_NAMES> names(GENERAL_NAMES_new());
  for (const std::string& dns : spec.dns_names) {
    if (dns.empty()) return absl::InvalidArgumentError("certificate SAN: empty DNS name");
    ASN1_IA5STRING* text = ASN1_IA5STRING_new();
    ASN1_STRING_set(text, dns.data(), static_cast<int>(dns.size()));
    GENERAL_NAME* name = GENERAL_NAME_new();
    GENERAL_NAME_set0_value(name, GEN_DNS, text);
    sk_GENERAL_NAME_push(names.get(), name);
  }
  for (const std::string& ip : spec.ip_addresses) {
    auto address = IpAddress::Parse(ip);
    if (!address.ok()) return Annotate(address.status(), "certificate SAN");
    std::string bytes = address->ToBytes();
    ASN1_OCTET_STRING* octets = ASN1_OCTET_STRING_new();
    ASN1_OCTET_STRING_set(octets, reinterpret_cast<const unsigned char*>(bytes.data()),
                          static_cast<int>(bytes.size()));
    GENERAL_NAME* name = GENERAL_NAME_new();
    GENERAL_NAME_set0_value(name, GEN_IPADD, octets);
    sk_GENERAL_NAME_push(names.get(), name);
  }
  if (X509_add1_ext_i2d(certificate, NID_subject_alt_name, names.get(), 0, X509V3_ADD_DEFAULT) != 1) {
    return OpensslStatus("certificate SAN");
  }
  return absl::OkStatus();
}

absl::StatusOr<X509Ptr> NewCertificate(EVP_PKEY* public_key, absl::Time not_before, absl::Time not_after) {
  X509Ptr certificate(X509_new());
  if (certificate == nullptr || X509_set_version(certificate.get(), X509_VERSION_3) != 1 ||
      X509_set_pubkey(certificate.get(), public_key) != 1) {
    return OpensslStatus("new certificate");
  }
  RETURN_IF_ERROR(SetSerial(certificate.get()));
  RETURN_IF_ERROR(SetTime(X509_getm_notBefore(certificate.get()), not_before));
  RETURN_IF_ERROR(SetTime(X509_getm_notAfter(certificate.get()), not_after));
  return certificate;
}

absl::StatusOr<X509Ptr> FirstCertificate(std::string_view pem) {
  std::vector<X509Ptr> all = ReadCertificates(pem);
  if (all.empty()) return absl::InvalidArgumentError("no PEM certificate found");
  return std::move(all.front());
}

}  // namespace

absl::StatusOr<std::string> GeneratePrivateKeyPem() {
  ASSIGN_OR_RETURN(KeyPtr key, GenerateKey());
  return KeyToPem(key.get());
}

absl::StatusOr<CertificateAuthority> CertificateAuthority::Create(std::string_view common_name,
                                                                  absl::Time now, absl::Duration validity) {
  ASSIGN_OR_RETURN(KeyPtr key, GenerateKey());
  ASSIGN_OR_RETURN(X509Ptr certificate,
                   NewCertificate(key.get(), now - kCertificateBackdate, now + validity));
  X509* x509 = certificate.get();
  X509_NAME* subject = X509_get_subject_name(x509);
  RETURN_IF_ERROR(AddName(subject, "CN", common_name));
  X509_set_issuer_name(x509, subject);
  X509V3_CTX context;
  X509V3_set_ctx(&context, x509, x509, nullptr, nullptr, 0);
  RETURN_IF_ERROR(AddExtension(x509, &context, NID_basic_constraints, "critical,CA:TRUE,pathlen:0"));
  RETURN_IF_ERROR(
      AddExtension(x509, &context, NID_key_usage, "critical,digitalSignature,keyCertSign,cRLSign"));
  RETURN_IF_ERROR(AddExtension(x509, &context, NID_subject_key_identifier, "hash"));
  if (X509_sign(x509, key.get(), EVP_sha256()) == 0) return OpensslStatus("sign certificate");
  KeyPair pair;
  ASSIGN_OR_RETURN(pair.certificate_pem, CertificateToPem(x509));
  ASSIGN_OR_RETURN(pair.private_key_pem, KeyToPem(key.get()));
  return CertificateAuthority(std::move(pair));
}

absl::StatusOr<CertificateAuthority> CertificateAuthority::Load(KeyPair pair) {
  ASSIGN_OR_RETURN(CertificateInfo info, ParseCertificate(pair.certificate_pem));
  if (!info.is_ca)
    return absl::InvalidArgumentError(StrCat("certificate of ", info.common_name, " is not a CA's"));
  RETURN_IF_ERROR(CheckKeyPair(pair));
  return CertificateAuthority(std::move(pair));
}

absl::StatusOr<CertificateAuthority> CertificateAuthority::LoadFiles(const std::string& cert_path,
                                                                     const std::string& key_path) {
  ASSIGN_OR_RETURN(KeyPair pair, LoadKeyPair(cert_path, key_path));
  auto authority = Load(std::move(pair));
  if (!authority.ok()) return Annotate(authority.status(), cert_path);
  return authority;
}

absl::StatusOr<KeyPair> CertificateAuthority::Issue(const CertificateSpec& spec, absl::Time now) const {
  ASSIGN_OR_RETURN(X509Ptr issuer, FirstCertificate(pair_.certificate_pem));
  ASSIGN_OR_RETURN(KeyPtr issuer_key, ReadPrivateKey(pair_.private_key_pem));
  ASSIGN_OR_RETURN(KeyPtr key, GenerateKey());
  absl::Time not_before = std::max(now - kCertificateBackdate, TimeOf(X509_get0_notBefore(issuer.get())));
  absl::Time not_after = std::min(now + spec.validity, TimeOf(X509_get0_notAfter(issuer.get())));
  ASSIGN_OR_RETURN(X509Ptr certificate, NewCertificate(key.get(), not_before, not_after));
  X509* x509 = certificate.get();
  X509_NAME* subject = X509_get_subject_name(x509);
  for (const std::string& organization : spec.organizations)
    RETURN_IF_ERROR(AddName(subject, "O", organization));
  if (!spec.common_name.empty()) RETURN_IF_ERROR(AddName(subject, "CN", spec.common_name));
  X509_set_issuer_name(x509, X509_get_subject_name(issuer.get()));
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer.get(), x509, nullptr, nullptr, 0);
  RETURN_IF_ERROR(AddExtension(x509, &context, NID_basic_constraints, "critical,CA:FALSE"));
  RETURN_IF_ERROR(AddExtension(x509, &context, NID_key_usage, "critical,digitalSignature"));
  std::string usage = spec.server ? "serverAuth" : "";
  if (spec.client) usage += usage.empty() ? "clientAuth" : ",clientAuth";
  if (!usage.empty()) RETURN_IF_ERROR(AddExtension(x509, &context, NID_ext_key_usage, usage));
  RETURN_IF_ERROR(AddExtension(x509, &context, NID_authority_key_identifier, "keyid"));
  RETURN_IF_ERROR(AddSubjectAltNames(x509, spec));
  if (X509_sign(x509, issuer_key.get(), EVP_sha256()) == 0) return OpensslStatus("sign certificate");
  KeyPair pair;
  ASSIGN_OR_RETURN(pair.certificate_pem, CertificateToPem(x509));
  ASSIGN_OR_RETURN(pair.private_key_pem, KeyToPem(key.get()));
  return pair;
}

namespace {

void ReadAltNames(X509* certificate, CertificateInfo* info) {
  Owned<GENERAL_NAMES> names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    int type = 0;
    const void* value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names.get(), i), &type);
    const auto* text = static_cast<const ASN1_STRING*>(value);
    if (type != GEN_DNS && type != GEN_IPADD) continue;
    std::string_view bytes(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
                           static_cast<size_t>(ASN1_STRING_length(text)));
    if (type == GEN_DNS) {
      info->dns_names.emplace_back(bytes);
    } else if (auto address = IpAddress::FromBytes(bytes); address.ok()) {
      info->ip_addresses.push_back(address->ToString());
    }
  }
}

void ReadUsages(X509* certificate, CertificateInfo* info) {
  Owned<EXTENDED_KEY_USAGE> usages(
      static_cast<EXTENDED_KEY_USAGE*>(X509_get_ext_d2i(certificate, NID_ext_key_usage, nullptr, nullptr)));
  for (int i = 0; usages != nullptr && i < sk_ASN1_OBJECT_num(usages.get()); ++i) {
    int nid = OBJ_obj2nid(sk_ASN1_OBJECT_value(usages.get(), i));
    info->server = info->server || nid == NID_server_auth;
    info->client = info->client || nid == NID_client_auth;
  }
}

bool HasAll(const std::vector<std::string>& have, const std::vector<std::string>& want) {
  return std::all_of(want.begin(), want.end(), [&](const std::string& item) {
    return std::find(have.begin(), have.end(), item) != have.end();
  });
}

}  // namespace

absl::StatusOr<CertificateInfo> ParseCertificate(std::string_view certificate_pem) {
  ASSIGN_OR_RETURN(X509Ptr certificate, FirstCertificate(certificate_pem));
  X509* x509 = certificate.get();
  CertificateInfo info;
  info.common_name = SubjectCommonName(X509_get_subject_name(x509));
  info.organizations = SubjectOrganizations(X509_get_subject_name(x509));
  info.issuer_common_name = SubjectCommonName(X509_get_issuer_name(x509));
  info.is_ca = X509_check_ca(x509) == 1;
  info.not_before = TimeOf(X509_get0_notBefore(x509));
  info.not_after = TimeOf(X509_get0_notAfter(x509));
  info.fingerprint_sha256 = FingerprintSha256(x509);
  Owned<BIGNUM> serial(ASN1_INTEGER_to_BN(X509_get0_serialNumber(x509), nullptr));
  if (char* hex = BN_bn2hex(serial.get())) {
    info.serial_hex = hex;
    OPENSSL_free(hex);
  }
  ReadAltNames(x509, &info);
  ReadUsages(x509, &info);
  ERR_clear_error();
  return info;
}

bool NeedsRenewal(const CertificateInfo& info, absl::Time now) {
  return now < info.not_before || info.not_after - now < (info.not_after - info.not_before) / 3;
}

bool CertificateCovers(const CertificateInfo& info, const CertificateSpec& spec) {
  std::vector<std::string> ips;
  for (const std::string& text : spec.ip_addresses) {
    auto address = IpAddress::Parse(text);
    ips.push_back(address.ok() ? address->ToString() : text);
  }
  return info.common_name == spec.common_name && HasAll(info.organizations, spec.organizations) &&
         HasAll(spec.organizations, info.organizations) && HasAll(info.dns_names, spec.dns_names) &&
         HasAll(info.ip_addresses, ips) && (info.server || !spec.server) && (info.client || !spec.client);
}

absl::Status VerifyCertificate(std::string_view certificate_pem, std::string_view ca_pem, absl::Time now,
                               CertificateUse use) {
  std::vector<X509Ptr> chain = ReadCertificates(certificate_pem);
  if (chain.empty()) return absl::InvalidArgumentError("no PEM certificate found");
  Owned<X509_STORE> store(X509_STORE_new());
  for (const X509Ptr& authority : ReadCertificates(ca_pem)) X509_STORE_add_cert(store.get(), authority.get());
  STACK_OF(X509)* untrusted = sk_X509_new_null();
  for (size_t i = 1; i < chain.size(); ++i) sk_X509_push(untrusted, chain[i].get());
  Owned<X509_STORE_CTX> context(X509_STORE_CTX_new());
  X509_STORE_CTX_init(context.get(), store.get(), chain[0].get(), untrusted);
  X509_STORE_CTX_set_time(context.get(), 0, absl::ToTimeT(now));
  if (use == CertificateUse::kServer) X509_STORE_CTX_set_purpose(context.get(), X509_PURPOSE_SSL_SERVER);
  if (use == CertificateUse::kClient) X509_STORE_CTX_set_purpose(context.get(), X509_PURPOSE_SSL_CLIENT);
  int result = X509_verify_cert(context.get());
  int error = X509_STORE_CTX_get_error(context.get());
  sk_X509_free(untrusted);
  ERR_clear_error();
  if (result == 1) return absl::OkStatus();
  return absl::FailedPreconditionError(StrCat("certificate: ", X509_verify_cert_error_string(error)));
}

absl::Status CheckKeyPair(const KeyPair& pair) {
  ASSIGN_OR_RETURN(X509Ptr certificate, FirstCertificate(pair.certificate_pem));
  ASSIGN_OR_RETURN(KeyPtr key, ReadPrivateKey(pair.private_key_pem));
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    ERR_clear_error();
    return absl::InvalidArgumentError("private key does not belong to the certificate");
  }
  return absl::OkStatus();
}

absl::Status SaveKeyPair(const KeyPair& pair, const std::string& cert_path, const std::string& key_path) {
  RETURN_IF_ERROR(CheckKeyPair(pair));
  auto folder = [](const std::string& path) { return path.substr(0, path.find_last_of('/')); };
  if (key_path.find('/') != std::string::npos) RETURN_IF_ERROR(MakeDirs(folder(key_path), 0700));
  if (cert_path.find('/') != std::string::npos) RETURN_IF_ERROR(MakeDirs(folder(cert_path), 0755));
  RETURN_IF_ERROR(WriteFileAtomic(key_path, pair.private_key_pem, 0600));
  return WriteFileAtomic(cert_path, pair.certificate_pem, 0644);
}

absl::StatusOr<KeyPair> LoadKeyPair(const std::string& cert_path, const std::string& key_path) {
  KeyPair pair;
  ASSIGN_OR_RETURN(pair.certificate_pem, ReadFile(cert_path, kMaxPemBytes));
  ASSIGN_OR_RETURN(pair.private_key_pem, ReadFile(key_path, kMaxPemBytes));
  absl::Status status = CheckKeyPair(pair);
  if (!status.ok()) return Annotate(status, StrCat(cert_path, ", ", key_path));
  return pair;
}

}  // namespace keelson::net
