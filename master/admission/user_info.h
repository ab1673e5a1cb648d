// Who asks: the result of authentication.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace keelson::master {

inline constexpr std::string_view kGroupMasters = "system:masters";
inline constexpr std::string_view kGroupNodes = "system:nodes";
inline constexpr std::string_view kGroupAuthenticated = "system:authenticated";
inline constexpr std::string_view kGroupUnauthenticated = "system:unauthenticated";
inline constexpr std::string_view kUserAnonymous = "system:anonymous";
inline constexpr std::string_view kUserNodePrefix = "system:node:";
inline constexpr std::string_view kUserKubeProxy = "system:kube-proxy";

struct UserInfo {
  std::string name;
  std::vector<std::string> groups;

  bool InGroup(std::string_view group) const {
    return std::find(groups.begin(), groups.end(), group) != groups.end();
  }
  bool IsMaster() const { return InGroup(kGroupMasters); }
  // "node1" for user system:node:node1 in group system:nodes; "" for everyone else.
  std::string_view NodeName() const {
    std::string_view n = name;
    if (n.substr(0, kUserNodePrefix.size()) != kUserNodePrefix || !InGroup(kGroupNodes)) return {};
    return n.substr(kUserNodePrefix.size());
  }
};

}  // namespace keelson::master
