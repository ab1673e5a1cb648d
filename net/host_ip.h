// The address of a host port (ContainerPort.hostIP), as far as two pods of one node are concerned. Pure.
#pragma once

#include <string>
#include <string_view>

#include "net/address.h"

namespace keelson::net {

// One text for each address: "" for every address of the node, which is also what 0.0.0.0 means here
// (upstream's scheduler, HostPortInfo); "::" for every IPv6 address; an IPv4 address in IPv6 form as IPv4.
// What is no address stays as it is.
std::string CanonicalHostIp(std::string_view host_ip);

// Whether one port and protocol cannot be given out on both. Canonical texts. Where upstream's scheduler
// takes "::" for an address among others, it stands for all of its family here: the rules of a node would
// collide.
bool HostIpsOverlap(std::string_view a, std::string_view b);

// The IPv4 address that an IPv6 one of the form ::ffff:a.b.c.d stands for; any other is itself.
IpAddress Unmapped(const IpAddress& address);

}  // namespace keelson::net
