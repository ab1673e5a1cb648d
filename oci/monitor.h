// ContainerMonitor: the process beside a container that outlives us: it is the parent of the container, keeps
// its log in CRI format, its stdin and terminal, and records how it ended. conmon behind a seam.
#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/env.h"
#include "oci/runtime.h"

namespace keelson::oci {

struct MonitorOptions {
  std::string id, name;
  std::string bundle_dir;  // with config.json; the monitor's files (attach, ctl, pidfile, winsz) go there too
  std::string log_path;    // absolute; "" : output is dropped. The directory exists
  bool stdin_open = false, stdin_once = false, tty = false;
  std::string cgroup_parent;  // where the monitor itself is to live; "" : ours
  // criu's images of a checkpoint: instead of being created, the container is restored from them, and runs
  // when Create returns. "" : created.
  std::string restore_from;
};

struct MonitoredProcess {
  int pid = 0;          // of the container, in our PID namespace
  int monitor_pid = 0;  // a monitor that dies leaves the container running, without a record of its end
  uint64_t pid_start_ticks = 0, monitor_start_ticks = 0;  // /proc/PID/stat field 22: names a process for ever
};

struct ContainerExit {
  int exit_code = 0;  // 128 + signal when killed
  bool oom_killed = false;
  absl::Time finished_at;
};

// What the exits of all containers are reported to. On the loop.
using ExitCallback = std::function<void(const std::string& id, const ContainerExit& exit)>;

class ContainerMonitor {
 public:
  virtual ~ContainerMonitor() = default;

  // Starts the monitor and, through it, `runtime create`. Returns when the container is created (its process
  // waits for OciRuntime::Start). A failed create leaves no process and carries the runtime's own message (as
  // RuntimeError() puts it). AlreadyExists: the id was not forgotten yet. Cancelled: the monitor is killed;
  // Delete(force) and Forget() the rest.
  virtual Task<absl::StatusOr<MonitoredProcess>> Create(OciRuntime* runtime, MonitorOptions options) = 0;
  // How the container ended, if it has: from the exit record. Also right after our own restart.
  virtual std::optional<ContainerExit> ReadExit(const std::string& id) = 0;
  // A Create whose caller died half way: ends the monitor it may have left and the runtime under it, and
  // waits until they are gone. OK when there is none.
  virtual Task<absl::Status> KillInterrupted(std::string id) = 0;
  // Removes the exit record and what else is kept outside the bundle.
  virtual void Forget(const std::string& id) = 0;
  // The log file was renamed away: the monitor opens it anew. Returns when it has.
  virtual Task<absl::Status> ReopenLog(std::string bundle_dir) = 0;
  virtual Task<absl::Status> ResizeTerminal(std::string bundle_dir, uint16_t rows, uint16_t columns) = 0;
  // Path of the seqpacket socket for attach; at most 107 bytes however long bundle_dir is.
  virtual std::string AttachSocketPath(const std::string& id) const = 0;
  // Watches the exit directory until destroyed; exits that happened before are not reported (ReadExit tells
  // them).
  virtual absl::Status WatchExits(ExitCallback on_exit) = 0;
};

struct ConmonOptions {
  std::string path = "conmon";
  std::string run_dir;  // exit records, attach sockets: <run_dir>/exits/<id>, <run_dir>/a/<id>
};
absl::StatusOr<std::unique_ptr<ContainerMonitor>> NewConmonMonitor(Env& env, ConmonOptions options);

}  // namespace keelson::oci
