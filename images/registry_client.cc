#include "images/registry_client.h"

#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "images/digest.h"
#include "images/registry_auth.h"
#include "net/http_client.h"

namespace keelson::images {
namespace {

constexpr size_t kMaxErrorBodyBytes = 64 << 10;
constexpr size_t kMaxCaBytes = 4 << 20;
constexpr absl::Duration kHeadTimeout = absl::Seconds(30);
constexpr absl::Duration kTokenTimeout = absl::Seconds(30);
constexpr absl::Duration kTokenSlack = absl::Seconds(10);  // a token that ends soon is not used any more

using net::HttpHeaders;
using StreamPtr = std::unique_ptr<net::HttpResponseStream>;

// How one try of a request ended.
struct Attempt {
  absl::Status status;
  StreamPtr stream;  // of a 2xx
  bool retry = false;
  absl::Duration retry_after;
};

absl::Status StatusOfCode(int code, std::string_view summary) {
  std::string message = StrCat("the registry answered ", code, " ", net::HttpReasonPhrase(code));
  if (!summary.empty()) StrAppend(&message, " (", summary, ")");
  if (code == 401 || code == 403) return absl::PermissionDeniedError(message);
  if (code == 404) return absl::NotFoundError(message);
  return absl::UnavailableError(message);
}

bool RetryCode(int code) {
  return code == 408 || code == 429 || code == 500 || code == 502 || code == 503 || code == 504;
}

// `location` as a URL, seen from `base`.
absl::StatusOr<net::HttpUrl> ResolveLocation(const net::HttpUrl& base, std::string_view location) {
  constexpr size_t kMaxLocationBytes = 16 << 10;
  if (location.empty() || location.size() > kMaxLocationBytes) {
    return absl::InvalidArgumentError("redirect without a usable Location");
  }
  if (absl::StrContains(Av(location), "://")) return net::HttpUrl::Parse(location);
  net::HttpUrl out = base;
  if (absl::StartsWith(Av(location), "//")) {
    return net::HttpUrl::Parse(StrCat(base.tls ? "https:" : "http:", location));
  }
  if (location.front() == '/') {
    out.target = std::string(location);
    return out;
  }
  std::string path = base.target.substr(0, base.target.find('?'));
  out.target = path.substr(0, path.rfind('/') + 1) + std::string(location);
  return out;
}

bool SameAuthority(const net::HttpUrl& a, const net::HttpUrl& b) {
  return a.tls == b.tls && a.host == b.host && a.port == b.port;
}

struct HostState {
  RegistryHost config;
  std::shared_ptr<net::TlsClientContext> tls;  // null: plain
  std::optional<RegistryCredentials> credentials;
  bool out = false;           // dead or distrusted
  std::string authorization;  // header value; "" : none yet
  absl::Duration authorization_ends = absl::InfiniteDuration();

  net::HttpUrl Url(std::string_view path) const {
    net::HttpUrl url;
    url.tls = config.tls;
    url.host = config.host;
    url.port = config.port;
    url.target = StrCat(config.api_path, path);
    return url;
  }
};

// What Open reads and makes off the loop.
struct Loaded {
  std::vector<HostState> hosts;
  std::shared_ptr<net::TlsClientContext> default_tls;
};

absl::StatusOr<std::shared_ptr<net::TlsClientContext>> TlsOf(const RegistryHost& host) {
  net::TlsClientConfig config;
  config.insecure_skip_verify = host.skip_verify;
  for (const std::string& file : host.ca_files) {
    ASSIGN_OR_RETURN(std::string pem, ReadFile(file, kMaxCaBytes));
    StrAppend(&config.ca_pem, pem, "\n");
  }
  if (!host.client_cert_file.empty()) {
    ASSIGN_OR_RETURN(config.certificate_pem, ReadFile(host.client_cert_file, kMaxCaBytes));
    ASSIGN_OR_RETURN(config.private_key_pem, ReadFile(host.client_key_file, kMaxCaBytes));
  }
  auto out = net::TlsClientContext::Create(config);
  if (!out.ok()) return Annotate(out.status(), StrCat("TLS of ", host.url));
  return out;
}

absl::StatusOr<Loaded> LoadBlocking(const Reference& reference, const RegistryOptions& options) {
  Loaded out;
  ASSIGN_OR_RETURN(RegistryHosts hosts, LoadRegistryHosts(options.registries_dir, reference.domain));
  ASSIGN_OR_RETURN(AuthFile auth, AuthFile::Load(options.auth_file));
  for (RegistryHost& host : hosts.hosts) {
    HostState state;
    if (host.tls) {
      bool plain_default = host.ca_files.empty() && host.client_cert_file.empty() && !host.skip_verify;
      if (plain_default && out.default_tls != nullptr) {
        state.tls = out.default_tls;
      } else {
        ASSIGN_OR_RETURN(state.tls, TlsOf(host));
        if (plain_default) out.default_tls = state.tls;
      }
    }
    if (host.upstream) {
      state.credentials = options.credentials;
      if (!state.credentials.has_value()) state.credentials = auth.Find(reference.Name());
    }
    if (!state.credentials.has_value()) state.credentials = auth.Find(host.authority());
    if (!state.credentials.has_value()) state.credentials = auth.Find(host.host);
    state.config = std::move(host);
    out.hosts.push_back(std::move(state));
  }
  if (auth.has_helpers()) {
    LogDebug("credsStore and credHelpers of the credential file are not used", {{"file", options.auth_file}});
  }
  return out;
}

class Session : public RegistrySession, public std::enable_shared_from_this<Session> {
 public:
  Session(Env* env, Reference reference, RegistryOptions options, Loaded loaded)
      : env_(env),
        reference_(std::move(reference)),
        options_(std::move(options)),
        hosts_(std::move(loaded.hosts)),
        default_tls_(std::move(loaded.default_tls)),
        http_(env, HttpOptions()) {}

