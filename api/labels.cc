#include "api/labels.h"

#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>

#include <algorithm>
#include <charconv>

#include "base/strings.h"

namespace keelson::api {
namespace {

constexpr size_t kMaxSelectorBytes = 64 * 1024;
constexpr size_t kMaxRequirements = 1000;
constexpr size_t kMaxQualifiedNameBytes = 63;
constexpr size_t kMaxLabelValueBytes = 63;
constexpr size_t kMaxDns1123LabelBytes = 63;
constexpr size_t kMaxDns1123SubdomainBytes = 253;

bool IsAlnum(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }
bool IsLowerAlnum(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }
bool IsNameChar(char c) { return IsAlnum(c) || c == '-' || c == '_' || c == '.'; }

bool LooksQualified(std::string_view s) {
  return !s.empty() && IsAlnum(s.front()) && IsAlnum(s.back()) && std::all_of(s.begin(), s.end(), IsNameChar);
}

bool LooksDnsLabel(std::string_view s) {
  return !s.empty() && IsLowerAlnum(s.front()) && IsLowerAlnum(s.back()) &&
         std::all_of(s.begin(), s.end(), [](char c) { return IsLowerAlnum(c) || c == '-'; });
}

std::string TooLong(size_t max) { return absl::StrCat("must be no more than ", max, " bytes"); }

constexpr char kQualifiedNameRule[] =
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character "
    "(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

bool ParseInt64(std::string_view text, int64_t* value) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

using Op = LabelRequirement::Op;

// The checks of upstream's NewRequirement.
absl::Status CheckRequirement(const LabelRequirement& r) {
  const std::vector<std::string> complaints = IsQualifiedName(r.key);
  if (!complaints.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("key: Invalid value: \"", r.key, "\": ", absl::StrJoin(complaints, "; ")));
  }
  switch (r.op) {
    case Op::kIn:
    case Op::kNotIn:
      if (r.values.empty()) {
        return absl::InvalidArgumentError(
            "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty");
      }
      break;
    case Op::kExists:
    case Op::kDoesNotExist:
      if (!r.values.empty()) {
        return absl::InvalidArgumentError(
            absl::StrCat("values: Invalid value: [", absl::StrJoin(r.values, " "),
                         "]: values set must be empty for exists and does not exist"));
      }
      break;
    case Op::kGreaterThan:
    case Op::kLessThan: {
      int64_t unused;
      if (r.values.size() != 1) {
        return absl::InvalidArgumentError(
            "values: Invalid value: for 'Gt', 'Lt' operators, exactly one value is required");
      }
      if (!ParseInt64(r.values[0], &unused)) {
        return absl::InvalidArgumentError(
            absl::StrCat("values[0]: Invalid value: \"", r.values[0],
                         "\": for 'Gt', 'Lt' operators, the value must be an integer"));
      }
      break;
    }
  }
  for (size_t i = 0; i < r.values.size(); ++i) {
    const std::vector<std::string> bad = IsValidLabelValue(r.values[i]);
    if (!bad.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("values[", i, "][", r.key, "]: Invalid value: \"",
                                                     r.values[i], "\": ", absl::StrJoin(bad, "; ")));
    }
  }
  return absl::OkStatus();
}

// Splits selector text: one of "(),!=<>" and their pairs, or a word.
class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  // "" at the end.
  std::string_view Next() {
    SkipSpace();
    if (pos_ == text_.size()) return "";
    const size_t start = pos_;
    if (IsSpecial(text_[pos_])) {
      const std::string_view two = text_.substr(pos_, 2);
      pos_ += two == "==" || two == "!=" ? 2 : 1;
    } else {
      while (pos_ < text_.size() && !IsSpecial(text_[pos_]) && !IsSpace(text_[pos_])) ++pos_;
    }
    return text_.substr(start, pos_ - start);
  }
  std::string_view Peek() {
    const size_t saved = pos_;
    const std::string_view token = Next();
    pos_ = saved;
    return token;
  }
  bool AtEnd() {
    SkipSpace();
    return pos_ == text_.size();
  }
  static bool IsWord(std::string_view token) { return !token.empty() && !IsSpecial(token[0]); }

 private:
  static bool IsSpecial(char c) { return std::string_view("(),!=<>").find(c) != std::string_view::npos; }
  static bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }
  void SkipSpace() {
    while (pos_ < text_.size() && IsSpace(text_[pos_])) ++pos_;
  }
  std::string_view text_;
  size_t pos_ = 0;
};

