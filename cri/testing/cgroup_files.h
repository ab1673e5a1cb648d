// CgroupFiles: the control files of one cgroup as text and numbers, on v1 and v2. For live tests.
#pragma once

#include <absl/strings/ascii.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/strings.h"

namespace keelson::cri {

class CgroupFiles {
 public:
  // Below each hierarchy; no leading slash.
  explicit CgroupFiles(std::string path) : path_(std::move(path)) {}

  static bool V2() { return std::filesystem::exists("/sys/fs/cgroup/cgroup.controllers"); }
  // v2 has no folders of controllers.
  std::string Path(const std::string& controller, const std::string& file) const {
    return StrCat("/sys/fs/cgroup/", V2() ? "" : controller + "/", path_, "/", file);
  }
  bool Has(const std::string& controller, const std::string& file) const {
    return std::filesystem::exists(Path(controller, file));
  }
  // Without white space at both ends; why not, if it cannot be read.
  std::string Read(const std::string& controller, const std::string& file) const {
    absl::StatusOr<std::string> text = ReadFile(Path(controller, file));
    if (!text.ok()) return text.status().ToString();
    return std::string(absl::StripAsciiWhitespace(*text));
  }
  // 0 when it is none.
  uint64_t Number(const std::string& controller, const std::string& file) const {
    uint64_t number = 0;
    return absl::SimpleAtoi(Read(controller, file), &number) ? number : 0;
  }
  // Of a file of lines "KEY NUMBER"; 0 when there is no such key.
  uint64_t Keyed(const std::string& controller, const std::string& file, const std::string& key) const {
    for (absl::string_view line : absl::StrSplit(Read(controller, file), '\n')) {
      std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
      uint64_t number = 0;
      if (words.size() == 2 && words[0] == key && absl::SimpleAtoi(words[1], &number)) return number;
    }
    return 0;
  }
  uint64_t CpuNs() const {
    return V2() ? Keyed("cpu", "cpu.stat", "usage_usec") * 1000 : Number("cpuacct", "cpuacct.usage");
  }
  // Of memory.stat, with descendants: "pgfault".
  uint64_t Memory(const std::string& key) const {
    return Keyed("memory", "memory.stat", V2() ? key : "total_" + key);
  }

 private:
  std::string path_;
};

}  // namespace keelson::cri
