#include "oci/selinux.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <vector>

#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson::oci {
namespace {

constexpr char kXattr[] = "security.selinux";
constexpr char kSensitivity[] = "s0";
constexpr char kProcessType[] = "container_t";
constexpr char kMountPrefix[] = "system_u:object_r:container_file_t:";
constexpr uint64_t kCategories = 1024;
constexpr size_t kMaxPart = 256;
constexpr size_t kMaxLabel = 4096;

// Relabelling one of these would take it from the programs of the host.
constexpr const char* kShared[] = {"/",     "/bin",       "/boot",  "/dev",     "/etc",     "/home",
                                   "/lib",  "/lib64",     "/media", "/mnt",     "/opt",     "/proc",
                                   "/root", "/run",       "/sbin",  "/srv",     "/sys",     "/tmp",
                                   "/usr",  "/usr/local", "/var",   "/var/lib", "/var/log", "/var/tmp"};

// By what it is: on most hosts /bin is a link to /usr/bin, and a mount may have any name.
bool IsShared(const struct stat& folder) {
  return std::any_of(std::begin(kShared), std::end(kShared), [&](const char* path) {
    struct stat info;
    return ::stat(path, &info) == 0 && info.st_dev == folder.st_dev && info.st_ino == folder.st_ino;
  });
}

absl::StatusOr<std::string> LabelPart(const std::string& value, std::string_view fallback,
                                      std::string_view name) {
  if (value.empty()) return std::string(fallback);
  const bool level = name == "level";  // the only part with colons
  const bool plain = value.size() <= kMaxPart && std::all_of(value.begin(), value.end(), [&](char c) {
                       return c > ' ' && c < 0x7f && c != '"' && (level || c != ':');
                     });
  if (plain) return value;
  return absl::InvalidArgumentError(
      StrCat("security_context.selinux_options.", name, ": \"", value, "\" is no part of a label"));
}

bool HasLabel(const std::string& path, const std::string& context) {
  char has[kMaxLabel];
  const ssize_t size = ::getxattr(path.c_str(), kXattr, has, sizeof(has));
  // The kernel counts the zero byte at its end, a file system alone does not.
  return size > 0 && std::string_view(has, ::strnlen(has, static_cast<size_t>(size))) == context;
}

absl::Status SetLabel(int fd, const std::string& context) {
  // Through the link the descriptor is, which ends there: also at a symlink.
  const std::string link = StrCat("/proc/self/fd/", fd);
  if (HasLabel(link, context)) return absl::OkStatus();
  if (::setxattr(link.c_str(), kXattr, context.data(), context.size(), 0) == 0) return absl::OkStatus();
  if (errno == EOPNOTSUPP) return absl::OkStatus();  // a file system without labels
  return ErrnoStatus(errno, StrCat("label ", context));
}

// All in the folder that `parent` is a descriptor of.
absl::Status RelabelInside(int parent, const std::string& context, int depth) {
  if (depth > kMaxRelabelDepth) {
    return absl::ResourceExhaustedError(StrCat("more than ", kMaxRelabelDepth, " folders in each other"));
  }
  ASSIGN_OR_RETURN(Fd folder, OpenBeneath(parent, ".", O_RDONLY | O_DIRECTORY));
  ASSIGN_OR_RETURN(const std::vector<std::string> names, FolderNames(folder.get()));
  for (const std::string& name : names) {
    absl::StatusOr<Fd> entry = OpenBeneath(folder.get(), name, O_PATH | O_NOFOLLOW);
    if (absl::IsNotFound(entry.status())) continue;  // removed since it was listed
    if (!entry.ok()) return Annotate(entry.status(), name);
    struct stat info;
    if (::fstat(entry->get(), &info) != 0) return ErrnoStatus(errno, name);
    if (S_ISDIR(info.st_mode))
      RETURN_IF_ERROR(Annotate(RelabelInside(entry->get(), context, depth + 1), name));
    RETURN_IF_ERROR(Annotate(SetLabel(entry->get(), context), name));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SelinuxLabels> SelinuxLabelsOf(const criv1::LinuxContainerSecurityContext& security,
                                              const criv1::PodSandboxConfig& sandbox, const HostFacts& host,
                                              const std::string& pod_level) {
  const auto& of_pod = sandbox.linux().security_context();
  const bool named = security.has_selinux_options() || of_pod.has_selinux_options();
  const criv1::SELinuxOption& options =
      security.has_selinux_options() ? security.selinux_options() : of_pod.selinux_options();
  ASSIGN_OR_RETURN(const std::string user, LabelPart(options.user(), "system_u", "user"));
  ASSIGN_OR_RETURN(const std::string role, LabelPart(options.role(), "system_r", "role"));
  ASSIGN_OR_RETURN(const std::string type, LabelPart(options.type(), kProcessType, "type"));
  const std::string& of_options = of_pod.selinux_options().level();
  const std::string& pods = of_options.empty() ? pod_level : of_options;
  ASSIGN_OR_RETURN(const std::string level,
                   LabelPart(options.level().empty() ? pods : options.level(), "", "level"));
  if (!host.selinux || pod_level.empty()) return SelinuxLabels();
  const criv1::NamespaceOption& namespaces = of_pod.namespace_options();
  if (!named && (namespaces.pid() == criv1::NODE || namespaces.ipc() == criv1::NODE)) return SelinuxLabels();
  SelinuxLabels labels;
  if (!security.privileged()) labels.process = StrCat(user, ":", role, ":", type, ":", level);
  labels.mount = StrCat(kMountPrefix, level);
  return labels;
}

std::string NewSelinuxLevel(Random& random, const std::function<bool(const std::string&)>& taken) {
  for (;;) {
    uint64_t a = random.Uniform(kCategories), b = random.Uniform(kCategories);
    if (a == b) continue;
    std::string level = StrCat(kSensitivity, ":c", std::min(a, b), ",c", std::max(a, b));
    if (!taken(level)) return level;
  }
}

absl::Status CheckSelinuxContext(const std::string& context, const std::string& selinuxfs) {
  ASSIGN_OR_RETURN(Fd file, OpenFile(selinuxfs + "/context", O_WRONLY));
  // The kernel answers on the write itself; a context ends with its zero byte.
  ssize_t written = ::write(file.get(), context.c_str(), context.size() + 1);
  if (written >= 0) return absl::OkStatus();
  if (errno != EINVAL) return ErrnoStatus(errno, StrCat("look up label ", context));
  return absl::InvalidArgumentError(
      StrCat("security_context.selinux_options: this host's policy has no label \"", context, "\""));
}

absl::Status CheckSelinuxLabels(const SelinuxLabels& labels) {
  for (const std::string& label : {labels.process, labels.mount}) {
    if (!label.empty()) RETURN_IF_ERROR(CheckSelinuxContext(label));
  }
  return absl::OkStatus();
}

absl::Status CheckSelinuxPolicy(const std::string& selinuxfs) {
  for (const std::string& context : {StrCat("system_u:system_r:", kProcessType, ":s0:c1,c2"),
                                     StrCat(kMountPrefix, "s0:c1,c2"), std::string(kLayersLabel)}) {
    absl::Status known = CheckSelinuxContext(context, selinuxfs);
    if (known.ok()) continue;
    if (!absl::IsInvalidArgument(known)) return Annotate(known, "SELinux");
    return absl::FailedPreconditionError(StrCat("SELinux is on, but its policy has no label ", context,
                                                ": install a policy that knows containers (package "
                                                "container-selinux)"));
  }
  return absl::OkStatus();
}

absl::Status Relabel(const std::string& path, const std::string& context) {
  const std::string what = StrCat("relabel ", path);
  absl::StatusOr<Fd> top = OpenFile(path, O_PATH | O_NOFOLLOW);
  if (!top.ok()) return Annotate(top.status(), what);
  struct stat info;
  if (::fstat(top->get(), &info) != 0) return ErrnoStatus(errno, what);
  if (S_ISLNK(info.st_mode)) return absl::InvalidArgumentError(StrCat(what, ": is a symlink"));
  if (IsShared(info)) {
    return absl::PermissionDeniedError(StrCat(what, ": refused, the host's programs need it as it is"));
  }
  if (S_ISDIR(info.st_mode)) RETURN_IF_ERROR(Annotate(RelabelInside(top->get(), context, 1), what));
  // Last: what has the label has been gone through to the end, for RelabelOnce.
  return Annotate(SetLabel(top->get(), context), what);
}

absl::Status RelabelOnce(const std::string& folder, const std::string& context) {
  return HasLabel(folder, context) ? absl::OkStatus() : Relabel(folder, context);
}

}  // namespace keelson::oci
