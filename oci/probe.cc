#include "oci/probe.h"

#include <absl/strings/ascii.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <fcntl.h>
#include <simdjson.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdlib>

#include "base/log.h"
#include "base/status.h"
#include "cgroups/manager.h"
#include "oci/pause_binary.h"
#include "oci/runtime_errors.h"

namespace keelson::oci {
namespace {

constexpr size_t kMaxProbeBytes = 64 << 10;
constexpr size_t kMaxTrialMountinfoBytes = 16 << 20;
constexpr char kDefaultPath[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
constexpr char kReadOnlyAt[] = "/ro";
constexpr char kIdMappedAt[] = "/id";

std::string SearchPath() {
  const char* path = ::getenv("PATH");
  return path != nullptr && *path != '\0' ? path : kDefaultPath;
}

bool HasOption(absl::string_view options, absl::string_view wanted) {
  for (absl::string_view option : absl::StrSplit(options, ',')) {
    if (option == wanted) return true;
  }
  return false;
}

// What identifies a binary and the kernel under it without reading the binary.
absl::StatusOr<std::string> CacheKey(const std::string& name, const std::string& path) {
  struct stat st;
  if (::stat(path.c_str(), &st) != 0) return ErrnoStatus(errno, StrCat("stat ", path));
  struct utsname kernel;
  if (::uname(&kernel) != 0) return ErrnoStatus(errno, "uname");
  std::string release(kernel.release);
  for (char& c : release) {
    if (c == '/') c = '_';
  }
  return StrCat(name, "-", st.st_dev, "-", st.st_ino, "-", st.st_size, "-", st.st_mtim.tv_sec, ".",
                st.st_mtim.tv_nsec, "-", release);
}

SubprocessOptions Options(std::vector<std::string> argv) {
  SubprocessOptions out;
  out.argv = std::move(argv);
  out.env = RuntimeEnvironment();
  out.max_output_bytes = kMaxProbeBytes;
  out.timeout = kRuntimeCommandTimeout;
  return out;
}

// Creates the trial in `dir`; its mountinfo. Nothing is left but what is below `dir`.
Task<absl::StatusOr<std::string>> Trial(Env* env, std::string name, std::string path, std::string dir,
                                        bool idmapped) {
  std::string id = StrCat("keelson-probe-", env->random().Suffix(8));
  std::string bundle = StrCat(dir, idmapped ? "/with" : "/without");
  CO_RETURN_IF_ERROR_SYNC(MakeDirs(bundle + "/rootfs", 0755));
  CO_RETURN_IF_ERROR_SYNC(MakeDirs(bundle + "/source", 0755));
  CO_RETURN_IF_ERROR_SYNC(WriteFileAtomic(bundle + "/rootfs/pause", PauseBinary(), 0755, /*durable=*/false));
  CO_RETURN_IF_ERROR_SYNC(WriteFileAtomic(bundle + "/config.json",
                                          TrialConfig("/" + id, bundle + "/source", idmapped), 0600,
                                          /*durable=*/false));
  std::string state = dir + "/state", pid_file = bundle + "/pid";
  SubprocessOptions create =
      Options({path, "--root", state, "create", "--bundle", bundle, "--pid-file", pid_file, id});
  CO_ASSIGN_OR_RETURN(SubprocessResult created, env->subprocess().Run(std::move(create)));
  absl::StatusOr<std::string> mounts = absl::InternalError("");
  std::unique_ptr<ChildProcess> init;
  if (created.ok()) {
    auto text = ReadFile(pid_file, 64);
    int pid = 0;
    if (text.ok() && absl::SimpleAtoi(absl::StripAsciiWhitespace(*text), &pid) && pid > 0) {
      // Ours to reap once the runtime that made it is gone.
      auto adopted = env->subprocess().Adopt(pid);
      if (adopted.ok()) init = *std::move(adopted);
      mounts = ReadFile(StrCat("/proc/", pid, "/mountinfo"), kMaxTrialMountinfoBytes);
    } else {
      mounts = absl::InternalError("the runtime wrote no pid file");
    }
  } else {
    mounts = RuntimeError(name, "create", id, created.stderr_data);
  }
  SubprocessOptions remove = Options({path, "--root", state, "delete", "--force", id});
  CO_ASSIGN_OR_RETURN(SubprocessResult removed, env->subprocess().Run(std::move(remove)));
  // crun leaves the cgroup of a create that fails while it joins it.
  auto cgroups = cgroups::NewHostManager();
  if (cgroups.ok()) (void)(*cgroups)->Destroy(id);
  if (created.ok() && !removed.ok()) {
    LogWarning("trial container stays", {{"id", id}, {"error", RuntimeMessage(removed.stderr_data)}});
  }
  co_return mounts;
}

// The trial with everything, or without the id mapping where the runtime or the file system refuses that.
Task<absl::StatusOr<RuntimeFeatures>> TryFeatures(Env* env, RuntimeOptions options, std::string path) {
  std::string dir = StrCat(options.run_dir, "/probe-", env->random().Suffix(8));
  Task<absl::StatusOr<std::string>> with = Trial(env, options.name, path, dir, /*idmapped=*/true);
  absl::StatusOr<std::string> mounts = co_await std::move(with);
  if (!mounts.ok()) {
    Task<absl::StatusOr<std::string>> without = Trial(env, options.name, path, dir, /*idmapped=*/false);
    mounts = co_await std::move(without);
  }
  absl::Status removed = RemoveTree(dir);
  if (!removed.ok()) LogWarning("trial bundle stays", {{"dir", dir}, {"error", removed}});
  if (!mounts.ok()) co_return mounts.status();
  co_return FeaturesOfTrial(*mounts);
}

}  // namespace

std::vector<std::string> RuntimeEnvironment() {
  // crun runs from a copy of itself, so that a container cannot write to its program (CVE-2019-5736): a
  // read-only bind mount on a file it makes in this directory, or, when it can make none, a sealed memfd.
  // Killed at its start it would leave the file, and the mount goes to every peer of the host's. 0.2 ms more
  // for each run.
  return {StrCat("PATH=", SearchPath()), "_LIBCONTAINER_STATEDIR=/dev/null"};
}

absl::StatusOr<std::string> FindProgram(const std::string& name_or_path) {
  if (name_or_path.find('/') != std::string::npos) {
    if (::access(name_or_path.c_str(), X_OK) != 0) return ErrnoStatus(errno, name_or_path);
    return name_or_path;
  }
  std::string path = SearchPath();
  for (absl::string_view dir : absl::StrSplit(path, ':', absl::SkipEmpty())) {
    std::string candidate = absl::StrCat(dir, "/", name_or_path);
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return absl::NotFoundError(StrCat(name_or_path, ": not in PATH (", path, ")"));
}

absl::StatusOr<std::string> ParseRuntimeVersion(std::string_view name, std::string_view output) {
  std::string version, commit, prefix = StrCat(name, " version ");
  for (absl::string_view line : absl::StrSplit(Av(output), '\n')) {
    absl::string_view text = absl::StripAsciiWhitespace(line);
    if (text.substr(0, prefix.size()) == prefix) version = std::string(text.substr(prefix.size()));
    if (text.substr(0, 8) == "commit: ") commit = std::string(text.substr(8));
  }
  if (version.empty() || !absl::ascii_isdigit(static_cast<unsigned char>(version[0]))) {
    return absl::InvalidArgumentError(StrCat("not a version of ", name, ": ", output.substr(0, 200)));
  }
  // Debian's runc: the commit is the version with the package's revision.
  if (commit.size() > version.size() && commit.compare(0, version.size(), version) == 0 &&
      commit[version.size()] == '-') {
    return commit;
  }
  return version;
}

bool ListsSeccompNotify(std::string_view features_json) {
  if (features_json.empty()) return false;
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  if (parser.parse(features_json.data(), features_json.size()).get(root) != simdjson::SUCCESS) return false;
  simdjson::dom::array actions;
  if (root["linux"]["seccomp"]["actions"].get(actions) != simdjson::SUCCESS) return false;
  for (simdjson::dom::element action : actions) {
    std::string_view name;
    if (action.get(name) == simdjson::SUCCESS && name == "SCMP_ACT_NOTIFY") return true;
  }
  return false;
}

std::string TrialConfig(std::string_view cgroup, std::string_view id_source, bool idmapped) {
  std::string out = StrCat(
      R"({"ociVersion":"1.0.2","process":{"user":{"uid":0,"gid":0},"args":["/pause"],"env":[],"cwd":"/"},)",
      R"("root":{"path":"rootfs"},"mounts":[{"destination":"/proc","type":"proc","source":"proc"},)",
      R"({"destination":"/dev","type":"tmpfs","source":"tmpfs"},)", R"({"destination":")", kReadOnlyAt,
      R"(","type":"bind","source":"/dev","options":["rbind","rro"]})");
  if (idmapped) {
    std::string source;
    for (char c : id_source) {
      if (c == '"' || c == '\\') source.push_back('\\');
      source.push_back(c);
    }
    constexpr char kMapping[] = R"([{"containerID":0,"hostID":100000,"size":65536}])";
    StrAppend(&out, R"(,{"destination":")", kIdMappedAt, R"(","type":"bind","source":")", source,
              R"(","options":["bind"],"uidMappings":)", kMapping, R"(,"gidMappings":)", kMapping, "}");
  }
  StrAppend(&out, R"(],"linux":{"cgroupsPath":")", cgroup,
            R"(","namespaces":[{"type":"pid"},{"type":"mount"},{"type":"ipc"}]}})");
  return out;
}

