#include "cri/server/host_ports.h"

#include <absl/strings/ascii.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "net/address.h"
#include "net/host_ip.h"
#include "net/nft.h"

namespace keelson::cri {
namespace {

using net::Cidr;
using net::IpAddress;

constexpr size_t kElementsPerCommand = 2000;  // bounds nft's parser memory
constexpr size_t kMaxCommentBytes = 120;
constexpr absl::Duration kRestoreRetry = absl::Seconds(1);
constexpr char kLinksSet[] = "localnet_links";
// nft's names for hook priorities are not valid in every hook, numbers are.
constexpr int kRawPriority = -300, kDstNatPriority = -100, kSrcNatPriority = 100;

// One port of one family, resolved.
struct Mapping {
  bool v6 = false;
  std::string protocol;
  std::optional<IpAddress> host_ip;  // nullopt: every address of the node
  uint16_t host_port = 0;
  IpAddress pod_ip;
  uint16_t container_port = 0;
};

std::string PortName(const HostPort& p) {
  std::string out = StrCat("host port ", p.host_port, "/", p.protocol);
  if (!p.host_ip.empty()) StrAppend(&out, " on ", p.host_ip);
  return out;
}

absl::StatusOr<std::vector<Mapping>> Resolve(const HostPort& port, const std::vector<std::string>& ips) {
  auto bad = [&](std::string_view why) {
    return absl::InvalidArgumentError(StrCat(PortName(port), ": ", why));
  };
  if (port.protocol != "tcp" && port.protocol != "udp" && port.protocol != "sctp")
    return bad("protocol must be tcp, udp or sctp");
  if (port.host_port == 0 || port.container_port == 0) return bad("ports must be 1 to 65535");
  std::optional<IpAddress> host;
  if (!port.host_ip.empty()) {
    absl::StatusOr<IpAddress> parsed = IpAddress::Parse(port.host_ip);
    if (!parsed.ok()) return bad("hostIP is no IP address");
    host = net::Unmapped(*parsed);
    if (host->is_v6() && host->is_loopback()) return bad("a port on ::1 cannot lead to a pod, use 127.0.0.1");
    if (host->is_multicast()) return bad("hostIP is a multicast address");
  }
  std::vector<Mapping> out;
  for (const std::string& text : ips) {
    absl::StatusOr<IpAddress> pod = IpAddress::Parse(text);
    if (!pod.ok()) return bad(StrCat("pod address \"", text, "\" is no IP address"));
    bool taken = std::any_of(out.begin(), out.end(), [&](const Mapping& m) { return m.v6 == pod->is_v6(); });
    if (taken || (host.has_value() && host->is_v6() != pod->is_v6())) continue;
    Mapping m{.v6 = pod->is_v6(),
              .protocol = port.protocol,
              .host_port = port.host_port,
              .pod_ip = *pod,
              .container_port = port.container_port};
    if (host.has_value() && !host->is_unspecified()) m.host_ip = host;
    out.push_back(std::move(m));
  }
  if (out.empty()) return bad("the pod has no address of that family");
  return out;
}

// What parses.
std::vector<Mapping> ResolveAll(const HostPortSandbox& sandbox) {
  std::vector<Mapping> out;
  for (const HostPort& port : sandbox.ports) {
    absl::StatusOr<std::vector<Mapping>> mappings = Resolve(port, sandbox.ips);
    if (mappings.ok()) out.insert(out.end(), mappings->begin(), mappings->end());
  }
  return out;
}

bool Collide(const Mapping& a, const Mapping& b) {
  return a.v6 == b.v6 && a.protocol == b.protocol && a.host_port == b.host_port &&
         (!a.host_ip.has_value() || !b.host_ip.has_value() || *a.host_ip == *b.host_ip);
}

bool OnLocalhost(const Mapping& m) { return !m.v6 && (!m.host_ip.has_value() || m.host_ip->is_loopback()); }

bool IsLocalhost(const IpAddress& ip) { return ip.is_v4() && ip.v4() == 0x7f000001; }

bool Shadows(const Mapping& m, const net::ListeningSocket& s) {
  if (s.port != m.host_port || m.protocol != (s.udp ? "udp" : "tcp")) return false;
  IpAddress at = net::Unmapped(s.address);
  // A socket on :: hears IPv4 too, unless it said otherwise; that is not to be seen from outside.
  if (at.is_unspecified()) return at.is_v6() || !m.v6;
  if (at.is_v6() != m.v6) return false;
  if (m.host_ip.has_value()) return *m.host_ip == at;
  return !at.is_loopback() || IsLocalhost(at);
}

// ---- text ----

// Elements by set and key; the value is what follows the key: comment, and target in a map.
using Elements = std::map<std::pair<std::string, std::string>, std::string>;

std::string Comment(const std::string& pod_name) {
  std::string out;
  for (char c : pod_name.substr(0, kMaxCommentBytes))
    out += absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '/' || c == '.' || c == '-' ? c : '_';
  return out.empty() ? "" : StrCat(" comment \"", out, "\"");
}

// A link's name as nft takes it; others (it may be almost anything) are left out.
bool IsPlainLink(const std::string& name) {
  return !name.empty() && name.size() < 16 && std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '-' || c == '_' || c == '@';
  });
}

