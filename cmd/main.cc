// The one executable. `keelson COMMAND`; called through a symlink named `kubelet` it takes upstream kubelet
// flags.
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "base/log.h"
#include "base/process.h"
#include "base/strings.h"
#include "cmd/check.h"
#include "cmd/cluster_layout.h"
#include "cmd/cluster_pki.h"
#include "cmd/commands.h"
#include "cmd/down.h"
#include "cmd/image_command.h"
#include "cmd/up.h"

namespace keelson {
namespace {

int Report(const absl::Status& status) {
  if (status.ok()) return 0;
  std::fprintf(stderr, "keelson: %s\n", std::string(status.message()).c_str());
  return 1;
}

void AddClusterFlags(CLI::App* command, ClusterOptions* o) {
  command->add_option("--root", o->root,
                      "Keep everything below this folder: a second cluster beside the first");
  command->add_option("--hostname-override,--node-name", o->node_name,
                      "Name of the node; default: the host's");
  command->add_option("--node-ip", o->node_ip, "The node's address; default: that of the default route");
  command->add_option("--pod-cidr", o->pod_cidr, "Addresses of pods")->capture_default_str();
  command->add_option("--service-cidr", o->service_cidr, "Addresses of Services")->capture_default_str();
  command->add_option("--cluster-domain", o->cluster_domain, "DNS domain of the cluster")
      ->capture_default_str();
  command->add_option("--container-runtime-endpoint", o->container_runtime_endpoint,
                      "CRI socket of a runtime that runs already, instead of one of our own");
  command
      ->add_option("--container-runtime", o->container_runtime,
                   "The runtime of our own: cri (no daemon behind it) or containerd")
      ->capture_default_str();
  command
      ->add_option(
          "--cgroup-driver", o->cgroup_driver,
          "Who makes the pods' cgroups: cgroupfs, systemd, or auto: systemd where it has booted this "
          "host with cgroup v2")
      ->capture_default_str();
  command->add_option("--secure-port", o->secure_port, "Port of the API server")->capture_default_str();
  command->add_option("--kubelet-port", o->kubelet_port, "Port of the kubelet")->capture_default_str();
  command->add_option("--kubelet-healthz-port", o->kubelet_healthz_port, "Its healthz")
      ->capture_default_str();
  command->add_option("--proxy-healthz-port", o->proxy_healthz_port, "The proxy's healthz")
      ->capture_default_str();
  command->add_option("--registry-port", o->registry_port, "Port of the local image registry")
      ->capture_default_str();
}

absl::Status Kubeconfig(const ClusterOptions& options, const std::string& output, const std::string& user,
                        const std::string& server) {
  auto layout = MakeClusterLayout(options);
  if (!layout.ok()) return layout.status();
  unsigned uid = 0, gid = 0;
  std::string path = output;
  if (!user.empty()) {
    const passwd* entry = ::getpwnam(user.c_str());
    if (entry == nullptr) return absl::NotFoundError(StrCat("--user ", user, ": no such user"));
    uid = entry->pw_uid;
    gid = entry->pw_gid;
    if (path.empty()) {
      std::string dir = StrCat(entry->pw_dir, "/.kube");
      if (::mkdir(dir.c_str(), 0700) == 0 && ::chown(dir.c_str(), uid, gid) != 0) {
        return absl::PermissionDeniedError(StrCat("chown ", dir));
      }
      path = dir + "/config";
    }
  }
  if (path.empty()) return absl::InvalidArgumentError("give --output FILE or --user NAME");
  absl::Status written = WriteUserKubeconfig(*layout, path, server, uid, gid);
  if (written.ok()) std::printf("%s\n", path.c_str());
  return written;
}

}  // namespace

int Main(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);
  // Every watch of every client is a connection, every exec and log a few descriptors.
  if (absl::Status raised = RaiseOpenFilesLimit(); !raised.ok()) (void)Report(raised);
  CLI::App app{
      "Keelson: a Kubernetes node agent and a compact Kubernetes master.\n"
      "First time here? Run `keelson check`, then `keelson up`."};
  int exit_status = 0;
  std::string self = argv[0];
  if (self.substr(self.rfind('/') + 1) == "kubelet") {
    AddKubeletFlags(app, &exit_status);
    CLI11_PARSE(app, argc, argv);
    return exit_status;
  }
  app.require_subcommand(1);
  ClusterOptions options;
  bool detach = false, purge = false;
  int ready_fd = -1;

  CLI::App* up = app.add_subcommand("up", "Run a whole cluster on this machine");
  AddClusterFlags(up, &options);
  up->add_flag("--detach,-d", detach, "Return when the node is Ready and leave it running");
  up->add_option("--ready-fd", ready_fd, "Write progress to this descriptor")->group("");
  up->callback([&] {
    auto layout = MakeClusterLayout(options);
    if (!layout.ok()) {
      exit_status = Report(layout.status());
    } else if (detach) {
      std::vector<std::string> child = {layout->executable, "up", "--ready-fd", "3"};
      for (int i = 2; i < argc; ++i) {
        std::string arg = argv[i];
        if (arg != "--detach" && arg != "-d") child.push_back(arg);
      }
      exit_status = Report(RunUpDetached(*layout, child));
    } else {
      InitLog(LogOptions{"up"});
      exit_status = Report(RunUp(*layout, ready_fd));
    }
  });

  CLI::App* down = app.add_subcommand("down", "Stop the cluster of this machine and leave nothing running");
  AddClusterFlags(down, &options);
  down->add_flag("--purge", purge, "Remove its data, images and configuration as well");
  down->callback([&] {
    InitLog(LogOptions{"down", LogLevel::kWarning});
    auto layout = MakeClusterLayout(options);
    exit_status = Report(layout.ok() ? RunDown(*layout, purge) : layout.status());
  });

  CLI::App* check = app.add_subcommand("check", "What this host lacks, has open or filters, and the fix");
  AddClusterFlags(check, &options);
  check->callback([&] {
    auto layout = MakeClusterLayout(options);
    if (!layout.ok()) {
      exit_status = Report(layout.status());
      return;
    }
    CheckOptions check_options;
    check_options.packets = true;
    auto findings = CheckHost(*layout, check_options);
    std::fputs(FormatFindings(findings, /*with_ok=*/true).c_str(), stdout);
    exit_status = HasErrors(findings) ? 1 : 0;
  });

  std::string output, user, server;
  CLI::App* kubeconfig =
      app.add_subcommand("kubeconfig", "Write the administrator's kubeconfig for a user (mode 0600)");
  AddClusterFlags(kubeconfig, &options);
  kubeconfig->add_option("--output,-o", output, "File to write; default: ~/.kube/config of --user");
  kubeconfig->add_option("--user", user, "Owner of the file");
  kubeconfig->add_option("--server", server, "Address to put in, for use from elsewhere");
  kubeconfig->callback([&] { exit_status = Report(Kubeconfig(options, output, user, server)); });

  AddMasterCommand(app, &exit_status);
  AddKubeletCommand(app, &exit_status);
  AddProxyCommand(app, &exit_status);
  AddCriCommand(app, &exit_status);
  AddImageCommand(app, &exit_status);

  CLI::App* version = app.add_subcommand("version", "Print the version");
  version->callback([] { std::printf("keelson %s (Kubernetes v1.37)\n", KEELSON_VERSION); });

  CLI11_PARSE(app, argc, argv);
  return exit_status;
}

}  // namespace keelson

int main(int argc, char** argv) { return keelson::Main(argc, argv); }
