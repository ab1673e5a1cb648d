// Messages to JSON text.
#include <google/protobuf/message.h>

#include <algorithm>
#include <charconv>

#include "api/codec.h"
#include "api/json_text.h"
#include "api/scheme_types.h"
#include "api/time.h"
#include "api/type_table.h"
#include "base/strings.h"

namespace keelson::api {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using keelson::options::Form;

template <typename T>
void AppendInt(T value, std::string& out) {
  char buffer[24];
  auto result = std::to_chars(buffer, buffer + sizeof(buffer), value);
  out.append(buffer, static_cast<size_t>(result.ptr - buffer));
}

void AppendBase64(std::string_view bytes, std::string& out) {
  static constexpr char kAlphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  out += '"';
  size_t i = 0;
  const auto at = [&](size_t k) { return static_cast<uint32_t>(static_cast<unsigned char>(bytes[k])); };
  for (; i + 3 <= bytes.size(); i += 3) {
    const uint32_t v = at(i) << 16 | at(i + 1) << 8 | at(i + 2);
    const char group[4] = {kAlphabet[v >> 18], kAlphabet[v >> 12 & 63], kAlphabet[v >> 6 & 63],
                           kAlphabet[v & 63]};
    out.append(group, 4);
  }
  if (bytes.size() - i == 1) {
    const uint32_t v = at(i) << 16;
    const char group[4] = {kAlphabet[v >> 18], kAlphabet[v >> 12 & 63], '=', '='};
    out.append(group, 4);
  } else if (bytes.size() - i == 2) {
    const uint32_t v = at(i) << 16 | at(i + 1) << 8;
    const char group[4] = {kAlphabet[v >> 18], kAlphabet[v >> 12 & 63], kAlphabet[v >> 6 & 63], '='};
    out.append(group, 4);
  }
  out += '"';
}

// Text that came from outside and stands in ours as it is: broken text must not break the whole list.
void AppendRaw(std::string_view raw, std::string& out) {
  if (raw.empty() || !CheckJson(raw, kMaxJsonDepth)) {
    out += "null";
  } else {
    out.append(raw);
  }
}

class Encoder {
 public:
  explicit Encoder(std::string& out) : out_(out) {}

  void Value(const TypeTable& table, const Message& message, bool type_meta) {
    const Reflection* reflection = table.reflection;
    std::string scratch;
    switch (table.form) {
      case Form::FORM_OBJECT:
        Object(table, message, type_meta);
        return;
      case Form::FORM_TIME:
      case Form::FORM_MICRO_TIME:
        Time(table, message);
        return;
      case Form::FORM_DURATION:
        AppendJsonString(FormatGoDuration(reflection->GetInt64(message, table.form_field)), out_);
        return;
      case Form::FORM_QUANTITY: {
        const std::string& text = reflection->GetStringReference(message, table.form_field, &scratch);
        AppendJsonString(text.empty() ? std::string_view("0") : std::string_view(text), out_);
        return;
      }
      case Form::FORM_INT_OR_STRING:
        if (reflection->GetInt64(message, table.form_field) == 0) {
          AppendInt(reflection->GetInt32(message, table.fields[1].field), out_);
        } else {
          AppendJsonString(reflection->GetStringReference(message, table.fields[2].field, &scratch), out_);
        }
        return;
      case Form::FORM_RAW:
        AppendRaw(reflection->GetStringReference(message, table.form_field, &scratch), out_);
        return;
      case Form::FORM_STRING_LIST:
        List(table.fields[0], message, reflection);
        return;
      default:
        out_ += "null";
    }
  }

 private:
  void Object(const TypeTable& table, const Message& message, bool type_meta) {
    if (type_meta && table.has_type_meta) {
      out_ += table.type_prefix;
      first_ = false;
    } else {
      out_ += '{';
      first_ = true;
    }
    Fields(table, message);
    out_ += '}';
    first_ = false;
  }

  void Fields(const TypeTable& table, const Message& message) {
    const Reflection* reflection = table.reflection;
    for (const FieldPlan& plan : table.fields) {
      if (plan.is_map) {
        Map(plan, message);
      } else if (plan.is_list) {
        if (reflection->FieldSize(message, plan.field) == 0) {
          if (!plan.always) continue;
          Key(plan);
          out_ += plan.rules->non_nil() ? "[]" : "null";
        } else {
          Key(plan);
          List(plan, message, reflection);
        }
      } else if (plan.is_message) {
        SubMessage(plan, message, reflection);
      } else {
        Scalar(plan, message, reflection);
      }
    }
  }

  void Key(const FieldPlan& plan) {
    if (!first_) out_ += ',';
    first_ = false;
    out_ += plan.quoted_key;
  }

  void SubMessage(const FieldPlan& plan, const Message& message, const Reflection* reflection) {
    const bool present = reflection->HasField(message, plan.field);
    if (plan.rules->inline_()) {
      if (present || !plan.pointer) Fields(*plan.sub, reflection->GetMessage(message, plan.field));
      return;
    }
    if (!present) {
      if (!plan.always) return;
      Key(plan);
      if (plan.pointer) {
        out_ += "null";
        return;
      }
    } else {
      if (plan.omitzero && reflection->GetMessage(message, plan.field).ByteSizeLong() == 0) return;
      Key(plan);
    }
    // Absent and not a pointer: the default instance, as Go writes the zero struct.
    Value(*plan.sub, reflection->GetMessage(message, plan.field), false);
    first_ = false;
  }

