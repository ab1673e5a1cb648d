#include "api/yaml.h"

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>
#include <absl/strings/escaping.h>
#include <absl/strings/numbers.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <charconv>
#include <deque>
#include <sstream>

#include "api/json_dom.h"
#include "api/json_text.h"
#include "api/status_error.h"
#include "base/strings.h"

namespace keelson::api {
namespace {

// Thrown by the event handler, through yaml-cpp, to the one function that calls the parser.
struct YamlError {
  int line;  // 1-based
  std::string message;
};

// --- scalars, as go-yaml 2 resolves them for kubectl (YAML 1.1) ---

bool OneOf(std::string_view text, std::initializer_list<std::string_view> words) {
  for (std::string_view word : words) {
    if (text == word) return true;
  }
  return false;
}

// Go's strconv.ParseInt with base 0: 0x, 0o, 0b, leading 0 is octal.
bool ParseGoInt(std::string_view text, std::string* json) {
  bool negative = false;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  int base = 10;
  if (text.size() > 1 && text[0] == '0') {
    const char c = static_cast<char>(text[1] | 0x20);
    base = c == 'x' ? 16 : c == 'b' ? 2 : 8;
    text.remove_prefix(c == 'x' || c == 'b' || c == 'o' ? 2 : 1);
  }
  uint64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return false;
  if (negative && value > (1ULL << 63)) return false;
  *json = absl::StrCat(negative && value != 0 ? "-" : "", value);
  return true;
}

// [-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?
bool LooksFloat(std::string_view text) {
  size_t pos = 0;
  auto digits = [&] {
    const size_t start = pos;
    while (pos < text.size() && text[pos] >= '0' && text[pos] <= '9') ++pos;
    return pos - start;
  };
  if (pos < text.size() && (text[pos] == '-' || text[pos] == '+')) ++pos;
  const size_t whole = digits();
  if (pos < text.size() && text[pos] == '.') {
    ++pos;
    const size_t part = digits();
    if (whole == 0 && part == 0) return false;
  } else if (whole == 0) {
    return false;
  }
  if (pos < text.size() && (text[pos] == 'e' || text[pos] == 'E')) {
    ++pos;
    if (pos < text.size() && (text[pos] == '-' || text[pos] == '+')) ++pos;
    if (digits() == 0) return false;
  }
  return pos == text.size();
}

// JSON text of a plain scalar. False for NaN and infinities, which JSON does not have.
bool ResolvePlain(std::string_view text, std::string* json) {
  if (OneOf(text, {"", "~", "null", "Null", "NULL"})) {
    *json = "null";
    return true;
  }
  if (OneOf(text, {"true", "True", "TRUE", "yes", "Yes", "YES", "y", "Y", "on", "On", "ON"})) {
    *json = "true";
    return true;
  }
  if (OneOf(text, {"false", "False", "FALSE", "no", "No", "NO", "n", "N", "off", "Off", "OFF"})) {
    *json = "false";
    return true;
  }
  const char first = text[0];
  if ((first >= '0' && first <= '9') || first == '-' || first == '+' || first == '.') {
    std::string plain;
    for (char c : text) {
      if (c != '_') plain += c;
    }
    if (!plain.empty() && first != '.' && ParseGoInt(plain, json)) return true;
    if (LooksFloat(plain)) {
      double value;
      if (absl::SimpleAtod(plain[0] == '+' ? plain.substr(1) : plain, &value)) {
        AppendJsonDouble(value, *json);
        return true;
      }
    }
    std::string_view special = text;
    if (special[0] == '-' || special[0] == '+') special.remove_prefix(1);
    if (OneOf(special, {".inf", ".Inf", ".INF"}) || OneOf(text, {".nan", ".NaN", ".NAN"})) return false;
  }
  AppendJsonString(text, *json);
  return true;
}

// --- the missing space ---

// `nodePort:30001` in this line: a word, a colon and at once something else. Addresses (http://) and quoted
// text are left alone.
std::string_view MissingSpaceIn(std::string_view line) {
  size_t pos = line.find_first_not_of(" \t");
  if (pos == std::string_view::npos) return {};
  if (line.substr(pos, 2) == "- ") pos = line.find_first_not_of(" \t", pos + 2);
  if (pos == std::string_view::npos) return {};
  const size_t start = pos;
  while (pos < line.size() &&
         (absl::ascii_isalnum(static_cast<unsigned char>(line[pos])) || line[pos] == '-' ||
          line[pos] == '_' || line[pos] == '.' || line[pos] == '/')) {
    ++pos;
  }
  if (pos == start || !absl::ascii_isalpha(static_cast<unsigned char>(line[start])) ||
      pos + 1 >= line.size() || line[pos] != ':') {
    return {};
  }
  const char next = line[pos + 1];
  if (next == ' ' || next == '\t' || next == '\r' || next == '/' || next == ':') return {};
  size_t end = line.find_last_not_of(" \t\r");
  return line.substr(start, end - start + 1);
}

// "; line 9: is a space missing ..." for the first suspicious line in [first, last] (1-based), or "".
std::string MissingSpaceHint(std::string_view text, int first, int last) {
  int number = 1;
  size_t start = 0;
  while (start <= text.size() && number <= last) {
    const size_t end = std::min(text.find('\n', start), text.size());
    if (number >= first) {
      const std::string_view word = MissingSpaceIn(text.substr(start, end - start));
      if (!word.empty()) {
        return StrCat("; line ", number, ": is a space missing after the colon in \"", word.substr(0, 80),
                      "\"?");
      }
    }
    start = end + 1;
    ++number;
  }
  return "";
}

// --- events to a tree ---

struct Node {
  enum class Kind { kScalar, kList, kMap };
  Kind kind = Kind::kScalar;
  int line = 0;
  bool open = false;   // still being read
  bool merge = false;  // the plain scalar <<
  std::string json;    // of a scalar
  std::string key;     // a scalar's text as a map key
  std::vector<Node*> items;
  std::vector<std::pair<std::string, Node*>> members;
  std::vector<Node*> merged;  // values of <<: maps, or lists of maps; the earlier wins
};

class Builder : public YAML::EventHandler {
 public:
  // `lines` of the whole text; they outlive the builder.
  explicit Builder(const std::vector<std::string_view>& lines) : lines_(lines) {}
  Node* root() const { return root_; }

