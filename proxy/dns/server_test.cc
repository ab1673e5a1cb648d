// Real sockets on loopback, the real loop.
#include "proxy/dns/server.h"

#include <gtest/gtest.h>

namespace keelson::proxy::dns {
namespace {
}  // namespace
}  // namespace keelson::proxy::dns
