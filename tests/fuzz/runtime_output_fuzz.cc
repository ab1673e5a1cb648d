// What an OCI runtime and its monitor print: an image's program name or a hook's output ends up in it. No
// crash, and messages within their bound.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/process.h"
#include "oci/cgroup_view.h"
#include "oci/io.h"
#include "oci/probe.h"
#include "oci/runtime_errors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keelson::oci;
  std::string_view input(reinterpret_cast<const char*>(data), size);
  if (RuntimeMessage(input).size() > kMaxRuntimeMessageBytes) abort();
  for (const char* command : {"create", "exec", "kill"}) {
    if (RuntimeError("crun", command, "id", input).ok()) abort();
  }
  auto message = ParseSyncMessage(input);
  if (message.ok() && message->message.size() > kMaxSyncMessageBytes * 3) abort();
  (void)ListsSeccompNotify(input);
  (void)ParseRuntimeVersion("runc", input);
  (void)KnownVulnerabilities("runc", std::string(input));
  (void)FeaturesOfTrial(input);
  (void)FindCgroupMounts(input);
  (void)keelson::ParseProcessFacts(input);
  (void)DecodeProbe(input);
  return 0;
}
