#include "client/http_api_client.h"

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>

#include <utility>

#include "api/codec.h"
#include "api/meta/v1/meta.pb.h"
#include "api/meta/v1/options.pb.h"
#include "api/meta/v1/status.pb.h"
#include "api/meta/v1/watch.pb.h"
#include "api/status_error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "net/http_client.h"

namespace keelson::client {

namespace {

constexpr char kAccept[] = "application/vnd.kubernetes.protobuf,application/json";
constexpr char kAcceptWatch[] =
    "application/vnd.kubernetes.protobuf;stream=watch,application/json;stream=watch,application/json";
constexpr size_t kMaxWatchFrameBytes = 16 << 20;
constexpr size_t kMaxTokenBytes = 64 << 10;

std::string_view PatchContentType(PatchType type) {
  switch (type) {
    case PatchType::kJson:
      return "application/json-patch+json";
    case PatchType::kMerge:
      return "application/merge-patch+json";
    case PatchType::kStrategicMerge:
      return "application/strategic-merge-patch+json";
    case PatchType::kApply:
      return "application/apply-patch+yaml";
  }
  return "";
}

std::string ResourcePath(const api::GroupVersionResource& gvr, const std::string& ns, const std::string& name,
                         const std::string& subresource) {
  std::string path =
      gvr.group.empty() ? StrCat("/api/", gvr.version) : StrCat("/apis/", gvr.group, "/", gvr.version);
  if (!ns.empty()) StrAppend(&path, "/namespaces/", net::PercentEncode(ns));
  StrAppend(&path, "/", gvr.resource);
  if (!name.empty()) StrAppend(&path, "/", net::PercentEncode(name));
  if (!subresource.empty()) StrAppend(&path, "/", subresource);
  return path;
}

std::string WithQuery(std::string path, const net::QueryParams& query) {
  if (query.empty()) return path;
  return StrCat(path, "?", query.Encode());
}

absl::Status ErrorFrom(int code, std::string_view content_type, const std::string& body) {
  absl::StatusOr<api::Decoded> decoded = api::DecodeObject(body, content_type);
  if (decoded.ok()) {
    if (const auto* status = api::As<::k8s::meta::v1::Status>(*decoded->object)) {
      absl::Status error = api::FromApiStatus(*status);
      if (!error.ok()) return error;
    }
  }
  return api::FromHttpError(code, body);
}

absl::StatusOr<ObjectPtr> DecodeOne(std::string_view body, std::string_view content_type) {
  api::DecodeOptions options;
  options.max_bytes = api::kMaxListBytes;
  ASSIGN_OR_RETURN(api::Decoded decoded, api::DecodeObject(body, content_type, options));
  return ObjectPtr(std::move(decoded.object));
}

// Takes the items out of a list message, in order.
std::vector<ObjectPtr> TakeItems(Message& list) {
  const auto* field = api::ItemsField(list);
  const auto* reflection = list.GetReflection();
  std::vector<ObjectPtr> items(static_cast<size_t>(reflection->FieldSize(list, field)));
  for (size_t i = items.size(); i-- > 0;) items[i].reset(reflection->ReleaseLast(&list, field));
  return items;
}

// Cuts a byte stream into watch events: length-prefixed protobuf frames or JSON lines.
class WatchDecoder {
 public:
  explicit WatchDecoder(bool protobuf) : protobuf_(protobuf) {}

  absl::Status Feed(std::string_view bytes) {
    if (offset_ > 0 && offset_ == buffer_.size()) {
      buffer_.clear();
      offset_ = 0;
    }
    buffer_.append(bytes);
    if (buffer_.size() - offset_ > kMaxWatchFrameBytes) {
      return absl::ResourceExhaustedError(StrCat("watch event larger than ", kMaxWatchFrameBytes, " bytes"));
    }
    return absl::OkStatus();
  }

  // nullopt: more bytes are needed.
  absl::StatusOr<std::optional<WatchEvent>> Next() {
    std::string_view rest = std::string_view(buffer_).substr(offset_);
    std::string_view frame;
    if (protobuf_) {
      if (rest.size() < 4) return std::nullopt;
      uint32_t size = 0;
      for (int i = 0; i < 4; ++i)
        size = (size << 8) | static_cast<unsigned char>(rest[static_cast<size_t>(i)]);
      if (size > kMaxWatchFrameBytes) return absl::ResourceExhaustedError("watch event too large");
      if (rest.size() < 4 + static_cast<size_t>(size)) return std::nullopt;
      frame = rest.substr(4, size);
      offset_ += 4 + static_cast<size_t>(size);
    } else {
      size_t end = rest.find('\n', scanned_);
      if (end == std::string_view::npos) {
        scanned_ = rest.size();
        return std::nullopt;
      }
      scanned_ = 0;
      frame = rest.substr(0, end);
      offset_ += end + 1;
      if (absl::StripAsciiWhitespace(Av(frame)).empty()) return Next();
    }
    absl::StatusOr<std::optional<WatchEvent>> event = Decode(frame);
    if (offset_ > (1 << 20)) {
      buffer_.erase(0, offset_);
      offset_ = 0;
    }
    return event;
  }

