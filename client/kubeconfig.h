// kubeconfig files (kubeconfig/v1): the current context resolved to an address and credentials, and writing
// one.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>

namespace keelson::client {

// One context, every file reference read in.
struct KubeConfig {
  std::string server;  // https://host:port
  std::string ca_pem;  // certificate-authority(-data); "" : the system's bundle
  std::string tls_server_name;
  bool insecure_skip_tls_verify = false;
  std::string client_certificate_pem, client_key_pem;
  std::string token;       // bearer
  std::string token_file;  // re-read by the client
  std::string ns = "default";
  std::string context, cluster, user;  // names
};

// Reads the file; `context` "" means current-context. InvalidArgument names the field; relative file
// references are resolved against the file's folder.
absl::StatusOr<KubeConfig> LoadKubeConfig(const std::string& path, const std::string& context = "");
absl::StatusOr<KubeConfig> ParseKubeConfig(const std::string& yaml, const std::string& folder,
                                           const std::string& context = "");
// YAML with the certificates inline.
std::string RenderKubeConfig(const KubeConfig& config);
// Mode 0600.
absl::Status WriteKubeConfig(const KubeConfig& config, const std::string& path);

}  // namespace keelson::client
