#include "oci/capabilities.h"

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>

#include <algorithm>

#include "base/status.h"

namespace keelson::oci {
namespace {

constexpr std::string_view kCapabilitiesField = "security_context.capabilities";

uint64_t Bit(int number) { return uint64_t{1} << number; }

uint64_t DefaultBits() {
  uint64_t bits = 0;
  for (const std::string& name : DefaultCapabilities()) bits |= Bit(CapabilityNumber(name));
  return bits;
}

uint64_t KnownBits(const CapabilityRequest& request) {
  const int count = std::min<int>(static_cast<int>(AllCapabilities().size()), request.last_capability + 1);
  return count >= 64 ? ~uint64_t{0} : Bit(count) - 1;
}

bool IsAll(const std::string& name) { return absl::EqualsIgnoreCase(name, "ALL"); }

template <class Names>
bool HasAll(const Names& names) {
  return std::any_of(names.begin(), names.end(), IsAll);
}

// The bits of `names` without ALL.
template <class Names>
absl::StatusOr<uint64_t> BitsOf(const Names& names, std::string_view field) {
  uint64_t bits = 0;
  for (const std::string& name : names) {
    if (IsAll(name)) continue;
    const int number = CapabilityNumber(name);
    if (number < 0) {
      return absl::InvalidArgumentError(
          StrCat(kCapabilitiesField, ".", field, ": unknown capability \"", name, "\""));
    }
    bits |= Bit(number);
  }
  return bits;
}

std::vector<std::string> Names(uint64_t bits) {
  std::vector<std::string> names;
  for (size_t i = 0; i < AllCapabilities().size(); ++i) {
    if ((bits & Bit(static_cast<int>(i))) != 0) names.push_back(AllCapabilities()[i]);
  }
  return names;
}

CapabilitySets SetsOf(uint64_t bits, uint64_t ambient) {
  CapabilitySets sets;
  sets.bounding = sets.effective = sets.permitted = Names(bits);
  sets.ambient = sets.inheritable = Names(bits & ambient);
  return sets;
}

}  // namespace

const std::vector<std::string>& AllCapabilities() {
  static const auto* const all = new std::vector<std::string>{"CAP_CHOWN",
                                                              "CAP_DAC_OVERRIDE",
                                                              "CAP_DAC_READ_SEARCH",
                                                              "CAP_FOWNER",
                                                              "CAP_FSETID",
                                                              "CAP_KILL",
                                                              "CAP_SETGID",
                                                              "CAP_SETUID",
                                                              "CAP_SETPCAP",
                                                              "CAP_LINUX_IMMUTABLE",
                                                              "CAP_NET_BIND_SERVICE",
                                                              "CAP_NET_BROADCAST",
                                                              "CAP_NET_ADMIN",
                                                              "CAP_NET_RAW",
                                                              "CAP_IPC_LOCK",
                                                              "CAP_IPC_OWNER",
                                                              "CAP_SYS_MODULE",
                                                              "CAP_SYS_RAWIO",
                                                              "CAP_SYS_CHROOT",
                                                              "CAP_SYS_PTRACE",
                                                              "CAP_SYS_PACCT",
                                                              "CAP_SYS_ADMIN",
                                                              "CAP_SYS_BOOT",
                                                              "CAP_SYS_NICE",
                                                              "CAP_SYS_RESOURCE",
                                                              "CAP_SYS_TIME",
                                                              "CAP_SYS_TTY_CONFIG",
                                                              "CAP_MKNOD",
                                                              "CAP_LEASE",
                                                              "CAP_AUDIT_WRITE",
                                                              "CAP_AUDIT_CONTROL",
                                                              "CAP_SETFCAP",
                                                              "CAP_MAC_OVERRIDE",
                                                              "CAP_MAC_ADMIN",
                                                              "CAP_SYSLOG",
                                                              "CAP_WAKE_ALARM",
                                                              "CAP_BLOCK_SUSPEND",
                                                              "CAP_AUDIT_READ",
                                                              "CAP_PERFMON",
                                                              "CAP_BPF",
                                                              "CAP_CHECKPOINT_RESTORE"};
  return *all;
}

const std::vector<std::string>& DefaultCapabilities() {
  static const auto* const defaults = new std::vector<std::string>{
      "CAP_CHOWN",   "CAP_DAC_OVERRIDE", "CAP_FSETID",           "CAP_FOWNER",     "CAP_MKNOD",
      "CAP_NET_RAW", "CAP_SETGID",       "CAP_SETUID",           "CAP_SETFCAP",    "CAP_SETPCAP",
      "CAP_KILL",    "CAP_SYS_CHROOT",   "CAP_NET_BIND_SERVICE", "CAP_AUDIT_WRITE"};
  return *defaults;
}

int CapabilityNumber(std::string_view name) {
  std::string upper = absl::AsciiStrToUpper(Av(name));
  if (!absl::StartsWith(upper, "CAP_")) upper = "CAP_" + upper;
  const std::vector<std::string>& all = AllCapabilities();
  auto it = std::find(all.begin(), all.end(), upper);
  return it == all.end() ? -1 : static_cast<int>(it - all.begin());
}

absl::StatusOr<CapabilitySets> ResolveCapabilities(const CapabilityRequest& request,
                                                   std::vector<std::string>* missing) {
  const uint64_t host = KnownBits(request) & request.host_capabilities;
  if (request.privileged) return SetsOf(host, 0);

  const auto& change = request.change;
  ASSIGN_OR_RETURN(const uint64_t add, BitsOf(change.add_capabilities(), "add_capabilities"));
  ASSIGN_OR_RETURN(const uint64_t drop, BitsOf(change.drop_capabilities(), "drop_capabilities"));
  ASSIGN_OR_RETURN(const uint64_t ambient,
                   BitsOf(change.add_ambient_capabilities(), "add_ambient_capabilities"));
  if (HasAll(change.add_ambient_capabilities())) {
    return absl::InvalidArgumentError(
        StrCat(kCapabilitiesField, ".add_ambient_capabilities: ALL is not taken here"));
  }
  if (const std::vector<std::string> lacking = Names((add | ambient) & ~drop & ~host); !lacking.empty()) {
    return absl::FailedPreconditionError(
        StrCat(kCapabilitiesField, ".add_capabilities: ", lacking.front(), " is not this host's to give"));
  }

  uint64_t bits = DefaultBits();
  if (HasAll(change.add_capabilities())) bits = host;
  if (HasAll(change.drop_capabilities())) bits = 0;
  bits = (bits | add | ambient) & ~drop;
  if (missing != nullptr) *missing = Names(bits & ~host);
  return SetsOf(bits & host, ambient);
}

}  // namespace keelson::oci
