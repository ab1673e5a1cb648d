// JSON and Kubernetes protobuf for every API message, driven by tables made once from the descriptors.
//
// Thread-safe: tables are immutable after their first use. JSON output is deterministic and field for field
// what upstream 1.37 writes (struct order, sorted maps, omitempty rules); there is no trailing newline.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <google/protobuf/message.h>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "api/runtime/runtime.pb.h"
#include "api/scheme.h"

namespace keelson::api {

inline constexpr size_t kMaxObjectBytes = 3 * 1024 * 1024;  // upstream's request limit
inline constexpr size_t kMaxListBytes = 512 * 1024 * 1024;  // answers read by clients
inline constexpr int kMaxJsonDepth = 256;                   // levels
inline constexpr size_t kMaxStrictErrors = 100;

inline constexpr char kContentTypeJson[] = "application/json";
inline constexpr char kContentTypeYaml[] = "application/yaml";
inline constexpr char kContentTypeProtobuf[] = "application/vnd.kubernetes.protobuf";

struct DecodeOptions {
  size_t max_bytes = kMaxObjectBytes;
  int max_depth = kMaxJsonDepth;
  // Used when the text names no kind or no apiVersion.
  const TypeInfo* default_type = nullptr;
};

struct Decoded {
  std::unique_ptr<google::protobuf::Message> object;
  const TypeInfo* type = nullptr;
  // `unknown field "spec.foo"`, `duplicate field "spec.x"`, at most kMaxStrictErrors. The caller's
  // fieldValidation decides: Ignore drops them, Warn sends them as warnings, Strict refuses with
  // StrictError().
  std::vector<std::string> strict_errors;
};

// --- JSON ---

// {"kind":...,"apiVersion":...,fields}; a message that is no kind is written without those two.
std::string EncodeJson(const google::protobuf::Message& message);
void AppendJson(const google::protobuf::Message& message, std::string& out);
// The elements of a list carry no kind upstream; this form leaves the two out of the top level too.
void AppendJsonWithoutType(const google::protobuf::Message& message, std::string& out);
// With line breaks and two-space indent, for people. Input: any valid JSON text.
std::string PrettyJson(std::string_view json);
// `text` as a JSON string with quotes, escaped as Go does (also <, >, &).
void AppendJsonString(std::string_view text, std::string& out);

// Reads the object its kind and apiVersion name. Errors are API statuses (BadRequest) that name field and
// value.
absl::StatusOr<Decoded> DecodeJson(std::string_view json, const DecodeOptions& options = {});
// Reads into `message` (cleared first), whatever kind the text names.
absl::Status DecodeJsonInto(std::string_view json, google::protobuf::Message& message,
                            std::vector<std::string>* strict_errors = nullptr,
                            const DecodeOptions& options = {});
template <typename T>
absl::StatusOr<T> DecodeJsonAs(std::string_view json, std::vector<std::string>* strict_errors = nullptr,
                               const DecodeOptions& options = {}) {
  T message;
  absl::Status status = DecodeJsonInto(json, message, strict_errors, options);
  if (!status.ok()) return status;
  return message;
}
// apiVersion and kind alone, without the rest.
absl::StatusOr<::k8s::runtime::TypeMeta> PeekJsonType(std::string_view json);
// BadRequest "strict decoding error: ..." for a non-empty list.
absl::Status StrictError(const TypeInfo& type, const std::vector<std::string>& strict_errors);

// --- application/vnd.kubernetes.protobuf ---

bool IsProtobufEnvelope(std::string_view bytes);
// Magic, runtime.Unknown, object; deterministic.
std::string EncodeProtobuf(const google::protobuf::Message& object);
// The same around bytes already serialized (the stored form of an object).
std::string WrapProtobuf(std::string_view api_version, std::string_view kind, std::string_view raw);
absl::StatusOr<Decoded> DecodeProtobuf(std::string_view bytes, const DecodeOptions& options = {});
// The envelope opened, object not yet parsed.
absl::StatusOr<::k8s::runtime::Unknown> UnwrapProtobuf(std::string_view bytes);
// Deterministic message bytes without envelope (map keys sorted).
std::string SerializeDeterministic(const google::protobuf::Message& message);
// Whether two messages of one type are the same bytes: what MessageDifferencer says, at a tenth of its cost.
bool SameBytes(const google::protobuf::Message& a, const google::protobuf::Message& b);

// --- any of the three ---

// By content type; "" is guessed from the first bytes. UnsupportedMediaType for another. YAML: one document.
absl::StatusOr<Decoded> DecodeObject(std::string_view body, std::string_view content_type,
                                     const DecodeOptions& options = {});

}  // namespace keelson::api
