#include "cri/cni/record.h"

#include <nlohmann/json.hpp>

#include "base/status.h"
#include "base/strings.h"
#include "cri/cni/json_depth.h"

namespace keelson::cri {
namespace {

using nlohmann::json;

constexpr const char* kKind = "keelson-cni-attachment-1";
// The parts were bounded when they were taken in; a record wraps them once.
constexpr int kMaxRecordDepth = kMaxCniJsonDepth + 8;

std::string DumpRecord(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string String(const json& object, const char* key) {
  auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : "";
}

std::vector<std::string> Strings(const json& object, const char* key) {
  std::vector<std::string> out;
  auto it = object.find(key);
  if (it == object.end() || !it->is_array()) return out;
  for (const json& entry : *it) {
    if (entry.is_string()) out.push_back(entry.get<std::string>());
  }
  return out;
}

template <class N>
N Number(const json& object, const char* key) {
  auto it = object.find(key);
  return it != object.end() && it->is_number_integer() ? it->get<N>() : N{};
}

json EncodePorts(const std::vector<CniPortMapping>& ports) {
  json out = json::array();
  for (const CniPortMapping& p : ports) {
    out.push_back({{"hostPort", p.host_port},
                   {"containerPort", p.container_port},
                   {"protocol", p.protocol},
                   {"hostIP", p.host_ip}});
  }
  return out;
}

std::vector<CniPortMapping> DecodePorts(const json& record) {
  std::vector<CniPortMapping> out;
  auto it = record.find("portMappings");
  if (it == record.end() || !it->is_array()) return out;
  for (const json& p : *it) {
    if (!p.is_object()) continue;
    out.push_back({Number<int32_t>(p, "hostPort"), Number<int32_t>(p, "containerPort"), String(p, "protocol"),
                   String(p, "hostIP")});
  }
  return out;
}

}  // namespace

std::string EncodeCniRecord(const CniRecord& r) {
  const CniAttachment& a = r.attachment;
  json out = {{"kind", kKind},
              {"containerID", a.container_id},
              {"ifName", a.interface},
              {"netns", a.netns_path},
              {"podName", a.pod_name},
              {"podNamespace", a.pod_namespace},
              {"podUID", a.pod_uid},
              {"portMappings", EncodePorts(a.port_mappings)},
              {"ingressRateBits", a.ingress_rate_bits},
              {"egressRateBits", a.egress_rate_bits},
              {"cgroupPath", a.cgroup_path},
              {"dnsServers", a.dns_servers},
              {"dnsSearches", a.dns_searches},
              {"dnsOptions", a.dns_options},
              {"added", r.added},
              {"config", json::parse(r.network.json, nullptr, /*allow_exceptions=*/false)}};
  // As text: it goes to the plugins the way it came.
  if (!r.result_json.empty()) out["result"] = r.result_json;
  return DumpRecord(out);
}

absl::StatusOr<CniRecord> DecodeCniRecord(std::string_view text) {
  if (text.size() > kMaxCniRecordBytes) return absl::DataLossError("network record: too long");
  if (!CheckJsonDepth(text, kMaxRecordDepth).ok())
    return absl::DataLossError("network record: nested too deep");
  json value = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!value.is_object() || String(value, "kind") != kKind) {
    return absl::DataLossError("network record: not one of ours");
  }
  CniRecord r;
  CniAttachment& a = r.attachment;
  a.container_id = String(value, "containerID");
  a.interface = String(value, "ifName");
  a.netns_path = String(value, "netns");
  a.pod_name = String(value, "podName");
  a.pod_namespace = String(value, "podNamespace");
  a.pod_uid = String(value, "podUID");
  a.port_mappings = DecodePorts(value);
  a.ingress_rate_bits = Number<uint64_t>(value, "ingressRateBits");
  a.egress_rate_bits = Number<uint64_t>(value, "egressRateBits");
  a.cgroup_path = String(value, "cgroupPath");
  a.dns_servers = Strings(value, "dnsServers");
  a.dns_searches = Strings(value, "dnsSearches");
  a.dns_options = Strings(value, "dnsOptions");
  if (absl::Status valid = ValidateCniAttachment(a); !valid.ok()) {
    return absl::DataLossError(StrCat("network record: ", Sv(valid.message())));
  }
  auto added = value.find("added");
  r.added = added != value.end() && added->is_boolean() && added->get<bool>();
  auto config = value.find("config");
  if (config == value.end()) return absl::DataLossError("network record: no config");
  absl::StatusOr<CniNetwork> network = ParseCniNetwork(DumpRecord(*config));
  if (!network.ok())
    return absl::DataLossError(StrCat("network record: config: ", Sv(network.status().message())));
  r.network = *std::move(network);
  r.result_json = String(value, "result");
  if (!r.result_json.empty() && !ParseCniResult(r.result_json).ok())
    return absl::DataLossError("network record: bad result");
  return r;
}

std::string CniRecordName(const std::string& container_id, const std::string& interface) {
  return StrCat(container_id, "@", interface, ".json");
}

}  // namespace keelson::cri