absl::Status Found(std::string_view token, std::string_view expected) {
  return absl::InvalidArgumentError(
      StrCat("unable to parse requirement: found '", token, "', expected: ", expected));
}

// "(a, b,)" after in/notin.
absl::Status ParseValueList(Lexer& lexer, std::vector<std::string>* values) {
  const std::string_view open = lexer.Next();
  if (open != "(") return Found(open, "'('");
  while (true) {
    std::string_view token = lexer.Next();
    if (Lexer::IsWord(token)) {
      values->emplace_back(token);
      token = lexer.Next();
    } else if (token == "," || token == ")") {
      values->emplace_back();
    } else {
      return Found(token, "',', ')' or identifier");
    }
    if (token == ")") return absl::OkStatus();
    if (token != ",") return Found(token, "',' or ')'");
  }
}

absl::StatusOr<LabelRequirement> ParseRequirement(Lexer& lexer) {
  LabelRequirement r;
  std::string_view token = lexer.Next();
  if (token == "!") {
    r.op = Op::kDoesNotExist;
    token = lexer.Next();
    if (!Lexer::IsWord(token)) return Found(token, "identifier");
    r.key = std::string(token);
    return r;
  }
  if (!Lexer::IsWord(token)) return Found(token, "!, identifier, or 'end of string'");
  r.key = std::string(token);
  token = lexer.Peek();
  if (token.empty() || token == ",") {
    r.op = Op::kExists;
    return r;
  }
  lexer.Next();
  if (token == "in" || token == "notin") {
    r.op = token == "in" ? Op::kIn : Op::kNotIn;
    absl::Status status = ParseValueList(lexer, &r.values);
    if (!status.ok()) return status;
    std::sort(r.values.begin(), r.values.end());
    r.values.erase(std::unique(r.values.begin(), r.values.end()), r.values.end());
    return r;
  }
  if (token == "=" || token == "==") {
    r.op = Op::kIn;
  } else if (token == "!=") {
    r.op = Op::kNotIn;
  } else if (token == ">") {
    r.op = Op::kGreaterThan;
  } else if (token == "<") {
    r.op = Op::kLessThan;
  } else {
    return Found(token, "in, notin, =, ==, !=, gt, lt");
  }
  const std::string_view value = lexer.Peek();
  if (Lexer::IsWord(value)) lexer.Next();
  r.values.emplace_back(Lexer::IsWord(value) ? value : std::string_view());
  return r;
}

}  // namespace

bool LabelRequirement::Matches(const LabelMap& labels) const {
  const auto it = labels.find(key);
  const bool present = it != labels.end();
  switch (op) {
    case Op::kIn:
      return present && std::binary_search(values.begin(), values.end(), it->second);
    case Op::kNotIn:
      return !present || !std::binary_search(values.begin(), values.end(), it->second);
    case Op::kExists:
      return present;
    case Op::kDoesNotExist:
      return !present;
    case Op::kGreaterThan:
    case Op::kLessThan: {
      int64_t have, want;
      if (!present || !ParseInt64(it->second, &have) || !ParseInt64(values[0], &want)) return false;
      return op == Op::kGreaterThan ? have > want : have < want;
    }
  }
  return false;
}

std::string LabelRequirement::ToString() const {
  switch (op) {
    case Op::kIn:
      return values.size() == 1 ? absl::StrCat(key, "=", values[0])
                                : absl::StrCat(key, " in (", absl::StrJoin(values, ","), ")");
    case Op::kNotIn:
      return values.size() == 1 ? absl::StrCat(key, "!=", values[0])
                                : absl::StrCat(key, " notin (", absl::StrJoin(values, ","), ")");
    case Op::kExists:
      return key;
    case Op::kDoesNotExist:
      return absl::StrCat("!", key);
    case Op::kGreaterThan:
      return absl::StrCat(key, ">", values[0]);
    case Op::kLessThan:
      return absl::StrCat(key, "<", values[0]);
  }
  return key;
}

