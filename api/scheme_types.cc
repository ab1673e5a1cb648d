// Written by hack/update-protos; edit that, not this.
#include "api/scheme_types.h"

#include "api/apidiscovery/v2/apidiscovery.pb.h"
#include "api/apps/v1/apps.pb.h"
#include "api/authentication/v1/authentication.pb.h"
#include "api/authorization/v1/authorization.pb.h"
#include "api/autoscaling/v1/autoscaling.pb.h"
#include "api/batch/v1/batch.pb.h"
#include "api/clientauthentication/v1/clientauthentication.pb.h"
#include "api/coordination/v1/coordination.pb.h"
#include "api/core/v1/common.pb.h"
#include "api/core/v1/config.pb.h"
#include "api/core/v1/endpoints.pb.h"
#include "api/core/v1/event.pb.h"
#include "api/core/v1/misc.pb.h"
#include "api/core/v1/namespace.pb.h"
#include "api/core/v1/node.pb.h"
#include "api/core/v1/persistent_volume.pb.h"
#include "api/core/v1/pod.pb.h"
#include "api/core/v1/pod_options.pb.h"
#include "api/core/v1/pod_template.pb.h"
#include "api/core/v1/quota.pb.h"
#include "api/core/v1/replication_controller.pb.h"
#include "api/core/v1/service.pb.h"
#include "api/core/v1/volume.pb.h"
#include "api/discovery/v1/discovery.pb.h"
#include "api/events/v1/events.pb.h"
#include "api/kubeconfig/v1/kubeconfig.pb.h"
#include "api/kubelet/config/v1beta1/kubelet_config.pb.h"
#include "api/meta/v1/discovery.pb.h"
#include "api/meta/v1/meta.pb.h"
#include "api/meta/v1/options.pb.h"
#include "api/meta/v1/status.pb.h"
#include "api/meta/v1/table.pb.h"
#include "api/meta/v1/watch.pb.h"
#include "api/node/v1/node.pb.h"
#include "api/policy/v1/policy.pb.h"
#include "api/rbac/v1/rbac.pb.h"
#include "api/scheduling/v1/scheduling.pb.h"

