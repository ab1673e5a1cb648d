// ResponseEncoder: objects, lists, tables and watch events as bytes. Encodings of stored objects are made
// once per revision (CachedObject::Encoded) and spliced into GET, LIST and WATCH answers alike.
#pragma once

#include <memory>
#include <string>

#include "api/object.h"
#include "api/status_error.h"
#include "master/apiserver/negotiation.h"
#include "master/apiserver/registry.h"
#include "master/apiserver/request.h"
#include "net/http_message.h"

namespace keelson::master {

enum class IncludeObject { kMetadata, kNone, kObject };

struct EncodeContext {
  Negotiated negotiated;
  IncludeObject include = IncludeObject::kMetadata;  // of Table rows
  absl::Time now;
};

// One object, of `resource`'s kind or another (Status, Scale): transforms apply only to `resource`'s own.
net::HttpBody EncodeResult(const ApiResult& result, const ResourceInfo& resource,
                           const EncodeContext& context);
net::HttpBody EncodeList(const ApiList& list, const EncodeContext& context);
// A plain message (Status, discovery, Table).
net::HttpBody EncodeMessage(const api::Message& message, const Negotiated& negotiated);

// One frame of a watch stream. `first`: Table frames carry their columns only once.
net::HttpBody EncodeWatchEvent(const CacheWatchEvent& event, const ResourceInfo& resource, bool first,
                               const EncodeContext& context);
net::HttpBody EncodeWatchError(const api::ApiStatus& status, const EncodeContext& context);

}  // namespace keelson::master
