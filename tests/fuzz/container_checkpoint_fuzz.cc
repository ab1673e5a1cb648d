// config.dump and spec.dump of a container's checkpoint: an error, or facts within their bounds that are
// written as they were read; a specification is compared with one of ours and with itself.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "cri/server/checkpoint_spec.h"
#include "cri/server/container_checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keelson::cri;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  absl::StatusOr<CheckpointFacts> facts = ParseCheckpointFacts(text);
  if (facts.ok()) {
    if (facts->image_ref.empty() && facts->image_name.empty()) abort();
    if (facts->image_ref.size() > kMaxFactBytes || facts->id.size() > kMaxFactBytes) abort();
    const std::string written = EncodeCheckpointFacts(*facts);
    if (written.size() <= kMaxConfigDumpBytes) {
      absl::StatusOr<CheckpointFacts> again = ParseCheckpointFacts(written);
      if (!again.ok() || EncodeCheckpointFacts(*again) != written) abort();
    }
  }
  absl::StatusOr<std::vector<std::string>> command = CheckpointedCommand(text);
  if (command.ok() && command->empty()) abort();
  runtime::v1::LinuxContainerSecurityContext asked;
  asked.mutable_run_as_group()->set_value(0);
  constexpr std::string_view kOurs =
      R"({"process":{"args":["sh"],"cwd":"/","user":{"uid":0,"gid":0}},"mounts":[{"destination":"/a",)"
      R"("type":"bind"}],"linux":{"namespaces":[{"type":"pid"}]}})";
  (void)CheckSameProcess(asked, text, kOurs).ok();
  if (command.ok() && !CheckSameProcess(asked, text, text).ok()) abort();
  return 0;
}
