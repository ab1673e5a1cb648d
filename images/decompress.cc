#include "images/decompress.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson::images {
namespace {

constexpr size_t kInputBytes = 128 << 10;
constexpr size_t kMagicBytes = 4;

bool IsGzip(const char* p) { return std::memcmp(p, "\x1f\x8b", 2) == 0; }
bool IsZstd(const char* p) {
  // A frame, or a skippable one before it.
  return std::memcmp(p, "\x28\xb5\x2f\xfd", 4) == 0 ||
         ((p[0] & '\xf0') == '\x50' && std::memcmp(p + 1, "\x2a\x4d\x18", 3) == 0);
}

}  // namespace

struct Decompressor::Codec {
  z_stream zlib{};
  bool zlib_open = false;
  ZSTD_DCtx* zstd = nullptr;
  ~Codec() {
    if (zlib_open) ::inflateEnd(&zlib);
    ZSTD_freeDCtx(zstd);
  }
};

Decompressor::Decompressor(ByteSource* source)
    : source_(source), input_(kInputBytes, '\0'), codec_(std::make_unique<Codec>()) {}

Decompressor::~Decompressor() = default;

// More input behind what is left; source_ended_ when there is none.
absl::Status Decompressor::Fill() {
  if (begin_ > 0) {
    std::memmove(input_.data(), input_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  if (end_ == input_.size()) return absl::OkStatus();
  ASSIGN_OR_RETURN(size_t n, source_->Read(input_.data() + end_, input_.size() - end_));
  source_ended_ = n == 0;
  end_ += n;
  return absl::OkStatus();
}

absl::Status Decompressor::Detect() {
  while (end_ - begin_ < kMagicBytes && !source_ended_) RETURN_IF_ERROR(Fill());
  kind_ = Kind::kNone;
  if (end_ - begin_ < kMagicBytes) return absl::OkStatus();
  const char* p = input_.data() + begin_;
  if (IsGzip(p)) {
    kind_ = Kind::kGzip;
    KEELSON_CHECK(::inflateInit2(&codec_->zlib, 15 + 16) == Z_OK, "zlib: out of memory");
    codec_->zlib_open = true;
  } else if (IsZstd(p)) {
    kind_ = Kind::kZstd;
    codec_->zstd = ZSTD_createDCtx();
    KEELSON_CHECK(codec_->zstd != nullptr, "zstd: out of memory");
    ZSTD_DCtx_setParameter(codec_->zstd, ZSTD_d_windowLogMax, kMaxZstdWindowLog);
  }
  return absl::OkStatus();
}

absl::StatusOr<size_t> Decompressor::ReadPlain(char* buffer, size_t size) {
  if (begin_ == end_) return source_ended_ ? absl::StatusOr<size_t>(size_t{0}) : source_->Read(buffer, size);
  size_t n = std::min(size, end_ - begin_);
  std::memcpy(buffer, input_.data() + begin_, n);
  begin_ += n;
  return n;
}

absl::StatusOr<size_t> Decompressor::ReadGzip(char* buffer, size_t size) {
  z_stream& z = codec_->zlib;
  while (true) {
    if (begin_ == end_ && !source_ended_) RETURN_IF_ERROR(Fill());
    if (begin_ == end_ && source_ended_) {
      if (in_stream_) return absl::DataLossError("gzip: the stream ends in the middle");
      return size_t{0};
    }
    in_stream_ = true;
    z.next_in = reinterpret_cast<Bytef*>(input_.data() + begin_);
    z.avail_in = static_cast<uInt>(end_ - begin_);
    z.next_out = reinterpret_cast<Bytef*>(buffer);
    z.avail_out = static_cast<uInt>(size);
    int result = ::inflate(&z, Z_NO_FLUSH);
    begin_ = end_ - z.avail_in;
    size_t produced = size - z.avail_out;
    if (result == Z_STREAM_END) {
      // Another member may follow; anything else is an error that the next round finds.
      in_stream_ = false;
      ::inflateReset(&z);
    } else if (result != Z_OK && result != Z_BUF_ERROR) {
      return absl::DataLossError(StrCat("gzip: ", z.msg != nullptr ? z.msg : "damaged stream"));
    }
    if (produced > 0) return produced;
  }
}

absl::StatusOr<size_t> Decompressor::ReadZstd(char* buffer, size_t size) {
  bool flushing = false;  // the decoder may hold bytes although all input is taken
  while (true) {
    if (begin_ == end_ && !source_ended_) RETURN_IF_ERROR(Fill());
    if (begin_ == end_ && source_ended_) {
      if (!in_stream_) return size_t{0};
      if (flushing) return absl::DataLossError("zstd: the stream ends in the middle");
      flushing = true;
    }
    ZSTD_inBuffer in{input_.data() + begin_, end_ - begin_, 0};
    ZSTD_outBuffer out{buffer, size, 0};
    size_t result = ZSTD_decompressStream(codec_->zstd, &out, &in);
    begin_ += in.pos;
    if (ZSTD_isError(result)) {
      return absl::DataLossError(StrCat("zstd: ", ZSTD_getErrorName(result)));
    }
    in_stream_ = result != 0;
    if (out.pos > 0) return out.pos;
  }
}

absl::StatusOr<size_t> Decompressor::Read(char* buffer, size_t size) {
  if (kind_ == Kind::kUnknown) RETURN_IF_ERROR(Detect());
  switch (kind_) {
    case Kind::kGzip:
      return ReadGzip(buffer, size);
    case Kind::kZstd:
      return ReadZstd(buffer, size);
    default:
      return ReadPlain(buffer, size);
  }
}

}  // namespace keelson::images
