// JSON text to messages.
#include <absl/strings/escaping.h>
#include <google/protobuf/message.h>

#include <algorithm>
#include <limits>

#include "api/codec.h"
#include "api/int_or_string.h"
#include "api/json_dom.h"
#include "api/json_text.h"
#include "api/quantity.h"
#include "api/scheme_types.h"
#include "api/status_error.h"
#include "api/time.h"
#include "api/type_table.h"
#include "base/strings.h"

namespace keelson::api {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using keelson::options::Form;
using simdjson::dom::element;
using simdjson::dom::element_type;

constexpr size_t kSharedParserBytes = 256 * 1024;
constexpr size_t kMaxShownBytes = 64;

thread_local simdjson::dom::parser* t_parser = nullptr;
thread_local bool t_parser_used = false;

// One step of the way to the value being read; lives on the stack of the readers.
struct Path {
  const Path* parent = nullptr;
  std::string_view name;
  int index = -1;

  void AppendTo(std::string& out) const {
    if (parent != nullptr) parent->AppendTo(out);
    if (index >= 0) {
      absl::StrAppend(&out, "[", index, "]");
    } else if (!name.empty()) {
      if (!out.empty()) out += '.';
      out += name;
    }
  }
  std::string ToString() const {
    std::string out;
    AppendTo(out);
    return out;
  }
};

std::string_view KindName(const element& value) {
  switch (value.type()) {
    case element_type::ARRAY:
      return "array";
    case element_type::OBJECT:
      return "object";
    case element_type::STRING:
      return "string";
    case element_type::BOOL:
      return "bool";
    case element_type::NULL_VALUE:
      return "null";
    default:
      return "number";
  }
}

std::string Shown(const element& value) {
  switch (value.type()) {
    case element_type::ARRAY:
      return "array";
    case element_type::OBJECT:
      return "object";
    case element_type::NULL_VALUE:
      return "null";
    default: {
      std::string text = simdjson::minify(value);
      if (text.size() > kMaxShownBytes) {
        text.resize(kMaxShownBytes);
        text.append("...");
      }
      return StrCat(KindName(value), " ", text);
    }
  }
}

// `8080 nodePort:30001`: two lines of YAML that ran together because of the missing space.
std::string MissingSpaceHint(const element& value) {
  if (value.type() != element_type::STRING) return "";
  const std::string_view text = value.get_string().value_unsafe();
  size_t start = text.rfind(' ');
  start = start == std::string_view::npos ? 0 : start + 1;
  const std::string_view word = text.substr(start, kMaxShownBytes);
  const size_t colon = word.find(':');
  if (colon == std::string_view::npos || colon == 0 || colon + 1 == word.size() || word[colon + 1] == '/')
    return "";
  for (char c : word.substr(0, colon)) {
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))) return "";
  }
  return StrCat(" (is a space missing after the colon of \"", word, "\"?)");
}

class Decoder {
 public:
  explicit Decoder(std::vector<std::string>* strict_errors) : strict_errors_(strict_errors) {}

  absl::Status Object(const TypeTable& table, const element& value, const Path& path, Message* message) {
    if (value.type() != element_type::OBJECT) return Mismatch(value, path, "object");
    const simdjson::dom::object object = value.get_object().value_unsafe();
    std::vector<const FieldPlan*> seen;
    std::vector<const FieldPlan*> inline_path;
    int seen_type = 0;
    for (const simdjson::dom::key_value_pair pair : object) {
      const Path here{&path, pair.key, -1};
      if (table.has_type_meta && (pair.key == "kind" || pair.key == "apiVersion")) {
        const int bit = pair.key == "kind" ? 1 : 2;
        if (seen_type & bit) Strict("duplicate", here);
        seen_type |= bit;
        if (pair.value.type() != element_type::STRING && pair.value.type() != element_type::NULL_VALUE) {
          return Mismatch(pair.value, here, "string");
        }
        continue;
      }
      inline_path.clear();
      const FieldPlan* plan = table.Find(pair.key, &inline_path);
      if (plan == nullptr) {
        Strict("unknown", here);
        continue;
      }
      if (std::find(seen.begin(), seen.end(), plan) != seen.end()) {
        Strict("duplicate", here);
      } else {
        seen.push_back(plan);
      }
      Message* target = message;
      for (const FieldPlan* step : inline_path) {
        target = step->reflection->MutableMessage(target, step->field);
      }
      absl::Status status = Field(*plan, pair.value, here, target);
      if (!status.ok()) return status;
    }
    for (const FieldPlan* plan : table.inlines) ClearFieldIfEmpty(*plan, message);
    return absl::OkStatus();
  }

