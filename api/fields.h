// Field selectors: "metadata.name=a,status.phase!=Running", with \, \= and \\ escaped.
#pragma once

#include <absl/functional/function_ref.h>
#include <absl/status/statusor.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace keelson::api {

struct FieldRequirement {
  std::string field;
  bool equal = true;
  std::string value;
};

class FieldSelector {
 public:
  FieldSelector() = default;
  static absl::StatusOr<FieldSelector> Parse(std::string_view text);
  static FieldSelector OneTerm(std::string_view field, std::string_view value);

  // `get` gives the value of a field ("" when unset).
  bool Matches(absl::FunctionRef<std::string(std::string_view field)> get) const;
  // The value a field must equal, if the selector says so.
  std::optional<std::string> RequiresExactMatch(std::string_view field) const;
  bool Empty() const { return requirements_.empty(); }
  const std::vector<FieldRequirement>& requirements() const { return requirements_; }
  std::string ToString() const;

 private:
  std::vector<FieldRequirement> requirements_;
};

}  // namespace keelson::api
