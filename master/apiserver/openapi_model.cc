#include "master/apiserver/openapi_model.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "api/meta/v1/options.pb.h"
#include "api/meta/v1/status.pb.h"
#include "api/meta/v1/watch.pb.h"
#include "api/options.pb.h"
#include "base/strings.h"
#include "master/apiserver/openapi_descriptions.h"

namespace keelson::master {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
namespace options = ::keelson::options;

const options::TypeRules& RulesOf(const Descriptor& type) {
  return type.options().GetExtension(options::type);
}
const options::FieldRules& RulesOf(const FieldDescriptor& field) {
  return field.options().GetExtension(options::field);
}

Json GvkJson(const api::GroupVersionKind& gvk) {
  return Json{{"group", gvk.group}, {"kind", gvk.kind}, {"version", gvk.version}};
}

class SchemaBuilder {
 public:
  explicit SchemaBuilder(OpenApiVersion version) : version_(version) {}

  void Add(const Descriptor& type) {
    if (!seen_.insert(type.full_name()).second) return;
    Json schema = Of(type);
    schemas_[DefinitionName(type)] = std::move(schema);
  }

  Json Take() {
    Json out = Json::object();
    for (auto& [name, schema] : schemas_) out[name] = std::move(schema);
    return out;
  }

 private:
  std::string RefTo(const Descriptor& type) {
    return StrCat(version_ == OpenApiVersion::kV2 ? "#/definitions/" : "#/components/schemas/",
                  DefinitionName(type));
  }

  // A whole definition.
  Json Of(const Descriptor& type) {
    Json out;
    out["description"] = DescribeType(type);
    switch (RulesOf(type).form()) {
      case options::FORM_TIME:
      case options::FORM_MICRO_TIME:
        out["type"] = "string";
        out["format"] = "date-time";
        return out;
      case options::FORM_DURATION:
        out["type"] = "string";
        return out;
      case options::FORM_QUANTITY:
        if (version_ == OpenApiVersion::kV3) {
          out["oneOf"] = Json::array({Json{{"type", "string"}}, Json{{"type", "number"}}});
        } else {
          out["type"] = "string";
        }
        return out;
      case options::FORM_INT_OR_STRING:
        if (version_ == OpenApiVersion::kV3) {
          out["format"] = "int-or-string";
          out["oneOf"] = Json::array({Json{{"type", "integer"}}, Json{{"type", "string"}}});
        } else {
          out["type"] = "string";
          out["format"] = "int-or-string";
        }
        return out;
      case options::FORM_RAW:
        out["type"] = "object";
        return out;
      case options::FORM_STRING_LIST:
        out["type"] = "array";
        out["items"] = Json{{"type", "string"}};
        return out;
      default:
        break;
    }
    out["type"] = "object";
    std::map<std::string, Json> properties;
    std::vector<std::string> required;
    AddFields(type, properties, required);
    const bool has_kind = RulesOf(type).has_kind();
    if (has_kind) {
      properties["apiVersion"] = Json{{"description", kApiVersionDescription}, {"type", "string"}};
      properties["kind"] = Json{{"description", kKindDescription}, {"type", "string"}};
    }
    std::sort(required.begin(), required.end());
    if (!required.empty()) out["required"] = required;
    if (!properties.empty()) {
      out["properties"] = Json::object();
      for (auto& [name, property] : properties) out["properties"][name] = std::move(property);
    }
    if (has_kind) {
      const auto& k = RulesOf(type).kind();
      out["x-kubernetes-group-version-kind"] = Json::array({GvkJson({k.group(), k.version(), k.kind()})});
    }
    return out;
  }

  void AddFields(const Descriptor& type, std::map<std::string, Json>& properties,
                 std::vector<std::string>& required) {
    for (int i = 0; i < type.field_count(); ++i) {
      const FieldDescriptor& field = *type.field(i);
      const options::FieldRules& rules = RulesOf(field);
      if (rules.inline_()) {
        AddFields(*field.message_type(), properties, required);
        continue;
      }
      properties[field.json_name()] = Property(type, field, rules);
      const bool scalar_always = rules.always() && !rules.optional() && rules.default_json().empty();
      if (rules.required() || scalar_always) required.push_back(field.json_name());
    }
  }

