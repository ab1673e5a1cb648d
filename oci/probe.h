// What an OCI runtime on this host can do, found by trying, once per binary and kernel.
#pragma once

#include <absl/status/statusor.h>

#include <string>
#include <string_view>

#include "base/env.h"
#include "oci/runtime.h"

namespace keelson::oci {

struct ProbeResult {
  // With the distribution's revision where the runtime tells it: "1.1.5+ds1-1+deb12u1" (the holes depend on
  // it).
  std::string version;
  RuntimeFeatures features;
};

// Runs `path --version` and `path features` (where the command exists), then creates one trial container of
// the pause program with a read-only recursive bind of /dev and an id-mapped bind, reads its mountinfo and
// deletes it; only when the runtime refuses that one, a second trial without the id mapping. The results are
// kept in options.cache_dir under a key of the binary's device, inode, size and mtime and the kernel's
// release, so an unchanged binary costs one stat(2) and one read. (Hashing 10 MB of binary would cost more
// than a trial.) Without a working trial (no root, no cgroups) the features are off, a warning says why and
// nothing is cached.
Task<absl::StatusOr<ProbeResult>> ProbeRuntime(Env* env, RuntimeOptions options, std::string path);

// ---- the pure parts ----
// Of the output of `--version`. InvalidArgument when it is something else.
absl::StatusOr<std::string> ParseRuntimeVersion(std::string_view name, std::string_view output);
// Of the JSON of `features`; anything else is false.
bool ListsSeccompNotify(std::string_view features_json);
// The trial's config.json. Destinations: /ro and /id.
std::string TrialConfig(std::string_view cgroup, std::string_view id_source, bool idmapped);
// Of /proc/PID/mountinfo of the trial.
RuntimeFeatures FeaturesOfTrial(std::string_view mountinfo);
std::string EncodeProbe(const ProbeResult& result);
absl::StatusOr<ProbeResult> DecodeProbe(std::string_view text);

// Where the program is: `name_or_path` itself when it has a '/', else in PATH. NotFound.
absl::StatusOr<std::string> FindProgram(const std::string& name_or_path);
// What the runtimes and the monitor get as environment: no LISTEN_FDS, NOTIFY_SOCKET, XDG_RUNTIME_DIR of
// ours.
std::vector<std::string> RuntimeEnvironment();

}  // namespace keelson::oci
