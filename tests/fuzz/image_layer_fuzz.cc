// Layers, compressed or not, unpacked below a directory beside a file that must stay as it is. The first byte
// chooses how.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/fd.h"
#include "images/unpack.h"

namespace {

using namespace keelson::images;  // NOLINT

void Require(bool holds) {
  if (!holds) std::abort();
}

class Bytes : public ByteSource {
 public:
  Bytes(const uint8_t* data, size_t size, size_t step) : data_(data), size_(size), step_(step) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t size) override {
    size_t n = std::min({size, size_, step_});
    std::copy(data_, data_ + n, buffer);
    data_ += n;
    size_ -= n;
    return n;
  }

 private:
  const uint8_t* data_;
  size_t size_, step_;
};

// TOP/victim and TOP/layers/N for each input; TOP goes at the end of the process.
struct Place {
  Place() {
    const char* tmp = std::getenv("TMPDIR");
    std::string name = std::string(tmp == nullptr ? "/tmp" : tmp) + "/keelson-layer-fuzz.XXXXXX";
    Require(::mkdtemp(name.data()) != nullptr);
    top = name;
    Require(keelson::WriteFileAtomic(top + "/victim", "safe", 0644, false).ok());
    fd = *keelson::OpenFile(top, O_RDONLY | O_DIRECTORY);
  }
  ~Place() { (void)keelson::RemoveTree(top); }
  std::string top;
  keelson::Fd fd;
};

size_t Entries(int fd) {
  DIR* dir = ::fdopendir(::openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  size_t count = 0;
  while (::readdir(dir) != nullptr) ++count;
  ::closedir(dir);
  return count;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Place place;
  if (size == 0) return 0;
  UnpackOptions options;
  options.tree.set_owner = false;
  options.tree.allow_devices = false;
  options.tree.opaque_xattr = "user.keelson.opaque";
  options.files_only = (data[0] & 1) != 0;
  options.max_entries = 200;
  size_t step = (data[0] & 2) != 0 ? 7 : 1 << 20;
  Require(::mkdirat(place.fd.get(), "layer", 0755) == 0);
  keelson::Fd root(::openat(place.fd.get(), "layer", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  Bytes source(data + 1, size - 1, step);
  ByteBudget budget(1 << 20);
  auto layer = UnpackLayer(&source, root.get(), &budget, options);
  if (layer.ok()) Require(layer->blob_bytes == size - 1);
  Require(*keelson::ReadFile(place.top + "/victim") == "safe");
  Require(Entries(place.fd.get()) == 4);  // ".", "..", victim, layer
  // What a layer makes of modes must not keep us from removing it.
  Require(RemoveTreeAt(place.fd.get(), "layer").ok());
  return 0;
}
