// Images made by tests: tars with any entry one likes, layers, manifests, and a registry that serves them and
// misbehaves on demand.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/env.h"
#include "base/fd.h"
#include "net/http_server.h"

namespace keelson::images {

// One entry of a tar. Written with a raw header where libarchive would tidy the name.
struct TarEntry {
  std::string name;
  char type = '0';  // '0' file, '1' hard link, '2' symlink, '3' char, '4' block, '5' directory, '6' fifo
  std::string data;
  std::string link;
  unsigned mode = 0644;
  uint64_t uid = 0, gid = 0;
  int64_t mtime = 1'000'000'000;
  unsigned major = 0, minor = 0;
  std::vector<std::pair<std::string, std::string>> pax;  // records before it: "SCHILY.xattr.user.a"
  int64_t lie_size = -1;                                 // size in the header, when it is not the data's
};

// ustar headers exactly as told, two zero blocks at the end.
std::string MakeTar(const std::vector<TarEntry>& entries);
std::string Gzip(std::string_view bytes, int level = 6);
std::string Zstd(std::string_view bytes);

struct TestImage {
  std::string config, config_digest;
  std::string manifest, manifest_digest;
  std::vector<std::string> layers, layer_digests;  // as served
  std::vector<std::string> diff_ids;
};
// `tars`: uncompressed, lowest first. `compress`: each of "gzip", "zstd", "none".
TestImage MakeImage(const std::vector<std::string>& tars, std::string_view compress = "gzip",
                    std::string_view config_extra = "", std::string_view architecture = "");

// Serves blobs and manifests below /v2/NAME. Everything on the loop of `env`.
class FakeRegistry : public net::HttpHandler {
 public:
  explicit FakeRegistry(Env* env);
  ~FakeRegistry() override;
  // Port on 127.0.0.1.
  uint16_t Listen(std::shared_ptr<net::TlsServerContext> tls = nullptr);
  Task<void> Close();
  void Add(const std::string& name, const std::string& tag, const TestImage& image);
  void AddManifest(const std::string& name, const std::string& object, std::string bytes, std::string type);

  Task<void> Handle(net::HttpRequest request, net::ResponseWriter& writer) override;

  std::map<std::string, std::pair<std::string, std::string>> manifests;  // "NAME:OBJECT" -> bytes, type
  std::map<std::string, std::string> blobs;                              // digest -> bytes
  // Misbehaviour.
  std::deque<int> next_statuses;  // answers of the next requests; 0: as usual
  std::string token;              // wants "Bearer TOKEN", given out at /token
  std::string basic;              // base64 of user:password it wants (at /token, or here without token)
  std::string refresh_token;      // wants it POSTed to /token
  uint64_t cut_after_bytes = 0;   // of every blob body, then the connection is cut
  int cuts_left = 1 << 30;
  bool ranges = true;          // answers Range
  std::string redirect_blobs;  // prefix of a URL to send blob requests to
  std::set<std::string> hang;  // digests whose body never comes after the first half
  std::string retry_after;
  AsyncEvent hanging;  // set once one hangs
  // What was asked.
  std::vector<std::string> requests;        // "GET /v2/..."
  std::vector<std::string> authorizations;  // of each, "" when none
  uint64_t blob_bytes_sent = 0;
  std::string last_host, last_proxy_authorization;

 private:
  Task<void> SendBlob(net::HttpRequest request, net::ResponseWriter* writer, std::string bytes);
  Task<void> Send(net::ResponseWriter* writer, net::HttpResponse response);

  net::HttpServer server_;
  uint16_t port_ = 0;
  bool tls_ = false;
};

}  // namespace keelson::images
