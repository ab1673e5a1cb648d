#include "master/store/testing/crash_vfs.h"

#include <sqlite3.h>

#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "base/strings.h"

namespace keelson::master::testing {

struct CrashDisk::Handle {
  sqlite3_file base;  // first: SQLite casts
  CrashDisk* disk;
  std::shared_ptr<File>* file;

  static Handle* Of(sqlite3_file* file) { return reinterpret_cast<Handle*>(file); }
  File& content() { return **file; }

  static int Close(sqlite3_file* f) {
    delete Of(f)->file;
    return SQLITE_OK;
  }
  static int Read(sqlite3_file* f, void* out, int amount, sqlite3_int64 offset) {
    Handle* h = Of(f);
    const std::string& now = h->content().now;
    size_t want = static_cast<size_t>(amount), at = static_cast<size_t>(offset);
    size_t have = at >= now.size() ? 0 : std::min(want, now.size() - at);
    if (have > 0) std::memcpy(out, now.data() + at, have);
    if (have == want) return SQLITE_OK;
    std::memset(static_cast<char*>(out) + have, 0, want - have);
    return SQLITE_IOERR_SHORT_READ;
  }
  static int Change(Handle* h, Write write) {
    CrashDisk* disk = h->disk;
    if (disk->Off()) return SQLITE_IOERR_WRITE;
    File& file = h->content();
    if (!write.truncate && disk->capacity_bytes_ > 0) {
      size_t end = write.offset + write.data.size();
      size_t growth = end > file.now.size() ? end - file.now.size() : 0;
      if (growth > 0 && disk->UsedBytes() + growth > disk->capacity_bytes_) return SQLITE_FULL;
    }
    Apply(write, write.data.size(), &file.now);
    file.since.push_back(std::move(write));
    return SQLITE_OK;
  }
  static int WriteAt(sqlite3_file* f, const void* data, int amount, sqlite3_int64 offset) {
    Write write;
    write.offset = static_cast<size_t>(offset);
    write.data.assign(static_cast<const char*>(data), static_cast<size_t>(amount));
    return Change(Of(f), std::move(write));
  }
  static int Truncate(sqlite3_file* f, sqlite3_int64 size) {
    Write write;
    write.offset = static_cast<size_t>(size);
    write.truncate = true;
    return Change(Of(f), std::move(write));
  }
  static int Sync(sqlite3_file* f, int) {
    Handle* h = Of(f);
    if (h->disk->Off()) return SQLITE_IOERR_FSYNC;
    if (std::exchange(h->disk->fail_sync_, false)) return SQLITE_IOERR_FSYNC;
    ++h->disk->syncs_;
    if (h->disk->lying_) return SQLITE_OK;
    h->content().durable = h->content().now;
    h->content().since.clear();
    return SQLITE_OK;
  }
  static int FileSize(sqlite3_file* f, sqlite3_int64* size) {
    *size = static_cast<sqlite3_int64>(Of(f)->content().now.size());
    return SQLITE_OK;
  }
  static int Lock(sqlite3_file*, int) { return SQLITE_OK; }
  static int CheckReservedLock(sqlite3_file*, int* out) {
    *out = 0;
    return SQLITE_OK;
  }
  static int FileControl(sqlite3_file*, int, void*) { return SQLITE_NOTFOUND; }
  static int SectorSize(sqlite3_file*) { return 4096; }
  // What the real VFS claims on Linux.
  static int DeviceCharacteristics(sqlite3_file*) { return SQLITE_IOCAP_POWERSAFE_OVERWRITE; }
};

struct Vfs {
  static CrashDisk* Of(sqlite3_vfs* vfs) { return static_cast<CrashDisk*>(vfs->pAppData); }
  static int Open(sqlite3_vfs* vfs, const char* name, sqlite3_file* out, int flags, int* out_flags) {
    static const sqlite3_io_methods kMethods = [] {
      sqlite3_io_methods m{};
      m.iVersion = 1;
      m.xClose = CrashDisk::Handle::Close;
      m.xRead = CrashDisk::Handle::Read;
      m.xWrite = CrashDisk::Handle::WriteAt;
      m.xTruncate = CrashDisk::Handle::Truncate;
      m.xSync = CrashDisk::Handle::Sync;
      m.xFileSize = CrashDisk::Handle::FileSize;
      m.xLock = CrashDisk::Handle::Lock;
      m.xUnlock = CrashDisk::Handle::Lock;
      m.xCheckReservedLock = CrashDisk::Handle::CheckReservedLock;
      m.xFileControl = CrashDisk::Handle::FileControl;
      m.xSectorSize = CrashDisk::Handle::SectorSize;
      m.xDeviceCharacteristics = CrashDisk::Handle::DeviceCharacteristics;
      return m;
    }();
    CrashDisk* disk = Of(vfs);
    std::string path = name == nullptr ? "temporary" : name;
    std::shared_ptr<CrashDisk::File>& file = disk->files_[path];
    if (file == nullptr) file = std::make_shared<CrashDisk::File>();
    auto* handle = CrashDisk::Handle::Of(out);
    handle->base.pMethods = &kMethods;
    handle->disk = disk;
    handle->file = new std::shared_ptr<CrashDisk::File>(file);
    if (out_flags != nullptr) *out_flags = flags;
    return SQLITE_OK;
  }
  static int Delete(sqlite3_vfs* vfs, const char* name, int) {
    if (Of(vfs)->Off()) return SQLITE_IOERR_DELETE;
    return Of(vfs)->files_.erase(name) > 0 ? SQLITE_OK : SQLITE_IOERR_DELETE_NOENT;
  }
  static int Access(sqlite3_vfs* vfs, const char* name, int, int* out) {
    *out = Of(vfs)->files_.count(name) > 0 ? 1 : 0;
    return SQLITE_OK;
  }
  static int FullPathname(sqlite3_vfs*, const char* name, int size, char* out) {
    snprintf(out, static_cast<size_t>(size), "%s", name);
    return SQLITE_OK;
  }
  static int Randomness(sqlite3_vfs* vfs, int size, char* out) {
    for (int i = 0; i < size; ++i) out[i] = static_cast<char>(Of(vfs)->random_());
    return size;
  }
  static int Sleep(sqlite3_vfs*, int us) { return us; }
  static int CurrentTime(sqlite3_vfs*, double* out) {
    *out = 2461000.5;
    return SQLITE_OK;
  }
  static int GetLastError(sqlite3_vfs*, int, char*) { return 0; }
};

CrashDisk::CrashDisk(uint64_t seed) : random_(seed), vfs_(std::make_unique<sqlite3_vfs>()) {
  name_ = StrCat("crash-disk-", reinterpret_cast<uintptr_t>(this));
  vfs_->iVersion = 1;
  vfs_->szOsFile = sizeof(Handle);
  vfs_->mxPathname = 512;
  vfs_->zName = name_.c_str();
  vfs_->pAppData = this;
  vfs_->xOpen = Vfs::Open;
  vfs_->xDelete = Vfs::Delete;
  vfs_->xAccess = Vfs::Access;
  vfs_->xFullPathname = Vfs::FullPathname;
  vfs_->xRandomness = Vfs::Randomness;
  vfs_->xSleep = Vfs::Sleep;
  vfs_->xCurrentTime = Vfs::CurrentTime;
  vfs_->xGetLastError = Vfs::GetLastError;
  KEELSON_CHECK(sqlite3_vfs_register(vfs_.get(), 0) == SQLITE_OK, "register ", name_);
}

CrashDisk::~CrashDisk() { sqlite3_vfs_unregister(vfs_.get()); }

bool CrashDisk::Off() {
  ++operations_;
  return off_at_ > 0 && operations_ >= off_at_;
}

size_t CrashDisk::UsedBytes() const {
  size_t used = 0;
  for (const auto& [name, file] : files_) used += file->now.size();
  return used;
}

void CrashDisk::Apply(const Write& write, size_t bytes, std::string* content) {
  if (write.truncate) {
    if (content->size() > write.offset) content->resize(write.offset);
    return;
  }
  if (content->size() < write.offset + bytes) content->resize(write.offset + bytes);
  content->replace(write.offset, bytes, write.data, 0, bytes);
}

void CrashDisk::PowerOn() {
  off_at_ = 0;
  for (auto& [name, file] : files_) {
    std::string content = file->durable;
    for (const Write& write : file->since) {
      switch (random_() % 3) {
        case 0:
          Apply(write, write.data.size(), &content);
          break;
        case 1: {
          size_t sectors = write.data.size() / 512;
          if (!write.truncate && sectors > 0) Apply(write, 512 * (random_() % (sectors + 1)), &content);
          break;
        }
        default:
          break;
      }
    }
    file->now = file->durable = content;
    file->since.clear();
  }
}

}  // namespace keelson::master::testing
