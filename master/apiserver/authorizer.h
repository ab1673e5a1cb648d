// The static authorizer: who may do what, decided from the user's name and groups and the objects of the
// cluster. Pure but for the ClusterReader. Rows of upstream's Node authorizer and of the roles
// system:node-proxier.
#pragma once

#include <absl/status/status.h>

#include <string>
#include <string_view>

#include "master/admission/admission.h"
#include "master/admission/user_info.h"

namespace keelson::api {
class FieldSelector;
}

namespace keelson::master {

struct AuthAttributes {
  const UserInfo* user = nullptr;
  std::string verb;
  // Resource requests; `resource` is "" for the others.
  std::string group, resource, subresource, ns, name;
  std::string node_name;  // that a list's or watch's field selector asks spec.nodeName to be
  std::string path;       // non-resource requests
};

// What a list or watch of all objects by this selector is limited to: "one object by field selector" is how
// clients watch a single secret.
void SetSelected(const api::FieldSelector& fields, AuthAttributes& attributes);

// True when allowed.
bool IsAllowed(const AuthAttributes& attributes, const ClusterReader& cluster);
// Forbidden with upstream's wording, for attributes that are not allowed.
absl::Status ForbiddenError(const AuthAttributes& attributes);

}  // namespace keelson::master
