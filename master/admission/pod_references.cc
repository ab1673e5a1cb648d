#include "master/admission/pod_references.h"

#include "api/core/v1/pod.pb.h"

namespace keelson::master {
namespace {

using ::k8s::core::v1::Pod;
using ::k8s::core::v1::VolumeSource;
using Visit = absl::FunctionRef<void(std::string_view resource, std::string_view name)>;

constexpr std::string_view kSecrets = "secrets", kConfigMaps = "configmaps";

void VisitNamed(std::string_view resource, std::string_view name, Visit visit) {
  if (!name.empty()) visit(resource, name);
}

void VisitVolume(const VolumeSource& source, Visit visit) {
  VisitNamed(kSecrets, source.secret().secret_name(), visit);
  VisitNamed(kSecrets, source.azure_file().secret_name(), visit);
  VisitNamed(kSecrets, source.cephfs().secret_ref().name(), visit);
  VisitNamed(kSecrets, source.cinder().secret_ref().name(), visit);
  VisitNamed(kSecrets, source.csi().node_publish_secret_ref().name(), visit);
  VisitNamed(kSecrets, source.flex_volume().secret_ref().name(), visit);
  VisitNamed(kSecrets, source.iscsi().secret_ref().name(), visit);
  VisitNamed(kSecrets, source.rbd().secret_ref().name(), visit);
  VisitNamed(kSecrets, source.scale_io().secret_ref().name(), visit);
  VisitNamed(kSecrets, source.storageos().secret_ref().name(), visit);
  VisitNamed(kConfigMaps, source.config_map().local_object_reference().name(), visit);
  VisitNamed("persistentvolumeclaims", source.persistent_volume_claim().claim_name(), visit);
  for (const auto& part : source.projected().sources()) {
    VisitNamed(kSecrets, part.secret().local_object_reference().name(), visit);
    VisitNamed(kConfigMaps, part.config_map().local_object_reference().name(), visit);
  }
}

template <class AnyContainer>
void VisitContainer(const AnyContainer& container, Visit visit) {
  for (const auto& variable : container.env()) {
    VisitNamed(kSecrets, variable.value_from().secret_key_ref().local_object_reference().name(), visit);
    VisitNamed(kConfigMaps, variable.value_from().config_map_key_ref().local_object_reference().name(),
               visit);
  }
  for (const auto& source : container.env_from()) {
    VisitNamed(kSecrets, source.secret_ref().local_object_reference().name(), visit);
    VisitNamed(kConfigMaps, source.config_map_ref().local_object_reference().name(), visit);
  }
}

}  // namespace

void ForEachReference(const Pod& pod, Visit visit) {
  const auto& spec = pod.spec();
  VisitNamed("serviceaccounts", spec.service_account_name(), visit);
  for (const auto& secret : spec.image_pull_secrets()) VisitNamed(kSecrets, secret.name(), visit);
  for (const auto& volume : spec.volumes()) VisitVolume(volume.volume_source(), visit);
  for (const auto& container : spec.init_containers()) VisitContainer(container, visit);
  for (const auto& container : spec.containers()) VisitContainer(container, visit);
  for (const auto& container : spec.ephemeral_containers()) {
    VisitContainer(container.ephemeral_container_common(), visit);
  }
}

bool IsMirrorPod(const Pod& pod) {
  return pod.metadata().annotations().count("kubernetes.io/config.mirror") != 0;
}

}  // namespace keelson::master
