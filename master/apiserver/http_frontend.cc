#include "master/apiserver/http_frontend.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>

#include <algorithm>

#include "api/codec.h"
#include "api/status_error.h"
#include "api/yaml.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "master/apiserver/authentication.h"
#include "master/apiserver/authorizer.h"

namespace keelson::master {

using net::HttpBody;
using net::HttpHeaders;
using net::HttpRequest;
using net::HttpResponse;
using net::ResponseWriter;

struct HttpFrontend::Exchange {
  HttpRequest http;
  ResponseWriter* writer = nullptr;
  RequestPath path;
  ApiRequest request;
  EncodeContext encode;
  std::vector<std::string> warnings;
  int code = 0;  // sent
};

namespace {

bool ParseBool(std::string_view text) {
  return text == "true" || text == "1" || text == "True" || text == "TRUE";
}

absl::Status InvalidOption(std::string_view name, std::string_view value, std::string_view why) {
  return api::BadRequest(StrCat("invalid ", name, " \"", value, "\": ", why));
}

absl::StatusOr<FieldValidation> ParseFieldValidation(std::string_view text) {
  if (text.empty() || text == "Warn") return FieldValidation::kWarn;
  if (text == "Ignore") return FieldValidation::kIgnore;
  if (text == "Strict") return FieldValidation::kStrict;
  return api::Invalid("meta.k8s.io", "CreateOptions", "",
                      {api::FieldCause("FieldValueNotSupported", "fieldValidation",
                                       StrCat("Unsupported value: \"", text,
                                              "\": supported values: \"Ignore\", \"Strict\", \"Warn\""))});
}

std::string_view BareContentType(const HttpRequest& request) {
  std::string_view type = request.headers.Get("Content-Type");
  type = type.substr(0, type.find(';'));
  while (type.ends_with(' ')) type.remove_suffix(1);
  return type;
}

std::string VerbOf(const HttpRequest& http, const RequestPath& path) {
  if (http.method == "GET" || http.method == "HEAD") {
    if (path.watch || ParseBool(http.target.query.Get("watch")) ||
        (http.target.query.Has("watch") && http.target.query.Get("watch").empty())) {
      return "watch";
    }
    return path.name.empty() ? "list" : "get";
  }
  if (http.method == "POST") return "create";
  if (http.method == "PUT") return "update";
  if (http.method == "PATCH") return "patch";
  if (http.method == "DELETE") return path.name.empty() ? "deletecollection" : "delete";
  return "";
}

// Text of a Warning header (RFC 9110's old 299), quoted.
std::string WarningHeader(std::string_view text) {
  std::string out = "299 - \"";
  for (char c : text) {
    if (c == '"' || c == '\\') out.push_back('\\');
    out.push_back(static_cast<unsigned char>(c) < 0x20 ? ' ' : c);
  }
  return out + "\"";
}

// The kind a body of this request must have; null: whatever it says.
const api::TypeInfo* BodyType(const ApiRequest& request) {
  if (request.subresource.empty() || request.subresource == "status" || request.subresource == "finalize") {
    return request.resource->type;
  }
  const Subresource* sub = request.resource->FindSubresource(request.subresource);
  return sub == nullptr ? request.resource->type : api::Scheme::Get().ByKind(sub->kind);
}

}  // namespace

HttpFrontend::HttpFrontend(Env& env, Pipeline& pipeline, HttpFrontendOptions options)
    : env_(env),
      pipeline_(pipeline),
      options_(std::move(options)),
      discovery_(options_.discovery),
      pod_log_(env, pipeline, options_.pod_log),
      pod_stream_(env, pipeline, options_.pod_log.kubelet_tls) {}
HttpFrontend::~HttpFrontend() = default;

Task<void> HttpFrontend::Handle(HttpRequest request, ResponseWriter& writer) {
  auto x = std::make_unique<Exchange>();
  x->http = std::move(request);
  x->writer = &writer;
  x->encode.now = env_.clock().Now();
  const absl::Duration start = env_.clock().Monotonic();
  Task<void> route = Route(*x);
  co_await std::move(route);
  const std::string resource = x->request.resource == nullptr ? "" : x->request.resource->type->plural;
  MetricLabels labels = {{"code", StrCat(x->code)}, {"resource", resource}, {"verb", x->request.verb}};
  MetricsRegistry& metrics = MetricsRegistry::Default();
  metrics.GetCounter("apiserver_request_total", "Requests answered, by verb, resource and code.", labels)
      .Add();
  const bool lasts = x->request.verb == "watch" || PodStreamProxy::IsStream(x->request.subresource);
  if (!lasts) {
    MetricLabels verb = {{"verb", x->request.verb}};
    metrics
        .GetHistogram("apiserver_request_duration_seconds", "Time from request to answer.",
                      {0.001, 0.005, 0.025, 0.1, 0.5, 1, 5, 30}, verb)
        .Observe(absl::ToDoubleSeconds(env_.clock().Monotonic() - start));
  }
}

Task<void> HttpFrontend::Route(Exchange& x) {
  absl::StatusOr<UserInfo> user = Authenticate(x.http);
  if (!user.ok()) {
    Task<void> send = SendError(x, user.status());
    co_await std::move(send);
    co_return;
  }
  x.request.user = *std::move(user);
  const std::string& path = x.http.target.path;
  const bool is_resource = ParseRequestPath(path, &x.path);
  if (!is_resource) {
    AuthAttributes attributes;
    attributes.user = &x.request.user;
    attributes.verb = x.http.method == "GET" || x.http.method == "HEAD" ? "get" : VerbOf(x.http, x.path);
    attributes.path = path;
    absl::Status allowed;
    if (!IsAllowed(attributes, pipeline_)) {
      allowed = x.request.user.name == kUserAnonymous ? api::Unauthorized("Unauthorized")
                                                      : ForbiddenError(attributes);
    }
    Task<void> serve = allowed.ok() ? ServePath(x) : SendError(x, allowed);
    co_await std::move(serve);
    co_return;
  }
  absl::Status problem;
  if (x.request.user.name == kUserAnonymous) problem = api::Unauthorized("Unauthorized");
  if (problem.ok()) {
    x.request.resource = Registry::Get().Find({x.path.group, x.path.version, x.path.resource});
    x.request.subresource = x.path.subresource;
    x.request.ns = x.path.ns;
    x.request.name = x.path.name;
    x.request.verb = VerbOf(x.http, x.path);
    if (x.request.resource == nullptr) {
      problem = api::UnknownPath();
    } else if (!x.request.subresource.empty() &&
               x.request.resource->FindSubresource(x.request.subresource) == nullptr) {
      problem = api::UnknownPath();
    } else if (x.request.resource->type->namespaced == false && !x.request.ns.empty()) {
      problem = api::UnknownPath();
    }
  }
  Task<void> serve = problem.ok() ? ServeResource(x) : SendError(x, problem);
  co_await std::move(serve);
}

Task<void> HttpFrontend::SendResponse(Exchange& x, int code, std::string content_type, HttpBody body) {
  x.code = code;
  HttpResponse response(code, content_type, std::move(body));
  response.headers.Add("Cache-Control", "no-cache, private");
  for (const std::string& warning : x.warnings) response.headers.Add("Warning", WarningHeader(warning));
  Task<absl::Status> send = x.writer->Send(std::move(response));
  absl::Status sent = co_await std::move(send);
  if (!sent.ok()) LogDebug("client is gone", {{"path", x.http.target.path}, {"error", sent}});
}

Task<void> HttpFrontend::SendError(Exchange& x, absl::Status status) {
  api::ApiStatus body = api::ToApiStatus(status);
  const int code = body.code() == 0 ? 500 : body.code();
  if (code >= 500 && code != 504)
    LogWarning("request failed", {{"path", x.http.target.path}, {"error", status}});
  Negotiated negotiated = x.encode.negotiated;
  absl::StatusOr<Negotiated> asked = Negotiate(x.http.headers.Get("Accept"), true);
  if (asked.ok()) negotiated.media = asked->media;
  Task<void> send = SendResponse(x, code, negotiated.ContentType(false), EncodeMessage(body, negotiated));
  co_await std::move(send);
}

// ---- paths that are no resources ----

Task<void> HttpFrontend::SendHealth(Exchange& x, std::string name, bool readiness) {
  struct Check {
    std::string name;
    absl::Status status;
  };
  std::vector<Check> checks = {{"ping", absl::OkStatus()}, {"store", pipeline_.store().Health()}};
  if (readiness) {
    checks.push_back({"informer-sync", pipeline_.started()
                                           ? absl::OkStatus()
                                           : absl::UnavailableError("caches are being filled")});
  }
  bool ok = true;
  std::string text;
  for (const Check& check : checks) {
    ok &= check.status.ok();
    StrAppend(&text, check.status.ok() ? "[+]" : "[-]", check.name,
              check.status.ok() ? std::string(" ok") : StrCat(" failed: ", Sv(check.status.message())), "\n");
  }
  StrAppend(&text, name, " check ", ok ? "passed" : "failed", "\n");
  if (ok && !x.http.target.query.Has("verbose")) text = "ok";
  Task<void> send = SendResponse(x, ok ? 200 : 500, "text/plain; charset=utf-8", HttpBody(std::move(text)));
  co_await std::move(send);
}

Task<void> HttpFrontend::ServePath(Exchange& x) {
  const std::string& path = x.http.target.path;
  if (x.http.method != "GET" && x.http.method != "HEAD") {
    Task<void> send = SendError(x, api::MethodNotSupported({"", ""}, x.http.method));
    co_await std::move(send);
    co_return;
  }
  for (const char* name : {"healthz", "livez", "readyz"}) {
    std::string base = StrCat("/", name);
    if (path == base || path.starts_with(base + "/")) {
      Task<void> send = SendHealth(x, name, path[1] == 'r');
      co_await std::move(send);
      co_return;
    }
  }
  if (path == "/metrics") {
    Task<void> send = SendResponse(x, 200, "text/plain; version=0.0.4; charset=utf-8",
                                   HttpBody(MetricsRegistry::Default().Render()));
    co_await std::move(send);
    co_return;
  }
  absl::StatusOr<HttpResponse> answer = api::UnknownPath();
  if (path.starts_with("/openapi/")) {
    answer = openapi_.Serve(x.http);
  } else {
    answer = discovery_.Serve(x.http);
  }
  if (!answer.ok()) {
    Task<void> send = SendError(x, answer.status());
    co_await std::move(send);
    co_return;
  }
  x.code = answer->status;
  Task<absl::Status> send = x.writer->Send(*std::move(answer));
  absl::Status sent = co_await std::move(send);
  (void)sent;
}

// ---- resources ----

absl::Status HttpFrontend::ReadOptions(Exchange& x) {
  const net::QueryParams& q = x.http.target.query;
  RequestOptions& o = x.request.options;
  o.label_selector = q.Get("labelSelector");
  o.field_selector = q.Get("fieldSelector");
  o.resource_version = q.Get("resourceVersion");
  o.resource_version_match = q.Get("resourceVersionMatch");
  o.continue_token = q.Get("continue");
  o.field_manager = q.Get("fieldManager");
  o.allow_bookmarks = ParseBool(q.Get("allowWatchBookmarks"));
  if (q.Has("sendInitialEvents")) o.send_initial_events = ParseBool(q.Get("sendInitialEvents"));
  if (q.Has("limit") && !q.Get("limit").empty()) {
    if (!absl::SimpleAtoi(Av(q.Get("limit")), &o.limit))
      return InvalidOption("limit", q.Get("limit"), "not a number");
  }
  if (q.Has("timeoutSeconds") && !q.Get("timeoutSeconds").empty()) {
    int64_t timeout_s = 0;
    if (!absl::SimpleAtoi(Av(q.Get("timeoutSeconds")), &timeout_s)) {
      return InvalidOption("timeoutSeconds", q.Get("timeoutSeconds"), "not a number");
    }
    o.timeout_s = timeout_s;
  }
  for (std::string_view value : q.GetAll("dryRun")) {
    if (value.empty()) continue;
    if (value != "All") {
      return api::Invalid(
          "meta.k8s.io", "CreateOptions", "",
          {api::FieldCause("FieldValueNotSupported", "dryRun",
                           StrCat("Unsupported value: \"", value, "\": supported values: \"All\""))});
    }
    o.dry_run = true;
  }
  absl::StatusOr<FieldValidation> validation = ParseFieldValidation(q.Get("fieldValidation"));
  if (!validation.ok()) return validation.status();
  o.field_validation = *validation;
  if (q.Has("includeObject")) {
    std::string_view include = q.Get("includeObject");
    if (include == "None") x.encode.include = IncludeObject::kNone;
    if (include == "Object") x.encode.include = IncludeObject::kObject;
  }
  const std::string& user_agent = std::string(x.http.headers.Get("User-Agent"));
  x.encode.negotiated.pretty = q.Has("pretty")
                                   ? q.Get("pretty") != "false" && q.Get("pretty") != "0"
                                   : user_agent.starts_with("curl") || user_agent.starts_with("Wget") ||
                                         user_agent.starts_with("Mozilla/5.0");
  return absl::OkStatus();
}

absl::Status HttpFrontend::ReadDeleteOptions(Exchange& x) {
  auto& o = x.request.options.delete_options;
  if (!x.http.body.empty()) {
    api::DecodeOptions decode;
    decode.default_type = api::Scheme::Get().ByKind("v1", "DeleteOptions");
    absl::StatusOr<api::Decoded> decoded = api::DecodeObject(x.http.body, BareContentType(x.http), decode);
    if (!decoded.ok()) return decoded.status();
    const auto* options = api::As<::k8s::meta::v1::DeleteOptions>(*decoded->object);
    if (options == nullptr) return api::BadRequest("decoded object cannot be converted to DeleteOptions");
    o = *options;
  } else {
    const net::QueryParams& q = x.http.target.query;
    if (q.Has("gracePeriodSeconds")) {
      int64_t grace = 0;
      if (!absl::SimpleAtoi(Av(q.Get("gracePeriodSeconds")), &grace)) {
        return InvalidOption("gracePeriodSeconds", q.Get("gracePeriodSeconds"), "not a number");
      }
      o.set_grace_period_seconds(grace);
    }
    if (q.Has("propagationPolicy")) o.set_propagation_policy(std::string(q.Get("propagationPolicy")));
    if (q.Has("orphanDependents")) o.set_orphan_dependents(ParseBool(q.Get("orphanDependents")));
  }
  for (const std::string& value : o.dry_run()) {
    if (value == "All") x.request.options.dry_run = true;
  }
  return absl::OkStatus();
}

absl::Status HttpFrontend::ReadBody(Exchange& x) {
  ApiRequest& request = x.request;
  if (request.verb == "delete" || request.verb == "deletecollection") return ReadDeleteOptions(x);
  if (request.verb == "patch") {
    std::string_view type = BareContentType(x.http);
    if (type == "application/json-patch+json") {
      request.patch_kind = api::PatchKind::kJson;
    } else if (type == "application/merge-patch+json") {
      request.patch_kind = api::PatchKind::kMerge;
    } else if (type == "application/strategic-merge-patch+json") {
      request.patch_kind = api::PatchKind::kStrategicMerge;
    } else {
      return api::UnsupportedMediaType(
          "application/json-patch+json, application/merge-patch+json, "
          "application/strategic-merge-patch+json");
    }
    request.patch = std::move(x.http.body);
    return absl::OkStatus();
  }
  if (request.verb != "create" && request.verb != "update") return absl::OkStatus();
  api::DecodeOptions decode;
  decode.default_type = BodyType(request);
  absl::StatusOr<api::Decoded> decoded = api::DecodeObject(x.http.body, BareContentType(x.http), decode);
  if (!decoded.ok()) return decoded.status();
  if (decode.default_type != nullptr && decoded->type != decode.default_type) {
    const api::GroupVersionKind& got = decoded->type->gvk;
    const api::GroupVersionKind& want = decode.default_type->gvk;
    if (got.kind == want.kind) {
      return api::BadRequest(StrCat("the API version in the data (", got.ApiVersion(),
                                    ") does not match the expected API version (", want.ApiVersion(), ")"));
    }
    return api::BadRequest(
        StrCat(got.kind, " in version \"", got.version, "\" cannot be handled as a ", want.kind));
  }
  RETURN_IF_ERROR(
      CheckStrict(*decoded->type, decoded->strict_errors, request.options.field_validation, &x.warnings));
  request.object = std::move(decoded->object);
  return absl::OkStatus();
}

Task<void> HttpFrontend::ServeResource(Exchange& x) {
  ApiRequest& request = x.request;
  absl::Status status = ReadOptions(x);
  if (status.ok() && request.verb.empty()) {
    status = api::MethodNotSupported(request.resource->type->group_resource(), x.http.method);
  }
  const bool is_stream = PodStreamProxy::IsStream(request.subresource);
  const bool reads = request.verb == "get" || request.verb == "list" || request.verb == "watch";
  if (status.ok()) {
    const bool is_raw = request.subresource == "log" || is_stream;
    absl::StatusOr<Negotiated> negotiated =
        is_raw ? Negotiated() : Negotiate(x.http.headers.Get("Accept"), true);
    if (negotiated.ok()) {
      negotiated->pretty = x.encode.negotiated.pretty;
      x.encode.negotiated = *std::move(negotiated);
    } else {
      status = negotiated.status();
    }
  }
  const bool on_item = request.verb == "update" || request.verb == "patch" || !request.subresource.empty();
  const bool on_collection = request.verb == "create" && request.subresource.empty();
  if (status.ok() && ((on_item && request.name.empty()) || (on_collection && !request.name.empty()))) {
    status = api::MethodNotSupported(request.resource->type->group_resource(), request.verb);
  }
  if (status.ok()) {
    const Subresource* sub = request.resource->FindSubresource(request.subresource);
    const std::vector<std::string>& verbs = sub == nullptr ? request.resource->verbs : sub->verbs;
    if (std::find(verbs.begin(), verbs.end(), request.verb) == verbs.end()) {
      status = api::MethodNotSupported(request.resource->type->group_resource(), request.verb);
    }
  }
  const bool needs_ns = request.resource->type->namespaced && request.ns.empty();
  if (status.ok() && needs_ns && (!request.name.empty() || request.verb == "create"))
    status = api::UnknownPath();
  // Before the body is read: who may not write need not be told what is wrong with it.
  if (status.ok() && is_stream && request.verb == "get") {
    // A websocket can only be opened by GET; that must not make a command in a container something that those
    // who may only read can run.
    ApiRequest create = request;
    create.verb = "create";
    status = pipeline_.Authorize(create);
  }
  if (status.ok()) status = pipeline_.Authorize(request);
  if (status.ok() && !reads && !is_stream) status = ReadBody(x);
  if (!status.ok()) {
    Task<void> send = SendError(x, status);
    co_await std::move(send);
    co_return;
  }
  if (request.verb == "watch" || request.subresource == "log" || is_stream) {
    Task<void> serve = request.verb == "watch" ? ServeWatch(x) : is_stream ? ServeStream(x) : ServeLog(x);
    co_await std::move(serve);
    co_return;
  }
  if (request.verb == "list") {
    Task<absl::StatusOr<ApiList>> task = pipeline_.List(request);
    absl::StatusOr<ApiList> list = co_await std::move(task);
    Task<void> send =
        list.ok() ? SendResponse(x, 200, x.encode.negotiated.ContentType(false), EncodeList(*list, x.encode))
                  : SendError(x, list.status());
    co_await std::move(send);
    co_return;
  }
  Task<absl::StatusOr<ApiResult>> task;
  if (request.verb == "get") task = pipeline_.Get(request);
  if (request.verb == "create") task = pipeline_.Create(request);
  if (request.verb == "update") task = pipeline_.Update(request);
  if (request.verb == "patch") task = pipeline_.Patch(request);
  if (request.verb == "delete") task = pipeline_.Delete(request);
  if (request.verb == "deletecollection") task = pipeline_.DeleteCollection(request);
  if (!reads) x.writer->IgnoreDisconnect();
  absl::StatusOr<ApiResult> result = co_await std::move(task);
  if (!result.ok()) {
    Task<void> send = SendError(x, result.status());
    co_await std::move(send);
    co_return;
  }
  for (std::string& warning : result->warnings) x.warnings.push_back(std::move(warning));
  Task<void> send = SendResponse(x, result->http_code, x.encode.negotiated.ContentType(false),
                                 EncodeResult(*result, *request.resource, x.encode));
  co_await std::move(send);
}

// ---- watch ----

namespace {

// Ends a watch when its time is over.
class WatchTimer {
 public:
  WatchTimer(Clock& clock, CacheWatch* watch, absl::Duration after) : clock_(clock) {
    id_ = clock_.Schedule(after, [watch] { watch->Stop(); });
  }
  ~WatchTimer() { clock_.CancelTimer(id_); }
  WatchTimer(const WatchTimer&) = delete;
  WatchTimer& operator=(const WatchTimer&) = delete;