  absl::Status Mismatch(const element& value, const Path& path, std::string_view want) {
    const std::string where = path.ToString();
    if (where.empty()) {
      return BadRequest(StrCat("json: cannot unmarshal ", KindName(value), " into an object"));
    }
    return BadRequest(StrCat("json: cannot unmarshal ", Shown(value), " into field ", where, " of type ",
                             want, MissingSpaceHint(value)));
  }

  absl::Status Field(const FieldPlan& plan, const element& value, const Path& path, Message* message) {
    const Reflection* reflection = plan.reflection;
    if (value.type() == element_type::NULL_VALUE) {
      reflection->ClearField(message, plan.field);
      return absl::OkStatus();
    }
    if (plan.is_map) return Map(plan, value, path, message);
    if (plan.is_list) return List(plan, value, path, message);
    if (plan.is_message) {
      absl::Status status =
          Value(*plan.sub, value, path, reflection->MutableMessage(message, plan.field), false);
      if (status.ok()) ClearFieldIfEmpty(plan, message);
      return status;
    }
    return Scalar(plan, value, path, message);
  }

  absl::Status MapEntry(const FieldPlan& plan, std::string_view key, const element& value, const Path& here,
                        Message* message) {
    void* slot = plan.map->insert(*message, std::string(key));
    if (plan.is_message) {
      auto* sub = static_cast<Message*>(slot);
      sub->Clear();
      return Value(*plan.sub, value, here, sub, true);
    }
    if (plan.cpp_type == FieldDescriptor::CPPTYPE_STRING) {
      auto* text = static_cast<std::string*>(slot);
      text->clear();
      return plan.is_bytes ? Bytes(value, here, text) : Text(value, here, text);
    }
    if (value.type() != element_type::BOOL) return Mismatch(value, here, "bool");
    *static_cast<bool*>(slot) = value.get_bool().value_unsafe();
    return absl::OkStatus();
  }

 private:
  void Strict(std::string_view what, const Path& path) {
    if (strict_errors_ == nullptr || strict_errors_->size() >= kMaxStrictErrors) return;
    std::string text = StrCat(what, " field \"", path.ToString(), "\"");
    if (std::find(strict_errors_->begin(), strict_errors_->end(), text) == strict_errors_->end()) {
      strict_errors_->push_back(std::move(text));
    }
  }

  static absl::Status BadValue(const Path& path, std::string_view why) {
    return BadRequest(StrCat("json: field ", path.ToString(), ": ", why));
  }

  absl::Status Value(const TypeTable& table, const element& value, const Path& path, Message* message,
                     bool in_map) {
    const Reflection* reflection = table.reflection;
    const bool is_null = value.type() == element_type::NULL_VALUE;
    switch (table.form) {
      case Form::FORM_OBJECT:
        return is_null ? absl::OkStatus() : Object(table, value, path, message);
      case Form::FORM_RAW:
        if (!is_null) reflection->SetString(message, table.form_field, simdjson::minify(value));
        return absl::OkStatus();
      case Form::FORM_STRING_LIST:
        return is_null ? absl::OkStatus() : List(table.fields[0], value, path, message);
      case Form::FORM_QUANTITY:
        return is_null ? absl::OkStatus() : QuantityValue(table, value, path, message, in_map);
      case Form::FORM_INT_OR_STRING:
        return is_null ? absl::OkStatus() : IntOrStringValue(table, value, path, message);
      default:
        return is_null ? absl::OkStatus() : TimeValue(table, value, path, message);
    }
  }