namespace keelson::api {

const std::vector<KindRow>& KindRows() {
  static const auto* rows = new std::vector<KindRow>{
    {"", "v1", "Pod", "pods", "po", "all", true, &::k8s::core::v1::Pod::default_instance(), &::k8s::core::v1::PodList::default_instance()},
    {"", "v1", "PodList", "", "", "", true, &::k8s::core::v1::PodList::default_instance(), nullptr},
    {"", "v1", "Node", "nodes", "no", "", false, &::k8s::core::v1::Node::default_instance(), &::k8s::core::v1::NodeList::default_instance()},
    {"", "v1", "NodeList", "", "", "", true, &::k8s::core::v1::NodeList::default_instance(), nullptr},
    {"", "v1", "Binding", "", "", "", true, &::k8s::core::v1::Binding::default_instance(), nullptr},
    {"", "v1", "ComponentStatus", "componentstatuses", "cs", "", false, &::k8s::core::v1::ComponentStatus::default_instance(), &::k8s::core::v1::ComponentStatusList::default_instance()},
    {"", "v1", "ComponentStatusList", "", "", "", true, &::k8s::core::v1::ComponentStatusList::default_instance(), nullptr},
    {"", "v1", "RangeAllocation", "", "", "", true, &::k8s::core::v1::RangeAllocation::default_instance(), nullptr},
    {"", "v1", "SerializedReference", "", "", "", true, &::k8s::core::v1::SerializedReference::default_instance(), nullptr},
    {"", "v1", "PersistentVolume", "persistentvolumes", "pv", "", false, &::k8s::core::v1::PersistentVolume::default_instance(), &::k8s::core::v1::PersistentVolumeList::default_instance()},
    {"", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", "pvc", "", true, &::k8s::core::v1::PersistentVolumeClaim::default_instance(), &::k8s::core::v1::PersistentVolumeClaimList::default_instance()},
    {"", "v1", "PersistentVolumeClaimList", "", "", "", true, &::k8s::core::v1::PersistentVolumeClaimList::default_instance(), nullptr},
    {"", "v1", "PersistentVolumeList", "", "", "", true, &::k8s::core::v1::PersistentVolumeList::default_instance(), nullptr},
    {"", "v1", "Service", "services", "svc", "all", true, &::k8s::core::v1::Service::default_instance(), &::k8s::core::v1::ServiceList::default_instance()},
    {"", "v1", "ServiceList", "", "", "", true, &::k8s::core::v1::ServiceList::default_instance(), nullptr},
    {"", "v1", "ConfigMap", "configmaps", "cm", "", true, &::k8s::core::v1::ConfigMap::default_instance(), &::k8s::core::v1::ConfigMapList::default_instance()},
    {"", "v1", "ConfigMapList", "", "", "", true, &::k8s::core::v1::ConfigMapList::default_instance(), nullptr},
    {"", "v1", "Secret", "secrets", "", "", true, &::k8s::core::v1::Secret::default_instance(), &::k8s::core::v1::SecretList::default_instance()},
    {"", "v1", "SecretList", "", "", "", true, &::k8s::core::v1::SecretList::default_instance(), nullptr},
    {"", "v1", "ServiceAccount", "serviceaccounts", "sa", "", true, &::k8s::core::v1::ServiceAccount::default_instance(), &::k8s::core::v1::ServiceAccountList::default_instance()},
    {"", "v1", "ServiceAccountList", "", "", "", true, &::k8s::core::v1::ServiceAccountList::default_instance(), nullptr},
    {"", "v1", "Endpoints", "endpoints", "ep", "", true, &::k8s::core::v1::Endpoints::default_instance(), &::k8s::core::v1::EndpointsList::default_instance()},
    {"", "v1", "EndpointsList", "", "", "", true, &::k8s::core::v1::EndpointsList::default_instance(), nullptr},
    {"", "v1", "Event", "events", "ev", "", true, &::k8s::core::v1::Event::default_instance(), &::k8s::core::v1::EventList::default_instance()},
    {"", "v1", "EventList", "", "", "", true, &::k8s::core::v1::EventList::default_instance(), nullptr},
    {"", "v1", "LimitRange", "limitranges", "limits", "", true, &::k8s::core::v1::LimitRange::default_instance(), &::k8s::core::v1::LimitRangeList::default_instance()},
    {"", "v1", "LimitRangeList", "", "", "", true, &::k8s::core::v1::LimitRangeList::default_instance(), nullptr},
    {"", "v1", "ResourceQuota", "resourcequotas", "quota", "", true, &::k8s::core::v1::ResourceQuota::default_instance(), &::k8s::core::v1::ResourceQuotaList::default_instance()},
    {"", "v1", "ResourceQuotaList", "", "", "", true, &::k8s::core::v1::ResourceQuotaList::default_instance(), nullptr},
    {"", "v1", "Namespace", "namespaces", "ns", "", false, &::k8s::core::v1::Namespace::default_instance(), &::k8s::core::v1::NamespaceList::default_instance()},
    {"", "v1", "NamespaceList", "", "", "", true, &::k8s::core::v1::NamespaceList::default_instance(), nullptr},
    {"", "v1", "NodeProxyOptions", "", "", "", true, &::k8s::core::v1::NodeProxyOptions::default_instance(), nullptr},
    {"", "v1", "PodAttachOptions", "", "", "", true, &::k8s::core::v1::PodAttachOptions::default_instance(), nullptr},
    {"", "v1", "PodExecOptions", "", "", "", true, &::k8s::core::v1::PodExecOptions::default_instance(), nullptr},
    {"", "v1", "PodLogOptions", "", "", "", true, &::k8s::core::v1::PodLogOptions::default_instance(), nullptr},
    {"", "v1", "PodPortForwardOptions", "", "", "", true, &::k8s::core::v1::PodPortForwardOptions::default_instance(), nullptr},
    {"", "v1", "PodProxyOptions", "", "", "", true, &::k8s::core::v1::PodProxyOptions::default_instance(), nullptr},
    {"", "v1", "ServiceProxyOptions", "", "", "", true, &::k8s::core::v1::ServiceProxyOptions::default_instance(), nullptr},
    {"", "v1", "PodTemplate", "podtemplates", "", "", true, &::k8s::core::v1::PodTemplate::default_instance(), &::k8s::core::v1::PodTemplateList::default_instance()},
    {"", "v1", "PodTemplateList", "", "", "", true, &::k8s::core::v1::PodTemplateList::default_instance(), nullptr},
    {"", "v1", "ReplicationController", "replicationcontrollers", "rc", "all", true, &::k8s::core::v1::ReplicationController::default_instance(), &::k8s::core::v1::ReplicationControllerList::default_instance()},
    {"", "v1", "ReplicationControllerList", "", "", "", true, &::k8s::core::v1::ReplicationControllerList::default_instance(), nullptr},
    {"apps", "v1", "ControllerRevision", "controllerrevisions", "", "", true, &::k8s::apps::v1::ControllerRevision::default_instance(), &::k8s::apps::v1::ControllerRevisionList::default_instance()},
    {"apps", "v1", "ControllerRevisionList", "", "", "", true, &::k8s::apps::v1::ControllerRevisionList::default_instance(), nullptr},
    {"apps", "v1", "DaemonSet", "daemonsets", "ds", "all", true, &::k8s::apps::v1::DaemonSet::default_instance(), &::k8s::apps::v1::DaemonSetList::default_instance()},
    {"apps", "v1", "DaemonSetList", "", "", "", true, &::k8s::apps::v1::DaemonSetList::default_instance(), nullptr},
    {"apps", "v1", "Deployment", "deployments", "deploy", "all", true, &::k8s::apps::v1::Deployment::default_instance(), &::k8s::apps::v1::DeploymentList::default_instance()},
    {"apps", "v1", "DeploymentList", "", "", "", true, &::k8s::apps::v1::DeploymentList::default_instance(), nullptr},
    {"apps", "v1", "ReplicaSet", "replicasets", "rs", "all", true, &::k8s::apps::v1::ReplicaSet::default_instance(), &::k8s::apps::v1::ReplicaSetList::default_instance()},
    {"apps", "v1", "ReplicaSetList", "", "", "", true, &::k8s::apps::v1::ReplicaSetList::default_instance(), nullptr},
    {"apps", "v1", "StatefulSet", "statefulsets", "sts", "all", true, &::k8s::apps::v1::StatefulSet::default_instance(), &::k8s::apps::v1::StatefulSetList::default_instance()},
    {"apps", "v1", "StatefulSetList", "", "", "", true, &::k8s::apps::v1::StatefulSetList::default_instance(), nullptr},
    {"batch", "v1", "CronJob", "cronjobs", "cj", "all", true, &::k8s::batch::v1::CronJob::default_instance(), &::k8s::batch::v1::CronJobList::default_instance()},
    {"batch", "v1", "CronJobList", "", "", "", true, &::k8s::batch::v1::CronJobList::default_instance(), nullptr},
    {"batch", "v1", "Job", "jobs", "", "all", true, &::k8s::batch::v1::Job::default_instance(), &::k8s::batch::v1::JobList::default_instance()},
    {"batch", "v1", "JobList", "", "", "", true, &::k8s::batch::v1::JobList::default_instance(), nullptr},
    {"autoscaling", "v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "hpa", "all", true, &::k8s::autoscaling::v1::HorizontalPodAutoscaler::default_instance(), &::k8s::autoscaling::v1::HorizontalPodAutoscalerList::default_instance()},
    {"autoscaling", "v1", "HorizontalPodAutoscalerList", "", "", "", true, &::k8s::autoscaling::v1::HorizontalPodAutoscalerList::default_instance(), nullptr},
    {"autoscaling", "v1", "Scale", "", "", "", true, &::k8s::autoscaling::v1::Scale::default_instance(), nullptr},
    {"policy", "v1", "Eviction", "", "", "", true, &::k8s::policy::v1::Eviction::default_instance(), nullptr},
    {"policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", "pdb", "", true, &::k8s::policy::v1::PodDisruptionBudget::default_instance(), &::k8s::policy::v1::PodDisruptionBudgetList::default_instance()},
    {"policy", "v1", "PodDisruptionBudgetList", "", "", "", true, &::k8s::policy::v1::PodDisruptionBudgetList::default_instance(), nullptr},
    {"rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", "", "", false, &::k8s::rbac::v1::ClusterRole::default_instance(), &::k8s::rbac::v1::ClusterRoleList::default_instance()},
    {"rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", "", "", false, &::k8s::rbac::v1::ClusterRoleBinding::default_instance(), &::k8s::rbac::v1::ClusterRoleBindingList::default_instance()},
    {"rbac.authorization.k8s.io", "v1", "ClusterRoleBindingList", "", "", "", true, &::k8s::rbac::v1::ClusterRoleBindingList::default_instance(), nullptr},
    {"rbac.authorization.k8s.io", "v1", "ClusterRoleList", "", "", "", true, &::k8s::rbac::v1::ClusterRoleList::default_instance(), nullptr},
    {"rbac.authorization.k8s.io", "v1", "Role", "roles", "", "", true, &::k8s::rbac::v1::Role::default_instance(), &::k8s::rbac::v1::RoleList::default_instance()},
    {"rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", "", "", true, &::k8s::rbac::v1::RoleBinding::default_instance(), &::k8s::rbac::v1::RoleBindingList::default_instance()},
    {"rbac.authorization.k8s.io", "v1", "RoleBindingList", "", "", "", true, &::k8s::rbac::v1::RoleBindingList::default_instance(), nullptr},
    {"rbac.authorization.k8s.io", "v1", "RoleList", "", "", "", true, &::k8s::rbac::v1::RoleList::default_instance(), nullptr},
    {"authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews", "", "", false, &::k8s::authentication::v1::SelfSubjectReview::default_instance(), nullptr},
    {"authentication.k8s.io", "v1", "TokenRequest", "", "", "", true, &::k8s::authentication::v1::TokenRequest::default_instance(), nullptr},
    {"authentication.k8s.io", "v1", "TokenReview", "tokenreviews", "", "", false, &::k8s::authentication::v1::TokenReview::default_instance(), nullptr},
    {"authorization.k8s.io", "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews", "", "", true, &::k8s::authorization::v1::LocalSubjectAccessReview::default_instance(), nullptr},
    {"authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", "", "", false, &::k8s::authorization::v1::SelfSubjectAccessReview::default_instance(), nullptr},
    {"authorization.k8s.io", "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews", "", "", false, &::k8s::authorization::v1::SelfSubjectRulesReview::default_instance(), nullptr},
    {"authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews", "", "", false, &::k8s::authorization::v1::SubjectAccessReview::default_instance(), nullptr},
    {"coordination.k8s.io", "v1", "Lease", "leases", "", "", true, &::k8s::coordination::v1::Lease::default_instance(), &::k8s::coordination::v1::LeaseList::default_instance()},
    {"coordination.k8s.io", "v1", "LeaseList", "", "", "", true, &::k8s::coordination::v1::LeaseList::default_instance(), nullptr},
    {"discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", "", "", true, &::k8s::discovery::v1::EndpointSlice::default_instance(), &::k8s::discovery::v1::EndpointSliceList::default_instance()},
    {"discovery.k8s.io", "v1", "EndpointSliceList", "", "", "", true, &::k8s::discovery::v1::EndpointSliceList::default_instance(), nullptr},
    {"events.k8s.io", "v1", "Event", "events", "ev", "", true, &::k8s::events::v1::Event::default_instance(), &::k8s::events::v1::EventList::default_instance()},
    {"events.k8s.io", "v1", "EventList", "", "", "", true, &::k8s::events::v1::EventList::default_instance(), nullptr},
    {"node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", "", "", false, &::k8s::node::v1::RuntimeClass::default_instance(), &::k8s::node::v1::RuntimeClassList::default_instance()},
    {"node.k8s.io", "v1", "RuntimeClassList", "", "", "", true, &::k8s::node::v1::RuntimeClassList::default_instance(), nullptr},
    {"scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", "pc", "", false, &::k8s::scheduling::v1::PriorityClass::default_instance(), &::k8s::scheduling::v1::PriorityClassList::default_instance()},
    {"scheduling.k8s.io", "v1", "PriorityClassList", "", "", "", true, &::k8s::scheduling::v1::PriorityClassList::default_instance(), nullptr},
    {"", "v1", "APIGroup", "", "", "", true, &::k8s::meta::v1::APIGroup::default_instance(), &::k8s::meta::v1::APIGroupList::default_instance()},
    {"", "v1", "APIGroupList", "", "", "", true, &::k8s::meta::v1::APIGroupList::default_instance(), nullptr},
    {"", "v1", "APIResourceList", "", "", "", true, &::k8s::meta::v1::APIResourceList::default_instance(), nullptr},
    {"", "v1", "APIVersions", "", "", "", true, &::k8s::meta::v1::APIVersions::default_instance(), nullptr},
    {"", "v1", "ApplyOptions", "", "", "", true, &::k8s::meta::v1::ApplyOptions::default_instance(), nullptr},
    {"", "v1", "CreateOptions", "", "", "", true, &::k8s::meta::v1::CreateOptions::default_instance(), nullptr},
    {"", "v1", "DeleteOptions", "", "", "", true, &::k8s::meta::v1::DeleteOptions::default_instance(), nullptr},
    {"", "v1", "GetOptions", "", "", "", true, &::k8s::meta::v1::GetOptions::default_instance(), nullptr},
    {"", "v1", "ListOptions", "", "", "", true, &::k8s::meta::v1::ListOptions::default_instance(), nullptr},
    {"", "v1", "PatchOptions", "", "", "", true, &::k8s::meta::v1::PatchOptions::default_instance(), nullptr},
    {"meta.k8s.io", "v1", "TableOptions", "", "", "", true, &::k8s::meta::v1::TableOptions::default_instance(), nullptr},
    {"", "v1", "UpdateOptions", "", "", "", true, &::k8s::meta::v1::UpdateOptions::default_instance(), nullptr},
    {"", "v1", "List", "", "", "", true, &::k8s::meta::v1::List::default_instance(), nullptr},
    {"meta.k8s.io", "v1", "PartialObjectMetadata", "", "", "", true, &::k8s::meta::v1::PartialObjectMetadata::default_instance(), &::k8s::meta::v1::PartialObjectMetadataList::default_instance()},
    {"meta.k8s.io", "v1", "PartialObjectMetadataList", "", "", "", true, &::k8s::meta::v1::PartialObjectMetadataList::default_instance(), nullptr},
    {"meta.k8s.io", "v1", "Table", "", "", "", true, &::k8s::meta::v1::Table::default_instance(), nullptr},
    {"", "v1", "Status", "", "", "", true, &::k8s::meta::v1::Status::default_instance(), nullptr},
    {"kubelet.config.k8s.io", "v1beta1", "KubeletConfiguration", "", "", "", true, &::k8s::kubelet::config::v1beta1::KubeletConfiguration::default_instance(), nullptr},
    {"client.authentication.k8s.io", "v1", "ExecCredential", "", "", "", true, &::k8s::clientauthentication::v1::ExecCredential::default_instance(), nullptr},
    {"apidiscovery.k8s.io", "v2", "APIGroupDiscovery", "", "", "", true, &::k8s::apidiscovery::v2::APIGroupDiscovery::default_instance(), &::k8s::apidiscovery::v2::APIGroupDiscoveryList::default_instance()},
    {"apidiscovery.k8s.io", "v2", "APIGroupDiscoveryList", "", "", "", true, &::k8s::apidiscovery::v2::APIGroupDiscoveryList::default_instance(), nullptr},
  };
  return *rows;
}

#define KEELSON_MAP(message, number, name) \
  MakeMapRow<message, &message::name, &message::mutable_##name>(message::descriptor(), number)

const std::vector<MapRow>& MapRows() {
  static const auto* rows = new std::vector<MapRow>{
      KEELSON_MAP(::k8s::core::v1::CSIVolumeSource, 4, volume_attributes),
      KEELSON_MAP(::k8s::core::v1::FlexVolumeSource, 5, options),
      KEELSON_MAP(::k8s::core::v1::PodCertificateProjection, 7, user_annotations),
      KEELSON_MAP(::k8s::core::v1::ContainerStatus, 10, allocated_resources),
      KEELSON_MAP(::k8s::core::v1::PodSpec, 7, node_selector),
      KEELSON_MAP(::k8s::core::v1::PodSpec, 32, overhead),
      KEELSON_MAP(::k8s::core::v1::PodStatus, 19, allocated_resources),
      KEELSON_MAP(::k8s::core::v1::NodeStatus, 1, capacity),
      KEELSON_MAP(::k8s::core::v1::NodeStatus, 2, allocatable),
      KEELSON_MAP(::k8s::core::v1::CSIPersistentVolumeSource, 5, volume_attributes),
      KEELSON_MAP(::k8s::core::v1::FlexPersistentVolumeSource, 5, options),
      KEELSON_MAP(::k8s::core::v1::PersistentVolumeClaimStatus, 3, capacity),
      KEELSON_MAP(::k8s::core::v1::PersistentVolumeClaimStatus, 5, allocated_resources),
      KEELSON_MAP(::k8s::core::v1::PersistentVolumeClaimStatus, 7, allocated_resource_statuses),
      KEELSON_MAP(::k8s::core::v1::PersistentVolumeSpec, 1, capacity),
      KEELSON_MAP(::k8s::core::v1::ServiceSpec, 2, selector),
      KEELSON_MAP(::k8s::core::v1::ConfigMap, 2, data),
      KEELSON_MAP(::k8s::core::v1::ConfigMap, 3, binary_data),
      KEELSON_MAP(::k8s::core::v1::Secret, 2, data),
      KEELSON_MAP(::k8s::core::v1::Secret, 4, string_data),
      KEELSON_MAP(::k8s::core::v1::ResourceRequirements, 1, limits),
      KEELSON_MAP(::k8s::core::v1::ResourceRequirements, 2, requests),
      KEELSON_MAP(::k8s::core::v1::VolumeResourceRequirements, 1, limits),
      KEELSON_MAP(::k8s::core::v1::VolumeResourceRequirements, 2, requests),
      KEELSON_MAP(::k8s::core::v1::LimitRangeItem, 2, max),
      KEELSON_MAP(::k8s::core::v1::LimitRangeItem, 3, min),
      KEELSON_MAP(::k8s::core::v1::LimitRangeItem, 4, default_),
      KEELSON_MAP(::k8s::core::v1::LimitRangeItem, 5, default_request),
      KEELSON_MAP(::k8s::core::v1::LimitRangeItem, 6, max_limit_request_ratio),
      KEELSON_MAP(::k8s::core::v1::ResourceQuotaSpec, 1, hard),
      KEELSON_MAP(::k8s::core::v1::ResourceQuotaStatus, 1, hard),
      KEELSON_MAP(::k8s::core::v1::ResourceQuotaStatus, 2, used),
      KEELSON_MAP(::k8s::core::v1::ReplicationControllerSpec, 2, selector),
      KEELSON_MAP(::k8s::policy::v1::PodDisruptionBudgetStatus, 2, disrupted_pods),
      KEELSON_MAP(::k8s::authentication::v1::TokenRequestSpec, 5, attestations),
      KEELSON_MAP(::k8s::authentication::v1::UserInfo, 4, extra),
      KEELSON_MAP(::k8s::authorization::v1::SubjectAccessReviewSpec, 5, extra),
      KEELSON_MAP(::k8s::discovery::v1::Endpoint, 5, deprecated_topology),
      KEELSON_MAP(::k8s::node::v1::Overhead, 1, pod_fixed),
      KEELSON_MAP(::k8s::node::v1::Scheduling, 1, node_selector),
      KEELSON_MAP(::k8s::meta::v1::LabelSelector, 1, match_labels),
      KEELSON_MAP(::k8s::meta::v1::ObjectMeta, 11, labels),
      KEELSON_MAP(::k8s::meta::v1::ObjectMeta, 12, annotations),
      KEELSON_MAP(::k8s::kubelet::config::v1beta1::KubeletConfiguration, 8, static_pod_url_header),
      KEELSON_MAP(::k8s::kubelet::config::v1beta1::KubeletConfiguration, 50, cpu_manager_policy_options),
      KEELSON_MAP(::k8s::kubelet::config::v1beta1::KubeletConfiguration, 55, topology_manager_policy_options),
      KEELSON_MAP(::k8s::kubelet::config::v1beta1::KubeletConfiguration, 56, qos_reserved),
      KEELSON_MAP(::k8s::kubelet::config::v1beta1::KubeletConfiguration, 73, eviction_hard),
      KEELSON_MAP(::k8s::kubelet::config::v1beta1::KubeletConfiguration, 74, eviction_soft),
      KEELSON_MAP(::k8s::kubelet::config::v1beta1::KubeletConfiguration, 75, eviction_soft_grace_period),
      KEELSON_MAP(::k8s::kubelet::config::v1beta1::KubeletConfiguration, 78, eviction_minimum_reclaim),
      KEELSON_MAP(::k8s::kubelet::config::v1beta1::KubeletConfiguration, 86, feature_gates),
      KEELSON_MAP(::k8s::kubelet::config::v1beta1::KubeletConfiguration, 94, system_reserved),
      KEELSON_MAP(::k8s::kubelet::config::v1beta1::KubeletConfiguration, 95, kube_reserved),
      KEELSON_MAP(::k8s::kubelet::config::v1beta1::KubeletConfiguration, 102, default_pod_sysctls),
      KEELSON_MAP(::k8s::kubelet::config::v1beta1::MemoryReservation, 2, limits),
      KEELSON_MAP(::k8s::kubeconfig::v1::AuthInfo, 10, as_user_extra),
      KEELSON_MAP(::k8s::kubeconfig::v1::AuthProviderConfig, 2, config),
  };
  return *rows;
}

}  // namespace keelson::api