  // 0-based offset and line at which the document starts.
  int start() const { return start_; }
  int start_line() const { return start_line_; }

  void OnDocumentStart(const YAML::Mark& mark) override {
    start_ = mark.pos;
    start_line_ = mark.line;
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Node* node = Make(Node::Kind::kScalar, mark, anchor);
    node->json = "null";
    node->key = "null";
    CheckColon();
    Add(node, mark);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    Node* node = Make(Node::Kind::kScalar, mark, anchor);
    Resolve(tag, value, mark, node);
    const bool is_key = !frames_.empty() && frames_.back().block && !frames_.back().has_key && tag == "?";
    if (is_key) frames_.back().plain_key = {mark.line, mark.column, value.size()};
    Add(node, mark);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto it = anchors_.find(anchor);
    if (it == anchors_.end()) throw YamlError{mark.line + 1, "unknown anchor"};
    if (it->second->open) throw YamlError{mark.line + 1, "anchor contains itself"};
    Add(it->second, mark);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Open(Make(Node::Kind::kList, mark, anchor), mark, false);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value style) override {
    Open(Make(Node::Kind::kMap, mark, anchor), mark, style == YAML::EmitterStyle::Block);
  }
  void OnMapEnd() override { Close(); }

 private:
  // Where a plain key stands; no key when size is 0.
  struct Place {
    int line = 0;  // 0-based
    int column = 0;
    size_t size = 0;
  };
  struct Frame {
    Node* node;
    bool block = false;  // a map written in lines
    bool has_key = false;
    bool is_merge = false;
    Place plain_key;
    std::string key;
    absl::flat_hash_set<std::string> keys;
  };

  // yaml-cpp takes the last line of a block map for a key even without a colon after it; kubectl's reader
  // does not. Called for a null value.
  void CheckColon() {
    if (frames_.empty() || !frames_.back().block || !frames_.back().has_key) return;
    const Place key = std::exchange(frames_.back().plain_key, {});
    if (key.size == 0 || static_cast<size_t>(key.line) >= lines_.size()) return;
    const std::string_view line = lines_[static_cast<size_t>(key.line)];
    const size_t start = static_cast<size_t>(key.column);
    if (start > line.size() || line.substr(0, start).find('?') != std::string_view::npos) return;
    const std::string_view rest = line.substr(std::min(start + key.size, line.size()));
    const size_t next = rest.find_first_not_of(" \t");
    if (next == std::string_view::npos || rest[next] != ':') {
      throw YamlError{key.line + 1, "could not find expected ':'"};
    }
  }

