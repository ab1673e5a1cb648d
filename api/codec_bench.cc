// codec_bench: speed of the codec on a pod as the kubelet writes it back. Prints MB/s of JSON per operation,
// by processor time, so that other load does not count.
//   ninja codec_bench && api/codec_bench [seconds per case [only operations with this in their name]]
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <sstream>

#include "api/codec.h"
#include "api/core/v1/pod.pb.h"
#include "api/yaml.h"

namespace {

double CpuSeconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

std::string_view g_only;

template <typename F>
void Run(const char* name, size_t bytes, double seconds, F body) {
  if (std::string_view(name).find(g_only) == std::string_view::npos) return;
  const double start = CpuSeconds();
  size_t rounds = 0;
  double elapsed = 0;
  do {
    for (int i = 0; i < 100; ++i) body();
    rounds += 100;
    elapsed = CpuSeconds() - start;
  } while (elapsed < seconds);
  std::printf("%-24s %8.2f us  %7.1f MB/s\n", name, elapsed / static_cast<double>(rounds) * 1e6,
              static_cast<double>(bytes) * static_cast<double>(rounds) / elapsed / 1e6);
}

std::string ReadFile(const char* path) {
  std::ifstream in(path);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

}  // namespace

int main(int argc, char** argv) {
  using namespace keelson::api;  // tidy: allow namespace: a program of one page
  if (argc > 2) g_only = argv[2];
  const double seconds = argc > 1 ? std::atof(argv[1]) : 1;
  for (const char* path :
       {"tests/golden/manifests/pod-status.json", "tests/golden/manifests/pod-volumes.json",
        "tests/golden/manifests/lease.json", "tests/golden/manifests/configmap.json"}) {
    auto decoded = DecodeJson(ReadFile(path));
    if (!decoded.ok()) {
      std::fprintf(stderr, "%s: run from the root of the source tree\n", path);
      return 1;
    }
    const google::protobuf::Message& object = *decoded->object;
    const std::string json = EncodeJson(object);
    const std::string envelope = EncodeProtobuf(object);
    const std::string yaml = JsonToYaml(json);
    std::printf("%s: %zu bytes of JSON, %zu of protobuf\n", path, json.size(), envelope.size());
    Run("  encode JSON", json.size(), seconds, [&] { EncodeJson(object); });
    Run("  decode JSON", json.size(), seconds, [&] { (void)DecodeJson(json); });
    Run("  encode protobuf", json.size(), seconds, [&] { EncodeProtobuf(object); });
    Run("  decode protobuf", json.size(), seconds, [&] { (void)DecodeProtobuf(envelope); });
    Run("  decode YAML", json.size(), seconds / 4, [&] { (void)DecodeManifest(yaml); });
  }
}