Elements ElementsOf(const HostPortState& state, const std::set<std::string>& links) {
  Elements out;
  for (const auto& [id, sandbox] : state) {
    std::string comment = Comment(sandbox.pod_name);
    for (const Mapping& m : ResolveAll(sandbox)) {
      const char* family = m.v6 ? "6" : "4";
      std::string pod = m.pod_ip.ToString(), port = StrCat(m.protocol, " . ", m.host_port),
                  target = StrCat(comment, " : ", pod, " . ", m.container_port);
      if (m.host_ip.has_value()) {
        out.insert({{StrCat("one", family), StrCat(m.host_ip->ToString(), " . ", port)}, target});
      } else {
        out.insert({{StrCat("any", family), port}, target});
      }
      out.insert({{StrCat("targets", family), StrCat(pod, " . ", m.protocol, " . ", m.container_port)}, ""});
      out.insert({{StrCat("hairpin", family), StrCat(pod, " . ", pod)}, ""});
    }
  }
  for (const std::string& link : links) {
    if (IsPlainLink(link)) out.insert({{kLinksSet, StrCat("\"", link, "\"")}, ""});
  }
  return out;
}

std::string Commands(std::string_view verb, const std::string& table, const Elements& elements) {
  std::string out;
  size_t in_command = 0;
  const std::string* set = nullptr;
  for (const auto& [key, value] : elements) {
    bool next = set == nullptr || *set != key.first || in_command >= kElementsPerCommand;
    if (next && set != nullptr) out += "\n}\n";
    if (next) StrAppend(&out, verb, " element inet ", table, " ", key.first, " {\n  ");
    if (!next) out += ",\n  ";
    in_command = next ? 1 : in_command + 1;
    set = &key.first;
    StrAppend(&out, key.second, verb == "add" ? value : "");
  }
  if (set != nullptr) out += "\n}\n";
  return out;
}

std::string Blocks(const std::vector<std::string>& cidrs, bool v6) {
  std::vector<std::string> out;
  for (const std::string& text : cidrs) {
    absl::StatusOr<Cidr> cidr = Cidr::Parse(text);
    if (cidr.ok() && cidr->is_v4() != v6) out.push_back(cidr->Masked().ToString());
  }
  return absl::StrJoin(out, ", ");
}

std::string MasqueradeRules(const std::vector<std::string>& cidrs) {
  std::string out;
  if (std::string v4 = Blocks(cidrs, false); !v4.empty())
    StrAppend(&out, "    ip saddr { ", v4, " } ip daddr != { ", v4, ", 224.0.0.0/4 } masquerade\n");
  if (std::string v6 = Blocks(cidrs, true); !v6.empty())
    StrAppend(&out, "    ip6 saddr { ", v6, " } ip6 daddr != { ", v6, ", ff00::/8 } masquerade\n");
  return out;
}

std::string Cleanup(const std::string& table) {
  return StrCat("add table inet ", table, "\ndelete table inet ", table, "\n");
}

std::string BaseChain(std::string_view name, std::string_view type, std::string_view hook, int priority,
                      std::string_view rules) {
  return StrCat("  chain ", name, " {\n    type ", type, " hook ", hook, " priority ", priority,
                "; policy accept;\n", rules, "  }\n");
}

