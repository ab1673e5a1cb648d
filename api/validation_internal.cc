#include "api/validation_internal.h"

#include <algorithm>

#include "api/codec.h"
#include "api/labels.h"
#include "base/strings.h"

namespace keelson::api {

std::string_view FieldError::reason() const {
  switch (type) {
    case Type::kNotFound:
      return "FieldValueNotFound";
    case Type::kRequired:
      return "FieldValueRequired";
    case Type::kDuplicate:
      return "FieldValueDuplicate";
    case Type::kInvalid:
      return "FieldValueInvalid";
    case Type::kNotSupported:
      return "FieldValueNotSupported";
    case Type::kForbidden:
      return "FieldValueForbidden";
    case Type::kTooLong:
      return "FieldValueTooLong";
    case Type::kTooMany:
      return "FieldValueTooMany";
  }
  return "";
}

std::string FieldError::Body() const {
  std::string body;
  switch (type) {
    case Type::kNotFound:
      body = "Not found";
      break;
    case Type::kRequired:
      body = "Required value";
      break;
    case Type::kDuplicate:
      body = "Duplicate value";
      break;
    case Type::kInvalid:
      body = "Invalid value";
      break;
    case Type::kNotSupported:
      body = "Unsupported value";
      break;
    case Type::kForbidden:
      body = "Forbidden";
      break;
    case Type::kTooLong:
      body = "Too long";
      break;
    case Type::kTooMany:
      body = "Too many";
      break;
  }
  if (!bad_value.empty()) StrAppend(&body, ": ", bad_value);
  if (!detail.empty()) StrAppend(&body, ": ", detail);
  return body;
}

std::string FieldError::ToString() const { return StrCat(field, ": ", Body()); }

namespace validation {

namespace metav1 = ::k8s::meta::v1;

namespace {

constexpr size_t kMaxAnnotationBytes = 256 << 10;
constexpr size_t kMaxPortNameBytes = 15;

std::string Quoted(std::string_view text) {
  std::string out;
  AppendJsonString(text, out);
  return out;
}

}  // namespace

std::string Child(const std::string& path, std::string_view name) {
  return path.empty() ? std::string(name) : StrCat(path, ".", name);
}
std::string Index(const std::string& path, size_t index) { return StrCat(path, "[", index, "]"); }
std::string KeyOf(const std::string& path, std::string_view key) { return StrCat(path, "[", key, "]"); }

void Errors::Required(std::string field, std::string detail) {
  errors_.push_back({FieldError::Type::kRequired, std::move(field), "", std::move(detail)});
}
void Errors::Invalid(std::string field, std::string bad_value, std::string detail) {
  errors_.push_back({FieldError::Type::kInvalid, std::move(field), std::move(bad_value), std::move(detail)});
}
void Errors::InvalidText(std::string field, std::string_view text, std::string detail) {
  Invalid(std::move(field), Quoted(text), std::move(detail));
}
void Errors::InvalidNumber(std::string field, int64_t number, std::string detail) {
  Invalid(std::move(field), StrCat(number), std::move(detail));
}
void Errors::Duplicate(std::string field, std::string_view text) {
  errors_.push_back({FieldError::Type::kDuplicate, std::move(field), Quoted(text), ""});
}
void Errors::NotFound(std::string field, std::string_view text) {
  errors_.push_back({FieldError::Type::kNotFound, std::move(field), Quoted(text), ""});
}
void Errors::Forbidden(std::string field, std::string detail) {
  errors_.push_back({FieldError::Type::kForbidden, std::move(field), "", std::move(detail)});
}
void Errors::TooLong(std::string field, size_t max_bytes) {
  errors_.push_back({FieldError::Type::kTooLong, std::move(field), "",
                     StrCat("may not be more than ", max_bytes, " bytes")});
}
void Errors::NotSupported(std::string field, std::string_view text,
                          const std::vector<std::string>& supported) {
  std::string list;
  for (const std::string& value : supported) StrAppend(&list, list.empty() ? "" : ", ", Quoted(value));
  errors_.push_back(
      {FieldError::Type::kNotSupported, std::move(field), Quoted(text), StrCat("supported values: ", list)});
}
void Errors::Messages(const std::string& field, std::string_view text,
                      const std::vector<std::string>& messages) {
  for (const std::string& message : messages) InvalidText(field, text, message);
}
void Errors::NonNegative(const std::string& field, int64_t value) {
  if (value < 0) InvalidNumber(field, value, "must be greater than or equal to 0");
}
void Errors::Port(const std::string& field, int64_t port) {
  if (port < 1 || port > 65535) InvalidNumber(field, port, "must be between 1 and 65535, inclusive");
}
void Errors::OneOf(const std::string& field, const std::string& value,
                   const std::vector<std::string>& supported) {
  if (value.empty()) {
    Required(field);
  } else if (std::find(supported.begin(), supported.end(), value) == supported.end()) {
    NotSupported(field, value, supported);
  }
}

void Errors::PortName(const std::string& field, const std::string& name) {
  if (name.size() > kMaxPortNameBytes) InvalidText(field, name, "must be no more than 15 characters");
  bool letter = false, bad = false;
  for (char c : name) {
    bool lower = c >= 'a' && c <= 'z', digit = c >= '0' && c <= '9';
    letter |= lower;
    bad |= !lower && !digit && c != '-';
  }
  if (bad) InvalidText(field, name, "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
  if (!letter) InvalidText(field, name, "must contain at least one letter (a-z)");
  if (name.find("--") != std::string::npos) InvalidText(field, name, "must not contain consecutive hyphens");
  if (name.starts_with('-') || name.ends_with('-')) {
    InvalidText(field, name, "must not begin or end with a hyphen");
  }
}

void Errors::Labels(const std::string& field, const google::protobuf::Map<std::string, std::string>& labels) {
  std::vector<std::pair<std::string, std::string>> sorted(labels.begin(), labels.end());
  std::sort(sorted.begin(), sorted.end());
  for (const auto& [key, value] : sorted) {
    Messages(field, key, IsQualifiedName(key));
    Messages(field, value, IsValidLabelValue(value));
  }
}

void ObjectMetadata(const metav1::ObjectMeta& meta, bool namespaced, NameRule rule, const std::string& path,
                    Errors& errors) {
  if (!meta.generate_name().empty()) {
    // The suffix may complete a trailing dash.
    std::string stem = meta.generate_name();
    if (stem.ends_with('-')) stem.back() = 'a';
    errors.Messages(Child(path, "generateName"), meta.generate_name(), rule(stem));
  }
  if (meta.name().empty()) {
    errors.Required(Child(path, "name"), "name or generateName is required");
  } else {
    errors.Messages(Child(path, "name"), meta.name(), rule(meta.name()));
  }
  if (namespaced) {
    if (meta.namespace_().empty()) {
      errors.Required(Child(path, "namespace"));
    } else {
      errors.Messages(Child(path, "namespace"), meta.namespace_(), IsDns1123Label(meta.namespace_()));
    }
  } else if (!meta.namespace_().empty()) {
    errors.Forbidden(Child(path, "namespace"), "not allowed on this type");
  }
  errors.NonNegative(Child(path, "generation"), meta.generation());
  errors.Labels(Child(path, "labels"), meta.labels());
  size_t annotation_bytes = 0;
  for (const auto& [key, value] : meta.annotations()) {
    std::string lower = key;
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](unsigned char c) { return std::tolower(c); });
    errors.Messages(Child(path, "annotations"), key, IsQualifiedName(lower));
    annotation_bytes += key.size() + value.size();
  }
  if (annotation_bytes > kMaxAnnotationBytes) errors.TooLong(Child(path, "annotations"), kMaxAnnotationBytes);
  int controllers = 0;
  for (int i = 0; i < meta.owner_references_size(); ++i) {
    const auto& owner = meta.owner_references(i);
    std::string here = Index(Child(path, "ownerReferences"), static_cast<size_t>(i));
    if (owner.api_version().empty())
      errors.InvalidText(Child(here, "apiVersion"), "", "version must not be empty");
    if (owner.kind().empty()) errors.InvalidText(Child(here, "kind"), "", "must not be empty");
    if (owner.name().empty()) errors.InvalidText(Child(here, "name"), "", "must not be empty");
    if (owner.uid().empty()) errors.InvalidText(Child(here, "uid"), "", "must not be empty");
    controllers += owner.controller() ? 1 : 0;
  }
  if (controllers > 1) {
    errors.Invalid(Child(path, "ownerReferences"), "[]",
                   "Only one reference can have Controller set to true");
  }
  for (int i = 0; i < meta.finalizers_size(); ++i) {
    const std::string& finalizer = meta.finalizers(i);
    errors.Messages(Index(Child(path, "finalizers"), static_cast<size_t>(i)), finalizer,
                    IsQualifiedName(finalizer));
  }
}

void ObjectMetadataUpdate(const metav1::ObjectMeta& meta, const metav1::ObjectMeta& old,
                          const std::string& path, Errors& errors) {
  constexpr char kImmutable[] = "field is immutable";
  auto same = [&](std::string_view field, const std::string& now, const std::string& before) {
    if (now != before) errors.InvalidText(Child(path, field), now, kImmutable);
  };
  same("name", meta.name(), old.name());
  same("namespace", meta.namespace_(), old.namespace_());
  same("uid", meta.uid(), old.uid());
  if (meta.creation_timestamp().seconds() != old.creation_timestamp().seconds()) {
    errors.Invalid(Child(path, "creationTimestamp"), EncodeJson(meta.creation_timestamp()), kImmutable);
  }
  if (meta.resource_version().empty()) {
    errors.InvalidText(Child(path, "resourceVersion"), "", "must be specified for an update");
  }
  if (old.has_deletion_timestamp()) {
    for (const std::string& finalizer : meta.finalizers()) {
      if (std::find(old.finalizers().begin(), old.finalizers().end(), finalizer) == old.finalizers().end()) {
        errors.Forbidden(
            Child(path, "finalizers"),
            StrCat("no new finalizers can be added if the object is being deleted, found new finalizers "
                   "[]string{\"",
                   finalizer, "\"}"));
      }
    }
  }
}

}  // namespace validation
}  // namespace keelson::api