 private:
  Clock& clock_;
  uint64_t id_;
};

}  // namespace

Task<void> HttpFrontend::ServeWatch(Exchange& x) {
  const ResourceInfo& resource = *x.request.resource;
  Task<absl::StatusOr<ApiWatch>> open = pipeline_.Watch(x.request);
  absl::StatusOr<ApiWatch> watch = co_await std::move(open);
  const bool expired = !watch.ok() && api::IsGone(watch.status());
  if (!watch.ok() && !expired) {
    Task<void> send = SendError(x, watch.status());
    co_await std::move(send);
    co_return;
  }
  HttpHeaders headers;
  headers.Add("Content-Type", x.encode.negotiated.ContentType(true));
  headers.Add("Cache-Control", "no-cache, private");
  x.code = 200;
  Task<absl::Status> head = x.writer->StartStream(200, std::move(headers));
  absl::Status status = co_await std::move(head);
  if (!status.ok()) co_return;
  if (expired) {  // upstream tells it inside of the stream
    Task<absl::Status> write =
        x.writer->WriteBody(EncodeWatchError(api::ToApiStatus(watch.status()), x.encode));
    status = co_await std::move(write);
    co_return;
  }
  int64_t timeout_s = watch->timeout_s.value_or(0);
  if (timeout_s <= 0)
    timeout_s =
        kMinWatchTimeoutSeconds + static_cast<int64_t>(env_.random().Uniform(kMinWatchTimeoutSeconds));
  WatchTimer timer(env_.clock(), watch->watch.get(), absl::Seconds(timeout_s));
  bool first = true;
  for (;;) {
    Task<absl::StatusOr<std::vector<CacheWatchEvent>>> next = watch->watch->Next();
    absl::StatusOr<std::vector<CacheWatchEvent>> events = co_await std::move(next);
    HttpBody body;
    if (!events.ok()) {
      if (!IsCompacted(events.status())) co_return;
      absl::Status gone = api::Expired(Sv(events.status().message()));
      body = EncodeWatchError(api::ToApiStatus(gone), x.encode);
    } else {
      x.encode.now = env_.clock().Now();
      for (const CacheWatchEvent& event : *events) {
        if (event.type != CacheWatchEvent::kBookmark &&
            (event.object == nullptr || event.object->message() == nullptr)) {
          continue;
        }
        HttpBody frame = EncodeWatchEvent(event, resource, first, x.encode);
        first = false;
        for (const HttpBody::Piece& piece : frame.pieces()) body.AppendSlice(piece.owner, piece.bytes);
      }
    }
    if (body.size_bytes() != 0) {
      Task<absl::Status> write = x.writer->WriteBody(std::move(body));
      status = co_await std::move(write);
    }
    if (!status.ok() || !events.ok()) co_return;
  }
}

Task<void> HttpFrontend::ServeLog(Exchange& x) {
  Task<absl::Status> serve = pod_log_.Serve(x.request, x.http.target.query, *x.writer);
  absl::Status status = co_await std::move(serve);
  if (status.ok()) {
    x.code = 200;
    co_return;
  }
  if (!x.writer->started()) {
    Task<void> send = SendError(x, status);
    co_await std::move(send);
  } else {
    x.writer->Abort();
  }
}

Task<void> HttpFrontend::ServeStream(Exchange& x) {
  Task<absl::Status> serve = pod_stream_.Serve(x.request, std::move(x.http), *x.writer, &x.code);
  absl::Status status = co_await std::move(serve);
  if (status.ok()) co_return;
  if (!x.writer->started()) {
    Task<void> send = SendError(x, status);
    co_await std::move(send);
  }
}

}  // namespace keelson::master