 private:
  absl::StatusOr<std::optional<WatchEvent>> Decode(std::string_view frame) {
    ::k8s::meta::v1::WatchEvent raw;
    if (protobuf_) {
      if (!raw.ParseFromArray(frame.data(), static_cast<int>(frame.size()))) {
        return absl::InternalError("watch: a frame is not a WatchEvent");
      }
    } else {
      RETURN_IF_ERROR(api::DecodeJsonInto(frame, raw));
    }
    const std::string& body = raw.object().raw();
    ASSIGN_OR_RETURN(
        ObjectPtr object,
        DecodeOne(body, api::IsProtobufEnvelope(body) ? api::kContentTypeProtobuf : api::kContentTypeJson));
    WatchEvent event;
    if (raw.type() == "ERROR") {
      if (const auto* status = api::As<::k8s::meta::v1::Status>(*object)) {
        absl::Status error = api::FromApiStatus(*status);
        if (!error.ok()) return error;
      }
      return absl::InternalError("watch: the server sent an error event without a status");
    }
    event.resource_version = api::Meta(*object).resource_version();
    if (raw.type() == "BOOKMARK") {
      event.type = WatchEventType::kBookmark;
      return event;
    }
    if (raw.type() == "ADDED") {
      event.type = WatchEventType::kAdded;
    } else if (raw.type() == "MODIFIED") {
      event.type = WatchEventType::kModified;
    } else if (raw.type() == "DELETED") {
      event.type = WatchEventType::kDeleted;
    } else {
      return absl::InternalError(StrCat("watch: unknown event type ", raw.type()));
    }
    event.object = std::move(object);
    return event;
  }

  const bool protobuf_;
  std::string buffer_;
  size_t offset_ = 0, scanned_ = 0;
};

class HttpWatcher : public Watcher {
 public:
  HttpWatcher(std::unique_ptr<net::HttpResponseStream> stream, bool protobuf, absl::Duration idle)
      : stream_(std::move(stream)), decoder_(protobuf), idle_(idle) {}

  Task<absl::StatusOr<std::optional<WatchEvent>>> Next() override {
    while (true) {
      absl::StatusOr<std::optional<WatchEvent>> event = decoder_.Next();
      if (!event.ok() || event->has_value()) co_return event;
      Task<absl::StatusOr<std::string>> read = stream_->Read(idle_);
      absl::StatusOr<std::string> bytes = co_await std::move(read);
      if (!bytes.ok()) co_return bytes.status();
      if (bytes->empty()) co_return std::optional<WatchEvent>();
      CO_RETURN_IF_ERROR_SYNC(decoder_.Feed(*bytes));
    }
  }

 private:
  std::unique_ptr<net::HttpResponseStream> stream_;
  WatchDecoder decoder_;
  const absl::Duration idle_;
};

class HttpApiClient : public ApiClient {
 public:
  HttpApiClient(Env& env, net::HttpEndpoint endpoint, const KubeConfig& config, HttpApiClientOptions options)
      : env_(env),
        endpoint_(std::move(endpoint)),
        token_(config.token),
        token_file_(config.token_file),
        options_(std::move(options)),
        http_(&env, HttpOptions(options_)) {}

  Task<absl::StatusOr<ObjectPtr>> Get(api::GroupVersionResource gvr, std::string ns,
                                      std::string name) override {
    net::HttpClientRequest request;
    request.target = ResourcePath(gvr, ns, name, "");
    return One(std::move(request));
  }

