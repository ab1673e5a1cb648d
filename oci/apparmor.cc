#include "oci/apparmor.h"

#include <absl/strings/ascii.h>
#include <absl/strings/str_split.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson::oci {
namespace {

constexpr size_t kMaxProfilesBytes = 4 << 20;
constexpr absl::Duration kParserTimeout = absl::Seconds(30);

// What namespaces, capabilities and seccomp bound already is allowed as a whole; mount is in no rule, so that
// CAP_SYS_ADMIN does not give it. In a pattern "[^ab]" is any other first letter: AppArmor knows no "all but
// this name", so each name that stays open takes a line for each of its letters.
constexpr std::string_view kDefaultProfile = R"(# RuntimeDefault of keelson cri.
profile keelson-default flags=(attach_disconnected, mediate_deleted) {
  file,
  network,
  capability,
  umount,

  # Processes of such containers see and signal each other where their PID namespaces let them; the host's
  # signal them.
  ptrace (trace, tracedby, read, readby) peer=keelson-default,
  signal (send, receive) peer=keelson-default,
  signal (receive) peer=unconfined,
  # Ubuntu has profiles for these programs.
  signal (receive) peer={crun,runc,conmon,keelson},
  signal (receive) peer=/usr/{,local/}{,s}bin/{crun,runc,conmon,keelson},

  # /proc: writable are the folders of processes and, where that mount is, the settings of System V IPC. Sysctls of a
  # pod are set before this.
  deny /proc/[^0-9st]** w,
  deny /proc/s[^ey]** w,
  deny /proc/t[^h]** w,
  deny /proc/sysvipc/** w,
  deny /proc/sys/[^k]** w,
  deny /proc/sys/k[^e]** w,
  deny /proc/sys/ke[^r]** w,
  deny /proc/sys/kernel/[^sm]** w,
  deny /proc/sys/kernel/m[^s]** w,
  deny /proc/sys/kernel/s[^he]** w,
  deny /proc/sys/kernel/se[^m]** w,
  deny /proc/sysrq-trigger rwklx,
  deny /proc/kcore rwklx,

  # /sys: writable are cgroups, as far as their mount is.
  deny /sys/[^f]** wklx,
  deny /sys/f[^s]** wklx,
  deny /sys/fs/[^c]** wklx,
  deny /sys/fs/c[^g]** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/kernel/security/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
}
)";

}  // namespace

std::string DefaultApparmorProfileText() { return std::string(kDefaultProfile); }

bool ListsApparmorProfile(std::string_view loaded, std::string_view name) {
  for (absl::string_view line : absl::StrSplit(Av(loaded), '\n')) {
    size_t mode = line.rfind(" (");  // a name may have spaces
    if (mode != absl::string_view::npos && Sv(line.substr(0, mode)) == name) return true;
  }
  return false;
}

Task<absl::Status> Apparmor::LoadDefault() {
  for (const std::string& parser : {options_.parser, StrCat("/sbin/", options_.parser)}) {
    SubprocessOptions options;
    // Without a cache of compiled profiles: this one is in no file.
    options.argv = {parser, "--replace", "--quiet", "--skip-cache"};
    options.stdin_data = DefaultApparmorProfileText();
    options.timeout = kParserTimeout;
    Task<absl::StatusOr<SubprocessResult>> run = env_.subprocess().Run(std::move(options));
    absl::StatusOr<SubprocessResult> result = co_await std::move(run);
    if (absl::IsNotFound(result.status())) continue;
    if (!result.ok()) co_return Annotate(result.status(), parser);
    if (result->ok()) co_return absl::OkStatus();
    std::string_view said = Sv(absl::StripAsciiWhitespace(Av(result->stderr_data)));
    co_return absl::FailedPreconditionError(
        StrCat(parser, " does not load profile ", kDefaultApparmorProfile, ": ",
               said.empty() ? StrCat("exit code ", result->exit_code) : std::string(said)));
  }
  co_return absl::FailedPreconditionError(
      StrCat(options_.parser, " is missing: install the package apparmor"));
}

Task<absl::Status> Apparmor::Ensure(std::string name) {
  if (name.empty() || name == "unconfined") co_return absl::OkStatus();
  absl::StatusOr<std::string> loaded = ReadFile(options_.profiles_file, kMaxProfilesBytes);
  if (!loaded.ok() || ListsApparmorProfile(*loaded, name)) co_return absl::OkStatus();
  if (name == kDefaultApparmorProfile) {
    LogWarning("the AppArmor profile of RuntimeDefault was removed: loaded once more", {{"profile", name}});
    Task<absl::Status> load = LoadDefault();
    absl::Status status = co_await std::move(load);
    co_return status;
  }
  co_return absl::FailedPreconditionError(
      StrCat("security_context.apparmor: profile \"", name,
             "\" is not loaded on this host: load it by apparmor_parser -r FILE"));
}

}  // namespace keelson::oci
