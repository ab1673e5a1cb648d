// Any bytes a client may send to the cluster's DNS: no crash, and never more bytes back than the bound.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "proxy/dns/answer.h"
#include "proxy/testing/builders.h"

namespace {

const keelson::proxy::dns::DnsRecords& Records() {
  using namespace keelson::proxy;
  static const auto* const records = [] {
    ServiceInfos services = {Service("default", "mysql", "10.96.10.1", {{"sql", Protocol::kTcp, 3306}}),
                             Service("default", "db", "None", {{"sql", Protocol::kTcp, 3306}}),
                             Service("default", "out", "", {})};
    services["default/out"].external_name = "example.com";
    SliceInfos slices = {
        {"s", Slice("default", "db", "sql", 3306, {{"10.244.0.5", "a"}, {"10.244.0.6", "a"}})}};
    return new dns::DnsRecords(dns::BuildDnsRecords(services, slices, {}, 1));
  }();
  return *records;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keelson::proxy::dns;
  std::string_view input(reinterpret_cast<const char*>(data), size);
  for (bool tcp : {false, true}) {
    DnsReply reply = Answer(input, Records(), {.tcp = tcp});
    if (reply.wire.size() > (tcp ? kMaxTcpResponseBytes : kMaxUdpResponseBytes)) abort();
    if (reply.action == DnsReply::kChase) (void)MergeChase(reply.wire, input, tcp);
  }
  (void)ServerFailure(input);
  return 0;
}
