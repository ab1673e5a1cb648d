// store_crash_writer FILE ROUND: writes to the store at FILE from 16 tasks until killed; each acknowledged
// write is a line "<revision> <key> <value>" on stdout, written only after the acknowledgement. Part of
// sqlite_store_test.
#include <unistd.h>

#include <cstdio>

#include "base/env.h"
#include "base/fd.h"
#include "base/strings.h"
#include "master/store/sqlite_store.h"

namespace keelson::master {
namespace {

Task<void> Write(Store* store, std::string round, int id) {
  for (int i = 0;; ++i) {
    std::string key = StrCat("/k/", id, "/", i % 7);
    std::string value = StrCat(round, "-", id, "-", i, std::string(static_cast<size_t>(i * 37 % 2000), 'x'));
    Bytes bytes = std::make_shared<const std::string>(value);
    Task<absl::StatusOr<Revision>> update = store->Update(key, kAnyRevision, bytes);
    absl::StatusOr<Revision> revision = co_await std::move(update);
    if (absl::IsNotFound(revision.status())) {
      Task<absl::StatusOr<Revision>> create = store->Create(key, bytes);
      revision = co_await std::move(create);
    }
    if (!revision.ok()) {
      fprintf(stderr, "%s\n", revision.status().ToString().c_str());
      _exit(1);
    }
    (void)WriteAll(1, StrCat(*revision, " ", key, " ", value, "\n"));
  }
}

}  // namespace
}  // namespace keelson::master

int main(int argc, char** argv) {
  using namespace keelson;
  using namespace keelson::master;
  if (argc != 3) return 2;
  RealEnv env{Paths()};
  SqliteStoreOptions options;
  options.file.path = argv[1];
  options.file.checkpoint_wal_pages = 50;
  options.file.checkpoint_wal_pages_busy = 100;
  options.log.max_history_revisions = 2000;
  absl::StatusOr<std::unique_ptr<LogStore>> store = OpenSqliteStore(env, options);
  if (!store.ok()) {
    fprintf(stderr, "%s\n", store.status().ToString().c_str());
    return 1;
  }
  Scope scope(env.executor());
  for (int id = 0; id < 16; ++id) scope.Spawn("writer", Write(store->get(), argv[2], id));
  env.Run();
  return 0;
}
