#include "kubelet/pod_network.h"

#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>

#include <algorithm>

namespace keelson::kubelet {
namespace {

constexpr size_t kMaxNameservers = 3;  // resolver(3) MAXNS
constexpr size_t kMaxSearches = 32;
constexpr size_t kMaxSearchChars = 2048;
constexpr size_t kMaxHostnameBytes = 63;      // of one label
constexpr size_t kMaxFqdnHostnameBytes = 64;  // what the kernel takes

void AddUnique(std::vector<std::string>& list, const std::string& item) {
  if (std::find(list.begin(), list.end(), item) == list.end()) list.push_back(item);
}

std::string OptionName(const std::string& option) { return option.substr(0, option.find(':')); }

void SetOption(std::vector<std::string>& options, const std::string& option) {
  std::string name = OptionName(option);
  for (std::string& o : options) {
    if (OptionName(o) == name) {
      o = option;
      return;
    }
  }
  options.push_back(option);
}

void ApplyLimits(ResolvConf& conf, std::vector<std::string>& warnings) {
  if (conf.servers.size() > kMaxNameservers) {
    conf.servers.resize(kMaxNameservers);
    warnings.push_back(
        StrCat("Nameserver limits were exceeded, some nameservers have been omitted, the applied "
               "nameserver line is: ",
               absl::StrJoin(conf.servers, " ")));
  }
  bool cut = conf.searches.size() > kMaxSearches;
  if (cut) conf.searches.resize(kMaxSearches);
  while (absl::StrJoin(conf.searches, " ").size() > kMaxSearchChars) {
    conf.searches.pop_back();
    cut = true;
  }
  if (cut) {
    warnings.push_back(
        StrCat("Search Line limits were exceeded, some search paths have been omitted, the applied "
               "search line is: ",
               absl::StrJoin(conf.searches, " ")));
  }
}

}  // namespace

ResolvConf ParseResolvConf(std::string_view text) {
  ResolvConf out;
  for (absl::string_view line : absl::StrSplit(Av(text), '\n')) {
    line = line.substr(0, line.find_first_of("#;"));
    std::vector<std::string> words = absl::StrSplit(line, absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
    if (words.empty()) continue;
    if (words[0] == "nameserver" && words.size() > 1) {
      out.servers.push_back(words[1]);
    } else if (words[0] == "search") {
      out.searches.clear();
      for (size_t i = 1; i < words.size(); ++i) {
        std::string s = words[i];
        if (s.size() > 1 && s.back() == '.') s.pop_back();
        out.searches.push_back(s);
      }
    } else if (words[0] == "options") {
      out.options.insert(out.options.end(), words.begin() + 1, words.end());
    }
  }
  return out;
}

absl::StatusOr<criv1::DNSConfig> MakeDnsConfig(const corev1::Pod& pod, DnsInputs& in) {
  std::string policy = pod.spec().dns_policy().empty() ? "ClusterFirst" : pod.spec().dns_policy();
  ResolvConf conf;
  bool cluster =
      policy == "ClusterFirstWithHostNet" || (policy == "ClusterFirst" && !pod.spec().host_network());
  if (cluster && in.cluster_dns.empty()) {
    in.warnings.push_back(
        StrCat("kubelet does not have ClusterDNS IP configured and cannot create Pod using \"", policy,
               "\" policy. Falling back to \"Default\" policy."));
    cluster = false;
  }
  if (cluster) {
    conf.servers = in.cluster_dns;
    if (!in.cluster_domain.empty()) {
      AddUnique(conf.searches, StrCat(pod.metadata().namespace_(), ".svc.", in.cluster_domain));
      AddUnique(conf.searches, StrCat("svc.", in.cluster_domain));
      AddUnique(conf.searches, in.cluster_domain);
    }
    for (const std::string& s : in.host.searches) AddUnique(conf.searches, s);
    conf.options = {"ndots:5"};
  } else if (policy == "Default" || policy == "ClusterFirst" || policy == "ClusterFirstWithHostNet") {
    conf = in.host;
    if (conf.servers.empty()) conf.servers = {"127.0.0.1"};
  } else if (policy != "None") {
    return absl::InvalidArgumentError(StrCat("spec.dnsPolicy: unsupported value \"", policy, "\""));
  }
  if (pod.spec().has_dns_config()) {
    const auto& own = pod.spec().dns_config();
    for (const std::string& s : own.nameservers()) AddUnique(conf.servers, s);
    for (const std::string& s : own.searches()) AddUnique(conf.searches, s);
    for (const auto& o : own.options()) {
      SetOption(conf.options,
                o.has_value() && !o.value().empty() ? StrCat(o.name(), ":", o.value()) : o.name());
    }
  }
  ApplyLimits(conf, in.warnings);
  criv1::DNSConfig out;
  for (const std::string& s : conf.servers) out.add_servers(s);
  for (const std::string& s : conf.searches) out.add_searches(s);
  for (const std::string& s : conf.options) out.add_options(s);
  return out;
}

absl::StatusOr<PodHostname> MakeHostname(const corev1::Pod& pod, std::string_view node_hostname,
                                         std::string_view cluster_domain) {
  PodHostname out;
  if (pod.spec().has_hostname_override() && !pod.spec().hostname_override().empty()) {
    out.hostname = pod.spec().hostname_override();
    return out;
  }
  if (pod.spec().host_network()) {
    out.hostname = std::string(node_hostname);
    return out;
  }
  out.hostname = pod.spec().hostname().empty() ? pod.metadata().name() : pod.spec().hostname();
  if (out.hostname.size() > kMaxHostnameBytes) {
    out.hostname.resize(kMaxHostnameBytes);
    while (!out.hostname.empty() && (out.hostname.back() == '-' || out.hostname.back() == '.'))
      out.hostname.pop_back();
  }
  if (!pod.spec().subdomain().empty()) {
    out.fqdn = StrCat(out.hostname, ".", pod.spec().subdomain(), ".", pod.metadata().namespace_(), ".svc.",
                      cluster_domain);
  }
  if (pod.spec().set_hostname_as_fqdn() && !out.fqdn.empty()) {
    if (out.fqdn.size() > kMaxFqdnHostnameBytes) {
      return absl::InvalidArgumentError(
          StrCat("failed to construct FQDN from pod hostname and cluster domain, FQDN ", out.fqdn,
                 " is too long (64 characters is the max, ", out.fqdn.size(), " characters requested)"));
    }
    out.hostname = out.fqdn;
  }
  return out;
}

std::string MakeHostsFile(const corev1::Pod& pod, const std::vector<std::string>& pod_ips,
                          const PodHostname& name, std::string_view host_file) {
  std::string out;
  if (pod.spec().host_network()) {
    out = StrCat("# Kubernetes-managed hosts file (host network).\n", host_file);
    if (!host_file.empty() && host_file.back() != '\n') out += '\n';
  } else {
    out =
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
        "fe00::\tip6-localnet\nfe00::\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";
    for (const std::string& ip : pod_ips) {
      if (!name.fqdn.empty() && name.fqdn != name.hostname) {
        StrAppend(&out, ip, "\t", name.fqdn, "\t", name.hostname, "\n");
      } else {
        StrAppend(&out, ip, "\t", name.hostname, "\n");
      }
    }
  }
  if (pod.spec().host_aliases_size() > 0) {
    out += "\n# Entries added by HostAliases.\n";
    for (const auto& alias : pod.spec().host_aliases()) {
      StrAppend(&out, alias.ip(), "\t", absl::StrJoin(alias.hostnames(), "\t"), "\n");
    }
  }
  return out;
}

std::vector<criv1::PortMapping> MakePortMappings(const corev1::Pod& pod) {
  std::vector<criv1::PortMapping> out;
  auto add = [&](const corev1::Container& c) {
    for (const auto& port : c.ports()) {
      if (port.host_port() == 0) continue;
      criv1::PortMapping& m = out.emplace_back();
      m.set_container_port(port.container_port());
      m.set_host_port(port.host_port());
      m.set_host_ip(port.host_ip());
      m.set_protocol(port.protocol() == "UDP"    ? criv1::UDP
                     : port.protocol() == "SCTP" ? criv1::SCTP
                                                 : criv1::TCP);
    }
  };
  for (const auto& c : pod.spec().containers()) add(c);
  for (const auto& c : pod.spec().init_containers()) {
    if (IsRestartableInit(c)) add(c);
  }
  return out;
}

}  // namespace keelson::kubelet