RuntimeFeatures FeaturesOfTrial(std::string_view mountinfo) {
  RuntimeFeatures out;
  size_t read_only_mounts = 0, writable_mounts = 0;
  for (absl::string_view line : absl::StrSplit(Av(mountinfo), '\n')) {
    // id parent major:minor root mount-point options [optional fields] - type source super-options
    std::vector<absl::string_view> fields = absl::StrSplit(line, ' ');
    if (fields.size() < 6) continue;
    absl::string_view at = fields[4], options = fields[5];
    if (at == kIdMappedAt) out.idmapped_mounts = HasOption(options, "idmapped");
    if (at == kReadOnlyAt || at.substr(0, sizeof kReadOnlyAt) == absl::StrCat(kReadOnlyAt, "/")) {
      (HasOption(options, "ro") ? read_only_mounts : writable_mounts)++;
    }
  }
  out.recursive_read_only = read_only_mounts > 0 && writable_mounts == 0;
  return out;
}

std::string EncodeProbe(const ProbeResult& result) {
  return StrCat("version=", result.version,
                "\nrecursive_read_only=", result.features.recursive_read_only ? 1 : 0,
                "\nidmapped_mounts=", result.features.idmapped_mounts ? 1 : 0,
                "\nseccomp_notify=", result.features.seccomp_notify ? 1 : 0, "\n");
}

