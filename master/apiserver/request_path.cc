#include "master/apiserver/request_path.h"

#include <vector>

namespace keelson::master {
namespace {

std::vector<std::string> Split(std::string_view path) {
  std::vector<std::string> out;
  size_t start = 0;
  while (start <= path.size()) {
    size_t slash = path.find('/', start);
    if (slash == std::string_view::npos) slash = path.size();
    out.emplace_back(path.substr(start, slash - start));
    start = slash + 1;
  }
  return out;
}

}  // namespace

bool ParseRequestPath(std::string_view path, RequestPath* out) {
  *out = RequestPath();
  if (!path.starts_with("/")) return false;
  path.remove_prefix(1);
  if (path.ends_with("/")) path.remove_suffix(1);
  std::vector<std::string> parts = Split(path);
  for (const std::string& part : parts) {
    if (part.empty()) return false;
  }
  size_t i = 0;
  if (parts[0] == "api" && parts.size() >= 3) {
    out->version = parts[1];
    i = 2;
  } else if (parts[0] == "apis" && parts.size() >= 4) {
    out->group = parts[1];
    out->version = parts[2];
    i = 3;
  } else {
    return false;
  }
  if (parts[i] == "watch") {
    out->watch = true;
    if (++i == parts.size()) return false;
  }
  // namespaces/NS/RESOURCE... is inside a namespace; namespaces/NS and its own subresources are the
  // Namespace.
  if (parts[i] == "namespaces" && parts.size() - i >= 3 && parts[i + 2] != "status" &&
      parts[i + 2] != "finalize") {
    out->ns = parts[i + 1];
    i += 2;
  }
  out->resource = parts[i++];
  if (i < parts.size()) out->name = parts[i++];
  if (i < parts.size()) out->subresource = parts[i++];
  return i == parts.size();
}

}  // namespace keelson::master