  absl::Status QuantityValue(const TypeTable& table, const element& value, const Path& path, Message* message,
                             bool in_map) {
    std::string text;
    switch (value.type()) {
      case element_type::STRING:
        text = std::string(value.get_string().value_unsafe());
        break;
      case element_type::INT64:
        text = absl::StrCat(value.get_int64().value_unsafe());
        break;
      case element_type::UINT64:
        text = absl::StrCat(value.get_uint64().value_unsafe());
        break;
      case element_type::DOUBLE:
        AppendJsonDouble(value.get_double().value_unsafe(), text);
        break;
      default:
        return Mismatch(value, path, "quantity");
    }
    const size_t start = text.find_first_not_of(' ');
    text = start == std::string::npos ? "" : text.substr(start, text.find_last_not_of(' ') - start + 1);
    std::string normal;
    if (in_map) {  // a resource list: the API server always stores these in canonical form
      absl::StatusOr<Quantity> parsed = Quantity::Parse(text);
      if (!parsed.ok()) return BadQuantity(text, path, parsed.status());
      normal = parsed->ToString();
    } else {
      absl::StatusOr<std::string> parsed = NormalizeQuantityText(text);
      if (!parsed.ok()) return BadQuantity(text, path, parsed.status());
      normal = *std::move(parsed);
    }
    table.reflection->SetString(message, table.form_field, std::move(normal));
    return absl::OkStatus();
  }

  static absl::Status BadQuantity(std::string_view text, const Path& path, const absl::Status& why) {
    return BadValue(path,
                    StrCat("invalid quantity \"", text.substr(0, kMaxShownBytes), "\": ", Sv(why.message())));
  }

  absl::Status IntOrStringValue(const TypeTable& table, const element& value, const Path& path,
                                Message* message) {
    const Reflection* reflection = table.reflection;
    if (value.type() == element_type::STRING) {
      reflection->SetInt64(message, table.form_field, kIntOrStringString);
      reflection->SetString(message, table.fields[2].field, std::string(value.get_string().value_unsafe()));
      return absl::OkStatus();
    }
    int64_t number;
    if (!AsInt64(value, &number) || number < std::numeric_limits<int32_t>::min() ||
        number > std::numeric_limits<int32_t>::max()) {
      return Mismatch(value, path, "int32 or string");
    }
    reflection->SetInt64(message, table.form_field, kIntOrStringInt);
    reflection->SetInt32(message, table.fields[1].field, static_cast<int32_t>(number));
    return absl::OkStatus();
  }

  absl::Status TimeValue(const TypeTable& table, const element& value, const Path& path, Message* message) {
    if (value.type() != element_type::STRING) return Mismatch(value, path, "string");
    const std::string_view text = value.get_string().value_unsafe();
    if (table.form == Form::FORM_DURATION) {
      absl::StatusOr<int64_t> duration = ParseGoDuration(text);
      if (!duration.ok()) return BadValue(path, Sv(duration.status().message()));
      table.reflection->SetInt64(message, table.form_field, *duration);
      return absl::OkStatus();
    }
    if (table.form == Form::FORM_TIME) {
      absl::StatusOr<::k8s::meta::v1::Time> time = ParseTime(text);
      if (!time.ok()) return BadValue(path, Sv(time.status().message()));
      message->CopyFrom(*time);
      return absl::OkStatus();
    }
    absl::StatusOr<::k8s::meta::v1::MicroTime> time = ParseMicroTime(text);
    if (!time.ok()) return BadValue(path, Sv(time.status().message()));
    message->CopyFrom(*time);
    return absl::OkStatus();
  }

  static bool AsInt64(const element& value, int64_t* out) {
    if (value.type() != element_type::INT64) return false;
    *out = value.get_int64().value_unsafe();
    return true;
  }

  // Text of a string field; null is "".
  absl::Status Text(const element& value, const Path& path, std::string* out) {
    if (value.type() == element_type::NULL_VALUE) return absl::OkStatus();
    if (value.type() != element_type::STRING) return Mismatch(value, path, "string");
    *out = std::string(value.get_string().value_unsafe());
    return absl::OkStatus();
  }

  absl::Status Bytes(const element& value, const Path& path, std::string* out) {
    if (value.type() == element_type::NULL_VALUE) return absl::OkStatus();
    if (value.type() != element_type::STRING) return Mismatch(value, path, "base64 string");
    std::string text(value.get_string().value_unsafe());
    std::erase_if(text, [](char c) { return c == '\n' || c == '\r'; });
    const bool alphabet =
        text.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=") ==
        std::string::npos;
    if (!alphabet || text.size() % 4 != 0 || !absl::Base64Unescape(text, out)) {
      return BadValue(path, "illegal base64 data");
    }
    return absl::OkStatus();
  }

