// The store of a single master: LogStore on a SQLite file, written by one thread with group commit: see
// docs/adr/0003-sqlite-log-store.md.
#pragma once

#include <memory>
#include <string>

#include "base/env.h"
#include "master/store/log_store.h"
#include "master/store/sqlite_backend.h"

namespace keelson::master {

struct SqliteStoreOptions {
  SqliteBackendOptions file;
  LogStoreOptions log;
};

// Blocks while it reads and checks the whole file; call before the loop serves. Errors as OpenSqliteBackend.
absl::StatusOr<std::unique_ptr<LogStore>> OpenSqliteStore(Env& env, SqliteStoreOptions options);
// With defaults, at `path` (usually Paths::state_dir + "/store/keelson.db").
absl::StatusOr<std::unique_ptr<LogStore>> OpenSqliteStore(Env& env, const std::string& path);

}  // namespace keelson::master
