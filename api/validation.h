// Semantic validation of the served kinds with upstream's paths and wording ("spec.containers[0].image:
// Required value"). Pure; run after defaulting. A field that is set and that Keelson does not implement is
// not an error here but reported by UnimplementedFields().
#pragma once

#include <google/protobuf/message.h>

#include <string>
#include <string_view>
#include <vector>

#include "api/unimplemented_fields.h"

namespace keelson::api {

// One cause of a 422. ToString(): "spec.replicas: Invalid value: -1: must be greater than or equal to 0".
struct FieldError {
  enum class Type {
    kNotFound,
    kRequired,
    kDuplicate,
    kInvalid,
    kNotSupported,
    kForbidden,
    kTooLong,
    kTooMany
  };
  Type type = Type::kInvalid;
  std::string field;      // "spec.containers[0].image"
  std::string bad_value;  // as printed: numbers bare, strings in quotes; may be empty
  std::string detail;
  // meta.v1 CauseType: "FieldValueRequired", "FieldValueInvalid", ...
  std::string_view reason() const;
  // Without the field: "Invalid value: -1: must be ...".
  std::string Body() const;
  std::string ToString() const;
};
using FieldErrors = std::vector<FieldError>;

// On create. Empty: valid.
FieldErrors Validate(const google::protobuf::Message& object);
// On update: validity of the new object, immutable fields, allowed transitions.
FieldErrors ValidateUpdate(const google::protobuf::Message& object, const google::protobuf::Message& old);
// What is set and nothing of ours acts on, for a Warning header.
std::vector<UnimplementedField> UnimplementedFields(const google::protobuf::Message& object);

}  // namespace keelson::api