  void Scalar(const FieldPlan& plan, const Message& message, const Reflection* reflection) {
    const FieldDescriptor* field = plan.field;
    if (!reflection->HasField(message, field)) {
      if (!plan.always) return;
      Key(plan);
      if (plan.pointer || plan.is_bytes) {
        out_ += "null";
        return;
      }
    } else {
      Key(plan);
    }
    switch (plan.cpp_type) {
      case FieldDescriptor::CPPTYPE_STRING: {
        std::string scratch;
        const std::string& text = reflection->GetStringReference(message, field, &scratch);
        if (plan.rules->raw_json()) {
          AppendRaw(text, out_);
        } else if (plan.is_bytes) {
          AppendBase64(text, out_);
        } else {
          AppendJsonString(text, out_);
        }
        return;
      }
      case FieldDescriptor::CPPTYPE_BOOL:
        out_ += reflection->GetBool(message, field) ? "true" : "false";
        return;
      case FieldDescriptor::CPPTYPE_INT32:
        AppendInt(reflection->GetInt32(message, field), out_);
        return;
      case FieldDescriptor::CPPTYPE_INT64:
        AppendInt(reflection->GetInt64(message, field), out_);
        return;
      case FieldDescriptor::CPPTYPE_UINT64:
        AppendInt(reflection->GetUInt64(message, field), out_);
        return;
      case FieldDescriptor::CPPTYPE_DOUBLE:
        AppendJsonDouble(reflection->GetDouble(message, field), out_);
        return;
      default:
        out_ += "null";
    }
  }

  void List(const FieldPlan& plan, const Message& message, const Reflection* reflection) {
    const FieldDescriptor* field = plan.field;
    const int size = reflection->FieldSize(message, field);
    out_ += '[';
    std::string scratch;
    for (int i = 0; i < size; ++i) {
      if (i > 0) out_ += ',';
      switch (plan.cpp_type) {
        case FieldDescriptor::CPPTYPE_MESSAGE:
          Value(*plan.sub, reflection->GetRepeatedMessage(message, field, i), plan.rules->emit_type_meta());
          break;
        case FieldDescriptor::CPPTYPE_STRING: {
          const std::string& text = reflection->GetRepeatedStringReference(message, field, i, &scratch);
          if (plan.rules->raw_json()) {
            AppendRaw(text, out_);
          } else if (plan.is_bytes) {
            AppendBase64(text, out_);
          } else {
            AppendJsonString(text, out_);
          }
          break;
        }
        case FieldDescriptor::CPPTYPE_BOOL:
          out_ += reflection->GetRepeatedBool(message, field, i) ? "true" : "false";
          break;
        case FieldDescriptor::CPPTYPE_INT32:
          AppendInt(reflection->GetRepeatedInt32(message, field, i), out_);
          break;
        case FieldDescriptor::CPPTYPE_INT64:
          AppendInt(reflection->GetRepeatedInt64(message, field, i), out_);
          break;
        default:
          out_ += "null";
      }
    }
    out_ += ']';
    first_ = false;
  }

  // Keys in byte order.
  void Map(const FieldPlan& plan, const Message& message) {
    std::vector<MapRow::Entry> entries;
    plan.map->list(message, &entries);
    if (entries.empty()) {
      if (!plan.always) return;
      Key(plan);
      out_ += plan.rules->non_nil() ? "{}" : "null";
      return;
    }
    std::sort(entries.begin(), entries.end(),
              [](const auto& a, const auto& b) { return *a.first < *b.first; });
    Key(plan);
    out_ += '{';
    bool first = true;
    for (const auto& [key, value] : entries) {
      if (!first) out_ += ',';
      first = false;
      AppendJsonString(*key, out_);
      out_ += ':';
      if (plan.is_message) {
        Value(*plan.sub, *static_cast<const Message*>(value), false);
      } else if (plan.is_bytes) {
        AppendBase64(*static_cast<const std::string*>(value), out_);
      } else if (plan.cpp_type == FieldDescriptor::CPPTYPE_STRING) {
        AppendJsonString(*static_cast<const std::string*>(value), out_);
      } else {
        out_ += *static_cast<const bool*>(value) ? "true" : "false";
      }
    }
    out_ += '}';
    first_ = false;
  }

  void Time(const TypeTable& table, const Message& message) {
    const Reflection* reflection = table.reflection;
    const int64_t seconds = reflection->GetInt64(message, table.form_field);
    const int32_t nanos = reflection->GetInt32(message, table.fields[1].field);
    if (seconds == 0 && nanos == 0) {
      out_ += "null";
      return;
    }
    out_ += '"';
    if (table.form == Form::FORM_TIME) {
      AppendRfc3339(seconds, out_);
    } else {
      AppendRfc3339Micro(seconds, nanos, out_);
    }
    out_ += '"';
  }

  std::string& out_;
  bool first_ = true;  // no field of the open object has been written yet
};

}  // namespace

void AppendJson(const Message& message, std::string& out) {
  Encoder(out).Value(TableOf(message), message, true);
}

void AppendJsonWithoutType(const Message& message, std::string& out) {
  Encoder(out).Value(TableOf(message), message, false);
}

std::string EncodeJson(const Message& message) {
  std::string out;
  out.reserve(1024);
  AppendJson(message, out);
  return out;
}

}  // namespace keelson::api
