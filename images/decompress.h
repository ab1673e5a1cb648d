// Decompressor: what a gzip or zstd stream holds, or the bytes themselves when it is neither; told apart by
// the first bytes, because media types lie.
#pragma once

#include <absl/status/statusor.h>

#include <cstddef>
#include <memory>
#include <string>

#include "images/byte_source.h"

namespace keelson::images {

// Frames that ask for a larger window are refused: it is memory. 2^27 is what zstd itself takes.
inline constexpr int kMaxZstdWindowLog = 27;

class Decompressor : public ByteSource {
 public:
  enum class Kind { kUnknown, kNone, kGzip, kZstd };

  explicit Decompressor(ByteSource* source);
  ~Decompressor() override;
  // DataLoss: damaged or cut stream, bytes behind its end. 0 only when the source has ended too.
  absl::StatusOr<size_t> Read(char* buffer, size_t size) override;
  Kind kind() const { return kind_; }

 private:
  struct Codec;
  absl::Status Detect();
  absl::Status Fill();
  absl::StatusOr<size_t> ReadPlain(char* buffer, size_t size);
  absl::StatusOr<size_t> ReadGzip(char* buffer, size_t size);
  absl::StatusOr<size_t> ReadZstd(char* buffer, size_t size);

  ByteSource* source_;
  Kind kind_ = Kind::kUnknown;
  std::string input_;
  size_t begin_ = 0, end_ = 0;  // of input_
  bool source_ended_ = false;
  bool in_stream_ = false;  // a member or frame has begun and not ended
  std::unique_ptr<Codec> codec_;
};

}  // namespace keelson::images
