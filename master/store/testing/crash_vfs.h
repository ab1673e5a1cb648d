// A disk in memory as a SQLite VFS: writes are volatile until synced, the power can go at any operation, and
// what was not synced is then lost, kept or torn at random. Also fills up, fails and lies on request.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

struct sqlite3_vfs;

namespace keelson::master::testing {

class CrashDisk {
 public:
  explicit CrashDisk(uint64_t seed);
  ~CrashDisk();
  CrashDisk(const CrashDisk&) = delete;
  CrashDisk& operator=(const CrashDisk&) = delete;

  // The VFS name for SqliteBackendOptions::vfs.
  const std::string& name() const { return name_; }

  // From the nth write, sync, truncation or deletion on (1: the next) everything fails, as without power.
  void PowerOffAt(uint64_t operation) { off_at_ = operations_ + operation; }
  // Power is back: each write since the last sync of its file is kept, lost or torn at a multiple of 512
  // bytes. No file may be open.
  void PowerOn();
  // Writes beyond this many bytes in all files together are refused as on a full disk; 0: no limit.
  void set_capacity_bytes(size_t bytes) { capacity_bytes_ = bytes; }
  // Syncs report success and do nothing.
  void set_lying(bool lying) { lying_ = lying; }
  // The next sync fails.
  void FailNextSync() { fail_sync_ = true; }

  uint64_t operations() const { return operations_; }
  uint64_t syncs() const { return syncs_; }

  struct Write {
    size_t offset = 0;
    std::string data;
    bool truncate = false;  // to `offset`
  };
  struct File {
    std::string now;      // what a reader sees
    std::string durable;  // at the last sync
    std::vector<Write> since;
  };
  struct Handle;

 private:
  friend struct Handle;
  friend struct Vfs;
  bool Off();
  size_t UsedBytes() const;
  static void Apply(const Write& write, size_t bytes, std::string* content);

  std::string name_;
  std::mt19937_64 random_;
  std::unique_ptr<sqlite3_vfs> vfs_;
  std::map<std::string, std::shared_ptr<File>> files_;
  uint64_t operations_ = 0, off_at_ = 0, syncs_ = 0;
  size_t capacity_bytes_ = 0;
  bool lying_ = false, fail_sync_ = false;
};

}  // namespace keelson::master::testing
