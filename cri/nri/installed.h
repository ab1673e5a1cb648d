// Plugins that the runtime starts itself: programs NN-NAME of a folder (containerd and CRI-O:
// /opt/nri/plugins), each with one end of a pair of sockets as descriptor 3 and its configuration from
// another folder
// (/etc/nri/conf.d). They run as root, so nobody else may be able to change them.
#pragma once

#include <absl/status/statusor.h>

#include <memory>
#include <string>
#include <vector>

#include "base/env.h"
#include "net/byte_stream.h"

namespace keelson::cri::nri {

inline constexpr size_t kMaxPluginConfigBytes = 1 << 20;

struct InstalledPlugin {
  std::string path;
  std::string index, name;  // of the file's name
  std::string config;       // text of NN-NAME.conf, else of NAME.conf, else ""
};

// The executable files of `dir`, sorted; a missing folder has none. InvalidArgument: a file's name is no
// plugin's. FailedPrecondition: the folder or a program is not root's alone to write. Blocking.
absl::StatusOr<std::vector<InstalledPlugin>> FindPlugins(const std::string& dir, const std::string& conf_dir);

struct LaunchedPlugin {
  std::unique_ptr<ChildProcess> process;
  std::unique_ptr<net::ByteStream> stream;
};

// Starts one. What it prints goes where this process' errors go.
absl::StatusOr<LaunchedPlugin> Launch(Env* env, const InstalledPlugin& plugin);

}  // namespace keelson::cri::nri
