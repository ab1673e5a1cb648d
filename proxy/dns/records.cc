#include "proxy/dns/records.h"

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/strip.h>

#include <algorithm>
#include <map>

namespace keelson::proxy::dns {
namespace {

void AddEndpoints(const SliceInfo& slice, bool publish_not_ready, DnsService* service) {
  for (const EndpointInfo& info : slice.endpoints) {
    if (info.addresses.empty() || !(info.ready || publish_not_ready)) continue;
    absl::StatusOr<net::IpAddress> ip = net::IpAddress::Parse(info.addresses[0]);
    if (!ip.ok()) continue;
    std::string label = info.hostname.empty() ? DashedAddress(*ip) : absl::AsciiStrToLower(info.hostname);
    auto same = [&](const DnsEndpoint& e) { return e.ip == *ip && e.label == label; };
    auto found = std::find_if(service->endpoints.begin(), service->endpoints.end(), same);
    if (found == service->endpoints.end()) {
      service->endpoints.push_back({.label = label, .ip = *ip, .ports = {}});
      found = service->endpoints.end() - 1;
    }
    for (const EndpointPortInfo& port : slice.ports) {
      for (size_t i = 0; i < service->ports.size(); ++i) {
        const ServicePortInfo& wanted = service->ports[i];
        if (wanted.name != port.name || wanted.protocol != port.protocol) continue;
        std::pair<size_t, uint16_t> entry(i, port.port);
        if (std::find(found->ports.begin(), found->ports.end(), entry) == found->ports.end()) {
          found->ports.push_back(entry);
        }
      }
    }
  }
}

}  // namespace

std::string DashedAddress(const net::IpAddress& ip) {
  std::string text = ip.ToString();
  std::replace(text.begin(), text.end(), ip.is_v6() ? ':' : '.', '-');
  return text;
}

DnsRecords BuildDnsRecords(const ServiceInfos& services, const SliceInfos& slices, const DnsOptions& options,
                           uint32_t serial) {
  DnsRecords out;
  out.options = options;
  out.serial = serial;
  out.services.reserve(services.size());
  std::map<std::string, std::vector<const SliceInfo*>> by_service;
  for (const auto& [key, slice] : slices) by_service[slice.ns + "/" + slice.service].push_back(&slice);
  for (const auto& [key, info] : services) {
    std::string name = absl::StrCat(info.name, ".", info.ns);
    out.namespaces.insert(info.ns);
    DnsService service{.ports = info.ports};
    if (!info.external_name.empty()) {
      service.external_name = absl::AsciiStrToLower(std::string(absl::StripSuffix(info.external_name, ".")));
    } else if (info.headless()) {
      for (const SliceInfo* slice : by_service[key]) AddEndpoints(*slice, info.publish_not_ready, &service);
      for (const DnsEndpoint& endpoint : service.endpoints) {
        out.reverse.try_emplace(endpoint.ip, absl::StrCat(endpoint.label, ".", name, ".svc"));
      }
    } else {
      for (const std::string& text : info.cluster_ips) {
        absl::StatusOr<net::IpAddress> ip = net::IpAddress::Parse(text);
        if (!ip.ok()) continue;
        service.cluster_ips.push_back(*ip);
        out.reverse.insert_or_assign(*ip, absl::StrCat(name, ".svc"));
      }
    }
    out.services.insert_or_assign(name, std::move(service));
  }
  return out;
}

}  // namespace keelson::proxy::dns