std::string SetsOf(std::string_view digit, std::string_view family, std::string_view address) {
  return StrCat("  map one", digit, " {\n    typeof ", family, " daddr . meta l4proto . th dport : ", family,
                " daddr . th dport\n  }\n  map any", digit,
                " {\n    typeof meta l4proto . th dport : ", family, " daddr . th dport\n  }\n  set targets",
                digit, " {\n    type ", address, " . inet_proto . inet_service\n  }\n  set hairpin", digit,
                " {\n    type ", address, " . ", address, "\n  }\n");
}

}  // namespace

std::string RenderHostPorts(const std::string& table, const HostPortState& state,
                            const std::vector<std::string>& masquerade_cidrs,
                            const std::set<std::string>& localnet_links) {
  Elements elements = ElementsOf(state, localnet_links);
  std::string masquerade = MasqueradeRules(masquerade_cidrs);
  std::string out = Cleanup(table);
  if (elements.empty() && masquerade.empty()) return out;
  StrAppend(&out, "table inet ", table, " {\n", SetsOf("4", "ip", "ipv4_addr"),
            SetsOf("6", "ip6", "ipv6_addr"), "  set ", kLinksSet, " {\n    type ifname\n  }\n");
  // ::1 and the rest of 127.0.0.0/8 stay the host's.
  StrAppend(&out,
            "  chain dispatch {\n"
            "    dnat ip to ip daddr . meta l4proto . th dport map @one4\n"
            "    ip daddr 127.0.0.0/8 ip daddr != 127.0.0.1 return\n"
            "    meta nfproto ipv4 dnat ip to meta l4proto . th dport map @any4\n"
            "    dnat ip6 to ip6 daddr . meta l4proto . th dport map @one6\n"
            "    ip6 daddr ::1 return\n"
            "    meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @any6\n"
            "  }\n");
  constexpr std::string_view kToNode = "    fib daddr type local jump dispatch\n";
  StrAppend(&out, BaseChain("nat_prerouting", "nat", "prerouting", kDstNatPriority, kToNode),
            BaseChain("nat_output", "nat", "output", kDstNatPriority, kToNode));
  // A pod that meets itself, or one behind the same bridge, would be answered past this host.
  StrAppend(&out,
            "  chain translated {\n"
            "    ip saddr 127.0.0.0/8 masquerade\n"
            "    ip saddr . ip daddr @hairpin4 masquerade\n"
            "    ip6 saddr . ip6 daddr @hairpin6 masquerade\n"
            "    meta iifkind \"bridge\" meta oifkind \"bridge\" masquerade\n"
            "  }\n");
  StrAppend(
      &out,
      BaseChain("nat_postrouting", "nat", "postrouting", kSrcNatPriority,
                StrCat("    ct status dnat ip daddr . meta l4proto . th dport @targets4 jump translated\n"
                       "    ct status dnat ip6 daddr . meta l4proto . th dport @targets6 jump translated\n",
                       masquerade)));
  StrAppend(&out,
            BaseChain("guard_localhost", "filter", "prerouting", kRawPriority,
                      "    iifname != \"lo\" ip daddr 127.0.0.0/8 drop\n"
                      "    iifname != \"lo\" ip saddr 127.0.0.0/8 drop\n"),
            "}\n");
  return out + Commands("add", table, elements);
}

std::string RenderHostPortsChange(const std::string& table, const HostPortState& from,
                                  const HostPortState& to, const std::set<std::string>& links_from,
                                  const std::set<std::string>& links_to) {
  Elements before = ElementsOf(from, links_from), after = ElementsOf(to, links_to), gone, come;
  for (const auto& [key, value] : before) {
    auto it = after.find(key);
    if (it == after.end() || it->second != value) gone.insert({key, value});
  }
  for (const auto& [key, value] : after) {
    auto it = before.find(key);
    if (it == before.end() || it->second != value) come.insert({key, value});
  }
  return Commands("delete", table, gone) + Commands("add", table, come);
}

