// What stands in the network configuration folder, what plugins print and what was kept of an attachment. No
// crash; what is accepted keeps its meaning when it is written again, and yields only addresses and names
// that are safe to use.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "cri/cni/config.h"
#include "cri/cni/record.h"
#include "net/address.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keelson::cri;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  if (auto network = ParseCniNetwork(text); network.ok()) {
    auto again = ParseCniNetwork(network->json);
    if (!again.ok() || again->json != network->json || again->cni_version != network->cni_version) abort();
    CniAttachment a{.container_id = "abc", .pod_name = "p", .pod_namespace = "ns"};
    a.port_mappings = {{.host_port = 1, .container_port = 2, .protocol = "tcp", .host_ip = "1.2.3.4"}};
    a.egress_rate_bits = 7;
    for (size_t i = 0; i < network->plugins.size(); ++i) {
      if (network->plugins[i].type.find('/') != std::string::npos || network->plugins[i].type[0] == '.')
        abort();
      // A result that does not parse must not get in.
      for (std::string_view previous : {text, std::string_view()}) {
        std::string input = CniPluginInput(*network, i, CapabilityArgsOf(a), previous);
        if (input.empty() || input[0] != '{' || input.find('\n') != std::string::npos) abort();
      }
      if (CniGcInput(*network, i, {{"abc", "eth0"}}).empty()) abort();
    }
    CniRecord record{.attachment = a, .network = *network};
    if (!DecodeCniRecord(EncodeCniRecord(record)).ok()) abort();
  }
  if (auto result = ParseCniResult(text); result.ok()) {
    for (const std::string& ip : result->ips) {
      auto parsed = keelson::net::IpAddress::Parse(ip);
      if (!parsed.ok() || parsed->is_loopback() || parsed->is_unspecified() || parsed->ToString() != ip)
        abort();
    }
    auto again = ParseCniResult(result->json);
    if (!again.ok() || again->ips != result->ips) abort();
  }
  if (auto record = DecodeCniRecord(text); record.ok()) {
    if (!ValidateCniAttachment(record->attachment).ok()) abort();
    std::string written = EncodeCniRecord(*record);
    auto again = DecodeCniRecord(written);
    if (!again.ok() || EncodeCniRecord(*again) != written) abort();
  }
  CniPluginError error = ParseCniError(text);
  (void)error;
  if (auto filled = FillCniTemplate(std::string(text), "10.244.0.0/24,fd00::/64"); filled.ok()) {
    if (!ParseCniNetwork(*filled).ok()) abort();
  }
  return 0;
}
