#include "proxy/dns/answer.h"

#include <absl/strings/ascii.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "base/strings.h"
#include "proxy/dns/ldns.h"

namespace keelson::proxy::dns {
namespace {

struct PacketFree {
  void operator()(ldns_pkt* p) const { ldns_pkt_free(p); }
};
using Packet = std::unique_ptr<ldns_pkt, PacketFree>;
using Labels = std::vector<std::string>;

constexpr size_t kHeaderBytes = 12;
constexpr uint8_t kEdnsVersion = 0;
// RFC 6891: version we do not speak. The upper eight bits travel in the OPT record.
constexpr uint8_t kBadVersExtended = 1;
constexpr std::string_view kSchemaVersion = "1.1.0";

// ---- names ----

Labels LabelsOf(const ldns_rdf* name) {
  Labels out;
  const uint8_t* data = ldns_rdf_data(name);
  size_t size = ldns_rdf_size(name), at = 0;
  while (at < size && data[at] != 0 && at + 1 + data[at] <= size) {
    out.emplace_back(reinterpret_cast<const char*>(data + at + 1), data[at]);
    absl::AsciiStrToLower(&out.back());
    at += 1 + data[at];
  }
  return out;
}

// nullptr when a label or the name is too long.
ldns_rdf* NewName(const Labels& labels) {
  std::string wire;
  for (const std::string& label : labels) {
    if (label.empty() || label.size() > LDNS_MAX_LABELLEN) return nullptr;
    wire.push_back(static_cast<char>(label.size()));
    wire += label;
  }
  wire.push_back('\0');
  if (wire.size() > LDNS_MAX_DOMAINLEN) return nullptr;
  return ldns_rdf_new_frm_data(LDNS_RDF_TYPE_DNAME, wire.size(), wire.data());
}

Labels Split(std::string_view name) {
  if (name.empty()) return {};
  return absl::StrSplit(Av(name), '.');
}

bool EndsWith(const Labels& name, const Labels& tail) {
  return name.size() >= tail.size() && std::equal(tail.rbegin(), tail.rend(), name.rbegin());
}

std::optional<net::IpAddress> ParseDashed(const std::string& label) {
  for (char separator : {'.', ':'}) {
    std::string text = label;
    std::replace(text.begin(), text.end(), '-', separator);
    if (absl::StatusOr<net::IpAddress> ip = net::IpAddress::Parse(text); ip.ok()) return *ip;
  }
  return std::nullopt;
}

// nullopt: not a whole reverse name.
std::optional<net::IpAddress> ParseReverse(const Labels& labels) {
  size_t n = labels.size();
  if (n == 6 && labels[4] == "in-addr" && labels[5] == "arpa") {
    absl::StatusOr<net::IpAddress> ip =
        net::IpAddress::Parse(StrCat(labels[3], ".", labels[2], ".", labels[1], ".", labels[0]));
    if (ip.ok()) return *ip;
  }
  if (n == 34 && labels[32] == "ip6" && labels[33] == "arpa") {
    std::string bytes;
    for (int i = 31; i > 0; i -= 2) {
      unsigned value = 0;
      std::string hex = labels[i] + labels[i - 1];
      if (hex.size() != 2 || !absl::SimpleHexAtoi(hex, &value)) return std::nullopt;
      bytes.push_back(static_cast<char>(value));
    }
    if (absl::StatusOr<net::IpAddress> ip = net::IpAddress::FromBytes(bytes); ip.ok()) return *ip;
  }
  return std::nullopt;
}

// ---- the cluster's zone ----

struct Record {
  ldns_rr_type type = LDNS_RR_TYPE_A;
  uint32_t ttl_s = kEndpointTtl_s;
  net::IpAddress ip;    // A, AAAA
  Labels name;          // SRV, PTR, CNAME, NS: target
  uint16_t port = 0;    // SRV
  uint16_t weight = 0;  // SRV
  std::string text;     // TXT
};

struct Lookup {
  bool exists = false;                                // the name exists, perhaps without records of this type
  std::vector<Record> records;                        // of the type asked
  std::vector<std::pair<Labels, Record>> additional;  // addresses of SRV targets
  std::string cname;                                  // ExternalName target
};

class Zone {
 public:
  explicit Zone(const DnsRecords& records) : records_(records), domain_(Split(records.options.domain)) {}

  const Labels& domain() const { return domain_; }

