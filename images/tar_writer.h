// TarWriter: a tar (pax where a name or a size wants it) to an open file, by libarchive. Blocking.
#pragma once

#include <absl/status/status.h>
#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

struct archive;
struct archive_entry;
struct stat;

namespace keelson::images {

// What a header says. Owner root and times of 1970 unless set.
struct TarHeader {
  std::string name;         // of a folder with a "/" at its end
  unsigned mode = 0100644;  // type and permissions, as st_mode
  uint64_t uid = 0, gid = 0;
  int64_t mtime_s = 0;
  uint32_t mtime_ns = 0;
  uint64_t rdev = 0;  // of a device
  std::string link;   // target of a symbolic link
  std::map<std::string, std::string> xattrs;

  static TarHeader Of(std::string name, const struct stat& info);
};

class TarWriter {
 public:
  // `fd` stays the caller's.
  explicit TarWriter(int fd);
  ~TarWriter();
  TarWriter(const TarWriter&) = delete;
  TarWriter& operator=(const TarWriter&) = delete;

  // Without contents.
  absl::Status Add(const TarHeader& header);
  absl::Status AddBytes(const TarHeader& header, std::string_view bytes);
  // `size_bytes` of the open file `from`, from where it stands; a shorter one is filled up with zeros:
  // somebody may cut it off meanwhile.
  absl::Status AddFile(const TarHeader& header, int from, uint64_t size_bytes);
  // The end of the archive. To be called last.
  absl::Status Close();

 private:
  absl::Status Begin(const TarHeader& header, uint64_t size_bytes);
  absl::Status Data(std::string_view bytes);
  absl::Status Error();

  std::unique_ptr<archive, int (*)(archive*)> archive_;
  bool ok_ = false;
};

}  // namespace keelson::images
