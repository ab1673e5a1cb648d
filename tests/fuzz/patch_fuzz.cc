// Any patch of a client. First line: j, m or s for the form; second: the patch; the rest: the object. An
// error, or JSON that a decoder may be given; a merge patch applied to its own result changes nothing.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "api/codec.h"
#include "api/core/v1/pod.pb.h"
#include "api/json_text.h"
#include "api/patch.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keelson::api;
  std::string_view input(reinterpret_cast<const char*>(data), size);
  auto line = [&input] {
    size_t end = input.find('\n');
    std::string_view out = input.substr(0, end);
    input.remove_prefix(end == std::string_view::npos ? input.size() : end + 1);
    return out;
  };
  const std::string_view form = line();
  const std::string_view text = line();
  PatchKind kind = form == "j"   ? PatchKind::kJson
                   : form == "m" ? PatchKind::kMerge
                                 : PatchKind::kStrategicMerge;
  auto patch = Patch::Parse(kind, text);
  if (!patch.ok()) return 0;
  // Apply() is given the server's own encoding, never a client's text.
  static const std::string* const pod = new std::string(
      R"({"kind":"Pod","apiVersion":"v1","metadata":{"name":"p","labels":{"a":"b"}},"spec":{"containers":[{"name":"c",)"
      R"("image":"i","ports":[{"containerPort":80,"protocol":"TCP"}]}],"tolerations":[{"key":"k"}]}})");
  const bool own = CheckJson(input, kMaxJsonDepth);
  const auto& type = *k8s::core::v1::Pod::descriptor();
  auto patched = patch->Apply(own ? std::string(input) : *pod, type);
  // In place, when that way is taken, the outcome is the same.
  k8s::core::v1::Pod before, in_place, decoded;
  std::vector<std::string> strict;
  if (DecodeJsonInto(*pod, before).ok()) in_place = before;
  if (patch->ApplyInPlace(&in_place)) {
    auto general = patch->Apply(EncodeJson(before), type);
    if (!general.ok() || !DecodeJsonInto(*general, decoded, &strict).ok() || !strict.empty()) abort();
    if (SerializeDeterministic(in_place) != SerializeDeterministic(decoded)) abort();
  }
  if (!patched.ok()) return 0;
  if (!CheckJson(*patched, 4 * kMaxJsonDepth)) abort();
  if (kind == PatchKind::kMerge) {
    auto again = patch->Apply(*patched, type);
    if (!again.ok() || *again != *patched) abort();
  }
  (void)DecodeJson(*patched);
  return 0;
}
