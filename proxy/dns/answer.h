// The deciding part of the DNS server: bytes of a query and the cluster's records -> bytes of the response,
// or the word that the name is not ours. Pure and total: any input gives a defined result within the bounds
// below. Source: RFC 1035, 2308 (negative answers), 2782 (SRV), 6891 (EDNS), 8482 (ANY), 9210 (truncation).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "proxy/dns/records.h"

namespace keelson::proxy::dns {

inline constexpr size_t kMaxQueryBytes = 4096;        // longer ones are malformed for us
inline constexpr size_t kClassicUdpBytes = 512;       // without EDNS
inline constexpr size_t kMaxUdpResponseBytes = 1232;  // fits an IPv6 path without fragments
inline constexpr size_t kMaxTcpResponseBytes = 65535;
inline constexpr int kMaxCnameDepth = 8;

struct AnswerOptions {
  bool tcp = false;
  bool can_forward = true;  // false: names of others are SERVFAIL
  uint64_t rotation = 0;    // where in the list of addresses the answer starts
};

struct DnsReply {
  enum Action {
    kRespond,  // send `wire`
    kForward,  // ask the upstream resolvers with the query as it is
    kChase,    // `wire` ends in a CNAME that leads outside: ask upstream `chase_query`, then MergeChase
    kDrop,     // not a query; answering would help an attacker
  };
  Action action = kDrop;
  std::string wire;
  std::string chase_query;
};

DnsReply Answer(std::string_view query, const DnsRecords& records, const AnswerOptions& options);

// The CNAME response completed with the answer section of what upstream said (id taken from `response`). An
// upstream answer that does not parse leaves `response` as it is.
std::string MergeChase(const std::string& response, std::string_view upstream, bool tcp);

// SERVFAIL or REFUSED for this query; "" when there is nothing to answer to.
std::string ServerFailure(std::string_view query);
std::string Refused(std::string_view query);

}  // namespace keelson::proxy::dns