LabelSelector LabelSelector::Nothing() {
  LabelSelector selector;
  selector.nothing_ = true;
  return selector;
}

LabelSelector LabelSelector::FromMap(const LabelMap& labels) {
  LabelSelector selector;
  for (const auto& [key, value] : labels) selector.requirements_.push_back({key, Op::kIn, {value}});
  std::sort(selector.requirements_.begin(), selector.requirements_.end(),
            [](const auto& a, const auto& b) { return a.key < b.key; });
  return selector;
}

absl::StatusOr<LabelSelector> LabelSelector::Parse(std::string_view text) {
  if (text.size() > kMaxSelectorBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("label selector is longer than ", kMaxSelectorBytes, " bytes"));
  }
  LabelSelector selector;
  Lexer lexer(text);
  while (!lexer.AtEnd()) {
    absl::StatusOr<LabelRequirement> r = ParseRequirement(lexer);
    if (!r.ok()) return r.status();
    absl::Status status = CheckRequirement(*r);
    if (!status.ok()) {
      return absl::InvalidArgumentError(StrCat("unable to parse requirement: ", Sv(status.message())));
    }
    selector.requirements_.push_back(*std::move(r));
    if (selector.requirements_.size() > kMaxRequirements) {
      return absl::InvalidArgumentError(
          absl::StrCat("label selector has more than ", kMaxRequirements, " terms"));
    }
    if (lexer.AtEnd()) break;
    const std::string_view token = lexer.Next();
    if (token != ",") return Found(token, "',' or 'end of string'");
    const std::string_view next = lexer.Peek();
    if (next != "!" && !Lexer::IsWord(next)) return Found(next, "identifier after ','");
  }
  std::stable_sort(selector.requirements_.begin(), selector.requirements_.end(),
                   [](const auto& a, const auto& b) { return a.key < b.key; });
  return selector;
}

absl::StatusOr<LabelSelector> LabelSelector::FromMessage(const ::k8s::meta::v1::LabelSelector& message) {
  LabelSelector selector = FromMap(message.match_labels());
  for (const LabelRequirement& r : selector.requirements_) {
    absl::Status status = CheckRequirement(r);
    if (!status.ok()) return status;
  }
  for (const auto& expression : message.match_expressions()) {
    LabelRequirement r;
    r.key = expression.key();
    r.values.assign(expression.values().begin(), expression.values().end());
    std::sort(r.values.begin(), r.values.end());
    if (expression.operator_() == "In") {
      r.op = Op::kIn;
    } else if (expression.operator_() == "NotIn") {
      r.op = Op::kNotIn;
    } else if (expression.operator_() == "Exists") {
      r.op = Op::kExists;
    } else if (expression.operator_() == "DoesNotExist") {
      r.op = Op::kDoesNotExist;
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", expression.operator_(), "\" is not a valid label selector operator"));
    }
    absl::Status status = CheckRequirement(r);
    if (!status.ok()) return status;
    selector.requirements_.push_back(std::move(r));
  }
  std::stable_sort(selector.requirements_.begin(), selector.requirements_.end(),
                   [](const auto& a, const auto& b) { return a.key < b.key; });
  return selector;
}

bool LabelSelector::Matches(const LabelMap& labels) const {
  if (nothing_) return false;
  for (const LabelRequirement& r : requirements_) {
    if (!r.Matches(labels)) return false;
  }
  return true;
}

std::string LabelSelector::ToString() const {
  return absl::StrJoin(requirements_, ",", [](std::string* out, const LabelRequirement& r) {
    absl::StrAppend(out, r.ToString());
  });
}

bool SameLabels(const api::LabelMap& a, const api::LabelMap& b) {
  return a.size() == b.size() && std::all_of(a.begin(), a.end(), [&](const auto& label) {
           auto it = b.find(label.first);
           return it != b.end() && it->second == label.second;
         });
}