  Task<absl::StatusOr<FetchedManifest>> FetchManifest(std::string object) override {
    return Fetch(shared_from_this(), std::move(object));
  }
  Task<absl::StatusOr<std::unique_ptr<BlobStream>>> OpenBlob(std::string digest,
                                                             uint64_t size_bytes) override {
    return MakeBlob(shared_from_this(), std::move(digest), size_bytes);
  }
  bool Distrust(size_t source) override {
    if (source < hosts_.size()) hosts_[source].out = true;
    return std::any_of(hosts_.begin(), hosts_.end(),
                       [](const HostState& host) { return !host.out && host.config.pull; });
  }

  struct Opened {
    StreamPtr stream;
    size_t host = 0;
  };
  // Asks the servers in order until one answers with 2xx. `resolve`: what the name means is asked, which not
  // every mirror may answer.
  Task<absl::StatusOr<Opened>> OpenFromHosts(std::string path, HttpHeaders headers, bool resolve);
  absl::Duration Backoff(int attempt) {
    double factor = 0.75 + 0.5 * env_->random().Fraction();
    absl::Duration out = options_.min_backoff;
    for (int i = 0; i < attempt; ++i) out *= 3;
    return out * factor;
  }
  Env* env() { return env_; }
  const RegistryOptions& options() const { return options_; }
  const Reference& reference() const { return reference_; }

 private:
  static net::HttpClientOptions HttpOptions() {
    net::HttpClientOptions out;
    out.max_body_bytes = kMaxTokenBytes;
    out.max_connections_per_endpoint = 16;
    return out;
  }
  static Task<absl::StatusOr<FetchedManifest>> Fetch(std::shared_ptr<Session> self, std::string object);
  static Task<absl::StatusOr<std::unique_ptr<BlobStream>>> MakeBlob(std::shared_ptr<Session> self,
                                                                    std::string digest, uint64_t size_bytes);
  Task<Attempt> TryHost(size_t index, std::string path, HttpHeaders headers);
  Task<absl::Status> Authorize(size_t index, std::vector<AuthChallenge> challenges);
  Task<absl::StatusOr<RegistryToken>> FetchToken(size_t index, AuthChallenge challenge);
  absl::StatusOr<net::HttpEndpoint> EndpointOf(const net::HttpUrl& url, size_t index);
  absl::Status MakeDefaultTls();

