// store_bench [DIR]: the SQLite store and the watch cache beside the disk they run on. One JSON line per
// figure.
//   raw fsync: append 4 KiB + fdatasync in DIR, one after the other
//   writers:   1 KiB creates from 1, 16 and 64 tasks; latency from call to acknowledgement, CPU of both
//   threads watch:     100 watchers at 200 creates/s, from the call of Create to the event in the watcher's
//   hands list:      5,000 objects from the watch cache open:      reading and checking the file
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

#include "base/env.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/strings.h"
#include "master/store/sqlite_store.h"
#include "master/store/watch_cache.h"

namespace keelson::master {
namespace {

constexpr size_t kValueBytes = 1024;
constexpr int kWritesPerRun = 20'000;
constexpr int kWatchers = 100;
constexpr int kWatchedCreates = 600;
constexpr int kListObjects = 5'000;

double NowUs() {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

double CpuUs() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  auto us = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_usec);
  };
  return us(usage.ru_utime) + us(usage.ru_stime);
}

double Percentile(std::vector<double>& samples, double p) {
  if (samples.empty()) return 0;
  std::sort(samples.begin(), samples.end());
  return samples[std::min(samples.size() - 1, static_cast<size_t>(p * static_cast<double>(samples.size())))];
}

// From /proc/self/smaps_rollup, in KiB.
int64_t PssKib() {
  absl::StatusOr<std::string> text = ReadFile("/proc/self/smaps_rollup");
  size_t at = text.ok() ? text->find("\nPss:") : std::string::npos;
  return at == std::string::npos ? -1 : atoll(text->c_str() + at + 5);
}

std::vector<double> RawFsync(const std::string& dir, int times) {
  std::string path = StrCat(dir, "/raw");
  absl::StatusOr<Fd> fd = OpenFile(path, O_RDWR | O_CREAT | O_TRUNC);
  KEELSON_CHECK(fd.ok(), fd.status().ToString());
  std::string page(4096, 'x');
  std::vector<double> us;
  for (int i = 0; i < times; ++i) {
    double start = NowUs();
    KEELSON_CHECK(WriteAll(fd->get(), page).ok() && fdatasync(fd->get()) == 0, path);
    us.push_back(NowUs() - start);
  }
  unlink(path.c_str());
  return us;
}

struct Run {
  Store* store;
  std::string prefix;
  int left = 0;
  std::vector<double> us;
};

Task<absl::Status> Write(Run* run, int id) {
  Bytes value = std::make_shared<const std::string>(std::string(kValueBytes, 'v'));
  while (run->left-- > 0) {
    std::string key = StrCat(run->prefix, id, "-", run->left);
    double start = NowUs();
    Task<absl::StatusOr<Revision>> create = run->store->Create(std::move(key), value);
    absl::StatusOr<Revision> revision = co_await std::move(create);
    if (!revision.ok()) co_return revision.status();
    run->us.push_back(NowUs() - start);
  }
  co_return absl::OkStatus();
}

Task<void> WriteOne(Run* run, int id, int* running, AsyncEvent* done) {
  Task<absl::Status> write = Write(run, id);
  absl::Status status = co_await std::move(write);
  KEELSON_CHECK(status.ok(), status.ToString());
  if (--*running == 0) done->Set();
}

Task<absl::Status> Writers(Env* env, Run* run, int writers) {
  Scope scope(env->executor());
  AsyncEvent done;
  int running = writers;
  for (int id = 0; id < writers; ++id) scope.Spawn("writer", WriteOne(run, id, &running, &done));
  Task<void> wait = done.Wait();
  co_await std::move(wait);
  Task<void> close = scope.Close();
  co_await std::move(close);
  co_return absl::OkStatus();
}

struct Watching {
  std::vector<double> sent_us;  // by number of the create
  std::vector<double> us;
  int left = 0;
  AsyncEvent done;
};

Task<void> WatchAll(CacheWatch* watch, Watching* watching) {
  int seen = 0;
  while (seen < kWatchedCreates) {
    Task<absl::StatusOr<std::vector<CacheWatchEvent>>> next = watch->Next();
    absl::StatusOr<std::vector<CacheWatchEvent>> events = co_await std::move(next);
    KEELSON_CHECK(events.ok(), events.status().ToString());
    double now = NowUs();
    for (size_t i = 0; i < events->size(); ++i, ++seen) {
      watching->us.push_back(now - watching->sent_us[static_cast<size_t>(seen)]);
    }
  }
  if (--watching->left == 0) watching->done.Set();
}

Task<void> CreateOne(Store* store, std::string key) {
  Task<absl::StatusOr<Revision>> create =
      store->Create(std::move(key), std::make_shared<const std::string>(kValueBytes, 'w'));
  absl::StatusOr<Revision> revision = co_await std::move(create);
  KEELSON_CHECK(revision.ok(), revision.status().ToString());
}

