#include "kubelet/pod_sources.h"

#include <absl/strings/ascii.h>
#include <absl/strings/str_join.h>

#include <filesystem>

#include "api/codec.h"
#include "api/defaults.h"
#include "api/validation.h"
#include "api/yaml.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "net/http_client.h"

namespace keelson::kubelet {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxManifestBytes = 3 << 20;
constexpr size_t kMaxManifestFiles = 1000;

// 128 bits of FNV-1a (two seeds) as 32 hex digits: stable across restarts, not a secret.
std::string ContentHash(std::string_view text) {
  auto fnv = [&](uint64_t hash) {
    for (unsigned char c : text) hash = (hash ^ c) * 1099511628211ull;
    return hash;
  };
  return StrCat(absl::Hex(fnv(14695981039346656037ull), absl::kZeroPad16),
                absl::Hex(fnv(0x9e3779b97f4a7c15ull), absl::kZeroPad16));
}

class ApiPodSource : public PodSource {
 public:
  ApiPodSource(Env& env, client::ApiClient& client, std::string node_name, PodChange on_change)
      : informer_(env, client, client::GvrOf<corev1::Pod>(), Options(node_name)) {
    informer_.AddHandler([on_change](const client::ObjectPtr& before, const client::ObjectPtr& after) {
      PodPtr old = api::As<corev1::Pod>(before), now = api::As<corev1::Pod>(after);
      // Deleted and created anew under one name between two looks.
      if (old != nullptr && now != nullptr && PodUid(*old) != PodUid(*now)) {
        on_change(old, nullptr);
        on_change(nullptr, now);
      } else {
        on_change(old, now);
      }
    });
  }
  void Start() override { informer_.Start(); }
  bool Ready() const override { return informer_.synced(); }
  Task<void> Stop() override { return informer_.Stop(); }

 private:
  static client::InformerOptions Options(const std::string& node_name) {
    client::InformerOptions out;
    out.field_selector = "spec.nodeName=" + node_name;
    return out;
  }
  client::Informer informer_;
};

// Diffs whole sets of static pods.
class PolledSource : public PodSource {
 public:
  PolledSource(Env& env, absl::Duration period, PodChange on_change)
      : env_(env), period_(period), on_change_(std::move(on_change)), scope_(env.executor()) {}
  void Start() override { scope_.Spawn("static-pods", Loop()); }
  bool Ready() const override { return ready_; }
  Task<void> Stop() override { return scope_.Close(); }

 protected:
  // The whole set. On an error what was known stays.
  virtual Task<absl::StatusOr<std::vector<corev1::Pod>>> Read() = 0;
  Env& env_;

 private:
  Task<void> Loop() {
    while (true) {
      Task<absl::StatusOr<std::vector<corev1::Pod>>> read = Read();
      absl::StatusOr<std::vector<corev1::Pod>> pods = co_await std::move(read);
      if (pods.ok()) {
        Replace(*std::move(pods));
        ready_ = true;
      } else {
        LogWarning("static pods not read", {{"error", pods.status()}});
      }
      Task<void> sleep = env_.clock().Sleep(period_);
      co_await std::move(sleep);
    }
  }
  void Replace(std::vector<corev1::Pod> pods) {
    std::map<std::string, PodPtr> next;
    for (corev1::Pod& pod : pods) {
      std::string uid = PodUid(pod);
      auto it = known_.find(uid);
      next[uid] = it != known_.end() ? it->second : std::make_shared<const corev1::Pod>(std::move(pod));
    }
    std::map<std::string, PodPtr> before = std::move(known_);
    known_ = next;
    for (const auto& [uid, pod] : before) {
      if (next.count(uid) == 0) on_change_(pod, nullptr);
    }
    for (const auto& [uid, pod] : next) {
      if (before.count(uid) == 0) on_change_(nullptr, pod);
    }
  }
  const absl::Duration period_;
  PodChange on_change_;
  Scope scope_;
  bool ready_ = false;
  std::map<std::string, PodPtr> known_;
};

class FilePodSource : public PolledSource {
 public:
  FilePodSource(Env& env, std::string path, std::string node_name, absl::Duration period, PodChange on_change)
      : PolledSource(env, period, std::move(on_change)),
        path_(std::move(path)),
        node_name_(std::move(node_name)) {}

