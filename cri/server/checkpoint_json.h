// What the parsers of a checkpoint's JSON share: values of objects, from untrusted text.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace simdjson::dom {
class element;
class parser;
}  // namespace simdjson::dom

namespace keelson::cri {

// The document of a file with that `name`, which lives as long as `parser`. InvalidArgument names it.
absl::StatusOr<simdjson::dom::element> ParseFactFile(std::string_view json, size_t max_bytes,
                                                     std::string_view name, simdjson::dom::parser* parser);

// A required text of at most kMaxFactBytes. InvalidArgument names `key`.
absl::Status FactText(const simdjson::dom::element& object, const char* key, std::string* out);
// The same where it may be missing: then `out` stays as it is.
absl::Status OptionalFactText(const simdjson::dom::element& object, const char* key, std::string* out);
absl::Status FactFlag(const simdjson::dom::element& object, const char* key, bool* out);
// nullopt: missing.
absl::Status OptionalFactFlag(const simdjson::dom::element& object, const char* key,
                              std::optional<bool>* out);
// A list of at most kMaxFactGroups numbers; nullopt: missing.
absl::Status OptionalFactNumbers(const simdjson::dom::element& object, const char* key,
                                 std::optional<std::vector<int64_t>>* out);

}  // namespace keelson::cri
