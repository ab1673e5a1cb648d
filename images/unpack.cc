#include "images/unpack.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <locale.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>

#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "images/decompress.h"
#include "images/digest.h"

namespace keelson::images {
namespace {

constexpr size_t kPlainBytes = 256 << 10;
constexpr uint64_t kMaxHeaderBytes = 2 << 20;
constexpr size_t kMaxShownBytes = 200;
constexpr int64_t kMaxId = 0xfffffffe;  // 2^32-1 means "no change" to chown
constexpr std::string_view kWhiteoutPrefix = ".wh.";
constexpr std::string_view kAufsPrefix = ".wh..wh.";
constexpr std::string_view kOpaqueName = ".wh..wh..opq";

// A name of a stranger, fit for a log line.
std::string Shown(std::string_view name) {
  std::string out;
  for (char c : name.substr(0, kMaxShownBytes)) {
    unsigned char u = static_cast<unsigned char>(c);
    if (u < 0x20 || u == 0x7f) {
      out.push_back('?');
    } else {
      out.push_back(c);
    }
  }
  if (name.size() > kMaxShownBytes) out += "...";
  return out;
}

// Takes digest and size of what passes through, and keeps a copy.
class BlobSource : public ByteSource {
 public:
  BlobSource(ByteSource* source, const UnpackOptions& options) : source_(source), options_(options) {}

  absl::StatusOr<size_t> Read(char* buffer, size_t size) override {
    ASSIGN_OR_RETURN(size_t n, source_->Read(buffer, size));
    std::string_view bytes(buffer, n);
    total_ += n;
    if (options_.expected_bytes > 0 && total_ > options_.expected_bytes) {
      return absl::DataLossError(
          StrCat("more than the ", options_.expected_bytes, " bytes that were announced"));
    }
    hash_.Update(bytes);
    if (options_.save_fd >= 0) RETURN_IF_ERROR(WriteAll(options_.save_fd, bytes));
    return n;
  }
  // Reads what is left and compares.
  absl::Status Finish(std::string* digest) {
    char buffer[16 << 10];
    while (true) {
      ASSIGN_OR_RETURN(size_t n, Read(buffer, sizeof buffer));
      if (n == 0) break;
    }
    *digest = hash_.Finish();
    if (!options_.expected_digest.empty() && *digest != options_.expected_digest) {
      return absl::DataLossError(StrCat("its bytes have digest ", *digest));
    }
    if (options_.expected_bytes > 0 && total_ != options_.expected_bytes) {
      return absl::DataLossError(
          StrCat(total_, " bytes instead of the ", options_.expected_bytes, " that were announced"));
    }
    return absl::OkStatus();
  }
  uint64_t total() const { return total_; }

 private:
  ByteSource* source_;
  const UnpackOptions& options_;
  Sha256 hash_;
  uint64_t total_ = 0;
};

constexpr uint64_t kTarBlockBytes = 512;

// The uncompressed bytes, as libarchive asks for them.
class PlainSource {
 public:
  PlainSource(ByteSource* source, ByteBudget* budget)
      : source_(source), budget_(budget), buffer_(kPlainBytes, '\0') {}