  // In v3 a reference takes no siblings but inside of allOf.
  Json Value(const FieldDescriptor& field) {
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_BOOL:
        return Json{{"type", "boolean"}};
      case FieldDescriptor::CPPTYPE_INT32:
      case FieldDescriptor::CPPTYPE_UINT32:
        return Json{{"type", "integer"}, {"format", "int32"}};
      case FieldDescriptor::CPPTYPE_INT64:
      case FieldDescriptor::CPPTYPE_UINT64:
        return Json{{"type", "integer"}, {"format", "int64"}};
      case FieldDescriptor::CPPTYPE_DOUBLE:
      case FieldDescriptor::CPPTYPE_FLOAT:
        return Json{{"type", "number"}, {"format", "double"}};
      case FieldDescriptor::CPPTYPE_MESSAGE:
        Add(*field.message_type());
        return Json{{"$ref", RefTo(*field.message_type())}};
      default:
        if (field.type() == FieldDescriptor::TYPE_BYTES) {
          if (RulesOf(field).raw_json()) return Json{{"type", "object"}};
          return Json{{"type", "string"}, {"format", "byte"}};
        }
        return Json{{"type", "string"}};
    }
  }

  Json Property(const Descriptor& type, const FieldDescriptor& field, const options::FieldRules& rules) {
    Json out;
    out["description"] = DescribeField(type, field);
    if (field.is_map()) {
      out["type"] = "object";
      out["additionalProperties"] = Value(*field.message_type()->FindFieldByNumber(2));
    } else if (field.is_repeated()) {
      out["type"] = "array";
      out["items"] = Value(field);
    } else {
      Json value = Value(field);
      if (value.contains("$ref") && version_ == OpenApiVersion::kV3) {
        out["allOf"] = Json::array({std::move(value)});
      } else {
        for (auto& [k, v] : value.items()) out[k] = v;
      }
    }
    if (!rules.default_json().empty()) {
      Json value = Json::parse(rules.default_json(), nullptr, false);
      if (!value.is_discarded()) out["default"] = std::move(value);
    }
    if (rules.enum_value_size() > 0 && field.cpp_type() == FieldDescriptor::CPPTYPE_STRING &&
        !field.is_repeated()) {
      std::set<std::string> values(rules.enum_value().begin(), rules.enum_value().end());
      out["enum"] = Json::array();
      for (const std::string& v : values) out["enum"].push_back(v);
    }
    if (!rules.list_type().empty()) out["x-kubernetes-list-type"] = rules.list_type();
    if (rules.list_map_keys_size() > 0) {
      out["x-kubernetes-list-map-keys"] = Json::array();
      for (const std::string& k : rules.list_map_keys()) out["x-kubernetes-list-map-keys"].push_back(k);
    }
    if (!rules.map_type().empty()) out["x-kubernetes-map-type"] = rules.map_type();
    if (!rules.merge_key().empty()) out["x-kubernetes-patch-merge-key"] = rules.merge_key();
    if (rules.patch_strategy_size() > 0) {
      std::string joined;
      for (const std::string& s : rules.patch_strategy()) StrAppend(&joined, joined.empty() ? "" : ",", s);
      out["x-kubernetes-patch-strategy"] = joined;
    }
    return out;
  }

  const OpenApiVersion version_;
  std::set<std::string> seen_;
  std::map<std::string, Json> schemas_;
};

const Descriptor* DescriptorOf(const api::GroupVersionKind& gvk) {
  const api::TypeInfo* type = api::Scheme::Get().ByKind(gvk);
  return type == nullptr ? nullptr : type->prototype->GetDescriptor();
}

// ---- operations ----

class PathBuilder {
 public:
  explicit PathBuilder(OpenApiVersion version) : version_(version) {}

