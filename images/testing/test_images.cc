#include "images/testing/test_images.h"

#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_join.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "base/log.h"
#include "base/strings.h"
#include "images/digest.h"
#include "images/manifest.h"

namespace keelson::images {
namespace {

std::string Octal(uint64_t value, size_t width) {
  char text[32];
  std::snprintf(text, sizeof text, "%0*llo", static_cast<int>(width - 1),
                static_cast<unsigned long long>(value));
  std::string out(text);
  out.resize(width, '\0');
  return out;
}

void Put(std::string* header, size_t offset, std::string_view text, size_t width) {
  std::memcpy(header->data() + offset, text.data(), std::min(text.size(), width));
}

std::string Pad(std::string data) {
  data.resize((data.size() + 511) / 512 * 512, '\0');
  return data;
}

std::string Header(const TarEntry& entry, uint64_t size) {
  std::string h(512, '\0');
  Put(&h, 0, entry.name, 100);
  Put(&h, 100, Octal(entry.mode, 8), 8);
  Put(&h, 108, Octal(entry.uid, 8), 8);
  Put(&h, 116, Octal(entry.gid, 8), 8);
  Put(&h, 124, Octal(size, 12), 12);
  Put(&h, 136, Octal(static_cast<uint64_t>(entry.mtime), 12), 12);
  h[156] = entry.type;
  Put(&h, 157, entry.link, 100);
  Put(&h, 257, std::string_view("ustar\00000", 8), 8);
  Put(&h, 329, Octal(entry.major, 8), 8);
  Put(&h, 337, Octal(entry.minor, 8), 8);
  Put(&h, 148, "        ", 8);
  unsigned sum = 0;
  for (char c : h) sum += static_cast<unsigned char>(c);
  Put(&h, 148, Octal(sum, 7), 7);
  return h;
}

std::string PaxRecord(const std::string& key, const std::string& value) {
  size_t length = key.size() + value.size() + 3;
  size_t digits = std::to_string(length).size();
  while (std::to_string(length + digits).size() != digits) ++digits;
  return StrCat(length + digits, " ", key, "=", value, "\n");
}

}  // namespace

std::string MakeTar(const std::vector<TarEntry>& entries) {
  std::string out;
  for (const TarEntry& entry : entries) {
    std::string records;
    for (const auto& [key, value] : entry.pax) records += PaxRecord(key, value);
    if (entry.name.size() > 100) records += PaxRecord("path", entry.name);
    if (!records.empty()) {
      TarEntry pax;
      pax.name = "pax";
      pax.type = 'x';
      out += Header(pax, records.size()) + Pad(records);
    }
    uint64_t size = entry.lie_size >= 0 ? static_cast<uint64_t>(entry.lie_size) : entry.data.size();
    out += Header(entry, size) + Pad(entry.data);
  }
  out.append(1024, '\0');
  return out;
}

std::string Gzip(std::string_view bytes, int level) {
  z_stream z{};
  KEELSON_CHECK(::deflateInit2(&z, level, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK, "zlib");
  std::string out(::deflateBound(&z, bytes.size()) + 64, '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  z.avail_in = static_cast<uInt>(bytes.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  KEELSON_CHECK(::deflate(&z, Z_FINISH) == Z_STREAM_END, "zlib");
  out.resize(out.size() - z.avail_out);
  ::deflateEnd(&z);
  return out;
}

std::string Zstd(std::string_view bytes) {
  std::string out(ZSTD_compressBound(bytes.size()), '\0');
  size_t n = ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), 3);
  KEELSON_CHECK(!ZSTD_isError(n), "zstd");
  out.resize(n);
  return out;
}

TestImage MakeImage(const std::vector<std::string>& tars, std::string_view compress,
                    std::string_view config_extra, std::string_view architecture) {
  TestImage out;
  Manifest manifest;
  manifest.media_type = kOciManifest;
  std::vector<std::string> quoted;
  for (const std::string& tar : tars) {
    Descriptor layer;
    layer.media_type = kOciLayer;
    if (compress != "none") StrAppend(&layer.media_type, "+", compress);
    out.layers.push_back(compress == "gzip" ? Gzip(tar) : compress == "zstd" ? Zstd(tar) : tar);
    layer.digest = DigestOf(out.layers.back());
    layer.size_bytes = out.layers.back().size();
    out.layer_digests.push_back(layer.digest);
    out.diff_ids.push_back(DigestOf(tar));
    quoted.push_back(StrCat("\"", out.diff_ids.back(), "\""));
    manifest.layers.push_back(layer);
  }
  std::string arch(architecture);
  if (arch.empty()) arch = HostPlatform().architecture;
  out.config =
      StrCat("{\"architecture\":\"", arch, "\",\"os\":\"linux\",\"created\":\"2020-01-02T03:04:05Z\",",
             "\"config\":{\"Cmd\":[\"/main\"]", config_extra, "},\"rootfs\":{\"type\":\"layers\",",
             "\"diff_ids\":[", absl::StrJoin(quoted, ","), "]}}");
  out.config_digest = DigestOf(out.config);
  manifest.config.media_type = kOciConfig;
  manifest.config.digest = out.config_digest;
  manifest.config.size_bytes = out.config.size();
  out.manifest = EncodeManifest(manifest);
  out.manifest_digest = DigestOf(out.manifest);
  return out;
}

// ---- the registry ----

FakeRegistry::FakeRegistry(Env* env)
    : server_(env->executor(), &env->clock(), this, net::HttpServerOptions()) {}

FakeRegistry::~FakeRegistry() = default;

uint16_t FakeRegistry::Listen(std::shared_ptr<net::TlsServerContext> tls) {
  net::HttpServer::TcpListen listen;
  listen.address = "127.0.0.1";
  listen.tls = tls;
  tls_ = tls != nullptr;
  port_ = *server_.ListenTcp(listen);
  return port_;
}

Task<void> FakeRegistry::Close() { return server_.Close(); }

void FakeRegistry::AddManifest(const std::string& name, const std::string& object, std::string bytes,
                               std::string type) {
  manifests[StrCat(name, ":", object)] = {std::move(bytes), std::move(type)};
}

void FakeRegistry::Add(const std::string& name, const std::string& tag, const TestImage& image) {
  AddManifest(name, tag, image.manifest, kOciManifest);
  AddManifest(name, image.manifest_digest, image.manifest, kOciManifest);
  blobs[image.config_digest] = image.config;
  for (size_t i = 0; i < image.layers.size(); ++i) blobs[image.layer_digests[i]] = image.layers[i];
}

Task<void> FakeRegistry::Send(net::ResponseWriter* writer, net::HttpResponse response) {
  Task<absl::Status> send = writer->Send(std::move(response));
  (void)co_await std::move(send);
}

Task<void> FakeRegistry::SendBlob(net::HttpRequest request, net::ResponseWriter* writer, std::string bytes) {
  constexpr size_t kPieceBytes = 32 << 10;
  int status = 200;
  net::HttpHeaders headers;
  uint64_t from = 0;
  std::string range(request.headers.Get("Range"));
  if (ranges && absl::StartsWith(range, "bytes=")) {
    absl::string_view digits = absl::string_view(range).substr(6);
    digits.remove_suffix(1);
    if (absl::SimpleAtoi(digits, &from) && from <= bytes.size()) {
      status = 206;
      headers.Add("Content-Range", StrCat("bytes ", from, "-", bytes.size() - 1, "/", bytes.size()));
    }
  }
  bool hangs = hang.count(request.target.path.substr(request.target.path.rfind('/') + 1)) != 0;
  uint64_t end = hangs ? std::max<uint64_t>(from, bytes.size() / 2) : bytes.size();
  uint64_t left = end - from;
  bool cut = false;
  if (cut_after_bytes > 0 && cut_after_bytes < left && cuts_left > 0) {
    left = cut_after_bytes;
    --cuts_left;
    cut = true;
  }
  Task<absl::Status> start = writer->StartStream(status, std::move(headers));
  (void)co_await std::move(start);
  while (left > 0) {
    size_t n = static_cast<size_t>(std::min<uint64_t>(left, kPieceBytes));
    Task<absl::Status> write = writer->Write(net::MakeSharedBytes(bytes.substr(from, n)));
    absl::Status written = co_await std::move(write);
    if (!written.ok()) co_return;
    from += n;
    left -= n;
    blob_bytes_sent += n;
  }
  if (hangs) {
    hanging.Set();
    Task<void> wait = writer->disconnected().Wait();
    co_await std::move(wait);
  }
  if (cut) writer->Abort();
}

Task<void> FakeRegistry::Handle(net::HttpRequest request, net::ResponseWriter& writer) {
  const std::string path = request.target.path;
  requests.push_back(StrCat(request.method, " ", path));
  std::string authorization(request.headers.Get("Authorization"));
  authorizations.push_back(authorization);
  last_host = std::string(request.headers.Get("Host"));
  last_proxy_authorization = std::string(request.headers.Get("Proxy-Authorization"));
  if (path == "/token") {
    const bool refreshes =
        request.method == "POST" && absl::StrContains(request.body, "refresh_token=" + refresh_token);
    if ((!basic.empty() && authorization != "Basic " + basic) || (!refresh_token.empty() && !refreshes)) {
      return Send(&writer,
                  net::HttpResponse(401, "application/json", "{\"details\":\"incorrect username\"}"));
    }
    return Send(&writer, net::HttpResponse(200, "application/json", StrCat("{\"token\":\"", token, "\"}")));
  }
  if (!next_statuses.empty()) {
    int status = next_statuses.front();
    next_statuses.pop_front();
    if (status != 0) {
      net::HttpResponse response(status, "application/json",
                                 "{\"errors\":[{\"code\":\"TOOMANYREQUESTS\",\"message\":\"slow down\"}]}");
      if (!retry_after.empty()) response.headers.Add("Retry-After", retry_after);
      return Send(&writer, std::move(response));
    }
  }
  bool is_blob_store = !absl::StartsWith(path, "/v2/");
  if (!is_blob_store && !token.empty() && authorization != "Bearer " + token) {
    net::HttpResponse response(401, "application/json", "{\"errors\":[{\"code\":\"UNAUTHORIZED\"}]}");
    response.headers.Add("WWW-Authenticate",
                         StrCat("Bearer realm=\"", tls_ ? "https" : "http", "://127.0.0.1:", port_,
                                "/token\",service=\"test\",scope=\"repository:x:pull\""));
    return Send(&writer, std::move(response));
  }
  if (!is_blob_store && token.empty() && !basic.empty() && authorization != "Basic " + basic) {
    net::HttpResponse response(401, "application/json", "");
    response.headers.Add("WWW-Authenticate", "Basic realm=\"test\"");
    return Send(&writer, std::move(response));
  }
  size_t slash = path.rfind('/');
  std::string object = path.substr(slash + 1);
  if (absl::StrContains(path, "/manifests/")) {
    std::string name = path.substr(4, path.find("/manifests/") - 4);
    auto it = manifests.find(StrCat(name, ":", object));
    if (it != manifests.end()) {
      return Send(&writer, net::HttpResponse(200, it->second.second, it->second.first));
    }
    return Send(&writer,
                net::HttpResponse(404, "application/json",
                                  "{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\",\"message\":\"no\"}]}"));
  }
  auto it = blobs.find(object);
  if (it == blobs.end()) return Send(&writer, net::HttpResponse(404, "application/json", "{}"));
  if (!redirect_blobs.empty() && !is_blob_store) {
    net::HttpResponse response(307, "", "");
    response.headers.Add("Location", StrCat(redirect_blobs, "/", object));
    return Send(&writer, std::move(response));
  }
  return SendBlob(std::move(request), &writer, it->second);
}

}  // namespace keelson::images