  static void Resolve(const std::string& tag, const std::string& value, const YAML::Mark& mark, Node* node) {
    node->key = value;
    constexpr std::string_view kCore = "tag:yaml.org,2002:";
    if (tag == "?" || tag.empty()) {
      node->merge = value == "<<";
      if (!ResolvePlain(value, &node->json)) {
        throw YamlError{mark.line + 1, StrCat("\"", value, "\" is no number in JSON")};
      }
      // A key that is no string is written as the text of its value, as sigs.k8s.io/yaml does.
      if (node->json[0] != '"') node->key = node->json;
      return;
    }
    if (tag == StrCat(kCore, "binary")) {
      std::string bytes;
      std::string text = value;
      std::erase_if(text, [](char c) { return c == '\n' || c == ' ' || c == '\r'; });
      if (!absl::Base64Unescape(text, &bytes))
        throw YamlError{mark.line + 1, "!!binary value contains invalid base64 data"};
      AppendJsonString(bytes, node->json);
      node->key = bytes;
      return;
    }
    if (tag == StrCat(kCore, "int") || tag == StrCat(kCore, "float") || tag == StrCat(kCore, "bool") ||
        tag == StrCat(kCore, "null")) {
      if (!ResolvePlain(value, &node->json) || node->json[0] == '"') {
        throw YamlError{mark.line + 1,
                        StrCat("cannot decode \"", value, "\" as !!", tag.substr(kCore.size()))};
      }
      return;
    }
    AppendJsonString(value, node->json);
  }

  Node* Make(Node::Kind kind, const YAML::Mark& mark, YAML::anchor_t anchor) {
    Node* node = &arena_.emplace_back();
    node->kind = kind;
    node->line = mark.line + 1;
    if (anchor != YAML::NullAnchor) anchors_[anchor] = node;
    return node;
  }

  void Open(Node* node, const YAML::Mark& mark, bool block) {
    if (frames_.size() >= static_cast<size_t>(kMaxYamlDepth)) {
      throw YamlError{mark.line + 1, absl::StrCat("nested more than ", kMaxYamlDepth, " levels")};
    }
    node->open = true;
    Add(node, mark);
    frames_.push_back(Frame{});
    frames_.back().node = node;
    frames_.back().block = block;
  }

  void Close() {
    frames_.back().node->open = false;
    frames_.pop_back();
  }

  void Add(Node* node, const YAML::Mark& mark) {
    if (frames_.empty()) {
      root_ = node;
      return;
    }
    Frame& frame = frames_.back();
    if (frame.node->kind == Node::Kind::kList) {
      frame.node->items.push_back(node);
      return;
    }
    if (!frame.has_key) {
      if (node->kind != Node::Kind::kScalar) throw YamlError{mark.line + 1, "a map key must be a scalar"};
      frame.has_key = true;
      frame.key = node->key;
      frame.is_merge = node->merge;
      if (!frame.is_merge && !frame.keys.insert(frame.key).second) {
        throw YamlError{mark.line + 1, absl::StrCat("key \"", frame.key, "\" already set in map")};
      }
      return;
    }
    frame.has_key = false;
    if (frame.is_merge) {
      Merge(node, mark, frame.node);
    } else {
      frame.node->members.emplace_back(std::move(frame.key), node);
    }
  }

  static void Merge(Node* value, const YAML::Mark& mark, Node* into) {
    if (value->kind == Node::Kind::kScalar) {
      throw YamlError{mark.line + 1, "map merge requires map or sequence of maps as the value"};
    }
    into->merged.push_back(value);
  }

  std::deque<Node> arena_;
  absl::flat_hash_map<YAML::anchor_t, Node*> anchors_;
  std::vector<Frame> frames_;
  const std::vector<std::string_view>& lines_;
  int start_ = -1;
  int start_line_ = 0;
  Node* root_ = nullptr;
};

// The tree as JSON; every alias is written again, so the output is what has to be bounded.
class Writer {
 public:
  explicit Writer(std::string& out, size_t limit) : out_(out), limit_(limit) {}

