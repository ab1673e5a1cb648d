// KnownVulnerabilities: which published holes a version of runc or crun has. Facts from the projects'
// advisories and release notes; a distribution that repairs a hole under an old number is listed where its
// package revision tells.
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>

#include <array>
#include <vector>

#include "base/strings.h"
#include "oci/runtime.h"

namespace keelson::oci {
namespace {

// 1.0.0-rc93 is before 1.0.0: a release counts as candidate kRelease.
constexpr int kRelease = 1 << 20;
struct Version {
  std::array<int, 3> number = {0, 0, 0};
  int candidate = kRelease;
  int debian12_update = 0;  // N of "+deb12uN"
  auto operator<=>(const Version& other) const {
    if (auto order = number <=> other.number; order != 0) return order;
    return candidate <=> other.candidate;
  }
};

bool TakeNumber(std::string_view* text, int* out) {
  size_t end = text->find_first_not_of("0123456789");
  if (end == std::string_view::npos) end = text->size();
  if (end == 0 || !absl::SimpleAtoi(Av(text->substr(0, end)), out)) return false;
  text->remove_prefix(end);
  return true;
}

// False when it does not start like a version.
bool ParseVersion(std::string_view text, Version* out) {
  size_t debian = text.find("+deb12u");
  if (debian != std::string_view::npos) {
    std::string_view revision = text.substr(debian + 7);
    TakeNumber(&revision, &out->debian12_update);
  }
  for (size_t i = 0; i < out->number.size(); ++i) {
    if (i > 0) {
      if (text.empty() || text.front() != '.') break;
      text.remove_prefix(1);
    }
    if (!TakeNumber(&text, &out->number[i])) return false;
  }
  for (std::string_view mark : {"-rc.", "-rc", "~rc.", "~rc"}) {
    if (text.substr(0, mark.size()) == mark) {
      text.remove_prefix(mark.size());
      if (!TakeNumber(&text, &out->candidate)) out->candidate = kRelease;
      break;
    }
  }
  return true;
}

// Affected: a version in one of the ranges [from, to). "" : from the beginning.
struct Range {
  std::string_view from, to;
};
struct Hole {
  std::string_view runtime, cve, what, fixed_in;
  std::vector<Range> affected;
  int fixed_debian12_update = 0;  // of 1.1.5+ds1; 0: not
};

const std::vector<Hole>& Holes() {
  static const std::vector<Hole> kHoles = {
      {"runc",
       "CVE-2019-5736",
       "a container can overwrite the runtime's binary on the host",
       "1.0.0-rc7",
       {{"", "1.0.0-rc7"}}},
      {"runc",
       "CVE-2019-16884",
       "AppArmor can be bypassed by an image that mounts over /proc",
       "1.0.0-rc9",
       {{"", "1.0.0-rc9"}}},
      {"runc",
       "CVE-2021-30465",
       "volume mounts can be led out of the container by a symlink",
       "1.0.0-rc95",
       {{"", "1.0.0-rc95"}}},
      {"runc", "CVE-2022-29162", "exec gives the command inheritable capabilities", "1.1.2", {{"", "1.1.2"}}},
      {"runc",
       "CVE-2023-27561",
       "/proc can be replaced by a symlink in the image",
       "1.1.5",
       {{"1.0.0-rc95", "1.1.5"}}},
      {"runc",
       "CVE-2023-28642",
       "AppArmor can be bypassed when /proc is a symlink",
       "1.1.5",
       {{"", "1.1.5"}}},
      {"runc",
       "CVE-2024-21626",
       "a leaked descriptor lets a working directory lead out of the container",
       "1.1.12",
       {{"1.0.0-rc93", "1.1.12"}},
       1},
      {"runc",
       "CVE-2024-45310",
       "empty files can be created on the host through a shared volume",
       "1.1.14",
       {{"", "1.1.14"}, {"1.2.0-rc1", "1.2.0-rc3"}}},
      {"runc",
       "CVE-2025-31133",
       "masked paths can be replaced by other files of the host",
       "1.2.8, 1.3.3",
       {{"", "1.2.8"}, {"1.3.0-rc1", "1.3.3"}, {"1.4.0-rc1", "1.4.0-rc3"}}},
      {"runc",
       "CVE-2025-52565",
       "the mount of /dev/console can be led to another file",
       "1.2.8, 1.3.3",
       {{"1.0.0-rc3", "1.2.8"}, {"1.3.0-rc1", "1.3.3"}, {"1.4.0-rc1", "1.4.0-rc3"}}},
      {"runc",
       "CVE-2025-52881",
       "writes to /proc can be led to other files of the host",
       "1.2.8, 1.3.3",
       {{"", "1.2.8"}, {"1.3.0-rc1", "1.3.3"}, {"1.4.0-rc1", "1.4.0-rc3"}}},
      {"runc",
       "CVE-2026-41579",
       "an image with /dev as a symlink can make links on the host",
       "1.3.6, 1.4.3",
       {{"", "1.3.6"}, {"1.4.0-rc1", "1.4.3"}, {"1.5.0-rc1", "1.5.0-rc3"}}},
      {"crun",
       "CVE-2019-5736",
       "a container can overwrite the runtime's binary on the host",
       "0.3",
       {{"", "0.3"}}},
      {"crun",
       "CVE-2019-16884",
       "AppArmor and SELinux can be bypassed by an image that mounts over /proc",
       "0.10",
       {{"", "0.10"}}},
      {"crun",
       "CVE-2019-18837",
       "a symlink in the image can be followed out of the container",
       "0.10.5",
       {{"", "0.10.5"}}},
      {"crun", "CVE-2022-27650", "exec gives the command inheritable capabilities", "1.4.4", {{"", "1.4.4"}}},
      {"crun",
       "CVE-2025-24965",
       "the krun handler can write outside of the container",
       "1.20",
       {{"", "1.20"}}},
      {"crun", "CVE-2026-30892", "exec --user 1 runs as user 0", "1.27", {{"1.19", "1.27"}}},
      {"crun",
       "CVE-2026-47766",
       "an image with /dev as a symlink can make devices on the host",
       "1.28",
       {{"", "1.28"}}},
  };
  return kHoles;
}

bool Affected(const Hole& hole, const Version& version) {
  if (hole.fixed_debian12_update != 0 && version.debian12_update >= hole.fixed_debian12_update) return false;
  for (const Range& range : hole.affected) {
    Version from, to;
    ParseVersion(range.to, &to);
    if (!(version < to)) continue;
    if (range.from.empty()) return true;
    ParseVersion(range.from, &from);
    if (!(version < from)) return true;
  }
  return false;
}

}  // namespace

std::vector<std::string> KnownVulnerabilities(const std::string& name, const std::string& version) {
  std::vector<std::string> out;
  Version parsed;
  if (!ParseVersion(version, &parsed)) return out;
  for (const Hole& hole : Holes()) {
    if (hole.runtime != name || !Affected(hole, parsed)) continue;
    out.push_back(StrCat(name, " ", version, ": ", hole.cve, ": ", hole.what, "; fixed in ", hole.fixed_in));
  }
  return out;
}

}  // namespace keelson::oci