Task<absl::Status> WatchRun(Env* env, Store* store, WatchCache* cache, Watching* watching) {
  std::vector<std::unique_ptr<CacheWatch>> watches;
  Scope scope(env->executor());
  watching->left = kWatchers;
  for (int i = 0; i < kWatchers; ++i) {
    CacheWatchOptions options;
    options.after = cache->revision();
    absl::StatusOr<std::unique_ptr<CacheWatch>> watch = cache->Watch(options);
    if (!watch.ok()) co_return watch.status();
    scope.Spawn("watch", WatchAll(watch->get(), watching));
    watches.push_back(*std::move(watch));
  }
  for (int i = 0; i < kWatchedCreates; ++i) {
    watching->sent_us.push_back(NowUs());
    scope.Spawn("create", CreateOne(store, StrCat("/watched/", i)));
    Task<void> sleep = env->clock().Sleep(absl::Milliseconds(5));
    co_await std::move(sleep);
  }
  Task<void> wait = watching->done.Wait();
  co_await std::move(wait);
  Task<void> close = scope.Close();
  co_await std::move(close);
  co_return absl::OkStatus();
}

Task<absl::Status> ToStatus(Task<void> task) {
  co_await std::move(task);
  co_return absl::OkStatus();
}

void Require(const absl::Status& status) { KEELSON_CHECK(status.ok(), status.ToString()); }

int Main(const std::string& parent) {
  std::string dir = StrCat(parent, "/store-bench-XXXXXX");
  KEELSON_CHECK(mkdtemp(dir.data()) != nullptr, dir);
  RealEnv env{Paths()};

  std::vector<double> fsync_us = RawFsync(dir, 2000);
  double fsync_p50 = Percentile(fsync_us, 0.5);
  printf("{\"name\":\"raw_fsync\",\"p50_us\":%.0f,\"p99_us\":%.0f}\n", fsync_p50, Percentile(fsync_us, 0.99));

  std::string path = StrCat(dir, "/keelson.db");
  absl::StatusOr<std::unique_ptr<LogStore>> store = OpenSqliteStore(env, path);
  Require(store.status());
  for (int writers : {1, 16, 64}) {
    Run run{
        store->get(), StrCat("/bench/", writers, "/"), writers == 1 ? kWritesPerRun / 4 : kWritesPerRun, {}};
    uint64_t commits = (*store)->commits();
    double start = NowUs(), cpu = CpuUs();
    Require(env.RunUntilDone(Writers(&env, &run, writers)));
    double wall = NowUs() - start;
    cpu = CpuUs() - cpu;
    double n = static_cast<double>(run.us.size());
    printf(
        "{\"name\":\"create_1KiB\",\"writers\":%d,\"per_s\":%.0f,\"p50_us\":%.0f,\"p99_us\":%.0f,\"cpu_us\":%"
        ".1f,"
        "\"rows_per_commit\":%.1f,\"p50_over_fsync_us\":%.0f}\n",
        writers, n / wall * 1e6, Percentile(run.us, 0.5), Percentile(run.us, 0.99), cpu / n,
        n / static_cast<double>((*store)->commits() - commits), Percentile(run.us, 0.5) - fsync_p50);
  }
  {
    WatchCacheOptions options;
    options.prefix = "/watched/";
    WatchCache cache(env, **store, options);
    Require(env.RunUntilDone(cache.Start()));
    Watching watching;
    double cpu = CpuUs();
    Require(env.RunUntilDone(WatchRun(&env, store->get(), &cache, &watching)));
    cpu = CpuUs() - cpu;
    printf(
        "{\"name\":\"watch\",\"watchers\":%d,\"p50_us\":%.0f,\"p99_us\":%.0f,\"cpu_us_per_create\":%.0f}\n",
        kWatchers, Percentile(watching.us, 0.5), Percentile(watching.us, 0.99), cpu / kWatchedCreates);
    Require(env.RunUntilDone(ToStatus(cache.Stop())));
  }
  {
    WatchCacheOptions options;
    options.prefix = "/bench/1/";
    WatchCache cache(env, **store, options);
    double start = NowUs();
    Require(env.RunUntilDone(cache.Start()));
    double load_us = NowUs() - start;
    KEELSON_CHECK(cache.size() == kListObjects, cache.size());
    std::vector<double> list_us, get_us;
    for (int i = 0; i < 200; ++i) {
      start = NowUs();
      CacheList list = cache.ListNow({});
      list_us.push_back(NowUs() - start);
    }
    start = NowUs();
    for (int i = 0; i < kListObjects; ++i) {
      if (!cache.CatchUp() || cache.Get(StrCat("/bench/1/0-", i)) == nullptr)
        KEELSON_CHECK(false, "lost ", i);
    }
    printf("{\"name\":\"cache_%d\",\"load_ms\":%.1f,\"list_p50_us\":%.0f,\"get_us\":%.2f}\n", kListObjects,
           load_us / 1e3, Percentile(list_us, 0.5), (NowUs() - start) / kListObjects);
    Require(env.RunUntilDone(ToStatus(cache.Stop())));
  }
  Require(env.RunUntilDone(ToStatus((*store)->Close())));
  store->reset();
  double start = NowUs();
  store = OpenSqliteStore(env, path);
  Require(store.status());
  printf("{\"name\":\"open\",\"revisions\":%ld,\"ms\":%.1f,\"pss_kib\":%ld}\n",
         static_cast<long>((*store)->CurrentRevision()), (NowUs() - start) / 1e3,
         static_cast<long>(PssKib()));
  Require(env.RunUntilDone(ToStatus((*store)->Close())));
  store->reset();
  Require(RemoveTree(dir));
  return 0;
}

}  // namespace
}  // namespace keelson::master

int main(int argc, char** argv) { return keelson::master::Main(argc > 1 ? argv[1] : "/var/tmp"); }
