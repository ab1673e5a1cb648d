#include "cri/server/record_store.h"

#include <absl/strings/ascii.h>
#include <unistd.h>
#include <zlib.h>

#include <cerrno>
#include <cstdio>

#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"
#include "base/version_file.h"

namespace keelson::cri {

namespace {

// Magic with the format's number, then CRC-32 of the rest, little endian.
constexpr std::string_view kMagic = "krec1\n";
constexpr std::string_view kMagicStem = "krec";
constexpr size_t kCrcBytes = 4;
constexpr std::string_view kSuffix = ".rec";

uint32_t Crc(std::string_view bytes) {
  return static_cast<uint32_t>(::crc32(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

absl::Status Write(const std::string& dir, const std::string& id, const google::protobuf::MessageLite& m) {
  return PutVersion(StrCat(dir, "/", id, kSuffix), EncodeRecord(m));
}

absl::Status Unlink(const std::string& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return ErrnoStatus(errno, StrCat("remove ", path));
  return absl::OkStatus();
}

template <class Record>
absl::StatusOr<std::vector<Record>> Load(const std::string& dir, std::vector<std::string>* broken) {
  std::vector<Record> out;
  auto names = FolderNames(dir);
  if (!names.ok()) return absl::UnavailableError(names.status().message());
  for (const std::string& name : *names) {
    std::string path = StrCat(dir, "/", name);
    if (!std::string_view(name).ends_with(kSuffix)) {
      // What an interrupted write left.
      if (name.find(".broken") == std::string::npos) RETURN_IF_ERROR(Unlink(path));
      continue;
    }
    absl::StatusOr<std::string> bytes = ReadVersion(path, kMaxRecordBytes);
    // A damaged one is set aside. Of one that cannot be read now (no descriptors left, a disk error) nothing
    // is known: to throw it away would be to lose a running container.
    if (!bytes.ok() && !absl::IsDataLoss(bytes.status())) return Annotate(bytes.status(), path);
    absl::Status status = bytes.status();
    Record record;
    if (status.ok()) status = DecodeRecord(*bytes, &record);
    if (status.ok() && StrCat(record.id(), kSuffix) != name) status = absl::DataLossError("names another id");
    // After a downgrade: as above.
    if (absl::IsUnimplemented(status)) return Annotate(status, path);
    if (!status.ok()) {
      broken->push_back(StrCat(path, ": ", status.message()));
      if (::rename(path.c_str(), (path + ".broken").c_str()) != 0)
        return ErrnoStatus(errno, StrCat("rename ", path));
      continue;
    }
    out.push_back(std::move(record));
  }
  return out;
}

}  // namespace

std::string EncodeRecord(const google::protobuf::MessageLite& message) {
  std::string body = message.SerializeAsString();
  uint32_t crc = Crc(body);
  std::string out(kMagic);
  for (size_t i = 0; i < kCrcBytes; ++i) out.push_back(static_cast<char>(crc >> (8 * i)));
  return out + body;
}

absl::Status DecodeRecord(std::string_view bytes, google::protobuf::MessageLite* message) {
  if (!bytes.starts_with(kMagic)) {
    bool other_format = bytes.size() >= kMagic.size() && bytes.starts_with(kMagicStem) &&
                        absl::ascii_isdigit(static_cast<unsigned char>(bytes[kMagicStem.size()])) &&
                        bytes[kMagicStem.size() + 1] == '\n';
    if (other_format) return absl::UnimplementedError("written by a newer version");
    return absl::DataLossError("not a record");
  }
  bytes.remove_prefix(kMagic.size());
  if (bytes.size() < kCrcBytes) return absl::DataLossError("record cut short");
  uint32_t crc = 0;
  for (size_t i = 0; i < kCrcBytes; ++i)
    crc |= static_cast<uint32_t>(static_cast<uint8_t>(bytes[i])) << (8 * i);
  bytes.remove_prefix(kCrcBytes);
  if (Crc(bytes) != crc) return absl::DataLossError("record checksum differs");
  if (!message->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return absl::DataLossError("record does not parse");
  }
  return absl::OkStatus();
}

absl::StatusOr<RecordStore> RecordStore::Open(const std::string& dir) {
  RETURN_IF_ERROR(MakeDirs(dir + "/sandboxes", 0700));
  RETURN_IF_ERROR(MakeDirs(dir + "/containers", 0700));
  return RecordStore(dir);
}

absl::Status RecordStore::Put(const records::Sandbox& record) {
  return Write(dir_ + "/sandboxes", record.id(), record);
}
absl::Status RecordStore::Put(const records::Container& record) {
  return Write(dir_ + "/containers", record.id(), record);
}
absl::Status RecordStore::RemoveSandbox(const std::string& id) {
  return Unlink(StrCat(dir_, "/sandboxes/", id, kSuffix));
}
absl::Status RecordStore::RemoveContainer(const std::string& id) {
  return Unlink(StrCat(dir_, "/containers/", id, kSuffix));
}
absl::StatusOr<std::vector<records::Sandbox>> RecordStore::LoadSandboxes(std::vector<std::string>* broken) {
  return Load<records::Sandbox>(dir_ + "/sandboxes", broken);
}
absl::StatusOr<std::vector<records::Container>> RecordStore::LoadContainers(
    std::vector<std::string>* broken) {
  return Load<records::Container>(dir_ + "/containers", broken);
}

}  // namespace keelson::cri
