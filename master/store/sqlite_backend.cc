#include "master/store/sqlite_backend.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include <cstring>
#include <utility>

#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "master/store/crc32c.h"

namespace keelson::master {
namespace {

constexpr int kApplicationId = 0x4b45454c;  // "KEEL"

constexpr char kSchema[] = R"sql(
  CREATE TABLE log (
    revision        INTEGER PRIMARY KEY,
    key             TEXT NOT NULL,
    create_revision INTEGER NOT NULL,
    prev_revision   INTEGER NOT NULL,
    deleted         INTEGER NOT NULL,
    value           BLOB,
    crc32c          INTEGER NOT NULL
  );
  -- 'compacted': rows up to it are living keys only. 'kept_rows': how many rows those are.
  CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
)sql";

uint32_t RowCrc(Revision revision, std::string_view key, Revision create_revision, Revision prev_revision,
                bool deleted, std::string_view value) {
  const int64_t header[] = {revision, create_revision, prev_revision, deleted ? 1 : 0,
                            static_cast<int64_t>(key.size())};
  static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);
  uint32_t crc = Crc32c(std::string_view(reinterpret_cast<const char*>(header), sizeof(header)));
  return Crc32c(value, Crc32c(key, crc));
}

struct CloseDb {
  void operator()(sqlite3* db) const { sqlite3_close(db); }
};
struct FinalizeStatement {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using Db = std::unique_ptr<sqlite3, CloseDb>;
using Statement = std::unique_ptr<sqlite3_stmt, FinalizeStatement>;

// Resets at scope end: a statement left in the middle would hold its transaction open.
class Use {
 public:
  explicit Use(const Statement& statement) : statement_(statement.get()) {}
  ~Use() {
    sqlite3_reset(statement_);
    sqlite3_clear_bindings(statement_);
  }
  sqlite3_stmt* operator*() const { return statement_; }

 private:
  sqlite3_stmt* statement_;
};

std::string_view ColumnText(sqlite3_stmt* statement, int column) {
  const void* data = sqlite3_column_blob(statement, column);
  return {static_cast<const char*>(data),
          data == nullptr ? 0 : static_cast<size_t>(sqlite3_column_bytes(statement, column))};
}

class SqliteBackend : public LogBackend {
 public:
  explicit SqliteBackend(SqliteBackendOptions options) : options_(std::move(options)) {}
  ~SqliteBackend() override { Close(); }

  absl::Status Open();
  absl::Status Load(absl::FunctionRef<void(Revision)> start,
                    absl::FunctionRef<absl::Status(const LogRow&)> row) override;
  absl::Status Append(const std::vector<const LogRow*>& rows) override;
  absl::StatusOr<LogRow> Read(Revision revision) override;
  absl::Status Compact(Revision target, const std::vector<Revision>& rows) override;
  void Maintain(bool idle) override;
  void Close() override;
  std::string Name() const override { return StrCat("store ", options_.path); }

 private:
  absl::Status Error(int code, std::string_view doing) const;
  absl::Status Corrupt(std::string_view what) const;
  absl::Status Execute(const char* sql, std::string_view doing);
  absl::StatusOr<int64_t> QueryInt(const char* sql, std::string_view doing);
  absl::StatusOr<Statement> Prepare(const char* sql);
  absl::Status CheckFormat();
  absl::Status CreateSchema();
  absl::Status InTransaction(absl::FunctionRef<absl::Status()> body, std::string_view doing);
  absl::Status Insert(const LogRow& row);
  absl::Status SetMeta(const char* name, int64_t value);
  // Columns: revision, key, create_revision, prev_revision, deleted, value, crc32c.
  absl::Status DecodeRow(sqlite3_stmt* statement, LogRow* row, bool with_value) const;

