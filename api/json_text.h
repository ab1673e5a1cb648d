// JSON as text: checking, quoting, finding where it is wrong. No tree is built.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace keelson::api {

struct JsonTextError {
  size_t offset = 0;
  int line = 1;    // 1-based
  int column = 1;  // 1-based, bytes
  std::string message;
};

// Whether `text` is exactly one JSON value. Fills *error (if given) with the first place that is wrong.
bool CheckJson(std::string_view text, int max_depth, JsonTextError* error = nullptr);

// Shortest text that reads back as `value`, in Go's choice of notation. NaN and infinities give 0.
void AppendJsonDouble(double value, std::string& out);

}  // namespace keelson::api
