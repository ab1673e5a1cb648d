#include "api/patch.h"

#include <absl/strings/match.h>
#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "api/options.pb.h"
#include "api/patch_message.h"
#include "base/strings.h"

namespace keelson::api {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using nlohmann::json;

namespace {

constexpr int kMaxDepth = 128;
constexpr std::string_view kDirective = "$patch";
constexpr std::string_view kRetainKeys = "$retainKeys";
constexpr absl::string_view kSetElementOrder = "$setElementOrder/";
constexpr absl::string_view kDeleteFromPrimitiveList = "$deleteFromPrimitiveList/";

absl::StatusOr<json> ParseJson(std::string_view text, const char* what) {
  bool too_deep = false;
  auto guard = [&](int depth, json::parse_event_t, json&) {
    if (depth > kMaxDepth) too_deep = true;
    return !too_deep;
  };
  json document = json::parse(text.begin(), text.end(), guard, /*allow_exceptions=*/false);
  if (too_deep)
    return absl::InvalidArgumentError(StrCat(what, ": nested deeper than ", kMaxDepth, " levels"));
  if (document.is_discarded()) return absl::InvalidArgumentError(StrCat(what, ": not valid JSON"));
  return document;
}

// How one JSON field merges.
struct FieldSchema {
  const Descriptor* message = nullptr;  // of the field, of a list's elements or of a map's values
  bool merge = false;                   // patchStrategy has "merge"
  std::string merge_key;
};

const FieldDescriptor* FindJsonField(const Descriptor& type, const std::string& name) {
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor* field = type.field(i);
    const auto& rules = field->options().GetExtension(options::field);
    if (rules.inline_()) {
      if (field->message_type() == nullptr) continue;
      if (const FieldDescriptor* inner = FindJsonField(*field->message_type(), name)) return inner;
    } else if (field->json_name() == name) {
      return field;
    }
  }
  return nullptr;
}

bool HasFields(const Descriptor& type) {
  return type.options().GetExtension(options::type).form() == options::FORM_OBJECT;
}

FieldSchema SchemaOf(const Descriptor* type, const std::string& name) {
  FieldSchema schema;
  if (type == nullptr) return schema;
  const FieldDescriptor* field = FindJsonField(*type, name);
  if (field == nullptr) return schema;
  const auto& rules = field->options().GetExtension(options::field);
  for (const std::string& strategy : rules.patch_strategy()) schema.merge |= strategy == "merge";
  schema.merge_key = rules.merge_key();
  if (field->is_map()) {
    const FieldDescriptor* value = field->message_type()->map_value();
    schema.message = value->message_type();
  } else {
    schema.message = field->message_type();
  }
  if (schema.message != nullptr && !HasFields(*schema.message)) schema.message = nullptr;
  return schema;
}

// A map field's JSON object has free keys: its values share one schema.
bool IsMapField(const Descriptor* type, const std::string& name) {
  const FieldDescriptor* field = type == nullptr ? nullptr : FindJsonField(*type, name);
  return field != nullptr && field->is_map();
}

class StrategicMerge {
 public:
  // Merges `patch` into `original` (an object) under the schema `type`; `values` is set inside a map field,
  // whose keys are data.
  absl::Status Object(json& original, const json& patch, const Descriptor* type, const Descriptor* values,
                      const std::string& path) {
    if (auto directive = patch.find(kDirective); directive != patch.end()) {
      if (*directive == "replace") {
        original = json::object();
        for (const auto& [key, value] : patch.items()) {
          if (key != kDirective) original[key] = value;
        }
        return absl::OkStatus();
      }
      if (*directive == "delete") {
        original = json::object();
        return absl::OkStatus();
      }
      if (*directive != "merge") {
        return absl::InvalidArgumentError(StrCat("unknown patch directive ", directive->dump(), " at \"",
                                                 path, "\": use replace, delete or merge"));
      }
    }
    if (auto retain = patch.find(kRetainKeys); retain != patch.end()) {
      if (!retain->is_array()) return Malformed(path, "$retainKeys");
      for (auto it = original.begin(); it != original.end();) {
        bool keep = std::find(retain->begin(), retain->end(), json(it.key())) != retain->end();
        it = keep ? std::next(it) : original.erase(it);
      }
    }
    for (const auto& [key, value] : patch.items()) {
      if (key == kDirective || key == kRetainKeys) continue;
      if (absl::StartsWith(key, kSetElementOrder)) continue;
      if (absl::StartsWith(key, kDeleteFromPrimitiveList)) {
        std::string list = key.substr(kDeleteFromPrimitiveList.size());
        if (!value.is_array()) return Malformed(path, key);
        auto it = original.find(list);
        if (it == original.end() || !it->is_array()) continue;
        json kept = json::array();
        for (const json& item : *it) {
          if (std::find(value.begin(), value.end(), item) == value.end()) kept.push_back(item);
        }
        *it = std::move(kept);
        continue;
      }
      absl::Status merged = Field(original, key, value, patch, type, values, path);
      if (!merged.ok()) return merged;
    }
    // Orders given for lists the patch does not change otherwise.
    for (const auto& [key, value] : patch.items()) {
      if (!absl::StartsWith(key, kSetElementOrder)) continue;
      std::string list = key.substr(kSetElementOrder.size());
      auto it = original.find(list);
      if (it == original.end() || !it->is_array()) continue;
      if (!value.is_array()) return Malformed(path, key);
      absl::Status ordered = Order(*it, value, SchemaOf(type, list).merge_key);
      if (!ordered.ok()) return ordered;
    }
    return absl::OkStatus();
  }