  absl::StatusOr<std::string_view> Next() {
    ASSIGN_OR_RETURN(size_t n, source_->Read(buffer_.data(), buffer_.size()));
    std::string_view bytes(buffer_.data(), n);
    header_bytes_ += n;
    if (in_header_ && header_bytes_ > kMaxHeaderBytes) {
      return absl::ResourceExhaustedError("the headers of one entry are over 2 MiB");
    }
    if (budget_ != nullptr && !budget_->Take(n)) {
      return absl::ResourceExhaustedError("the image unpacks to more than the limit (max_image_bytes)");
    }
    hash_.Update(bytes);
    total_ += n;
    return bytes;
  }
  // Some writers (umoci's, for one) end right behind the last file's data, without the rest of its block.
  // Readers in Go take that; libarchive wants the block. Zeros that are no part of the archive; the diff ID
  // is of what came.
  std::string_view MissingPadding() {
    static constexpr char kZeros[kTarBlockBytes] = {};
    size_t missing = static_cast<size_t>((kTarBlockBytes - total_ % kTarBlockBytes) % kTarBlockBytes);
    if (std::exchange(padded_, true)) missing = 0;
    return std::string_view(kZeros, missing);
  }
  absl::Status Drain() {
    uint64_t trailing = 0;
    while (true) {
      ASSIGN_OR_RETURN(std::string_view bytes, Next());
      if (bytes.empty()) return absl::OkStatus();
      trailing += bytes.size();
      if (trailing > kMaxTrailingBytes) {
        return absl::InvalidArgumentError("too many bytes behind the end of the archive");
      }
    }
  }
  std::string Finish() { return hash_.Finish(); }
  // libarchive keeps what it reads for a header (long names, the map of a sparse file) in memory.
  void BeginHeader() {
    in_header_ = true;
    header_bytes_ = 0;
  }
  void EndHeader() { in_header_ = false; }

  absl::Status error;  // of the read that libarchive saw fail

 private:
  ByteSource* source_;
  ByteBudget* budget_;
  Sha256 hash_;
  std::string buffer_;
  bool in_header_ = false;
  uint64_t header_bytes_ = 0;
  uint64_t total_ = 0;
  bool padded_ = false;
};

la_ssize_t ReadCallback(archive*, void* user, const void** out) {
  PlainSource* source = static_cast<PlainSource*>(user);
  auto bytes = source->Next();
  if (!bytes.ok()) {
    source->error = bytes.status();
    return -1;
  }
  if (bytes->empty()) *bytes = source->MissingPadding();
  *out = bytes->data();
  return static_cast<la_ssize_t>(bytes->size());
}

// libarchive converts names to the thread's locale: UTF-8 whatever the process has. Made once, kept.
class Utf8Locale {
 public:
  Utf8Locale() {
    static const locale_t kUtf8 = ::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
    if (kUtf8 != nullptr) before_ = ::uselocale(kUtf8);
  }
  Utf8Locale(const Utf8Locale&) = delete;
  Utf8Locale& operator=(const Utf8Locale&) = delete;
  ~Utf8Locale() {
    if (before_ != nullptr) ::uselocale(before_);
  }

 private:
  locale_t before_ = nullptr;
};

class Extractor {
 public:
  Extractor(PlainSource* source, int root_fd, ByteBudget* budget, const UnpackOptions& options)
      : source_(source),
        options_(options),
        tree_(root_fd, options.tree),
        archive_(::archive_read_new(), ::archive_read_free) {}

  absl::Status Run() {
    archive* a = archive_.get();
    KEELSON_CHECK(a != nullptr, "libarchive: out of memory");
    ::archive_read_support_format_tar(a);
    ::archive_read_set_options(a, "!mac-ext");
    if (::archive_read_open(a, source_, nullptr, ReadCallback, nullptr) != ARCHIVE_OK) return ArchiveError();
    uint64_t entries = 0;
    while (true) {
      archive_entry* entry = nullptr;
      // Data nobody read is skipped here, so that it does not count as a header.
      if (entries > 0 && ::archive_read_data_skip(a) < ARCHIVE_WARN) return ArchiveError();
      source_->BeginHeader();
      int result = ::archive_read_next_header(a, &entry);
      source_->EndHeader();
      if (result == ARCHIVE_EOF) break;
      // A warning is a name that is not valid UTF-8: it comes with replacement characters.
      if (result != ARCHIVE_OK && result != ARCHIVE_WARN) return ArchiveError();
      if (++entries > options_.max_entries) {
        return absl::ResourceExhaustedError(StrCat("more than ", options_.max_entries, " entries"));
      }
      absl::Status status = Entry(entry);
      if (!source_->error.ok()) return source_->error;
      if (!status.ok()) {
        const char* name = ::archive_entry_pathname(entry);
        return Annotate(status, StrCat("entry \"", Shown(name == nullptr ? "" : name), "\""));
      }
    }
    if (!source_->error.ok()) return source_->error;
    RETURN_IF_ERROR(source_->Drain());
    return tree_.Finish();
  }
  const LayerTree& tree() const { return tree_; }