  absl::Status Scalar(const FieldPlan& plan, const element& value, const Path& path, Message* message) {
    const Reflection* reflection = plan.reflection;
    switch (plan.cpp_type) {
      case FieldDescriptor::CPPTYPE_STRING: {
        std::string text;
        absl::Status status = absl::OkStatus();
        if (plan.rules->raw_json()) {
          text = simdjson::minify(value);
        } else {
          status = plan.is_bytes ? Bytes(value, path, &text) : Text(value, path, &text);
        }
        if (!status.ok()) return status;
        reflection->SetString(message, plan.field, std::move(text));
        return absl::OkStatus();
      }
      case FieldDescriptor::CPPTYPE_BOOL:
        if (value.type() != element_type::BOOL) return Mismatch(value, path, "bool");
        reflection->SetBool(message, plan.field, value.get_bool().value_unsafe());
        return absl::OkStatus();
      case FieldDescriptor::CPPTYPE_INT32: {
        int64_t number;
        if (!Int32(value, &number)) return Mismatch(value, path, "int32");
        reflection->SetInt32(message, plan.field, static_cast<int32_t>(number));
        return absl::OkStatus();
      }
      case FieldDescriptor::CPPTYPE_INT64: {
        int64_t number;
        if (!AsInt64(value, &number)) return Mismatch(value, path, "int64");
        reflection->SetInt64(message, plan.field, number);
        return absl::OkStatus();
      }
      case FieldDescriptor::CPPTYPE_UINT64: {
        uint64_t number;
        if (value.type() == element_type::DOUBLE || value.get_uint64().get(number) != simdjson::SUCCESS) {
          return Mismatch(value, path, "uint64");
        }
        reflection->SetUInt64(message, plan.field, number);
        return absl::OkStatus();
      }
      case FieldDescriptor::CPPTYPE_DOUBLE: {
        double number;
        if (value.get_double().get(number) != simdjson::SUCCESS) return Mismatch(value, path, "float64");
        reflection->SetDouble(message, plan.field, number);
        return absl::OkStatus();
      }
      default:
        return Mismatch(value, path, "nothing");
    }
  }

  static bool Int32(const element& value, int64_t* number) {
    return AsInt64(value, number) && *number >= std::numeric_limits<int32_t>::min() &&
           *number <= std::numeric_limits<int32_t>::max();
  }