  Lookup Find(const Labels& name, ldns_rr_type type) const {
    Labels sub(name.begin(), name.end() - static_cast<ptrdiff_t>(domain_.size()));
    if (sub.empty()) return Apex(type);
    if (sub.back() == "svc") return FindService(sub, type);
    if (sub.back() == "pod") return FindPod(sub, type);
    Lookup out;
    if (sub == Labels{"dns-version"}) {
      out.exists = true;
      if (type == LDNS_RR_TYPE_TXT)
        out.records.push_back({.type = type, .text = std::string(kSchemaVersion)});
    } else if (sub == Labels{"dns"}) {
      out.exists = true;
    } else if (sub == Labels{"ns", "dns"}) {
      AddAddress(records_.options.server, kClusterIpTtl_s, type, &out);
      out.exists = true;
    }
    return out;
  }

  // Names of pods and Services by address; nullopt: not ours.
  std::optional<Lookup> FindReverse(const net::IpAddress& ip, ldns_rr_type type) const {
    Lookup out;
    if (auto found = records_.reverse.find(ip); found != records_.reverse.end()) {
      out.exists = true;
      if (type == LDNS_RR_TYPE_PTR) {
        out.records.push_back(
            {.type = type, .ttl_s = kEndpointTtl_s, .name = InDomain(Split(found->second))});
      }
      return out;
    }
    for (const net::Cidr& cidr : records_.options.own_cidrs) {
      if (cidr.Contains(ip)) return out;
    }
    return std::nullopt;
  }

  Labels InDomain(Labels sub) const {
    sub.insert(sub.end(), domain_.begin(), domain_.end());
    return sub;
  }

 private:
  Lookup Apex(ldns_rr_type type) const {
    Lookup out{.exists = true};
    if (type == LDNS_RR_TYPE_NS) {
      out.records.push_back({.type = type, .ttl_s = kClusterIpTtl_s, .name = InDomain({"ns", "dns"})});
    }
    if (type == LDNS_RR_TYPE_SOA) out.records.push_back({.type = type, .ttl_s = kNegativeTtl_s});
    return out;
  }

  static void AddAddress(const net::IpAddress& ip, uint32_t ttl_s, ldns_rr_type type, Lookup* out) {
    ldns_rr_type own = ip.is_v6() ? LDNS_RR_TYPE_AAAA : LDNS_RR_TYPE_A;
    if (type == own || type == LDNS_RR_TYPE_ANY)
      out->records.push_back({.type = own, .ttl_s = ttl_s, .ip = ip});
  }

  Lookup FindService(const Labels& sub, ldns_rr_type type) const {
    Lookup out;
    size_t n = sub.size();
    if (n == 1) return Lookup{.exists = true};
    if (n == 2) return Lookup{.exists = records_.namespaces.contains(sub[0])};
    auto found = records_.services.find(StrCat(sub[n - 3], ".", sub[n - 2]));
    if (found == records_.services.end()) return out;
    const DnsService& service = found->second;
    Labels base(sub.end() - 3, sub.end());
    if (n == 3) {
      out.exists = true;
      out.cname = service.external_name;
      for (const net::IpAddress& ip : service.cluster_ips) AddAddress(ip, kClusterIpTtl_s, type, &out);
      for (const DnsEndpoint& endpoint : service.endpoints)
        AddAddress(endpoint.ip, kEndpointTtl_s, type, &out);
      if (type == LDNS_RR_TYPE_SRV) AddSrv(service, base, "", "", &out);
    } else if (n == 4 && !sub[0].starts_with('_')) {
      for (const DnsEndpoint& endpoint : service.endpoints) {
        if (endpoint.label != sub[0]) continue;
        out.exists = true;
        AddAddress(endpoint.ip, kEndpointTtl_s, type, &out);
      }
    } else if (n == 4) {
      for (const ServicePortInfo& port : service.ports)
        out.exists |= sub[0].substr(1) == ProtocolName(port.protocol);
    } else if (n == 5 && sub[0].starts_with('_') && sub[1].starts_with('_')) {
      std::string_view port = std::string_view(sub[0]).substr(1),
                       protocol = std::string_view(sub[1]).substr(1);
      for (const ServicePortInfo& p : service.ports) {
        out.exists |= p.name == port && !p.name.empty() && ProtocolName(p.protocol) == protocol;
      }
      if (out.exists && type == LDNS_RR_TYPE_SRV) AddSrv(service, base, port, protocol, &out);
    }
    return out;
  }

