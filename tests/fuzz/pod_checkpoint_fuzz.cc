// pod.dump of a pod's checkpoint: an error, or facts within their bounds that are written as they were read.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "cri/server/pod_checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keelson::cri;
  absl::StatusOr<PodCheckpointFacts> facts =
      ParsePodFacts(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!facts.ok()) return 0;
  if (facts->containers.empty() || facts->containers.size() > kMaxCheckpointContainers) abort();
  if (EncodePodFacts(*facts).size() > kMaxPodFactsBytes) return 0;  // escapes take more room
  absl::StatusOr<PodCheckpointFacts> again = ParsePodFacts(EncodePodFacts(*facts));
  if (!again.ok() || EncodePodFacts(*again) != EncodePodFacts(*facts)) abort();
  return 0;
}
