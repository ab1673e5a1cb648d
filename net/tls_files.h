// TLS settings from files, read again when they are renewed: what a server with certificate files of its own
// does.
#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <functional>
#include <memory>
#include <string>

#include "base/env.h"
#include "net/tls.h"

namespace keelson::net {

inline constexpr size_t kMaxPemBytes = 1 << 20;
// How long a renewed certificate may lie unnoticed.
inline constexpr absl::Duration kTlsReloadInterval = absl::Minutes(1);

struct TlsServerFiles {
  std::string certificate_file, private_key_file;
  std::string client_ca_file;  // "": clients show no certificate; else they must, unless
                               // `client_certificates` is less
  ClientCertificates client_certificates = ClientCertificates::kRequired;
};

// InvalidArgument: one of certificate and key without the other, or a client CA without both.
absl::Status CheckTlsServerFiles(const TlsServerFiles& files);
// Errors name the file.
absl::StatusOr<TlsServerConfig> ReadTlsServerFiles(const TlsServerFiles& files);

// A client's, of the same form. Empty: the system's authorities, no certificate of its own.
struct TlsClientFiles {
  std::string ca_file, certificate_file, private_key_file;
};
absl::StatusOr<TlsClientConfig> ReadTlsClientFiles(const TlsClientFiles& files);

// Calls `read` every kTlsReloadInterval and gives `use` a new context whenever the result differs from
// `in_use`. What cannot be read or used (a certificate whose key has not been written yet) is told in the
// log, and the old one stays. `name` is for the log. Runs until cancelled; what is captured must outlive it.
Task<void> ReloadTls(Clock* clock, std::string name, std::function<absl::StatusOr<TlsServerConfig>()> read,
                     TlsServerConfig in_use, std::function<void(std::shared_ptr<TlsServerContext>)> use);

}  // namespace keelson::net