  // Every port when `port` is "".
  void AddSrv(const DnsService& service, const Labels& base, std::string_view port, std::string_view protocol,
              Lookup* out) const {
    auto wanted = [&](const ServicePortInfo& p) {
      return port.empty() || (p.name == port && ProtocolName(p.protocol) == protocol);
    };
    for (const ServicePortInfo& p : service.ports) {
      if (service.cluster_ips.empty() || !wanted(p)) continue;
      out->records.push_back(
          {.type = LDNS_RR_TYPE_SRV, .ttl_s = kClusterIpTtl_s, .name = InDomain(base), .port = p.port});
    }
    if (!out->records.empty()) {
      for (const net::IpAddress& ip : service.cluster_ips)
        AddAdditional(InDomain(base), ip, kClusterIpTtl_s, out);
    }
    for (const DnsEndpoint& endpoint : service.endpoints) {
      Labels target = base;
      target.insert(target.begin(), endpoint.label);
      target = InDomain(std::move(target));
      bool used = false;
      for (const auto& [index, number] : endpoint.ports) {
        if (!wanted(service.ports[index])) continue;
        out->records.push_back({.type = LDNS_RR_TYPE_SRV, .name = target, .port = number});
        used = true;
      }
      if (used) AddAdditional(target, endpoint.ip, kEndpointTtl_s, out);
    }
    if (out->records.empty()) return;
    uint16_t share = static_cast<uint16_t>(std::max<size_t>(1, 100 / out->records.size()));
    for (Record& record : out->records) record.weight = share;
  }

  static void AddAdditional(const Labels& name, const net::IpAddress& ip, uint32_t ttl_s, Lookup* out) {
    Record record{.type = ip.is_v6() ? LDNS_RR_TYPE_AAAA : LDNS_RR_TYPE_A, .ttl_s = ttl_s, .ip = ip};
    out->additional.emplace_back(name, record);
  }

  Lookup FindPod(const Labels& sub, ldns_rr_type type) const {
    Lookup out;
    if (sub.size() == 1) return Lookup{.exists = true};
    if (sub.size() > 3 || !records_.namespaces.contains(sub[sub.size() - 2])) return out;
    if (sub.size() == 2) return Lookup{.exists = true};
    if (std::optional<net::IpAddress> ip = ParseDashed(sub[0]); ip.has_value()) {
      out.exists = true;
      AddAddress(*ip, kEndpointTtl_s, type, &out);
    }
    return out;
  }

  const DnsRecords& records_;
  Labels domain_;
};

// ---- responses ----

ldns_rdf* AddressRdf(const net::IpAddress& ip) {
  std::string bytes = ip.ToBytes();
  return ldns_rdf_new_frm_data(ip.is_v6() ? LDNS_RDF_TYPE_AAAA : LDNS_RDF_TYPE_A, bytes.size(), bytes.data());
}

// Gives `rdf` to `rr`; false when there is none.
bool Push(ldns_rr* rr, ldns_rdf* rdf) { return rdf != nullptr && ldns_rr_push_rdf(rr, rdf); }

class Response {
 public:
  // `query` has exactly one question.
  Response(const ldns_pkt* query, const DnsRecords& records) : packet_(ldns_pkt_new()), records_(records) {
    ldns_pkt* p = packet_.get();
    ldns_pkt_set_id(p, ldns_pkt_id(query));
    ldns_pkt_set_qr(p, true);
    ldns_pkt_set_opcode(p, ldns_pkt_get_opcode(query));
    ldns_pkt_set_rd(p, ldns_pkt_rd(query));
    ldns_pkt_set_ra(p, true);
    if (ldns_pkt_edns(query)) ldns_pkt_set_edns_udp_size(p, kMaxUdpResponseBytes);
    const ldns_rr_list* questions = ldns_pkt_question(query);
    if (ldns_rr_list_rr_count(questions) == 1) {
      ldns_pkt_push_rr(p, LDNS_SECTION_QUESTION, ldns_rr_clone(ldns_rr_list_rr(questions, 0)));
    }
  }

  void set_rcode(ldns_pkt_rcode rcode) { ldns_pkt_set_rcode(packet_.get(), rcode); }
  void set_bad_version() { ldns_pkt_set_edns_extended_rcode(packet_.get(), kBadVersExtended); }
  void set_authoritative() { ldns_pkt_set_aa(packet_.get(), true); }

