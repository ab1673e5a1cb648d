#include "client/kubeconfig.h"

#include "api/codec.h"
#include "api/kubeconfig/v1/kubeconfig.pb.h"
#include "api/yaml.h"
#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson::client {

namespace kubeconfigv1 = ::k8s::kubeconfig::v1;

namespace {

constexpr size_t kMaxKubeConfigBytes = 4 << 20;
constexpr size_t kMaxPemBytes = 1 << 20;

template <class List>
auto* FindNamed(const List& list, const std::string& name) {
  for (const auto& entry : list) {
    if (entry.name() == name) return &entry;
  }
  return static_cast<decltype(&*list.begin())>(nullptr);
}

// Inline data wins over a file, as upstream.
absl::StatusOr<std::string> DataOrFile(const std::string& data, const std::string& file,
                                       const std::string& folder, std::string_view field) {
  if (!data.empty() || file.empty()) return data;
  auto text = ReadFile(file.starts_with('/') ? file : StrCat(folder, "/", file), kMaxPemBytes);
  if (!text.ok()) return Annotate(text.status(), StrCat("kubeconfig: ", field));
  return text;
}

}  // namespace

absl::StatusOr<KubeConfig> ParseKubeConfig(const std::string& yaml, const std::string& folder,
                                           const std::string& context) {
  kubeconfigv1::Config file;
  RETURN_IF_ERROR(Annotate(api::DecodeYamlInto(yaml, file), "kubeconfig"));
  KubeConfig config;
  config.context = context.empty() ? file.current_context() : context;
  if (config.context.empty()) {
    return absl::InvalidArgumentError("kubeconfig: current-context is empty: set it, or name a context");
  }
  const auto* named_context = FindNamed(file.contexts(), config.context);
  if (named_context == nullptr) {
    return absl::InvalidArgumentError(StrCat("kubeconfig: contexts has no \"", config.context, "\""));
  }
  config.cluster = named_context->context().cluster();
  config.user = named_context->context().user();
  if (!named_context->context().namespace_().empty()) config.ns = named_context->context().namespace_();
  const auto* named_cluster = FindNamed(file.clusters(), config.cluster);
  if (named_cluster == nullptr) {
    return absl::InvalidArgumentError(StrCat("kubeconfig: clusters has no \"", config.cluster, "\""));
  }
  const kubeconfigv1::Cluster& cluster = named_cluster->cluster();
  config.server = cluster.server();
  if (config.server.empty()) {
    return absl::InvalidArgumentError(
        StrCat("kubeconfig: clusters[", config.cluster, "].cluster.server is empty"));
  }
  config.tls_server_name = cluster.tls_server_name();
  config.insecure_skip_tls_verify = cluster.insecure_skip_tls_verify();
  ASSIGN_OR_RETURN(config.ca_pem,
                   DataOrFile(cluster.certificate_authority_data(), cluster.certificate_authority(), folder,
                              "certificate-authority"));
  if (config.user.empty()) return config;
  const auto* named_user = FindNamed(file.users(), config.user);
  if (named_user == nullptr) {
    return absl::InvalidArgumentError(StrCat("kubeconfig: users has no \"", config.user, "\""));
  }
  const kubeconfigv1::AuthInfo& user = named_user->user();
  if (user.has_exec() || user.has_auth_provider() || !user.username().empty() || !user.as().empty()) {
    return absl::UnimplementedError(
        StrCat("kubeconfig: users[", config.user,
               "]: exec, auth-provider, username and as are not supported: use a client "
               "certificate or a token"));
  }
  ASSIGN_OR_RETURN(
      config.client_certificate_pem,
      DataOrFile(user.client_certificate_data(), user.client_certificate(), folder, "client-certificate"));
  ASSIGN_OR_RETURN(config.client_key_pem,
                   DataOrFile(user.client_key_data(), user.client_key(), folder, "client-key"));
  config.token = user.token();
  if (!user.token_file().empty()) {
    config.token_file =
        user.token_file().starts_with('/') ? user.token_file() : StrCat(folder, "/", user.token_file());
  }
  return config;
}

absl::StatusOr<KubeConfig> LoadKubeConfig(const std::string& path, const std::string& context) {
  ASSIGN_OR_RETURN(std::string yaml, ReadFile(path, kMaxKubeConfigBytes));
  size_t slash = path.rfind('/');
  std::string folder = slash == std::string::npos ? "." : path.substr(0, slash);
  auto config = ParseKubeConfig(yaml, folder, context);
  if (!config.ok()) return Annotate(config.status(), path);
  return config;
}

std::string RenderKubeConfig(const KubeConfig& config) {
  kubeconfigv1::Config file;
  std::string cluster_name = config.cluster.empty() ? "keelson" : config.cluster;
  std::string user_name = config.user.empty() ? "keelson-user" : config.user;
  std::string context_name = config.context.empty() ? StrCat(user_name, "@", cluster_name) : config.context;
  auto* cluster = file.add_clusters();
  cluster->set_name(cluster_name);
  cluster->mutable_cluster()->set_server(config.server);
  cluster->mutable_cluster()->set_certificate_authority_data(config.ca_pem);
  cluster->mutable_cluster()->set_tls_server_name(config.tls_server_name);
  cluster->mutable_cluster()->set_insecure_skip_tls_verify(config.insecure_skip_tls_verify);
  auto* user = file.add_users();
  user->set_name(user_name);
  user->mutable_user()->set_client_certificate_data(config.client_certificate_pem);
  user->mutable_user()->set_client_key_data(config.client_key_pem);
  user->mutable_user()->set_token(config.token);
  user->mutable_user()->set_token_file(config.token_file);
  auto* context = file.add_contexts();
  context->set_name(context_name);
  context->mutable_context()->set_cluster(cluster_name);
  context->mutable_context()->set_user(user_name);
  if (config.ns != "default") context->mutable_context()->set_namespace_(config.ns);
  file.set_current_context(context_name);
  file.set_kind("Config");
  file.set_api_version("v1");
  return api::JsonToYaml(api::EncodeJson(file));
}

absl::Status WriteKubeConfig(const KubeConfig& config, const std::string& path) {
  return WriteFileAtomic(path, RenderKubeConfig(config), 0600);
}

}  // namespace keelson::client
