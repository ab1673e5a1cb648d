// OciRuntime: the commands of an OCI runtime (runc, crun) on containers that exist. Creating one is the
// monitor's: it is the parent of the container's process (monitor.h).
#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/env.h"
#include "oci/spec.h"

namespace keelson::oci {

inline constexpr absl::Duration kRuntimeCommandTimeout = absl::Seconds(60);

struct RuntimeState {
  std::string status;  // creating, created, running, stopped, paused
  int pid = 0;
};

struct ExecOptions {
  std::string process_json;  // of GenerateExecProcess
  // Descriptors that become the command's 0, 1, 2; -1: /dev/null. With tty only: a pty master comes back
  // instead.
  int stdin_fd = -1, stdout_fd = -1, stderr_fd = -1;
  bool tty = false;
};

// A command in a container, our own child: the runtime starts it detached and leaves it to us, its subreaper.
// Destroying this neither ends nor loses it.
class ExecProcess {
 public:
  virtual ~ExecProcess() = default;
  // Exit code as a shell gives it (128 + signal). Awaitable more than once.
  virtual Task<absl::StatusOr<int>> Wait() = 0;
  // SIGKILL to the command itself (by its pid in the container), not only to the runtime around it.
  virtual absl::Status Kill() = 0;
  // SIGKILL to the command and all it started, as far as they are its descendants or in its session
  // (process_tree.h). NotFound when it has ended.
  virtual absl::Status KillTree() = 0;
  virtual int tty_master_fd() const = 0;  // -1 without tty; owned by the process
};

class OciRuntime {
 public:
  virtual ~OciRuntime() = default;

  virtual const std::string& name() const = 0;     // handler: "runc", "crun"
  virtual const std::string& path() const = 0;     // of the binary
  virtual const std::string& version() const = 0;  // "1.1.5+ds1"
  // As found by Probe().
  virtual const RuntimeFeatures& features() const = 0;
  // Arguments before the command, for the monitor: {"--root", "/run/keelson/cri/runc"}.
  virtual std::vector<std::string> global_arguments() const = 0;

  // Errors carry the runtime's own message, made readable: NotFound (no such container), InvalidArgument (the
  // command does not exist in the container: "exec: \"/nope\": no such file or directory"), Internal.
  virtual Task<absl::Status> Start(std::string id) = 0;
  // NotFound when it does not exist or has ended.
  virtual Task<absl::Status> Kill(std::string id, int signal) = 0;
  // Kills what still runs with `force`. NotFound is success.
  virtual Task<absl::Status> Delete(std::string id, bool force) = 0;
  virtual Task<absl::StatusOr<RuntimeState>> State(std::string id) = 0;
  // `resources_json` of GenerateResources.
  virtual Task<absl::Status> Update(std::string id, std::string resources_json) = 0;
  virtual Task<absl::Status> Pause(std::string id) = 0;
  virtual Task<absl::Status> Resume(std::string id) = 0;
  // Returns when the command runs, or failed to start (InvalidArgument as in Start). Cancelled or without an
  // answer in time, what has been started of it is killed.
  virtual Task<absl::StatusOr<std::unique_ptr<ExecProcess>>> Exec(std::string id, ExecOptions options) = 0;
};

struct RuntimeOptions {
  std::string name;       // "runc" or "crun"; decides the dialect
  std::string path;       // "" : looked up in PATH
  std::string state_dir;  // --root of the runtime, ours alone
  std::string run_dir;  // scratch files (process.json, console sockets, pid files); short: sockets live there
  std::string cache_dir;  // probe results by binary hash; "" : not cached
  bool systemd_cgroup = false;
};
// One opener of a state_dir at a time: commands that a killed one left running are waited for, its scratch
// files removed. Makes the process a subreaper (prctl(2)), for Exec. Children that a failed exec leaves
// behind are reaped too. Finds the binary, reads its version and probes its features with a trial bundle.
// NotFound: not installed.
Task<absl::StatusOr<std::unique_ptr<OciRuntime>>> OpenRuntime(Env* env, RuntimeOptions options);

// Known holes of a version ("runc 1.1.5: CVE-2024-21626 ..."), one line each; empty when none is known. Pure.
std::vector<std::string> KnownVulnerabilities(const std::string& name, const std::string& version);

}  // namespace keelson::oci
