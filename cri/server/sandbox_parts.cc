#include "cri/server/sandbox_parts.h"

#include <utility>

#include "base/fd.h"
#include "cri/server/server_state.h"

namespace keelson::cri {

namespace {

constexpr unsigned kPauseUser = 65535;
constexpr int64_t kPauseOomScoreAdj = -998;  // upstream's sandbox container
constexpr uint64_t kPauseCpuShares = 2;
constexpr size_t kMaxResolvConfBytes = 1 << 20;

}  // namespace

v1::ContainerConfig PauseConfig(const v1::PodSandboxConfig& config) {
  v1::ContainerConfig pause;
  pause.mutable_metadata()->set_name("POD");
  pause.add_command("/pause");
  auto* linux = pause.mutable_linux();
  linux->mutable_resources()->set_cpu_shares(kPauseCpuShares);
  linux->mutable_resources()->set_oom_score_adj(kPauseOomScoreAdj);
  auto* security = linux->mutable_security_context();
  *security->mutable_namespace_options() = NamespacesOf(config);
  // The namespace the pod shares is this process's own.
  security->mutable_namespace_options()->set_pid(NamespacesOf(config).pid() == v1::NODE ? v1::NODE
                                                                                        : v1::CONTAINER);
  security->mutable_capabilities()->add_drop_capabilities("ALL");
  security->set_readonly_rootfs(true);
  security->set_no_new_privs(true);
  const auto& wanted = config.linux().security_context();
  if (wanted.has_seccomp()) {
    *security->mutable_seccomp() = wanted.seccomp();
  } else if (!wanted.seccomp_profile_path().empty()) {
    security->set_seccomp_profile_path(wanted.seccomp_profile_path());
  } else {
    security->mutable_seccomp()->set_profile_type(v1::SecurityProfile::RuntimeDefault);
  }
  if (wanted.has_apparmor()) *security->mutable_apparmor() = wanted.apparmor();
  return pause;
}

absl::StatusOr<oci::ProcessUser> PauseUser(const v1::PodSandboxConfig& config) {
  const auto& wanted = config.linux().security_context();
  oci::UserRequest request;
  if (wanted.has_run_as_user()) request.run_as_user = wanted.run_as_user().value();
  if (wanted.has_run_as_group()) request.run_as_group = wanted.run_as_group().value();
  if (!wanted.has_run_as_user() && !wanted.has_run_as_group()) {
    request.run_as_user = request.run_as_group = kPauseUser;
  }
  request.supplemental_groups.assign(wanted.supplemental_groups().begin(),
                                     wanted.supplemental_groups().end());
  return oci::ResolveUser(request, /*passwd=*/"", /*group=*/"");
}

absl::StatusOr<std::string> ResolvConfOf(const v1::PodSandboxConfig& config, const std::string& host_file) {
  if (config.has_dns_config()) return RenderResolvConf(config.dns_config());
  absl::StatusOr<std::string> host = ReadFile(host_file, kMaxResolvConfBytes);
  return host.ok() ? *std::move(host) : std::string();
}

}  // namespace keelson::cri
