// Network configurations: what an administrator or a network add-on wrote into the configuration folder, as
// the plugins get to read it. Pure; JSON texts go in and out, the JSON library stays in the .cc. Source: CNI
// SPEC.md 1.1.0 sections 1 (configuration format) and 3 (deriving what a plugin executes).
#pragma once

#include <absl/status/statusor.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "cri/cni/cni.h"

namespace keelson::cri {

inline constexpr size_t kMaxCniConfigBytes = 1 << 20;
inline constexpr size_t kMaxCniPlugins = 64;
inline constexpr int kMaxCniJsonDepth = 64;

struct CniPlugin {
  std::string type;  // a file name in a bin dir
  std::set<std::string> capabilities;
  std::string json;  // its object, unaltered
};

struct CniNetwork {
  std::string name, cni_version;
  bool disable_check = false, disable_gc = false;
  std::vector<CniPlugin> plugins;  // at least one
  std::string json;                // the list; a single configuration comes wrapped into one
};

// A conflist, or a single configuration (no "plugins"), which is wrapped. Untrusted: fuzzed. InvalidArgument
// names the field. The highest version of cniVersion and cniVersions that is known here is taken.
absl::StatusOr<CniNetwork> ParseCniNetwork(std::string_view json);

// Whether `version` is at least `other`; both as "1.0.0".
bool CniVersionAtLeast(std::string_view version, std::string_view other);

// Name of a capability argument -> its value as JSON text.
using CniCapabilityArgs = std::map<std::string, std::string>;
CniCapabilityArgs CapabilityArgsOf(const CniAttachment& attachment);

// Standard input of plugin `index`: its own object with cniVersion, name, the runtimeConfig it declared a
// capability for, and the result so far (empty: none). "capabilities" is taken out.
std::string CniPluginInput(const CniNetwork& network, size_t index, const CniCapabilityArgs& args,
                           std::string_view previous_result);
// The same for the GC command (1.1.0): every attachment that is to stay.
struct CniValidAttachment {
  std::string container_id, interface;
};
std::string CniGcInput(const CniNetwork& network, size_t index, const std::vector<CniValidAttachment>& valid);

// And for STATUS (1.1.0).
std::string CniStatusInput(const CniNetwork& network, size_t index);

// What a failing plugin says on standard output.
struct CniPluginError {
  uint32_t code = 0;
  std::string message, details;
};
inline constexpr uint32_t kCniUnknownContainer = 3, kCniInvalidEnvironment = 4, kCniTryAgainLater = 11;
// Untrusted: fuzzed. nullopt-like: code 0 and no message when the text is no error object.
CniPluginError ParseCniError(std::string_view json);

// Refuses what a plugin could mistake: the rules of SPEC.md section 2 (parameters) for container ID and
// interface name; no ';' or '=' in what goes into CNI_ARGS.
absl::Status ValidateCniAttachment(const CniAttachment& attachment);
// "IgnoreUnknown=1;K8S_POD_NAMESPACE=...".
std::string CniArgs(const CniAttachment& attachment);

// Fills the template of a conflist: {{.PodCIDR}} (the first block), {{.Ranges}} (host-local's ranges, one per
// block) and {{.Routes}} (a default route per family). `cidrs`: "10.244.0.0/24" or two, comma-separated.
// InvalidArgument: no CIDR, or the result is no network configuration.
absl::StatusOr<std::string> FillCniTemplate(const std::string& text, const std::string& cidrs);

}  // namespace keelson::cri
