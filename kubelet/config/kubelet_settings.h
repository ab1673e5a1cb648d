// KubeletSettings: what `keelson kubelet` was told, from upstream's flags and a KubeletConfiguration file
// (kubelet.config.k8s.io/v1beta1), flags winning. Pure but for reading the file.
//
// Unknown keys are refused by name. A field that is set to something other than upstream's default and has no
// effect here is named: in `warnings` where ignoring it harms nobody, as InvalidArgument where it promises
// isolation or security we would not keep.
#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "api/kubelet/config/v1beta1/kubelet_config.pb.h"
#include "base/paths.h"
#include "kubelet/options.h"
#include "net/tls_files.h"

namespace keelson::kubelet {

using KubeletConfiguration = ::k8s::kubelet::config::v1beta1::KubeletConfiguration;

// A flag that stands for a field of KubeletConfiguration.
struct ConfigFlag {
  const char* flag;   // without "--"
  const char* field;  // JSON path: "authentication.x509.clientCAFile"
  const char* help;
};
const std::vector<ConfigFlag>& ConfigFlags();

// A flag upstream takes and we have no use for; said once in the log when given.
struct IgnoredFlag {
  const char* flag;
  const char* why;  // "deprecated", "the runtime decides", ...
};
const std::vector<IgnoredFlag>& IgnoredFlags();

// The command line, unread texts. Lists are comma-separated, maps "k=v,k=v", as upstream.
struct KubeletFlags {
  std::string root;        // keelson's --root
  std::string config;      // KubeletConfiguration file
  std::string config_dir;  // its *.conf drop-ins, merged in name order
  std::string kubeconfig;  // "" : static pods only
  std::string hostname_override;
  std::string node_ip;   // one or two addresses
  std::string root_dir;  // "" : Paths::kubelet_dir
  std::string cert_dir;  // "" : <root_dir>/pki
  std::string node_labels;
  std::string register_with_taints;  // key=value:effect,...
  std::string cloud_provider;
  // keelson's own: how the runtime's streaming server is known, and what it is shown, when its URLs are
  // https.
  std::string runtime_streaming_ca, runtime_streaming_cert, runtime_streaming_key;
  int verbosity = 2;
  std::vector<std::pair<std::string, std::string>> config_values;  // flag of ConfigFlags() -> text
  std::vector<std::string> ignored;                                // flags of IgnoredFlags() that were given
};

struct ServerSettings {
  bool enabled = true;
  std::string address = "0.0.0.0";
  int32_t port = 10250;
  std::string tls_cert_file, tls_private_key_file;  // both "" : self-signed, made in cert_dir
  std::string client_ca_file;                       // "" : nobody is let in but to /healthz
  std::string healthz_address = "127.0.0.1";
  int32_t healthz_port = 10248;                            // 0: off
  bool debugging_handlers = true;                          // /containerLogs, exec and the like
  absl::Duration streaming_idle_timeout = absl::Hours(4);  // of exec, attach and port-forward
  net::TlsClientFiles runtime_tls;                         // towards the runtime's streaming server
};

struct KubeletSettings {
  KubeletOptions options;
  Paths paths;
  ServerSettings server;
  std::string kubeconfig, cert_dir;
  std::string runtime_endpoint, image_endpoint;
  absl::Duration runtime_request_timeout = absl::Minutes(2);
  bool debug_log = false;
  std::vector<std::string> warnings;  // to be logged at start
};

// `host_name` of the machine, used in lower case without --hostname-override. Errors name flag or field.
absl::StatusOr<KubeletSettings> MakeKubeletSettings(const KubeletFlags& flags, std::string_view host_name);

// ---- the steps, for tests ----
absl::StatusOr<KubeletConfiguration> ParseKubeletConfiguration(std::string_view yaml);
// Puts one flag's text into the field it stands for.
absl::Status ApplyConfigFlag(const std::string& flag, const std::string& text, KubeletConfiguration* config);
// Fields set that have no effect; InvalidArgument for those that must not be ignored.
absl::StatusOr<std::vector<std::string>> ReportUnimplemented(const KubeletConfiguration& config);

}  // namespace keelson::kubelet
