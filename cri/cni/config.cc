#include "cri/cni/config.h"

#include <absl/strings/ascii.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_replace.h>
#include <absl/strings/str_split.h>

#include <array>
#include <nlohmann/json.hpp>
#include <optional>

#include "api/quantity.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/cni/json_depth.h"
#include "net/address.h"

namespace keelson::cri {
namespace {

using nlohmann::json;

constexpr size_t kMaxNameBytes = 253;
constexpr size_t kMaxInterfaceBytes = 15;  // IFNAMSIZ without the end
constexpr size_t kMaxResultIps = 64;
constexpr size_t kMaxQuotedBytes = 80;
constexpr int64_t kMinBandwidthBits = 1000, kMaxBandwidthBits = 1'000'000'000'000'000;  // upstream's
// Takes no part in shaping: 2 Gbit of burst is as good as none (the plugin wants a value).
constexpr uint64_t kUnlimitedBurstBits = 2147483647;
// Newest first.
constexpr std::array<std::string_view, 7> kVersions = {"1.1.0", "1.0.0", "0.4.0", "0.3.1",
                                                       "0.3.0", "0.2.0", "0.1.0"};
constexpr std::string_view kDefaultVersion = "0.1.0";  // what a configuration without one means

absl::StatusOr<json> ParseObject(std::string_view text, size_t max_bytes, std::string_view what) {
  if (text.size() > max_bytes) {
    return absl::InvalidArgumentError(StrCat(what, ": longer than ", max_bytes, " bytes"));
  }
  RETURN_IF_ERROR(Annotate(CheckJsonDepth(text, kMaxCniJsonDepth), what));
  json value = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) return absl::InvalidArgumentError(StrCat(what, ": not JSON"));
  if (!value.is_object()) return absl::InvalidArgumentError(StrCat(what, ": not a JSON object"));
  return value;
}

std::string Dump(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

// nullopt: absent or null. InvalidArgument: another type.
absl::StatusOr<std::optional<std::string>> GetString(const json& object, const char* key) {
  auto it = object.find(key);
  if (it == object.end() || it->is_null()) return std::optional<std::string>();
  if (!it->is_string()) return absl::InvalidArgumentError(StrCat(key, ": must be a string"));
  return std::optional<std::string>(it->get<std::string>());
}

absl::StatusOr<bool> GetBool(const json& object, const char* key) {
  auto it = object.find(key);
  if (it == object.end() || it->is_null()) return false;
  if (it->is_boolean()) return it->get<bool>();
  // Written as a string by some.
  if (it->is_string() && (*it == "true" || *it == "false")) return *it == "true";
  return absl::InvalidArgumentError(StrCat(key, ": must be true or false"));
}

bool IsNameChar(char c, bool first) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || (!first && (c == '_' || c == '.' || c == '-'));
}
bool IsName(std::string_view name) {
  if (name.empty() || name.size() > kMaxNameBytes) return false;
  for (size_t i = 0; i < name.size(); ++i) {
    if (!IsNameChar(name[i], i == 0)) return false;
  }
  return true;
}

std::string Quoted(std::string_view text) {
  std::string out = "\"";
  for (char c : text.substr(0, kMaxQuotedBytes))
    out += absl::ascii_isprint(static_cast<unsigned char>(c)) ? c : '?';
  return out + "\"";
}

absl::StatusOr<CniPlugin> ParsePlugin(const json& object) {
  if (!object.is_object()) return absl::InvalidArgumentError("must be an object");
  CniPlugin plugin;
  ASSIGN_OR_RETURN(std::optional<std::string> type, GetString(object, "type"));
  if (!type.has_value() || type->empty()) return absl::InvalidArgumentError("type: missing");
  // It becomes a file name.
  if (!IsName(*type)) return absl::InvalidArgumentError(StrCat("type: bad plugin name ", Quoted(*type)));
  plugin.type = *type;
  if (auto it = object.find("capabilities"); it != object.end() && !it->is_null()) {
    if (!it->is_object()) return absl::InvalidArgumentError("capabilities: must be an object");
    for (const auto& [name, wanted] : it->items()) {
      if (!wanted.is_boolean())
        return absl::InvalidArgumentError(StrCat("capabilities.", name, ": must be true or false"));
      if (wanted.get<bool>()) plugin.capabilities.insert(name);
    }
  }
  plugin.json = Dump(object);
  return plugin;
}

bool KnownVersion(std::string_view version) {
  for (std::string_view known : kVersions) {
    if (version == known) return true;
  }
  return false;
}

absl::StatusOr<std::string> ChooseVersion(const json& list) {
  ASSIGN_OR_RETURN(std::optional<std::string> one, GetString(list, "cniVersion"));
  std::string best = one.value_or("");
  if (auto it = list.find("cniVersions"); it != list.end() && !it->is_null()) {
    if (!it->is_array()) return absl::InvalidArgumentError("cniVersions: must be a list");
    for (const json& entry : *it) {
      if (!entry.is_string()) return absl::InvalidArgumentError("cniVersions: must be a list of strings");
      std::string version = entry.get<std::string>();
      if (KnownVersion(version) && (!KnownVersion(best) || CniVersionAtLeast(version, best))) best = version;
    }
  }
  if (best.empty()) return std::string(kDefaultVersion);
  if (!KnownVersion(best)) {
    return absl::InvalidArgumentError(
        StrCat("cniVersion: ", Quoted(best), " is not known here (0.1.0 to 1.1.0)"));
  }
  return best;
}

absl::StatusOr<std::array<int, 3>> SplitVersion(std::string_view version) {
  std::vector<absl::string_view> parts = absl::StrSplit(Av(version), '.');
  std::array<int, 3> out{};
  if (parts.size() > 3) return absl::InvalidArgumentError("bad version");
  for (size_t i = 0; i < parts.size(); ++i) {
    if (!absl::SimpleAtoi(parts[i], &out[i])) return absl::InvalidArgumentError("bad version");
  }
  return out;
}

json BaseInput(const CniNetwork& network, size_t index) {
  json input = json::parse(network.plugins[index].json, nullptr, /*allow_exceptions=*/false);
  if (!input.is_object()) input = json::object();
  input.erase("capabilities");
  input["cniVersion"] = network.cni_version;
  input["name"] = network.name;
  return input;
}

// Which entries of "ips" are the pod's: all, unless the plugin tells interfaces of the pod and of the host
// apart.
class PodInterfaces {
 public:
  explicit PodInterfaces(const json& result) {
    auto it = result.find("interfaces");
    if (it == result.end() || !it->is_array()) return;
    for (const json& interface : *it) {
      auto sandbox = interface.is_object() ? GetString(interface, "sandbox")
                                           : absl::StatusOr<std::optional<std::string>>();
      in_pod_.push_back(sandbox.ok() && !sandbox->value_or("").empty());
      any_in_pod_ = any_in_pod_ || in_pod_.back();
    }
  }
  bool Owns(const json& ip) const {
    auto it = ip.find("interface");
    if (it == ip.end() || !it->is_number_unsigned() || !any_in_pod_) return true;
    uint64_t index = it->get<uint64_t>();
    return index >= in_pod_.size() || in_pod_[index];
  }

