#include "master/controllers/served_resources.h"

#include "api/coordination/v1/coordination.pb.h"
#include "api/core/v1/config.pb.h"
#include "api/core/v1/endpoints.pb.h"
#include "api/core/v1/event.pb.h"
#include "api/core/v1/namespace.pb.h"
#include "api/core/v1/node.pb.h"
#include "api/core/v1/pod.pb.h"
#include "api/core/v1/replication_controller.pb.h"
#include "api/core/v1/service.pb.h"
#include "api/discovery/v1/discovery.pb.h"
#include "api/node/v1/node.pb.h"
#include "api/scheduling/v1/scheduling.pb.h"
#include "api/storage/v1/storage.pb.h"
#include "client/api_client.h"

namespace keelson::master {

namespace corev1 = ::k8s::core::v1;
using client::GvrOf;

std::vector<api::GroupVersionResource> NamespacedResources() {
  return {GvrOf<corev1::ReplicationController>(),
          GvrOf<corev1::Pod>(),
          GvrOf<corev1::Service>(),
          GvrOf<::k8s::discovery::v1::EndpointSlice>(),
          GvrOf<corev1::Endpoints>(),
          GvrOf<corev1::ConfigMap>(),
          GvrOf<corev1::Secret>(),
          GvrOf<corev1::ServiceAccount>(),
          GvrOf<::k8s::coordination::v1::Lease>(),
          GvrOf<corev1::Event>()};
}

namespace {

using Visitor = std::function<void(const api::GroupVersionResource&, client::Informer&)>;

template <class... T>
void VisitAll(client::InformerFactory& informers, const Visitor& visit) {
  (visit(GvrOf<T>(), informers.For<T>()), ...);
}

}  // namespace

void ForEachCollectedInformer(client::InformerFactory& informers, const Visitor& visit) {
  VisitAll<corev1::Namespace, corev1::Node, corev1::ReplicationController, corev1::Pod, corev1::Service,
           corev1::Endpoints, ::k8s::discovery::v1::EndpointSlice, corev1::ConfigMap, corev1::Secret,
           corev1::ServiceAccount, ::k8s::coordination::v1::Lease, ::k8s::node::v1::RuntimeClass,
           ::k8s::scheduling::v1::PriorityClass, ::k8s::storage::v1::CSIDriver, ::k8s::storage::v1::CSINode>(
      informers, visit);
}

}  // namespace keelson::master
