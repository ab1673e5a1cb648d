// The configuration of an image from a registry: an error, or a configuration within its bounds from which a
// specification can be made.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "oci/image_config.h"
#include "oci/spec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keelson::oci;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  absl::StatusOr<ImageConfig> config = ParseImageConfig(text);
  if (!config.ok()) return 0;
  for (const std::string& path : config->volumes) {
    const std::string inside = path + "/";
    if (path.size() < 2 || path[0] != '/' || inside.find("/../") != std::string::npos) abort();
  }
  for (const std::string& digest : config->diff_ids) {
    if (digest.find('/') != std::string::npos) abort();
  }
  criv1::ContainerConfig container;
  container.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_pid(
      criv1::CONTAINER);
  criv1::PodSandboxConfig sandbox;
  SpecInput input;
  input.container = &container;
  input.sandbox = &sandbox;
  input.image = *config;
  input.rootfs_path = "/r";
  if (absl::StatusOr<SpecOutput> spec = GenerateSpec(input); spec.ok()) {
    if (spec->args.empty()) abort();
    if (!GenerateExecProcess(spec->config_json, {"sh"}, true).ok()) abort();
  }
  return 0;
}
