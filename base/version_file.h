// A file that keeps a small document by appending: the last whole version in it counts.
//
// A document replaced by temporary file and rename(2) frees an inode each time, and ext4 steps over every
// inode freed in the last minutes when it looks for a new one: with some thousands of them a file takes
// milliseconds to make. An append takes none. A write cut short by a crash leaves a torn tail, which readers
// pass over.
//
// Layout: "krec2\n", then per version: length and CRC-32 of the document (both 32 bit, little endian), the
// document, "\nend". A file that begins otherwise is one document, as WriteFileAtomic leaves it.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>
#include <string_view>

namespace keelson {

// Makes `document` (at most 4 GiB) the last version, mode 0600 when the file is new. The file is written anew
// when it is torn, or longer than both 64 KiB and twice the new version. Not flushed to the disk.
// The caller keeps writers of one path apart. On an error the version before still counts.
absl::Status PutVersion(const std::string& path, std::string_view document);

// The last whole version in the bytes of a file. DataLoss: there is none. Pure.
absl::StatusOr<std::string_view> LastVersion(std::string_view file);

// The last whole version in a file of at most max_bytes (else ResourceExhausted).
absl::StatusOr<std::string> ReadVersion(const std::string& path, size_t max_bytes);

}  // namespace keelson
