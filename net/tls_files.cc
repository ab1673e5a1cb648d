#include "net/tls_files.h"

#include <utility>

#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"

namespace keelson::net {
namespace {

bool Same(const TlsServerConfig& a, const TlsServerConfig& b) {
  return a.certificate_pem == b.certificate_pem && a.private_key_pem == b.private_key_pem &&
         a.client_ca_pem == b.client_ca_pem && a.client_certificates == b.client_certificates;
}

}  // namespace

absl::Status CheckTlsServerFiles(const TlsServerFiles& files) {
  if (files.certificate_file.empty() != files.private_key_file.empty())
    return absl::InvalidArgumentError("TLS: certificate and private key are given together or not at all");
  if (!files.client_ca_file.empty() && files.certificate_file.empty())
    return absl::InvalidArgumentError("TLS: a client CA needs certificate and private key of the server");
  return absl::OkStatus();
}

absl::StatusOr<TlsServerConfig> ReadTlsServerFiles(const TlsServerFiles& files) {
  TlsServerConfig config;
  ASSIGN_OR_RETURN(config.certificate_pem, ReadFile(files.certificate_file, kMaxPemBytes));
  ASSIGN_OR_RETURN(config.private_key_pem, ReadFile(files.private_key_file, kMaxPemBytes));
  if (!files.client_ca_file.empty()) {
    ASSIGN_OR_RETURN(config.client_ca_pem, ReadFile(files.client_ca_file, kMaxPemBytes));
    config.client_certificates = files.client_certificates;
  }
  return config;
}

absl::StatusOr<TlsClientConfig> ReadTlsClientFiles(const TlsClientFiles& files) {
  TlsClientConfig config;
  if (files.certificate_file.empty() != files.private_key_file.empty())
    return absl::InvalidArgumentError("TLS: certificate and private key are given together or not at all");
  if (!files.ca_file.empty()) {
    ASSIGN_OR_RETURN(config.ca_pem, ReadFile(files.ca_file, kMaxPemBytes));
    if (config.ca_pem.empty()) return absl::InvalidArgumentError(StrCat(files.ca_file, ": is empty"));
  }
  if (!files.certificate_file.empty()) {
    ASSIGN_OR_RETURN(config.certificate_pem, ReadFile(files.certificate_file, kMaxPemBytes));
    ASSIGN_OR_RETURN(config.private_key_pem, ReadFile(files.private_key_file, kMaxPemBytes));
  }
  return config;
}

Task<void> ReloadTls(Clock* clock, std::string name, std::function<absl::StatusOr<TlsServerConfig>()> read,
                     TlsServerConfig in_use, std::function<void(std::shared_ptr<TlsServerContext>)> use) {
  while (true) {
    Task<void> sleep = clock->Sleep(kTlsReloadInterval);
    co_await std::move(sleep);
    absl::StatusOr<TlsServerConfig> config = read();
    if (config.ok() && Same(*config, in_use)) continue;
    std::shared_ptr<TlsServerContext> context;
    absl::Status status = config.status();
    if (status.ok()) {
      auto made = TlsServerContext::Create(*config);
      status = made.status();
      if (made.ok()) context = *std::move(made);
    }
    if (!status.ok()) {
      LogWarning("a renewed certificate cannot be used, the old one stays",
                 {{"server", name}, {"error", status}});
      continue;
    }
    in_use = *std::move(config);
    use(std::move(context));
    LogInfo("serving certificate reloaded", {{"server", name}});
  }
}

}  // namespace keelson::net