  Env* env_;
  Reference reference_;
  RegistryOptions options_;
  std::vector<HostState> hosts_;
  std::shared_ptr<net::TlsClientContext> default_tls_;
  net::HttpClient http_;
};

// For servers that no hosts.toml names: where redirects and token servers lead.
absl::Status Session::MakeDefaultTls() {
  if (default_tls_ != nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(default_tls_, net::TlsClientContext::Create(net::TlsClientConfig()));
  return absl::OkStatus();
}

absl::StatusOr<net::HttpEndpoint> Session::EndpointOf(const net::HttpUrl& url, size_t index) {
  const HostState& host = hosts_[index];
  bool own = SameAuthority(url, host.Url(""));
  net::HttpEndpoint out;
  out.host = url.host;
  out.port = url.port;
  if (url.tls && own) out.tls = host.tls;
  if (url.tls && !own) {
    RETURN_IF_ERROR(MakeDefaultTls());
    out.tls = default_tls_;
  }
  ASSIGN_OR_RETURN(ProxyChoice proxy, ChooseProxy(options_.proxy, url.tls, url.host, url.port));
  out.proxy_host = proxy.host;
  out.proxy_port = proxy.port;
  out.proxy_authorization = proxy.authorization;
  return out;
}

Task<absl::StatusOr<RegistryToken>> Session::FetchToken(size_t index, AuthChallenge challenge) {
  const HostState& host = hosts_[index];
  auto parsed = net::HttpUrl::Parse(challenge.realm);
  if (!parsed.ok()) co_return Annotate(parsed.status(), "token server");
  if (!parsed->tls && host.config.tls) {
    co_return absl::PermissionDeniedError(
        StrCat("token server ", challenge.realm, ": plain HTTP although the registry speaks TLS"));
  }
  CO_ASSIGN_OR_RETURN_SYNC(net::HttpEndpoint endpoint, EndpointOf(*parsed, index));
  std::string scope = StrCat("repository:", reference_.path, ":pull");
  net::QueryParams query;
  if (!challenge.service.empty()) query.Add("service", challenge.service);
  net::HttpClientRequest request;
  request.timeout = kTokenTimeout;
  request.target = parsed->target;
  const std::optional<RegistryCredentials>& credentials = host.credentials;
  if (credentials.has_value() && !credentials->identity_token.empty()) {
    query.Add("scope", scope);
    query.Add("grant_type", "refresh_token");
    query.Add("client_id", "keelson");
    query.Add("refresh_token", credentials->identity_token);
    request.method = "POST";
    request.headers.Add("Content-Type", "application/x-www-form-urlencoded");
    request.body = net::MakeSharedBytes(query.Encode());
  } else {
    query.Add("scope", scope);
    bool has_query = request.target.find('?') != std::string::npos;
    request.target += has_query ? "&" : "?";
    request.target += query.Encode();
    if (credentials.has_value() && !credentials->username.empty()) {
      request.headers.Add(
          "Authorization",
          StrCat("Basic ", Base64(StrCat(credentials->username, ":", credentials->password))));
    }
  }
  Task<absl::StatusOr<net::HttpClientResponse>> call = http_.Do(std::move(endpoint), std::move(request));
  absl::StatusOr<net::HttpClientResponse> response = co_await std::move(call);
  if (!response.ok()) co_return Annotate(response.status(), "token server");
  if (response->status != 200) {
    co_return Annotate(StatusOfCode(response->status, ErrorSummary(response->body)), "token server");
  }
  co_return ParseTokenResponse(response->body);
}

Task<absl::Status> Session::Authorize(size_t index, std::vector<AuthChallenge> challenges) {
  const std::optional<RegistryCredentials> credentials = hosts_[index].credentials;
  for (const AuthChallenge& challenge : challenges) {
    if (challenge.scheme == "bearer" && credentials.has_value() && !credentials->registry_token.empty()) {
      hosts_[index].authorization = StrCat("Bearer ", credentials->registry_token);
      hosts_[index].authorization_ends = absl::InfiniteDuration();
      co_return absl::OkStatus();
    }
    if (challenge.scheme == "bearer" && !challenge.realm.empty()) {
      Task<absl::StatusOr<RegistryToken>> fetch = FetchToken(index, challenge);
      absl::StatusOr<RegistryToken> token = co_await std::move(fetch);
      if (!token.ok()) co_return token.status();
      hosts_[index].authorization = StrCat("Bearer ", token->token);
      hosts_[index].authorization_ends = env_->clock().Monotonic() + token->lifetime - kTokenSlack;
      co_return absl::OkStatus();
    }
    if (challenge.scheme == "basic" && credentials.has_value() && !credentials->username.empty()) {
      hosts_[index].authorization =
          StrCat("Basic ", Base64(StrCat(credentials->username, ":", credentials->password)));
      hosts_[index].authorization_ends = absl::InfiniteDuration();
      co_return absl::OkStatus();
    }
  }
  co_return absl::PermissionDeniedError("the registry wants credentials and there are none");
}

Task<Attempt> Session::TryHost(size_t index, std::string path, HttpHeaders headers) {
  Attempt out;
  const net::HttpUrl base = hosts_[index].Url(path);
  net::HttpUrl url = base;
  bool authorized = false;
  int redirects = 0;
  while (true) {
    auto endpoint = EndpointOf(url, index);
    if (!endpoint.ok()) {
      out.status = endpoint.status();
      co_return std::move(out);
    }
    net::HttpClientRequest request;
    request.target = url.target;
    request.headers = headers;
    request.timeout = kHeadTimeout;
    // Credentials go to the server they belong to and to nobody it redirects to.
    if (SameAuthority(url, base)) {
      HostState& host = hosts_[index];
      bool valid = env_->clock().Monotonic() < host.authorization_ends;
      if (!host.authorization.empty() && valid) request.headers.Add("Authorization", host.authorization);
      for (const auto& [name, value] : host.config.headers) request.headers.Add(name, value);
    }
    Task<absl::StatusOr<StreamPtr>> open = http_.Open(*std::move(endpoint), std::move(request));
    absl::StatusOr<StreamPtr> stream = co_await std::move(open);
    if (!stream.ok()) {
      out.status = stream.status();
      if (absl::IsDeadlineExceeded(out.status)) out.status = absl::UnavailableError(out.status.message());
      out.retry = absl::IsUnavailable(out.status);
      co_return std::move(out);
    }
    int code = (*stream)->status();
    if (code / 100 == 2) {
      out.stream = *std::move(stream);
      co_return std::move(out);
    }
    if (code == 301 || code == 302 || code == 303 || code == 307 || code == 308) {
      auto next = ResolveLocation(url, (*stream)->headers().Get("Location"));
      if (!next.ok()) {
        out.status = Annotate(next.status(), StrCat("redirect from ", url.host));
        co_return std::move(out);
      }
      if (++redirects > kMaxRedirects) {
        out.status = absl::UnavailableError(StrCat("more than ", kMaxRedirects, " redirects"));
        co_return std::move(out);
      }
      if (url.tls && !next->tls) {
        out.status =
            absl::PermissionDeniedError(StrCat("redirect to ", next->host, ": from TLS to plain HTTP"));
        co_return std::move(out);
      }
      url = *std::move(next);
      continue;
    }
    std::vector<AuthChallenge> challenges;
    for (std::string_view field : (*stream)->headers().GetAll("WWW-Authenticate")) {
      for (AuthChallenge& challenge : ParseChallenges(field)) challenges.push_back(std::move(challenge));
    }
    int seconds = 0;
    if (absl::SimpleAtoi(Av((*stream)->headers().Get("Retry-After")), &seconds) && seconds > 0) {
      out.retry_after = std::min(absl::Seconds(seconds), kMaxRetryAfter);
    }
    Task<absl::StatusOr<std::string>> read = (*stream)->ReadAll(kMaxErrorBodyBytes, kHeadTimeout);
    absl::StatusOr<std::string> body = co_await std::move(read);
    if (code == 401 && !authorized && SameAuthority(url, base) && !challenges.empty()) {
      authorized = true;
      Task<absl::Status> authorize = Authorize(index, std::move(challenges));
      out.status = co_await std::move(authorize);
      if (out.status.ok()) continue;
      out.retry = absl::IsUnavailable(out.status);
      co_return std::move(out);
    }
    std::string summary;
    if (body.ok()) summary = ErrorSummary(*body);
    out.status = StatusOfCode(code, summary);
    out.retry = RetryCode(code);
    co_return std::move(out);
  }
}

Task<absl::StatusOr<Session::Opened>> Session::OpenFromHosts(std::string path, HttpHeaders headers,
                                                             bool resolve) {
  std::vector<std::string> others;
  absl::Status last = absl::NotFoundError("no server is configured for it");
  for (size_t i = 0; i < hosts_.size(); ++i) {
    if (hosts_[i].out || (resolve ? !hosts_[i].config.resolve : !hosts_[i].config.pull)) continue;
    bool mirror = !hosts_[i].config.upstream;
    // Mirrors learn which registry is meant, as containerd tells them.
    std::string target = mirror ? StrCat(path, "?ns=", reference_.domain) : path;
    absl::Status status;
    for (int attempt = 0;; ++attempt) {
      Task<Attempt> task = TryHost(i, target, headers);
      Attempt result = co_await std::move(task);
      if (result.stream != nullptr) {
        Opened opened;
        opened.stream = std::move(result.stream);
        opened.host = i;
        co_return std::move(opened);
      }
      status = result.status;
      if (!result.retry || mirror || attempt + 1 >= kMaxAttempts) break;
      absl::Duration wait = std::max(Backoff(attempt), result.retry_after);
      Task<void> sleep = env_->clock().Sleep(wait);
      co_await std::move(sleep);
    }
    // A mirror that does not answer is not waited for again during this pull.
    if (mirror && absl::IsUnavailable(status)) hosts_[i].out = true;
    if (i + 1 < hosts_.size()) {
      others.push_back(StrCat(hosts_[i].config.url, ": ", Sv(status.message())));
    }
    last = Annotate(status, hosts_[i].config.url);
  }
  if (others.empty()) co_return last;
  co_return absl::Status(last.code(),
                         Av(StrCat(Sv(last.message()), "; before: ", absl::StrJoin(others, "; "))));
}

Task<absl::StatusOr<FetchedManifest>> Session::Fetch(std::shared_ptr<Session> self, std::string object) {
  HttpHeaders headers;
  for (const char* type : {kOciIndex, kDockerManifestList, kOciManifest, kDockerManifest}) {
    headers.Add("Accept", type);
  }
  std::string path = StrCat("/", self->reference_.path, "/manifests/", object);
  FetchedManifest out;
  for (int attempt = 0;; ++attempt) {
    Task<absl::StatusOr<Opened>> task = self->OpenFromHosts(path, headers, /*resolve=*/!IsDigest(object));
    absl::StatusOr<Opened> opened = co_await std::move(task);
    if (!opened.ok()) co_return Annotate(opened.status(), StrCat("manifest ", object));
    std::string declared((*opened).stream->headers().Get("Docker-Content-Digest"));
    out.content_type = std::string((*opened).stream->headers().Get("Content-Type"));
    Task<absl::StatusOr<std::string>> read =
        (*opened).stream->ReadAll(kMaxManifestBytes, self->options_.no_progress_timeout);
    absl::StatusOr<std::string> body = co_await std::move(read);
    absl::Status status = body.status();
    if (body.ok()) {
      out.bytes = *std::move(body);
      out.digest = DigestOf(out.bytes);
      if (IsDigest(object) && out.digest != object) {
        status = absl::DataLossError(StrCat("the registry sent ", out.digest));
      } else if (!declared.empty() && declared.substr(0, 7) == kSha256Prefix && declared != out.digest) {
        status = absl::DataLossError(StrCat("the registry calls it ", declared, " but sent ", out.digest));
      }
    }
    if (status.ok()) co_return std::move(out);
    // Wrong bytes: another server may have the right ones. A broken connection: once more.
    bool again = false;
    if (absl::IsDataLoss(status)) {
      again = !self->hosts_[opened->host].config.upstream && self->Distrust(opened->host);
    } else {
      again = absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status);
    }
    if (!again || attempt + 1 >= kMaxAttempts) co_return Annotate(status, StrCat("manifest ", object));
    Task<void> sleep = self->env_->clock().Sleep(self->Backoff(attempt));
    co_await std::move(sleep);
  }
}

// ---- blobs ----

class Blob : public BlobStream {
 public:
  Blob(std::shared_ptr<Session> session, std::string digest, uint64_t size_bytes)
      : session_(std::move(session)),
        path_(StrCat("/", session_->reference().path, "/blobs/", digest)),
        digest_(std::move(digest)),
        size_bytes_(size_bytes) {}

