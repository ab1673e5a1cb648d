// A CDI specification of a vendor, as YAML or JSON: an error, or devices that can be resolved, applied and
// rendered.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "api/yaml.h"
#include "base/strings.h"
#include "oci/cdi.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keelson;
  using namespace keelson::oci;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)CheckCdiDeviceName(text);
  absl::StatusOr<std::string> json = api::YamlDocumentToJson(text);
  absl::StatusOr<CdiSpec> spec = ParseCdiSpec(json.ok() ? *json : text);
  if (!spec.ok()) return 0;
  std::vector<std::string> names;
  for (const CdiDevice& device : spec->devices) {
    names.push_back(StrCat(spec->kind, "=", device.name));
    if (!CheckCdiDeviceName(names.back()).ok()) abort();
  }
  if (names.empty()) abort();
  absl::StatusOr<CdiEdits> edits = ResolveCdiDevices({{"f", 0, spec}}, {"d"}, names);
  if (!edits.ok()) return absl::IsUnimplemented(edits.status()) ? 0 : (abort(), 0);
  SpecInput input;
  criv1::ContainerConfig container;
  criv1::PodSandboxConfig sandbox;
  container.add_command("x");
  container.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_pid(
      criv1::CONTAINER);
  input.container = &container;
  input.sandbox = &sandbox;
  CdiHostNodes nodes;
  for (const CdiDeviceNode& node : edits->device_nodes) {
    HostDevice device;
    device.path = node.host_path;
    if (node.type != 0) device.type = node.type;
    nodes.emplace(node.host_path, device);
  }
  if (!ApplyCdiEdits(*edits, nodes, &input).ok()) return 0;  // one path, two types
  if (!GenerateSpec(input).ok()) abort();
  return 0;
}