 private:
  static absl::Status Malformed(const std::string& path, std::string_view key) {
    return absl::InvalidArgumentError(StrCat("\"", key, "\" at \"", path, "\" must be a list"));
  }

  absl::Status Field(json& original, const std::string& key, const json& value, const json&,
                     const Descriptor* type, const Descriptor* values, const std::string& path) {
    if (value.is_null()) {
      original.erase(key);
      return absl::OkStatus();
    }
    std::string here = path.empty() ? key : StrCat(path, ".", key);
    FieldSchema schema;
    bool is_map = false;
    if (values != nullptr) {
      schema.message = values;
    } else {
      schema = SchemaOf(type, key);
      is_map = IsMapField(type, key);
    }
    if (value.is_object()) {
      json& target = original[key];
      if (!target.is_object()) target = json::object();
      return is_map ? Object(target, value, nullptr, schema.message, here)
                    : Object(target, value, schema.message, nullptr, here);
    }
    if (value.is_array() && schema.merge) {
      json& target = original[key];
      if (!target.is_array()) target = json::array();
      return List(target, value, schema, here);
    }
    original[key] = value;
    return absl::OkStatus();
  }

  absl::Status List(json& target, const json& patch, const FieldSchema& schema, const std::string& path) {
    if (schema.merge_key.empty()) {
      for (const json& item : patch) {
        if (std::find(target.begin(), target.end(), item) == target.end()) target.push_back(item);
      }
      return absl::OkStatus();
    }
    for (const json& item : patch) {
      if (!item.is_object()) {
        return absl::InvalidArgumentError(StrCat("\"", path, "\": every item must be an object"));
      }
      if (item.value(std::string(kDirective), json()) == "replace") {
        target = json::array();
        for (const json& other : patch) {
          if (!other.contains(kDirective)) target.push_back(other);
        }
        return absl::OkStatus();
      }
    }
    for (const json& item : patch) {
      auto key = item.find(schema.merge_key);
      if (key == item.end()) {
        return absl::InvalidArgumentError(StrCat("\"", path, "\": map: ", item.dump(),
                                                 " does not contain declared merge key: ", schema.merge_key));
      }
      auto matches = [&](const json& other) {
        return other.is_object() && other.value(schema.merge_key, json()) == *key;
      };
      if (item.value(std::string(kDirective), json()) == "delete") {
        target.erase(std::remove_if(target.begin(), target.end(), matches), target.end());
        continue;
      }
      auto found = std::find_if(target.begin(), target.end(), matches);
      if (found == target.end()) {
        target.push_back(json::object());
        found = std::prev(target.end());
      }
      absl::Status merged = Object(*found, item, schema.message, nullptr, path);
      if (!merged.ok()) return merged;
    }
    return absl::OkStatus();
  }

