#include "master/apiserver/service_allocator.h"

#include <arpa/inet.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/log.h"
#include "base/strings.h"

namespace keelson::master {
namespace {

using api::FieldError;
using api::FieldErrors;
using ::k8s::core::v1::Service;

bool ParseIp(std::string_view text, uint32_t* out) {
  in_addr a{};
  if (inet_pton(AF_INET, std::string(text).c_str(), &a) != 1) return false;
  *out = ntohl(a.s_addr);
  return true;
}

std::string IpText(uint32_t ip) {
  in_addr a{htonl(ip)};
  char buffer[INET_ADDRSTRLEN];
  return inet_ntop(AF_INET, &a, buffer, sizeof buffer);
}

bool NeedsClusterIp(const Service& s) { return s.spec().type() != "ExternalName"; }
bool IsHeadless(const Service& s) { return s.spec().cluster_ip() == "None"; }
bool NeedsNodePorts(const Service& s) {
  if (s.spec().type() == "NodePort") return true;
  return s.spec().type() == "LoadBalancer" &&
         (!s.spec().has_allocate_load_balancer_node_ports() || s.spec().allocate_load_balancer_node_ports());
}

std::set<uint32_t> IpsOf(const Service& s) {
  std::set<uint32_t> out;
  if (!NeedsClusterIp(s)) return out;
  uint32_t ip;
  for (const std::string& text : s.spec().cluster_ips()) {
    if (ParseIp(text, &ip)) out.insert(ip);
  }
  if (ParseIp(s.spec().cluster_ip(), &ip)) out.insert(ip);
  return out;
}

std::set<int> PortsOf(const Service& s) {
  std::set<int> out;
  for (const auto& p : s.spec().ports()) {
    if (p.node_port() != 0) out.insert(p.node_port());
  }
  if (s.spec().health_check_node_port() != 0) out.insert(s.spec().health_check_node_port());
  return out;
}

bool TypeHasNodePorts(const Service& s) {
  return s.spec().type() == "NodePort" || s.spec().type() == "LoadBalancer";
}
bool HasHealthCheckPort(const Service& s) {
  return s.spec().type() == "LoadBalancer" && s.spec().external_traffic_policy() == "Local";
}
bool HasExternalTraffic(const Service& s) {
  return TypeHasNodePorts(s) || (s.spec().type() == "ClusterIP" && !s.spec().external_ips().empty());
}

bool SameList(const google::protobuf::RepeatedPtrField<std::string>& a,
              const google::protobuf::RepeatedPtrField<std::string>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

// A client that knows only clusterIP changed or cleared it: clusterIPs, which it left alone, goes along. Or
// it sent clusterIP as it was, and no clusterIPs.
void FollowClusterIp(Service& service, const Service& old) {
  auto& spec = *service.mutable_spec();
  if (spec.cluster_ip() == old.spec().cluster_ip() && spec.cluster_ips().empty()) {
    *spec.mutable_cluster_ips() = old.spec().cluster_ips();
  }
  if (spec.cluster_ip() == old.spec().cluster_ip() || spec.cluster_ips().empty() ||
      !SameList(spec.cluster_ips(), old.spec().cluster_ips())) {
    return;
  }
  if (spec.cluster_ip().empty()) {
    spec.clear_cluster_ips();
  } else {
    spec.set_cluster_ips(0, spec.cluster_ip());
  }
}

// What the client left out and the type still has: as it was.
void PatchAllocatedValues(Service& service, const Service& old) {
  auto& spec = *service.mutable_spec();
  const auto& before = old.spec();
  if (NeedsClusterIp(service) && NeedsClusterIp(old)) {
    if (spec.cluster_ip().empty()) spec.set_cluster_ip(before.cluster_ip());
    if (spec.cluster_ips().empty() && spec.cluster_ip() == before.cluster_ip()) {
      *spec.mutable_cluster_ips() = before.cluster_ips();
    }
    if (spec.ip_families().empty()) *spec.mutable_ip_families() = before.ip_families();
    if (!spec.has_ip_family_policy() && before.has_ip_family_policy()) {
      spec.set_ip_family_policy(before.ip_family_policy());
    }
  }
  if (NeedsNodePorts(service) && NeedsNodePorts(old)) {
    std::set<int> used;
    for (const auto& p : spec.ports()) used.insert(p.node_port());
    std::map<std::string, int> by_name;
    for (const auto& p : before.ports()) by_name[p.name()] = p.node_port();
    for (auto& p : *spec.mutable_ports()) {
      if (p.node_port() != 0) continue;
      auto it = by_name.find(p.name());
      if (it == by_name.end() || it->second == 0 || used.count(it->second) != 0) continue;
      p.set_node_port(it->second);
      it->second = 0;
    }
  }
  if (HasHealthCheckPort(service) && HasHealthCheckPort(old) && spec.health_check_node_port() == 0) {
    spec.set_health_check_node_port(before.health_check_node_port());
  }
}

// What the new type has not, if the client did not touch it: apply, patch and edit send it along. A value the
// client did change stays, for validation to refuse by name.
void DropTypeDependentFields(Service& service, const Service& old) {
  auto& spec = *service.mutable_spec();
  const auto& before = old.spec();
  if (NeedsClusterIp(old) && !NeedsClusterIp(service)) {
    if (spec.cluster_ip() == before.cluster_ip() && SameList(spec.cluster_ips(), before.cluster_ips())) {
      spec.clear_cluster_ip();
      spec.clear_cluster_ips();
    }
    if (SameList(spec.ip_families(), before.ip_families())) spec.clear_ip_families();
    if (spec.ip_family_policy() == before.ip_family_policy()) spec.clear_ip_family_policy();
  }
  if (TypeHasNodePorts(old) && !TypeHasNodePorts(service)) {
    // Ports may come, go and change, as long as no node port is new.
    std::set<int> known;
    for (const auto& p : before.ports()) known.insert(p.node_port());
    const bool same = std::all_of(spec.ports().begin(), spec.ports().end(), [&](const auto& p) {
      return p.node_port() == 0 || known.count(p.node_port()) != 0;
    });
    if (same) {
      for (auto& p : *spec.mutable_ports()) p.clear_node_port();
    }
  }
  if (HasHealthCheckPort(old) && !HasHealthCheckPort(service) &&
      spec.health_check_node_port() == before.health_check_node_port()) {
    spec.clear_health_check_node_port();
  }
  if (before.type() == "LoadBalancer" && spec.type() != "LoadBalancer") {
    if (spec.allocate_load_balancer_node_ports() == before.allocate_load_balancer_node_ports()) {
      spec.clear_allocate_load_balancer_node_ports();
    }
    if (spec.load_balancer_class() == before.load_balancer_class()) spec.clear_load_balancer_class();
  }
  if (spec.type() != "LoadBalancer" && service.has_status()) {
    service.mutable_status()->clear_load_balancer();
  }
  if (HasExternalTraffic(old) && !HasExternalTraffic(service) &&
      spec.external_traffic_policy() == before.external_traffic_policy()) {
    spec.clear_external_traffic_policy();
  }
}

FieldError IpError(const std::string& ip, std::string_view why) {
  FieldError e;
  e.type = FieldError::Type::kInvalid;
  e.field = "spec.clusterIPs";
  e.bad_value = StrCat("[\"", ip, "\"]");
  e.detail = StrCat("failed to allocate IP ", ip, ": ", why);
  return e;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ServiceAllocator>> ServiceAllocator::Create(std::string_view cidr,
                                                                           int port_min, int port_max) {
  const size_t slash = cidr.find('/');
  uint32_t base = 0;
  int bits = 0;
  if (slash == std::string_view::npos || !ParseIp(cidr.substr(0, slash), &base)) {
    return absl::InvalidArgumentError(StrCat("service CIDR \"", cidr, "\" is not an IPv4 network"));
  }
  for (char c : cidr.substr(slash + 1)) {
    if (c < '0' || c > '9' || bits > 32) bits = 99;
    bits = bits * 10 + (c - '0');
  }
  if (bits < 8 || bits > 30) {
    return absl::InvalidArgumentError(StrCat("service CIDR \"", cidr, "\": prefix length must be 8 to 30"));
  }
  const uint32_t size = uint32_t{1} << (32 - bits);
  if ((base & (size - 1)) != 0) {
    return absl::InvalidArgumentError(StrCat("service CIDR \"", cidr, "\" has host bits set"));
  }
  if (port_min < 1 || port_max > 65535 || port_min > port_max) {
    return absl::InvalidArgumentError(StrCat("node port range ", port_min, "-", port_max, " is not valid"));
  }
  std::unique_ptr<ServiceAllocator> a(new ServiceAllocator);
  a->cidr_ = std::string(cidr);
  a->first_ = base + 1;
  a->last_ = base + size - 2;
  const uint32_t band = size < 32 ? 0 : std::clamp<uint32_t>(size / 16, 16, 256);
  a->static_end_ = a->first_ + band;
  a->port_min_ = port_min;
  a->port_max_ = port_max;
  const int ports = port_max - port_min + 1;
  a->port_static_end_ = port_min + (ports < 32 ? 0 : std::clamp(ports / 32, 16, 128));
  return a;
}

absl::Status ServiceAllocator::SetDnsAddress(std::string_view ip) {
  constexpr uint32_t kDnsAddressIndex = 10;
  if (!ip.empty()) {
    if (ParseIp(ip, &dns_)) return absl::OkStatus();
    return absl::InvalidArgumentError(StrCat("cluster DNS \"", ip, "\" is not an IPv4 address"));
  }
  const uint32_t tenth = first_ - 1 + kDnsAddressIndex;
  dns_ = tenth <= last_ ? tenth : 0;
  return absl::OkStatus();
}

ServiceAllocator::Reservation::Reservation(Reservation&& o) noexcept
    : owner_(std::exchange(o.owner_, nullptr)), ips_(std::move(o.ips_)), ports_(std::move(o.ports_)) {}

ServiceAllocator::Reservation& ServiceAllocator::Reservation::operator=(Reservation&& o) noexcept {
  std::swap(owner_, o.owner_);
  std::swap(ips_, o.ips_);
  std::swap(ports_, o.ports_);
  return *this;
}

ServiceAllocator::Reservation::~Reservation() {
  if (owner_ == nullptr) return;
  for (uint32_t ip : ips_) owner_->ips_.erase(ip), owner_->pending_ips_.erase(ip);
  for (int port : ports_) owner_->ports_.erase(port), owner_->pending_ports_.erase(port);
}

void ServiceAllocator::Reservation::Keep() {
  if (owner_ == nullptr) return;
  for (uint32_t ip : ips_) owner_->pending_ips_.erase(ip);
  for (int port : ports_) owner_->pending_ports_.erase(port);
  owner_ = nullptr;
}

absl::StatusOr<uint32_t> ServiceAllocator::PickIp(Random& random) const {
  auto scan = [&](uint32_t from, uint32_t to) -> uint32_t {  // [from, to], a random start
    if (from > to) return 0;
    const uint32_t count = to - from + 1;
    const uint32_t start = static_cast<uint32_t>(random.Uniform(count));
    for (uint32_t i = 0; i < count; ++i) {
      uint32_t ip = from + (start + i) % count;
      if (ip != dns_ && !ips_.contains(ip)) return ip;
    }
    return 0;
  };
  // Never the first one: the `kubernetes` Service asks for it by name, maybe after others.
  const uint32_t from = first_ + 1;
  uint32_t ip = scan(std::max(static_end_, from), last_);
  if (ip == 0) ip = scan(from, static_end_ - 1);
  if (ip == 0) return absl::ResourceExhaustedError("range is full");
  return ip;
}

int ServiceAllocator::PickPort(Random& random) const {
  auto scan = [&](int from, int to) -> int {
    if (from > to) return 0;
    const int count = to - from + 1;
    const int start = static_cast<int>(random.Uniform(static_cast<uint64_t>(count)));
    for (int i = 0; i < count; ++i) {
      int port = from + (start + i) % count;
      if (!ports_.contains(port)) return port;
    }
    return 0;
  };
  int port = scan(port_static_end_, port_max_);
  if (port == 0) port = scan(port_min_, port_static_end_ - 1);
  return port;
}

FieldErrors ServiceAllocator::Reserve(Random& random, Service& service, const Service* old,
                                      Reservation* out) {
  FieldErrors errors;
  Reservation taken;
  taken.owner_ = this;
  auto take_ip = [&](uint32_t ip) {
    ips_.insert(ip);
    pending_ips_.insert(ip);
    taken.ips_.push_back(ip);
  };
  auto take_port = [&](int port) {
    ports_.insert(port);
    pending_ports_.insert(port);
    taken.ports_.push_back(port);
  };
  auto& spec = *service.mutable_spec();

  if (!NeedsClusterIp(service)) {
    spec.clear_cluster_ip();
    spec.clear_cluster_ips();
    spec.clear_ip_families();
    spec.clear_ip_family_policy();
  } else {
    NormalizeClusterIps(service);
    const std::set<uint32_t> had = old == nullptr ? std::set<uint32_t>() : IpsOf(*old);
    if (!IsHeadless(service)) {
      for (uint32_t ip : IpsOf(service)) {
        if (had.count(ip) != 0) continue;
        if (ip < first_ || ip > last_) {
          errors.push_back(
              IpError(IpText(ip),
                      StrCat("provided IP is not in the valid range. The range of valid IPs is ", cidr_)));
        } else if (ip == dns_) {
          errors.push_back(
              IpError(IpText(ip), "provided IP is the address of the cluster DNS, choose another"));
        } else if (ips_.contains(ip)) {
          errors.push_back(IpError(IpText(ip), "provided IP is already allocated"));
        } else {
          take_ip(ip);
        }
      }
      if (spec.cluster_ip().empty() && errors.empty()) {
        absl::StatusOr<uint32_t> ip = PickIp(random);
        if (!ip.ok()) {
          errors.push_back(IpError("", Sv(ip.status().message())));
        } else {
          take_ip(*ip);
          spec.set_cluster_ip(IpText(*ip));
          spec.clear_cluster_ips();
          spec.add_cluster_ips(spec.cluster_ip());
        }
      }
    }
    if (spec.ip_families().empty()) spec.add_ip_families("IPv4");
    // Endpoints that a user writes may be of any family.
    if (!spec.has_ip_family_policy() && spec.cluster_ip() == "None" && spec.selector().empty()) {
      spec.set_ip_family_policy("RequireDualStack");
      if (spec.ip_families_size() == 1) spec.add_ip_families(spec.ip_families(0) == "IPv4" ? "IPv6" : "IPv4");
    }
    if (!spec.has_ip_family_policy()) spec.set_ip_family_policy("SingleStack");
  }

  // A balancer that does without keeps those it has or names. What a change of the type gives up,
  // KeepAllocatedValues has dropped.
  if (TypeHasNodePorts(service)) {
    const std::set<int> had = old == nullptr ? std::set<int>() : PortsOf(*old);
    std::set<int> mine;  // one number may serve several protocols of this service
    for (int i = 0; i < spec.ports_size(); ++i) {
      const int port = spec.ports(i).node_port();
      if (port == 0 || had.count(port) != 0 || mine.count(port) != 0) continue;
      FieldError e;
      e.type = FieldError::Type::kInvalid;
      e.field = StrCat("spec.ports[", i, "].nodePort");
      e.bad_value = StrCat(port);
      if (port < port_min_ || port > port_max_) {
        e.detail = StrCat("provided port is not in the valid range. The range of valid ports is ", port_min_,
                          "-", port_max_);
        errors.push_back(std::move(e));
      } else if (ports_.contains(port)) {
        e.detail = "provided port is already allocated";
        errors.push_back(std::move(e));
      } else {
        take_port(port);
        mine.insert(port);
      }
    }
    std::map<int, int> by_port;  // port -> node port given to another protocol of the same port
    for (int i = 0; NeedsNodePorts(service) && errors.empty() && i < spec.ports_size(); ++i) {
      auto& p = *spec.mutable_ports(i);
      if (p.node_port() != 0) continue;
      auto same = by_port.find(p.port());
      if (same != by_port.end()) {
        p.set_node_port(same->second);
        by_port.erase(same);
        continue;
      }
      const int port = PickPort(random);
      if (port == 0) {
        FieldError e;
        e.type = FieldError::Type::kInvalid;
        e.field = StrCat("spec.ports[", i, "].nodePort");
        e.bad_value = "0";
        e.detail = "failed to allocate a nodePort: range is full";
        errors.push_back(std::move(e));
        break;
      }
      take_port(port);
      p.set_node_port(port);
      by_port[p.port()] = port;
    }
  }
  if (errors.empty()) *out = std::move(taken);
  return errors;
}

void ServiceAllocator::Release(const Service& before, const Service* after) {
  std::set<uint32_t> keep_ips;
  std::set<int> keep_ports;
  if (after != nullptr) {
    keep_ips = IpsOf(*after);
    keep_ports = PortsOf(*after);
  }
  for (uint32_t ip : IpsOf(before)) {
    if (keep_ips.count(ip) == 0) ips_.erase(ip);
  }
  for (int port : PortsOf(before)) {
    if (keep_ports.count(port) == 0) ports_.erase(port);
  }
}

void ServiceAllocator::Repair(const ClusterReader& cluster) {
  absl::flat_hash_set<uint32_t> ips(pending_ips_.begin(), pending_ips_.end());
  absl::flat_hash_set<int> ports(pending_ports_.begin(), pending_ports_.end());
  cluster.ForEach("", "services", "", [&](const api::Message& m) {
    const auto& service = static_cast<const Service&>(m);
    for (uint32_t ip : IpsOf(service)) {
      if (!ips.insert(ip).second) {
        LogWarning("cluster IP is used by two services",
                   {{"ip", IpText(ip)}, {"service", api::NamespacedName(m)}});
      } else if (ip < first_ || ip > last_) {
        LogWarning("cluster IP is outside of the service network",
                   {{"ip", IpText(ip)}, {"service", api::NamespacedName(m)}, {"cidr", cidr_}});
      } else if (ip == dns_) {
        LogWarning("cluster IP is the address of the cluster DNS, the service gets no traffic",
                   {{"ip", IpText(ip)}, {"service", api::NamespacedName(m)}});
      }
    }
    for (int port : PortsOf(service)) {
      if (!ports.insert(port).second) {
        LogWarning("node port is used by two services",
                   {{"port", port}, {"service", api::NamespacedName(m)}});
      }
    }
    return true;
  });
  ips_ = std::move(ips);
  ports_ = std::move(ports);
}

bool ServiceAllocator::InRange(std::string_view ip) const {
  uint32_t value = 0;
  return ParseIp(ip, &value) && value >= first_ && value <= last_;
}

void NormalizeClusterIps(Service& service) {
  auto& spec = *service.mutable_spec();
  if (!spec.cluster_ip().empty() && spec.cluster_ips().empty()) spec.add_cluster_ips(spec.cluster_ip());
  if (spec.cluster_ip().empty() && !spec.cluster_ips().empty()) spec.set_cluster_ip(spec.cluster_ips(0));
}

void KeepAllocatedValues(Service& service, const Service& old) {
  FollowClusterIp(service, old);
  PatchAllocatedValues(service, old);
  DropTypeDependentFields(service, old);
}

}  // namespace keelson::master
