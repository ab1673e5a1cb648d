// Admission: what the API server checks and fills in between authorization and storage, independent of the
// verb's own rules. Plugins are named as upstream's. Pure functions of the request and of the objects a
// ClusterReader shows.
#pragma once

#include <absl/functional/function_ref.h>
#include <absl/status/status.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "api/object.h"
#include "api/scheme.h"
#include "master/admission/user_info.h"

namespace keelson::master {

// The account of a pod that names none. A controller makes it in every new namespace.
inline constexpr char kDefaultServiceAccount[] = "default";

enum class Operation { kCreate, kUpdate, kDelete };

// One request as the plugins see it. Pointers are valid during the call only.
struct AdmissionRequest {
  const UserInfo* user = nullptr;
  Operation operation = Operation::kCreate;
  const api::TypeInfo* type = nullptr;  // of the resource (for a subresource: of its parent)
  std::string subresource;
  std::string ns, name;            // name is "" for a create with generateName
  api::Message* object = nullptr;  // create, update: what will be stored; plugins' Admit may change it
  const api::Message* old_object = nullptr;  // update, delete: what is stored

  // True for this core-group or other resource without subresource.
  bool IsResource(std::string_view group, std::string_view resource) const {
    return type->gvk.group == group && type->plural == resource;
  }
};

// Current objects, served from the watch caches without waiting.
class ClusterReader {
 public:
  virtual ~ClusterReader() = default;
  // Null when absent or not served.
  virtual api::ObjectPtr Read(std::string_view group, std::string_view resource, std::string_view ns,
                              std::string_view name) const = 0;
  // Every object of the resource, in key order, until `visit` returns false. `ns` "": all namespaces.
  virtual void ForEach(std::string_view group, std::string_view resource, std::string_view ns,
                       absl::FunctionRef<bool(const api::Message&)> visit) const = 0;
};

class AdmissionPlugin {
 public:
  virtual ~AdmissionPlugin() = default;
  virtual std::string_view name() const = 0;
  // May change request.object. An error ends the request and carries its own meta.v1.Status.
  virtual absl::Status Admit(AdmissionRequest& request, const ClusterReader& cluster) const;
  // Runs after the object is complete and valid; must not change it.
  virtual absl::Status Validate(const AdmissionRequest& request, const ClusterReader& cluster) const;
};

// Plugins in a fixed order.
class AdmissionChain {
 public:
  explicit AdmissionChain(std::vector<std::unique_ptr<AdmissionPlugin>> plugins)
      : plugins_(std::move(plugins)) {}
  absl::Status Admit(AdmissionRequest& request, const ClusterReader& cluster) const;
  absl::Status Validate(const AdmissionRequest& request, const ClusterReader& cluster) const;
  std::vector<std::string_view> names() const;

 private:
  std::vector<std::unique_ptr<AdmissionPlugin>> plugins_;
};

// One factory per plugin file.
std::unique_ptr<AdmissionPlugin> NewNamespaceLifecycle();
std::unique_ptr<AdmissionPlugin> NewServiceAccountDefault();
std::unique_ptr<AdmissionPlugin> NewNodeRestriction();
std::unique_ptr<AdmissionPlugin> NewTaintNodesByCondition();
std::unique_ptr<AdmissionPlugin> NewPriority();
std::unique_ptr<AdmissionPlugin> NewRuntimeClass();
std::unique_ptr<AdmissionPlugin> NewDefaultTolerationSeconds();

// All of them in upstream's order.
AdmissionChain DefaultAdmissionChain();

}  // namespace keelson::master
