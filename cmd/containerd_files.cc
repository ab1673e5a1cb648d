#include "cmd/containerd_files.h"

#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson {

extern const char kTemplate_config_toml_in[];
extern const char kTemplate_hosts_mirror_toml_in[];
extern const char kTemplate_hosts_local_toml_in[];
extern const char kTemplate_10_keelson_conflist_in[];
extern const char kTemplate_registry_yml_in[];

absl::StatusOr<std::string> FillTemplate(const std::string& text,
                                         const std::map<std::string, std::string>& values) {
  std::string out;
  size_t at = 0;
  while (true) {
    size_t start = text.find('@', at);
    size_t end = start == std::string::npos ? start : text.find('@', start + 1);
    if (end == std::string::npos) break;
    std::string name = text.substr(start + 1, end - start - 1);
    bool is_name =
        !name.empty() && name.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789") == std::string::npos;
    out.append(text, at, start - at);
    if (!is_name) {
      out.push_back('@');
      at = start + 1;
      continue;
    }
    auto value = values.find(name);
    if (value == values.end())
      return absl::InvalidArgumentError(StrCat("template: no value for @", name, "@"));
    out.append(value->second);
    at = end + 1;
  }
  out.append(text, at);
  return out;
}

absl::StatusOr<std::map<std::string, std::string>> ContainerdFiles(const ClusterLayout& layout) {
  std::map<std::string, std::string> values = {
      {"STATE_DIR", layout.paths.state_dir},
      {"RUN_DIR", layout.paths.run_dir},
      {"ETC_DIR", layout.paths.etc_dir},
      {"POD_CIDR", layout.node_pod_cidr()},
      {"REGISTRY_ADDRESS", StrCat("127.0.0.1:", layout.options.registry_port)},
      {"REGISTRY_PORT", StrCat(layout.options.registry_port)},
  };
  std::map<std::string, std::string> files;
  std::string certs = layout.registries_dir() + "/";
  if (layout.own_containerd()) {
    ASSIGN_OR_RETURN(files[layout.containerd_config()], FillTemplate(kTemplate_config_toml_in, values));
  }
  ASSIGN_OR_RETURN(files[layout.registry_config()], FillTemplate(kTemplate_registry_yml_in, values));
  ASSIGN_OR_RETURN(files[layout.cni_conf_dir() + "/10-keelson.conflist"],
                   FillTemplate(kTemplate_10_keelson_conflist_in, values));
  ASSIGN_OR_RETURN(files[certs + "keelson.local/hosts.toml"],
                   FillTemplate(kTemplate_hosts_local_toml_in, values));
  for (const auto& [name, server] :
       {std::pair("docker.io", "registry-1.docker.io"), std::pair("registry.k8s.io", "registry.k8s.io")}) {
    values["REGISTRY_HOST"] = name;
    values["REGISTRY_SERVER"] = server;
    ASSIGN_OR_RETURN(files[certs + name + "/hosts.toml"],
                     FillTemplate(kTemplate_hosts_mirror_toml_in, values));
  }
  return files;
}

std::string KubeletConfigYaml(const ClusterLayout& layout) {
  const ClusterOptions& options = layout.options;
  std::string yaml = StrCat(
      "apiVersion: kubelet.config.k8s.io/v1beta1\n"
      "kind: KubeletConfiguration\n"
      "address: 0.0.0.0\n"
      "port: ",
      options.kubelet_port,
      "\n"
      "healthzBindAddress: 127.0.0.1\n"
      "healthzPort: ",
      options.kubelet_healthz_port,
      "\n"
      "authentication:\n"
      "  anonymous: {enabled: false}\n"
      "  webhook: {enabled: false}\n"
      "  x509: {clientCAFile: ",
      layout.pki("ca.crt"),
      "}\n"
      "tlsCertFile: ",
      layout.pki("kubelet-server.crt"),
      "\n"
      "tlsPrivateKeyFile: ",
      layout.pki("kubelet-server.key"),
      "\n"
      "clusterDNS: [",
      layout.dns_ip(),
      "]\n"
      "clusterDomain: ",
      options.cluster_domain,
      "\n"
      "cgroupDriver: cgroupfs\n"
      "staticPodPath: ",
      layout.manifest_dir(),
      "\n"
      "containerRuntimeEndpoint: ",
      layout.runtime_endpoint(),
      "\n"
      // One machine, often with a small or full disk: upstream's percentages would evict everything at once.
      "evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}\n");
  if (!layout.paths.cgroup_root.empty()) StrAppend(&yaml, "cgroupRoot: /", layout.paths.cgroup_root, "\n");
  return yaml;
}

absl::Status EnsureClusterFiles(const ClusterLayout& layout) {
  ASSIGN_OR_RETURN(auto files, ContainerdFiles(layout));
  files[layout.kubelet_config()] = KubeletConfigYaml(layout);
  for (const auto& [path, contents] : files) {
    auto current = ReadFile(path);
    if (current.ok() && *current == contents) continue;
    RETURN_IF_ERROR(MakeDirs(path.substr(0, path.rfind('/'))));
    RETURN_IF_ERROR(WriteFileAtomic(path, contents, 0644, /*durable=*/false));
  }
  for (const std::string& dir :
       {layout.manifest_dir(), layout.paths.state_dir, layout.paths.run_dir, layout.paths.log_dir,
        layout.paths.kubelet_dir, layout.paths.pod_logs_dir, layout.paths.container_logs_dir}) {
    RETURN_IF_ERROR(MakeDirs(dir));
  }
  return absl::OkStatus();
}

}  // namespace keelson
