#include "api/validation_internal.h"

#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>

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
constexpr int64_t kMaxId = 2147483647;

// As Go's %q, which unlike its JSON leaves < > & alone.
std::string Quoted(std::string_view text) {
  std::string json, out;
  AppendJsonString(text, json);
  for (size_t i = 0; i < json.size(); ++i) {
    const std::string_view escape = std::string_view(json).substr(i, 6);
    if (json[i] != '\\') {
      out += json[i];
    } else if (escape == "\\u003c" || escape == "\\u003e" || escape == "\\u0026") {
      out += escape[4] == '2' ? '&' : escape[5] == 'c' ? '<' : '>';
      i += 5;
    } else {
      out += json.substr(i++, 2);
    }
  }
  return out;
}

}  // namespace

namespace {

// The address as 4 or 16 bytes, network order; empty for what is none.
std::string AddressBytes(const std::string& ip) {
  char bytes[sizeof(in6_addr)];
  if (ip.find('\0') != std::string::npos) return "";
  if (inet_pton(AF_INET, ip.c_str(), bytes) == 1) return std::string(bytes, sizeof(in_addr));
  if (inet_pton(AF_INET6, ip.c_str(), bytes) == 1) return std::string(bytes, sizeof(in6_addr));
  return "";
}

bool IsV4Mapped(std::string_view bytes) {
  in6_addr address;
  if (bytes.size() != sizeof address) return false;
  std::memcpy(&address, bytes.data(), sizeof address);
  return IN6_IS_ADDR_V4MAPPED(&address);
}

// "010.1.2.3" as "10.1.2.3", which some read as 8.1.2.3.
std::string WithoutLeadingZeros(const std::string& ip) {
  std::string out;
  for (absl::string_view part : absl::StrSplit(ip, '.')) {
    while (part.size() > 1 && part[0] == '0') part.remove_prefix(1);
    StrAppend(&out, out.empty() ? "" : ".", part);
  }
  return out;
}

bool BitsBehind(std::string_view bytes, int prefix) {
  for (size_t i = 0; i < bytes.size(); ++i) {
    const int kept = std::clamp(prefix - static_cast<int>(i) * 8, 0, 8);
    if ((static_cast<uint8_t>(bytes[i]) & (0xff >> kept)) != 0) return true;
  }
  return false;
}

}  // namespace

std::string MapJson(const google::protobuf::Map<std::string, std::string>& map) {
  metav1::ObjectMeta only_labels;
  *only_labels.mutable_labels() = map;
  const std::string json = EncodeJson(only_labels);  // {"labels":{...}}
  const size_t start = json.find("{\"labels\":");
  return start == std::string::npos ? "null" : json.substr(10, json.size() - 11);
}

std::string ListJson(const google::protobuf::RepeatedPtrField<std::string>& list) {
  std::string out;
  for (const std::string& item : list) StrAppend(&out, out.empty() ? "[" : ",", Quoted(item));
  return out.empty() ? "null" : out + "]";
}

int FamilyOf(const std::string& ip) {
  const size_t size = AddressBytes(ip).size();
  return size == 0 ? 0 : size == sizeof(in_addr) ? 4 : 6;
}

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
void Errors::DuplicateValue(std::string field, std::string bad_value, std::string detail) {
  errors_.push_back(
      {FieldError::Type::kDuplicate, std::move(field), std::move(bad_value), std::move(detail)});
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
void Errors::TooMany(std::string field, size_t actual, size_t max_items) {
  errors_.push_back({FieldError::Type::kTooMany, std::move(field), StrCat(actual),
                     StrCat("must have at most ", max_items, " items")});
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
void Errors::Add(FieldErrors errors) { std::move(errors.begin(), errors.end(), std::back_inserter(errors_)); }
void Errors::NonNegative(const std::string& field, int64_t value) {
  if (value < 0) InvalidNumber(field, value, "must be greater than or equal to 0");
}
void Errors::Port(const std::string& field, int64_t port) {
  if (port < 1 || port > 65535) InvalidNumber(field, port, "must be between 1 and 65535, inclusive");
}
void Errors::OneOf(const std::string& field, const std::string& value,
                   const std::vector<std::string>& supported) {
  if (value.empty()) return Required(field);
  Supported(field, value, supported);
}
void Errors::Supported(const std::string& field, const std::string& value,
                       const std::vector<std::string>& supported) {
  if (std::find(supported.begin(), supported.end(), value) == supported.end()) {
    NotSupported(field, value, supported);
  }
}
void Errors::Name(const std::string& field, const std::string& name, NameRule rule) {
  if (!name.empty()) Messages(field, name, rule(name));
}
void Errors::Positive(const std::string& field, int64_t value) {
  if (value <= 0) InvalidNumber(field, value, "must be greater than zero");
}
void Errors::Id(const std::string& field, int64_t id) {
  if (id < 0 || id > kMaxId)
    InvalidNumber(field, id, StrCat("must be between 0 and ", kMaxId, ", inclusive"));
}

bool Errors::Ip(const std::string& field, const std::string& ip) {
  const std::string bytes = AddressBytes(ip);
  if (bytes.empty()) {
    InvalidText(field, ip,
                FamilyOf(WithoutLeadingZeros(ip)) == 4
                    ? "must not have leading 0s"
                    : "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    return false;
  }
  if (!IsV4Mapped(bytes)) return true;
  InvalidText(field, ip, "must not be an IPv4-mapped IPv6 address");
  return false;
}

bool Errors::Cidr(const std::string& field, const std::string& cidr) {
  const size_t slash = cidr.find('/');
  const std::string address = cidr.substr(0, slash);
  const std::string length = slash == std::string::npos ? "" : cidr.substr(slash + 1);
  std::string bytes = AddressBytes(address);
  const bool zeros = (bytes.empty() && FamilyOf(WithoutLeadingZeros(address)) == 4) ||
                     (length.size() > 1 && length[0] == '0');
  if (bytes.empty()) bytes = AddressBytes(WithoutLeadingZeros(address));
  int prefix = -1;
  const bool digits = !length.empty() && length.find_first_not_of("0123456789") == std::string::npos;
  if (bytes.empty() || !digits || !absl::SimpleAtoi(length, &prefix) ||
      prefix > static_cast<int>(bytes.size()) * 8) {
    InvalidText(field, cidr, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
  } else if (zeros) {
    InvalidText(field, cidr, "must not have leading 0s in IP or prefix length");
  } else if (IsV4Mapped(bytes)) {
    InvalidText(field, cidr, "must not have an IPv4-mapped IPv6 address");
  } else if (BitsBehind(bytes, prefix)) {
    InvalidText(field, cidr, "must not have bits set beyond the prefix length");
  } else {
    return true;
  }
  return false;
}

void Errors::EndpointIp(const std::string& field, const std::string& ip) {
  if (!Ip(field, ip)) return;
  const std::string bytes = AddressBytes(ip);
  const auto at = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  const bool v4 = bytes.size() == sizeof(in_addr);
  if (bytes.find_first_not_of('\0') == std::string::npos) {
    InvalidText(field, ip, StrCat("may not be unspecified (", ip, ")"));
  }
  if (v4 ? at(0) == 127 : bytes == std::string(15, '\0') + '\1') {
    InvalidText(field, ip, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
  }
  if (v4 ? at(0) == 169 && at(1) == 254 : at(0) == 0xfe && (at(1) & 0xc0) == 0x80) {
    InvalidText(field, ip, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
  }
  if (v4 ? at(0) == 224 && at(1) == 0 && at(2) == 0 : at(0) == 0xff && (at(1) & 0x0f) == 0x02) {
    InvalidText(field, ip, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
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
