#include "api/unimplemented_fields.h"

#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <string_view>

#include "api/core/v1/pod.pb.h"
#include "api/validation_internal.h"
#include "base/strings.h"

namespace keelson::api {
namespace {

namespace corev1 = ::k8s::core::v1;
using validation::Child;
using validation::Index;

constexpr std::string_view kVolumes[] = {"hostPath",  "emptyDir",    "secret",
                                         "configMap", "downwardAPI", "projected"};

class Collector {
 public:
  void Ignored(bool set, const std::string& path, std::string_view field) { Note(set, path, field, false); }
  void Refused(bool set, const std::string& path, std::string_view field) { Note(set, path, field, true); }
  std::vector<UnimplementedField> Take() { return std::move(out_); }

 private:
  void Note(bool set, const std::string& path, std::string_view field, bool refused) {
    if (set) out_.push_back({Child(path, field), refused});
  }
  std::vector<UnimplementedField> out_;
};

// TLS and HTTP/2 of probes.
void ProbeFields(const corev1::Probe& probe, const std::string& path, Collector& out) {
  const auto& handler = probe.probe_handler();
  out.Ignored(handler.grpc().has_mode() && handler.grpc().mode() != "Plaintext", path, "grpc.mode");
  out.Ignored(handler.http_get().has_protocol() && handler.http_get().protocol() != "HTTP1", path,
              "httpGet.protocol");
}

void ContainerFields(const corev1::Container& container, const std::string& path, Collector& out) {
  out.Refused(!container.volume_devices().empty(), path, "volumeDevices");
  out.Refused(!container.resources().claims().empty(), path, "resources.claims");
  out.Ignored(!container.resize_policy().empty(), path, "resizePolicy");
  out.Refused(container.security_context().has_windows_options(), path, "securityContext.windowsOptions");
  for (int i = 0; i < container.env_size(); ++i) {
    out.Refused(container.env(i).value_from().has_file_key_ref(),
                Index(Child(path, "env"), static_cast<size_t>(i)), "valueFrom.fileKeyRef");
  }
  for (int i = 0; i < container.volume_mounts_size(); ++i) {
    out.Refused(container.volume_mounts(i).bind_mount_options_size() > 0,
                Index(Child(path, "volumeMounts"), static_cast<size_t>(i)), "bindMountOptions");
  }
  ProbeFields(container.liveness_probe(), Child(path, "livenessProbe"), out);
  ProbeFields(container.readiness_probe(), Child(path, "readinessProbe"), out);
  ProbeFields(container.startup_probe(), Child(path, "startupProbe"), out);
  for (const auto& rule : container.restart_policy_rules()) {
    out.Refused(rule.action() != "Restart", path, StrCat("restartPolicyRules.action: ", rule.action()));
  }
}

void VolumeFields(const corev1::VolumeSource& source, const std::string& path, Collector& out) {
  for (int i = 0; i < source.GetDescriptor()->field_count(); ++i) {
    const auto* field = source.GetDescriptor()->field(i);
    const bool known =
        std::find(std::begin(kVolumes), std::end(kVolumes), field->json_name()) != std::end(kVolumes);
    // The pod waits for such a volume, and for the parts below.
    out.Ignored(!known && source.GetReflection()->HasField(source, field), path, field->json_name());
  }
  const std::string& medium = source.empty_dir().medium();
  out.Ignored(!medium.empty() && medium != "Memory", path, StrCat("emptyDir.medium: ", medium));
  for (int i = 0; i < source.projected().sources_size(); ++i) {
    const corev1::VolumeProjection& part = source.projected().sources(i);
    const std::string here = Index(Child(path, "projected.sources"), static_cast<size_t>(i));
    out.Ignored(part.has_service_account_token(), here, "serviceAccountToken");
    out.Ignored(part.has_cluster_trust_bundle(), here, "clusterTrustBundle");
    out.Ignored(part.has_pod_certificate(), here, "podCertificate");
  }
}

}  // namespace

std::vector<UnimplementedField> UnimplementedPodFields(const corev1::PodSpec& spec, const std::string& path) {
  Collector out;
  out.Refused(!spec.resource_claims().empty(), path, "resourceClaims");
  out.Refused(!spec.os().name().empty() && spec.os().name() != "linux", path, "os.name");
  out.Refused(spec.security_context().has_windows_options(), path, "securityContext.windowsOptions");
  out.Ignored(spec.automount_service_account_token(), path, "automountServiceAccountToken");
  out.Ignored(!spec.topology_spread_constraints().empty(), path, "topologySpreadConstraints");
  out.Ignored(spec.affinity().has_pod_affinity(), path, "affinity.podAffinity");
  out.Ignored(spec.affinity().has_pod_anti_affinity(), path, "affinity.podAntiAffinity");
  out.Ignored(spec.has_scheduling_group(), path, "schedulingGroup");
  out.Ignored(!spec.eviction_responders().empty(), path, "evictionResponders");
  for (int i = 0; i < spec.volumes_size(); ++i) {
    VolumeFields(spec.volumes(i).volume_source(), Index(Child(path, "volumes"), static_cast<size_t>(i)), out);
  }
  for (int i = 0; i < spec.containers_size(); ++i) {
    ContainerFields(spec.containers(i), Index(Child(path, "containers"), static_cast<size_t>(i)), out);
  }
  for (int i = 0; i < spec.init_containers_size(); ++i) {
    ContainerFields(spec.init_containers(i), Index(Child(path, "initContainers"), static_cast<size_t>(i)),
                    out);
  }
  return out.Take();
}

}  // namespace keelson::api