  size_t source() const override { return host_; }

  // Connects, from where the last connection ended.
  Task<absl::Status> Start() {
    HttpHeaders headers;
    if (done_bytes_ > 0) headers.Add("Range", StrCat("bytes=", done_bytes_, "-"));
    Task<absl::StatusOr<Session::Opened>> task =
        session_->OpenFromHosts(path_, std::move(headers), /*resolve=*/false);
    absl::StatusOr<Session::Opened> opened = co_await std::move(task);
    if (!opened.ok()) co_return Annotate(opened.status(), StrCat("blob ", digest_));
    stream_ = std::move(opened->stream);
    host_ = opened->host;
    skip_bytes_ = 0;
    if (done_bytes_ > 0 && stream_->status() != 206) {
      skip_bytes_ = done_bytes_;  // a server without ranges starts anew
    } else if (done_bytes_ > 0) {
      std::string_view range = stream_->headers().Get("Content-Range");
      if (!absl::StartsWith(Av(range), StrCat("bytes ", done_bytes_, "-"))) {
        co_return absl::DataLossError(StrCat("blob ", digest_, ": bytes from ", done_bytes_,
                                             " were asked for, the registry sent ", range));
      }
    }
    uint64_t length = 0;
    bool known = absl::SimpleAtoi(Av(stream_->headers().Get("Content-Length")), &length);
    uint64_t expected = size_bytes_ - done_bytes_ + skip_bytes_;
    if (known && length != expected) {
      co_return absl::DataLossError(StrCat("blob ", digest_, ": the manifest says ", size_bytes_,
                                           " bytes, the registry has ", length + done_bytes_ - skip_bytes_));
    }
    co_return absl::OkStatus();
  }

