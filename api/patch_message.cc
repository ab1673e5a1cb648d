#include "api/patch_message.h"

#include <absl/container/flat_hash_set.h>

#include <algorithm>
#include <string>
#include <vector>

#include "api/codec.h"
#include "api/json_dom.h"
#include "api/scheme_types.h"
#include "api/type_table.h"

namespace keelson::api {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using keelson::options::Form;
using simdjson::dom::element;
using simdjson::dom::element_type;

constexpr size_t kFewKeys = 16;

bool IsNull(const element& value) { return value.type() == element_type::NULL_VALUE; }

// Of keys given twice the last one counts in JSON; here both would.
bool HasDuplicateKeys(const simdjson::dom::object& object) {
  if (object.size() > kFewKeys) {
    absl::flat_hash_set<std::string_view> seen;
    for (const simdjson::dom::key_value_pair pair : object) {
      if (!seen.insert(pair.key).second) return true;
    }
    return false;
  }
  std::string_view seen[kFewKeys];
  size_t count = 0;
  for (const simdjson::dom::key_value_pair pair : object) {
    if (std::find(seen, seen + count, pair.key) != seen + count) return true;
    seen[count++] = pair.key;
  }
  return false;
}

// Every method is false when the general way must be taken: rare things are left to it, errors always.
class MessageMerge {
 public:
  explicit MessageMerge(bool strategic) : strategic_(strategic) {}

  bool Object(const TypeTable& table, const element& patch, Message* message) {
    if (table.form != Form::FORM_OBJECT || patch.type() != element_type::OBJECT) return false;
    const simdjson::dom::object object = patch.get_object().value_unsafe();
    if (HasDuplicateKeys(object)) return false;
    std::vector<const FieldPlan*> inline_path;
    for (const simdjson::dom::key_value_pair pair : object) {
      if (pair.key.starts_with('$')) return false;  // a directive
      if (table.has_type_meta && (pair.key == "kind" || pair.key == "apiVersion")) {
        // The patched object keeps its kind, whatever is said.
        if (!IsNull(pair.value) && pair.value.type() != element_type::STRING) return false;
        continue;
      }
      inline_path.clear();
      const FieldPlan* plan = table.Find(pair.key, &inline_path);
      if (plan == nullptr) return false;
      Message* target = message;
      for (const FieldPlan* step : inline_path) {
        if (IsNull(pair.value) && !step->reflection->HasField(*target, step->field)) {
          target = nullptr;
          break;
        }
        target = step->reflection->MutableMessage(target, step->field);
      }
      if (target != nullptr && !Field(*plan, pair.value, target)) return false;
    }
    for (const FieldPlan* plan : table.inlines) ClearFieldIfEmpty(*plan, message);
    return true;
  }

 private:
  bool Field(const FieldPlan& plan, const element& value, Message* message) {
    if (IsNull(value)) {
      plan.reflection->ClearField(message, plan.field);
      return true;
    }
    if (plan.rules->raw_json()) return false;
    if (plan.is_map) return Map(plan, value, message);
    if (plan.is_list) {
      if (value.type() != element_type::ARRAY) return false;
      return strategic_ && plan.patch_merge ? List(plan, value, message) : Decode(plan, value, message);
    }
    if (!plan.is_message) return Decode(plan, value, message);
    if (plan.sub->form == Form::FORM_OBJECT) {
      if (!Object(*plan.sub, value, plan.reflection->MutableMessage(message, plan.field))) return false;
      ClearFieldIfEmpty(plan, message);
      return true;
    }
    // A time, a quantity, a number or text: one value, no trace of the old one stays.
    if (value.type() == element_type::OBJECT || value.type() == element_type::ARRAY) return false;
    plan.reflection->ClearField(message, plan.field);
    return Decode(plan, value, message);
  }

  bool Map(const FieldPlan& plan, const element& value, Message* message) {
    if (value.type() != element_type::OBJECT) return false;
    if (plan.is_message && plan.sub->form == Form::FORM_OBJECT) return false;
    const simdjson::dom::object object = value.get_object().value_unsafe();
    if (HasDuplicateKeys(object)) return false;
    std::vector<std::string> strict;
    for (const simdjson::dom::key_value_pair pair : object) {
      if (pair.key.starts_with('$')) return false;
      if (IsNull(pair.value)) {
        plan.map->erase(*message, std::string(pair.key));
        continue;
      }
      if (pair.value.type() == element_type::OBJECT || pair.value.type() == element_type::ARRAY) return false;
      if (!DecodeJsonMapEntry(plan, pair.key, pair.value, message, &strict).ok()) return false;
    }
    return strict.empty();
  }