  void Add(const ResourceInfo& row) {
    const api::GroupVersionKind& gvk = row.type->gvk;
    std::string base = StrCat(gvk.group.empty() ? "/api/" : "/apis/", gvk.ApiVersion());
    std::string collection = row.type->namespaced ? StrCat(base, "/namespaces/{namespace}/", row.type->plural)
                                                  : StrCat(base, "/", row.type->plural);
    const bool ns = row.type->namespaced;
    if (row.HasVerb("list") || row.HasVerb("create")) {
      Json& path = Path(collection, ns, false);
      if (row.HasVerb("list")) path["get"] = OperationOf(row, "list", "", gvk, ns, ListQuery());
      if (row.HasVerb("create")) path["post"] = OperationOf(row, "create", "", gvk, ns, WriteQuery());
      if (row.HasVerb("deletecollection"))
        path["delete"] = OperationOf(row, "deletecollection", "", gvk, ns, DeleteQuery());
    }
    if (row.HasVerb("list") && ns) {
      Path(StrCat(base, "/", row.type->plural), false, false)["get"] =
          OperationOf(row, "list", "", gvk, false, ListQuery());
    }
    if (row.HasVerb("get")) AddItem(row, collection + "/{name}", "", gvk, row.verbs);
    for (const Subresource& sub : row.subresources) {
      if (sub.connect) {
        AddConnect(row, StrCat(collection, "/{name}/", sub.name), sub);
        continue;
      }
      AddItem(row, StrCat(collection, "/{name}/", sub.name), sub.name, sub.kind, sub.verbs);
    }
  }

  Json Take() {
    Json out = Json::object();
    for (auto& [name, path] : paths_) out[name] = std::move(path);
    return out;
  }

 private:
  void AddItem(const ResourceInfo& row, const std::string& url, const std::string& sub,
               const api::GroupVersionKind& gvk, const std::vector<std::string>& verbs) {
    const bool ns = row.type->namespaced;
    Json& path = Path(url, ns, true);
    auto has = [&](const char* verb) { return std::find(verbs.begin(), verbs.end(), verb) != verbs.end(); };
    if (has("get")) path["get"] = OperationOf(row, "get", sub, gvk, ns, {"pretty"});
    if (has("create") && !sub.empty()) path["post"] = OperationOf(row, "create", sub, gvk, ns, WriteQuery());
    if (has("update")) path["put"] = OperationOf(row, "update", sub, gvk, ns, WriteQuery());
    if (has("patch")) {
      std::vector<std::string> query = WriteQuery();
      query.push_back("force");
      path["patch"] = OperationOf(row, "patch", sub, gvk, ns, query);
    }
    if (has("delete")) path["delete"] = OperationOf(row, "delete", sub, gvk, ns, DeleteQuery());
  }

  // An upgraded connection, by GET or POST; its query is what the kind has.
  void AddConnect(const ResourceInfo& row, const std::string& url, const Subresource& sub) {
    Json& path = Path(url, row.type->namespaced, true);
    const Descriptor* options = DescriptorOf(sub.kind);
    for (const char* method : {"get", "post"}) {
      const std::string verb = method == std::string("get") ? "GET" : "POST";
      Json out;
      out["description"] = StrCat("connect ", verb, " requests to ", sub.name, " of ", row.type->gvk.kind);
      out["operationId"] =
          StrCat("connectCore", Camel(row.type->gvk.version), Camel(verb == "GET" ? "get" : "post"),
                 "Namespaced", row.type->gvk.kind, Camel(sub.name));
      Json parameters = Json::array();
      for (int i = 0; options != nullptr && i < options->field_count(); ++i) {
        const FieldDescriptor& field = *options->field(i);
        const bool flag = field.cpp_type() == FieldDescriptor::CPPTYPE_BOOL;
        const char* type = flag                                                 ? "boolean"
                           : field.cpp_type() == FieldDescriptor::CPPTYPE_INT32 ? "integer"
                                                                                : "string";
        parameters.push_back(TypedParameter(field.json_name(), "query", type, false));
      }
      out["parameters"] = std::move(parameters);
      if (version_ == OpenApiVersion::kV2) {
        out["produces"] = {"*/*"};
        out["responses"] = Json{{"200", Json{{"description", "OK"}, {"schema", Json{{"type", "string"}}}}}};
      } else {
        out["responses"] =
            Json{{"200", Json{{"description", "OK"},
                              {"content", Json{{"*/*", Json{{"schema", Json{{"type", "string"}}}}}}}}}};
      }
      out["x-kubernetes-action"] = "connect";
      out["x-kubernetes-group-version-kind"] = GvkJson(sub.kind);
      path[method] = std::move(out);
    }
  }