  absl::Status List(const FieldPlan& plan, const element& value, const Path& path, Message* message) {
    if (value.type() != element_type::ARRAY) return Mismatch(value, path, "list");
    const Reflection* reflection = plan.reflection;
    reflection->ClearField(message, plan.field);  // a repeated key replaces the list, as in Go
    int index = 0;
    const simdjson::dom::array array =
        value.get_array().value_unsafe();  // named: the range must outlive the loop
    for (const element item : array) {
      const Path here{&path, {}, index++};
      absl::Status status = Item(plan, item, here, message, reflection);
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  // null is the zero value of the element type.
  absl::Status Item(const FieldPlan& plan, const element& item, const Path& here, Message* message,
                    const Reflection* reflection) {
    const bool is_null = item.type() == element_type::NULL_VALUE;
    switch (plan.cpp_type) {
      case FieldDescriptor::CPPTYPE_MESSAGE:
        return Value(*plan.sub, item, here, reflection->AddMessage(message, plan.field), false);
      case FieldDescriptor::CPPTYPE_STRING: {
        std::string text;
        absl::Status status = absl::OkStatus();
        if (plan.rules->raw_json()) {
          text = simdjson::minify(item);
        } else {
          status = plan.is_bytes ? Bytes(item, here, &text) : Text(item, here, &text);
        }
        if (status.ok()) reflection->AddString(message, plan.field, std::move(text));
        return status;
      }
      case FieldDescriptor::CPPTYPE_BOOL:
        if (!is_null && item.type() != element_type::BOOL) return Mismatch(item, here, "bool");
        reflection->AddBool(message, plan.field, !is_null && item.get_bool().value_unsafe());
        return absl::OkStatus();
      case FieldDescriptor::CPPTYPE_INT32: {
        int64_t number = 0;
        if (!is_null && !Int32(item, &number)) return Mismatch(item, here, "int32");
        reflection->AddInt32(message, plan.field, static_cast<int32_t>(number));
        return absl::OkStatus();
      }
      case FieldDescriptor::CPPTYPE_INT64: {
        int64_t number = 0;
        if (!is_null && !AsInt64(item, &number)) return Mismatch(item, here, "int64");
        reflection->AddInt64(message, plan.field, number);
        return absl::OkStatus();
      }
      default:
        return Mismatch(item, here, "nothing");
    }
  }

  absl::Status Map(const FieldPlan& plan, const element& value, const Path& path, Message* message) {
    if (value.type() != element_type::OBJECT) return Mismatch(value, path, "map");
    const simdjson::dom::object object = value.get_object().value_unsafe();
    std::vector<std::string_view> keys;
    for (const simdjson::dom::key_value_pair pair : object) {
      const Path here{&path, pair.key, -1};
      keys.push_back(pair.key);
      absl::Status status = MapEntry(plan, pair.key, pair.value, here, message);
      if (!status.ok()) return status;
    }
    if (strict_errors_ != nullptr && keys.size() > 1) {
      std::sort(keys.begin(), keys.end());
      for (size_t i = 1; i < keys.size(); ++i) {
        if (keys[i] == keys[i - 1]) Strict("duplicate", Path{&path, keys[i], -1});
      }
    }
    return absl::OkStatus();
  }

  std::vector<std::string>* strict_errors_;
};

absl::Status SyntaxError(std::string_view text, int max_depth, simdjson::error_code code) {
  JsonTextError where;
  if (!CheckJson(text, max_depth, &where)) {
    return BadRequest(
        StrCat("invalid JSON at line ", where.line, ", column ", where.column, ": ", where.message));
  }
  return BadRequest(StrCat("invalid JSON: ", std::string(simdjson::error_message(code))));
}

absl::Status TypeOfDocument(const element& root, std::string* api_version, std::string* kind) {
  if (root.type() != element_type::OBJECT) {
    return BadRequest(StrCat("json: cannot unmarshal ", KindName(root), " into an object"));
  }
  const simdjson::dom::object object =
      root.get_object().value_unsafe();  // named: the range must outlive the loop
  for (const simdjson::dom::key_value_pair pair : object) {
    std::string* out = pair.key == "kind" ? kind : pair.key == "apiVersion" ? api_version : nullptr;
    if (out == nullptr || pair.value.type() == element_type::NULL_VALUE) continue;
    if (pair.value.type() != element_type::STRING) {
      return BadRequest(
          StrCat("json: cannot unmarshal ", Shown(pair.value), " into field ", pair.key, " of type string"));
    }
    *out = std::string(pair.value.get_string().value_unsafe());
  }
  return absl::OkStatus();
}

absl::Status CannotHandle(const TypeInfo& type, const absl::Status& status) {
  return BadRequest(StrCat(type.gvk.kind, " in version \"", type.gvk.version, "\" cannot be handled as a ",
                           type.gvk.kind, ": ", Sv(status.message())));
}

}  // namespace

void ClearFieldIfEmpty(const FieldPlan& plan, Message* message) {
  const Reflection* reflection = plan.reflection;
  if (plan.pointer || !reflection->HasField(*message, plan.field)) return;
  const Message& sub = reflection->GetMessage(*message, plan.field);
  std::string scratch;
  const bool zero_quantity =
      plan.sub->form == Form::FORM_QUANTITY &&
      plan.sub->reflection->GetStringReference(sub, plan.sub->form_field, &scratch) == "0";
  if (zero_quantity || sub.ByteSizeLong() == 0) reflection->ClearField(message, plan.field);
}

absl::Status DecodeJsonField(const FieldPlan& plan, const element& value, Message* message,
                             std::vector<std::string>* strict_errors) {
  const Path here{nullptr, plan.json_name, -1};
  return Decoder(strict_errors).Field(plan, value, here, message);
}

absl::Status DecodeJsonMapEntry(const FieldPlan& plan, std::string_view key, const element& value,
                                Message* message, std::vector<std::string>* strict_errors) {
  const Path map{nullptr, plan.json_name, -1};
  const Path here{&map, key, -1};
  return Decoder(strict_errors).MapEntry(plan, key, value, here, message);
}

absl::StatusOr<JsonDocument> JsonDocument::Parse(std::string_view text, size_t max_bytes, int max_depth) {
  if (text.size() > max_bytes) return RequestEntityTooLarge(absl::StrCat("limit is ", max_bytes));
  if (text.data() == nullptr) text = "";  // simdjson copies from it, if only nothing
  JsonDocument document;
  simdjson::dom::parser* parser;
  if (text.size() <= kSharedParserBytes && !t_parser_used && max_depth == kMaxJsonDepth) {
    if (t_parser == nullptr) t_parser = new simdjson::dom::parser;  // one per thread, kept
    t_parser_used = true;
    document.shared_ = true;
    parser = t_parser;
  } else {
    document.own_ = std::make_unique<simdjson::dom::parser>();
    parser = document.own_.get();
  }
  if (parser->capacity() < text.size() || parser->max_depth() != static_cast<size_t>(max_depth)) {
    if (auto code = parser->allocate(std::max<size_t>(text.size(), 4096), static_cast<size_t>(max_depth))) {
      return absl::ResourceExhaustedError(simdjson::error_message(code));
    }
  }
  const auto code =
      parser->parse(reinterpret_cast<const uint8_t*>(text.data()), text.size(), true).get(document.root);
  if (code != simdjson::SUCCESS) return SyntaxError(text, max_depth, code);
  return document;
}

JsonDocument::~JsonDocument() {
  if (shared_) t_parser_used = false;
}

absl::StatusOr<::k8s::runtime::TypeMeta> PeekJsonType(std::string_view json) {
  absl::StatusOr<JsonDocument> document = JsonDocument::Parse(json, kMaxListBytes, kMaxJsonDepth);
  if (!document.ok()) return document.status();
  ::k8s::runtime::TypeMeta type;
  absl::Status status = TypeOfDocument(document->root, type.mutable_api_version(), type.mutable_kind());
  if (!status.ok()) return status;
  return type;
}

absl::Status DecodeJsonInto(std::string_view json, Message& message, std::vector<std::string>* strict_errors,
                            const DecodeOptions& options) {
  message.Clear();
  absl::StatusOr<JsonDocument> document = JsonDocument::Parse(json, options.max_bytes, options.max_depth);
  if (!document.ok()) return document.status();
  const TypeTable& table = TableOf(message);
  if (table.form != Form::FORM_OBJECT) return absl::InvalidArgumentError("not an object type");
  return Decoder(strict_errors).Object(table, document->root, Path{}, &message);
}

absl::StatusOr<Decoded> DecodeJson(std::string_view json, const DecodeOptions& options) {
  absl::StatusOr<JsonDocument> document = JsonDocument::Parse(json, options.max_bytes, options.max_depth);
  if (!document.ok()) return document.status();
  std::string api_version, kind;
  absl::Status status = TypeOfDocument(document->root, &api_version, &kind);
  if (!status.ok()) return status;
  if (options.default_type != nullptr) {
    if (api_version.empty()) api_version = options.default_type->api_version;
    if (kind.empty()) kind = options.default_type->gvk.kind;
  }
  if (kind.empty()) return BadRequest(StrCat("Object 'Kind' is missing in '", json.substr(0, 256), "'"));
  if (api_version.empty())
    return BadRequest(StrCat("Object 'apiVersion' is missing in '", json.substr(0, 256), "'"));
  Decoded decoded;
  decoded.type = Scheme::Get().ByKind(api_version, kind);
  if (decoded.type == nullptr) {
    return BadRequest(StrCat("no kind \"", kind, "\" is registered for version \"", api_version, "\""));
  }
  decoded.object.reset(decoded.type->prototype->New());
  status = Decoder(&decoded.strict_errors)
               .Object(TableOf(*decoded.object), document->root, Path{}, decoded.object.get());
  if (!status.ok()) return CannotHandle(*decoded.type, status);
  return decoded;
}

absl::Status StrictError(const TypeInfo& type, const std::vector<std::string>& strict_errors) {
  return CannotHandle(type, absl::InvalidArgumentError(
                                absl::StrCat("strict decoding error: ", absl::StrJoin(strict_errors, ", "))));
}

}  // namespace keelson::api
