#include "master/store/sqlite_store.h"

#include <utility>

#include "base/status.h"

namespace keelson::master {

absl::StatusOr<std::unique_ptr<LogStore>> OpenSqliteStore(Env& env, SqliteStoreOptions options) {
  ASSIGN_OR_RETURN(std::unique_ptr<LogBackend> backend, OpenSqliteBackend(options.file));
  return LogStore::Open(env, std::move(backend), options.log);
}

absl::StatusOr<std::unique_ptr<LogStore>> OpenSqliteStore(Env& env, const std::string& path) {
  SqliteStoreOptions options;
  options.file.path = path;
  return OpenSqliteStore(env, std::move(options));
}

}  // namespace keelson::master
