// SqliteBackend: the rows of a LogStore in one SQLite file (WAL, synchronous=FULL, one connection that locks
// the file for itself). A CRC-32C on each row, the chain of revisions and the count of kept rows find at load
// what SQLite itself does not.
#pragma once

#include <memory>
#include <string>

#include "master/store/log_store.h"

namespace keelson::master {

inline constexpr int kSqliteFormatVersion = 1;

struct SqliteBackendOptions {
  std::string path;
  std::string vfs;  // SQLite VFS; "": the system's. Tests inject faults here
  size_t page_cache_bytes = 2 << 20;
  int checkpoint_wal_pages = 1000;       // when idle; ...
  int checkpoint_wal_pages_busy = 8000;  // ... or at the latest
};

// Opens or creates the file (0600) and its folder (0700). Errors name the file and what to do:
//   FailedPrecondition  written by a newer keelson, or not a store
//   Unavailable         in use by another process
//   DataLoss            corrupt
//   PermissionDenied, ResourceExhausted (disk full), Internal (I/O error)
absl::StatusOr<std::unique_ptr<LogBackend>> OpenSqliteBackend(SqliteBackendOptions options);

}  // namespace keelson::master
