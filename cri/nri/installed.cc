#include "cri/nri/installed.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/nri/plugin.h"
#include "net/socket.h"

namespace keelson::cri::nri {

namespace {

constexpr int kPluginFd = 3;  // where the first of SpawnOptions::extra_fds is
constexpr size_t kIndexDigits = 2;
constexpr char kPath[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

absl::Status CheckRootsAlone(const std::string& path, const struct stat& info) {
  if (info.st_uid == ::geteuid() && (info.st_mode & (S_IWGRP | S_IWOTH)) == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(StrCat(
      path, ": others than root can write it, and it would run as root: chown root it and chmod go-w it"));
}

// "NN-NAME".
absl::StatusOr<InstalledPlugin> PluginOf(const std::string& dir, const std::string& file) {
  InstalledPlugin plugin;
  plugin.path = StrCat(dir, "/", file);
  plugin.index = file.substr(0, kIndexDigits);
  if (file.size() > kIndexDigits && file[kIndexDigits] == '-') plugin.name = file.substr(kIndexDigits + 1);
  if (CheckPluginIndex(plugin.index).ok() && CheckPluginName(plugin.name).ok()) return plugin;
  return absl::InvalidArgumentError(
      StrCat(plugin.path, ": a plugin's file is named NN-NAME, such as 10-limits"));
}

absl::StatusOr<std::string> ConfigOf(const InstalledPlugin& plugin, const std::string& conf_dir) {
  for (const std::string& name : {StrCat(plugin.index, "-", plugin.name), plugin.name}) {
    absl::StatusOr<std::string> text = ReadFile(StrCat(conf_dir, "/", name, ".conf"), kMaxPluginConfigBytes);
    if (!absl::IsNotFound(text.status())) return text;
  }
  return std::string();
}

}  // namespace

absl::StatusOr<std::vector<InstalledPlugin>> FindPlugins(const std::string& dir,
                                                         const std::string& conf_dir) {
  std::vector<InstalledPlugin> plugins;
  struct stat info;
  if (::stat(dir.c_str(), &info) != 0 && errno == ENOENT) return plugins;
  ASSIGN_OR_RETURN(std::vector<std::string> files, FolderNames(dir));
  RETURN_IF_ERROR(CheckRootsAlone(dir, info));
  for (const std::string& file : files) {
    const std::string path = StrCat(dir, "/", file);
    if (::stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode) || (info.st_mode & 0111) == 0) continue;
    ASSIGN_OR_RETURN(InstalledPlugin plugin, PluginOf(dir, file));
    RETURN_IF_ERROR(CheckRootsAlone(path, info));
    ASSIGN_OR_RETURN(plugin.config, ConfigOf(plugin, conf_dir));
    plugins.push_back(std::move(plugin));
  }
  return plugins;
}

absl::StatusOr<LaunchedPlugin> Launch(Env* env, const InstalledPlugin& plugin) {
  int fds[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) return ErrnoStatus(errno, "socketpair");
  Fd ours(fds[0]), theirs(fds[1]);
  SpawnOptions options;
  options.argv = {plugin.path};
  options.env = {kPath, StrCat("NRI_PLUGIN_NAME=", plugin.name), StrCat("NRI_PLUGIN_IDX=", plugin.index),
                 StrCat("NRI_PLUGIN_SOCKET=", kPluginFd)};
  options.stdout_fd = options.stderr_fd = STDERR_FILENO;
  options.extra_fds = {theirs.get()};
  LaunchedPlugin launched;
  ASSIGN_OR_RETURN(launched.process, env->subprocess().Spawn(options));
  launched.stream =
      net::MakeSocketStream(net::SocketOwner(net::Socket::Make(env->executor(), std::move(ours))), "");
  return launched;
}

}  // namespace keelson::cri::nri
