#include "api/testing/random_object.h"

#include <cstdlib>
#include <random>
#include <string>

#include "api/codec.h"
#include "api/scheme_types.h"
#include "api/type_table.h"

namespace keelson::api {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using keelson::options::Form;

class Generator {
 public:
  explicit Generator(uint64_t seed) : random_(seed) {}

  void Fill(const TypeTable& table, Message* message, int depth) {
    const Reflection* reflection = message->GetReflection();
    switch (table.form) {
      case Form::FORM_OBJECT:
        break;
      case Form::FORM_TIME:
        reflection->SetInt64(message, table.form_field, Below(4'000'000'000) + 1);
        return;
      case Form::FORM_MICRO_TIME:
        reflection->SetInt64(message, table.form_field, Below(4'000'000'000) + 1);
        reflection->SetInt32(message, table.fields[1].field, static_cast<int32_t>(Below(1'000'000)) * 1000);
        return;
      case Form::FORM_DURATION:
        reflection->SetInt64(message, table.form_field, Below(1'000'000'000'000) + 1);
        return;
      case Form::FORM_QUANTITY: {
        const char* const kTexts[] = {"1", "100m", "1Gi", "1536Mi", "12k", "1e3", "0", "-5"};
        reflection->SetString(message, table.form_field, kTexts[Below(8)]);
        return;
      }
      case Form::FORM_INT_OR_STRING:
        if (Below(2) == 0) {
          reflection->SetInt32(message, table.fields[1].field, static_cast<int32_t>(Below(65536)));
        } else {
          reflection->SetInt64(message, table.form_field, 1);
          reflection->SetString(message, table.fields[2].field, Text());
        }
        return;
      case Form::FORM_RAW:
        reflection->SetString(message, table.form_field, R"({"a":[1,"x",null],"b":{}})");
        return;
      case Form::FORM_STRING_LIST:
        for (uint64_t i = Below(3); i > 0; --i) reflection->AddString(message, table.form_field, Text());
        return;
      default:
        return;
    }
    if (depth > kMaxRandomDepth) return;
    for (const FieldPlan& plan : table.fields) {
      if (Below(100) < 45) continue;
      if (plan.is_map) {
        for (uint64_t i = Below(3); i > 0; --i) FillMap(plan, message, depth);
      } else if (plan.is_list) {
        for (uint64_t i = Below(3); i > 0; --i) AddItem(plan, message, depth);
      } else if (plan.is_message) {
        Message* sub = reflection->MutableMessage(message, plan.field);
        Fill(*plan.sub, sub, depth + 1);
        const bool zero = sub->ByteSizeLong() == 0 ||
                          (plan.sub->form == Form::FORM_QUANTITY && EncodeJson(*sub) == "\"0\"");
        if (!plan.pointer && zero) reflection->ClearField(message, plan.field);  // as the decoder leaves it
      } else {
        SetScalar(plan, message);
      }
    }
  }

 private:
  uint64_t Below(uint64_t n) { return random_() % n; }

  std::string Text() {
    const char* const kTexts[] = {"",
                                  "a",
                                  "web-1",
                                  "true",
                                  "10",
                                  "a\"b\\c/\n\t",
                                  "<&>",
                                  "\xc3\xa9\xe2\x82\xac",
                                  "\xf0\x9f\x98\x80",
                                  "\x7f\x01",
                                  "x: y",
                                  "- z"};
    return kTexts[Below(12)];
  }
  std::string Bytes() {
    std::string out;
    for (uint64_t i = Below(9); i > 0; --i) out += static_cast<char>(Below(256));
    return out;
  }
  int64_t Number() { return static_cast<int64_t>(random_()) >> Below(60); }

  void FillMap(const FieldPlan& plan, Message* message, int depth) {
    void* slot = plan.map->insert(*message, "k" + std::to_string(Below(5)));
    if (plan.is_message) {
      static_cast<Message*>(slot)->Clear();
      Fill(*plan.sub, static_cast<Message*>(slot), depth + 1);
    } else if (plan.cpp_type == FieldDescriptor::CPPTYPE_STRING) {
      *static_cast<std::string*>(slot) = plan.is_bytes ? Bytes() : Text();
    } else {
      *static_cast<bool*>(slot) = Below(2) == 0;
    }
  }

  void AddItem(const FieldPlan& plan, Message* message, int depth) {
    const Reflection* reflection = message->GetReflection();
    switch (plan.cpp_type) {
      case FieldDescriptor::CPPTYPE_MESSAGE:
        Fill(*plan.sub, reflection->AddMessage(message, plan.field), depth + 1);
        return;
      case FieldDescriptor::CPPTYPE_STRING:
        reflection->AddString(message, plan.field,
                              plan.rules->raw_json() ? "7"
                              : plan.is_bytes        ? Bytes()
                                                     : Text());
        return;
      case FieldDescriptor::CPPTYPE_BOOL:
        reflection->AddBool(message, plan.field, Below(2) == 0);
        return;
      case FieldDescriptor::CPPTYPE_INT32:
        reflection->AddInt32(message, plan.field, static_cast<int32_t>(Number()));
        return;
      case FieldDescriptor::CPPTYPE_INT64:
        reflection->AddInt64(message, plan.field, Number());
        return;
      default:
        std::abort();
    }
  }

  void SetScalar(const FieldPlan& plan, Message* message) {
    const Reflection* reflection = message->GetReflection();
    switch (plan.cpp_type) {
      case FieldDescriptor::CPPTYPE_STRING:
        reflection->SetString(message, plan.field,
                              plan.rules->raw_json() ? "7"
                              : plan.is_bytes        ? Bytes()
                                                     : Text());
        return;
      case FieldDescriptor::CPPTYPE_BOOL:
        reflection->SetBool(message, plan.field, Below(2) == 0);
        return;
      case FieldDescriptor::CPPTYPE_INT32:
        reflection->SetInt32(message, plan.field, static_cast<int32_t>(Number()));
        return;
      case FieldDescriptor::CPPTYPE_INT64:
        reflection->SetInt64(message, plan.field, Number());
        return;
      case FieldDescriptor::CPPTYPE_UINT64:
        reflection->SetUInt64(message, plan.field, random_());
        return;
      case FieldDescriptor::CPPTYPE_DOUBLE:
        reflection->SetDouble(message, plan.field, static_cast<double>(Number()) / 1000);
        return;
      default:
        std::abort();
    }
  }

  std::mt19937_64 random_;
};

}  // namespace

void FillRandomly(uint64_t seed, Message* object, int depth) {
  Generator(seed).Fill(TableOf(*object), object, depth);
}

}  // namespace keelson::api
