// URL paths of the resource API taken apart: /api/v1/... and /apis/GROUP/VERSION/.... Pure.
#pragma once

#include <string>
#include <string_view>

namespace keelson::master {

struct RequestPath {
  std::string group, version;  // "" and "v1" for /api/v1
  bool watch = false;          // the old /watch/ prefix
  std::string ns, resource, name, subresource;
};

// False when the path has not the form of a resource request (discovery paths have not).
bool ParseRequestPath(std::string_view path, RequestPath* out);

}  // namespace keelson::master