  // Takes `owner`.
  void Add(ldns_pkt_section section, ldns_rdf* owner, const Record& record) {
    if (owner == nullptr) return;
    ldns_rr* rr = ldns_rr_new();
    ldns_rr_set_owner(rr, owner);
    ldns_rr_set_type(rr, record.type);
    ldns_rr_set_class(rr, LDNS_RR_CLASS_IN);
    ldns_rr_set_ttl(rr, record.ttl_s);
    if (!Fill(rr, record) || !ldns_pkt_push_rr(packet_.get(), section, rr)) ldns_rr_free(rr);
  }

  void AddSoa(const Labels& domain) {
    Add(LDNS_SECTION_AUTHORITY, NewName(domain), {.type = LDNS_RR_TYPE_SOA, .ttl_s = kNegativeTtl_s});
  }

  std::string Take(size_t max_bytes) { return Encode(packet_.get(), max_bytes); }

  // Drops records from the end until it fits; truncation is marked once an answer is lost.
  static std::string Encode(ldns_pkt* packet, size_t max_bytes) {
    while (true) {
      uint8_t* bytes = nullptr;
      size_t size = 0;
      if (ldns_pkt2wire(&bytes, packet, &size) != LDNS_STATUS_OK) {
        free(bytes);
        return "";
      }
      std::string wire(reinterpret_cast<char*>(bytes), size);
      free(bytes);
      if (wire.size() <= max_bytes) return wire;
      if (!Shrink(packet)) return "";
    }
  }

 private:
  static bool Shrink(ldns_pkt* packet) {
    for (ldns_pkt_section section : {LDNS_SECTION_ADDITIONAL, LDNS_SECTION_AUTHORITY, LDNS_SECTION_ANSWER}) {
      ldns_rr_list* list = section == LDNS_SECTION_ADDITIONAL  ? ldns_pkt_additional(packet)
                           : section == LDNS_SECTION_AUTHORITY ? ldns_pkt_authority(packet)
                                                               : ldns_pkt_answer(packet);
      size_t count = ldns_rr_list_rr_count(list);
      if (count == 0) continue;
      if (section == LDNS_SECTION_ANSWER) ldns_pkt_set_tc(packet, true);
      // A quarter at a time: encoding is repeated, so not one by one.
      for (size_t i = 0; i < std::max<size_t>(1, count / 4); ++i) ldns_rr_free(ldns_rr_list_pop_rr(list));
      ldns_pkt_set_section_count(packet, section, static_cast<uint16_t>(ldns_rr_list_rr_count(list)));
      return true;
    }
    return false;
  }

  bool Fill(ldns_rr* rr, const Record& record) {
    switch (record.type) {
      case LDNS_RR_TYPE_A:
      case LDNS_RR_TYPE_AAAA:
        return Push(rr, AddressRdf(record.ip));
      case LDNS_RR_TYPE_CNAME:
      case LDNS_RR_TYPE_PTR:
      case LDNS_RR_TYPE_NS:
        return Push(rr, NewName(record.name));
      case LDNS_RR_TYPE_SRV:
        return Push(rr, ldns_native2rdf_int16(LDNS_RDF_TYPE_INT16, 0)) &&
               Push(rr, ldns_native2rdf_int16(LDNS_RDF_TYPE_INT16, record.weight)) &&
               Push(rr, ldns_native2rdf_int16(LDNS_RDF_TYPE_INT16, record.port)) &&
               Push(rr, NewName(record.name));
      case LDNS_RR_TYPE_TXT: {
        std::string counted = std::string(1, static_cast<char>(record.text.size())) + record.text;
        return Push(rr, ldns_rdf_new_frm_data(LDNS_RDF_TYPE_STR, counted.size(), counted.data()));
      }
      case LDNS_RR_TYPE_SOA: {
        Zone zone(records_);
        return Push(rr, NewName(zone.InDomain({"ns", "dns"}))) &&
               Push(rr, NewName(zone.InDomain({"hostmaster"}))) &&
               Push(rr, ldns_native2rdf_int32(LDNS_RDF_TYPE_INT32, records_.serial)) &&
               Push(rr, ldns_native2rdf_int32(LDNS_RDF_TYPE_PERIOD, 7200)) &&
               Push(rr, ldns_native2rdf_int32(LDNS_RDF_TYPE_PERIOD, 1800)) &&
               Push(rr, ldns_native2rdf_int32(LDNS_RDF_TYPE_PERIOD, 86400)) &&
               Push(rr, ldns_native2rdf_int32(LDNS_RDF_TYPE_PERIOD, kNegativeTtl_s));
      }
      default:
        return false;
    }
  }

