// The mounts of a container: what every container has, the sandbox's files, and its own.
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>

#include <algorithm>
#include <array>

#include "base/status.h"
#include "oci/spec_parts.h"

namespace keelson::oci {
namespace {

using Options = std::vector<std::string>;

constexpr int kMaxMounts = 4096;

// What CRI's mount_options may add to a bind mount. The rest is decided by other fields of the CRI.
constexpr std::array<std::string_view, 16> kMountOptions = {
    "ro",      "rw",    "nosuid",   "suid",       "nodev",    "dev",        "noexec",      "exec",
    "noatime", "atime", "relatime", "norelatime", "diratime", "nodiratime", "strictatime", "nostrictatime"};

bool IsPrivileged(const SpecInput& input) { return input.container->linux().security_context().privileged(); }

SpecMount MakeMount(std::string destination, std::string type, std::string source, Options options) {
  SpecMount mount;
  mount.destination = std::move(destination);
  mount.type = std::move(type);
  mount.source = std::move(source);
  mount.options = std::move(options);
  return mount;
}

SpecMount MakeBind(std::string destination, std::string source, Options options) {
  options.insert(options.begin(), {"rbind", "rprivate"});
  return MakeMount(std::move(destination), "bind", std::move(source), std::move(options));
}

// A user namespace may mount sysfs and mqueue only for a network or IPC namespace of its own. On the host's
// network it gets the host's /sys, on the host's IPC no mqueue.
bool InUserNamespace(const SpecInput& input) {
  const auto& options = input.container->linux().security_context().namespace_options();
  const bool asked = options.has_userns_options() && options.userns_options().mode() == criv1::POD;
  return asked || !input.namespaces.user.empty() || input.host.in_user_namespace;
}

SpecMount SysfsMount(const SpecInput& input, const std::string& access) {
  if (input.namespaces.network.empty() && InUserNamespace(input)) {
    return MakeMount("/sys", "bind", "/sys", {"rbind", "rslave", "nosuid", "noexec", "nodev", access});
  }
  return MakeMount("/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", access});
}

// File systems of the kernel, as config-linux.md asks for and other CRI runtimes give them.
std::vector<SpecMount> KernelMounts(const SpecInput& input) {
  const std::string access = IsPrivileged(input) ? "rw" : "ro";
  std::vector<SpecMount> mounts = {
      MakeMount("/proc", "proc", "proc", {"nosuid", "noexec", "nodev"}),
      MakeMount("/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}),
      MakeMount("/dev/pts", "devpts", "devpts",
                {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}),
      SysfsMount(input, access),
      MakeMount("/sys/fs/cgroup", "cgroup", "cgroup", {"nosuid", "noexec", "nodev", "relatime", access}),
  };
  if (!input.namespaces.ipc.empty() || !InUserNamespace(input)) {
    mounts.push_back(MakeMount("/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}));
  }
  return mounts;
}

SpecMount ShmMount(const SpecInput& input) {
  std::string source = input.shm_path;
  const bool host_ipc = input.container->linux().security_context().namespace_options().ipc() == criv1::NODE;
  if (source.empty() && host_ipc) source = "/dev/shm";
  if (source.empty()) {
    return MakeMount("/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"});
  }
  return MakeBind("/dev/shm", std::move(source), {"rw", "nosuid", "noexec", "nodev"});
}

// /dev/shm and the files under /etc that all containers of the pod share.
std::vector<SpecMount> SandboxMounts(const SpecInput& input) {
  std::vector<SpecMount> mounts;
  mounts.push_back(ShmMount(input));
  const bool readonly = input.container->linux().security_context().readonly_rootfs();
  const std::pair<const char*, const std::string*> files[] = {{"/etc/hostname", &input.hostname_path},
                                                              {"/etc/hosts", &input.hosts_path},
                                                              {"/etc/resolv.conf", &input.resolv_conf_path}};
  for (const auto& [destination, source] : files) {
    if (source->empty()) continue;
    mounts.push_back(MakeBind(destination, *source, {readonly ? "ro" : "rw", "nosuid", "noexec", "nodev"}));
  }
  return mounts;
}

std::vector<IdMap> IdMaps(const google::protobuf::RepeatedPtrField<criv1::IDMapping>& mappings) {
  std::vector<IdMap> maps;
  for (const criv1::IDMapping& m : mappings) maps.push_back({m.container_id(), m.host_id(), m.length()});
  return maps;
}

absl::Status AddMountOptions(const criv1::Mount& mount, const std::string& field, Options* options) {
  for (const std::string& option : mount.mount_options()) {
    if (std::find(kMountOptions.begin(), kMountOptions.end(), option) == kMountOptions.end()) {
      return absl::InvalidArgumentError(
          StrCat(field, ".mount_options: \"", option, "\" is not an option this runtime takes"));
    }
    if (option == "rw" && mount.readonly()) {
      return absl::InvalidArgumentError(StrCat(field, ".mount_options: \"rw\" on a readonly mount"));
    }
    if (option == "ro" || option == "rw") continue;  // AccessOption
    options->push_back(option);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> AccessOption(const SpecInput& input, const criv1::Mount& mount,
                                         const std::string& field) {
  const bool ro_option = std::find(mount.mount_options().begin(), mount.mount_options().end(), "ro") !=
                         mount.mount_options().end();
  if (!mount.recursive_read_only()) return std::string(mount.readonly() || ro_option ? "ro" : "rw");
  if (!mount.readonly()) {
    return absl::InvalidArgumentError(StrCat(field, ".recursive_read_only: needs readonly"));
  }
  if (mount.propagation() != criv1::PROPAGATION_PRIVATE) {
    return absl::InvalidArgumentError(StrCat(field, ".recursive_read_only: needs private propagation"));
  }
  if (!input.features.recursive_read_only) {
    return absl::InvalidArgumentError(StrCat(field, ".recursive_read_only: runtime handler \"",
                                             input.runtime_handler, "\" does not support it"));
  }
  return std::string("rro");
}

absl::Status CheckPaths(const criv1::Mount& mount, const std::string& field) {
  if (!absl::StartsWith(mount.container_path(), "/")) {
    return absl::InvalidArgumentError(
        StrCat(field, ".container_path: \"", mount.container_path(), "\" is not absolute"));
  }
  if (CleanPath(mount.container_path()) == "/") {
    return absl::InvalidArgumentError(StrCat(field, ".container_path: nothing is mounted over the root"));
  }
  if (mount.host_path().empty()) {
    const bool image = mount.has_image() && !mount.image().image().empty();
    return image ? absl::InvalidArgumentError(StrCat(field, ".image: is not available"))
                 : absl::InvalidArgumentError(StrCat(field, ".host_path: is missing"));
  }
  if (mount.host_path()[0] != '/') {
    return absl::InvalidArgumentError(
        StrCat(field, ".host_path: \"", mount.host_path(), "\" is not absolute"));
  }
  if (mount.container_path().find('\0') != std::string::npos ||
      mount.host_path().find('\0') != std::string::npos) {
    return absl::InvalidArgumentError(StrCat(field, ": contains a NUL byte"));
  }
  return absl::OkStatus();
}

absl::StatusOr<SpecMount> OwnMount(const SpecInput& input, const criv1::Mount& mount,
                                   const std::string& field, MountPlan* plan) {
  RETURN_IF_ERROR(CheckPaths(mount, field));
  Options options = {"rbind"};
  switch (mount.propagation()) {
    case criv1::PROPAGATION_BIDIRECTIONAL:
      options.push_back("rshared");
      plan->rootfs_propagation = "rshared";
      break;
    case criv1::PROPAGATION_HOST_TO_CONTAINER:
      options.push_back("rslave");
      if (plan->rootfs_propagation.empty()) plan->rootfs_propagation = "rslave";
      break;
    case criv1::PROPAGATION_PRIVATE:
      options.push_back("rprivate");
      break;
    default:
      return absl::InvalidArgumentError(
          StrCat(field, ".propagation: unknown value ", static_cast<int>(mount.propagation())));
  }
  ASSIGN_OR_RETURN(std::string access, AccessOption(input, mount, field));
  options.push_back(std::move(access));
  RETURN_IF_ERROR(AddMountOptions(mount, field, &options));
  SpecMount out = MakeMount(CleanPath(mount.container_path()), "bind", mount.host_path(), std::move(options));
  if (!mount.uidmappings().empty() || !mount.gidmappings().empty()) {
    if (!input.features.idmapped_mounts) {
      return absl::UnimplementedError(StrCat(field, ".uidMappings: runtime handler \"", input.runtime_handler,
                                             "\" cannot make id-mapped mounts"));
    }
    out.uid_mappings = IdMaps(mount.uidmappings());
    out.gid_mappings = IdMaps(mount.gidmappings());
  }
  plan->bind_sources.push_back(mount.host_path());
  return out;
}

// The root must propagate what a vendor's mount is to propagate.
void NotePropagation(const SpecMount& mount, MountPlan* plan) {
  for (const std::string& option : mount.options) {
    if (option == "shared" || option == "rshared") plan->rootfs_propagation = "rshared";
    if ((option == "slave" || option == "rslave") && plan->rootfs_propagation.empty()) {
      plan->rootfs_propagation = "rslave";
    }
  }
}

absl::StatusOr<std::vector<SpecMount>> OwnMounts(const SpecInput& input, MountPlan* plan) {
  std::vector<SpecMount> mounts;
  const int count = input.container->mounts_size();
  if (count > kMaxMounts) {
    return absl::InvalidArgumentError(StrCat("mounts: ", count, "; at most ", kMaxMounts));
  }
  for (int i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(SpecMount mount,
                     OwnMount(input, input.container->mounts(i), StrCat("mounts[", i, "]"), plan));
    mounts.push_back(std::move(mount));
  }
  for (const SpecMount& mount : input.cdi_mounts) {
    NotePropagation(mount, plan);
    mounts.push_back(mount);
  }
  return mounts;
}

bool HasMountAt(const std::vector<SpecMount>& mounts, const std::string& destination) {
  return std::any_of(mounts.begin(), mounts.end(),
                     [&](const SpecMount& mount) { return mount.destination == destination; });
}

bool IsCovered(const std::vector<SpecMount>& mounts, const std::string& destination) {
  return std::any_of(mounts.begin(), mounts.end(),
                     [&](const SpecMount& mount) { return IsAtOrBelow(destination, mount.destination); });
}

// Of several mounts at one place the last one would be seen; the others are left out.
std::vector<SpecMount> LastOfEachPlace(std::vector<SpecMount> mounts) {
  std::vector<SpecMount> kept;
  for (size_t i = 0; i < mounts.size(); ++i) {
    const auto later = [&](const SpecMount& mount) { return mount.destination == mounts[i].destination; };
    if (std::none_of(mounts.begin() + static_cast<std::ptrdiff_t>(i) + 1, mounts.end(), later)) {
      kept.push_back(mounts[i]);
    }
  }
  return kept;
}

// One line of mountinfo: proc_pid_mountinfo(5). False when it is malformed.
bool ParseMountInfoLine(std::string_view line, std::string* mount_point, bool* shared, bool* slave) {
  const std::vector<absl::string_view> fields = absl::StrSplit(Av(line), ' ', absl::SkipEmpty());
  if (fields.size() < 7) return false;
  mount_point->clear();
  const absl::string_view escaped = fields[4];
  for (size_t i = 0; i < escaped.size(); ++i) {
    const bool octal = escaped[i] == '\\' && i + 3 < escaped.size() && escaped[i + 1] >= '0' &&
                       escaped[i + 1] <= '3' && escaped[i + 2] >= '0' && escaped[i + 2] <= '7' &&
                       escaped[i + 3] >= '0' && escaped[i + 3] <= '7';
    if (octal) {
      mount_point->push_back(static_cast<char>((escaped[i + 1] - '0') * 64 + (escaped[i + 2] - '0') * 8 +
                                               (escaped[i + 3] - '0')));
      i += 3;
    } else {
      mount_point->push_back(escaped[i]);
    }
  }
  *shared = *slave = false;
  for (size_t i = 6; i < fields.size() && fields[i] != "-"; ++i) {
    *shared |= absl::StartsWith(fields[i], "shared:");
    *slave |= absl::StartsWith(fields[i], "master:");
  }
  return true;
}

}  // namespace

std::string CleanPath(std::string_view path) {
  std::vector<absl::string_view> parts;
  for (const absl::string_view part : absl::StrSplit(Av(path), '/', absl::SkipEmpty())) {
    if (part == ".") continue;
    if (part != "..") {
      parts.push_back(part);
    } else if (!parts.empty()) {
      parts.pop_back();
    }
  }
  std::string clean;
  for (const absl::string_view part : parts) StrAppend(&clean, "/", part);
  return clean.empty() ? "/" : clean;
}

int PathDepth(std::string_view clean_path) {
  if (clean_path == "/") return 0;
  return static_cast<int>(std::count(clean_path.begin(), clean_path.end(), '/'));
}

bool IsAtOrBelow(std::string_view path, std::string_view folder) {
  if (folder == "/") return true;
  return path.substr(0, folder.size()) == folder &&
         (path.size() == folder.size() || path[folder.size()] == '/');
}

absl::StatusOr<MountPlan> PlanMounts(const SpecInput& input) {
  MountPlan plan;
  ASSIGN_OR_RETURN(std::vector<SpecMount> own, OwnMounts(input, &plan));
  own = LastOfEachPlace(std::move(own));
  for (const auto& [destination, source] : input.image_volume_paths) {
    if (HasMountAt(own, CleanPath(destination))) continue;
    own.push_back(MakeBind(CleanPath(destination), source, {"rw"}));
  }
  // Who mounts /dev or /sys brings all that is below; the sandbox's files are put into whatever is there.
  for (SpecMount& mount : KernelMounts(input)) {
    if (!IsCovered(own, mount.destination)) plan.mounts.push_back(std::move(mount));
  }
  for (SpecMount& mount : SandboxMounts(input)) {
    if (!HasMountAt(own, mount.destination)) plan.mounts.push_back(std::move(mount));
  }
  if (!input.init_binary_path.empty()) {
    plan.mounts.push_back(MakeBind(std::string(kInitPath), input.init_binary_path, {"ro"}));
  }
  plan.mounts.insert(plan.mounts.end(), own.begin(), own.end());
  std::stable_sort(plan.mounts.begin(), plan.mounts.end(), [](const SpecMount& a, const SpecMount& b) {
    return PathDepth(a.destination) < PathDepth(b.destination);
  });
  return plan;
}

absl::Status CheckPropagation(std::string_view mountinfo, const std::string& host_path,
                              criv1::MountPropagation propagation) {
  if (propagation == criv1::PROPAGATION_PRIVATE) return absl::OkStatus();
  const std::string path = CleanPath(host_path);
  std::string best;
  bool best_shared = false, best_slave = false;
  for (const absl::string_view line : absl::StrSplit(Av(mountinfo), '\n', absl::SkipEmpty())) {
    std::string mount_point;
    bool shared = false, slave = false;
    if (!ParseMountInfoLine(Sv(line), &mount_point, &shared, &slave)) continue;
    // Of two mounts at one place the later one is on top.
    if (!IsAtOrBelow(path, mount_point) || mount_point.size() < best.size()) continue;
    best = mount_point;
    best_shared = shared;
    best_slave = slave;
  }
  if (best_shared || (best_slave && propagation == criv1::PROPAGATION_HOST_TO_CONTAINER)) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      StrCat("path ", path, " is on ", best.empty() ? "no known mount" : best, ", which is not a shared ",
             propagation == criv1::PROPAGATION_BIDIRECTIONAL ? "mount" : "or slave mount",
             "; make it so: mount --make-rshared ", best.empty() ? "/" : best));
}

}  // namespace keelson::oci
