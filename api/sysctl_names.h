// Names of sysctls in pods, as upstream reads them.
#pragma once

#include <string>
#include <string_view>

namespace keelson::api {

// The form with dots. Which separator comes first tells the form: "net/ipv4/conf/eth0.1/x" is
// "net.ipv4.conf.eth0/1.x".
std::string DottedSysctl(std::string name);
// Of the IPC namespace; `name` in the form with dots.
bool IsIpcSysctl(std::string_view name);
// Of the network namespace.
bool IsNetworkSysctl(std::string_view name);

}  // namespace keelson::api
