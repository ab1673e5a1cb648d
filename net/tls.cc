#include "net/tls.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <cstring>

#include "base/strings.h"
#include "net/openssl_util.h"

namespace keelson::net {

namespace {

constexpr unsigned char kAlpn[] = "\x08http/1.1";
constexpr size_t kAlpnBytes = sizeof kAlpn - 1;
// TLS 1.2 only; 1.3 has its own fixed set.
constexpr char kCiphers[] = "ECDHE+AESGCM:ECDHE+CHACHA20";

int SelectAlpn(SSL*, const unsigned char** out, unsigned char* out_length, const unsigned char* in,
               unsigned in_length, void*) {
  unsigned char* chosen = nullptr;
  int result = SSL_select_next_proto(&chosen, out_length, kAlpn, kAlpnBytes, in, in_length);
  *out = chosen;
  return result == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

// kOptional: the result stays in SSL_get_verify_result for the caller to judge.
int AcceptAnyCertificate(int, X509_STORE_CTX*) { return 1; }

absl::Status UseKeyPair(SSL_CTX* context, const std::string& certificate_pem, const std::string& key_pem) {
  std::vector<X509Ptr> chain = ReadCertificates(certificate_pem);
  if (chain.empty()) return absl::InvalidArgumentError("TLS certificate: no PEM certificate found");
  if (SSL_CTX_use_certificate(context, chain[0].get()) != 1) return OpensslStatus("TLS certificate");
  for (size_t i = 1; i < chain.size(); ++i) {
    if (SSL_CTX_add1_chain_cert(context, chain[i].get()) != 1) return OpensslStatus("TLS certificate chain");
  }
  auto key = ReadPrivateKey(key_pem);
  if (!key.ok()) return key.status();
  if (SSL_CTX_use_PrivateKey(context, key->get()) != 1 || SSL_CTX_check_private_key(context) != 1) {
    ERR_clear_error();
    return absl::InvalidArgumentError("TLS private key does not belong to the certificate");
  }
  return absl::OkStatus();
}

absl::Status AddTrust(SSL_CTX* context, const std::string& ca_pem) {
  std::vector<X509Ptr> authorities = ReadCertificates(ca_pem);
  if (authorities.empty()) return absl::InvalidArgumentError("TLS CA bundle: no PEM certificate found");
  X509_STORE* store = SSL_CTX_get_cert_store(context);
  for (const X509Ptr& authority : authorities) {
    if (X509_STORE_add_cert(store, authority.get()) != 1) return OpensslStatus("TLS CA bundle");
  }
  return absl::OkStatus();
}

void SetCommonOptions(SSL_CTX* context) {
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_cipher_list(context, kCiphers);
  SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET |
                                   SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                SSL_MODE_RELEASE_BUFFERS | SSL_MODE_AUTO_RETRY);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_read_ahead(context, 1);
}

}  // namespace

TlsServerContext::~TlsServerContext() { SSL_CTX_free(context_); }
TlsClientContext::~TlsClientContext() { SSL_CTX_free(context_); }

absl::StatusOr<std::shared_ptr<TlsServerContext>> TlsServerContext::Create(const TlsServerConfig& config) {
  std::shared_ptr<TlsServerContext> out(new TlsServerContext);
  SSL_CTX* context = SSL_CTX_new(TLS_server_method());
  if (context == nullptr) return OpensslStatus("TLS context");
  out->context_ = context;
  out->client_certificates_ = config.client_certificates;
  SetCommonOptions(context);
  SSL_CTX_set_alpn_select_cb(context, &SelectAlpn, nullptr);
  absl::Status status = UseKeyPair(context, config.certificate_pem, config.private_key_pem);
  if (!status.ok()) return status;
  if (config.client_certificates == ClientCertificates::kNone) return out;
  status = AddTrust(context, config.client_ca_pem);
  if (!status.ok()) return status;
  for (const X509Ptr& authority : ReadCertificates(config.client_ca_pem)) {
    SSL_CTX_add_client_CA(context, authority.get());
  }
  if (config.client_certificates == ClientCertificates::kOptional) {
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, &AcceptAnyCertificate);
  } else {
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  }
  return out;
}

absl::StatusOr<std::shared_ptr<TlsClientContext>> TlsClientContext::Create(const TlsClientConfig& config) {
  std::shared_ptr<TlsClientContext> out(new TlsClientContext);
  SSL_CTX* context = SSL_CTX_new(TLS_client_method());
  if (context == nullptr) return OpensslStatus("TLS context");
  out->context_ = context;
  out->insecure_skip_verify_ = config.insecure_skip_verify;
  SetCommonOptions(context);
  SSL_CTX_set_alpn_protos(context, kAlpn, kAlpnBytes);
  if (!config.certificate_pem.empty() || !config.private_key_pem.empty()) {
    absl::Status status = UseKeyPair(context, config.certificate_pem, config.private_key_pem);
    if (!status.ok()) return status;
  }
  if (config.insecure_skip_verify) {
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, nullptr);
    return out;
  }
  if (config.ca_pem.empty()) {
    SSL_CTX_set_default_verify_paths(context);
  } else {
    absl::Status status = AddTrust(context, config.ca_pem);
    if (!status.ok()) return status;
  }
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  return out;
}

}  // namespace keelson::net
