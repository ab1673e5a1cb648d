// TypeTable: a message descriptor compiled for JSON: names, order, presence rules, sub-tables.
//
// Built once per descriptor on first use and kept for ever; immutable, any thread. Codec, patch, defaults,
// validation and OpenAPI read the same table.
#pragma once

#include <absl/container/flat_hash_map.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "api/options.pb.h"

namespace keelson::api {

struct TypeTable;
struct MapRow;

struct FieldPlan {
  const google::protobuf::FieldDescriptor* field = nullptr;
  const google::protobuf::Reflection* reflection = nullptr;  // of the message the field is in
  const keelson::options::FieldRules* rules = nullptr;       // never null
  std::string json_name;
  std::string quoted_key;  // "name": with quotes and colon
  bool is_map = false;
  bool is_list = false;     // repeated and no map
  bool is_message = false;  // of the field, the list's elements or the map's values
  bool always = false;
  bool pointer = false;
  bool omitzero = false;
  bool patch_merge = false;  // patchStrategy has "merge"
  // Of the field, the element or the map's value.
  const google::protobuf::FieldDescriptor* value = nullptr;
  google::protobuf::FieldDescriptor::CppType cpp_type{};
  bool is_bytes = false;
  const TypeTable* sub = nullptr;  // set when is_message
  const MapRow* map = nullptr;     // set when is_map; api/scheme_types.h
};

struct TypeTable {
  const google::protobuf::Descriptor* descriptor = nullptr;
  const google::protobuf::Reflection* reflection = nullptr;  // asking the message for it is slow
  keelson::options::Form form = keelson::options::FORM_OBJECT;
  bool has_type_meta = false;  // carries kind and apiVersion
  std::string kind;
  std::string api_version;
  std::string type_prefix;        // {"kind":"Pod","apiVersion":"v1" without the closing brace
  std::vector<FieldPlan> fields;  // in declaration order; inline structs included
  absl::flat_hash_map<absl::string_view, const FieldPlan*>
      by_name;  // own fields, without those of inline structs
  std::vector<const FieldPlan*> inlines;
  const google::protobuf::FieldDescriptor* form_field = nullptr;  // `raw`, `string`, `items`, first of a time

  // The field of that JSON name, and in *path the inline structs to go through (empty for an own field).
  // nullptr when there is none.
  const FieldPlan* Find(std::string_view json_name, std::vector<const FieldPlan*>* path) const;
};

const TypeTable& TableOf(const google::protobuf::Descriptor* descriptor);
inline const TypeTable& TableOf(const google::protobuf::Message& message) {
  return TableOf(message.GetDescriptor());
}

}  // namespace keelson::api