  void Write(const Node& node, int depth) {
    if (depth > 2 * kMaxYamlDepth) throw YamlError{node.line, "aliases nest too deeply"};
    if (out_.size() > limit_) {
      throw YamlError{node.line,
                      absl::StrCat("document grows beyond ", limit_, " bytes when aliases are expanded")};
    }
    switch (node.kind) {
      case Node::Kind::kScalar:
        out_ += node.json;
        return;
      case Node::Kind::kList: {
        out_ += '[';
        bool first = true;
        for (const Node* item : node.items) {
          if (!first) out_ += ',';
          first = false;
          Write(*item, depth + 1);
        }
        out_ += ']';
        return;
      }
      case Node::Kind::kMap: {
        out_ += '{';
        bool first = true;
        absl::flat_hash_set<std::string> written;
        Members(node, depth, node.merged.empty() ? nullptr : &written, &first);
        out_ += '}';
        return;
      }
    }
  }

 private:
  // Own members come first and win over merged ones; `written` is null where nothing is merged.
  void Members(const Node& node, int depth, absl::flat_hash_set<std::string>* written, bool* first) {
    if (depth > 2 * kMaxYamlDepth) throw YamlError{node.line, "merges nest too deeply"};
    for (const auto& [key, value] : node.members) {
      if (written != nullptr && !written->insert(key).second) continue;
      if (!*first) out_ += ',';
      *first = false;
      AppendJsonString(key, out_);
      out_ += ':';
      Write(*value, depth + 1);
    }
    for (const Node* merged : node.merged) {
      if (merged->kind == Node::Kind::kMap) {
        Members(*merged, depth + 1, written, first);
        continue;
      }
      for (const Node* item : merged->items) {
        if (item->kind != Node::Kind::kMap) {
          throw YamlError{item->line, "map merge requires map or sequence of maps as the value"};
        }
        Members(*item, depth + 1, written, first);
      }
    }
  }

  std::string& out_;
  size_t limit_;
};

absl::Status ErrorAt(std::string_view text, int line, std::string_view message) {
  return absl::InvalidArgumentError(
      StrCat("yaml: line ", line, ": ", message, MissingSpaceHint(text, std::max(1, line - 2), line + 1)));
}

bool PlainSafe(std::string_view text) {
  if (text.empty() || text.size() > 256) return false;
  std::string resolved;
  if (!ResolvePlain(text, &resolved) || resolved[0] != '"') return false;
  if (!absl::ascii_isalnum(static_cast<unsigned char>(text[0])) && text[0] != '/' && text[0] != '_')
    return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
        std::string_view("-_./+=@$%^(){}~,;").find(c) != std::string_view::npos) {
      continue;
    }
    if (c == ':' && i + 1 < text.size() && text[i + 1] != ' ') continue;
    if (c == ' ' && i + 1 < text.size() && text[i + 1] != ' ' && text[i + 1] != '#') continue;
    return false;
  }
  // What looks like a date is a string to kubectl but a date to others.
  return !(text.size() >= 10 && text[4] == '-' && absl::ascii_isdigit(static_cast<unsigned char>(text[0])));
}

void YamlValue(const simdjson::dom::element& value, int indent, bool in_list, std::string& out);

void YamlText(std::string_view text, std::string& out) {
  if (PlainSafe(text)) {
    out += text;
  } else {
    AppendJsonString(text, out);
  }
}

void YamlValue(const simdjson::dom::element& value, int indent, bool in_list, std::string& out) {
  using simdjson::dom::element_type;
  const std::string pad(static_cast<size_t>(indent), ' ');
  if (value.type() == element_type::OBJECT) {
    const simdjson::dom::object object = value.get_object().value_unsafe();
    if (object.begin() == object.end()) {
      out += in_list ? "{}\n" : " {}\n";
      return;
    }
    bool first = in_list;  // the first key stands on the line of its dash
    if (!in_list && !out.empty()) out += '\n';
    for (const simdjson::dom::key_value_pair pair : object) {
      if (!first) out += pad;
      first = false;
      YamlText(pair.key, out);
      out += ':';
      const bool list = pair.value.type() == element_type::ARRAY;
      YamlValue(pair.value, list ? indent : indent + 2, false, out);
    }
    return;
  }
  if (value.type() == element_type::ARRAY) {
    const simdjson::dom::array array = value.get_array().value_unsafe();
    if (array.begin() == array.end()) {
      out += in_list ? "[]\n" : " []\n";
      return;
    }
    bool first = in_list;
    if (!in_list && !out.empty()) out += '\n';
    for (const simdjson::dom::element item : array) {
      if (!first) out += pad;
      first = false;
      out += "- ";
      YamlValue(item, indent + 2, true, out);
    }
    return;
  }
  if (!in_list) out += ' ';
  if (value.type() == element_type::STRING) {
    YamlText(value.get_string().value_unsafe(), out);
  } else {
    out += simdjson::minify(value);
  }
  out += '\n';
}

}  // namespace