bool SelectsNonEmpty(const LabelMap& selector, const LabelMap& labels) {
  if (selector.empty()) return false;
  for (const auto& [key, value] : selector) {
    const auto it = labels.find(key);
    if (it == labels.end() || it->second != value) return false;
  }
  return true;
}

std::vector<std::string> IsQualifiedName(std::string_view value) {
  std::vector<std::string> errors;
  std::string_view name = value;
  const size_t slash = value.find('/');
  if (slash != std::string_view::npos) {
    if (value.find('/', slash + 1) != std::string_view::npos) {
      return {absl::StrCat("a valid label key ", kQualifiedNameRule,
                           " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')")};
    }
    const std::string_view prefix = value.substr(0, slash);
    name = value.substr(slash + 1);
    if (prefix.empty()) {
      errors.push_back("prefix part must be non-empty");
    } else {
      for (const std::string& e : IsDns1123Subdomain(prefix))
        errors.push_back(absl::StrCat("prefix part ", e));
    }
  }
  if (name.empty()) {
    errors.push_back("name part must be non-empty");
  } else if (name.size() > kMaxQualifiedNameBytes) {
    errors.push_back(absl::StrCat("name part ", TooLong(kMaxQualifiedNameBytes)));
  }
  if (!LooksQualified(name)) errors.push_back(absl::StrCat("name part ", kQualifiedNameRule));
  return errors;
}

std::vector<std::string> IsValidLabelValue(std::string_view value) {
  std::vector<std::string> errors;
  if (value.size() > kMaxLabelValueBytes) errors.push_back(TooLong(kMaxLabelValueBytes));
  if (!value.empty() && !LooksQualified(value)) {
    errors.push_back(
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and "
        "must start "
        "and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for "
        "validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')");
  }
  return errors;
}

std::vector<std::string> IsDns1123Label(std::string_view value) {
  std::vector<std::string> errors;
  if (value.size() > kMaxDns1123LabelBytes) errors.push_back(TooLong(kMaxDns1123LabelBytes));
  if (!LooksDnsLabel(value)) {
    errors.push_back(
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must "
        "start and end "
        "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
        "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')");
  }
  return errors;
}

std::vector<std::string> IsDns1123Subdomain(std::string_view value) {
  std::vector<std::string> errors;
  if (value.size() > kMaxDns1123SubdomainBytes) errors.push_back(TooLong(kMaxDns1123SubdomainBytes));
  bool good = true;
  for (absl::string_view part : absl::StrSplit(Av(value), '.')) good = good && LooksDnsLabel(Sv(part));
  if (!good) {
    errors.push_back(
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and "
        "must "
        "start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
        "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')");
  }
  return errors;
}

bool IsNodeDefaultLabel(std::string_view label) {
  static constexpr std::string_view kLabels[] = {"kubernetes.io/hostname",
                                                 "topology.kubernetes.io/zone",
                                                 "topology.kubernetes.io/region",
                                                 "failure-domain.beta.kubernetes.io/zone",
                                                 "failure-domain.beta.kubernetes.io/region",
                                                 "node.kubernetes.io/instance-type",
                                                 "beta.kubernetes.io/instance-type",
                                                 "kubernetes.io/os",
                                                 "kubernetes.io/arch",
                                                 "beta.kubernetes.io/os",
                                                 "beta.kubernetes.io/arch"};
  return std::find(std::begin(kLabels), std::end(kLabels), label) != std::end(kLabels);
}

bool NodeMayLabelItself(std::string_view label) {
  const size_t slash = label.find('/');
  if (slash == std::string_view::npos) return true;
  const std::string_view ns = label.substr(0, slash);
  auto in = [ns](std::string_view domain) {
    return ns == domain ||
           (ns.size() > domain.size() && ns.ends_with(domain) && ns[ns.size() - domain.size() - 1] == '.');
  };
  if (!in("kubernetes.io") && !in("k8s.io")) return true;
  return in("kubelet.kubernetes.io") || in("node.kubernetes.io") || IsNodeDefaultLabel(label);
}

}  // namespace keelson::api
