#include "base/version_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <optional>

#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson {

namespace {

constexpr std::string_view kMagic = "krec2\n";
constexpr std::string_view kEnd = "\nend";
constexpr size_t kNumberBytes = 4;
constexpr size_t kKeepBytes = 64 << 10;  // a file this long is never written anew for its length

uint32_t Crc(std::string_view bytes) {
  return static_cast<uint32_t>(::crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

void AppendNumber(std::string* out, uint32_t number) {
  for (size_t i = 0; i < kNumberBytes; ++i) out->push_back(static_cast<char>(number >> (8 * i)));
}

uint32_t TakeNumber(std::string_view* in) {
  uint32_t number = 0;
  for (size_t i = 0; i < kNumberBytes; ++i) {
    number |= static_cast<uint32_t>(static_cast<uint8_t>((*in)[i])) << (8 * i);
  }
  in->remove_prefix(kNumberBytes);
  return number;
}

std::string Frame(std::string_view document) {
  std::string out;
  out.reserve(2 * kNumberBytes + document.size() + kEnd.size());
  AppendNumber(&out, static_cast<uint32_t>(document.size()));
  AppendNumber(&out, Crc(document));
  return out.append(document).append(kEnd);
}

// Takes the next frame off `file`; its document, or nothing when there is no whole one at the front.
std::optional<std::string_view> TakeFrame(std::string_view* file, uint32_t* crc) {
  std::string_view rest = *file;
  if (rest.size() < 2 * kNumberBytes + kEnd.size()) return std::nullopt;
  size_t length = TakeNumber(&rest);
  *crc = TakeNumber(&rest);
  if (rest.size() - kEnd.size() < length || rest.substr(length, kEnd.size()) != kEnd) return std::nullopt;
  *file = rest.substr(length + kEnd.size());
  return rest.substr(0, length);
}

// Whether a version can be put behind what is there: all of it is frames, and there is room.
absl::StatusOr<bool> TakesAppends(int fd, size_t size, size_t frame) {
  size_t limit = std::max(kKeepBytes, 2 * frame);
  if (size + frame > limit) return false;
  ASSIGN_OR_RETURN(std::string bytes, ReadFd(fd, limit));
  std::string_view rest = bytes;
  if (!rest.starts_with(kMagic)) return false;
  rest.remove_prefix(kMagic.size());
  uint32_t crc = 0;
  while (!rest.empty()) {
    if (!TakeFrame(&rest, &crc)) return false;
  }
  return true;
}

}  // namespace

absl::Status PutVersion(const std::string& path, std::string_view document) {
  std::string frame = Frame(document);
  Fd fd(::open(path.c_str(), O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid() && errno != ENOENT) return ErrnoStatus(errno, StrCat("open ", path));
  bool append = false;
  struct stat st = {};
  if (fd.valid()) {
    if (::fstat(fd.get(), &st) != 0) return ErrnoStatus(errno, StrCat("stat ", path));
    ASSIGN_OR_RETURN(append, TakesAppends(fd.get(), static_cast<size_t>(st.st_size), frame.size()));
  }
  if (!append) return WriteFileAtomic(path, StrCat(kMagic, frame), 0600, /*durable=*/false);
  absl::Status status = WriteAll(fd.get(), frame);
  // A disk that is full: without this the next version would find a torn tail, and room for a whole new file.
  if (!status.ok()) (void)!::ftruncate(fd.get(), st.st_size);
  return Annotate(status, StrCat("append to ", path));
}

absl::StatusOr<std::string_view> LastVersion(std::string_view file) {
  if (!file.starts_with(kMagic)) {
    if (kMagic.starts_with(file)) return absl::DataLossError("file cut short");
    return file;
  }
  file.remove_prefix(kMagic.size());
  std::string_view last;
  bool found = false;
  uint32_t crc = 0;
  while (std::optional<std::string_view> document = TakeFrame(&file, &crc)) {
    if (Crc(*document) != crc) continue;
    last = *document;
    found = true;
  }
  if (!found) return absl::DataLossError("no whole version in the file");
  return last;
}

absl::StatusOr<std::string> ReadVersion(const std::string& path, size_t max_bytes) {
  ASSIGN_OR_RETURN(std::string bytes, ReadFile(path, max_bytes));
  absl::StatusOr<std::string_view> last = LastVersion(bytes);
  if (!last.ok()) return Annotate(last.status(), path);
  return std::string(*last);
}

}  // namespace keelson
