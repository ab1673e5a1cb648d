#include "cmd/cluster_pki.h"

#include <unistd.h>

#include <cerrno>
#include <vector>

#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "client/kubeconfig.h"
#include "net/pki.h"

namespace keelson {
namespace {

absl::StatusOr<net::CertificateAuthority> EnsureAuthority(const ClusterLayout& layout, absl::Time now) {
  std::string cert = layout.pki("ca.crt"), key = layout.pki("ca.key");
  auto authority = net::CertificateAuthority::LoadFiles(cert, key);
  if (authority.ok()) return authority;
  if (!absl::IsNotFound(authority.status())) return Annotate(authority.status(), StrCat("load ", cert));
  ASSIGN_OR_RETURN(net::CertificateAuthority made, net::CertificateAuthority::Create("keelson", now));
  RETURN_IF_ERROR(net::SaveKeyPair(made.pair(), cert, key));
  return made;
}

absl::StatusOr<net::KeyPair> EnsureLeaf(const ClusterLayout& layout,
                                        const net::CertificateAuthority& authority, const std::string& name,
                                        const net::CertificateSpec& spec, absl::Time now) {
  std::string cert = layout.pki(name + ".crt"), key = layout.pki(name + ".key");
  auto pair = net::LoadKeyPair(cert, key);
  if (pair.ok()) {
    auto info = net::ParseCertificate(pair->certificate_pem);
    auto use = spec.server ? net::CertificateUse::kServer : net::CertificateUse::kClient;
    if (info.ok() && !net::NeedsRenewal(*info, now) && net::CertificateCovers(*info, spec) &&
        net::VerifyCertificate(pair->certificate_pem, authority.certificate_pem(), now, use).ok()) {
      return pair;
    }
    LogInfo("renewing certificate", {{"name", name}});
  }
  ASSIGN_OR_RETURN(net::KeyPair made, authority.Issue(spec, now));
  RETURN_IF_ERROR(net::SaveKeyPair(made, cert, key));
  return made;
}

net::CertificateSpec Client(const std::string& user, std::vector<std::string> groups) {
  net::CertificateSpec spec;
  spec.common_name = user;
  spec.organizations = std::move(groups);
  spec.client = true;
  return spec;
}

absl::Status EnsureKubeconfig(const ClusterLayout& layout, const net::CertificateAuthority& authority,
                              const net::KeyPair& pair, const std::string& user, const std::string& path) {
  client::KubeConfig config;
  config.server = layout.server_url();
  config.ca_pem = authority.certificate_pem();
  config.client_certificate_pem = pair.certificate_pem;
  config.client_key_pem = pair.private_key_pem;
  config.user = user;
  auto current = ReadFile(path);
  if (current.ok() && *current == client::RenderKubeConfig(config)) return absl::OkStatus();
  return client::WriteKubeConfig(config, path);
}

}  // namespace

absl::Status EnsureClusterPki(const ClusterLayout& layout, absl::Time now) {
  RETURN_IF_ERROR(MakeDirs(layout.paths.etc_dir, 0755));
  ASSIGN_OR_RETURN(net::CertificateAuthority authority, EnsureAuthority(layout, now));
  const ClusterOptions& options = layout.options;

  net::CertificateSpec apiserver;
  apiserver.common_name = "kube-apiserver";
  apiserver.server = true;
  apiserver.dns_names = {"kubernetes",
                         "kubernetes.default",
                         "kubernetes.default.svc",
                         StrCat("kubernetes.default.svc.", options.cluster_domain),
                         "localhost",
                         options.node_name};
  apiserver.ip_addresses = {layout.service_ip(1), "127.0.0.1", "::1"};
  if (options.node_ip != "127.0.0.1") apiserver.ip_addresses.push_back(options.node_ip);
  RETURN_IF_ERROR(EnsureLeaf(layout, authority, "apiserver", apiserver, now).status());

  RETURN_IF_ERROR(EnsureLeaf(layout, authority, "apiserver-kubelet-client",
                             Client("kube-apiserver-kubelet-client", {"system:masters"}), now)
                      .status());

  net::CertificateSpec kubelet;
  kubelet.common_name = StrCat("system:node:", options.node_name);
  kubelet.organizations = {"system:nodes"};
  kubelet.server = true;
  kubelet.dns_names = {options.node_name, "localhost"};
  kubelet.ip_addresses = {"127.0.0.1"};
  if (options.node_ip != "127.0.0.1") kubelet.ip_addresses.push_back(options.node_ip);
  RETURN_IF_ERROR(EnsureLeaf(layout, authority, "kubelet-server", kubelet, now).status());

  struct User {
    const char* name;
    std::string user;
    std::vector<std::string> groups;
    std::string kubeconfig;
  };
  const User users[] = {
      {"admin", "kubernetes-admin", {"system:masters"}, layout.admin_conf()},
      {"kubelet-client", StrCat("system:node:", options.node_name), {"system:nodes"}, layout.kubelet_conf()},
      {"proxy-client", "system:kube-proxy", {"system:node-proxier"}, layout.proxy_conf()},
  };
  for (const User& user : users) {
    ASSIGN_OR_RETURN(net::KeyPair pair,
                     EnsureLeaf(layout, authority, user.name, Client(user.user, user.groups), now));
    RETURN_IF_ERROR(EnsureKubeconfig(layout, authority, pair, user.user, user.kubeconfig));
  }
  return absl::OkStatus();
}

absl::Status WriteUserKubeconfig(const ClusterLayout& layout, const std::string& path,
                                 const std::string& server, unsigned uid, unsigned gid) {
  auto config = client::LoadKubeConfig(layout.admin_conf());
  if (!config.ok()) return Annotate(config.status(), "is the cluster up? run `keelson up` first");
  if (!server.empty()) config->server = server;
  RETURN_IF_ERROR(client::WriteKubeConfig(*config, path));
  if (::chown(path.c_str(), uid, gid) != 0) return ErrnoStatus(errno, StrCat("chown ", path));
  return absl::OkStatus();
}

}  // namespace keelson
