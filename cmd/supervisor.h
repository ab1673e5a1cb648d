// Supervisor: keeps the components of `keelson up` running. Each is a process of its own, started again with
// back-off when it ends; a supervisor that was killed and started again adopts what still runs (pid file with
// start time, then a pidfd), so that its own death disturbs nobody.
#pragma once

#include <absl/status/status.h>
#include <absl/time/time.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/env.h"
#include "base/task.h"

namespace keelson {

struct ComponentSpec {
  std::string name;
  std::vector<std::string> argv;
  std::vector<std::string> env;  // empty: inherit
  std::string pid_file;
  std::string log_file;                           // stdout and stderr, appended
  int64_t log_max_bytes = 8 << 20;                // cut when larger, the last part kept as LOG.1
  absl::Duration stop_grace = absl::Seconds(10);  // SIGTERM to SIGKILL
  absl::Duration min_backoff =
      absl::Milliseconds(100);  // death to the first new start; doubles while it keeps dying
};

// "PID STARTTIME" where STARTTIME is field 22 of /proc/PID/stat: together they name one process for ever.
struct ProcessIdentity {
  int pid = 0;
  uint64_t start_time_ticks = 0;
};
absl::StatusOr<ProcessIdentity> IdentifyProcess(int pid, const std::string& proc_root = "/proc");
absl::StatusOr<ProcessIdentity> ReadPidFile(const std::string& path);
absl::Status WritePidFile(const std::string& path, const ProcessIdentity& identity);
// The process of the pid file when it still runs. NotFound: no file, ended, or the pid is another's now.
absl::StatusOr<std::unique_ptr<ChildProcess>> AdoptFromPidFile(Env& env, const std::string& path,
                                                               const std::string& proc_root = "/proc");

// True when the file that the process runs is not the one found under its name now: it was built or installed
// anew since. False when that cannot be said.
bool ExecutableReplaced(int pid, const std::string& argv0, const std::string& proc_root = "/proc");

// SIGTERM, SIGKILL after `grace`, wait. Ended already: success.
Task<void> StopProcess(Env* env, std::shared_ptr<ChildProcess> process, absl::Duration grace);

class Supervisor {
 public:
  explicit Supervisor(Env& env);
  ~Supervisor();

  // Adopts or starts the component and keeps it running. An executable that cannot be started at all is an
  // error now; later failures are logged and tried again (100 ms doubling to 10 s, anew after 30 s of life).
  absl::Status Start(ComponentSpec spec);
  // Stops keeping it and ends it.
  Task<void> StopComponent(std::string name);
  // Ends it and starts it at once; returns when the new one runs or, when it cannot be started, after the
  // first failure (it is tried again). Unknown or down: does nothing.
  Task<void> Restart(std::string name);
  // ExecutableReplaced of the running component.
  bool replaced(const std::string& name) const;
  // Lets go of everything: components go on running.
  Task<void> Release();
  // Pid now, 0 when it is down.
  int pid(const std::string& name) const;
  int restarts(const std::string& name) const;
  bool adopted(const std::string& name) const;

 private:
  struct Component;
  Task<void> Keep(std::shared_ptr<Component> component);
  Task<void> TrimLogs();
  absl::Status Launch(Component& component);
  std::shared_ptr<Component> Find(const std::string& name) const;  // null: unknown

  Env& env_;
  Scope scope_;
  std::vector<std::shared_ptr<Component>> components_;
};

}  // namespace keelson
