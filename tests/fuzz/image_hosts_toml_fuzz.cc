// hosts.toml of a registry, and docker's credential file.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "images/registry_config.h"

namespace {

using namespace keelson::images;  // NOLINT

void Require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  auto hosts = ParseHostsToml(text, "registry.example:5000", "/etc/certs.d/x");
  if (hosts.ok()) {
    Require(!hosts->hosts.empty() && hosts->hosts.size() <= kMaxRegistryHosts + 1);
    bool upstream = false;
    for (const RegistryHost& host : hosts->hosts) {
      Require(!host.host.empty() && host.port != 0);
      upstream = upstream || host.upstream;
    }
    Require(upstream);
  }
  auto auth = AuthFile::Parse(text);
  if (auth.ok()) (void)auth->Find("docker.io/library/busybox");
  (void)ChooseProxy({std::string(text), std::string(text), std::string(text)}, true, "host.example", 443)
      .ok();
  return 0;
}
