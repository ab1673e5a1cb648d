// A parsed JSON document. Includes simdjson: only for .cc files that read JSON.
#pragma once

#include <absl/status/statusor.h>
#include <simdjson.h>

#include <memory>
#include <string_view>

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

}  // namespace keelson::api
