// `keelson kubelet`, also by the name `kubelet`: flags into settings, and the concrete classes of one
// kubelet.
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <map>
#include <memory>
#include <string>

#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "cgroups/manager.h"
#include "cgroups/qos_tree.h"
#include "client/event_recorder.h"
#include "client/http_api_client.h"
#include "client/kubeconfig.h"
#include "cmd/commands.h"
#include "cmd/component.h"
#include "cri/remote/remote_runtime.h"
#include "kubelet/config/kubelet_settings.h"
#include "kubelet/kubelet.h"
#include "kubelet/probes/probe_manager_impl.h"
#include "kubelet/server/kubelet_server.h"
#include "kubelet/volumes/volume_manager_impl.h"

namespace keelson {
namespace {

using kubelet::KubeletConfiguration;
using kubelet::KubeletFlags;
using kubelet::KubeletSettings;

// One kubelet and all it needs, in the order things are made.
struct Node {
  std::unique_ptr<client::ApiClient> client;  // null without --kubeconfig
  std::unique_ptr<cri::RemoteRuntime> runtime;
  std::unique_ptr<cgroups::Manager> cgroups;
  cgroups::SystemdUnitsGetter systemd;  // for when the runtime's cgroup driver asks for it
  std::unique_ptr<cgroups::QosTree> qos_tree;
  std::unique_ptr<client::EventRecorder> events;
  std::unique_ptr<kubelet::CachedObjects> objects;
  std::unique_ptr<kubelet::VolumeManagerImpl> volumes;
  std::unique_ptr<kubelet::ProbeManagerImpl> probes;
  std::unique_ptr<kubelet::Kubelet> kubelet;
  std::unique_ptr<kubelet::KubeletServer> server;
};

absl::Status MakeClient(Env& env, const KubeletSettings& settings, Node* node) {
  if (settings.kubeconfig.empty()) return absl::OkStatus();
  auto config = client::LoadKubeConfig(settings.kubeconfig);
  if (!config.ok()) return Annotate(config.status(), "--kubeconfig");
  client::HttpApiClientOptions options;
  options.user_agent = StrCat("kubelet/v1.37.0 (keelson ", KEELSON_VERSION, ")");
  ASSIGN_OR_RETURN(node->client, client::NewHttpApiClient(env, *config, options));
  node->events =
      std::make_unique<client::EventRecorder>(env, *node->client, "kubelet", settings.options.node_name);
  return absl::OkStatus();
}

absl::Status MakeNode(Env& env, const KubeletSettings& settings, Node* node) {
  RETURN_IF_ERROR(MakeDirs(settings.paths.kubelet_dir, 0750));
  RETURN_IF_ERROR(MakeDirs(settings.paths.pod_logs_dir, 0755));
  RETURN_IF_ERROR(MakeDirs(settings.paths.container_logs_dir, 0755));
  RETURN_IF_ERROR(MakeClient(env, settings, node));
  cri::RemoteOptions remote;
  remote.endpoint = settings.runtime_endpoint;
  remote.image_endpoint = settings.image_endpoint;
  remote.call_deadline = settings.runtime_request_timeout;
  auto runtime = cri::RemoteRuntime::Create(env, remote);
  if (!runtime.ok()) return Annotate(runtime.status(), "containerRuntimeEndpoint");
  node->runtime = *std::move(runtime);
  if (settings.options.cgroups_per_qos) {
    ASSIGN_OR_RETURN(node->cgroups, cgroups::NewHostManager());
    node->systemd =
        cgroups::SystemdUnitsOnDemand(env.clock(), node->cgroups->layout().mode == cgroups::Mode::kV2);
    cgroups::QosTreeOptions options;
    options.root = settings.paths.cgroup_root;
    node->qos_tree = std::make_unique<cgroups::QosTree>(*node->cgroups, options);
  }
  node->objects = std::make_unique<kubelet::CachedObjects>(env, node->client.get());
  kubelet::VolumeManagerOptions volumes;
  volumes.kubelet_dir = settings.paths.kubelet_dir;
  volumes.allocatable = [node] {
    return node->kubelet == nullptr ? kubelet::ResourceList() : node->kubelet->node().allocatable();
  };
  node->volumes = std::make_unique<kubelet::VolumeManagerImpl>(env, node->objects.get(),
                                                               kubelet::NewHostMounter(), volumes);
  node->probes = std::make_unique<kubelet::ProbeManagerImpl>(
      env, kubelet::NewProber(env, node->runtime->runtime()), node->events.get());
  kubelet::KubeletDeps deps;
  deps.client = node->client.get();
  deps.runtime = &node->runtime->runtime();
  deps.images = &node->runtime->images();
  deps.volumes = node->volumes.get();
  deps.probes = node->probes.get();
  deps.objects = node->objects.get();
  deps.events = node->events.get();
  deps.qos_tree = node->qos_tree.get();
  deps.systemd_units = node->systemd;
  node->kubelet = std::make_unique<kubelet::Kubelet>(env, deps, settings.options);
  node->server = std::make_unique<kubelet::KubeletServer>(env, *node->kubelet, settings.server,
                                                          settings.options.node_name,
                                                          settings.options.node_ips, settings.cert_dir);
  return absl::OkStatus();
}

Task<absl::Status> Serve(Env* env, const KubeletSettings* settings) {
  Node node;
  absl::Status status = MakeNode(*env, *settings, &node);
  ComponentLife life(*env);
  life.StopAtEnd(node.events.get());
  life.StopAtEnd(node.objects.get());
  life.StopAtEnd(node.volumes.get());
  life.StopAtEnd(node.probes.get());
  life.StopAtEnd(node.kubelet.get());
  life.StopAtEnd(node.server.get());
  // The port first: a second kubelet here must not touch a container.
  if (status.ok()) status = node.server->Start();
  if (status.ok()) status = node.kubelet->Start();
  if (status.ok()) {
    LogInfo("kubelet running",
            {{"node", settings->options.node_name}, {"runtime", settings->runtime_endpoint}});
  }
  Task<absl::Status> run = life.RunUntilStopped(status);
  co_return co_await std::move(run);
}

int RunKubelet(const KubeletFlags& flags) {
  LogOptions log{"kubelet"};
  if (flags.verbosity >= 4) log.level = LogLevel::kDebug;
  InitLog(log);
  ::umask(0022);
  char host[HOST_NAME_MAX + 1] = {};
  (void)::gethostname(host, HOST_NAME_MAX);
  auto settings = kubelet::MakeKubeletSettings(flags, host);
  if (!settings.ok()) return ComponentExitStatus("kubelet", settings.status());
  for (const std::string& warning : settings->warnings) LogWarning(warning);
  return RunComponent("kubelet", settings->paths, [&settings](Env* env) { return Serve(env, &*settings); });
}

// Takes "true" and "false", no other text.
bool IsBoolFlag(const char* flag) {
  KubeletConfiguration config;
  return kubelet::ApplyConfigFlag(flag, "true", &config).ok() &&
         !kubelet::ApplyConfigFlag(flag, "text", &config).ok();
}

// What CLI11 writes into while it parses.
struct Parsed {
  KubeletFlags flags;
  std::map<std::string, std::string> config_values, ignored;
};

void AddFlags(CLI::App& app, std::shared_ptr<Parsed> parsed) {
  KubeletFlags& f = parsed->flags;
  app.add_option("--root", f.root, "Keep everything below this folder: a second kubelet beside the first");
  app.add_option("--config", f.config, "KubeletConfiguration file");
  app.add_option("--config-dir", f.config_dir, "Folder of KubeletConfiguration drop-ins (*.conf)");
  app.add_option("--kubeconfig", f.kubeconfig, "How to reach the API server; without it: static pods only");
  app.add_option("--hostname-override", f.hostname_override, "Name of the node; default: the host's");
  app.add_option("--node-ip", f.node_ip, "The node's address, or one of each family");
  app.add_option("--root-dir", f.root_dir, "Volumes and state; default: /var/lib/kubelet");
  app.add_option("--cert-dir", f.cert_dir, "Where a serving certificate is made when none is configured");
  app.add_option("--node-labels", f.node_labels, "Labels of the Node when it is made: k=v,...");
  app.add_option("--register-with-taints", f.register_with_taints,
                 "Taints of the Node when it is made: k=v:effect,...");
  app.add_option("--cloud-provider", f.cloud_provider, "\"\" or external");
  app.add_option(
      "--runtime-streaming-ca", f.runtime_streaming_ca,
      "Authorities for the runtime's https URLs of exec, attach, port-forward; default: the system's");
  app.add_option("--runtime-streaming-cert", f.runtime_streaming_cert, "Certificate shown there, if it asks");
  app.add_option("--runtime-streaming-key", f.runtime_streaming_key, "Its private key");
  app.add_option("--v,-v", f.verbosity, "Verbosity of the log; 4: debug");
  for (const kubelet::ConfigFlag& flag : kubelet::ConfigFlags()) {
    std::string name = StrCat("--", flag.flag), help = StrCat(flag.help, " (", flag.field, ")");
    std::string& slot = parsed->config_values[flag.flag];
    if (IsBoolFlag(flag.flag)) {
      app.add_flag(name, slot, help)->group("Fields of KubeletConfiguration");
    } else {
      app.add_option(name, slot, help)->group("Fields of KubeletConfiguration");
    }
  }
  for (const kubelet::IgnoredFlag& flag : kubelet::IgnoredFlags()) {
    app.add_option(StrCat("--", flag.flag), parsed->ignored[flag.flag], flag.why)->expected(0, 1)->group("");
  }
}

int RunParsed(const CLI::App& app, const Parsed& parsed) {
  KubeletFlags flags = parsed.flags;
  for (const auto& [flag, text] : parsed.config_values) {
    if (app.count(StrCat("--", flag)) > 0) flags.config_values.emplace_back(flag, text);
  }
  for (const auto& [flag, text] : parsed.ignored) {
    if (app.count(StrCat("--", flag)) > 0) flags.ignored.push_back(flag);
  }
  return RunKubelet(flags);
}

}  // namespace

void AddKubeletFlags(CLI::App& app, int* exit_status) {
  auto parsed = std::make_shared<Parsed>();
  AddFlags(app, parsed);
  app.callback([&app, parsed, exit_status] { *exit_status = RunParsed(app, *parsed); });
}

void AddKubeletCommand(CLI::App& app, int* exit_status) {
  AddKubeletFlags(
      *app.add_subcommand("kubelet", "The node agent: runs pods on a CRI runtime, for any API server"),
      exit_status);
}

}  // namespace keelson
