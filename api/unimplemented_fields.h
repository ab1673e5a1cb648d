// The fields of a pod that nothing of ours acts on: the one list behind the API server's warning and the
// kubelet's refusal (docs/compatibility.md, section 7). Pure.
#pragma once

#include <string>
#include <vector>

namespace k8s::core::v1 {
class PodSpec;
}  // namespace k8s::core::v1

namespace keelson::api {

struct UnimplementedField {
  std::string path;  // "spec.containers[0].volumeDevices", with the value where others of the field are fine
  bool refused = false;  // the kubelet does not run the pod; else the pod runs as if the field were not set
};

// Those that are set in `spec`; `path` is where it stands ("spec", "spec.template.spec").
std::vector<UnimplementedField> UnimplementedPodFields(const ::k8s::core::v1::PodSpec& spec,
                                                       const std::string& path);

}  // namespace keelson::api
