#include "api/fields.h"

#include <absl/strings/str_join.h>

#include "base/strings.h"

namespace keelson::api {
namespace {

constexpr size_t kMaxFieldSelectorBytes = 16 * 1024;

// Terms are separated by commas that no backslash protects.
std::vector<std::string_view> SplitTerms(std::string_view text) {
  std::vector<std::string_view> terms;
  size_t start = 0;
  for (size_t i = 0; i <= text.size(); ++i) {
    if (i + 1 < text.size() && text[i] == '\\') {
      ++i;
      continue;
    }
    if (i >= text.size() || text[i] == ',') {
      if (i > start) terms.push_back(text.substr(start, std::min(i, text.size()) - start));
      start = i + 1;
    }
  }
  return terms;
}

absl::StatusOr<std::string> Unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\') {
      if (i + 1 == text.size()) {
        return absl::InvalidArgumentError(StrCat("invalid field selector: invalid escape sequence: ", text));
      }
      ++i;
      if (text[i] != '\\' && text[i] != ',' && text[i] != '=') {
        return absl::InvalidArgumentError(
            StrCat("invalid field selector: invalid escape sequence: \\", text.substr(i, 1)));
      }
    } else if (text[i] == ',' || text[i] == '=') {
      return absl::InvalidArgumentError(
          StrCat("invalid field selector: unescaped ", text.substr(i, 1), " in: ", text));
    }
    out += text[i];
  }
  return out;
}

std::string Escape(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '\\' || c == ',' || c == '=') out += '\\';
    out += c;
  }
  return out;
}

}  // namespace

absl::StatusOr<FieldSelector> FieldSelector::Parse(std::string_view text) {
  if (text.size() > kMaxFieldSelectorBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("field selector is longer than ", kMaxFieldSelectorBytes, " bytes"));
  }
  FieldSelector selector;
  for (std::string_view term : SplitTerms(text)) {
    const size_t equal = term.find('=');
    if (equal == std::string_view::npos || equal == 0) {
      return absl::InvalidArgumentError(
          StrCat("invalid selector: '", text, "'; can't understand '", term, "'"));
    }
    FieldRequirement r;
    size_t name_end = equal;
    size_t value_start = equal + 1;
    if (term[equal - 1] == '!') {
      r.equal = false;
      --name_end;
    } else if (value_start < term.size() && term[value_start] == '=') {
      ++value_start;
    }
    r.field = std::string(term.substr(0, name_end));
    absl::StatusOr<std::string> value = Unescape(term.substr(value_start));
    if (!value.ok()) return value.status();
    r.value = *std::move(value);
    if (r.field.empty()) {
      return absl::InvalidArgumentError(
          StrCat("invalid selector: '", text, "'; can't understand '", term, "'"));
    }
    selector.requirements_.push_back(std::move(r));
  }
  return selector;
}

FieldSelector FieldSelector::OneTerm(std::string_view field, std::string_view value) {
  FieldSelector selector;
  selector.requirements_.push_back({std::string(field), true, std::string(value)});
  return selector;
}

bool FieldSelector::Matches(absl::FunctionRef<std::string(std::string_view)> get) const {
  for (const FieldRequirement& r : requirements_) {
    if ((get(r.field) == r.value) != r.equal) return false;
  }
  return true;
}

std::optional<std::string> FieldSelector::RequiresExactMatch(std::string_view field) const {
  for (const FieldRequirement& r : requirements_) {
    if (r.equal && r.field == field) return r.value;
  }
  return std::nullopt;
}

std::string FieldSelector::ToString() const {
  return absl::StrJoin(requirements_, ",", [](std::string* out, const FieldRequirement& r) {
    absl::StrAppend(out, r.field, r.equal ? "=" : "!=", Escape(r.value));
  });
}

}  // namespace keelson::api
