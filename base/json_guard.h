// A look at untrusted JSON before a parser builds a tree of it: how deep it nests. A body of 4 MiB of "["
// would cost a tree-building parser a hundred times its size.
#pragma once

#include <string_view>

namespace keelson {

// True when arrays and objects of `json` nest deeper than `max_depth`. Says nothing about its being valid.
inline bool JsonDeeperThan(std::string_view json, int max_depth) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > max_depth) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

}  // namespace keelson
