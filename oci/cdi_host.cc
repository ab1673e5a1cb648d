// CDI's view of the host: specification files, device nodes, sources of mounts, programs of hooks.
#include <absl/strings/match.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <memory>

#include "api/yaml.h"
#include "base/fd.h"
#include "base/status.h"
#include "oci/cdi.h"

namespace keelson::oci {
namespace {

absl::StatusOr<std::vector<std::string>> SpecNames(const std::string& dir) {
  std::vector<std::string> names;
  auto there = FolderNames(dir);
  if (absl::IsNotFound(there.status())) return names;
  if (!there.ok()) return there.status();
  for (const std::string& name : *there) {
    if (absl::EndsWith(name, ".json") || absl::EndsWith(name, ".yaml")) names.push_back(name);
  }
  return names;
}

// NotFound: it is not there any more, or no file.
absl::StatusOr<std::string> ReadSpecFile(const std::string& path) {
  ASSIGN_OR_RETURN(Fd fd, OpenFile(path, O_RDONLY | O_NONBLOCK | O_NOCTTY));
  struct stat info;
  if (::fstat(fd.get(), &info) != 0) return ErrnoStatus(errno, "stat");
  if (!S_ISREG(info.st_mode)) return absl::NotFoundError("is no file");
  return ReadFd(fd.get(), kMaxCdiFileBytes);
}

absl::StatusOr<CdiSpec> ParseFile(const std::string& path, const std::string& text) {
  if (absl::EndsWith(path, ".json")) return ParseCdiSpec(text);
  ASSIGN_OR_RETURN(std::string json, api::YamlDocumentToJson(text));
  return ParseCdiSpec(json);
}

absl::StatusOr<HostDevice> NodeAt(const std::string& path) {
  struct stat info;
  if (::lstat(path.c_str(), &info) != 0) return ErrnoStatus(errno, "stat");
  HostDevice device;
  device.path = path;
  if (S_ISCHR(info.st_mode)) {
    device.type = 'c';
  } else if (S_ISBLK(info.st_mode)) {
    device.type = 'b';
  } else if (S_ISFIFO(info.st_mode)) {
    device.type = 'p';
  } else {
    return absl::InvalidArgumentError("is no device node");
  }
  if (device.type != 'p') {
    device.major = ::major(info.st_rdev);
    device.minor = ::minor(info.st_rdev);
  }
  device.mode = info.st_mode & 07777;
  device.uid = info.st_uid;
  device.gid = info.st_gid;
  return device;
}

}  // namespace

absl::StatusOr<std::vector<CdiFile>> ReadCdiFiles(const std::vector<std::string>& dirs) {
  std::vector<CdiFile> files;
  size_t bytes = 0;
  for (size_t i = 0; i < dirs.size(); ++i) {
    absl::StatusOr<std::vector<std::string>> names = SpecNames(dirs[i]);
    if (!names.ok()) {
      files.push_back({dirs[i], i, names.status()});
      continue;
    }
    for (const std::string& name : *names) {
      const std::string path = StrCat(dirs[i], "/", name);
      absl::StatusOr<std::string> text = ReadSpecFile(path);
      if (absl::IsNotFound(text.status())) continue;
      if (text.ok()) bytes += text->size();
      if (files.size() >= kMaxCdiFiles || bytes > kMaxCdiTotalBytes) {
        return absl::ResourceExhaustedError(StrCat("CDI specifications in ", dirs[i], ": more than ",
                                                   kMaxCdiFiles, " files or ", kMaxCdiTotalBytes, " bytes"));
      }
      files.push_back({path, i, text.ok() ? ParseFile(path, *text) : absl::StatusOr<CdiSpec>(text.status())});
    }
  }
  return files;
}

absl::StatusOr<CdiHostNodes> LookUpCdiHost(const CdiEdits& edits) {
  CdiHostNodes nodes;
  for (const CdiDeviceNode& node : edits.device_nodes) {
    if (nodes.count(node.host_path) == 0) nodes.emplace(node.host_path, NodeAt(node.host_path));
  }
  struct stat info;
  for (const SpecMount& mount : edits.mounts) {
    if (mount.type == "bind" && ::stat(mount.source.c_str(), &info) != 0) {
      return ErrnoStatus(errno, StrCat("CDI mount source ", mount.source));
    }
  }
  for (const auto& [name, hooks] : edits.hooks) {
    if (name == "startContainer") continue;  // its program is in the container
    for (const SpecHook& hook : hooks) {
      if (::access(hook.path.c_str(), X_OK) != 0) {
        return ErrnoStatus(errno, StrCat("CDI hook ", name, ": ", hook.path));
      }
    }
  }
  return nodes;
}

}  // namespace keelson::oci
