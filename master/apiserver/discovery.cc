#include "master/apiserver/discovery.h"

#include <algorithm>

#include "api/apidiscovery/v2/apidiscovery.pb.h"
#include "api/codec.h"
#include "api/meta/v1/discovery.pb.h"
#include "api/status_error.h"
#include "base/strings.h"
#include "master/apiserver/negotiation.h"
#include "master/apiserver/registry.h"
#include "master/apiserver/response_encoder.h"

namespace keelson::master {
namespace {

namespace meta = ::k8s::meta::v1;
namespace apidiscovery = ::k8s::apidiscovery::v2;

constexpr char kAggregatedType[] = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

bool WantsAggregated(const net::HttpRequest& request) {
  for (const MediaRange& range : ParseAccept(request.headers.Get("Accept"))) {
    if (range.type != "application/json") continue;
    if (range.as.empty()) return false;
    if (range.as == "APIGroupDiscoveryList" && range.g == "apidiscovery.k8s.io" && range.v == "v2")
      return true;
  }
  return false;
}

// Each group once, in order; the core group only when `core`.
std::vector<std::string> Groups(bool core) {
  std::vector<std::string> out;
  for (const api::GroupVersion& gv : Registry::Get().group_versions()) {
    if (gv.group.empty() != core) continue;
    if (std::find(out.begin(), out.end(), gv.group) == out.end()) out.push_back(gv.group);
  }
  return out;
}

void SetKind(const api::GroupVersionKind& gvk, meta::GroupVersionKind* out) {
  out->set_group(gvk.group);
  out->set_version(gvk.version);
  out->set_kind(gvk.kind);
}

apidiscovery::APIGroupDiscoveryList Aggregated(bool core) {
  apidiscovery::APIGroupDiscoveryList list;
  for (const std::string& group : Groups(core)) {
    auto* item = list.add_items();
    item->mutable_metadata()->set_name(group);
    for (const api::GroupVersion& gv : Registry::Get().group_versions()) {
      if (gv.group != group) continue;
      auto* version = item->add_versions();
      version->set_version(gv.version);
      version->set_freshness("Current");
      for (const auto& row : Registry::Get().all()) {
        if (row->type->gvk.group != gv.group || row->type->gvk.version != gv.version) continue;
        auto* r = version->add_resources();
        r->set_resource(row->type->plural);
        SetKind(row->type->gvk, r->mutable_response_kind());
        r->set_scope(row->type->namespaced ? "Namespaced" : "Cluster");
        r->set_singular_resource(row->type->singular);
        for (const std::string& v : row->verbs) r->add_verbs(v);
        for (const std::string& s : row->type->short_names) r->add_short_names(s);
        for (const std::string& c : row->type->categories) r->add_categories(c);
        for (const Subresource& sub : row->subresources) {
          auto* s = r->add_subresources();
          s->set_subresource(sub.name);
          SetKind(sub.kind, s->mutable_response_kind());
          for (const std::string& v : sub.verbs) s->add_verbs(v);
        }
      }
    }
  }
  return list;
}

meta::APIResourceList Resources(const api::GroupVersion& gv) {
  meta::APIResourceList list;
  list.set_group_version(gv.ToString());
  for (const auto& row : Registry::Get().all()) {
    if (row->type->gvk.group != gv.group || row->type->gvk.version != gv.version) continue;
    auto* r = list.add_resources();
    r->set_name(row->type->plural);
    r->set_singular_name(row->type->singular);
    r->set_namespaced(row->type->namespaced);
    r->set_kind(row->type->gvk.kind);
    for (const std::string& v : row->verbs) r->mutable_verbs()->add_items(v);
    for (const std::string& s : row->type->short_names) r->add_short_names(s);
    for (const std::string& c : row->type->categories) r->add_categories(c);
    for (const Subresource& sub : row->subresources) {
      auto* s = list.add_resources();
      s->set_name(StrCat(row->type->plural, "/", sub.name));
      s->set_namespaced(row->type->namespaced);
      s->set_kind(sub.kind.kind);
      if (sub.kind.group != gv.group || sub.kind.version != gv.version) {
        s->set_group(sub.kind.group);
        s->set_version(sub.kind.version);
      }
      for (const std::string& v : sub.verbs) s->mutable_verbs()->add_items(v);
    }
  }
  return list;
}

meta::APIGroup GroupOf(const std::string& name) {
  meta::APIGroup group;
  group.set_name(name);
  for (const api::GroupVersion& gv : Registry::Get().group_versions()) {
    if (gv.group != name) continue;
    auto* v = group.add_versions();
    v->set_group_version(gv.ToString());
    v->set_version(gv.version);
  }
  if (!group.versions().empty()) *group.mutable_preferred_version() = group.versions(0);
  return group;
}

std::string RootPaths() {
  std::vector<std::string> paths = {"/api", "/api/v1", "/apis"};
  for (const std::string& group : Groups(false)) paths.push_back(StrCat("/apis/", group));
  for (const api::GroupVersion& gv : Registry::Get().group_versions()) {
    if (!gv.group.empty()) paths.push_back(StrCat("/apis/", gv.ToString()));
  }
  for (const char* p :
       {"/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"}) {
    paths.push_back(p);
  }
  std::sort(paths.begin(), paths.end());
  std::string out = "{\n  \"paths\": [";
  for (size_t i = 0; i < paths.size(); ++i) StrAppend(&out, i == 0 ? "\n" : ",\n", "    \"", paths[i], "\"");
  return out + "\n  ]\n}\n";
}

std::string VersionJson() {
  return StrCat(
      "{\n  \"major\": \"1\",\n  \"minor\": \"37\",\n  \"emulationMajor\": \"1\",\n  \"emulationMinor\": "
      "\"37\",\n"
      "  \"minCompatibilityMajor\": \"1\",\n  \"minCompatibilityMinor\": \"36\",\n  \"gitVersion\": \"",
      kGitVersion,
      "\",\n  \"gitCommit\": \"\",\n  \"gitTreeState\": \"clean\",\n  \"buildDate\": "
      "\"1970-01-01T00:00:00Z\",\n"
      "  \"goVersion\": \"none (C++20)\",\n  \"compiler\": \"g++ ",
      __VERSION__, "\",\n  \"platform\": \"linux/",
#if defined(__aarch64__)
      "arm64",
#else
      "amd64",
#endif
      "\"\n}\n");
}

}  // namespace

absl::StatusOr<net::HttpResponse> Discovery::Serve(const net::HttpRequest& request) const {
  std::string path = request.target.path;
  if (path.size() > 1 && path.ends_with('/')) path.pop_back();
  if (path == "/") return net::HttpResponse(200, "application/json", net::HttpBody(RootPaths()));
  if (path == "/version") return net::HttpResponse(200, "application/json", net::HttpBody(VersionJson()));
  if ((path == "/api" || path == "/apis") && WantsAggregated(request)) {
    net::HttpResponse response(200, kAggregatedType,
                               net::HttpBody(api::EncodeJson(Aggregated(path == "/api"))));
    response.headers.Add("Vary", "Accept");
    return response;
  }
  absl::StatusOr<Negotiated> negotiated = Negotiate(request.headers.Get("Accept"), false);
  if (!negotiated.ok()) return negotiated.status();
  auto answer = [&](const api::Message& message) {
    net::HttpResponse response(200, negotiated->ContentType(false), EncodeMessage(message, *negotiated));
    response.headers.Add("Vary", "Accept");
    return response;
  };
  if (path == "/api") {
    meta::APIVersions versions;
    versions.add_versions("v1");
    auto* address = versions.add_server_address_by_client_cidrs();
    address->set_client_cidr("0.0.0.0/0");
    address->set_server_address(options_.server_address);
    return answer(versions);
  }
  if (path == "/apis") {
    meta::APIGroupList list;
    for (const std::string& group : Groups(false)) *list.add_groups() = GroupOf(group);
    return answer(list);
  }
  for (const api::GroupVersion& gv : Registry::Get().group_versions()) {
    if (path == StrCat(gv.group.empty() ? "/api/" : "/apis/", gv.ToString())) return answer(Resources(gv));
    if (!gv.group.empty() && path == StrCat("/apis/", gv.group)) return answer(GroupOf(gv.group));
  }
  return api::UnknownPath();
}

}  // namespace keelson::master