  Task<absl::StatusOr<std::string>> Read() override {
    while (true) {
      absl::Status status;
      if (stream_ == nullptr) {
        Task<absl::Status> start = Start();
        status = co_await std::move(start);
        if (!status.ok()) co_return status;
      }
      Task<absl::StatusOr<std::string>> read = stream_->Read(session_->options().no_progress_timeout);
      absl::StatusOr<std::string> piece = co_await std::move(read);
      if (piece.ok() && !piece->empty()) {
        Skip(&*piece);
        if (piece->empty()) continue;
        fruitless_ = 0;
        done_bytes_ += piece->size();
        if (done_bytes_ > size_bytes_) {
          co_return absl::DataLossError(
              StrCat("blob ", digest_, ": more than the ", size_bytes_, " bytes of the manifest"));
        }
        co_return std::move(piece);
      }
      if (piece.ok() && done_bytes_ == size_bytes_) co_return std::string();
      stream_.reset();
      status = piece.status();
      if (piece.ok()) {
        status = absl::UnavailableError(StrCat("ended after ", done_bytes_, " of ", size_bytes_, " bytes"));
      }
      if (++fruitless_ > kMaxResumesWithoutBytes || ++resumes_ > kMaxResumes) {
        co_return absl::UnavailableError(
            StrCat("blob ", digest_, ": given up after ", done_bytes_, " bytes: ", Sv(status.message())));
      }
      LogInfo("download interrupted, resuming",
              {{"blob", digest_}, {"done_bytes", done_bytes_}, {"error", status}});
      Task<void> sleep = session_->env()->clock().Sleep(session_->Backoff(fruitless_ - 1));
      co_await std::move(sleep);
    }
  }