absl::Status CheckHostPorts(const HostPortState& state, const HostPortSandbox& wanted) {
  std::vector<Mapping> own;
  for (const HostPort& port : wanted.ports) {
    absl::StatusOr<std::vector<Mapping>> mappings = Resolve(port, wanted.ips);
    if (!mappings.ok()) return Annotate(mappings.status(), StrCat("pod ", wanted.pod_name));
    for (const Mapping& m : *mappings) {
      for (const Mapping& other : own) {
        if (Collide(m, other))
          return absl::AlreadyExistsError(
              StrCat("pod ", wanted.pod_name, ": ", PortName(port), " is asked for twice"));
      }
      for (const auto& [id, sandbox] : state) {
        for (const Mapping& other : ResolveAll(sandbox)) {
          if (!Collide(m, other)) continue;
          return absl::AlreadyExistsError(
              StrCat("pod ", wanted.pod_name, ": ", PortName(port), " is taken by pod ", sandbox.pod_name));
        }
      }
    }
    own.insert(own.end(), mappings->begin(), mappings->end());
  }
  return absl::OkStatus();
}

const net::ListeningSocket* FindShadowed(const HostPortSandbox& wanted,
                                         const std::vector<net::ListeningSocket>& sockets) {
  for (const Mapping& m : ResolveAll(wanted)) {
    for (const net::ListeningSocket& s : sockets) {
      if (Shadows(m, s)) return &s;
    }
  }
  return nullptr;
}

namespace {

// Blocking; what Add finds out before it loads.
struct Survey {
  absl::Status status;
  std::set<std::string> links;  // whose route_localnet is off and has to be switched on
};

std::string LocalnetPath(const std::string& proc_root, const std::string& link) {
  return StrCat(proc_root, "/sys/net/ipv4/conf/", link, "/route_localnet");
}

// Names in the answer of `nft list set`: elements = { "cni0", "veth1" }.
std::set<std::string> ParseLinks(const std::string& text) {
  std::set<std::string> out;
  size_t at = text.find("elements = {");
  if (at == std::string::npos) return out;
  std::vector<std::string> parts = absl::StrSplit(text.substr(at, text.find('}', at) - at), '"');
  for (size_t i = 1; i < parts.size(); i += 2) {
    if (IsPlainLink(parts[i])) out.insert(parts[i]);
  }
  return out;
}

bool SameSandbox(const HostPortSandbox& a, const HostPortSandbox& b) {
  return RenderHostPorts("t", {{"", a}}) == RenderHostPorts("t", {{"", b}});
}

class NftHostPorts : public HostPorts {
 public:
  NftHostPorts(Env& env, HostPortsOptions options)
      : env_(env),
        options_(std::move(options)),
        scope_(env.executor()),
        nft_(env, net::NftOptions{.table = options_.table, .family = "inet", .nft = options_.nft}) {
    if (!options_.list_routes) options_.list_routes = &KernelRoutes;
    if (!options_.list_addresses) options_.list_addresses = &KernelAddresses;
    if (!options_.delete_flows) options_.delete_flows = &net::DeleteStaleFlows;
  }

  Task<absl::Status> Sync(HostPortState state) override;
  Task<absl::Status> Add(std::string sandbox_id, HostPortSandbox sandbox) override;
  Task<absl::Status> Remove(std::string sandbox_id) override;
  Task<void> Stop() override;

 private:
  struct Loaded {
    HostPortState state;
    std::set<std::string> links;
  };
  // Gives a sandbox's ports back unless kept, also when its Add is cancelled.
  struct Hold {
    Hold(NftHostPorts* o, std::string i) : owner(o), id(std::move(i)) { owner->pending_.insert(id); }
    ~Hold() {
      owner->pending_.erase(id);
      if (!keep) owner->state_.erase(id);
    }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;
    NftHostPorts* owner;
    std::string id;
    bool keep = false;
  };

  static absl::StatusOr<std::vector<net::Route>> KernelRoutes() {
    ASSIGN_OR_RETURN(net::Netlink netlink, net::Netlink::Open());
    return netlink.ListRoutes();
  }
  static absl::StatusOr<std::vector<net::InterfaceAddress>> KernelAddresses() {
    ASSIGN_OR_RETURN(net::Netlink netlink, net::Netlink::Open());
    return netlink.ListAddresses();
  }

  bool NeedsTable(const HostPortState& state, const std::set<std::string>& links) const {
    return !ElementsOf(state, links).empty() || !MasqueradeRules(options_.masquerade_cidrs).empty();
  }
  // Blocking: see Survey. Touches no member that changes.
  absl::Status CheckListeners(const HostPortSandbox& sandbox) const;
  std::set<std::string> ClosedLinks(const HostPortState& state) const;
  void OpenLinks(const std::set<std::string>& links) const;
  void ForgetFlows(const std::vector<net::StaleFlow>& flows) const;
  std::vector<net::StaleFlow> FlowsBefore(const HostPortSandbox& sandbox) const;

