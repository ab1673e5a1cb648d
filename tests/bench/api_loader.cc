// api_loader: loads a running `keelson master` over TLS and prints one JSON line per figure. hack/bench
// drives it.
//
//   api_loader pki   --root DIR --port N                       PKI and kubeconfigs under DIR
//   api_loader start --keelson BIN --root DIR --port N         exec -> /readyz, exec -> default
//   ServiceAccount api_loader fsync --dir DIR                                 the disk alone api_loader load
//   --kubeconfig F --pid PID --rows a,b,...   rows of: create get pods patch list watch rc
//                    [--scale PERCENT]                         of the usual number of requests
#include <absl/strings/str_split.h>

#include <cstdio>
#include <cstdlib>

#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "tests/bench/api_rows.h"

namespace keelson::bench {
namespace {

constexpr int kHollowNodes = 100, kReplicas = 3000;

Sizes Scaled(int percent) {
  Sizes sizes;
  for (size_t* n :
       {&sizes.creates_1, &sizes.creates_16, &sizes.creates_64, &sizes.gets, &sizes.pods, &sizes.patches}) {
    *n = std::max<size_t>(64, *n * static_cast<size_t>(percent) / 100);
  }
  return sizes;
}

Task<absl::Status> RunRow(Target target, std::string name, Sizes sizes) {
  if (name == "create") return CreateRows(target, sizes);
  if (name == "get") return GetRow(target, sizes);
  if (name == "pods") return CreatePods(target, sizes);
  if (name == "patch") return PatchRow(target, sizes);
  if (name == "list") return ListRow(target, sizes);
  if (name == "watch") return WatchRow(target);
  if (name == "rc") return RcRow(target, kHollowNodes, kReplicas);
  std::fprintf(stderr, "unknown row '%s'\n", name.c_str());
  std::exit(2);
}

Task<absl::Status> LoadRows(Env* env, Flags flags) {
  CO_ASSIGN_OR_RETURN_SYNC(Target target,
                           OpenTarget(env, flags.Get("--kubeconfig"), flags.GetInt("--pid", 0)));
  Sizes sizes = Scaled(flags.GetInt("--scale", 100));
  std::vector<std::string> names = absl::StrSplit(flags.Get("--rows"), ',', absl::SkipEmpty());
  absl::Status result;
  for (const std::string& name : names) {
    Task<absl::Status> row = RunRow(target, name, sizes);
    absl::Status status = co_await std::move(row);
    if (status.ok()) continue;
    // The others are still worth having.
    Row(name).Set("errors", 1).Set("first_error", status.ToString()).Print();
    result = status;
  }
  co_return result;
}

int Main(int argc, char** argv) {
  std::string command = argc > 1 ? argv[1] : "";
  Flags flags(argc, argv, 2);
  InitLog(LogOptions{"api_loader"});
  RealEnv env{Paths()};
  StartOptions start{flags.Get("--keelson"), flags.Get("--root"), flags.GetInt("--port", 0),
                     flags.GetInt("--runs", 5)};
  absl::Status status;
  if (command == "pki") {
    status = MakePki(&env, start);
  } else if (command == "start") {
    status = env.RunUntilDone(StartRow(&env, start));
  } else if (command == "fsync") {
    status = FsyncRow(&env, flags.Get("--dir"));
  } else if (command == "load") {
    status = env.RunUntilDone(LoadRows(&env, flags));
  } else {
    std::fprintf(stderr,
                 "usage: api_loader pki|start|fsync|load ... (see the head of tests/bench/api_loader.cc)\n");
    return 2;
  }
  if (status.ok()) return 0;
  std::fprintf(stderr, "api_loader %s: %s\n", command.c_str(), std::string(status.message()).c_str());
  return 1;
}

}  // namespace
}  // namespace keelson::bench

int main(int argc, char** argv) { return keelson::bench::Main(argc, argv); }
