// HostKernel: what the server does to the kernel by itself, where no other interface stands in between:
// processes known by pid and start time, pinned namespaces, a sandbox's mounts. A seam for tests/sim.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>

#include "cri/server/namespaces.h"
#include "cri/server/records.pb.h"

namespace keelson::cri {

class HostKernel {
 public:
  virtual ~HostKernel() = default;

  // Of the running boot; nothing that a sandbox holds outlives it.
  virtual absl::StatusOr<std::string> BootId() = 0;

  // ---- processes; short calls on the loop ----
  // Whether it is there, not dead, and the one meant.
  virtual bool IsAlive(const records::Process& process) = 0;
  // Never to another process that got the pid since. NotFound: it has ended.
  virtual absl::Status Signal(const records::Process& process, int signal) = 0;
  // Whether it is in the namespace of this kind (kNetNamespace and so on) that is pinned at `path`.
  virtual bool IsIn(const records::Process& process, const char* kind, const std::string& path) = 0;
  // The AppArmor profile it is under, "unconfined"; "": it has ended, or there is no AppArmor.
  virtual std::string ApparmorProfile(const records::Process& process) = 0;
  // Only a parent reads how a process ended.
  virtual bool IsOwnChild(int pid) = 0;

  // ---- namespaces and mounts; blocking, off the loop ----
  // As in namespaces.h.
  virtual absl::Status PinNamespaces(const PinRequest& request) = 0;
  virtual absl::Status UnpinNamespaces(const std::string& dir) = 0;
  virtual absl::Status WriteSysctls(const std::string& dir, const Sysctls& sysctls) = 0;
  // Whether a namespace is bound to this path; at once.
  virtual bool IsPinned(const std::string& path) = 0;
  // A tmpfs at `dir`, which exists, with these mount options.
  virtual absl::Status MountShm(const std::string& dir, const std::string& options) = 0;
  // Nothing mounted there, or no such path, is success.
  virtual absl::Status Unmount(const std::string& path) = 0;
};

// This machine's. Lives for ever.
HostKernel& RealHostKernel();

}  // namespace keelson::cri
