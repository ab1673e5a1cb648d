// A parsed JSON document. Includes simdjson: only for .cc files that read JSON.
#pragma once

#include <absl/status/statusor.h>
#include <simdjson.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "api/type_table.h"

namespace keelson::api {

// Owns the parser its root points into. Small documents share a parser per thread; one document at a time
// uses it, nested ones get their own.
class JsonDocument {
 public:
  // BadRequest names line and column of a syntax error; RequestEntityTooLarge beyond max_bytes.
  static absl::StatusOr<JsonDocument> Parse(std::string_view text, size_t max_bytes, int max_depth);
  JsonDocument(JsonDocument&& other) noexcept
      : root(other.root), own_(std::move(other.own_)), shared_(std::exchange(other.shared_, false)) {}
  JsonDocument& operator=(JsonDocument&&) = delete;
  ~JsonDocument();

  simdjson::dom::element root;

 private:
  JsonDocument() = default;
  std::unique_ptr<simdjson::dom::parser> own_;
  bool shared_ = false;  // holds this thread's parser
};

// Parts of DecodeJson, for readers that walk a document themselves (api/patch_message.cc). Errors name the
// way from here only.
// The field `plan` of `message`, as it stands in an object: null clears it, a list replaces the one there,
// the keys of a map are added to those there.
absl::Status DecodeJsonField(const FieldPlan& plan, const simdjson::dom::element& value,
                             google::protobuf::Message* message, std::vector<std::string>* strict_errors);
// One entry of the map field `plan`.
absl::Status DecodeJsonMapEntry(const FieldPlan& plan, std::string_view key,
                                const simdjson::dom::element& value, google::protobuf::Message* message,
                                std::vector<std::string>* strict_errors);
// Takes a struct away that Go cannot tell from an absent one, so that equal objects are equal bytes.
void ClearFieldIfEmpty(const FieldPlan& plan, google::protobuf::Message* message);

}  // namespace keelson::api
