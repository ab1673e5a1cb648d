// By hand: pulls one image into a store and says how long it took and how much memory.
//   images_pull_bench STORE_DIR REFERENCE [no-blobs]
#include <sys/resource.h>

#include <cstdio>

#include "base/env.h"
#include "base/log.h"
#include "base/status.h"
#include "images/image_store.h"

namespace keelson::images {
namespace {

Task<absl::Status> Run(ImageStore* store, std::string reference) {
  Task<absl::StatusOr<std::string>> pull = store->Pull(reference, PullOptions());
  absl::StatusOr<std::string> id = co_await std::move(pull);
  Task<void> close = store->Close();
  co_await std::move(close);
  co_return id.status();
}

int Main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: %s STORE_DIR REFERENCE [no-blobs]\n", argv[0]);
    return 2;
  }
  RealEnv env{Paths()};
  ImageStoreOptions options;
  options.root_dir = argv[1];
  options.keep_layer_blobs = argc == 3;
  auto store = ImageStore::Open(env, options);
  if (!store.ok()) {
    std::fprintf(stderr, "%s\n", store.status().ToString().c_str());
    return 1;
  }
  absl::Duration begin = env.clock().Monotonic();
  absl::Status status = env.RunUntilDone(Run(store->get(), argv[2]));
  absl::Duration wall = env.clock().Monotonic() - begin;
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  std::printf("%s wall %.2f s, user %.2f s, system %.2f s, peak %.1f MiB\n", status.ToString().c_str(),
              absl::ToDoubleSeconds(wall), absl::ToDoubleSeconds(absl::DurationFromTimeval(usage.ru_utime)),
              absl::ToDoubleSeconds(absl::DurationFromTimeval(usage.ru_stime)),
              static_cast<double>(usage.ru_maxrss) / 1024);
  return status.ok() ? 0 : 1;
}

}  // namespace
}  // namespace keelson::images

int main(int argc, char** argv) { return keelson::images::Main(argc, argv); }