absl::StatusOr<std::vector<YamlDocument>> YamlToJson(std::string_view yaml) {
  if (yaml.size() > kMaxYamlBytes) {
    return absl::InvalidArgumentError(absl::StrCat("yaml: longer than ", kMaxYamlBytes, " bytes"));
  }
  std::vector<YamlDocument> documents;
  size_t total = 0;
  int previous_start = -1;
  std::vector<std::string_view> lines;
  for (size_t start = 0; start <= yaml.size();) {
    const size_t end = std::min(yaml.find('\n', start), yaml.size());
    lines.push_back(yaml.substr(start, end - start));
    start = end + 1;
  }
  try {
    std::istringstream stream{std::string(yaml)};
    YAML::Parser parser(stream);
    while (true) {
      Builder builder(lines);
      if (!parser.HandleNextDocument(builder)) break;
      // A stray comma is an empty document to yaml-cpp, again and again.
      if (builder.start() == previous_start)
        return ErrorAt(yaml, builder.start_line() + 1, "unexpected text");
      previous_start = builder.start();
      if (builder.root() == nullptr ||
          (builder.root()->kind == Node::Kind::kScalar && builder.root()->json == "null")) {
        continue;
      }
      if (documents.size() == kMaxYamlDocuments) {
        return ErrorAt(yaml, builder.root()->line,
                       absl::StrCat("more than ", kMaxYamlDocuments, " documents"));
      }
      YamlDocument document;
      document.line = builder.root()->line;
      Writer(document.json, kMaxYamlOutputBytes - std::min(total, kMaxYamlOutputBytes))
          .Write(*builder.root(), 0);
      total += document.json.size();
      documents.push_back(std::move(document));
    }
  } catch (const YamlError& error) {
    return ErrorAt(yaml, error.line, error.message);
  } catch (const YAML::Exception& error) {
    return ErrorAt(yaml, error.mark.line + 1, error.msg);
  }
  return documents;
}

absl::StatusOr<std::string> YamlDocumentToJson(std::string_view yaml) {
  absl::StatusOr<std::vector<YamlDocument>> documents = YamlToJson(yaml);
  if (!documents.ok()) return documents.status();
  if (documents->empty()) return absl::InvalidArgumentError("yaml: no document");
  if (documents->size() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("yaml: line ", (*documents)[1].line, ": only one document expected"));
  }
  return std::move((*documents)[0].json);
}

absl::StatusOr<std::vector<Decoded>> DecodeManifest(std::string_view text, const DecodeOptions& options) {
  absl::StatusOr<std::vector<YamlDocument>> documents = YamlToJson(text);
  if (!documents.ok()) return documents.status();
  std::vector<Decoded> objects;
  for (size_t i = 0; i < documents->size(); ++i) {
    const YamlDocument& document = (*documents)[i];
    absl::StatusOr<Decoded> decoded = DecodeJson(document.json, options);
    if (!decoded.ok()) {
      constexpr int kNoLine = 1 << 30;
      const int next = i + 1 < documents->size() ? (*documents)[i + 1].line : kNoLine;
      return BadRequest(StrCat("document at line ", document.line, ": ", Sv(decoded.status().message()),
                               MissingSpaceHint(text, document.line, next)));
    }
    objects.push_back(*std::move(decoded));
  }
  return objects;
}

absl::Status DecodeYamlInto(std::string_view yaml, google::protobuf::Message& message,
                            std::vector<std::string>* strict_errors) {
  absl::StatusOr<std::string> json = YamlDocumentToJson(yaml);
  if (!json.ok()) return json.status();
  DecodeOptions options;
  options.max_bytes = kMaxYamlOutputBytes;
  return DecodeJsonInto(*json, message, strict_errors, options);
}

std::string JsonToYaml(std::string_view json) {
  absl::StatusOr<JsonDocument> document = JsonDocument::Parse(json, kMaxListBytes, kMaxJsonDepth);
  if (!document.ok()) return std::string(json);
  std::string out;
  YamlValue(document->root, 0, true, out);
  return out;
}

}  // namespace keelson::api