  // Puts the listed elements into the given order; elements the client does not know keep their place
  // relative to the listed ones that stood before them.
  static absl::Status Order(json& list, const json& order, const std::string& merge_key) {
    auto key_of = [&](const json& item) {
      return merge_key.empty() || !item.is_object() ? item : item.value(merge_key, json());
    };
    auto rank = [&](const json& item) {
      json key = key_of(item);
      for (size_t i = 0; i < order.size(); ++i) {
        if (key_of(order[i]) == key) return i;
      }
      return order.size();
    };
    struct Element {
      size_t place, rank;
    };
    std::vector<Element> listed, others;
    for (size_t i = 0; i < list.size(); ++i) {
      Element element{i, rank(list[i])};
      (element.rank < order.size() ? listed : others).push_back(element);
    }
    std::stable_sort(listed.begin(), listed.end(),
                     [](const Element& a, const Element& b) { return a.rank < b.rank; });
    json result = json::array();
    size_t a = 0, b = 0;
    while (a < listed.size() || b < others.size()) {
      bool take_other = a == listed.size() || (b < others.size() && others[b].place < listed[a].place);
      result.push_back(list[take_other ? others[b++].place : listed[a++].place]);
    }
    list = std::move(result);
    return absl::OkStatus();
  }
};

}  // namespace

struct Patch::Data {
  PatchKind kind;
  std::string text;
  // Made when it is first needed: most patches are applied in place.
  std::optional<json> document;
};

Patch::Patch(std::unique_ptr<Data> data) : data_(std::move(data)) {}
Patch::Patch(Patch&&) noexcept = default;
Patch& Patch::operator=(Patch&&) noexcept = default;
Patch::~Patch() = default;

absl::StatusOr<Patch> Patch::Parse(PatchKind kind, std::string_view text) {
  if (text.size() > kMaxPatchBytes) {
    return absl::InvalidArgumentError(StrCat("patch: larger than ", kMaxPatchBytes, " bytes"));
  }
  auto data = std::make_unique<Data>(Data{kind, std::string(text), std::nullopt});
  if (kind != PatchKind::kJson && IsJsonObject(text)) return Patch(std::move(data));
  absl::StatusOr<json> document = ParseJson(text, "error decoding patch");
  if (!document.ok()) return document.status();
  if (kind == PatchKind::kJson) {
    if (!document->is_array()) {
      return absl::InvalidArgumentError("a JSON patch must be a list of operations (RFC 6902)");
    }
    if (document->size() > kMaxJsonPatchOperations) {
      return absl::InvalidArgumentError(StrCat("The allowed maximum operations in a JSON patch is ",
                                               kMaxJsonPatchOperations, ", got ", document->size()));
    }
  } else if (!document->is_object()) {
    return absl::InvalidArgumentError("a merge patch must be a JSON object");
  }
  data->document = *std::move(document);
  return Patch(std::move(data));
}

bool Patch::ApplyInPlace(google::protobuf::Message* object) const {
  return data_->kind != PatchKind::kJson &&
         MergeIntoMessage(data_->text, data_->kind == PatchKind::kStrategicMerge, object);
}

absl::StatusOr<std::string> Patch::Apply(std::string_view text, const Descriptor& type) const {
  // Our own encoding of a decoded object: its depth is bounded, and parsing without a guard is twice as fast.
  json object = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!object.is_object())
    return absl::InvalidArgumentError("error decoding the current object: not a JSON object");
  if (!data_->document.has_value()) {
    absl::StatusOr<json> document = ParseJson(data_->text, "error decoding patch");
    if (!document.ok()) return document.status();
    data_->document = *std::move(document);
  }
  const json& patch = *data_->document;
  switch (data_->kind) {
    case PatchKind::kJson:
      try {
        object = object.patch(patch);
      } catch (const json::exception& error) {
        // "[json.exception.out_of_range.403] key 'x' not found": the identifier means nothing to the client.
        std::string_view reason = error.what();
        if (size_t end = reason.find("] "); end != std::string_view::npos) reason.remove_prefix(end + 2);
        return absl::InvalidArgumentError(StrCat("the server rejected our request: JSON patch: ", reason));
      }
      break;
    case PatchKind::kMerge:
      object.merge_patch(patch);
      break;
    case PatchKind::kStrategicMerge: {
      absl::Status merged = StrategicMerge().Object(object, patch, &type, nullptr, "");
      if (!merged.ok()) return merged;
      break;
    }
  }
  if (!object.is_object()) return absl::InvalidArgumentError("the patch leaves no object behind");
  return object.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace keelson::api
