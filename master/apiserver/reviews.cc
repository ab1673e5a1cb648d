// Reviews: questions about users answered on the spot, never stored.
#include "api/authentication/v1/authentication.pb.h"
#include "api/authorization/v1/authorization.pb.h"
#include "api/fields.h"
#include "api/status_error.h"
#include "base/strings.h"
#include "master/apiserver/authorizer.h"
#include "master/apiserver/pipeline.h"

namespace keelson::master {
namespace {

namespace authn = ::k8s::authentication::v1;
namespace authz = ::k8s::authorization::v1;

// Requirements that cannot be told by a selector, and a raw one that cannot be read, limit nothing.
api::FieldSelector SelectorOf(const authz::FieldSelectorAttributes& attributes) {
  std::string text = attributes.raw_selector();
  for (const auto& r : attributes.requirements()) {
    if (r.operator_() != "In" || r.values_size() != 1) continue;
    StrAppend(&text, text.empty() ? "" : ",", r.key(), "=", r.values(0));
  }
  return api::FieldSelector::Parse(text).value_or(api::FieldSelector());
}

template <class Spec>
absl::StatusOr<AuthAttributes> AttributesOf(const Spec& spec, const UserInfo* user) {
  AuthAttributes a;
  a.user = user;
  if (spec.has_resource_attributes() == spec.has_non_resource_attributes()) {
    return api::Invalid(
        "authorization.k8s.io", "SubjectAccessReview", "",
        {api::FieldCause("FieldValueInvalid", "spec.resourceAttributes",
                         "Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes "
                         "must be specified")});
  }
  if (spec.has_resource_attributes()) {
    const auto& r = spec.resource_attributes();
    a.verb = r.verb();
    a.group = r.group();
    a.resource = r.resource();
    a.subresource = r.subresource();
    a.ns = r.namespace_();
    a.name = r.name();
    if (a.name.empty() && r.has_field_selector()) SetSelected(SelectorOf(r.field_selector()), a);
  } else {
    a.verb = spec.non_resource_attributes().verb();
    a.path = spec.non_resource_attributes().path();
  }
  return a;
}

template <class Spec>
UserInfo SubjectOf(const Spec& spec) {
  UserInfo user;
  user.name = spec.user();
  user.groups.assign(spec.groups().begin(), spec.groups().end());
  return user;
}

}  // namespace

absl::StatusOr<ApiResult> Pipeline::Review(const ApiRequest& request) {
  std::shared_ptr<api::Message> object = api::CloneMessage(*request.object);
  auto answer = [&](auto& review, const UserInfo& user) -> absl::Status {
    absl::StatusOr<AuthAttributes> attributes = AttributesOf(review.spec(), &user);
    if (!attributes.ok()) return attributes.status();
    const bool allowed = IsAllowed(*attributes, *this);
    review.mutable_status()->Clear();
    review.mutable_status()->set_allowed(allowed);
    if (!allowed) review.mutable_status()->set_reason(std::string(ForbiddenError(*attributes).message()));
    return absl::OkStatus();
  };
  absl::Status status;
  if (object->GetDescriptor() == authz::SelfSubjectAccessReview::descriptor()) {
    status = answer(static_cast<authz::SelfSubjectAccessReview&>(*object), request.user);
  } else if (object->GetDescriptor() == authz::SubjectAccessReview::descriptor()) {
    auto& review = static_cast<authz::SubjectAccessReview&>(*object);
    status = answer(review, SubjectOf(review.spec()));
  } else if (object->GetDescriptor() == authz::LocalSubjectAccessReview::descriptor()) {
    auto& review = static_cast<authz::LocalSubjectAccessReview&>(*object);
    status = answer(review, SubjectOf(review.spec()));
  } else if (object->GetDescriptor() == authn::SelfSubjectReview::descriptor()) {
    auto* info = static_cast<authn::SelfSubjectReview&>(*object).mutable_status()->mutable_user_info();
    info->set_username(request.user.name);
    for (const std::string& g : request.user.groups) info->add_groups(g);
  } else if (object->GetDescriptor() == authn::TokenReview::descriptor()) {
    // No tokens are issued, so none is valid.
    auto* result = static_cast<authn::TokenReview&>(*object).mutable_status();
    result->Clear();
    result->set_authenticated(false);
    result->set_error("[invalid bearer token]");
  } else {
    status = api::MethodNotSupported(request.resource->type->group_resource(), "create");
  }
  if (!status.ok()) return status;
  ApiResult result;
  result.http_code = 201;
  result.object = std::move(object);
  return result;
}

}  // namespace keelson::master
