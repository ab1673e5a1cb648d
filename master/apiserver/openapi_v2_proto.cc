#include "master/apiserver/openapi_v2_proto.h"

#include "base/strings.h"

namespace keelson::master {
namespace {

// A message under construction.
class Writer {
 public:
  void Bytes(int field, std::string_view value) {
    Varint(static_cast<uint64_t>(field) << 3 | 2);
    Varint(value.size());
    out_.append(value);
  }
  void Message(int field, const Writer& message) { Bytes(field, message.out_); }
  void Bool(int field, bool value) {
    if (!value) return;
    Varint(static_cast<uint64_t>(field) << 3);
    Varint(1);
  }
  // A field that is absent stays absent.
  void Text(int field, const Json& object, const char* key) {
    auto it = object.find(key);
    if (it != object.end() && it->is_string()) Bytes(field, it->get_ref<const std::string&>());
  }
  void TextList(int field, const Json& object, const char* key) {
    auto it = object.find(key);
    if (it == object.end() || !it->is_array()) return;
    for (const Json& item : *it) {
      if (item.is_string()) Bytes(field, item.get_ref<const std::string&>());
    }
  }
  void Flag(int field, const Json& object, const char* key) {
    auto it = object.find(key);
    if (it != object.end() && it->is_boolean()) Bool(field, it->get<bool>());
  }
  std::string Take() { return std::move(out_); }

 private:
  void Varint(uint64_t value) {
    while (value >= 0x80) {
      out_.push_back(static_cast<char>(value | 0x80));
      value >>= 7;
    }
    out_.push_back(static_cast<char>(value));
  }
  std::string out_;
};

// Any { yaml = 2 }: JSON is YAML.
Writer Any(const Json& value) {
  Writer w;
  w.Bytes(2, value.dump());
  return w;
}

// NamedAny entries of every "x-..." member.
void Extensions(const Json& object, int field, Writer& out) {
  for (const auto& [key, value] : object.items()) {
    if (!key.starts_with("x-")) continue;
    Writer named;
    named.Bytes(1, key);
    named.Message(2, Any(value));
    out.Message(field, named);
  }
}

Writer Schema(const Json& j) {
  Writer w;
  w.Text(1, j, "$ref");
  w.Text(2, j, "format");
  w.Text(4, j, "description");
  if (auto it = j.find("default"); it != j.end()) w.Message(5, Any(*it));
  w.TextList(19, j, "required");
  if (auto it = j.find("enum"); it != j.end()) {
    for (const Json& value : *it) w.Message(20, Any(value));
  }
  if (auto it = j.find("additionalProperties"); it != j.end()) {
    Writer item;
    item.Message(1, Schema(*it));
    w.Message(21, item);
  }
  if (auto it = j.find("type"); it != j.end()) {
    Writer type;
    type.Bytes(1, it->get_ref<const std::string&>());
    w.Message(22, type);
  }
  if (auto it = j.find("items"); it != j.end()) {
    Writer items;
    items.Message(1, Schema(*it));
    w.Message(23, items);
  }
  if (auto it = j.find("properties"); it != j.end()) {
    Writer properties;
    for (const auto& [name, property] : it->items()) {
      Writer named;
      named.Bytes(1, name);
      named.Message(2, Schema(property));
      properties.Message(1, named);
    }
    w.Message(25, properties);
  }
  Extensions(j, 31, w);
  return w;
}

// ParametersItem { Parameter { BodyParameter | NonBodyParameter { query | path } } }.
Writer Parameter(const Json& j) {
  const std::string& in = j.at("in").get_ref<const std::string&>();
  Writer parameter;
  if (in == "body") {
    Writer body;
    body.Text(1, j, "description");
    body.Text(2, j, "name");
    body.Text(3, j, "in");
    body.Flag(4, j, "required");
    body.Message(5, Schema(j.at("schema")));
    parameter.Message(1, body);
  } else {
    const bool query = in == "query";
    Writer sub;
    sub.Flag(1, j, "required");
    sub.Text(2, j, "in");
    sub.Text(3, j, "description");
    sub.Text(4, j, "name");
    sub.Text(query ? 6 : 5, j, "type");
    sub.Flag(query ? 21 : 20, j, "uniqueItems");
    Writer non_body;
    non_body.Message(query ? 3 : 4, sub);
    parameter.Message(2, non_body);
  }
  Writer item;
  item.Message(1, parameter);
  return item;
}

Writer OperationBytes(const Json& j) {
  Writer w;
  w.Text(3, j, "description");
  w.Text(5, j, "operationId");
  w.TextList(6, j, "produces");
  w.TextList(7, j, "consumes");
  for (const Json& p : j.at("parameters")) w.Message(8, Parameter(p));
  Writer responses;
  for (const auto& [code, response] : j.at("responses").items()) {
    Writer r;
    r.Text(1, response, "description");
    if (auto it = response.find("schema"); it != response.end()) {
      Writer schema_item;
      schema_item.Message(1, Schema(*it));
      r.Message(2, schema_item);
    }
    Writer value;
    value.Message(1, r);
    Writer named;
    named.Bytes(1, code);
    named.Message(2, value);
    responses.Message(1, named);
  }
  w.Message(9, responses);
  Extensions(j, 13, w);
  return w;
}

Writer PathItem(const Json& j) {
  Writer w;
  static constexpr std::pair<const char*, int> kMethods[] = {
      {"get", 2}, {"put", 3}, {"post", 4}, {"delete", 5}, {"patch", 8}};
  for (const auto& [method, field] : kMethods) {
    if (auto it = j.find(method); it != j.end()) w.Message(field, OperationBytes(*it));
  }
  for (const Json& p : j.at("parameters")) w.Message(9, Parameter(p));
  return w;
}

}  // namespace

std::string EncodeOpenApiV2(const Json& document) {
  Writer w;
  w.Text(1, document, "swagger");
  Writer info;
  info.Text(1, document.at("info"), "title");
  info.Text(2, document.at("info"), "version");
  w.Message(2, info);
  Writer paths;
  for (const auto& [url, item] : document.at("paths").items()) {
    Writer named;
    named.Bytes(1, url);
    named.Message(2, PathItem(item));
    paths.Message(2, named);
  }
  w.Message(8, paths);
  Writer definitions;
  for (const auto& [name, schema] : document.at("definitions").items()) {
    Writer named;
    named.Bytes(1, name);
    named.Message(2, Schema(schema));
    definitions.Message(1, named);
  }
  w.Message(9, definitions);
  return w.Take();
}

}  // namespace keelson::master
