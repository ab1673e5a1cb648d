// LiveServer: the `keelson cri` that cri/testing/with_keelson_cri describes in the environment, for tests on
// a real kernel: a client of it, its files, and with --no-server also the process, to be started and killed
// at will.
#pragma once

#include <absl/status/statusor.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/env.h"
#include "base/status.h"
#include "cri/image_files.h"
#include "cri/remote/remote_runtime.h"

namespace keelson::cri {

struct LivePaths {
  std::string pods_dir;   // run directory of the server: bundles, mounts, namespaces
  std::string run_dir;    // its parent, with the plugins' addresses
  std::string state_dir;  // records and images
  std::string cgroup;     // below every hierarchy: the parent of pods that name none
  bool systemd = false;   // the cgroup driver: `cgroup` is a slice, containers have scopes
  std::string log;        // of the server
  std::string cni_conf_dir, cni_bin_dir;
  std::vector<std::string> cdi_dirs;    // --cdi-spec-dir; the tests make them
  std::string nri_socket, nri_plugins;  // "" : no NRI; the folder of plugins that are started
};

class LiveServer {
 public:
  // Null when the environment names none: the test skips. `env` must outlive it.
  static std::unique_ptr<LiveServer> FromEnvironment(Env& env);

  const LivePaths& paths() const { return paths_; }
  // cgroup_parent of a pod, one below that of pods that name none.
  std::string CgroupParent(const std::string& name) const;
  // Of a container in a pod of CgroupParent(name), or with "" of one that names none; no leading slash.
  std::string CgroupOf(const std::string& name, const std::string& container_id) const;
  const std::string& handler() const { return handler_; }
  const std::string& busybox() const { return busybox_; }  // image: sh and all applets; CMD sh
  const std::string& user_image() const {
    return user_image_;
  }                                             // the same with a user, a folder, a stop signal
  bool Own() const { return given_pid_ == 0; }  // with --no-server
  int server_pid() const { return server_ != nullptr ? server_->pid() : given_pid_; }

  RuntimeService& runtime() { return remote_->runtime(); }
  ImageService& images() { return remote_->images(); }
  ImageFilesService& image_files() { return *image_files_; }
  // A new connection, without the back-off of the one before.
  absl::Status Connect();

  // With --no-server. Spawn() returns at once, WaitUntilUp() when the server answers. `more`: options of it.
  absl::Status Spawn(const std::vector<std::string>& more = {});
  Task<absl::Status> WaitUntilUp();
  // Whether the process that Spawn() started has ended.
  bool Ended() const;
  // SIGKILL; returns when it is gone.
  Task<absl::Status> Kill();

 private:
  explicit LiveServer(Env& env) : env_(env) {}

  Env& env_;
  LivePaths paths_;
  std::string endpoint_, handler_, busybox_, user_image_;
  std::vector<std::string> words_;
  int given_pid_ = 0;
  std::unique_ptr<ChildProcess> server_;
  std::unique_ptr<RemoteRuntime> remote_;
  std::unique_ptr<ImageFilesService> image_files_;
};

}  // namespace keelson::cri
