#include "images/tar_writer.h"

#include <archive.h>
#include <archive_entry.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/status.h"
#include "base/strings.h"

namespace keelson::images {

namespace {

constexpr size_t kCopyBytes = 256 << 10;

}  // namespace

TarHeader TarHeader::Of(std::string name, const struct stat& info) {
  TarHeader out;
  out.name = std::move(name);
  out.mode = info.st_mode;
  out.uid = info.st_uid;
  out.gid = info.st_gid;
  out.mtime_s = info.st_mtim.tv_sec;
  out.mtime_ns = static_cast<uint32_t>(info.st_mtim.tv_nsec);
  out.rdev = info.st_rdev;
  return out;
}

TarWriter::TarWriter(int fd) : archive_(::archive_write_new(), ::archive_write_free) {
  ::archive_write_set_format_pax_restricted(archive_.get());
  ::archive_write_set_bytes_in_last_block(archive_.get(), 1);
  ok_ = ::archive_write_open_fd(archive_.get(), fd) == ARCHIVE_OK;
}

TarWriter::~TarWriter() = default;

absl::Status TarWriter::Add(const TarHeader& header) { return Begin(header, 0); }

absl::Status TarWriter::AddBytes(const TarHeader& header, std::string_view bytes) {
  RETURN_IF_ERROR(Begin(header, bytes.size()));
  return Data(bytes);
}

absl::Status TarWriter::AddFile(const TarHeader& header, int from, uint64_t size_bytes) {
  RETURN_IF_ERROR(Begin(header, size_bytes));
  std::string buffer(kCopyBytes, '\0');
  for (uint64_t left = size_bytes; left > 0;) {
    ssize_t n = ::read(from, buffer.data(), std::min<uint64_t>(buffer.size(), left));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, StrCat("read ", header.name));
    if (n == 0) {
      n = static_cast<ssize_t>(std::min<uint64_t>(buffer.size(), left));
      std::fill(buffer.begin(), buffer.end(), '\0');
    }
    RETURN_IF_ERROR(Data(std::string_view(buffer.data(), static_cast<size_t>(n))));
    left -= static_cast<uint64_t>(n);
  }
  return absl::OkStatus();
}

absl::Status TarWriter::Close() {
  return ok_ && ::archive_write_close(archive_.get()) == ARCHIVE_OK ? absl::OkStatus() : Error();
}

absl::Status TarWriter::Begin(const TarHeader& header, uint64_t size_bytes) {
  std::unique_ptr<archive_entry, void (*)(archive_entry*)> entry(::archive_entry_new(), ::archive_entry_free);
  ::archive_entry_set_pathname(entry.get(), header.name.c_str());
  ::archive_entry_set_filetype(entry.get(), header.mode & S_IFMT);
  ::archive_entry_set_perm(entry.get(), header.mode & 07777);
  ::archive_entry_set_size(entry.get(), static_cast<int64_t>(size_bytes));
  ::archive_entry_set_uid(entry.get(), static_cast<int64_t>(header.uid));
  ::archive_entry_set_gid(entry.get(), static_cast<int64_t>(header.gid));
  ::archive_entry_set_mtime(entry.get(), header.mtime_s, header.mtime_ns);
  if (S_ISLNK(header.mode)) ::archive_entry_set_symlink(entry.get(), header.link.c_str());
  if (S_ISCHR(header.mode) || S_ISBLK(header.mode)) {
    ::archive_entry_set_rdevmajor(entry.get(), major(header.rdev));
    ::archive_entry_set_rdevminor(entry.get(), minor(header.rdev));
  }
  for (const auto& [name, value] : header.xattrs) {
    ::archive_entry_xattr_add_entry(entry.get(), name.c_str(), value.data(), value.size());
  }
  return ok_ && ::archive_write_header(archive_.get(), entry.get()) >= ARCHIVE_WARN ? absl::OkStatus()
                                                                                    : Error();
}

absl::Status TarWriter::Data(std::string_view bytes) {
  la_ssize_t n = ::archive_write_data(archive_.get(), bytes.data(), bytes.size());
  return n == static_cast<la_ssize_t>(bytes.size()) ? absl::OkStatus() : Error();
}

absl::Status TarWriter::Error() {
  const char* text = ::archive_error_string(archive_.get());
  return absl::DataLossError(StrCat("write archive: ", text == nullptr ? "failed" : text));
}

}  // namespace keelson::images