 private:
  absl::Status ArchiveError() {
    if (!source_->error.ok()) return source_->error;
    const char* text = ::archive_error_string(archive_.get());
    return absl::InvalidArgumentError(StrCat("tar: ", text == nullptr ? "damaged archive" : Shown(text)));
  }

  absl::StatusOr<EntryAttributes> Attributes(archive_entry* entry) {
    EntryAttributes out;
    out.mode = ::archive_entry_perm(entry);
    int64_t uid = ::archive_entry_uid(entry), gid = ::archive_entry_gid(entry);
    if (uid < 0 || uid > kMaxId || gid < 0 || gid > kMaxId) {
      return absl::InvalidArgumentError(StrCat("owner ", uid, ":", gid, " does not exist"));
    }
    out.uid = static_cast<uid_t>(uid);
    out.gid = static_cast<gid_t>(gid);
    out.mtime.tv_sec = ::archive_entry_mtime(entry);
    out.mtime.tv_nsec = std::clamp(::archive_entry_mtime_nsec(entry), 0L, 999'999'999L);
    ::archive_entry_xattr_reset(entry);
    const char* name = nullptr;
    const void* value = nullptr;
    size_t size = 0;
    while (::archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK) {
      if (out.xattrs.size() >= kMaxXattrs) return absl::InvalidArgumentError("too many extended attributes");
      out.xattrs.emplace_back(name, std::string(static_cast<const char*>(value), size));
    }
    return out;
  }

  // True when the entry was a mark of aufs and is done.
  absl::StatusOr<bool> Mark(const std::string& path) {
    size_t at = 0;
    while (true) {
      size_t slash = path.find('/', at);
      std::string_view part = std::string_view(path).substr(at, slash - at);
      bool last = slash == std::string::npos;
      if (part.substr(0, kWhiteoutPrefix.size()) == kWhiteoutPrefix) {
        std::string dir = at == 0 ? "" : path.substr(0, at - 1);
        if (last && part == kOpaqueName) {
          RETURN_IF_ERROR(tree_.Opaque(dir));
          return true;
        }
        // aufs' own bookkeeping (.wh..wh.plnk and the like) means nothing here.
        if (part.substr(0, kAufsPrefix.size()) == kAufsPrefix) return true;
        std::string_view hidden = part.substr(kWhiteoutPrefix.size());
        if (!last || hidden.empty() || hidden == "." || hidden == "..") {
          return absl::InvalidArgumentError("a whiteout that names nothing");
        }
        RETURN_IF_ERROR(tree_.Whiteout(dir.empty() ? std::string(hidden) : StrCat(dir, "/", hidden)));
        return true;
      }
      if (last) return false;
      at = slash + 1;
    }
  }

  absl::Status Entry(archive_entry* entry) {
    const char* raw = ::archive_entry_pathname(entry);
    if (raw == nullptr) return absl::InvalidArgumentError("name that is not UTF-8");
    ASSIGN_OR_RETURN(std::string path, LayerPath(raw));
    if (!options_.files_only) {
      ASSIGN_OR_RETURN(bool done, Mark(path));
      if (done) return absl::OkStatus();
    }
    const char* link = ::archive_entry_hardlink(entry);
    if (link != nullptr) {
      if (options_.files_only) return absl::InvalidArgumentError("hard link in an image archive");
      ASSIGN_OR_RETURN(std::string target, LayerPath(link));
      return tree_.HardLink(path, target);
    }
    ASSIGN_OR_RETURN(EntryAttributes attributes, Attributes(entry));
    mode_t type = ::archive_entry_filetype(entry);
    if (type == AE_IFREG) return File(entry, path, attributes);
    if (type == AE_IFDIR) return tree_.Directory(path, attributes);
    if (type == AE_IFLNK) {
      if (!options_.allow_symlinks) return absl::InvalidArgumentError("symbolic link among plain files");
      const char* target = ::archive_entry_symlink(entry);
      return tree_.Symlink(path, target == nullptr ? "" : target, attributes);
    }
    if (options_.files_only) return absl::InvalidArgumentError("special file in an image archive");
    switch (type) {
      case AE_IFCHR:
        return tree_.Node(path, S_IFCHR, ::archive_entry_rdev(entry), attributes);
      case AE_IFBLK:
        return tree_.Node(path, S_IFBLK, ::archive_entry_rdev(entry), attributes);
      case AE_IFIFO:
        return tree_.Node(path, S_IFIFO, 0, attributes);
      default:
        return absl::InvalidArgumentError(StrCat("type ", type, " is not supported"));
    }
  }