  Packet packet_;
  const DnsRecords& records_;
};

Packet Parse(std::string_view wire) {
  if (wire.size() < kHeaderBytes || wire.size() > kMaxTcpResponseBytes) return nullptr;
  ldns_pkt* raw = nullptr;
  ldns_status status = ldns_wire2pkt(&raw, reinterpret_cast<const uint8_t*>(wire.data()), wire.size());
  if (status != LDNS_STATUS_OK) {
    if (raw != nullptr) ldns_pkt_free(raw);
    return nullptr;
  }
  return Packet(raw);
}

// Header only, for queries whose body does not parse.
std::string HeaderReply(std::string_view query, uint8_t rcode) {
  if (query.size() < kHeaderBytes || (static_cast<uint8_t>(query[2]) & 0x80) != 0) return "";
  std::string out(query.substr(0, kHeaderBytes));
  out[2] = static_cast<char>(0x80 | (static_cast<uint8_t>(query[2]) & 0x79));  // QR; opcode and RD as asked
  out[3] = static_cast<char>(0x80 | rcode);                                    // RA
  std::fill(out.begin() + 4, out.end(), '\0');
  return out;
}

std::string FailureReply(std::string_view query, ldns_pkt_rcode rcode) {
  Packet parsed = query.size() <= kMaxQueryBytes ? Parse(query) : nullptr;
  if (parsed == nullptr) return HeaderReply(query, static_cast<uint8_t>(rcode));
  if (ldns_pkt_qr(parsed.get())) return "";
  static const DnsRecords* const kNoRecords = new DnsRecords();
  Response response(parsed.get(), *kNoRecords);
  response.set_rcode(rcode);
  return response.Take(kClassicUdpBytes);
}

size_t ResponseLimit(const ldns_pkt* query, bool tcp) {
  if (tcp) return kMaxTcpResponseBytes;
  if (!ldns_pkt_edns(query)) return kClassicUdpBytes;
  return std::clamp<size_t>(ldns_pkt_edns_udp_size(query), kClassicUdpBytes, kMaxUdpResponseBytes);
}

std::string NewQuery(const Labels& name, ldns_rr_type type) {
  ldns_rdf* owner = NewName(name);
  if (owner == nullptr) return "";
  Packet packet(ldns_pkt_query_new(owner, type, LDNS_RR_CLASS_IN, LDNS_RD));
  if (packet == nullptr) return "";
  ldns_pkt_set_edns_udp_size(packet.get(), kMaxUdpResponseBytes);
  return Response::Encode(packet.get(), kClassicUdpBytes);
}

// Answers one question whose packet is sound.
class Answerer {
 public:
  Answerer(const ldns_pkt* query, const DnsRecords& records, const AnswerOptions& options)
      : query_(query), options_(options), zone_(records), response_(query, records) {
    const ldns_rr* question = ldns_rr_list_rr(ldns_pkt_question(query), 0);
    owner_ = ldns_rr_owner(question);
    name_ = LabelsOf(owner_);
    type_ = ldns_rr_get_type(question);
    class_ = ldns_rr_get_class(question);
  }

  DnsReply Run() {
    if (ldns_pkt_edns(query_) && ldns_pkt_edns_version(query_) > kEdnsVersion) {
      response_.set_bad_version();
      return Respond();
    }
    if (type_ == LDNS_RR_TYPE_AXFR || type_ == LDNS_RR_TYPE_IXFR || class_ != LDNS_RR_CLASS_IN) {
      return Fail(LDNS_RCODE_REFUSED);
    }
    if (EndsWith(name_, zone_.domain())) return RespondLookup(zone_.Find(name_, type_));
    if (std::optional<net::IpAddress> ip = ParseReverse(name_); ip.has_value()) {
      std::optional<Lookup> found = zone_.FindReverse(*ip, type_);
      if (found.has_value()) return RespondLookup(*found);
    }
    if (!options_.can_forward) return Fail(LDNS_RCODE_SERVFAIL);
    return DnsReply{.action = DnsReply::kForward};
  }

 private:
  DnsReply Respond() {
    DnsReply reply{.action = DnsReply::kRespond, .wire = response_.Take(ResponseLimit(query_, options_.tcp))};
    if (reply.wire.empty()) reply.action = DnsReply::kDrop;
    return reply;
  }
  DnsReply Fail(ldns_pkt_rcode rcode) {
    response_.set_rcode(rcode);
    return Respond();
  }