 protected:
  Task<absl::StatusOr<std::vector<corev1::Pod>>> Read() override {
    std::vector<std::string> files;
    absl::StatusOr<std::vector<std::string>> names = FolderNames(path_);
    if (absl::IsFailedPrecondition(names.status())) {
      files.push_back(path_);  // no folder
    } else if (!names.ok() && !absl::IsNotFound(names.status())) {
      co_return names.status();  // the pods known from before stay
    }
    for (const std::string& name : names.ok() ? *names : std::vector<std::string>()) {
      std::error_code ec;
      std::string file = StrCat(path_, "/", name);
      if (name[0] == '.' || !fs::is_regular_file(file, ec)) continue;
      if (files.size() < kMaxManifestFiles) files.push_back(std::move(file));
    }
    std::vector<corev1::Pod> out;
    std::map<std::string, std::vector<corev1::Pod>> by_file;
    for (const std::string& file : files) {
      absl::StatusOr<std::string> text = ReadFile(file, kMaxManifestBytes);
      absl::StatusOr<std::vector<corev1::Pod>> pods =
          text.ok() ? DecodeStaticPods(*text, node_name_, "file", file, env_.clock().Now())
                    : absl::StatusOr<std::vector<corev1::Pod>>(text.status());
      if (pods.ok()) {
        by_file[file] = *pods;
        complaints_.erase(file);
      } else {
        std::string why = pods.status().ToString();
        if (complaints_[file] != why) LogError("manifest refused", {{"file", file}, {"error", why}});
        complaints_[file] = why;
        auto former = former_.find(file);
        if (former != former_.end()) by_file[file] = former->second;
      }
      for (const corev1::Pod& pod : by_file[file]) out.push_back(pod);
    }
    former_ = std::move(by_file);
    co_return out;
  }

 private:
  const std::string path_, node_name_;
  std::map<std::string, std::vector<corev1::Pod>> former_;
  std::map<std::string, std::string> complaints_;
};

class UrlPodSource : public PolledSource {
 public:
  UrlPodSource(Env& env, std::string url, std::string node_name, absl::Duration period, PodChange on_change)
      : PolledSource(env, period, std::move(on_change)),
        url_(std::move(url)),
        node_name_(std::move(node_name)) {
    net::HttpClientOptions options;
    options.max_body_bytes = kMaxManifestBytes;
    http_ = std::make_unique<net::HttpClient>(&env, options);
  }

 protected:
  Task<absl::StatusOr<std::vector<corev1::Pod>>> Read() override {
    CO_ASSIGN_OR_RETURN_SYNC(net::HttpUrl url, net::HttpUrl::Parse(url_));
    std::shared_ptr<net::TlsClientContext> tls;
    if (url_.rfind("https:", 0) == 0) {
      net::TlsClientConfig config;
      CO_ASSIGN_OR_RETURN_SYNC(tls, net::TlsClientContext::Create(config));
    }
    net::HttpClientRequest request;
    request.target = url.target;
    request.timeout = absl::Seconds(10);
    CO_ASSIGN_OR_RETURN(net::HttpClientResponse response,
                        http_->Do(net::HttpEndpoint::FromUrl(url, tls), std::move(request)));
    if (response.status != 200) co_return absl::UnavailableError(StrCat(url_, " answered ", response.status));
    if (absl::StripAsciiWhitespace(response.body).empty()) {
      co_return absl::UnavailableError(StrCat(url_, " answered with nothing"));
    }
    co_return DecodeStaticPods(response.body, node_name_, "http", url_, env_.clock().Now());
  }

 private:
  const std::string url_, node_name_;
  std::unique_ptr<net::HttpClient> http_;
};

}  // namespace

std::unique_ptr<PodSource> NewApiPodSource(Env& env, client::ApiClient& client, std::string node_name,
                                           PodChange on_change) {
  return std::make_unique<ApiPodSource>(env, client, std::move(node_name), std::move(on_change));
}