  static std::vector<std::string> ListQuery() {
    return {"allowWatchBookmarks",
            "continue",
            "fieldSelector",
            "labelSelector",
            "limit",
            "resourceVersion",
            "resourceVersionMatch",
            "sendInitialEvents",
            "timeoutSeconds",
            "watch"};
  }
  static std::vector<std::string> WriteQuery() { return {"dryRun", "fieldManager", "fieldValidation"}; }
  static std::vector<std::string> DeleteQuery() {
    return {"dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy"};
  }

  Json TypedParameter(const std::string& name, const std::string& in, const std::string& type,
                      bool required) {
    Json out{{"name", name}, {"in", in}, {"description", DescribeParameter(name)}};
    if (required) out["required"] = true;
    if (version_ == OpenApiVersion::kV2) {
      out["type"] = type;
      out["uniqueItems"] = true;
    } else {
      out["schema"] = Json{{"type", type}, {"uniqueItems", true}};
    }
    return out;
  }

  Json& Path(const std::string& url, bool ns, bool name) {
    Json& path = paths_[url];
    Json parameters = Json::array();
    if (name) parameters.push_back(TypedParameter("name", "path", "string", true));
    if (ns) parameters.push_back(TypedParameter("namespace", "path", "string", true));
    if (!path.contains("parameters")) path["parameters"] = std::move(parameters);
    return path;
  }

  static std::string QueryType(const std::string& name) {
    for (const char* b : {"allowWatchBookmarks", "sendInitialEvents", "watch", "force", "orphanDependents"}) {
      if (name == b) return "boolean";
    }
    for (const char* i : {"limit", "timeoutSeconds", "gracePeriodSeconds"}) {
      if (name == i) return "integer";
    }
    return "string";
  }

  Json Ref(const std::string& definition) {
    return Json{{"$ref", StrCat(version_ == OpenApiVersion::kV2 ? "#/definitions/" : "#/components/schemas/",
                                definition)}};
  }

  std::string ResponseDefinition(const ResourceInfo& row, const std::string& verb,
                                 const api::GroupVersionKind& gvk) {
    if (verb == "delete" || verb == "deletecollection")
      return DefinitionName(*::k8s::meta::v1::Status::descriptor());
    if (verb == "list") return DefinitionName(*row.type->list_prototype->GetDescriptor());
    const Descriptor* type = DescriptorOf(gvk);
    return DefinitionName(type == nullptr ? *row.type->prototype->GetDescriptor() : *type);
  }

  static std::string Camel(std::string text) {
    std::string out;
    bool up = true;
    for (char c : text) {
      if (c == '.' || c == '-') {
        up = true;
        continue;
      }
      out.push_back(up ? static_cast<char>(std::toupper(static_cast<unsigned char>(c))) : c);
      up = false;
    }
    return out;
  }

  static std::string OperationId(const ResourceInfo& row, const std::string& verb, const std::string& sub,
                                 bool ns) {
    static const std::map<std::string, std::string> kWords = {{"get", "read"},
                                                              {"list", "list"},
                                                              {"create", "create"},
                                                              {"update", "replace"},
                                                              {"patch", "patch"},
                                                              {"delete", "delete"},
                                                              {"deletecollection", "deleteCollection"}};
    std::string group = row.type->gvk.group;
    group = group.empty() ? "core" : group.substr(0, group.find('.'));
    const bool all = verb == "list" && row.type->namespaced && !ns;
    return StrCat(kWords.at(verb), Camel(group), Camel(row.type->gvk.version), ns ? "Namespaced" : "",
                  row.type->gvk.kind, Camel(sub), all ? "ForAllNamespaces" : "");
  }