  DnsReply RespondLookup(Lookup found) {
    response_.set_authoritative();
    ldns_rdf* owner = ldns_rdf_clone(owner_);
    for (int depth = 0; !found.cname.empty() && depth < kMaxCnameDepth; ++depth) {
      Labels target = Split(found.cname);
      response_.Add(LDNS_SECTION_ANSWER, ldns_rdf_clone(owner), {.type = LDNS_RR_TYPE_CNAME, .name = target});
      ldns_rdf_deep_free(owner);
      owner = NewName(target);
      if (owner == nullptr) return Fail(LDNS_RCODE_SERVFAIL);
      if (type_ == LDNS_RR_TYPE_CNAME) {
        ldns_rdf_deep_free(owner);
        return Respond();
      }
      if (!EndsWith(target, zone_.domain())) {
        ldns_rdf_deep_free(owner);
        return Chase(target);
      }
      found = zone_.Find(target, type_);
    }
    AddAnswers(owner, found);
    ldns_rdf_deep_free(owner);
    if (!found.exists) response_.set_rcode(LDNS_RCODE_NXDOMAIN);
    if (found.records.empty()) response_.AddSoa(zone_.domain());
    return Respond();
  }

  void AddAnswers(const ldns_rdf* owner, const Lookup& found) {
    size_t n = found.records.size();
    for (size_t i = 0; i < n; ++i) {
      response_.Add(LDNS_SECTION_ANSWER, ldns_rdf_clone(owner), found.records[(i + options_.rotation) % n]);
    }
    for (const auto& [name, record] : found.additional) {
      response_.Add(LDNS_SECTION_ADDITIONAL, NewName(name), record);
    }
  }

  DnsReply Chase(const Labels& target) {
    DnsReply reply = Respond();
    if (reply.action != DnsReply::kRespond || !options_.can_forward) return reply;
    reply.chase_query = NewQuery(target, type_);
    if (reply.chase_query.empty()) return reply;
    reply.action = DnsReply::kChase;
    return reply;
  }

  const ldns_pkt* query_;
  const AnswerOptions& options_;
  Zone zone_;
  Response response_;
  const ldns_rdf* owner_ = nullptr;
  Labels name_;
  ldns_rr_type type_ = LDNS_RR_TYPE_A;
  ldns_rr_class class_ = LDNS_RR_CLASS_IN;
};

}  // namespace

DnsReply Answer(std::string_view query, const DnsRecords& records, const AnswerOptions& options) {
  auto header_only = [&](uint8_t rcode) {
    std::string wire = HeaderReply(query, rcode);
    return DnsReply{.action = wire.empty() ? DnsReply::kDrop : DnsReply::kRespond, .wire = wire};
  };
  if (query.size() < kHeaderBytes || (static_cast<uint8_t>(query[2]) & 0x80) != 0) return DnsReply{};
  if (((static_cast<uint8_t>(query[2]) >> 3) & 0xf) != LDNS_PACKET_QUERY)
    return header_only(LDNS_RCODE_NOTIMPL);
  if (query.size() > kMaxQueryBytes) return header_only(LDNS_RCODE_FORMERR);
  Packet packet = Parse(query);
  if (packet == nullptr || ldns_rr_list_rr_count(ldns_pkt_question(packet.get())) != 1) {
    return header_only(LDNS_RCODE_FORMERR);
  }
  return Answerer(packet.get(), records, options).Run();
}

std::string MergeChase(const std::string& response, std::string_view upstream, bool tcp) {
  Packet ours = Parse(response), theirs = Parse(upstream);
  if (ours == nullptr || theirs == nullptr) return response;
  const ldns_rr_list* answers = ldns_pkt_answer(theirs.get());
  for (size_t i = 0; i < ldns_rr_list_rr_count(answers); ++i) {
    ldns_pkt_push_rr(ours.get(), LDNS_SECTION_ANSWER, ldns_rr_clone(ldns_rr_list_rr(answers, i)));
  }
  ldns_pkt_set_aa(ours.get(), false);
  ldns_pkt_set_rcode(ours.get(), ldns_pkt_get_rcode(theirs.get()));
  size_t limit = tcp                         ? kMaxTcpResponseBytes
                 : ldns_pkt_edns(ours.get()) ? kMaxUdpResponseBytes
                                             : kClassicUdpBytes;
  std::string wire = Response::Encode(ours.get(), limit);
  return wire.empty() ? response : wire;
}

std::string ServerFailure(std::string_view query) { return FailureReply(query, LDNS_RCODE_SERVFAIL); }
std::string Refused(std::string_view query) { return FailureReply(query, LDNS_RCODE_REFUSED); }

}  // namespace keelson::proxy::dns
