// A record file of `keelson cri`: any bytes give an error or a record that is written back to the same
// meaning; and records made of any bytes are read back, but never once they were changed.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/version_file.h"
#include "cri/server/record_store.h"

namespace {

using keelson::cri::DecodeRecord;
using keelson::cri::EncodeRecord;

template <class Record>
void Check(std::string_view bytes) {
  Record record;
  if (DecodeRecord(bytes, &record).ok()) {
    Record again;
    if (!DecodeRecord(EncodeRecord(record), &again).ok()) abort();
    if (EncodeRecord(again) != EncodeRecord(record)) abort();
  }
  Record parsed;
  if (!parsed.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return;
  std::string file = EncodeRecord(parsed);
  if (!DecodeRecord(file, &record).ok()) abort();
  for (size_t at = 0; at < file.size(); at += 1 + file.size() / 16) {
    std::string changed = file;
    changed[at] = static_cast<char>(changed[at] ^ 0x20);
    if (DecodeRecord(changed, &record).ok()) abort();
    if (DecodeRecord(std::string_view(file).substr(0, at), &record).ok()) abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  // A version found in a file of any bytes lies in it.
  absl::StatusOr<std::string_view> last = keelson::LastVersion(bytes);
  if (last.ok() && !last->empty() && (last->data() < bytes.data() || last->end() > bytes.end())) abort();
  Check<keelson::cri::records::Sandbox>(bytes);
  Check<keelson::cri::records::Container>(bytes);
  return 0;
}