  // Brings the kernel to state_ and links_; one load serves all that wait.
  Task<absl::Status> Commit();
  Task<void> PruneLinks();
  Task<void> Restore();
  void OnForeignChange();

  Env& env_;
  HostPortsOptions options_;
  // A port is in state_ from the moment somebody is to get it; its sandbox is in pending_ until it may be
  // loaded.
  HostPortState state_;
  std::set<std::string> pending_;
  std::set<std::string> links_;
  std::optional<Loaded> loaded_;  // what the kernel has; nullopt: unknown
  uint64_t changes_ = 0, loaded_changes_ = 0;
  bool watching_ = false, restoring_ = false;
  AsyncMutex one_load_;
  Scope scope_;
  net::Nft nft_;
};

absl::Status NftHostPorts::CheckListeners(const HostPortSandbox& sandbox) const {
  absl::StatusOr<std::vector<net::ListeningSocket>> sockets = net::ListListeningSockets(options_.proc_root);
  if (!sockets.ok()) return sockets.status();
  const net::ListeningSocket* found = FindShadowed(sandbox, *sockets);
  if (found == nullptr) return absl::OkStatus();
  net::PortOwner owner = net::FindSocketOwner(*found, options_.proc_root);
  return absl::AlreadyExistsError(StrCat("pod ", sandbox.pod_name, ": host port ", found->port, "/",
                                         found->udp ? "udp" : "tcp", " is in use on this host by ",
                                         owner.ToString(), ", listening on ", found->address.ToString()));
}

std::set<std::string> NftHostPorts::ClosedLinks(const HostPortState& state) const {
  std::set<std::string> out;
  std::vector<IpAddress> pods;
  for (const auto& [id, sandbox] : state) {
    for (const Mapping& m : ResolveAll(sandbox)) {
      if (OnLocalhost(m)) pods.push_back(m.pod_ip);
    }
  }
  if (pods.empty()) return out;
  absl::StatusOr<std::vector<net::Route>> routes = options_.list_routes();
  if (!routes.ok()) {
    LogWarning("host ports: cannot read routes, ports will not answer on 127.0.0.1",
               {{"error", routes.status()}});
    return out;
  }
  for (const IpAddress& pod : pods) {
    const net::Route* best = nullptr;
    for (const net::Route& route : *routes) {
      if (!route.destination.has_value() || !route.destination->Contains(pod) || route.link_name == "lo")
        continue;
      if (best == nullptr || route.destination->prefix_length() > best->destination->prefix_length())
        best = &route;
    }
    if (best == nullptr || !IsPlainLink(best->link_name)) continue;
    absl::StatusOr<std::string> value = ReadFile(LocalnetPath(options_.proc_root, best->link_name), 64);
    if (value.ok() && *value == "0\n") out.insert(best->link_name);
  }
  return out;
}

void NftHostPorts::OpenLinks(const std::set<std::string>& links) const {
  for (const std::string& link : links) {
    absl::StatusOr<Fd> fd = OpenFile(LocalnetPath(options_.proc_root, link), O_WRONLY);
    absl::Status written = fd.ok() ? WriteAll(fd->get(), "1") : fd.status();
    if (!written.ok()) {
      LogWarning("host ports: cannot set route_localnet, ports will not answer on 127.0.0.1",
                 {{"link", link}, {"error", written}});
    }
  }
}

// Flows that began before the port was there went to the host itself and would go on to do so.
std::vector<net::StaleFlow> NftHostPorts::FlowsBefore(const HostPortSandbox& sandbox) const {
  std::vector<net::StaleFlow> out;
  for (const Mapping& m : ResolveAll(sandbox)) {
    if (m.v6 || m.protocol != "udp") continue;
    if (m.host_ip.has_value()) {
      out.push_back({.vip = *m.host_ip, .port = m.host_port});
      continue;
    }
    absl::StatusOr<std::vector<net::InterfaceAddress>> addresses = options_.list_addresses();
    if (!addresses.ok()) continue;
    for (const net::InterfaceAddress& a : *addresses) {
      if (a.cidr.is_v4()) out.push_back({.vip = a.cidr.address(), .port = m.host_port});
    }
  }
  return out;
}

void NftHostPorts::ForgetFlows(const std::vector<net::StaleFlow>& flows) const {
  if (flows.empty()) return;
  absl::StatusOr<size_t> deleted = options_.delete_flows(flows);
  if (!deleted.ok()) LogWarning("host ports: old UDP flows stay", {{"error", deleted.status()}});
}

Task<absl::Status> NftHostPorts::Commit() {
  uint64_t mine = ++changes_;
  Task<AsyncMutex::Guard> lock = one_load_.Lock();
  AsyncMutex::Guard guard = co_await std::move(lock);
  if (loaded_changes_ >= mine) co_return absl::OkStatus();
  uint64_t covers = changes_, foreign = nft_.foreign_changes();
  Loaded next{state_, links_};
  for (const std::string& id : pending_) next.state.erase(id);
  bool need = NeedsTable(next.state, next.links);
  bool have = loaded_.has_value() && NeedsTable(loaded_->state, loaded_->links);
  std::string script;
  bool change = have && need;
  if (change)
    script = RenderHostPortsChange(options_.table, loaded_->state, next.state, loaded_->links, next.links);
  if ((change && script.empty()) || (loaded_.has_value() && !have && !need)) {
    loaded_ = std::move(next);
    loaded_changes_ = covers;
    co_return absl::OkStatus();
  }
  std::string full = RenderHostPorts(options_.table, next.state, options_.masquerade_cidrs, next.links);
  if (!change) script = full;
  loaded_.reset();
  Task<absl::Status> load = nft_.Apply(std::move(script));
  absl::Status status = co_await std::move(load);
  if (!status.ok() && change) {
    // Somebody changed the table: all of it, then.
    Task<absl::Status> again = nft_.Apply(std::move(full));
    status = co_await std::move(again);
  }
  // Without nft there is no table to remove either.
  if (!need && absl::IsNotFound(status)) status = absl::OkStatus();
  if (!status.ok()) co_return Annotate(status, "host ports");
  if (nft_.foreign_changes() == foreign) loaded_ = std::move(next);
  loaded_changes_ = covers;
  co_return absl::OkStatus();
}

Task<void> NftHostPorts::PruneLinks() {
  std::set<std::string> links = links_;
  std::string root = options_.proc_root;
  Task<std::set<std::string>> look = env_.Blocking<std::set<std::string>>([links, root] {
    std::set<std::string> gone;
    for (const std::string& link : links) {
      if (::access(LocalnetPath(root, link).c_str(), F_OK) != 0) gone.insert(link);
    }
    return gone;
  });
  std::set<std::string> gone = co_await std::move(look);
  for (const std::string& link : gone) links_.erase(link);
}

Task<absl::Status> NftHostPorts::Sync(HostPortState state) {
  for (const std::string& text : options_.masquerade_cidrs) {
    absl::StatusOr<Cidr> cidr = Cidr::Parse(text);
    if (!cidr.ok()) co_return Annotate(cidr.status(), "host ports: masquerade block");
  }
  for (auto it = state.begin(); it != state.end();) {
    HostPortState before(state.begin(), it);
    absl::Status good = CheckHostPorts(before, it->second);
    if (!good.ok())
      LogWarning("host ports: a recorded sandbox is left out", {{"sandbox", it->first}, {"error", good}});
    it = good.ok() ? std::next(it) : state.erase(it);
  }
  state_ = std::move(state);
  if (options_.watch && !watching_) {
    CO_RETURN_IF_ERROR_SYNC(nft_.Watch([this] { OnForeignChange(); }));
    watching_ = true;
  }
  // What an earlier life left open.
  SubprocessOptions list;
  list.argv = {options_.nft, "list", "set", "inet", options_.table, kLinksSet};
  Task<absl::StatusOr<SubprocessResult>> run = env_.subprocess().Run(std::move(list));
  absl::StatusOr<SubprocessResult> listed = co_await std::move(run);
  if (listed.ok() && listed->ok()) links_.merge(ParseLinks(listed->stdout_data));
  Task<void> prune = PruneLinks();
  co_await std::move(prune);
  HostPortState now = state_;
  Task<std::set<std::string>> look =
      env_.Blocking<std::set<std::string>>([this, now] { return ClosedLinks(now); });
  std::set<std::string> closed = co_await std::move(look);
  links_.insert(closed.begin(), closed.end());
  loaded_.reset();
  Task<absl::Status> commit = Commit();
  absl::Status status = co_await std::move(commit);
  if (!status.ok()) co_return status;
  Task<bool> open = env_.Blocking<bool>([this, closed] {
    OpenLinks(closed);
    return true;
  });
  co_await std::move(open);
  co_return absl::OkStatus();
}

Task<absl::Status> NftHostPorts::Add(std::string sandbox_id, HostPortSandbox sandbox) {
  if (sandbox.ports.empty()) co_return absl::OkStatus();
  HostPortState others = state_;
  others.erase(sandbox_id);
  CO_RETURN_IF_ERROR_SYNC(CheckHostPorts(others, sandbox));
  auto held = state_.find(sandbox_id);
  bool again = held != state_.end() && SameSandbox(held->second, sandbox);
  state_[sandbox_id] = sandbox;
  Hold hold(this, sandbox_id);
  Task<Survey> look = env_.Blocking<Survey>([this, sandbox, again] {
    Survey out;
    if (!again) out.status = CheckListeners(sandbox);
    if (out.status.ok()) out.links = ClosedLinks({{"", sandbox}});
    return out;
  });
  Survey survey = co_await std::move(look);
  if (!survey.status.ok()) co_return survey.status;
  links_.insert(survey.links.begin(), survey.links.end());
  pending_.erase(sandbox_id);
  Task<absl::Status> commit = Commit();
  absl::Status status = co_await std::move(commit);
  if (!status.ok()) co_return status;  // nothing was loaded
  hold.keep = true;
  Task<bool> open = env_.Blocking<bool>([this, survey, sandbox] {
    OpenLinks(survey.links);
    ForgetFlows(FlowsBefore(sandbox));
    return true;
  });
  co_await std::move(open);
  co_return absl::OkStatus();
}

Task<absl::Status> NftHostPorts::Remove(std::string sandbox_id) {
  auto it = state_.find(sandbox_id);
  if (it == state_.end()) co_return absl::OkStatus();
  std::vector<net::StaleFlow> flows;
  for (const Mapping& m : ResolveAll(it->second)) {
    if (!m.v6 && m.protocol == "udp") flows.push_back({.port = m.host_port, .endpoint = m.pod_ip});
  }
  HostPortSandbox removed = std::move(it->second);
  state_.erase(it);
  Task<void> prune = PruneLinks();
  co_await std::move(prune);
  Task<absl::Status> commit = Commit();
  absl::Status status = co_await std::move(commit);
  if (!status.ok()) {
    // Still in the kernel, so still held; the caller tries again.
    state_.insert({sandbox_id, std::move(removed)});
    co_return status;
  }
  if (flows.empty()) co_return absl::OkStatus();
  Task<bool> forget = env_.Blocking<bool>([this, flows] {
    ForgetFlows(flows);
    return true;
  });
  co_await std::move(forget);
  co_return absl::OkStatus();
}

void NftHostPorts::OnForeignChange() {
  loaded_.reset();
  if (restoring_ || scope_.closing() || !NeedsTable(state_, links_)) return;
  LogWarning("nft table was changed by someone else, restoring it", {{"table", options_.table}});
  restoring_ = true;
  scope_.Spawn("restore host ports", Restore());
}

Task<void> NftHostPorts::Restore() {
  while (true) {
    restoring_ = false;  // a change from here on is a new one
    Task<absl::Status> commit = Commit();
    absl::Status status = co_await std::move(commit);
    if (status.ok() || restoring_) co_return;
    LogWarning("host ports: restoring failed, trying again", {{"table", options_.table}, {"error", status}});
    restoring_ = true;
    Task<void> sleep = env_.clock().Sleep(kRestoreRetry);
    co_await std::move(sleep);
  }
}

Task<void> NftHostPorts::Stop() {
  Task<void> stop = nft_.Stop();
  co_await std::move(stop);
  Task<void> close = scope_.Close();
  co_await std::move(close);
}

}  // namespace

std::unique_ptr<HostPorts> NewHostPorts(Env& env, HostPortsOptions options) {
  return std::make_unique<NftHostPorts>(env, std::move(options));
}

}  // namespace keelson::cri
