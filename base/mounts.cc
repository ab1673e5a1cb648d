#include "base/mounts.h"

#include <absl/strings/str_split.h>

#include <algorithm>

#include "base/strings.h"

namespace keelson {

std::string UnescapeMountField(std::string_view field) {
  auto octal = [field](size_t at) { return at < field.size() && field[at] >= '0' && field[at] <= '7'; };
  std::string out;
  out.reserve(field.size());
  for (size_t i = 0; i < field.size(); ++i) {
    if (field[i] == '\\' && i + 1 < field.size() && field[i + 1] <= '3' && octal(i + 1) && octal(i + 2) &&
        octal(i + 3)) {
      out.push_back(
          static_cast<char>((field[i + 1] - '0') * 64 + (field[i + 2] - '0') * 8 + (field[i + 3] - '0')));
      i += 3;
    } else {
      out.push_back(field[i]);
    }
  }
  return out;
}

std::vector<std::string> ParseMountPoints(std::string_view mountinfo) {
  constexpr size_t kMountPoint = 4;
  std::vector<std::string> points;
  for (absl::string_view line : absl::StrSplit(Av(mountinfo), '\n', absl::SkipEmpty())) {
    std::vector<absl::string_view> fields = absl::StrSplit(line, ' ');
    if (fields.size() > kMountPoint && !fields[kMountPoint].empty() && fields[kMountPoint][0] == '/') {
      points.push_back(UnescapeMountField(Sv(fields[kMountPoint])));
    }
  }
  return points;
}

std::vector<std::string> MountPointsBelow(std::string_view mountinfo, const std::vector<std::string>& dirs) {
  std::vector<std::string> points = ParseMountPoints(mountinfo);
  std::erase_if(points, [&dirs](const std::string& point) {
    return std::none_of(dirs.begin(), dirs.end(),
                        [&point](const std::string& dir) { return point.starts_with(StrCat(dir, "/")); });
  });
  return points;
}

}  // namespace keelson