 private:
  std::vector<bool> in_pod_;
  bool any_in_pod_ = false;
};

absl::Status AddIp(const json& object, const char* key, const std::string& field, CniResult* out) {
  absl::StatusOr<std::optional<std::string>> text = GetString(object, key);
  if (!text.ok() || !text->has_value()) {
    return absl::InvalidArgumentError(StrCat("CNI result: ", field, ".", key, ": must be an address"));
  }
  absl::StatusOr<net::Cidr> cidr = net::Cidr::Parse(**text);
  if (!cidr.ok()) {
    return absl::InvalidArgumentError(
        StrCat("CNI result: ", field, ".", key, ": ", Quoted(**text), " is no address with a prefix"));
  }
  const net::IpAddress& ip = cidr->address();
  if (ip.is_unspecified() || ip.is_loopback() || ip.is_multicast()) {
    return absl::InvalidArgumentError(
        StrCat("CNI result: ", field, ".", key, ": ", Quoted(**text), " is no address for a pod"));
  }
  if (out->ips.size() >= kMaxResultIps) {
    return absl::InvalidArgumentError(StrCat("CNI result: more than ", kMaxResultIps, " addresses"));
  }
  out->ips.push_back(ip.ToString());
  return absl::OkStatus();
}

absl::Status CheckArg(std::string_view what, const std::string& value) {
  for (char c : value) {
    if (c == ';' || c == '=' || !absl::ascii_isgraph(static_cast<unsigned char>(c))) {
      return absl::InvalidArgumentError(StrCat("attach pod to the network: ", what, " ", Quoted(value),
                                               " has a character CNI_ARGS cannot hold"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckJsonDepth(std::string_view text, int max_depth) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > max_depth)
        return absl::InvalidArgumentError(StrCat("JSON is nested deeper than ", max_depth, " levels"));
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return absl::OkStatus();
}

bool CniVersionAtLeast(std::string_view version, std::string_view other) {
  absl::StatusOr<std::array<int, 3>> a = SplitVersion(version), b = SplitVersion(other);
  return a.ok() && b.ok() && *a >= *b;
}

absl::StatusOr<CniNetwork> ParseCniNetwork(std::string_view text) {
  ASSIGN_OR_RETURN(json list, ParseObject(text, kMaxCniConfigBytes, "network configuration"));
  if (!list.contains("plugins")) {
    json wrapped = {{"plugins", json::array({list})}};
    for (const char* key : {"cniVersion", "name"}) {
      if (list.contains(key)) wrapped[key] = list[key];
    }
    list = std::move(wrapped);
  }
  CniNetwork network;
  ASSIGN_OR_RETURN(std::optional<std::string> name, GetString(list, "name"));
  if (!IsName(name.value_or(""))) {
    return absl::InvalidArgumentError(
        StrCat("name: ", Quoted(name.value_or("")), ": must be letters, digits, '_', '.' and '-'"));
  }
  network.name = *name;
  ASSIGN_OR_RETURN(network.cni_version, ChooseVersion(list));
  ASSIGN_OR_RETURN(network.disable_check, GetBool(list, "disableCheck"));
  ASSIGN_OR_RETURN(network.disable_gc, GetBool(list, "disableGC"));
  const json& plugins = list["plugins"];
  if (!plugins.is_array() || plugins.empty())
    return absl::InvalidArgumentError("plugins: must be a list with at least one plugin");
  if (plugins.size() > kMaxCniPlugins)
    return absl::InvalidArgumentError(StrCat("plugins: more than ", kMaxCniPlugins));
  for (size_t i = 0; i < plugins.size(); ++i) {
    absl::StatusOr<CniPlugin> plugin = ParsePlugin(plugins[i]);
    if (!plugin.ok()) return Annotate(plugin.status(), StrCat("plugins[", i, "]"));
    network.plugins.push_back(*std::move(plugin));
  }
  network.json = Dump(list);
  return network;
}

CniCapabilityArgs CapabilityArgsOf(const CniAttachment& a) {
  CniCapabilityArgs out;
  if (!a.port_mappings.empty()) {
    json list = json::array();
    for (const CniPortMapping& m : a.port_mappings) {
      json entry = {{"hostPort", m.host_port}, {"containerPort", m.container_port}, {"protocol", m.protocol}};
      if (!m.host_ip.empty()) entry["hostIP"] = m.host_ip;
      list.push_back(std::move(entry));
    }
    out["portMappings"] = Dump(list);
  }
  if (a.ingress_rate_bits != 0 || a.egress_rate_bits != 0) {
    json bandwidth = json::object();
    if (a.ingress_rate_bits != 0) {
      bandwidth["ingressRate"] = a.ingress_rate_bits;
      bandwidth["ingressBurst"] = kUnlimitedBurstBits;
    }
    if (a.egress_rate_bits != 0) {
      bandwidth["egressRate"] = a.egress_rate_bits;
      bandwidth["egressBurst"] = kUnlimitedBurstBits;
    }
    out["bandwidth"] = Dump(bandwidth);
  }
  if (!a.cgroup_path.empty()) out["cgroupPath"] = Dump(a.cgroup_path);
  if (!a.dns_servers.empty() || !a.dns_searches.empty() || !a.dns_options.empty()) {
    json dns = {{"servers", a.dns_servers}, {"searches", a.dns_searches}, {"options", a.dns_options}};
    out["dns"] = Dump(dns);
  }
  return out;
}

std::string CniPluginInput(const CniNetwork& network, size_t index, const CniCapabilityArgs& args,
                           std::string_view previous_result) {
  json input = BaseInput(network, index);
  json runtime = json::object();
  for (const std::string& capability : network.plugins[index].capabilities) {
    auto it = args.find(capability);
    if (it == args.end()) continue;
    json value = json::parse(it->second, nullptr, /*allow_exceptions=*/false);
    if (!value.is_discarded()) runtime[capability] = std::move(value);
  }
  if (!runtime.empty()) input["runtimeConfig"] = std::move(runtime);
  if (!previous_result.empty()) {
    json previous =
        json::parse(previous_result.begin(), previous_result.end(), nullptr, /*allow_exceptions=*/false);
    if (!previous.is_discarded()) input["prevResult"] = std::move(previous);
  }
  return Dump(input);
}

std::string CniGcInput(const CniNetwork& network, size_t index,
                       const std::vector<CniValidAttachment>& valid) {
  json input = BaseInput(network, index);
  json list = json::array();
  for (const CniValidAttachment& a : valid)
    list.push_back({{"containerID", a.container_id}, {"ifname", a.interface}});
  input["cni.dev/valid-attachments"] = std::move(list);
  return Dump(input);
}

std::string CniStatusInput(const CniNetwork& network, size_t index) {
  return Dump(BaseInput(network, index));
}

absl::StatusOr<CniBandwidth> ParseCniBandwidth(std::string_view ingress, std::string_view egress) {
  CniBandwidth out;
  auto parse = [](std::string_view text, std::string_view annotation, uint64_t* bits) {
    if (text.empty()) return absl::OkStatus();
    absl::StatusOr<api::Quantity> quantity = api::Quantity::Parse(text);
    if (!quantity.ok()) {
      return absl::InvalidArgumentError(
          StrCat(annotation, ": ", Quoted(text), ": ", Sv(quantity.status().message())));
    }
    const int64_t value = quantity->Value();
    if (value < kMinBandwidthBits || value > kMaxBandwidthBits) {
      return absl::InvalidArgumentError(
          StrCat(annotation, ": ", Quoted(text), ": resource is unreasonably ",
                 value < kMinBandwidthBits ? "small (< 1kbit)" : "large (> 1Pbit)"));
    }
    *bits = static_cast<uint64_t>(value);
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(parse(ingress, kIngressBandwidthAnnotation, &out.ingress_rate_bits));
  RETURN_IF_ERROR(parse(egress, kEgressBandwidthAnnotation, &out.egress_rate_bits));
  return out;
}

absl::StatusOr<CniResult> ParseCniResult(std::string_view text) {
  text = Sv(absl::StripAsciiWhitespace(Av(text)));
  ASSIGN_OR_RETURN(json result, ParseObject(text, kMaxCniResultBytes, "CNI result"));
  CniResult out;
  out.json = std::string(text);
  // 0.1.0 and 0.2.0.
  for (const char* key : {"ip4", "ip6"}) {
    auto it = result.find(key);
    if (it == result.end() || it->is_null()) continue;
    if (!it->is_object())
      return absl::InvalidArgumentError(StrCat("CNI result: ", key, ": must be an object"));
    RETURN_IF_ERROR(AddIp(*it, "ip", key, &out));
  }
  auto ips = result.find("ips");
  if (ips == result.end() || ips->is_null()) return out;
  if (!ips->is_array()) return absl::InvalidArgumentError("CNI result: ips: must be a list");
  PodInterfaces interfaces(result);
  for (size_t i = 0; i < ips->size(); ++i) {
    const json& ip = (*ips)[i];
    std::string field = StrCat("ips[", i, "]");
    if (!ip.is_object())
      return absl::InvalidArgumentError(StrCat("CNI result: ", field, ": must be an object"));
    if (interfaces.Owns(ip)) RETURN_IF_ERROR(AddIp(ip, "address", field, &out));
  }
  return out;
}

CniPluginError ParseCniError(std::string_view text) {
  CniPluginError out;
  absl::StatusOr<json> error =
      ParseObject(Sv(absl::StripAsciiWhitespace(Av(text))), kMaxCniResultBytes, "CNI error");
  if (!error.ok()) return out;
  if (auto it = error->find("code"); it != error->end() && it->is_number_unsigned()) {
    uint64_t code = it->get<uint64_t>();
    out.code = code > UINT32_MAX ? UINT32_MAX : static_cast<uint32_t>(code);
  }
  if (auto message = GetString(*error, "msg"); message.ok()) out.message = message->value_or("");
  if (auto details = GetString(*error, "details"); details.ok()) out.details = details->value_or("");
  return out;
}

absl::Status ValidateCniAttachment(const CniAttachment& a) {
  if (!IsName(a.container_id)) {
    return absl::InvalidArgumentError(
        StrCat("attach pod to the network: bad container ID ", Quoted(a.container_id)));
  }
  bool bad = a.interface.empty() || a.interface.size() > kMaxInterfaceBytes || a.interface == "." ||
             a.interface == "..";
  for (char c : a.interface)
    bad = bad || c == '/' || c == ':' || !absl::ascii_isgraph(static_cast<unsigned char>(c));
  if (bad) {
    return absl::InvalidArgumentError(
        StrCat("attach pod to the network: bad interface name ", Quoted(a.interface)));
  }
  RETURN_IF_ERROR(CheckArg("pod namespace", a.pod_namespace));
  RETURN_IF_ERROR(CheckArg("pod name", a.pod_name));
  return CheckArg("pod UID", a.pod_uid);
}

std::string CniArgs(const CniAttachment& a) {
  return StrCat("IgnoreUnknown=1;K8S_POD_NAMESPACE=", a.pod_namespace, ";K8S_POD_NAME=", a.pod_name,
                ";K8S_POD_INFRA_CONTAINER_ID=", a.container_id, ";K8S_POD_UID=", a.pod_uid);
}

absl::StatusOr<std::string> FillCniTemplate(const std::string& text, const std::string& cidrs) {
  json ranges = json::array(), routes = json::array();
  std::string first;
  for (absl::string_view part : absl::StrSplit(cidrs, ',', absl::SkipWhitespace())) {
    absl::StatusOr<net::Cidr> cidr = net::Cidr::Parse(Sv(absl::StripAsciiWhitespace(part)));
    if (!cidr.ok()) return Annotate(cidr.status(), "pod CIDR");
    std::string block = cidr->Masked().ToString();
    if (first.empty()) first = block;
    ranges.push_back(json::array({{{"subnet", block}}}));
    routes.push_back({{"dst", cidr->is_v4() ? "0.0.0.0/0" : "::/0"}});
  }
  if (first.empty()) return absl::InvalidArgumentError("pod CIDR: empty");
  std::string out = absl::StrReplaceAll(
      text, {{"{{.PodCIDR}}", first}, {"{{.Ranges}}", Dump(ranges)}, {"{{.Routes}}", Dump(routes)}});
  if (size_t at = out.find("{{."); at != std::string::npos) {
    return absl::InvalidArgumentError(
        StrCat("network template: unknown placeholder ",
               Quoted(std::string_view(out).substr(at, out.find("}}", at) - at + 2))));
  }
  absl::StatusOr<CniNetwork> check = ParseCniNetwork(out);
  if (!check.ok()) return Annotate(check.status(), "network template, filled in");
  return out;
}

}  // namespace keelson::cri