  absl::Status File(archive_entry* entry, const std::string& path, const EntryAttributes& attributes) {
    int64_t size = ::archive_entry_size(entry);
    if (size < 0) return absl::InvalidArgumentError("negative size");
    ASSIGN_OR_RETURN(Fd fd, tree_.File(path));
    int64_t end = 0;      // of what was written
    int64_t written = 0;  // without holes
    while (true) {
      const void* data = nullptr;
      size_t bytes = 0;
      la_int64_t offset = 0;
      int result = ::archive_read_data_block(archive_.get(), &data, &bytes, &offset);
      if (result == ARCHIVE_EOF) break;
      if (result != ARCHIVE_OK) return ArchiveError();
      if (bytes == 0) continue;
      if (offset < end || offset > size || static_cast<int64_t>(bytes) > size - offset) {
        return absl::InvalidArgumentError("pieces of a sparse file out of order");
      }
      RETURN_IF_ERROR(WriteAt(fd.get(), std::string_view(static_cast<const char*>(data), bytes), offset));
      end = offset + static_cast<int64_t>(bytes);
      written += static_cast<int64_t>(bytes);
    }
    if (end < size) {
      // The tail of a sparse file: a hole.
      if (::ftruncate(fd.get(), size) != 0) return ErrnoStatus(errno, "set size");
    }
    return tree_.FinishFile(fd.get(), static_cast<uint64_t>(written), attributes);
  }

  static absl::Status WriteAt(int fd, std::string_view bytes, int64_t offset) {
    while (!bytes.empty()) {
      ssize_t n = ::pwrite(fd, bytes.data(), bytes.size(), offset);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return ErrnoStatus(errno, "write");
      bytes.remove_prefix(static_cast<size_t>(n));
      offset += n;
    }
    return absl::OkStatus();
  }

  PlainSource* source_;
  const UnpackOptions& options_;
  LayerTree tree_;
  std::unique_ptr<archive, int (*)(archive*)> archive_;
};

}  // namespace

absl::StatusOr<UnpackedLayer> UnpackLayer(ByteSource* source, int root_fd, ByteBudget* budget,
                                          const UnpackOptions& options) {
  Utf8Locale locale;
  BlobSource blob(source, options);
  Decompressor decompressor(&blob);
  PlainSource plain(&decompressor, budget);
  Extractor extractor(&plain, root_fd, budget, options);
  UnpackedLayer out;
  absl::Status status = extractor.Run();
  if (status.ok() || absl::IsInvalidArgument(status) || absl::IsDataLoss(status)) {
    // Wrong bytes explain everything else: the server lied or the line did.
    absl::Status whole = blob.Finish(&out.digest);
    if (!whole.ok()) status = whole;
  }
  if (!status.ok()) return status;
  out.blob_bytes = blob.total();
  out.diff_id = plain.Finish();
  out.compressed = decompressor.kind() != Decompressor::Kind::kNone;
  if (!options.expected_diff_id.empty() && out.diff_id != options.expected_diff_id) {
    return absl::DataLossError(
        StrCat("unpacked it has diff ID ", out.diff_id, " instead of ", options.expected_diff_id));
  }
  out.usage = extractor.tree().usage();
  out.implicit_dirs = extractor.tree().implicit_dirs();
  return out;
}

}  // namespace keelson::images
