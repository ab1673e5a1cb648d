#include "api/defaults.h"

#include <string>
#include <string_view>

#include "api/core/v1/config.pb.h"
#include "api/core/v1/endpoints.pb.h"
#include "api/core/v1/namespace.pb.h"
#include "api/core/v1/node.pb.h"
#include "api/core/v1/pod.pb.h"
#include "api/core/v1/replication_controller.pb.h"
#include "api/core/v1/service.pb.h"
#include "api/discovery/v1/discovery.pb.h"
#include "api/scheduling/v1/scheduling.pb.h"

namespace keelson::api {

namespace corev1 = ::k8s::core::v1;
namespace discoveryv1 = ::k8s::discovery::v1;

namespace {

constexpr int32_t kDefaultFileMode = 0644;
constexpr int64_t kDefaultGracePeriodS = 30;
constexpr int64_t kDefaultTokenExpirationS = 3600;
constexpr int32_t kDefaultClientIpTimeoutS = 10800;

void SetIfEmpty(std::string* field, std::string_view value) {
  if (field->empty()) *field = std::string(value);
}

// ":latest" or neither tag nor digest: the image may move.
bool IsLatest(std::string_view image) {
  if (image.find('@') != std::string_view::npos) return false;
  size_t slash = image.rfind('/');
  std::string_view last = slash == std::string_view::npos ? image : image.substr(slash + 1);
  size_t colon = last.rfind(':');
  return colon == std::string_view::npos || last.substr(colon + 1) == "latest";
}

void DefaultHttpGet(corev1::HTTPGetAction* get) {
  SetIfEmpty(get->mutable_path(), "/");
  SetIfEmpty(get->mutable_scheme(), "HTTP");
}

void DefaultHandler(corev1::LifecycleHandler* handler) {
  if (handler->has_http_get()) DefaultHttpGet(handler->mutable_http_get());
}

void DefaultProbe(corev1::Probe* probe) {
  if (probe->timeout_seconds() == 0) probe->set_timeout_seconds(1);
  if (probe->period_seconds() == 0) probe->set_period_seconds(10);
  if (probe->success_threshold() == 0) probe->set_success_threshold(1);
  if (probe->failure_threshold() == 0) probe->set_failure_threshold(3);
  corev1::ProbeHandler* handler = probe->mutable_probe_handler();
  if (handler->has_http_get()) DefaultHttpGet(handler->mutable_http_get());
  if (handler->has_grpc() && !handler->grpc().has_service()) handler->mutable_grpc()->set_service("");
}

void DefaultFieldRef(corev1::ObjectFieldSelector* ref) { SetIfEmpty(ref->mutable_api_version(), "v1"); }

// A limit without a request is its own request.
void RequestsFromLimits(corev1::ResourceRequirements* resources) {
  for (const auto& [name, limit] : resources->limits()) {
    resources->mutable_requests()->insert({name, limit});
  }
}

template <class Container>  // Container or EphemeralContainer (its common part has the same fields)
void DefaultContainer(Container* container) {
  SetIfEmpty(container->mutable_image_pull_policy(),
             IsLatest(container->image()) ? "Always" : "IfNotPresent");
  SetIfEmpty(container->mutable_termination_message_path(), "/dev/termination-log");
  SetIfEmpty(container->mutable_termination_message_policy(), "File");
  for (auto& port : *container->mutable_ports()) SetIfEmpty(port.mutable_protocol(), "TCP");
  for (auto& env : *container->mutable_env()) {
    if (env.has_value_from() && env.value_from().has_field_ref()) {
      DefaultFieldRef(env.mutable_value_from()->mutable_field_ref());
    }
  }
  if (container->has_liveness_probe()) DefaultProbe(container->mutable_liveness_probe());
  if (container->has_readiness_probe()) DefaultProbe(container->mutable_readiness_probe());
  if (container->has_startup_probe()) DefaultProbe(container->mutable_startup_probe());
  if (container->has_lifecycle()) {
    if (container->lifecycle().has_post_start())
      DefaultHandler(container->mutable_lifecycle()->mutable_post_start());
    if (container->lifecycle().has_pre_stop())
      DefaultHandler(container->mutable_lifecycle()->mutable_pre_stop());
  }
}

template <class Items>
void DefaultDownwardItems(Items* items) {
  for (auto& item : *items) {
    if (item.has_field_ref()) DefaultFieldRef(item.mutable_field_ref());
  }
}

void DefaultVolume(corev1::Volume* volume) {
  corev1::VolumeSource* source = volume->mutable_volume_source();
  bool any = false;
  const auto* reflection = source->GetReflection();
  for (int i = 0; i < source->GetDescriptor()->field_count(); ++i) {
    any |= reflection->HasField(*source, source->GetDescriptor()->field(i));
  }
  if (!any) source->mutable_empty_dir();
  if (source->has_secret() && !source->secret().has_default_mode()) {
    source->mutable_secret()->set_default_mode(kDefaultFileMode);
  }
  if (source->has_config_map() && !source->config_map().has_default_mode()) {
    source->mutable_config_map()->set_default_mode(kDefaultFileMode);
  }
  if (source->has_host_path() && !source->host_path().has_type()) source->mutable_host_path()->set_type("");
  if (source->has_downward_api()) {
    if (!source->downward_api().has_default_mode())
      source->mutable_downward_api()->set_default_mode(kDefaultFileMode);
    DefaultDownwardItems(source->mutable_downward_api()->mutable_items());
  }
  if (source->has_projected()) {
    if (!source->projected().has_default_mode())
      source->mutable_projected()->set_default_mode(kDefaultFileMode);
    for (auto& projection : *source->mutable_projected()->mutable_sources()) {
      if (projection.has_downward_api())
        DefaultDownwardItems(projection.mutable_downward_api()->mutable_items());
      if (projection.has_service_account_token() &&
          !projection.service_account_token().has_expiration_seconds()) {
        projection.mutable_service_account_token()->set_expiration_seconds(kDefaultTokenExpirationS);
      }
    }
  }
}

void DefaultPodSpec(corev1::PodSpec* spec) {
  SetIfEmpty(spec->mutable_dns_policy(), "ClusterFirst");
  SetIfEmpty(spec->mutable_restart_policy(), "Always");
  SetIfEmpty(spec->mutable_scheduler_name(), "default-scheduler");
  spec->mutable_security_context();
  if (!spec->has_termination_grace_period_seconds())
    spec->set_termination_grace_period_seconds(kDefaultGracePeriodS);
  // The old name mirrors the new one.
  if (spec->service_account_name().empty()) spec->set_service_account_name(spec->service_account());
  spec->set_service_account(spec->service_account_name());
  for (auto& volume : *spec->mutable_volumes()) DefaultVolume(&volume);
  for (auto& container : *spec->mutable_init_containers()) DefaultContainer(&container);
  for (auto& container : *spec->mutable_containers()) DefaultContainer(&container);
  for (auto& ephemeral : *spec->mutable_ephemeral_containers()) {
    DefaultContainer(ephemeral.mutable_ephemeral_container_common());
  }
  if (spec->host_network()) {
    for (auto* containers : {spec->mutable_containers(), spec->mutable_init_containers()}) {
      for (auto& container : *containers) {
        for (auto& port : *container.mutable_ports()) {
          if (port.host_port() == 0) port.set_host_port(port.container_port());
        }
      }
    }
  }
}

void DefaultPod(corev1::Pod* pod) {
  corev1::PodSpec* spec = pod->mutable_spec();
  DefaultPodSpec(spec);
  for (auto& container : *spec->mutable_containers()) RequestsFromLimits(container.mutable_resources());
  for (auto& container : *spec->mutable_init_containers()) RequestsFromLimits(container.mutable_resources());
  if (!spec->has_enable_service_links()) spec->set_enable_service_links(true);
  SetIfEmpty(pod->mutable_status()->mutable_phase(), "Pending");
}

void DefaultReplicationController(corev1::ReplicationController* controller) {
  corev1::ReplicationControllerSpec* spec = controller->mutable_spec();
  if (spec->has_template_()) {
    const auto& labels = spec->template_().metadata().labels();
    if (spec->selector().empty()) *spec->mutable_selector() = labels;
    if (controller->metadata().labels().empty()) *controller->mutable_metadata()->mutable_labels() = labels;
    DefaultPodSpec(spec->mutable_template_()->mutable_spec());
  }
  if (!spec->has_replicas()) spec->set_replicas(1);
}

void DefaultService(corev1::Service* service) {
  corev1::ServiceSpec* spec = service->mutable_spec();
  SetIfEmpty(spec->mutable_session_affinity(), "None");
  if (spec->session_affinity() == "None") spec->clear_session_affinity_config();
  if (spec->session_affinity() == "ClientIP") {
    auto* client_ip = spec->mutable_session_affinity_config()->mutable_client_ip();
    if (!client_ip->has_timeout_seconds()) client_ip->set_timeout_seconds(kDefaultClientIpTimeoutS);
  }
  SetIfEmpty(spec->mutable_type(), "ClusterIP");
  for (auto& port : *spec->mutable_ports()) {
    SetIfEmpty(port.mutable_protocol(), "TCP");
    const auto& target = port.target_port();
    if (target.type() == 0 ? target.int_val() == 0 : target.str_val().empty()) {
      port.mutable_target_port()->Clear();
      port.mutable_target_port()->set_int_val(port.port());
    }
  }
  bool external = spec->type() == "NodePort" || spec->type() == "LoadBalancer" ||
                  (spec->type() == "ClusterIP" && !spec->external_ips().empty());
  if (external) SetIfEmpty(spec->mutable_external_traffic_policy(), "Cluster");
  if (spec->type() != "ExternalName" && !spec->has_internal_traffic_policy()) {
    spec->set_internal_traffic_policy("Cluster");
  }
  if (spec->type() == "LoadBalancer" && !spec->has_allocate_load_balancer_node_ports()) {
    spec->set_allocate_load_balancer_node_ports(true);
  }
}

void DefaultEndpoints(corev1::Endpoints* endpoints) {
  for (auto& subset : *endpoints->mutable_subsets()) {
    for (auto& port : *subset.mutable_ports()) SetIfEmpty(port.mutable_protocol(), "TCP");
  }
}

void DefaultEndpointSlice(discoveryv1::EndpointSlice* slice) {
  for (auto& port : *slice->mutable_ports()) {
    if (!port.has_name()) port.set_name("");
    if (!port.has_protocol()) port.set_protocol("TCP");
  }
}

void DefaultSecret(corev1::Secret* secret) { SetIfEmpty(secret->mutable_type(), "Opaque"); }

void DefaultNamespace(corev1::Namespace* ns) {
  SetIfEmpty(ns->mutable_status()->mutable_phase(), "Active");
  if (!ns->metadata().name().empty()) {
    (*ns->mutable_metadata()->mutable_labels())["kubernetes.io/metadata.name"] = ns->metadata().name();
  }
}

void DefaultNode(corev1::Node* node) {
  if (node->status().allocatable().empty()) {
    *node->mutable_status()->mutable_allocatable() = node->status().capacity();
  }
}

void DefaultPriorityClass(::k8s::scheduling::v1::PriorityClass* c) {
  if (!c->has_preemption_policy()) c->set_preemption_policy("PreemptLowerPriority");
}

template <class T>
bool TryDefault(google::protobuf::Message* object, void (*function)(T*)) {
  if (object->GetDescriptor() != T::descriptor()) return false;
  function(static_cast<T*>(object));
  return true;
}

}  // namespace

void SetDefaults(google::protobuf::Message* object) {
  (void)(TryDefault(object, DefaultPod) || TryDefault(object, DefaultReplicationController) ||
         TryDefault(object, DefaultService) || TryDefault(object, DefaultEndpoints) ||
         TryDefault(object, DefaultEndpointSlice) || TryDefault(object, DefaultSecret) ||
         TryDefault(object, DefaultNamespace) || TryDefault(object, DefaultNode) ||
         TryDefault(object, DefaultPriorityClass));
}

}  // namespace keelson::api