absl::StatusOr<ProbeResult> DecodeProbe(std::string_view text) {
  ProbeResult out;
  int seen = 0;
  for (absl::string_view line : absl::StrSplit(Av(text), '\n')) {
    std::pair<absl::string_view, absl::string_view> entry = absl::StrSplit(line, absl::MaxSplits('=', 1));
    bool yes = entry.second == "1";
    if (entry.first == "version") {
      out.version = std::string(entry.second);
    } else if (entry.first == "recursive_read_only") {
      out.features.recursive_read_only = yes;
    } else if (entry.first == "idmapped_mounts") {
      out.features.idmapped_mounts = yes;
    } else if (entry.first == "seccomp_notify") {
      out.features.seccomp_notify = yes;
    } else {
      continue;
    }
    ++seen;
  }
  constexpr int kEntries = 4;
  if (seen != kEntries || out.version.empty()) return absl::InvalidArgumentError("probe record: incomplete");
  return out;
}

Task<absl::StatusOr<ProbeResult>> ProbeRuntime(Env* env, RuntimeOptions options, std::string path) {
  std::string cached;
  if (!options.cache_dir.empty()) {
    CO_ASSIGN_OR_RETURN_SYNC(std::string key, CacheKey(options.name, path));
    cached = StrCat(options.cache_dir, "/", key);
    auto text = ReadFile(cached, kMaxProbeBytes);
    if (text.ok()) {
      auto known = DecodeProbe(*text);
      if (known.ok()) co_return *std::move(known);
    }
  }
  ProbeResult result;
  SubprocessOptions version_command = Options({path, "--version"});
  CO_ASSIGN_OR_RETURN(SubprocessResult version, env->subprocess().Run(std::move(version_command)));
  CO_ASSIGN_OR_RETURN_SYNC(result.version, ParseRuntimeVersion(options.name, version.stdout_data));

  Task<absl::StatusOr<RuntimeFeatures>> trying = TryFeatures(env, options, path);
  absl::StatusOr<RuntimeFeatures> features = co_await std::move(trying);
  if (features.ok()) {
    result.features = *features;
  } else {
    LogWarning("the trial container failed; optional features are off",
               {{"runtime", options.name}, {"error", features.status()}});
  }
  SubprocessOptions features_command = Options({path, "features"});
  CO_ASSIGN_OR_RETURN(SubprocessResult listed, env->subprocess().Run(std::move(features_command)));
  // crun before 1.9 has no such command and could notify since 0.15: it says +SECCOMP.
  result.features.seccomp_notify =
      listed.ok() ? ListsSeccompNotify(listed.stdout_data)
                  : options.name == "crun" && version.stdout_data.find("+SECCOMP") != std::string::npos;
  if (features.ok() && !cached.empty()) {
    absl::Status kept = MakeDirs(options.cache_dir, 0700);
    if (kept.ok()) kept = WriteFileAtomic(cached, EncodeProbe(result), 0600, /*durable=*/false);
    if (!kept.ok()) LogWarning("probe result not kept", {{"error", kept}});
  }
  co_return result;
}

}  // namespace keelson::oci
