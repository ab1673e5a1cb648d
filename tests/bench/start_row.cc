// How long a master takes from exec until it serves, and the disk under it.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"
#include "cmd/cluster_layout.h"
#include "cmd/cluster_pki.h"
#include "tests/bench/api_rows.h"

namespace keelson::bench {
namespace {

constexpr absl::Duration kPoll = absl::Milliseconds(1);
constexpr absl::Duration kStartLimit = absl::Seconds(30);
constexpr int kFsyncs = 1000;

absl::StatusOr<ClusterLayout> Layout(const StartOptions& options) {
  ClusterOptions cluster;
  cluster.root = options.root;
  cluster.secure_port = static_cast<uint16_t>(options.port);
  return MakeClusterLayout(cluster);
}

// Asks again until it answers 200; milliseconds since `start`.
Task<absl::StatusOr<double>> UntilServed(Target target, net::HttpClient* client, std::string path,
                                         absl::Duration start) {
  Clock& clock = target.env->clock();
  absl::Status last;
  while (clock.Monotonic() - start < kStartLimit) {
    net::HttpClientRequest request = JsonRequest("GET", path);
    Task<absl::StatusOr<net::HttpClientResponse>> call = Exchange(target, client, std::move(request), 200);
    absl::StatusOr<net::HttpClientResponse> response = co_await std::move(call);
    if (response.ok()) co_return absl::ToDoubleMilliseconds(clock.Monotonic() - start);
    last = response.status();
    Task<void> sleep = clock.Sleep(kPoll);
    co_await std::move(sleep);
  }
  co_return Annotate(last, StrCat(path, " is not served"));
}

struct Started {
  double readyz_ms = 0, service_account_ms = 0, cpu_ms = 0;
};

Task<absl::Status> Stop(Env* env, ChildProcess* child) {
  (void)child->Signal(SIGTERM).ok();
  Task<int> wait = child->Wait();
  [[maybe_unused]] int wait_status = co_await std::move(wait);
  co_return absl::OkStatus();
}

Task<absl::StatusOr<Started>> StartOnce(Env* env, StartOptions options, ClusterLayout layout, int run) {
  CO_ASSIGN_OR_RETURN_SYNC(Target target, OpenTarget(env, layout.admin_conf(), 0));
  CO_RETURN_IF_ERROR_SYNC(MakeDirs(layout.paths.log_dir));
  CO_ASSIGN_OR_RETURN_SYNC(Fd log,
                           OpenFile(layout.paths.log_dir + "/start.log", O_WRONLY | O_CREAT | O_APPEND));
  std::string data_dir = StrCat(layout.paths.state_dir, "/start-", run);
  SpawnOptions spawn;
  spawn.argv = {options.keelson,      "master",     "--root", options.root, "--secure-port",
                StrCat(options.port), "--data-dir", data_dir};
  spawn.stdout_fd = spawn.stderr_fd = log.get();
  net::HttpClient client(env, net::HttpClientOptions());
  absl::Duration start = env->clock().Monotonic();
  CO_ASSIGN_OR_RETURN_SYNC(std::unique_ptr<ChildProcess> child, env->subprocess().Spawn(spawn));
  Started started;
  Task<absl::StatusOr<double>> ready_task = UntilServed(target, &client, "/readyz", start);
  absl::StatusOr<double> ready = co_await std::move(ready_task);
  absl::Status status = ready.status();
  if (status.ok()) {
    started.readyz_ms = *ready;
    Task<absl::StatusOr<double>> account_task =
        UntilServed(target, &client, "/api/v1/namespaces/default/serviceaccounts/default", start);
    absl::StatusOr<double> account = co_await std::move(account_task);
    status = account.status();
    if (status.ok()) started.service_account_ms = *account;
    started.cpu_ms = ProcessCpuSeconds(child->pid()) * 1e3;
  }
  CO_RETURN_IF_ERROR(Stop(env, child.get()));
  CO_RETURN_IF_ERROR_SYNC(RemoveTree(data_dir));
  if (!status.ok()) co_return status;
  co_return started;
}

}  // namespace

absl::Status MakePki(Env* env, const StartOptions& options) {
  ASSIGN_OR_RETURN(ClusterLayout layout, Layout(options));
  absl::Duration start = env->clock().Monotonic();
  RETURN_IF_ERROR(EnsureClusterPki(layout, env->clock().Now()));
  Row("pki").Set("ms", absl::ToDoubleMilliseconds(env->clock().Monotonic() - start)).Print();
  return absl::OkStatus();
}

Task<absl::Status> StartRow(Env* env, StartOptions options) {
  CO_ASSIGN_OR_RETURN_SYNC(ClusterLayout layout, Layout(options));
  std::vector<double> ready_ms, account_ms, cpu_ms;
  double others = -MachineCpuSeconds();
  absl::Duration begin = env->clock().Monotonic();
  for (int run = 0; run < options.runs; ++run) {
    CO_ASSIGN_OR_RETURN(Started started, StartOnce(env, options, layout, run));
    ready_ms.push_back(started.readyz_ms);
    account_ms.push_back(started.service_account_ms);
    cpu_ms.push_back(started.cpu_ms);
  }
  others += MachineCpuSeconds();
  for (double ms : cpu_ms) others -= ms * 1e-3;
  double wall_s = absl::ToDoubleSeconds(env->clock().Monotonic() - begin);
  Row row("start");
  row.Set("runs", options.runs)
      .Set("readyz_ms", Percentile(ready_ms, 0.5))
      .Set("readyz_max_ms", Percentile(ready_ms, 1));
  row.Set("service_account_ms", Percentile(account_ms, 0.5))
      .Set("service_account_max_ms", Percentile(account_ms, 1));
  row.Set("server_cpu_ms", Percentile(cpu_ms, 0.5))
      .Set("others_cpu_percent", std::max(0.0, others) * 100 / wall_s);
  row.Print();
  co_return absl::OkStatus();
}

absl::Status FsyncRow(Env* env, const std::string& dir) {
  RETURN_IF_ERROR(MakeDirs(dir));
  std::string path = StrCat(dir, "/raw-fsync"), page(4096, 'x');
  ASSIGN_OR_RETURN(Fd fd, OpenFile(path, O_RDWR | O_CREAT | O_TRUNC));
  std::vector<double> ms;
  for (int i = 0; i < kFsyncs; ++i) {
    absl::Duration start = env->clock().Monotonic();
    RETURN_IF_ERROR(WriteAll(fd.get(), page));
    if (::fdatasync(fd.get()) != 0) return ErrnoStatus(errno, path);
    ms.push_back(absl::ToDoubleMilliseconds(env->clock().Monotonic() - start));
  }
  ::unlink(path.c_str());
  Row("raw_fsync").Set("writes", kFsyncs).SetLatencies(ms).Print();
  return absl::OkStatus();
}

}  // namespace keelson::bench