std::unique_ptr<PodSource> NewFilePodSource(Env& env, std::string path, std::string node_name,
                                            absl::Duration period, PodChange on_change) {
  return std::make_unique<FilePodSource>(env, std::move(path), std::move(node_name), period,
                                         std::move(on_change));
}

std::unique_ptr<PodSource> NewUrlPodSource(Env& env, std::string url, std::string node_name,
                                           absl::Duration period, PodChange on_change) {
  return std::make_unique<UrlPodSource>(env, std::move(url), std::move(node_name), period,
                                        std::move(on_change));
}

absl::StatusOr<std::vector<corev1::Pod>> DecodeStaticPods(std::string_view text, const std::string& node_name,
                                                          std::string_view source, std::string_view where,
                                                          absl::Time now) {
  ASSIGN_OR_RETURN(std::vector<api::Decoded> objects, api::DecodeManifest(text));
  std::vector<corev1::Pod> pods;
  for (const api::Decoded& decoded : objects) {
    if (!decoded.strict_errors.empty()) {
      return absl::InvalidArgumentError(StrCat(where, ": ", decoded.strict_errors.front()));
    }
    if (const auto* pod = api::As<corev1::Pod>(*decoded.object)) {
      pods.push_back(*pod);
    } else if (const auto* list = api::As<corev1::PodList>(*decoded.object)) {
      for (const auto& item : list->items()) pods.push_back(item);
    } else {
      return absl::InvalidArgumentError(StrCat(where, ": kind ", decoded.type->gvk.kind, " is not a Pod"));
    }
  }
  for (corev1::Pod& pod : pods) {
    auto& meta = *pod.mutable_metadata();
    if (meta.name().empty())
      return absl::InvalidArgumentError(StrCat(where, ": metadata.name: Required value"));
    pod.clear_status();
    api::SetDefaults(&pod);
    std::string hash = ContentHash(StrCat(node_name, "\n", where, "\n", api::EncodeJson(pod)));
    if (meta.uid().empty()) meta.set_uid(hash);
    meta.set_name(StrCat(meta.name(), "-", node_name));
    if (meta.namespace_().empty()) meta.set_namespace_("default");
    auto& annotations = *meta.mutable_annotations();
    annotations[kAnnotationConfigSource] = std::string(source);
    annotations[kAnnotationConfigHash] = hash;
    annotations[kAnnotationConfigSeen] = absl::FormatTime(absl::RFC3339_sec, now, absl::UTCTimeZone());
    pod.mutable_spec()->set_node_name(node_name);
    auto* toleration = pod.mutable_spec()->add_tolerations();
    toleration->set_operator_("Exists");
    toleration->set_effect("NoExecute");
    pod.mutable_status()->set_phase("Pending");
    const api::FieldErrors errors = api::Validate(pod);
    if (!errors.empty()) {
      std::vector<std::string> texts;
      for (const api::FieldError& error : errors) texts.push_back(error.ToString());
      return absl::InvalidArgumentError(
          StrCat(where, ": invalid pod ", PodName(pod), ": ", absl::StrJoin(texts, ", ")));
    }
  }
  return pods;
}

corev1::Pod MakeMirrorPod(const corev1::Pod& static_pod, const std::string& node_name,
                          const std::string& node_uid) {
  corev1::Pod out = static_pod;
  auto& meta = *out.mutable_metadata();
  auto it = meta.annotations().find(kAnnotationConfigHash);
  std::string hash = it == meta.annotations().end() ? meta.uid() : it->second;
  (*meta.mutable_annotations())[kAnnotationConfigMirror] = hash;
  meta.clear_uid();
  meta.clear_resource_version();
  meta.clear_owner_references();
  if (!node_uid.empty()) {
    auto* owner = meta.add_owner_references();
    owner->set_api_version("v1");
    owner->set_kind("Node");
    owner->set_name(node_name);
    owner->set_uid(node_uid);
    owner->set_controller(true);
  }
  out.clear_status();
  return out;
}

}  // namespace keelson::kubelet