  Task<absl::StatusOr<ObjectList>> List(api::GroupVersionResource gvr, std::string ns,
                                        ListOptions options) override {
    ObjectList result;
    std::string token = options.continue_token;
    constexpr int64_t kPage = 5000;
    while (true) {
      net::QueryParams query;
      if (!options.label_selector.empty()) query.Add("labelSelector", options.label_selector);
      if (!options.field_selector.empty()) query.Add("fieldSelector", options.field_selector);
      if (!options.resource_version.empty() && token.empty())
        query.Add("resourceVersion", options.resource_version);
      query.Add("limit", StrCat(options.limit > 0 ? options.limit : kPage));
      if (!token.empty()) query.Add("continue", token);
      net::HttpClientRequest request;
      request.target = WithQuery(ResourcePath(gvr, ns, "", ""), query);
      CO_ASSIGN_OR_RETURN(net::HttpClientResponse response, Call(std::move(request), kAccept));
      api::DecodeOptions decode;
      decode.max_bytes = api::kMaxListBytes;
      CO_ASSIGN_OR_RETURN_SYNC(
          api::Decoded decoded,
          api::DecodeObject(response.body, response.headers.Get("Content-Type"), decode));
      if (decoded.type == nullptr || decoded.type->item == nullptr) {
        co_return absl::InternalError(
            StrCat("list ", gvr.resource, ": the server did not answer with a list"));
      }
      const auto& meta = api::MetaOfList(*decoded.object);
      result.resource_version = meta.resource_version();
      token = meta.continue_();
      std::vector<ObjectPtr> items = TakeItems(*decoded.object);
      std::move(items.begin(), items.end(), std::back_inserter(result.items));
      if (options.limit > 0 || token.empty()) break;
    }
    result.continue_token = token;
    co_return result;
  }

  Task<absl::StatusOr<std::unique_ptr<Watcher>>> Watch(api::GroupVersionResource gvr, std::string ns,
                                                       WatchOptions options) override {
    net::QueryParams query;
    query.Add("watch", "true");
    if (options.bookmarks) query.Add("allowWatchBookmarks", "true");
    if (!options.label_selector.empty()) query.Add("labelSelector", options.label_selector);
    if (!options.field_selector.empty()) query.Add("fieldSelector", options.field_selector);
    if (!options.resource_version.empty()) query.Add("resourceVersion", options.resource_version);
    double jitter = 0.8 + 0.4 * env_.random().Fraction();
    int64_t timeout_s = options.timeout_s.value_or(absl::ToInt64Seconds(options_.watch_timeout * jitter));
    query.Add("timeoutSeconds", StrCat(timeout_s));
    net::HttpClientRequest request;
    request.target = WithQuery(ResourcePath(gvr, ns, "", ""), query);
    request.timeout = kDefaultCallTimeout;
    request.headers.Set("Accept", kAcceptWatch);
    CO_RETURN_IF_ERROR_SYNC(Authorize(request));
    CO_ASSIGN_OR_RETURN(std::unique_ptr<net::HttpResponseStream> stream,
                        http_.Open(endpoint_, std::move(request)));
    std::string content_type(stream->headers().Get("Content-Type"));
    if (stream->status() != 200) {
      Task<absl::StatusOr<std::string>> read = stream->ReadAll(api::kMaxObjectBytes, kDefaultCallTimeout);
      absl::StatusOr<std::string> body = co_await std::move(read);
      co_return ErrorFrom(stream->status(), content_type, body.ok() ? *body : "");
    }
    bool protobuf = absl::StartsWith(content_type, api::kContentTypeProtobuf);
    co_return std::unique_ptr<Watcher>(
        std::make_unique<HttpWatcher>(std::move(stream), protobuf, options_.watch_idle));
  }

  Task<absl::StatusOr<ObjectPtr>> Create(api::GroupVersionResource gvr, std::string ns, ObjectPtr object,
                                         std::string name, std::string subresource) override {
    net::HttpClientRequest request;
    request.method = "POST";
    request.target = ResourcePath(gvr, ns, subresource.empty() ? "" : name, subresource);
    SetBody(*object, request);
    return One(std::move(request));
  }

  Task<absl::StatusOr<ObjectPtr>> Update(api::GroupVersionResource gvr, std::string ns, ObjectPtr object,
                                         std::string subresource) override {
    net::HttpClientRequest request;
    request.method = "PUT";
    request.target = ResourcePath(gvr, ns, api::Meta(*object).name(), subresource);
    SetBody(*object, request);
    return One(std::move(request));
  }

  Task<absl::StatusOr<ObjectPtr>> Patch(api::GroupVersionResource gvr, std::string ns, std::string name,
                                        PatchType type, std::string patch, std::string subresource) override {
    net::HttpClientRequest request;
    request.method = "PATCH";
    request.target = ResourcePath(gvr, ns, name, subresource);
    request.headers.Set("Content-Type", std::string(PatchContentType(type)));
    request.body = net::MakeSharedBytes(std::move(patch));
    return One(std::move(request));
  }