  const SqliteBackendOptions options_;
  Db db_;
  Statement insert_, read_, remove_, set_meta_, begin_, commit_, rollback_;
  Revision compacted_ = kFirstRevision;
  int64_t kept_rows_ = 0;
  int wal_pages_ = 0;
};

absl::Status SqliteBackend::Corrupt(std::string_view what) const {
  return absl::DataLossError(StrCat(
      what,
      "; restore the file from a backup, or move it (and its -wal file) away to start with an empty store"));
}

absl::Status SqliteBackend::Error(int code, std::string_view doing) const {
  std::string cause =
      StrCat(Name(), ": ", doing, ": ", db_ == nullptr ? sqlite3_errstr(code) : sqlite3_errmsg(db_.get()));
  int system = db_ == nullptr ? 0 : sqlite3_system_errno(db_.get());
  if (system != 0) StrAppend(&cause, " (", strerror(system), ")");
  switch (code & 0xff) {
    case SQLITE_FULL:
      return absl::ResourceExhaustedError(StrCat(cause, "; free some space on its file system"));
    case SQLITE_NOMEM:
      return absl::ResourceExhaustedError(cause);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return absl::UnavailableError(StrCat(cause, "; another process has it open, stop that one first"));
    case SQLITE_CORRUPT:
      return Corrupt(cause);
    case SQLITE_NOTADB:
      return Corrupt(StrCat(cause, " (not a SQLite file)"));
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_AUTH:
      return absl::PermissionDeniedError(StrCat(cause, "; it must be writable by this user"));
    case SQLITE_IOERR:
      return absl::InternalError(StrCat(cause, " [", sqlite3_errstr(code), ", code ", code,
                                        "]; check the disk and the kernel log, then restart"));
    default:
      return absl::InternalError(StrCat(cause, " [code ", code, "]"));
  }
}

absl::Status SqliteBackend::Execute(const char* sql, std::string_view doing) {
  int code = sqlite3_exec(db_.get(), sql, nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : Error(code, doing);
}

absl::StatusOr<Statement> SqliteBackend::Prepare(const char* sql) {
  sqlite3_stmt* raw = nullptr;
  int code = sqlite3_prepare_v3(db_.get(), sql, -1, SQLITE_PREPARE_PERSISTENT, &raw, nullptr);
  if (code != SQLITE_OK) return Error(code, StrCat("prepare '", sql, "'"));
  return Statement(raw);
}

absl::StatusOr<int64_t> SqliteBackend::QueryInt(const char* sql, std::string_view doing) {
  sqlite3_stmt* raw = nullptr;
  int code = sqlite3_prepare_v2(db_.get(), sql, -1, &raw, nullptr);
  Statement statement(raw);
  if (code == SQLITE_OK) code = sqlite3_step(raw);
  if (code != SQLITE_ROW) return Error(code, doing);
  return sqlite3_column_int64(raw, 0);
}

absl::Status SqliteBackend::Open() {
  const std::string& path = options_.path;
  if (options_.vfs.empty()) {
    size_t slash = path.rfind('/');
    if (slash != std::string::npos && slash > 0) RETURN_IF_ERROR(MakeDirs(path.substr(0, slash), 0700));
    ASSIGN_OR_RETURN(Fd fd, OpenFile(path, O_RDWR | O_CREAT, 0600));
    // SQLite gives its -wal file the mode of this one.
    if (fchmod(fd.get(), 0600) != 0) return ErrnoStatus(errno, StrCat(Name(), ": chmod 0600"));
  }
  sqlite3* raw = nullptr;
  int code =
      sqlite3_open_v2(path.c_str(), &raw, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                      options_.vfs.empty() ? nullptr : options_.vfs.c_str());
  db_.reset(raw);
  if (code != SQLITE_OK) return Error(code, "open");
  sqlite3_extended_result_codes(raw, 1);
  // Before the first access: then the WAL index lives on our heap and the lock is never given back.
  RETURN_IF_ERROR(Execute("PRAGMA locking_mode=EXCLUSIVE", "lock"));
  ASSIGN_OR_RETURN(int64_t tables, QueryInt("SELECT count(*) FROM sqlite_schema", "open"));
  if (tables > 0) RETURN_IF_ERROR(CheckFormat());
  RETURN_IF_ERROR(Execute("PRAGMA journal_mode=WAL", "switch to WAL"));
  RETURN_IF_ERROR(Execute("PRAGMA synchronous=FULL", "set synchronous"));
  RETURN_IF_ERROR(
      Execute(StrCat("PRAGMA cache_size=-", options_.page_cache_bytes >> 10).c_str(), "set cache"));
  sqlite3_wal_hook(
      raw,
      [](void* self, sqlite3*, const char*, int pages) {
        static_cast<SqliteBackend*>(self)->wal_pages_ = pages;
        return SQLITE_OK;
      },
      this);
  if (tables == 0) RETURN_IF_ERROR(CreateSchema());

  ASSIGN_OR_RETURN(insert_, Prepare("INSERT INTO log VALUES (?,?,?,?,?,?,?)"));
  ASSIGN_OR_RETURN(read_, Prepare("SELECT * FROM log WHERE revision=?"));
  ASSIGN_OR_RETURN(remove_, Prepare("DELETE FROM log WHERE revision=?"));
  ASSIGN_OR_RETURN(set_meta_, Prepare("INSERT OR REPLACE INTO meta VALUES (?,?)"));
  ASSIGN_OR_RETURN(begin_, Prepare("BEGIN IMMEDIATE"));
  ASSIGN_OR_RETURN(commit_, Prepare("COMMIT"));
  ASSIGN_OR_RETURN(rollback_, Prepare("ROLLBACK"));
  return absl::OkStatus();
}

absl::Status SqliteBackend::CheckFormat() {
  ASSIGN_OR_RETURN(int64_t id, QueryInt("PRAGMA application_id", "read application id"));
  ASSIGN_OR_RETURN(int64_t version, QueryInt("PRAGMA user_version", "read format version"));
  if (id != kApplicationId) {
    return absl::FailedPreconditionError(
        StrCat(Name(), ": this SQLite file is not a keelson store; name another file"));
  }
  if (version > kSqliteFormatVersion) {
    return absl::FailedPreconditionError(StrCat(Name(), ": written by a newer keelson (format ", version,
                                                ", this one reads up to ", kSqliteFormatVersion,
                                                "); use that version or a newer one"));
  }
  // Format 1 is the first; the steps that migrate older files in a transaction go here.
  if (version < kSqliteFormatVersion) return Corrupt(StrCat(Name(), ": unknown format version ", version));
  return absl::OkStatus();
}

absl::Status SqliteBackend::CreateSchema() {
  RETURN_IF_ERROR(Execute("BEGIN IMMEDIATE", "create tables"));
  RETURN_IF_ERROR(Execute(kSchema, "create tables"));
  RETURN_IF_ERROR(Execute(StrCat("INSERT INTO meta VALUES ('compacted', ", kFirstRevision,
                                 "), ('kept_rows', 0); PRAGMA application_id=", kApplicationId,
                                 "; PRAGMA user_version=", kSqliteFormatVersion, "; COMMIT")
                              .c_str(),
                          "create tables"));
  return absl::OkStatus();
}

absl::Status SqliteBackend::DecodeRow(sqlite3_stmt* statement, LogRow* row, bool with_value) const {
  row->revision = sqlite3_column_int64(statement, 0);
  row->key = std::string(ColumnText(statement, 1));
  row->create_revision = sqlite3_column_int64(statement, 2);
  row->prev_revision = sqlite3_column_int64(statement, 3);
  row->deleted = sqlite3_column_int64(statement, 4) != 0;
  std::string_view value = ColumnText(statement, 5);
  int64_t stored = sqlite3_column_int64(statement, 6);
  uint32_t crc =
      RowCrc(row->revision, row->key, row->create_revision, row->prev_revision, row->deleted, value);
  if (stored != static_cast<int64_t>(crc)) {
    return Corrupt(StrCat(Name(), ": row of revision ", row->revision, " (key ", row->key,
                          ") is damaged: checksum mismatch"));
  }
  if (with_value && !row->deleted) row->value = std::make_shared<const std::string>(value);
  return absl::OkStatus();
}

absl::Status SqliteBackend::Load(absl::FunctionRef<void(Revision)> start,
                                 absl::FunctionRef<absl::Status(const LogRow&)> take) {
  ASSIGN_OR_RETURN(compacted_,
                   QueryInt("SELECT value FROM meta WHERE name='compacted'", "read compacted revision"));
  ASSIGN_OR_RETURN(kept_rows_, QueryInt("SELECT value FROM meta WHERE name='kept_rows'", "read row count"));
  start(compacted_);
  ASSIGN_OR_RETURN(Statement all, Prepare("SELECT * FROM log ORDER BY revision"));
  int64_t kept = 0;
  int code;
  while ((code = sqlite3_step(all.get())) == SQLITE_ROW) {
    LogRow row;
    RETURN_IF_ERROR(DecodeRow(all.get(), &row, false));
    if (row.revision <= compacted_) ++kept;
    absl::Status status = take(row);
    if (!status.ok()) return Corrupt(StrCat(Name(), ": ", status.message()));
  }
  if (code != SQLITE_DONE) return Error(code, "read the log");
  if (kept != kept_rows_) {
    return Corrupt(StrCat(Name(), ": ", kept, " rows up to the compacted revision ", compacted_,
                          ", expected ", kept_rows_));
  }
  return absl::OkStatus();
}

absl::Status SqliteBackend::InTransaction(absl::FunctionRef<absl::Status()> body, std::string_view doing) {
  absl::Status status;
  {
    Use begin(begin_);
    int code = sqlite3_step(*begin);
    if (code != SQLITE_DONE) return Error(code, doing);
  }
  status = body();
  if (status.ok()) {
    Use commit(commit_);
    int code = sqlite3_step(*commit);
    if (code == SQLITE_DONE) return absl::OkStatus();
    status = Error(code, doing);
  }
  // SQLite rolls back by itself after some errors.
  if (sqlite3_get_autocommit(db_.get()) == 0) {
    Use rollback(rollback_);
    int code = sqlite3_step(*rollback);
    if (code != SQLITE_DONE) return Error(code, StrCat(doing, ": roll back"));
  }
  return status;
}

absl::Status SqliteBackend::Insert(const LogRow& row) {
  Use insert(insert_);
  std::string_view value = row.value == nullptr ? std::string_view() : std::string_view(*row.value);
  uint32_t crc = RowCrc(row.revision, row.key, row.create_revision, row.prev_revision, row.deleted, value);
  sqlite3_bind_int64(*insert, 1, row.revision);
  sqlite3_bind_text64(*insert, 2, row.key.data(), row.key.size(), SQLITE_STATIC, SQLITE_UTF8);
  sqlite3_bind_int64(*insert, 3, row.create_revision);
  sqlite3_bind_int64(*insert, 4, row.prev_revision);
  sqlite3_bind_int(*insert, 5, row.deleted ? 1 : 0);
  if (row.value != nullptr) sqlite3_bind_blob64(*insert, 6, value.data(), value.size(), SQLITE_STATIC);
  sqlite3_bind_int64(*insert, 7, crc);
  int code = sqlite3_step(*insert);
  return code == SQLITE_DONE ? absl::OkStatus() : Error(code, StrCat("write ", row.key));
}

absl::Status SqliteBackend::Append(const std::vector<const LogRow*>& rows) {
  return InTransaction(
      [&]() -> absl::Status {
        for (const LogRow* row : rows) RETURN_IF_ERROR(Insert(*row));
        return absl::OkStatus();
      },
      "commit");
}

absl::StatusOr<LogRow> SqliteBackend::Read(Revision revision) {
  Use read(read_);
  sqlite3_bind_int64(*read, 1, revision);
  int code = sqlite3_step(*read);
  if (code == SQLITE_DONE) return absl::NotFoundError(StrCat(Name(), ": no row of revision ", revision));
  if (code != SQLITE_ROW) return Error(code, StrCat("read revision ", revision));
  LogRow row;
  RETURN_IF_ERROR(DecodeRow(*read, &row, true));
  return row;
}

absl::Status SqliteBackend::SetMeta(const char* name, int64_t value) {
  Use set(set_meta_);
  sqlite3_bind_text(*set, 1, name, -1, SQLITE_STATIC);
  sqlite3_bind_int64(*set, 2, value);
  int code = sqlite3_step(*set);
  return code == SQLITE_DONE ? absl::OkStatus() : Error(code, StrCat("set ", name));
}

absl::Status SqliteBackend::Compact(Revision target, const std::vector<Revision>& rows) {
  int64_t kept = kept_rows_ + (target - compacted_) - static_cast<int64_t>(rows.size());
  absl::Status status = InTransaction(
      [&]() -> absl::Status {
        for (Revision revision : rows) {
          Use remove(remove_);
          sqlite3_bind_int64(*remove, 1, revision);
          int code = sqlite3_step(*remove);
          if (code != SQLITE_DONE) return Error(code, "compact");
          if (sqlite3_changes(db_.get()) != 1) {
            return Corrupt(StrCat(Name(), ": compact: the row of revision ", revision, " is missing"));
          }
        }
        RETURN_IF_ERROR(SetMeta("compacted", target));
        return SetMeta("kept_rows", kept);
      },
      "compact");
  if (status.ok()) {
    compacted_ = target;
    kept_rows_ = kept;
  }
  return status;
}

void SqliteBackend::Maintain(bool idle) {
  if (wal_pages_ < (idle ? options_.checkpoint_wal_pages : options_.checkpoint_wal_pages_busy)) return;
  wal_pages_ = 0;
  int code = sqlite3_wal_checkpoint_v2(db_.get(), nullptr, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr);
  // The rows stay safe in the WAL, which goes on growing: the next round tries again.
  if (code != SQLITE_OK) LogWarning("store checkpoint failed", {{"error", Error(code, "checkpoint")}});
}

void SqliteBackend::Close() {
  for (Statement* statement : {&insert_, &read_, &remove_, &set_meta_, &begin_, &commit_, &rollback_})
    statement->reset();
  db_.reset();
}

}  // namespace

absl::StatusOr<std::unique_ptr<LogBackend>> OpenSqliteBackend(SqliteBackendOptions options) {
  auto backend = std::make_unique<SqliteBackend>(std::move(options));
  RETURN_IF_ERROR(backend->Open());
  return std::unique_ptr<LogBackend>(std::move(backend));
}

}  // namespace keelson::master
