// RuntimeWorld: what a RuntimeServer stands on, as far as it outlives the server: processes, containers of
// the OCI runtime, monitors, network attachments, root file systems, cgroups, pins and mounts, all faked. And
// Generation: the interfaces as one server process sees them, until it dies.
//
// Every call is a point where the server may die (Generation::DieAfter): before the effect, after it, or with
// the effect left under way. From then on nothing that the dead server's coroutines still do reaches the
// world, and its files lie where the next server reads them while it writes beside.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/fake_env.h"
#include "cri/server/runtime_server.h"

namespace keelson::sim {

class Generation;

struct SimProcess {
  enum class Kind { kInit, kMonitor, kExec };
  int pid = 0;
  uint64_t start_ticks = 0;
  Kind kind = Kind::kInit;
  std::string id;  // of the container
  std::string cgroup;
  bool alive = true, dying = false;
  int code = 0;             // as a shell gives it
  int child_of_server = 0;  // the generation that is its parent; 0: none
  AsyncEvent ended;
};

struct SimContainer {  // of the OCI runtime
  std::string status;  // created, running, stopped
  bool frozen = false;
  int pid = 0;
  std::string cgroup;
};

struct SimMonitor {
  int monitor_pid = 0;
  std::optional<oci::ContainerExit> exit;
};

// What really became of a container, for ever.
struct SimTruth {
  int starts = 0;
  std::string restored_from;  // the container in the checkpoint
  std::optional<int> exit_code;
  bool end_unseen = false;  // its monitor died before it had written it, or the machine rebooted
};

class RuntimeWorld {
 public:
  RuntimeWorld(uint64_t seed, bool tell);
  ~RuntimeWorld();
  RuntimeWorld(const RuntimeWorld&) = delete;
  RuntimeWorld& operator=(const RuntimeWorld&) = delete;

  FakeEnv& env() { return env_; }
  // The server's folder of today.
  std::string folder() const;
  const std::string& root() const { return root_; }
  int generation() const { return generation_; }

  // Part of the trace that a replay must repeat; printed when told to.
  void Note(const std::string& what);
  uint64_t hash() const { return hash_; }
  int Below(int bound) { return static_cast<int>(random_() % static_cast<uint64_t>(bound)); }
  bool Chance(double rate) { return static_cast<double>(random_() >> 11) * 0x1.0p-53 < rate; }
  absl::Duration Delay(absl::Duration most);

  // Mishaps.
  double fault_rate = 0;
  bool slow = false;
  int fail_at = 0;                 // the so-many-th call from here on fails, whatever fault_rate is; 0: none
  bool fail_after_effect = false;  // that one
  // criu puts restored processes into namespaces of their own, or another cgroup.
  bool misplaces_restored = false, misplaces_cgroups = false;
  void ExitContainer(const std::string& id, int code);
  void KillMonitor(const std::string& id);
  // The machine without power for a moment, with no server alive: processes, namespaces, mounts, cgroups,
  // rules of the host's ports and /run are gone; files, addresses that were given out and layers stay.
  void Reboot();
  int boot() const { return boot_; }

  // What is there that belongs to this sandbox or container ("" : to any), one line each.
  std::vector<std::string> Resources(std::string_view id) const;
  std::vector<std::string> RunningIds() const;  // with a live process that was started
  bool InitAlive(const std::string& id) const;

  // ---- the state; for Generation and the checks ----
  std::map<int, std::shared_ptr<SimProcess>> processes;
  std::map<std::string, SimContainer> containers;
  std::map<std::string, SimMonitor> monitors;
  std::map<std::string, SimTruth> truths;
  std::map<std::string, std::vector<std::string>> attachments;  // sandbox -> addresses
  std::map<std::string, std::string> rootfs;                    // key -> path below folder()
  std::map<std::string, cri::HostPortSandbox> host_ports;
  std::map<std::string, std::set<int>> cgroup_pids;
  std::map<std::string, std::set<std::string>> pins;  // folder below folder() -> names
  std::set<std::string> shm_mounts;
  std::map<std::string, std::function<void()>> orphan_creates;  // of dead servers, still on their way

  std::shared_ptr<SimProcess> Spawn(SimProcess::Kind kind, const std::string& id, const std::string& cgroup);
  void EndProcess(int pid, int code);
  void Signal(int pid, int signal);
  std::string Relative(const std::string& path) const;  // below the folder of its generation
  std::string Today(const std::string& path) const;     // the same in the folder of today
  int next_address = 1;

 private:
  friend class Generation;
  void WriteExit(std::string id, int code, absl::Time at);
  // A monitor whose caller died before it had its answer ends, and may take the container along.
  void EndUnheard(const std::string& short_id);

  FakeEnv env_;
  std::mt19937_64 random_;
  const bool tell_;
  std::string root_;
  int generation_ = 0;
  int boot_ = 1;
  Generation* current_ = nullptr;
  int next_pid_ = 1000;
  uint64_t hash_ = 0xcbf29ce484222325;
};

// The view of one server process. Lives until its coroutines have ended.
class Generation {
 public:
  explicit Generation(RuntimeWorld* world);
  ~Generation();
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  cri::RuntimeServerDeps Deps();
  cri::RuntimeServerOptions Options() const;
  bool dead() const { return dead_; }
  int number() const { return number_; }
  // After so many more steps that touch the world; 0: at once.
  void DieAfter(int steps);
  // One step: false when the server is dead by now and must have no effect any more.
  bool Step();

  // ---- for the fakes ----
  // A call that takes its time: may fail before or after its effect, and its server may die meanwhile.
  Task<absl::Status> Do(std::string what, std::function<absl::Status()> effect, bool faults = true);
  Task<void> Never() { return never_.Wait(); }
  RuntimeWorld& world() { return world_; }
  struct Fakes;
  oci::ExitCallback on_exit;

 private:
  struct Pending {
    std::string what;
    std::function<absl::Status()> effect;
  };
  void Die();

  RuntimeWorld& world_;
  const int number_;
  bool dead_ = false;
  int countdown_ = -1;
  AsyncEvent never_;
  std::list<Pending> pending_;
  std::unique_ptr<Fakes> fakes_;
};

}  // namespace keelson::sim
