#include "api/sysctl_names.h"

namespace keelson::api {

std::string DottedSysctl(std::string name) {
  const size_t separator = name.find_first_of("./");
  if (separator == std::string::npos || name[separator] == '.') return name;
  for (char& c : name) c = c == '/' ? '.' : c == '.' ? '/' : c;
  return name;
}

bool IsIpcSysctl(std::string_view name) {
  return name == "kernel.sem" || name.starts_with("kernel.shm") || name.starts_with("kernel.msg") ||
         name.starts_with("fs.mqueue.");
}

bool IsNetworkSysctl(std::string_view name) { return name.starts_with("net."); }

}  // namespace keelson::api
