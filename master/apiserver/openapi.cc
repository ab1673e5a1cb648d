#include "master/apiserver/openapi.h"

#include <zlib.h>

#include "api/status_error.h"
#include "base/log.h"
#include "base/strings.h"
#include "master/apiserver/discovery.h"
#include "master/apiserver/negotiation.h"
#include "master/apiserver/openapi_model.h"
#include "master/apiserver/openapi_v2_proto.h"

namespace keelson::master {
namespace {

constexpr char kV2Protobuf[] = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

std::vector<const ResourceInfo*> RowsOf(const std::string& group_version) {
  std::vector<const ResourceInfo*> rows;
  for (const auto& row : Registry::Get().all()) {
    const api::GroupVersionKind& gvk = row->type->gvk;
    if (group_version.empty() ||
        StrCat(gvk.group.empty() ? "api/" : "apis/", gvk.ApiVersion()) == group_version) {
      rows.push_back(row.get());
    }
  }
  return rows;
}

Json V2Document() {
  Json doc;
  doc["swagger"] = "2.0";
  doc["info"] = Json{{"title", "Kubernetes"}, {"version", kGitVersion}};
  doc["paths"] = Paths(RowsOf(""), OpenApiVersion::kV2);
  doc["definitions"] = Definitions(RowsOf(""), OpenApiVersion::kV2);
  return doc;
}

std::string Gzip(const std::string& text) {
  z_stream z{};
  KEELSON_CHECK(
      deflateInit2(&z, Z_BEST_COMPRESSION, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK,
      "zlib");
  std::string out(deflateBound(&z, text.size()), '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  z.avail_in = static_cast<uInt>(text.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  KEELSON_CHECK(deflate(&z, Z_FINISH) == Z_STREAM_END, "zlib");
  out.resize(z.total_out);
  deflateEnd(&z);
  out.shrink_to_fit();
  return out;
}

std::string Gunzip(const std::string& bytes) {
  z_stream z{};
  KEELSON_CHECK(inflateInit2(&z, MAX_WBITS + 16) == Z_OK, "zlib");
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  z.avail_in = static_cast<uInt>(bytes.size());
  std::string out;
  char buffer[64 << 10];
  int code = Z_OK;
  while (code == Z_OK) {
    z.next_out = reinterpret_cast<Bytef*>(buffer);
    z.avail_out = sizeof buffer;
    code = inflate(&z, Z_NO_FLUSH);
    out.append(buffer, sizeof buffer - z.avail_out);
  }
  inflateEnd(&z);
  KEELSON_CHECK(code == Z_STREAM_END, "zlib");
  return out;
}

// FNV-1a, for tags and cache-busting hashes.
std::string HashOf(const std::string& text) {
  uint64_t h = 0xcbf29ce484222325u;
  for (char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  char buffer[17];
  std::snprintf(buffer, sizeof buffer, "%016lX", static_cast<unsigned long>(h));
  return buffer;
}

bool WantsV2Protobuf(std::string_view accept) {
  for (const MediaRange& range : ParseAccept(accept)) {
    if (range.type == "application/json" || range.type == "*/*") return false;
    if (range.type.starts_with("application/com.github.proto-openapi.spec.v2")) return true;
  }
  return false;
}

std::string MakeV2Json(const std::string&) { return OpenApiV2Json(); }
std::string MakeV2Protobuf(const std::string&) { return OpenApiV2Protobuf(); }

}  // namespace

std::string OpenApiV2Json() { return V2Document().dump(); }
std::string OpenApiV2Protobuf() { return EncodeOpenApiV2(V2Document()); }

std::string OpenApiV3Json(const std::string& group_version) {
  Json doc;
  doc["openapi"] = "3.0.0";
  doc["info"] = Json{{"title", "Kubernetes"}, {"version", kGitVersion}};
  doc["paths"] = Paths(RowsOf(group_version), OpenApiVersion::kV3);
  doc["components"] = Json{{"schemas", Definitions(RowsOf(group_version), OpenApiVersion::kV3)}};
  return doc.dump();
}

const OpenApi::Document& OpenApi::Get(const std::string& name, std::string (*make)(const std::string& name)) {
  auto it = documents_.find(name);
  if (it == documents_.end()) {
    std::string text = make(name);
    Document document;
    document.etag = HashOf(text);
    document.gzip = net::MakeSharedBytes(Gzip(text));
    it = documents_.emplace(name, std::move(document)).first;
  }
  return it->second;
}

net::HttpResponse OpenApi::Respond(const net::HttpRequest& request, const Document& document,
                                   std::string content_type) {
  const std::string etag = StrCat("\"", document.etag, "\"");
  net::HttpResponse response;
  if (request.headers.Get("If-None-Match") == etag) {
    response.status = 304;
  } else if (request.headers.HasToken("Accept-Encoding", "gzip")) {
    response = net::HttpResponse(200, content_type, net::HttpBody(document.gzip));
    response.headers.Add("Content-Encoding", "gzip");
  } else {
    response = net::HttpResponse(200, content_type, net::HttpBody(Gunzip(*document.gzip)));
    response.headers.Add("Content-Encoding", "identity");
  }
  response.headers.Add("Etag", etag);
  response.headers.Add("Vary", "Accept, Accept-Encoding");
  return response;
}

absl::StatusOr<net::HttpResponse> OpenApi::Serve(const net::HttpRequest& request) {
  const std::string& path = request.target.path;
  if (path == "/openapi/v2") {
    if (WantsV2Protobuf(request.headers.Get("Accept"))) {
      return Respond(request, Get("v2.pb", MakeV2Protobuf), kV2Protobuf);
    }
    return Respond(request, Get("v2.json", MakeV2Json), "application/json");
  }
  constexpr std::string_view kV3 = "/openapi/v3";
  if (path == kV3 || path == "/openapi/v3/") {
    // The hash names the build: documents change with it only.
    const std::string hash = HashOf(StrCat(kGitVersion, __DATE__, __TIME__));
    Json index;
    index["paths"] = Json::object();
    for (const api::GroupVersion& gv : Registry::Get().group_versions()) {
      std::string key = StrCat(gv.group.empty() ? "api/" : "apis/", gv.ToString());
      index["paths"][key] = Json{{"serverRelativeURL", StrCat("/openapi/v3/", key, "?hash=", hash)}};
    }
    return net::HttpResponse(200, "application/json", net::HttpBody(index.dump()));
  }
  if (path.starts_with(kV3)) {
    std::string key = path.substr(kV3.size() + 1);
    if (!RowsOf(key).empty() && !key.empty())
      return Respond(request, Get(key, OpenApiV3Json), "application/json");
  }
  return api::UnknownPath();
}

}  // namespace keelson::master
