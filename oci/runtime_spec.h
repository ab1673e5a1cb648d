// The vocabulary of the OCI runtime-spec (config.md, config-linux.md of 1.0.2) as plain values, as far as a
// CRI container needs it, and its one rendering as JSON. The parts of GenerateSpec (spec_parts.h) fill it in;
// it is never read back. Field names and meanings are the specification's.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace keelson::oci {

// Names with the CAP_ prefix, in the order of the kernel's numbers. See capabilities.h.
struct CapabilitySets {
  std::vector<std::string> bounding, effective, permitted, inheritable, ambient;
};

struct Rlimit {
  std::string type;  // "RLIMIT_NOFILE"
  uint64_t soft = 0, hard = 0;
};

struct SpecProcess {
  bool terminal = false;
  uint32_t uid = 0, gid = 0;
  std::vector<uint32_t> additional_gids;
  std::vector<std::string> args, env;
  std::string cwd;
  CapabilitySets capabilities;
  std::vector<Rlimit> rlimits;
  bool no_new_privileges = false;
  std::string apparmor_profile, selinux_label;
  int64_t oom_score_adj = 0;
};

struct IdMap {
  uint32_t container_id = 0, host_id = 0, size = 0;
};

struct SpecMount {
  std::string destination, type, source;
  std::vector<std::string> options;
  std::vector<IdMap> uid_mappings, gid_mappings;
};

struct SpecNamespace {
  std::string type;  // pid network ipc uts mount cgroup user
  std::string path;  // "" : a new one
};

struct SpecDevice {
  std::string path;
  char type = 'c';
  int64_t major = 0, minor = 0;
  uint32_t file_mode = 0666, uid = 0, gid = 0;
};

struct DeviceRule {
  bool allow = false;
  char type = 'a';
  std::optional<int64_t> major, minor;  // absent: any
  std::string access = "rwm";
};

struct HugepageLimit {
  std::string page_size;  // "2MB"
  uint64_t limit_bytes = 0;
};

struct SpecResources {
  std::vector<DeviceRule> devices;
  std::optional<int64_t> memory_limit_bytes, memory_swap_bytes;  // swap counts memory and swap together
  std::optional<uint64_t> cpu_shares, cpu_period_us;
  std::optional<int64_t> cpu_quota_us;
  std::string cpuset_cpus, cpuset_mems;
  std::optional<int64_t> pids_limit;
  std::vector<HugepageLimit> hugepages;
  std::map<std::string, std::string> unified;
};

struct SeccompArg {
  uint32_t index = 0;
  uint64_t value = 0, value_two = 0;
  std::string op;  // SCMP_CMP_...
};

struct SeccompRule {
  std::vector<std::string> names;
  std::string action;  // SCMP_ACT_...
  std::optional<uint32_t> errno_ret;
  std::vector<SeccompArg> args;  // all must match
};

struct SeccompProfile {
  std::string default_action;
  std::optional<uint32_t> default_errno_ret;
  std::vector<std::string> architectures, flags;
  std::string listener_path, listener_metadata;
  std::vector<SeccompRule> rules;
};

struct SpecHook {
  std::string path;
  std::vector<std::string> args, env;  // args[0] is the name it runs under
  std::optional<int> timeout_s;
};
using SpecHooks = std::map<std::string, std::vector<SpecHook>>;  // by the runtime-spec's name

struct RuntimeSpec {
  SpecProcess process;
  std::string root_path;
  bool root_readonly = false;
  std::vector<SpecMount> mounts;
  SpecHooks hooks;
  std::map<std::string, std::string> annotations;
  std::vector<IdMap> uid_mappings, gid_mappings;
  std::vector<SpecNamespace> namespaces;
  std::vector<SpecDevice> devices;
  std::string cgroups_path;
  SpecResources resources;
  std::optional<SeccompProfile> seccomp;
  std::string rootfs_propagation;  // "" : the runtime's default
  std::vector<std::string> masked_paths, readonly_paths;
  std::string mount_label;
};

// config.json, indented by nothing, members always in the same order. Bytes that are not UTF-8 become U+FFFD.
std::string RenderSpec(const RuntimeSpec& spec);
// The "linux.resources" object alone; "{}" when nothing is set.
std::string RenderResources(const SpecResources& resources);

}  // namespace keelson::oci