 private:
  void Skip(std::string* piece) {
    size_t skip = static_cast<size_t>(std::min<uint64_t>(skip_bytes_, piece->size()));
    skip_bytes_ -= skip;
    if (skip > 0) piece->erase(0, skip);
  }

  std::shared_ptr<Session> session_;
  std::string path_, digest_;
  uint64_t size_bytes_;
  uint64_t done_bytes_ = 0, skip_bytes_ = 0;
  int fruitless_ = 0, resumes_ = 0;
  size_t host_ = 0;
  StreamPtr stream_;
};

Task<absl::StatusOr<std::unique_ptr<BlobStream>>> Session::MakeBlob(std::shared_ptr<Session> self,
                                                                    std::string digest, uint64_t size_bytes) {
  auto blob = std::make_unique<Blob>(std::move(self), std::move(digest), size_bytes);
  Task<absl::Status> start = blob->Start();
  absl::Status status = co_await std::move(start);
  if (!status.ok()) co_return status;
  co_return std::unique_ptr<BlobStream>(std::move(blob));
}

}  // namespace

Task<absl::StatusOr<std::shared_ptr<RegistrySession>>> RegistrySession::Open(Env* env, Reference reference,
                                                                             RegistryOptions options) {
  using Result = absl::StatusOr<Loaded>;
  absl::AnyInvocable<Result()> work = [reference, options] { return LoadBlocking(reference, options); };
  Task<Result> load = env->Blocking<Result>(std::move(work));
  Result loaded = co_await std::move(load);
  if (!loaded.ok()) co_return loaded.status();
  co_return std::shared_ptr<RegistrySession>(
      std::make_shared<Session>(env, std::move(reference), std::move(options), *std::move(loaded)));
}

}  // namespace keelson::images
