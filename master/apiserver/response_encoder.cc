#include "master/apiserver/response_encoder.h"

#include "api/codec.h"
#include "api/yaml.h"
#include "base/strings.h"
#include "master/apiserver/table.h"

namespace keelson::master {
namespace {

using net::HttpBody;

// Numbers of CachedObject::Encoded. Rows that show another row's objects in a kind of their own shift by
// kViewShift.
constexpr uint32_t kItemJson = 1, kItemProto = 2, kViewShift = 16;

uint32_t EncodingOf(uint32_t base, const ResourceInfo& resource) {
  return resource.storage == &resource ? base : base + kViewShift;
}

// Runs `use` on the object in the resource's kind.
template <class F>
std::string WithView(const ResourceInfo& resource, const CachedObject& object, F use) {
  if (resource.from_storage == nullptr) return use(*object.message());
  return use(*resource.from_storage(*object.message()));
}

// "{...}" without kind and apiVersion.
Bytes ItemJson(const ResourceInfo& resource, const CachedObject& object) {
  return object.Encoded(EncodingOf(kItemJson, resource), [&](const CachedObject& o) {
    return WithView(resource, o, [](const api::Message& m) {
      std::string out;
      api::AppendJsonWithoutType(m, out);
      return out;
    });
  });
}

Bytes ItemProto(const ResourceInfo& resource, const CachedObject& object) {
  return object.Encoded(EncodingOf(kItemProto, resource), [&](const CachedObject& o) {
    return WithView(resource, o, [](const api::Message& m) { return api::SerializeDeterministic(m); });
  });
}

std::string TypePrefix(const api::TypeInfo& type) {
  return StrCat("{\"kind\":\"", type.gvk.kind, "\",\"apiVersion\":\"", type.api_version, "\",");
}

void AppendItemWithType(const ResourceInfo& resource, const CachedObject& object, HttpBody& body) {
  Bytes item = ItemJson(resource, object);
  std::string_view rest(*item);
  body.Append(TypePrefix(*resource.type));
  body.AppendSlice(item, rest.substr(1));  // metadata is always there, so the comma before it is right
}

void AppendVarint(uint64_t value, std::string& out) {
  while (value >= 0x80) {
    out.push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out.push_back(static_cast<char>(value));
}
void AppendField(int number, std::string_view bytes, std::string& out) {
  AppendVarint(static_cast<uint64_t>(number) << 3 | 2, out);
  AppendVarint(bytes.size(), out);
  out.append(bytes);
}

::k8s::meta::v1::ListMeta ListMetaOf(const ApiList& list) {
  ::k8s::meta::v1::ListMeta meta;
  meta.set_resource_version(StrCat(list.revision));
  meta.set_continue_(list.continue_token);
  if (list.remaining.has_value()) meta.set_remaining_item_count(*list.remaining);
  return meta;
}

// JSON text as it goes out: pretty or YAML when asked.
HttpBody Finish(HttpBody json, const Negotiated& negotiated) {
  if (negotiated.media == MediaType::kYaml) return HttpBody(api::JsonToYaml(json.Flatten()));
  if (negotiated.pretty) return HttpBody(api::PrettyJson(json.Flatten()) + "\n");
  return json;
}

std::string PartialMetadata(const api::Message& object, const std::string& version) {
  std::string out = StrCat("{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/", version,
                           "\",\"metadata\":");
  api::AppendJson(api::Meta(object), out);
  out += "}";
  return out;
}

// In protobuf the partial kinds are messages of meta.v1.
std::string PartialProto(const api::Message& object) {
  std::string out;
  AppendField(1, api::SerializeDeterministic(api::Meta(object)), out);
  return out;
}

// The object in JSON with kind and apiVersion, in the form the context asks for.
HttpBody ObjectJson(const CachedObject& object, const ResourceInfo& resource, bool first,
                    const EncodeContext& context) {
  HttpBody body;
  switch (context.negotiated.transform) {
    case Transform::kTable: {
      TableWriter table(resource, context.negotiated.meta_version, context.include, context.now);
      table.Begin(StrCat(object.revision()), "", std::nullopt, first);
      table.Row(object);
      return HttpBody(table.End());
    }
    case Transform::kPartialMetadata:
    case Transform::kPartialMetadataList:
      return HttpBody(PartialMetadata(*object.message(), context.negotiated.meta_version));
    case Transform::kNone:
      break;
  }
  AppendItemWithType(resource, object, body);
  return body;
}

std::string ObjectProto(const CachedObject& object, const ResourceInfo& resource,
                        const EncodeContext& context) {
  if (context.negotiated.transform != Transform::kNone) {
    return api::WrapProtobuf(StrCat("meta.k8s.io/", context.negotiated.meta_version), "PartialObjectMetadata",
                             PartialProto(*object.message()));
  }
  return api::WrapProtobuf(resource.type->api_version, resource.type->gvk.kind, *ItemProto(resource, object));
}

// Four bytes of length, then a WatchEvent whose object is an envelope.
HttpBody ProtoFrame(std::string_view type, std::string_view object) {
  std::string raw, event;
  AppendField(1, object, raw);
  AppendField(1, type, event);
  AppendField(2, raw, event);
  std::string out;
  const auto size = static_cast<uint32_t>(event.size());
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>(size >> shift));
  out += event;
  return HttpBody(std::move(out));
}

HttpBody JsonFrame(std::string_view type, HttpBody object) {
  HttpBody out(StrCat("{\"type\":\"", type, "\",\"object\":"));
  for (const HttpBody::Piece& piece : object.pieces()) out.AppendSlice(piece.owner, piece.bytes);
  out.AppendSlice(nullptr, "}\n");
  return out;
}

std::string_view EventTypeName(CacheWatchEvent::Type type) {
  switch (type) {
    case CacheWatchEvent::kAdded:
      return "ADDED";
    case CacheWatchEvent::kModified:
      return "MODIFIED";
    case CacheWatchEvent::kDeleted:
      return "DELETED";
    case CacheWatchEvent::kBookmark:
      return "BOOKMARK";
  }
  return "ERROR";
}

// An empty object that carries the revision.
std::unique_ptr<api::Message> BookmarkObject(const CacheWatchEvent& event, const ResourceInfo& resource) {
  std::unique_ptr<api::Message> object = api::NewObject(*resource.type);
  auto& meta = api::MutableMeta(*object);
  meta.set_resource_version(StrCat(event.revision));
  if (event.initial_events_end) (*meta.mutable_annotations())["k8s.io/initial-events-end"] = "true";
  return object;
}

}  // namespace

HttpBody EncodeMessage(const api::Message& message, const Negotiated& negotiated) {
  if (negotiated.media == MediaType::kProtobuf) return HttpBody(api::EncodeProtobuf(message));
  std::string json = api::EncodeJson(message);
  if (negotiated.media == MediaType::kJson && !negotiated.pretty) json += "\n";
  return Finish(HttpBody(std::move(json)), negotiated);
}

HttpBody EncodeResult(const ApiResult& result, const ResourceInfo& resource, const EncodeContext& context) {
  const bool own_kind = result.object->GetDescriptor() == resource.type->prototype->GetDescriptor();
  if (!own_kind || (result.cached == nullptr && context.negotiated.transform == Transform::kNone)) {
    return EncodeMessage(*result.object, context.negotiated);
  }
  CachedObjectPtr object = result.cached;
  if (object == nullptr) {
    api::ObjectPtr stored = result.object;
    if (resource.to_storage != nullptr) stored = resource.to_storage(*stored);
    Revision revision = 0;
    const std::string& text = api::Meta(*stored).resource_version();
    for (char c : text) revision = revision * 10 + (c - '0');
    object = std::make_shared<CachedObject>("", nullptr, std::move(stored), revision, revision);
  }
  if (context.negotiated.media == MediaType::kProtobuf)
    return HttpBody(ObjectProto(*object, resource, context));
  HttpBody body = ObjectJson(*object, resource, true, context);
  if (context.negotiated.media == MediaType::kJson && !context.negotiated.pretty)
    body.AppendSlice(nullptr, "\n");
  return Finish(std::move(body), context.negotiated);
}

HttpBody EncodeList(const ApiList& list, const EncodeContext& context) {
  const ResourceInfo& resource = *list.resource;
  const Negotiated& negotiated = context.negotiated;
  const ::k8s::meta::v1::ListMeta meta = ListMetaOf(list);
  const bool partial = negotiated.transform == Transform::kPartialMetadataList ||
                       negotiated.transform == Transform::kPartialMetadata;
  if (negotiated.transform == Transform::kTable) {
    TableWriter table(resource, negotiated.meta_version, context.include, context.now);
    table.Begin(meta.resource_version(), list.continue_token, list.remaining, true);
    for (const CachedObjectPtr& item : list.items) table.Row(*item);
    return Finish(HttpBody(table.End()), negotiated);
  }
  if (negotiated.media == MediaType::kProtobuf) {
    std::string raw;
    AppendField(1, api::SerializeDeterministic(meta), raw);
    for (const CachedObjectPtr& item : list.items) {
      if (partial) {
        AppendField(2, PartialProto(*item->message()), raw);
      } else {
        AppendField(2, *ItemProto(resource, *item), raw);
      }
    }
    if (partial) {
      return HttpBody(api::WrapProtobuf(StrCat("meta.k8s.io/", negotiated.meta_version),
                                        "PartialObjectMetadataList", raw));
    }
    return HttpBody(api::WrapProtobuf(resource.type->api_version, resource.type->gvk.kind + "List", raw));
  }
  std::string head = partial ? StrCat("{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"meta.k8s.io/",
                                      negotiated.meta_version, "\",\"metadata\":")
                             : StrCat("{\"kind\":\"", resource.type->gvk.kind, "List\",\"apiVersion\":\"",
                                      resource.type->api_version, "\",\"metadata\":");
  api::AppendJson(meta, head);
  head += ",\"items\":[";
  HttpBody body(std::move(head));
  bool first = true;
  for (const CachedObjectPtr& item : list.items) {
    if (item->message() == nullptr) continue;
    if (!first) body.AppendSlice(nullptr, ",");
    first = false;
    if (partial) {
      body.Append(PartialMetadata(*item->message(), negotiated.meta_version));
    } else {
      body.Append(ItemJson(resource, *item));
    }
  }
  body.AppendSlice(nullptr, negotiated.media == MediaType::kJson && !negotiated.pretty ? "]}\n" : "]}");
  return Finish(std::move(body), negotiated);
}

HttpBody EncodeWatchEvent(const CacheWatchEvent& event, const ResourceInfo& resource, bool first,
                          const EncodeContext& context) {
  const std::string_view type = EventTypeName(event.type);
  const bool proto = context.negotiated.media == MediaType::kProtobuf;
  if (event.type == CacheWatchEvent::kBookmark) {
    std::unique_ptr<api::Message> object = BookmarkObject(event, resource);
    if (context.negotiated.transform == Transform::kTable) {
      TableWriter table(resource, context.negotiated.meta_version, context.include, context.now);
      table.Begin(StrCat(event.revision), "", std::nullopt, first);
      // A row without cells, so that readers find the object the bookmark is about.
      table.BookmarkRow(*object);
      return JsonFrame(type, HttpBody(table.End()));
    }
    if (context.negotiated.transform != Transform::kNone) {
      if (proto) {
        return ProtoFrame(type, api::WrapProtobuf(StrCat("meta.k8s.io/", context.negotiated.meta_version),
                                                  "PartialObjectMetadata", PartialProto(*object)));
      }
      return JsonFrame(type, HttpBody(PartialMetadata(*object, context.negotiated.meta_version)));
    }
    return proto ? ProtoFrame(type, api::EncodeProtobuf(*object))
                 : JsonFrame(type, HttpBody(api::EncodeJson(*object)));
  }
  if (proto) return ProtoFrame(type, ObjectProto(*event.object, resource, context));
  return JsonFrame(type, ObjectJson(*event.object, resource, first, context));
}

HttpBody EncodeWatchError(const api::ApiStatus& status, const EncodeContext& context) {
  if (context.negotiated.media == MediaType::kProtobuf)
    return ProtoFrame("ERROR", api::EncodeProtobuf(status));
  return JsonFrame("ERROR", HttpBody(api::EncodeJson(status)));
}

}  // namespace keelson::master