  Task<absl::Status> Delete(api::GroupVersionResource gvr, std::string ns, std::string name,
                            DeleteOptions options) override {
    ::k8s::meta::v1::DeleteOptions body;
    if (options.grace_period_s.has_value()) body.set_grace_period_seconds(*options.grace_period_s);
    if (!options.precondition_uid.empty()) body.mutable_preconditions()->set_uid(options.precondition_uid);
    if (!options.precondition_resource_version.empty()) {
      body.mutable_preconditions()->set_resource_version(options.precondition_resource_version);
    }
    if (!options.propagation_policy.empty()) body.set_propagation_policy(options.propagation_policy);
    net::HttpClientRequest request;
    request.method = "DELETE";
    request.target = ResourcePath(gvr, ns, name, "");
    // JSON: DeleteOptions belongs to every group, an envelope would have to name one.
    std::string json;
    api::AppendJsonWithoutType(body, json);
    request.headers.Set("Content-Type", api::kContentTypeJson);
    request.body = net::MakeSharedBytes(std::move(json));
    Task<absl::StatusOr<net::HttpClientResponse>> call = Call(std::move(request), kAccept);
    absl::StatusOr<net::HttpClientResponse> response = co_await std::move(call);
    co_return response.status();
  }

 private:
  static net::HttpClientOptions HttpOptions(const HttpApiClientOptions& options) {
    net::HttpClientOptions http;
    http.user_agent = options.user_agent;
    http.max_body_bytes = api::kMaxListBytes;
    return http;
  }

  static void SetBody(const Message& object, net::HttpClientRequest& request) {
    request.headers.Set("Content-Type", api::kContentTypeProtobuf);
    request.body = net::MakeSharedBytes(api::EncodeProtobuf(object));
  }

  absl::Status Authorize(net::HttpClientRequest& request) {
    std::string token = token_;
    if (!token_file_.empty()) {
      ASSIGN_OR_RETURN(std::string text, ReadFile(token_file_, kMaxTokenBytes));
      token = std::string(absl::StripAsciiWhitespace(text));
    }
    if (!token.empty()) request.headers.Set("Authorization", StrCat("Bearer ", token));
    return absl::OkStatus();
  }

  // A 2xx answer, or the server's error.
  Task<absl::StatusOr<net::HttpClientResponse>> Call(net::HttpClientRequest request, std::string accept) {
    request.headers.Set("Accept", accept);
    request.timeout = kDefaultCallTimeout;
    CO_RETURN_IF_ERROR_SYNC(Authorize(request));
    CO_ASSIGN_OR_RETURN(net::HttpClientResponse response, http_.Do(endpoint_, std::move(request)));
    if (response.status < 200 || response.status > 299) {
      co_return ErrorFrom(response.status, response.headers.Get("Content-Type"), response.body);
    }
    co_return response;
  }

  Task<absl::StatusOr<ObjectPtr>> One(net::HttpClientRequest request) {
    CO_ASSIGN_OR_RETURN(net::HttpClientResponse response, Call(std::move(request), kAccept));
    co_return DecodeOne(response.body, response.headers.Get("Content-Type"));
  }

  Env& env_;
  const net::HttpEndpoint endpoint_;
  const std::string token_, token_file_;
  const HttpApiClientOptions options_;
  net::HttpClient http_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ApiClient>> NewHttpApiClient(Env& env, const KubeConfig& config,
                                                            HttpApiClientOptions options) {
  auto url = net::HttpUrl::Parse(config.server);
  if (!url.ok()) return Annotate(url.status(), "kubeconfig: clusters[].cluster.server");
  std::shared_ptr<net::TlsClientContext> tls;
  if (url->tls) {
    net::TlsClientConfig tls_config;
    tls_config.ca_pem = config.ca_pem;
    tls_config.certificate_pem = config.client_certificate_pem;
    tls_config.private_key_pem = config.client_key_pem;
    tls_config.insecure_skip_verify = config.insecure_skip_tls_verify;
    auto context = net::TlsClientContext::Create(tls_config);
    if (!context.ok()) return Annotate(context.status(), "kubeconfig: TLS");
    tls = *std::move(context);
  }
  net::HttpEndpoint endpoint = net::HttpEndpoint::FromUrl(*url, std::move(tls));
  endpoint.tls_server_name = config.tls_server_name;
  return std::unique_ptr<ApiClient>(
      std::make_unique<HttpApiClient>(env, std::move(endpoint), config, std::move(options)));
}

}  // namespace keelson::client