  Json OperationOf(const ResourceInfo& row, const std::string& verb, const std::string& sub,
                   const api::GroupVersionKind& gvk, bool ns, const std::vector<std::string>& query) {
    static const std::map<std::string, std::string> kActions = {{"get", "get"},
                                                                {"list", "list"},
                                                                {"create", "post"},
                                                                {"update", "put"},
                                                                {"patch", "patch"},
                                                                {"delete", "delete"},
                                                                {"deletecollection", "deletecollection"}};
    Json out;
    out["description"] = StrCat(verb, " ", row.type->gvk.kind, sub.empty() ? "" : " " + sub);
    out["operationId"] = OperationId(row, verb, sub, ns);
    const bool v2 = version_ == OpenApiVersion::kV2;
    Json parameters = Json::array();
    for (const std::string& name : query)
      parameters.push_back(TypedParameter(name, "query", QueryType(name), false));
    std::string body;
    if (verb == "create" || verb == "update") body = ResponseDefinition(row, "get", gvk);
    if (verb == "patch") body = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
    if (verb == "delete" || verb == "deletecollection")
      body = DefinitionName(*::k8s::meta::v1::DeleteOptions::descriptor());
    static const std::vector<std::string> kPatchTypes = {"application/json-patch+json",
                                                         "application/merge-patch+json",
                                                         "application/strategic-merge-patch+json"};
    if (!body.empty()) {
      const bool required = verb != "delete" && verb != "deletecollection";
      if (v2) {
        if (verb == "patch") out["consumes"] = kPatchTypes;
        Json b{{"name", "body"}, {"in", "body"}, {"schema", Ref(body)}};
        if (required) b["required"] = true;
        parameters.push_back(std::move(b));
      } else {
        Json content = Json::object();
        if (verb == "patch") {
          for (const std::string& type : kPatchTypes) content[type] = Json{{"schema", Ref(body)}};
        } else {
          content["*/*"] = Json{{"schema", Ref(body)}};
        }
        out["requestBody"] = Json{{"content", std::move(content)}};
        if (required) out["requestBody"]["required"] = true;
      }
    }
    out["parameters"] = std::move(parameters);
    const std::string response = ResponseDefinition(row, verb, gvk);
    const char* code = verb == "create" ? "201" : "200";
    if (v2) {
      out["produces"] = {"application/json", "application/yaml", "application/vnd.kubernetes.protobuf"};
      out["responses"] = Json{{code, Json{{"description", "OK"}, {"schema", Ref(response)}}}};
    } else {
      out["responses"] =
          Json{{code, Json{{"description", "OK"},
                           {"content", Json{{"application/json", Json{{"schema", Ref(response)}}}}}}}};
    }
    out["x-kubernetes-action"] = kActions.at(verb);
    out["x-kubernetes-group-version-kind"] = GvkJson(gvk);
    return out;
  }

  const OpenApiVersion version_;
  std::map<std::string, Json> paths_;
};

}  // namespace

std::string DefinitionName(const Descriptor& message) {
  std::string name = message.full_name();
  auto starts = [&](const char* prefix) { return name.starts_with(prefix); };
  constexpr std::string_view kRoot = "k8s.";
  std::string rest = name.substr(kRoot.size());
  if (starts("k8s.meta.")) return "io.k8s.apimachinery.pkg.apis." + rest;
  if (starts("k8s.api.") || starts("k8s.util.") || starts("k8s.runtime."))
    return "io.k8s.apimachinery.pkg." + rest;
  return "io.k8s.api." + rest;
}

Json Definitions(const std::vector<const ResourceInfo*>& rows, OpenApiVersion version) {
  SchemaBuilder builder(version);
  for (const ResourceInfo* row : rows) {
    builder.Add(*row->type->prototype->GetDescriptor());
    if (row->type->list_prototype != nullptr) builder.Add(*row->type->list_prototype->GetDescriptor());
    for (const Subresource& sub : row->subresources) {
      if (const Descriptor* type = DescriptorOf(sub.kind)) builder.Add(*type);
    }
  }
  builder.Add(*::k8s::meta::v1::Status::descriptor());
  builder.Add(*::k8s::meta::v1::DeleteOptions::descriptor());
  builder.Add(*::k8s::meta::v1::WatchEvent::descriptor());
  Json out = builder.Take();
  out["io.k8s.apimachinery.pkg.apis.meta.v1.Patch"] =
      Json{{"description", "The name of a patch body, whatever its form."}, {"type", "object"}};
  return out;
}

Json Paths(const std::vector<const ResourceInfo*>& rows, OpenApiVersion version) {
  PathBuilder builder(version);
  for (const ResourceInfo* row : rows) builder.Add(*row);
  return builder.Take();
}

}  // namespace keelson::master
