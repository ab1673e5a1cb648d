// Namespace: born Active with the "kubernetes" finalizer, which only /finalize removes.
#include "api/core/v1/namespace.pb.h"
#include "master/apiserver/registry.h"

namespace keelson::master {

namespace core = ::k8s::core::v1;

void PrepareNamespaceCreate(api::Message& object) {
  auto& ns = static_cast<core::Namespace&>(object);
  ns.mutable_status()->Clear();
  ns.mutable_status()->set_phase("Active");
  bool has = false;
  for (const std::string& f : ns.spec().finalizers()) has |= f == "kubernetes";
  if (!has) ns.mutable_spec()->add_finalizers("kubernetes");
  (*ns.mutable_metadata()->mutable_labels())["kubernetes.io/metadata.name"] = ns.metadata().name();
}

void PrepareNamespaceUpdate(api::Message& object, const api::Message& old) {
  auto& ns = static_cast<core::Namespace&>(object);
  const auto& before = static_cast<const core::Namespace&>(old);
  *ns.mutable_spec()->mutable_finalizers() = before.spec().finalizers();
  *ns.mutable_status() = before.status();
  (*ns.mutable_metadata()->mutable_labels())["kubernetes.io/metadata.name"] = ns.metadata().name();
}

}  // namespace keelson::master
