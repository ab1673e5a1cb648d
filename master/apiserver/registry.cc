#include "master/apiserver/registry.h"

#include <google/protobuf/descriptor.h>

#include <algorithm>

#include "api/authentication/v1/authentication.pb.h"
#include "api/authorization/v1/authorization.pb.h"
#include "api/certificates/v1/certificates.pb.h"
#include "api/codec.h"
#include "api/coordination/v1/coordination.pb.h"
#include "api/core/v1/config.pb.h"
#include "api/core/v1/endpoints.pb.h"
#include "api/core/v1/event.pb.h"
#include "api/core/v1/misc.pb.h"
#include "api/core/v1/namespace.pb.h"
#include "api/core/v1/node.pb.h"
#include "api/core/v1/pod.pb.h"
#include "api/core/v1/replication_controller.pb.h"
#include "api/core/v1/service.pb.h"
#include "api/discovery/v1/discovery.pb.h"
#include "api/events/v1/events.pb.h"
#include "api/node/v1/node.pb.h"
#include "api/scheduling/v1/scheduling.pb.h"
#include "api/storage/v1/storage.pb.h"
#include "base/log.h"
#include "base/strings.h"

namespace keelson::master {
namespace {

using api::GroupVersionKind;
using api::Message;
namespace core = ::k8s::core::v1;

std::vector<std::string> AllVerbs() {
  return {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"};
}
std::vector<std::string> StatusVerbs() { return {"get", "patch", "update"}; }

std::string Bool(bool b) { return b ? "true" : "false"; }

std::vector<SelectableField> PodFields() {
  using P = core::Pod;
  return {
      {"spec.nodeName", [](const Message& m) { return To<P>(m).spec().node_name(); }},
      {"spec.restartPolicy", [](const Message& m) { return To<P>(m).spec().restart_policy(); }},
      {"spec.schedulerName", [](const Message& m) { return To<P>(m).spec().scheduler_name(); }},
      {"spec.serviceAccountName", [](const Message& m) { return To<P>(m).spec().service_account_name(); }},
      {"spec.hostNetwork", [](const Message& m) { return Bool(To<P>(m).spec().host_network()); }},
      {"status.phase", [](const Message& m) { return To<P>(m).status().phase(); }},
      {"status.podIP", [](const Message& m) { return To<P>(m).status().pod_ip(); }},
      {"status.nominatedNodeName", [](const Message& m) { return To<P>(m).status().nominated_node_name(); }},
  };
}

std::vector<SelectableField> EventFields() {
  using E = core::Event;
  return {
      {"involvedObject.kind", [](const Message& m) { return To<E>(m).involved_object().kind(); }},
      {"involvedObject.namespace", [](const Message& m) { return To<E>(m).involved_object().namespace_(); }},
      {"involvedObject.name", [](const Message& m) { return To<E>(m).involved_object().name(); }},
      {"involvedObject.uid", [](const Message& m) { return To<E>(m).involved_object().uid(); }},
      {"involvedObject.apiVersion",
       [](const Message& m) { return To<E>(m).involved_object().api_version(); }},
      {"involvedObject.resourceVersion",
       [](const Message& m) { return To<E>(m).involved_object().resource_version(); }},
      {"involvedObject.fieldPath", [](const Message& m) { return To<E>(m).involved_object().field_path(); }},
      {"reason", [](const Message& m) { return To<E>(m).reason(); }},
      {"reportingComponent", [](const Message& m) { return To<E>(m).reporting_component(); }},
      {"source",
       [](const Message& m) {
         const auto& e = To<E>(m);
         return e.source().component().empty() ? e.reporting_component() : e.source().component();
       }},
      {"type", [](const Message& m) { return To<E>(m).type(); }},
  };
}

}  // namespace

bool ResourceInfo::HasVerb(std::string_view verb) const {
  return std::find(verbs.begin(), verbs.end(), verb) != verbs.end();
}

const Subresource* ResourceInfo::FindSubresource(std::string_view name) const {
  for (const Subresource& sub : subresources) {
    if (sub.name == name) return &sub;
  }
  return nullptr;
}

std::string ResourceInfo::NamespacePrefix(std::string_view ns) const {
  if (ns.empty() || !type->namespaced) return storage_prefix;
  return StrCat(storage_prefix, ns, "/");
}

std::string ResourceInfo::StorageKey(std::string_view ns, std::string_view name) const {
  return StrCat(NamespacePrefix(ns), name);
}

const Registry& Registry::Get() {
  static const Registry* registry = new Registry;
  return *registry;
}

const ResourceInfo* Registry::Find(const api::GroupVersionResource& gvr) const {
  for (const auto& row : rows_) {
    if (row->type->plural == gvr.resource && row->type->gvk.group == gvr.group &&
        row->type->gvk.version == gvr.version) {
      return row.get();
    }
  }
  return nullptr;
}

const ResourceInfo* Registry::Find(std::string_view group, std::string_view resource) const {
  for (const auto& row : rows_) {
    if (row->type->plural == resource && row->type->gvk.group == group) return row.get();
  }
  return nullptr;
}

ResourceInfo& Registry::Add(const Message& prototype, std::string storage_prefix,
                            std::vector<std::string> verbs) {
  return AddType(api::TypeOf(prototype), std::move(storage_prefix), std::move(verbs));
}

ResourceInfo& Registry::AddType(const api::TypeInfo& type, std::string storage_prefix,
                                std::vector<std::string> verbs) {
  auto row = std::make_unique<ResourceInfo>();
  row->type = &type;
  row->storage = row.get();
  row->storage_prefix = std::move(storage_prefix);
  row->verbs = std::move(verbs);
  if (row->stored()) AddPrinter(*row);
  api::GroupVersion gv{row->type->gvk.group, row->type->gvk.version};
  if (std::find(group_versions_.begin(), group_versions_.end(), gv) == group_versions_.end()) {
    group_versions_.push_back(gv);
  }
  rows_.push_back(std::move(row));
  return *rows_.back();
}

// Rows of one group and version stand together, sorted by name, as discovery lists them.
Registry::Registry() {
  const GroupVersionKind binding{"", "v1", "Binding"};

  // POST /bindings is the scheduler's other spelling of pods/NAME/binding.
  static api::TypeInfo bindings = api::TypeOf(core::Binding::default_instance());
  bindings.plural = "bindings";
  bindings.singular = "binding";
  AddType(bindings, "", {"create"});

  Add(core::ConfigMap::default_instance(), "/registry/configmaps/", AllVerbs());

  ResourceInfo& endpoints =
      Add(core::Endpoints::default_instance(), "/registry/services/endpoints/", AllVerbs());
  (void)endpoints;

  ResourceInfo& events = Add(core::Event::default_instance(), "/registry/events/", AllVerbs());
  events.selectable = EventFields();

  ResourceInfo& namespaces = Add(core::Namespace::default_instance(), "/registry/namespaces/",
                                 {"create", "delete", "get", "list", "patch", "update", "watch"});
  namespaces.prepare_create = PrepareNamespaceCreate;
  namespaces.prepare_update = PrepareNamespaceUpdate;
  namespaces.subresources = {{"finalize", namespaces.type->gvk, {"update"}},
                             {"status", namespaces.type->gvk, StatusVerbs()}};
  namespaces.selectable = {
      {"status.phase", [](const Message& m) { return To<core::Namespace>(m).status().phase(); }},
      {"name", [](const Message& m) { return api::Meta(m).name(); }}};

  ResourceInfo& nodes = Add(core::Node::default_instance(), "/registry/minions/", AllVerbs());
  nodes.create_keeps_status = true;
  nodes.subresources = {{"status", nodes.type->gvk, StatusVerbs()}};
  nodes.selectable = {{"spec.unschedulable",
                       [](const Message& m) { return Bool(To<core::Node>(m).spec().unschedulable()); }}};

  ResourceInfo& pods = Add(core::Pod::default_instance(), "/registry/pods/", AllVerbs());
  pods.prepare_create = PreparePodCreate;
  pods.prepare_update = PreparePodUpdate;
  pods.prepare_status_update = PreparePodStatusUpdate;
  pods.tracks_generation = true;
  pods.returns_deleted_object = true;
  pods.selectable = PodFields();
  pods.subresources = {{"attach", {"", "v1", "PodAttachOptions"}, {"create", "get"}, true},
                       {"binding", binding, {"create"}},
                       {"eviction", {"policy", "v1", "Eviction"}, {"create"}},
                       {"exec", {"", "v1", "PodExecOptions"}, {"create", "get"}, true},
                       {"log", pods.type->gvk, {"get"}},
                       {"portforward", {"", "v1", "PodPortForwardOptions"}, {"create", "get"}, true},
                       {"status", pods.type->gvk, StatusVerbs()}};

  ResourceInfo& rcs =
      Add(core::ReplicationController::default_instance(), "/registry/controllers/", AllVerbs());
  rcs.tracks_generation = true;
  rcs.orphans_by_default = true;
  rcs.subresources = {{"scale", {"autoscaling", "v1", "Scale"}, StatusVerbs()},
                      {"status", rcs.type->gvk, StatusVerbs()}};
  rcs.selectable = {{"status.replicas", [](const Message& m) {
                       return StrCat(To<core::ReplicationController>(m).status().replicas());
                     }}};

  ResourceInfo& secrets = Add(core::Secret::default_instance(), "/registry/secrets/", AllVerbs());
  secrets.prepare_create = PrepareSecretWrite;
  secrets.prepare_update = [](Message& object, const Message&) { PrepareSecretWrite(object); };
  secrets.selectable = {{"type", [](const Message& m) { return To<core::Secret>(m).type(); }}};

  ResourceInfo& accounts =
      Add(core::ServiceAccount::default_instance(), "/registry/serviceaccounts/", AllVerbs());
  accounts.returns_deleted_object = true;

  ResourceInfo& services = Add(core::Service::default_instance(), "/registry/services/specs/", AllVerbs());
  services.returns_deleted_object = true;
  services.subresources = {{"status", services.type->gvk, StatusVerbs()}};
  services.selectable = {
      {"spec.clusterIP", [](const Message& m) { return To<core::Service>(m).spec().cluster_ip(); }},
      {"spec.type", [](const Message& m) { return To<core::Service>(m).spec().type(); }}};

  namespace authn = ::k8s::authentication::v1;
  namespace authz = ::k8s::authorization::v1;
  Add(authn::SelfSubjectReview::default_instance(), "", {"create"});
  Add(authn::TokenReview::default_instance(), "", {"create"});
  Add(authz::LocalSubjectAccessReview::default_instance(), "", {"create"});
  Add(authz::SelfSubjectAccessReview::default_instance(), "", {"create"});
  Add(authz::SubjectAccessReview::default_instance(), "", {"create"});

  // Nobody signs any here: the list is empty, and a kubelet of upstream watches it.
  using CertificateRequest = ::k8s::certificates::v1::PodCertificateRequest;
  ResourceInfo& certificates = Add(CertificateRequest::default_instance(),
                                   "/registry/podcertificaterequests/", {"get", "list", "watch"});
  certificates.selectable = {
      {"spec.nodeName", [](const Message& m) { return To<CertificateRequest>(m).spec().node_name(); }}};

  ResourceInfo& leases =
      Add(::k8s::coordination::v1::Lease::default_instance(), "/registry/leases/", AllVerbs());
  leases.unconditional_update = false;

  Add(::k8s::discovery::v1::EndpointSlice::default_instance(), "/registry/endpointslices/", AllVerbs());

  // The same objects as core/v1 events.
  ResourceInfo& new_events =
      Add(::k8s::events::v1::Event::default_instance(), "/registry/events/", AllVerbs());
  new_events.storage = &events;
  new_events.to_storage = EventToCore;
  new_events.from_storage = EventFromCore;
  new_events.selectable = EventFields();

  Add(::k8s::node::v1::RuntimeClass::default_instance(), "/registry/runtimeclasses/", AllVerbs());

  Add(::k8s::scheduling::v1::PriorityClass::default_instance(), "/registry/priorityclasses/", AllVerbs());

  // A kubelet of upstream is not ready before it has written its CSINode, drivers or not.
  Add(::k8s::storage::v1::CSIDriver::default_instance(), "/registry/csidrivers/", AllVerbs());
  Add(::k8s::storage::v1::CSINode::default_instance(), "/registry/csinodes/", AllVerbs());
}

void CopyTopField(Message& object, const Message& old, const std::string& name) {
  const google::protobuf::FieldDescriptor* field = object.GetDescriptor()->FindFieldByName(name);
  if (field == nullptr || field->is_repeated() || field->message_type() == nullptr) return;
  const google::protobuf::Reflection& reflection = *object.GetReflection();
  if (reflection.HasField(old, field)) {
    reflection.MutableMessage(&object, field)->CopyFrom(reflection.GetMessage(old, field));
  } else {
    reflection.ClearField(&object, field);
  }
}

void ClearTopField(Message& object, const std::string& name) {
  const google::protobuf::FieldDescriptor* field = object.GetDescriptor()->FindFieldByName(name);
  if (field != nullptr) object.GetReflection()->ClearField(&object, field);
}

bool SameTopField(const Message& a, const Message& b, const std::string& name) {
  const google::protobuf::FieldDescriptor* field = a.GetDescriptor()->FindFieldByName(name);
  if (field == nullptr || field->is_repeated() || field->message_type() == nullptr) return true;
  const google::protobuf::Reflection& reflection = *a.GetReflection();
  return api::SameBytes(reflection.GetMessage(a, field), reflection.GetMessage(b, field));
}

}  // namespace keelson::master
