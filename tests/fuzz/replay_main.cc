// The driver of a fuzz target without libFuzzer: replays its corpus, then mutations of it that depend on
// nothing but the seed, so that every test run sees the same inputs.
//
//   foo_fuzz_replay CORPUS_DIR [MUTATIONS]   every file, then so many mutations, or as many as fit in kBudget
//   foo_fuzz_replay FILE                     one input: to look at a crash
//
// The input under test lies in $TMPDIR/<program>.input: what is there after a crash is what crashed.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

namespace fs = std::filesystem;

constexpr uint64_t kSeed = 20260101;
constexpr int kDefaultMutations = 3000;
constexpr std::chrono::milliseconds kBudget(1500);  // a slow machine or a sanitizer ends earlier
constexpr size_t kMaxInputBytes = 64 << 10;

// tidy: allow clock: a bound on real time, there is no Env here
std::chrono::steady_clock::time_point Now() { return std::chrono::steady_clock::now(); }

std::string Read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

// A file mapped into memory: it has the last input even when the program dies in the middle of it.
class LastInput {
 public:
  explicit LastInput(const std::string& path) : path_(path) {
    int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || ::ftruncate(fd, kMaxInputBytes) != 0) return;
    void* map = ::mmap(nullptr, kMaxInputBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map != MAP_FAILED) map_ = static_cast<char*>(map);
    fd_ = fd;
  }
  // All went well: nothing to keep.
  ~LastInput() {
    if (map_ != nullptr) ::munmap(map_, kMaxInputBytes);
    if (fd_ >= 0) ::close(fd_);
    ::unlink(path_.c_str());
  }
  void Set(const std::string& input) {
    if (map_ == nullptr) return;
    std::memcpy(map_, input.data(), std::min(input.size(), kMaxInputBytes));
    std::memset(map_ + std::min(input.size(), kMaxInputBytes), 0,
                last_ > input.size() ? last_ - input.size() : 0);
    last_ = std::min(input.size(), kMaxInputBytes);
  }

 private:
  const std::string path_;
  int fd_ = -1;
  char* map_ = nullptr;
  size_t last_ = 0;
};

void Run(LastInput& last, const std::string& input) {
  last.Set(input);
  // A copy of exactly this size, so that a sanitizer sees every byte read past it.
  std::vector<uint8_t> exact(input.begin(), input.end());
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

std::string Mutate(const std::vector<std::string>& corpus, std::mt19937_64& random) {
  static const char* const kTokens[] = {"\"",
                                        "{",
                                        "}",
                                        "[",
                                        "]",
                                        ":",
                                        ",",
                                        "null",
                                        "-",
                                        "\n",
                                        " ",
                                        "0",
                                        "9223372036854775808",
                                        "1e9",
                                        "\\u0000",
                                        "%00",
                                        "..",
                                        "/",
                                        "\xff",
                                        "\xc0\x80",
                                        "k8s"};
  auto uniform = [&](size_t bound) { return static_cast<size_t>(random() % bound); };
  std::string out = corpus[uniform(corpus.size())];
  for (size_t rounds = 1 + uniform(4); rounds > 0; --rounds) {
    size_t at = uniform(out.size() + 1);
    switch (uniform(8)) {
      case 0:
        if (at < out.size()) out[at] = static_cast<char>(out[at] ^ (1 << uniform(8)));
        break;
      case 1:
        if (at < out.size()) out[at] = static_cast<char>(random());
        break;
      case 2:
        out.erase(at, 1 + uniform(16));
        break;
      case 3:
        out.insert(at, 1, static_cast<char>(random()));
        break;
      case 4:
        out.insert(at, kTokens[uniform(std::size(kTokens))]);
        break;
      case 5:  // a piece of its own again
        out.insert(at, out.substr(uniform(out.size() + 1), 1 + uniform(32)));
        break;
      case 6: {  // the head of one and the tail of another
        const std::string& other = corpus[uniform(corpus.size())];
        out = out.substr(0, at) + other.substr(uniform(other.size() + 1));
        break;
      }
      case 7:
        out.resize(at);
        break;
    }
  }
  if (out.size() > kMaxInputBytes) out.resize(kMaxInputBytes);
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s CORPUS_DIR|FILE [MUTATIONS]\n", argv[0]);
    return 2;
  }
  std::error_code ignored;
  LastInput last(
      (fs::temp_directory_path(ignored) / (fs::path(argv[0]).filename().string() + ".input")).string());
  if (fs::is_regular_file(argv[1])) {
    Run(last, Read(argv[1]));
    return 0;
  }
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(argv[1], ignored)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  if (files.empty()) {
    std::fprintf(stderr, "%s: no corpus\n", argv[1]);
    return 1;
  }
  std::vector<std::string> corpus;
  for (const fs::path& file : files) {
    corpus.push_back(Read(file));
    Run(last, corpus.back());
  }
  Run(last, "");
  const int mutations = argc > 2 ? std::atoi(argv[2]) : kDefaultMutations;
  const auto end = Now() + kBudget;
  std::mt19937_64 random(kSeed);
  int done = 0;
  while (done < mutations && (argc > 2 || Now() < end)) {
    Run(last, Mutate(corpus, random));
    ++done;
  }
  std::printf("%zu files, %d mutations\n", files.size(), done);
  return 0;
}
