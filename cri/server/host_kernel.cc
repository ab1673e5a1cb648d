#include "cri/server/host_kernel.h"

#include <absl/strings/ascii.h>
#include <linux/magic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>
extern "C" {  // glibc 2.36 forgot it
#include <sys/pidfd.h>
}

#include <cerrno>

#include "base/fd.h"
#include "base/process.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/server/server_state.h"

namespace keelson::cri {

namespace {

constexpr size_t kMaxBootIdBytes = 128;

class Real : public HostKernel {
 public:
  absl::StatusOr<std::string> BootId() override {
    ASSIGN_OR_RETURN(std::string boot_id, ReadFile("/proc/sys/kernel/random/boot_id", kMaxBootIdBytes));
    return std::string(absl::StripAsciiWhitespace(boot_id));
  }

  bool IsAlive(const records::Process& process) override { return cri::IsAlive(process); }

  absl::Status Signal(const records::Process& process, int signal) override {
    ASSIGN_OR_RETURN(Fd fd, OpenProcess(process.pid()));
    // The descriptor is of whoever has the pid now: ours only if it started when ours did.
    if (!cri::IsAlive(process)) return absl::NotFoundError("the process has ended");
    if (::pidfd_send_signal(fd.get(), signal, nullptr, 0) != 0) {
      return errno == ESRCH ? absl::NotFoundError("the process has ended")
                            : ErrnoStatus(errno, "pidfd_send_signal");
    }
    return absl::OkStatus();
  }

  bool IsIn(const records::Process& process, const char* kind, const std::string& path) override {
    struct stat has, wanted;
    return ::stat(StrCat("/proc/", process.pid(), "/ns/", kind).c_str(), &has) == 0 &&
           ::stat(path.c_str(), &wanted) == 0 && has.st_ino == wanted.st_ino && has.st_dev == wanted.st_dev;
  }

  std::string ApparmorProfile(const records::Process& process) override {
    absl::StatusOr<std::string> text = ReadFile(StrCat("/proc/", process.pid(), "/attr/apparmor/current"));
    if (!text.ok() || !IsAlive(process)) return "";
    std::string profile(absl::StripAsciiWhitespace(*text));
    size_t mode = profile.rfind(" (");  // "NAME (enforce)"
    return mode == std::string::npos ? profile : profile.substr(0, mode);
  }

  bool IsOwnChild(int pid) override {
    absl::StatusOr<ProcessFacts> facts = ProcessFactsOf(pid);
    return facts.ok() && facts->parent == ::getpid();
  }

  absl::Status PinNamespaces(const PinRequest& request) override { return cri::PinNamespaces(request); }
  absl::Status UnpinNamespaces(const std::string& dir) override { return cri::UnpinNamespaces(dir); }
  absl::Status WriteSysctls(const std::string& dir, const Sysctls& sysctls) override {
    return cri::WriteSysctls(dir, sysctls);
  }

  bool IsPinned(const std::string& path) override {
    struct statfs info;
    return ::statfs(path.c_str(), &info) == 0 && info.f_type == NSFS_MAGIC;
  }

  absl::Status MountShm(const std::string& dir, const std::string& options) override {
    if (::mount("shm", dir.c_str(), "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options.c_str()) != 0)
      return ErrnoStatus(errno, StrCat("mount ", dir));
    return absl::OkStatus();
  }

  absl::Status Unmount(const std::string& path) override {
    if (::umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0 && errno != EINVAL && errno != ENOENT)
      return ErrnoStatus(errno, StrCat("unmount ", path));
    return absl::OkStatus();
  }
};

}  // namespace

HostKernel& RealHostKernel() {
  static Real* real = new Real;
  return *real;
}

}  // namespace keelson::cri
