// `keelson cri`: the container runtime without a daemon behind it, and the concrete classes it is made of.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "api/yaml.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "cgroups/manager.h"
#include "cgroups/systemd_units.h"
#include "cmd/commands.h"
#include "cmd/component.h"
#include "cmd/signals.h"
#include "cri/cni/cni.h"
#include "cri/nri/adaptation.h"
#include "cri/nri/installed.h"
#include "cri/nri/listener.h"
#include "cri/remote/grpc_server.h"
#include "cri/server/cgroup_names.h"
#include "cri/server/host_ports.h"
#include "cri/server/image_files_server.h"
#include "cri/server/image_server.h"
#include "cri/server/runtime_server.h"
#include "cri/streaming/streaming.h"
#include "images/image_store.h"
#include "net/address.h"
#include "net/tls_files.h"
#include "oci/apparmor.h"
#include "oci/cgroup_view.h"
#include "oci/monitor.h"
#include "oci/runtime.h"
#include "oci/selinux.h"

namespace keelson {
namespace {

// Image pulls, network plugins and file trees of several pods at a time.
constexpr int kPoolThreads = 4;

struct CriFlags {
  std::string config, root;
  std::string listen;        // "" : <run_dir>/cri/cri.sock
  std::string state_dir;     // "" : <state_dir>/cri
  std::string run_dir;       // "" : <run_dir>/pods
  std::string cni_conf_dir;  // "" : <etc_dir>/cni/net.d, or /etc/cni/net.d when that does not exist
  std::vector<std::string> cni_bin_dirs = {"/opt/cni/bin", "/usr/lib/cni"};
  std::string cni_conf_template;
  std::vector<std::string> cdi_spec_dirs = {"/etc/cdi", "/var/run/cdi"};
  std::string registries_dir;  // "" : <etc_dir>/certs.d
  std::string auth_file;
  std::string default_handler;  // "" : crun if it is there, else runc
  std::string runc = "runc", crun = "crun", conmon = "conmon";
  std::string cgroup_driver = "cgroupfs";
  std::string cgroup_parent;  // "" : keelson-cri, below the root's own
  std::string pause = "as-needed";
  std::string streaming_address = "127.0.0.1";
  uint16_t streaming_port = 0;
  net::TlsServerFiles streaming_tls;  // empty: plain
  std::vector<std::string> masquerade_cidrs;
  std::string nft_table;
  int parallel_layers = 3;
  bool seccomp_default = false;
  bool restore_from_images = false;
  std::string nri_socket, nri_plugin_dir;  // both "" : no NRI
  std::string nri_config_dir = "/etc/nri/conf.d";
  std::string nri_registration_timeout = "5s", nri_request_timeout = "2s";
  int verbosity = 0;
};

// One server and all it stands on, in the order things are made.
struct Parts {
  std::unique_ptr<cgroups::Manager> cgroups;
  cgroups::SystemdUnitsGetter systemd;  // with the cgroup driver of that name
  std::unique_ptr<images::ImageStore> images;
  std::unique_ptr<cri::Cni> cni;
  std::unique_ptr<cri::HostPorts> host_ports;
  std::unique_ptr<oci::ContainerMonitor> monitor;
  std::unique_ptr<oci::Apparmor> apparmor;  // null: the host has none
  std::vector<std::unique_ptr<oci::OciRuntime>> runtimes;
  std::unique_ptr<cri::nri::Adaptation> nri;  // null: not asked for
  std::unique_ptr<cri::nri::Listener> nri_listener;
  std::unique_ptr<cri::RuntimeServer> runtime;
  std::unique_ptr<cri::ImageServer> image_server;
  std::unique_ptr<cri::ImageFilesServer> image_files;
  std::unique_ptr<cri::StreamingServer> streaming;
  std::unique_ptr<cri::GrpcServer> grpc;
};

bool Exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

bool SystemdCgroups(const CriFlags& flags) { return flags.cgroup_driver == "systemd"; }

absl::Status CheckCgroupFlags(const CriFlags& flags) {
  if (!SystemdCgroups(flags) && flags.cgroup_driver != "cgroupfs") {
    return absl::InvalidArgumentError(
        StrCat("--cgroup-driver \"", flags.cgroup_driver, "\": want cgroupfs or systemd"));
  }
  // As sd_booted(3) looks.
  if (SystemdCgroups(flags) && !Exists("/run/systemd/system")) {
    return absl::FailedPreconditionError("--cgroup-driver systemd: this host was not booted with systemd");
  }
  return Annotate(cri::CheckCgroupParent(flags.cgroup_parent, SystemdCgroups(flags)), "--cgroup-parent");
}

absl::StatusOr<absl::Duration> PluginTimeout(std::string_view flag, const std::string& text) {
  constexpr absl::Duration kMost = absl::Minutes(10);
  absl::Duration out;
  if (absl::ParseDuration(text, &out) && out > absl::ZeroDuration() && out <= kMost) return out;
  return absl::InvalidArgumentError(
      StrCat(flag, " \"", text, "\": want a time such as 2s or 500ms, up to 10m"));
}

absl::StatusOr<cri::nri::Timeouts> PluginTimeouts(const CriFlags& flags) {
  cri::nri::Timeouts timeouts;
  ASSIGN_OR_RETURN(timeouts.registration,
                   PluginTimeout("--nri-plugin-registration-timeout", flags.nri_registration_timeout));
  ASSIGN_OR_RETURN(timeouts.request,
                   PluginTimeout("--nri-plugin-request-timeout", flags.nri_request_timeout));
  return timeouts;
}

bool WantsNri(const CriFlags& flags) { return !flags.nri_socket.empty() || !flags.nri_plugin_dir.empty(); }

absl::Status CheckNriFlags(const CriFlags& flags) {
  if (!WantsNri(flags)) return absl::OkStatus();
  if (!flags.nri_socket.empty()) {
    RETURN_IF_ERROR(Annotate(cri::nri::CheckSocketPath(flags.nri_socket), "--nri-socket"));
  }
  for (const auto& [flag, dir] : {std::pair{"--nri-plugin-dir", &flags.nri_plugin_dir},
                                  std::pair{"--nri-plugin-config-dir", &flags.nri_config_dir}}) {
    if (dir->empty() || dir->starts_with('/')) continue;
    return absl::InvalidArgumentError(StrCat(flag, " ", *dir, ": must be an absolute path"));
  }
  return PluginTimeouts(flags).status();
}

// Fills in what was left empty.
void Complete(const Paths& paths, CriFlags* f) {
  auto fill = [](std::string* field, const std::string& value) {
    if (field->empty()) *field = value;
  };
  fill(&f->state_dir, paths.state_dir + "/cri");
  fill(&f->run_dir, paths.run_dir + "/pods");
  fill(&f->listen, paths.run_dir + "/cri/cri.sock");
  if (f->listen.starts_with("unix://")) f->listen = f->listen.substr(7);
  std::string own_cni = paths.etc_dir + "/cni/net.d";
  fill(&f->cni_conf_dir, !paths.root.empty() || Exists(own_cni) ? own_cni : "/etc/cni/net.d");
  fill(&f->registries_dir, paths.etc_dir + "/certs.d");
  std::string name = paths.root.empty() ? "" : paths.root.substr(paths.root.rfind('/') + 1);
  fill(&f->cgroup_parent,
       cri::DefaultCgroupParent(paths.cgroup_root.empty() ? "keelson-cri" : paths.cgroup_root + "/cri",
                                SystemdCgroups(*f)));
  fill(&f->nft_table, name.empty() ? "keelson_cri" : StrCat("keelson_cri_", name));
  std::replace_if(
      f->nft_table.begin(), f->nft_table.end(),
      [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
}

// Options of the file that the command line does not set. Keys are the flags' names.
absl::Status ApplyConfigFile(CLI::App* command, const std::string& path) {
  ASSIGN_OR_RETURN(std::string text, ReadFile(path, api::kMaxYamlBytes));
  absl::StatusOr<std::string> json_text = api::YamlDocumentToJson(text);
  if (!json_text.ok()) return Annotate(json_text.status(), path);
  nlohmann::json json = nlohmann::json::parse(*json_text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::InvalidArgumentError(StrCat(path, ": want \"option: value\" lines"));
  for (const auto& [key, value] : json.items()) {
    CLI::Option* option = command->get_option_no_throw("--" + key);
    if (option == nullptr || key == "config" || key == "help") {
      return absl::InvalidArgumentError(StrCat(path, ": \"", key, "\" is no option of keelson cri"));
    }
    if (option->count() > 0) continue;
    auto add = [&](const nlohmann::json& item) {
      option->add_result(item.is_string() ? item.get<std::string>() : item.dump());
    };
    if (value.is_array()) {
      for (const auto& item : value) add(item);
    } else {
      add(value);
    }
    try {
      option->run_callback();
    } catch (const CLI::Error& error) {
      return absl::InvalidArgumentError(StrCat(path, ": ", key, ": ", error.what()));
    }
  }
  return absl::OkStatus();
}

Task<absl::Status> OpenRuntimes(Env* env, const CriFlags* flags, Parts* parts) {
  for (const std::string& name : {std::string("crun"), std::string("runc")}) {
    oci::RuntimeOptions options;
    options.name = name;
    options.path = name == "crun" ? flags->crun : flags->runc;
    options.state_dir = StrCat(flags->run_dir, "/", name);
    options.run_dir = StrCat(flags->run_dir, "/r");
    options.cache_dir = flags->state_dir + "/probes";
    options.systemd_cgroup = SystemdCgroups(*flags);
    Task<absl::StatusOr<std::unique_ptr<oci::OciRuntime>>> open = oci::OpenRuntime(env, options);
    absl::StatusOr<std::unique_ptr<oci::OciRuntime>> runtime = co_await std::move(open);
    if (absl::IsNotFound(runtime.status())) continue;
    if (!runtime.ok()) {
      LogWarning("an OCI runtime cannot be used", {{"runtime", name}, {"error", runtime.status()}});
      continue;
    }
    LogInfo("OCI runtime",
            {{"handler", name}, {"path", (*runtime)->path()}, {"version", (*runtime)->version()}});
    for (const std::string& hole : oci::KnownVulnerabilities(name, (*runtime)->version())) {
      LogWarning("OCI runtime has a known hole: update it", {{"runtime", name}, {"hole", hole}});
    }
    parts->runtimes.push_back(*std::move(runtime));
  }
  if (parts->runtimes.empty()) {
    co_return absl::FailedPreconditionError("neither crun nor runc can be used: install one of them");
  }
  co_return absl::OkStatus();
}

// Where the host has AppArmor, as Debian and Ubuntu have, or SELinux: containers are confined unless that
// cannot be.
Task<absl::Status> PrepareHost(Env* env, oci::HostFacts* host, Parts* parts) {
  CO_ASSIGN_OR_RETURN_SYNC(*host, oci::DiscoverHostFacts("/proc"));
  if (host->selinux) {
    absl::Status policy = oci::CheckSelinuxPolicy();
    host->selinux = policy.ok();
    if (!policy.ok()) LogWarning("containers get no SELinux labels", {{"reason", policy}});
  }
  if (!host->apparmor) co_return absl::OkStatus();
  parts->apparmor = std::make_unique<oci::Apparmor>(*env);
  Task<absl::Status> load = parts->apparmor->LoadDefault();
  absl::Status loaded = co_await std::move(load);
  if (loaded.ok()) {
    host->apparmor_default_profile = oci::kDefaultApparmorProfile;
  } else {
    LogWarning("containers run without AppArmor's protection unless their pods name a profile",
               {{"reason", loaded}});
  }
  co_return absl::OkStatus();
}

// Before anything else makes something below them with a mode of its own.
absl::Status MakeRunDirs(const CriFlags& flags) {
  RETURN_IF_ERROR(MakeDirs(flags.run_dir.substr(0, flags.run_dir.rfind('/')), 0755));
  // The root of a user namespace passes through here to its pod's files, and sees nothing else.
  RETURN_IF_ERROR(MakeDirs(flags.run_dir, 0711));
  return MakeDirs(flags.listen.substr(0, flags.listen.rfind('/')), 0700);
}

absl::Status MakeParts(Env& env, const CriFlags& flags, const oci::HostFacts& host, Parts* parts) {
  RETURN_IF_ERROR(MakeDirs(flags.state_dir, 0700));
  ASSIGN_OR_RETURN(parts->cgroups, cgroups::NewHostManager());
  images::ImageStoreOptions images;
  images.root_dir = flags.state_dir + "/images";
  images.registries_dir = Exists(flags.registries_dir) ? flags.registries_dir : "";
  images.auth_file = flags.auth_file;
  images.parallel_layers = flags.parallel_layers;
  if (host.selinux) {
    RETURN_IF_ERROR(MakeDirs(images.root_dir, 0700));
    std::error_code error;
    const std::string real = std::filesystem::canonical(images.root_dir, error).string();
    if (error) return absl::UnavailableError(StrCat(images.root_dir, ": ", error.message()));
    RETURN_IF_ERROR(oci::RelabelOnce(real, oci::kLayersLabel));
  }
  ASSIGN_OR_RETURN(parts->images, images::ImageStore::Open(env, images));
  cri::CniOptions cni;
  cni.conf_dir = flags.cni_conf_dir;
  cni.bin_dirs = flags.cni_bin_dirs;
  cni.cache_dir = flags.state_dir + "/cni";
  cni.conf_template = flags.cni_conf_template;
  ASSIGN_OR_RETURN(parts->cni, cri::NewCni(env, cni));
  cri::HostPortsOptions ports;
  ports.table = flags.nft_table;
  ports.masquerade_cidrs = flags.masquerade_cidrs;
  parts->host_ports = cri::NewHostPorts(env, ports);
  oci::ConmonOptions conmon;
  conmon.path = flags.conmon;
  conmon.run_dir = flags.run_dir + "/m";
  ASSIGN_OR_RETURN(parts->monitor, oci::NewConmonMonitor(env, conmon));
  cri::RuntimeServerDeps deps;
  deps.env = &env;
  deps.images = parts->images.get();
  deps.cni = parts->cni.get();
  deps.host_ports = parts->host_ports.get();
  deps.cgroups = parts->cgroups.get();
  deps.monitor = parts->monitor.get();
  for (const auto& runtime : parts->runtimes) deps.runtimes[runtime->name()] = runtime.get();
  deps.host = host;
  deps.host.systemd_cgroup = SystemdCgroups(flags);
  if (SystemdCgroups(flags)) {
    const bool v2 = parts->cgroups->layout().mode == cgroups::Mode::kV2;
    deps.systemd_units = parts->systemd = cgroups::SystemdUnitsOnDemand(env.clock(), v2);
  }
  deps.apparmor = parts->apparmor.get();
  if (WantsNri(flags)) {
    cri::nri::AdaptationOptions plugins;
    plugins.runtime_name = cri::kRuntimeName;
    plugins.runtime_version = KEELSON_VERSION;
    ASSIGN_OR_RETURN(plugins.timeouts, PluginTimeouts(flags));
    parts->nri = std::make_unique<cri::nri::Adaptation>(&env, std::move(plugins));
    deps.nri = parts->nri.get();
  }
  cri::RuntimeServerOptions options;
  options.state_dir = flags.state_dir;
  options.run_dir = flags.run_dir;
  options.default_handler =
      flags.default_handler.empty() ? parts->runtimes.front()->name() : flags.default_handler;
  options.always_pause = flags.pause == "always";
  options.default_cgroup_parent = flags.cgroup_parent;
  std::copy_if(flags.cdi_spec_dirs.begin(), flags.cdi_spec_dirs.end(),
               std::back_inserter(options.cdi_spec_dirs),
               [](const std::string& dir) { return !dir.empty(); });
  options.seccomp_default = flags.seccomp_default;
  options.restore_from_images = flags.restore_from_images;
  absl::Status user_namespaces = cri::ProbeUserNamespaces(images.root_dir, flags.run_dir + "/probe");
  options.user_namespaces = user_namespaces.ok();
  if (!user_namespaces.ok()) LogInfo("no user namespaces for pods here", {{"reason", user_namespaces}});
  ASSIGN_OR_RETURN(parts->runtime, cri::RuntimeServer::Create(std::move(deps), std::move(options)));
  std::vector<std::string> handlers;
  for (const auto& runtime : parts->runtimes) handlers.push_back(runtime->name());
  parts->image_server = std::make_unique<cri::ImageServer>(env, *parts->images, std::move(handlers));
  parts->image_files = std::make_unique<cri::ImageFilesServer>(*parts->images);
  return absl::OkStatus();
}

// Exec, attach and port-forward: by TLS when there is a certificate, which `scope` looks after.
absl::Status StartStreaming(Env& env, const CriFlags& flags, Scope* scope, Parts* parts) {
  cri::StreamingOptions streaming;
  streaming.address = flags.streaming_address;
  streaming.port = flags.streaming_port;
  const net::TlsServerFiles& files = flags.streaming_tls;
  if (files.certificate_file.empty()) {
    absl::StatusOr<net::IpAddress> address = net::IpAddress::Parse(flags.streaming_address);
    if (address.ok() && !address->is_loopback()) {
      LogWarning("exec, attach and port-forward are served in plain text beyond this machine",
                 {{"address", flags.streaming_address}, {"mend", "set streaming-tls-cert"}});
    }
    ASSIGN_OR_RETURN(parts->streaming, cri::StreamingServer::Start(env, *parts->runtime, streaming));
    return absl::OkStatus();
  }
  auto config = net::ReadTlsServerFiles(files);
  if (!config.ok()) return Annotate(config.status(), "certificates of the streaming server");
  auto context = net::TlsServerContext::Create(*config);
  if (!context.ok()) return Annotate(context.status(), files.certificate_file);
  streaming.tls = *std::move(context);
  ASSIGN_OR_RETURN(parts->streaming, cri::StreamingServer::Start(env, *parts->runtime, streaming));
  cri::StreamingServer* server = parts->streaming.get();
  scope->Spawn("reload the streaming certificate",
               net::ReloadTls(
                   &env.clock(), "streaming", [files] { return net::ReadTlsServerFiles(files); },
                   *std::move(config), [server](auto renewed) { server->SetTls(std::move(renewed)); }));
  return absl::OkStatus();
}

Task<absl::Status> StartNri(Env* env, const CriFlags* flags, Scope* scope, Parts* parts) {
  if (!flags->nri_plugin_dir.empty()) {
    CO_ASSIGN_OR_RETURN_SYNC(std::vector<cri::nri::InstalledPlugin> installed,
                             cri::nri::FindPlugins(flags->nri_plugin_dir, flags->nri_config_dir));
    // Before the first pod: they miss nothing.
    Task<void> start = parts->nri->Start(std::move(installed));
    co_await std::move(start);
  }
  if (flags->nri_socket.empty()) co_return absl::OkStatus();
  CO_ASSIGN_OR_RETURN_SYNC(parts->nri_listener, cri::nri::Listener::Open(env, flags->nri_socket));
  LogInfo("nri plugins may connect", {{"socket", flags->nri_socket}});
  scope->Spawn("nri listener", parts->nri_listener->Run([nri = parts->nri.get()](auto stream) {
    nri->Connect(std::move(stream));
  }));
  co_return absl::OkStatus();
}

Task<absl::Status> Listen(Env* env, const CriFlags* flags, Scope* scope, Parts* parts) {
  CO_RETURN_IF_ERROR(parts->runtime->Recover());
  CO_RETURN_IF_ERROR_SYNC(StartStreaming(*env, *flags, scope, parts));
  parts->runtime->set_streaming(parts->streaming.get());
  // After Recover(): plugins are told of what it found.
  CO_RETURN_IF_ERROR(StartNri(env, flags, scope, parts));
  // Last: whoever connects finds everything there.
  CO_ASSIGN_OR_RETURN_SYNC(parts->grpc, cri::GrpcServer::Serve(*env, *parts->runtime, *parts->image_server,
                                                               flags->listen, parts->image_files.get()));
  co_return absl::OkStatus();
}

Task<absl::Status> Serve(Env* env, const CriFlags* flags) {
  Parts parts;
  Scope scope(env->executor());
  absl::Status status = MakeRunDirs(*flags);
  if (status.ok()) {
    Task<absl::Status> open = OpenRuntimes(env, flags, &parts);
    status = co_await std::move(open);
  }
  oci::HostFacts host;
  if (status.ok()) {
    Task<absl::Status> prepare = PrepareHost(env, &host, &parts);
    status = co_await std::move(prepare);
  }
  if (status.ok()) status = MakeParts(*env, *flags, host, &parts);
  if (status.ok()) {
    Task<absl::Status> listen = Listen(env, flags, &scope, &parts);
    status = co_await std::move(listen);
  }
  if (!status.ok()) {
    // What was recovered lives on, as after a kill.
    ::_exit(ComponentExitStatus("cri", status));
  }
  LogInfo("container runtime running", {{"endpoint", "unix://" + flags->listen}});
  AsyncEvent stop;
  scope.Spawn("signals", WatchSignals(env, &stop));
  Task<void> wait = stop.Wait();
  co_await std::move(wait);
  // The end is the one a kill makes, and recovery knows no other: nothing is cancelled half way. But that may
  // be long in coming, and a container that is frozen for a checkpoint does not wait for it.
  Task<void> thaw = parts.runtime->ThawAll();
  co_await std::move(thaw);
  LogInfo("stopped; containers go on");
  ::unlink(flags->listen.c_str());
  if (!flags->nri_socket.empty()) ::unlink(flags->nri_socket.c_str());
  ::_exit(0);
}

int RunCri(CLI::App* command, CriFlags* flags) {
  if (!flags->config.empty()) {
    absl::Status status = ApplyConfigFile(command, flags->config);
    if (!status.ok()) return ComponentExitStatus("cri", status);
  }
  LogOptions log{"cri"};
  if (flags->verbosity >= 4) log.level = LogLevel::kDebug;
  InitLog(log);
  ::umask(0022);
  Paths paths = Paths::WithRoot(flags->root);
  Complete(paths, flags);
  if (flags->pause != "as-needed" && flags->pause != "always") {
    return ComponentExitStatus("cri", absl::InvalidArgumentError("--pause: want as-needed or always"));
  }
  for (const std::string& dir : flags->cdi_spec_dirs) {
    if (dir.empty() || dir.starts_with('/')) continue;
    return ComponentExitStatus(
        "cri", absl::InvalidArgumentError(StrCat("--cdi-spec-dir ", dir, ": must be an absolute path")));
  }
  absl::Status cgroups = CheckCgroupFlags(*flags);
  if (!cgroups.ok()) return ComponentExitStatus("cri", cgroups);
  absl::Status nri = CheckNriFlags(*flags);
  if (!nri.ok()) return ComponentExitStatus("cri", nri);
  absl::Status tls = net::CheckTlsServerFiles(flags->streaming_tls);
  if (!tls.ok()) return ComponentExitStatus("cri", Annotate(tls, "--streaming-tls-*"));
  // Before any thread: a mount namespace is a thread's own.
  absl::StatusOr<bool> view = oci::EnterCgroupView();
  if (!view.ok()) return ComponentExitStatus("cri", view.status());
  if (*view) LogInfo("hybrid cgroup layout: this runtime's mount namespace leaves out the unified hierarchy");
  absl::StatusOr<bool> shared = oci::EnsureRootShared();
  if (!shared.ok())
    LogWarning("the root mount is not shared: volumes cannot propagate", {{"error", shared.status()}});
  RealEnv env(paths, kPoolThreads);
  return ComponentExitStatus("cri", env.RunUntilDone(Serve(&env, flags)));
}

}  // namespace

void AddCriCommand(CLI::App& app, int* exit_status) {
  auto flags = std::make_shared<CriFlags>();
  CLI::App* command =
      app.add_subcommand("cri", "A CRI v1 runtime with no daemon behind it: drives crun or runc itself");
  CriFlags& f = *flags;
  command->add_option("--config", f.config, "YAML file of these options, by name (listen: /run/x.sock)");
  command->add_option("--root", f.root,
                      "Keep everything below this folder: a second runtime beside the first");
  command->add_option("--listen", f.listen, "Unix socket; default: /run/keelson/cri/cri.sock");
  command->add_option("--state-dir", f.state_dir, "Records and images; default: /var/lib/keelson/cri");
  command->add_option("--run-dir", f.run_dir, "Bundles, mounts, namespaces; default: /run/keelson/pods");
  command->add_option("--cni-conf-dir", f.cni_conf_dir,
                      "Network configuration; default: /etc/keelson/cni/net.d, "
                      "else /etc/cni/net.d");
  command->add_option("--cni-bin-dir", f.cni_bin_dirs, "Where network plugins are")->capture_default_str();
  command->add_option("--cni-conf-template", f.cni_conf_template,
                      "Filled in with the pod CIDR the kubelet gives");
  command
      ->add_option("--cdi-spec-dir", f.cdi_spec_dirs,
                   "Vendors' device files (CDI), later ones win; \"\": no CDI")
      ->capture_default_str();
  command->add_option("--registries-dir", f.registries_dir,
                      "Mirrors: HOST/hosts.toml; default: /etc/keelson/certs.d");
  command->add_option("--auth-file", f.auth_file, "Registry credentials: docker's config.json");
  command->add_option("--default-runtime-handler", f.default_handler,
                      "crun or runc; default: crun if it is there");
  command->add_option("--crun", f.crun, "The crun to use")->capture_default_str();
  command->add_option("--runc", f.runc, "The runc to use")->capture_default_str();
  command->add_option("--conmon", f.conmon, "The conmon to use")->capture_default_str();
  command
      ->add_option(
          "--cgroup-driver", f.cgroup_driver,
          "Who makes cgroups: cgroupfs (the OCI runtime itself) or systemd; the kubelet's must be the "
          "same")
      ->capture_default_str();
  command->add_option("--cgroup-parent", f.cgroup_parent,
                      "For pods that name none; default: keelson-cri, or keelson_cri.slice");
  command->add_option("--pause", f.pause, "A pause process in a sandbox: as-needed or always")
      ->capture_default_str();
  command->add_option("--streaming-address", f.streaming_address, "Of exec, attach, port-forward")
      ->capture_default_str();
  command->add_option("--streaming-port", f.streaming_port, "0: any free one")->capture_default_str();
  command->add_option("--streaming-tls-cert", f.streaming_tls.certificate_file,
                      "Serve them by TLS; files are read again when they are renewed");
  command->add_option("--streaming-tls-key", f.streaming_tls.private_key_file,
                      "Private key of the certificate");
  command->add_option("--streaming-tls-ca", f.streaming_tls.client_ca_file,
                      "Clients must show a certificate of one of these authorities");
  command->add_option("--masquerade-cidr", f.masquerade_cidrs,
                      "Pod addresses whose traffic to elsewhere leaves as the node's");
  command->add_option("--nft-table", f.nft_table, "Table of host ports; default: keelson_cri");
  command->add_option("--parallel-layers", f.parallel_layers, "Layers of one image pulled at a time")
      ->capture_default_str();
  command->add_flag("--seccomp-default", f.seccomp_default,
                    "RuntimeDefault where a container asks for no profile");
  command->add_flag(
      "--restore-from-images", f.restore_from_images,
      "Containers of images that are checkpoints go on where they were, with whatever rights the "
      "image says");
  command->add_option("--nri-socket", f.nri_socket,
                      "NRI plugins connect here, and change containers as they like; default: none can "
                      "(elsewhere it is /var/run/nri/nri.sock)");
  command->add_option(
      "--nri-plugin-dir", f.nri_plugin_dir,
      "NRI plugins to start: programs NN-NAME; default: none (elsewhere it is /opt/nri/plugins)");
  command
      ->add_option("--nri-plugin-config-dir", f.nri_config_dir,
                   "Their configuration: NN-NAME.conf or NAME.conf")
      ->capture_default_str();
  command
      ->add_option("--nri-plugin-registration-timeout", f.nri_registration_timeout,
                   "A plugin that has not registered by then is given up")
      ->capture_default_str();
  command
      ->add_option("--nri-plugin-request-timeout", f.nri_request_timeout, "So has one that does not answer")
      ->capture_default_str();
  command->add_option("--v,-v", f.verbosity, "Verbosity of the log; 4: debug");
  command->callback([command, flags, exit_status] { *exit_status = RunCri(command, flags.get()); });
}

}  // namespace keelson
