#include "images/project_quota.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/quota.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson::images {

namespace {

constexpr int kProjectQuota = 2;  // PRJQUOTA, which glibc's header lacks

absl::StatusOr<Fd> OpenDir(const std::string& dir) {
  return OpenFile(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

}  // namespace

absl::Status SetProject(const std::string& dir, uint32_t project) {
  ASSIGN_OR_RETURN(Fd fd, OpenDir(dir));
  struct fsxattr attributes = {};
  if (::ioctl(fd.get(), FS_IOC_FSGETXATTR, &attributes) != 0) {
    return ErrnoStatus(errno, StrCat("read the project of ", dir));
  }
  attributes.fsx_projid = project;
  attributes.fsx_xflags |= FS_XFLAG_PROJINHERIT;
  if (::ioctl(fd.get(), FS_IOC_FSSETXATTR, &attributes) != 0) {
    return ErrnoStatus(errno, StrCat("set the project of ", dir));
  }
  return absl::OkStatus();
}

absl::StatusOr<UsageBytes> ProjectUsage(const std::string& dir, uint32_t project) {
  ASSIGN_OR_RETURN(Fd fd, OpenDir(dir));
  struct dqblk quota = {};
  if (::syscall(SYS_quotactl_fd, fd.get(), QCMD(Q_GETQUOTA, kProjectQuota), project, &quota) != 0) {
    return ErrnoStatus(errno, StrCat("read the usage of project ", project, " at ", dir));
  }
  return UsageBytes{quota.dqb_curspace, quota.dqb_curinodes};
}

absl::Status ProbeProjectUsage(const std::string& dir) {
  std::string probe = dir + "/project-probe";
  RETURN_IF_ERROR(RemoveTree(probe));
  RETURN_IF_ERROR(MakeDirs(probe, 0700));
  absl::Status status = SetProject(probe, kFirstProject);
  if (status.ok()) {
    absl::StatusOr<UsageBytes> usage = ProjectUsage(probe, kFirstProject);
    status = usage.status();
    if (status.ok() && usage->inodes == 0) status = absl::UnimplementedError("projects are not counted");
  }
  absl::Status removed = RemoveTree(probe);
  if (!removed.ok()) return removed;
  return status.ok() ? status : absl::UnimplementedError(status.message());
}

}  // namespace keelson::images