  bool List(const FieldPlan& plan, const element& value, Message* message) {
    const simdjson::dom::array items = value.get_array().value_unsafe();
    const std::string& merge_key = plan.rules->merge_key();
    if (merge_key.empty())
      return plan.cpp_type == FieldDescriptor::CPPTYPE_STRING && AddMissing(plan, items, message);
    if (!plan.is_message) return false;
    std::vector<const FieldPlan*> key_path;
    const FieldPlan* key = plan.sub->Find(merge_key, &key_path);
    if (key == nullptr || !key_path.empty()) return false;
    for (const element item : items) {
      if (item.type() != element_type::OBJECT) return false;
      element wanted;
      if (item.at_key(merge_key).get(wanted) != simdjson::SUCCESS) return false;
      Message* found = nullptr;
      if (!FindItem(plan, *key, wanted, message, &found)) return false;
      if (found == nullptr) found = plan.reflection->AddMessage(message, plan.field);
      if (!Object(*plan.sub, item, found)) return false;
    }
    return true;
  }

  // The first element whose merge key is `wanted`; null when there is none. False for keys that are not
  // plain.
  static bool FindItem(const FieldPlan& plan, const FieldPlan& key, const element& wanted, Message* message,
                       Message** found) {
    const Reflection* reflection = plan.reflection;
    const int size = reflection->FieldSize(*message, plan.field);
    if (key.is_list || key.is_map || key.is_bytes || key.rules->raw_json()) return false;
    std::string_view text;
    int64_t number = 0;
    const bool is_text = key.cpp_type == FieldDescriptor::CPPTYPE_STRING;
    if (is_text) {
      if (wanted.get(text) != simdjson::SUCCESS || text.empty()) return false;
    } else {
      if (key.cpp_type != FieldDescriptor::CPPTYPE_INT32 || wanted.type() != element_type::INT64)
        return false;
      number = wanted.get_int64().value_unsafe();
      if (number == 0) return false;
    }
    std::string scratch;
    for (int i = 0; i < size; ++i) {
      const Message& item = reflection->GetRepeatedMessage(*message, plan.field, i);
      const bool same = is_text ? key.reflection->GetStringReference(item, key.field, &scratch) == text
                                : key.reflection->GetInt32(item, key.field) == number;
      if (!same) continue;
      *found = reflection->MutableRepeatedMessage(message, plan.field, i);
      break;
    }
    return true;
  }

  // A list of strings that is a set.
  static bool AddMissing(const FieldPlan& plan, const simdjson::dom::array& items, Message* message) {
    if (plan.is_bytes) return false;
    const Reflection* reflection = plan.reflection;
    std::string scratch;
    for (const element item : items) {
      std::string_view text;
      if (item.get(text) != simdjson::SUCCESS) return false;
      bool present = false;
      for (int i = 0; i < reflection->FieldSize(*message, plan.field) && !present; ++i) {
        present = reflection->GetRepeatedStringReference(*message, plan.field, i, &scratch) == text;
      }
      if (!present) reflection->AddString(message, plan.field, std::string(text));
    }
    return true;
  }

  bool Decode(const FieldPlan& plan, const element& value, Message* message) {
    std::vector<std::string> strict;
    return DecodeJsonField(plan, value, message, &strict).ok() && strict.empty();
  }

  const bool strategic_;
};

}  // namespace

bool IsJsonObject(std::string_view text) {
  absl::StatusOr<JsonDocument> document = JsonDocument::Parse(text, text.size(), kMaxJsonDepth);
  return document.ok() && document->root.type() == element_type::OBJECT;
}

bool MergeIntoMessage(std::string_view patch, bool strategic, Message* object) {
  absl::StatusOr<JsonDocument> document = JsonDocument::Parse(patch, patch.size(), kMaxJsonDepth);
  if (!document.ok()) return false;
  return MessageMerge(strategic).Object(TableOf(*object), document->root, object);
}

}  // namespace keelson::api
