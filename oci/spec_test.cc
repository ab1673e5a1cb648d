// What golden_test.cc does not show: exec, resources, paths, propagation, signals, and the lessons of old
// holes.
#include "oci/spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "oci/signals.h"
#include "oci/spec_parts.h"
#include "oci/testing/spec_validator.h"

namespace keelson::oci {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using Json = nlohmann::ordered_json;

class SpecTest : public testing::Test {
 protected:
  SpecTest() {
    container_.add_command("sh");
    container_.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_pid(
        criv1::CONTAINER);
    input_.container = &container_;
    input_.sandbox = &sandbox_;
    input_.rootfs_path = "/r";
  }
  Json Config() {
    absl::StatusOr<SpecOutput> out = GenerateSpec(input_);
    EXPECT_TRUE(out.ok()) << out.status();
    return out.ok() ? Json::parse(out->config_json) : Json();
  }
  std::string Error() { return std::string(GenerateSpec(input_).status().message()); }
  criv1::LinuxContainerSecurityContext& security() {
    return *container_.mutable_linux()->mutable_security_context();
  }
  Json Exec(const std::vector<std::string>& command, bool tty) {
    absl::StatusOr<std::string> process = GenerateExecProcess(Config().dump(), command, tty);
    EXPECT_TRUE(process.ok()) << process.status();
    return process.ok() ? Json::parse(*process) : Json();
  }

  criv1::ContainerConfig container_;
  criv1::PodSandboxConfig sandbox_;
  SpecInput input_;
};

// ---- exec ----

TEST_F(SpecTest, ExecKeepsAllButTheCommand) {
  security().set_no_new_privs(true);
  security().mutable_apparmor()->set_profile_type(criv1::SecurityProfile::Localhost);
  security().mutable_apparmor()->set_localhost_ref("prof");
  input_.host.apparmor = true;
  input_.user = {1000, 1001, {50, 1001}, "/home/web", "web"};
  input_.image.env = {"A=1"};
  const Json container = Config()["process"];
  Json process = Exec({"id", "-u"}, false);
  EXPECT_EQ(process["args"], Json({"id", "-u"}));
  process["args"] = container["args"];
  EXPECT_EQ(process, container);
}

TEST_F(SpecTest, ExecTerminal) {
  EXPECT_EQ(Exec({"sh"}, false)["terminal"], false);
  const Json process = Exec({"sh"}, true);
  EXPECT_EQ(process["terminal"], true);
  EXPECT_THAT(process["env"].get<std::vector<std::string>>(), Contains("TERM=xterm"));
  container_.set_tty(true);
  input_.image.env = {"TERM=vt100"};
  const auto env = Exec({"sh"}, true)["env"].get<std::vector<std::string>>();
  EXPECT_THAT(env, Contains("TERM=vt100"));
  EXPECT_THAT(env, Not(Contains("TERM=xterm")));
  EXPECT_EQ(Exec({"sh"}, false)["terminal"], false);
}

TEST_F(SpecTest, ExecErrors) {
  EXPECT_EQ(GenerateExecProcess(Config().dump(), {}, false).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(GenerateExecProcess(Config().dump(), {std::string("a\0b", 3)}, false).ok());
  for (const char* text : {"", "[]", "{}", "{\"process\": 1}"}) {
    EXPECT_EQ(GenerateExecProcess(text, {"sh"}, false).status().code(), absl::StatusCode::kInternal) << text;
  }
}

// ---- lessons ----

// CVE-2022-24769: also when the container's configuration says otherwise (one made by an older version).
TEST_F(SpecTest, ExecInheritsNoCapabilities_CVE_2022_24769) {
  EXPECT_THAT(Exec({"sh"}, false)["capabilities"]["inheritable"], IsEmpty());
  Json config = Config();
  config["process"]["capabilities"]["inheritable"] = {"CAP_CHOWN", "CAP_NET_RAW"};
  config["process"]["capabilities"]["ambient"] = {"CAP_NET_RAW"};
  const Json process = Json::parse(*GenerateExecProcess(config.dump(), {"sh"}, false));
  EXPECT_EQ(process["capabilities"]["inheritable"], Json({"CAP_NET_RAW"}));
}

TEST_F(SpecTest, ExecIntoPrivilegedInheritsNothing_CVE_2022_24769) {
  security().set_privileged(true);
  sandbox_.mutable_linux()->mutable_security_context()->set_privileged(true);
  const Json process = Exec({"sh"}, false);
  EXPECT_THAT(process["capabilities"]["inheritable"], IsEmpty());
  EXPECT_EQ(process["capabilities"]["effective"].size(), 41u);
}

// CVE-2024-21626: the runtime's own descriptors are no place to start in.
TEST_F(SpecTest, WorkingDirThroughDescriptors_CVE_2024_21626) {
  for (const char* dir : {"/proc/self/fd/7", "//proc/./1/fd/8", "/proc/self/cwd", "/proc/1/root/etc",
                          "/x/../proc/thread-self/fd/9", "/proc/self/task/1/fd/3"}) {
    container_.set_working_dir(dir);
    EXPECT_THAT(Error(), HasSubstr("working_dir")) << dir;
    container_.clear_working_dir();
    input_.image.working_dir = dir;
    EXPECT_THAT(Error(), HasSubstr("working_dir")) << dir;
    input_.image.working_dir.clear();
  }
  container_.set_working_dir("/data/proc/self/fd");
  EXPECT_EQ(Config()["process"]["cwd"], "/data/proc/self/fd");
  container_.set_working_dir("/proc/self/fd/7/../../etc");  // the kernel never sees the descriptor
  EXPECT_EQ(Config()["process"]["cwd"], "/proc/self/etc");
}

// A key of unified is a file name below the container's cgroup.
TEST_F(SpecTest, UnifiedStaysInTheCgroup) {
  input_.host.cgroup_v2 = true;
  auto& unified = *container_.mutable_linux()->mutable_resources()->mutable_unified();
  for (const char* key :
       {"../memory.max", "memory.max/../x", "a/b.c", "/etc/x.y", "cgroup.kill", "cgroup.procs",
        "cgroup.subtree_control", "memory..max", "memory.", ".max", "memory", "", "memory.max\n"}) {
    unified.clear();
    unified[key] = "1";
    EXPECT_THAT(Error(), HasSubstr("linux.resources.unified")) << key;
  }
  unified.clear();
  unified["memory.high"] = "1";
  EXPECT_EQ(Config()["linux"]["resources"]["unified"]["memory.high"], "1");
}

// Annotations of a pod are its author's: crun and runc act on some of them.
TEST_F(SpecTest, PodAnnotationsDoNotSteerTheRuntime) {
  (*sandbox_.mutable_annotations())["run.oci.handler"] = "krun";
  (*sandbox_.mutable_annotations())["org.systemd.property.ExecStop"] = "x";
  const Json annotations = Config()["annotations"];
  EXPECT_FALSE(annotations.contains("run.oci.handler"));
  EXPECT_FALSE(annotations.contains("org.systemd.property.ExecStop"));
}

// criu runs programs that its configuration names, as root.
TEST_F(SpecTest, OnlyTheServerNamesCriusConfiguration) {
  (*container_.mutable_annotations())["org.criu.config"] = "/data/mine.conf";
  EXPECT_FALSE(Config()["annotations"].contains("org.criu.config"));
  input_.criu_config_path = "/run/keelson/cri/containers/ID/criu.conf";
  EXPECT_EQ(Config()["annotations"]["org.criu.config"], "/run/keelson/cri/containers/ID/criu.conf");
}

// Limits and figures are the scope's: crun by itself makes a cgroup below it.
TEST_F(SpecTest, CrunPutsTheProcessIntoTheScopeItself) {
  constexpr char kSubgroup[] = "run.oci.systemd.subgroup";
  (*container_.mutable_annotations())[kSubgroup] = "deeper";
  input_.host.cgroup_v2 = input_.host.systemd_cgroup = true;
  input_.runtime_handler = "crun";
  EXPECT_EQ(Config()["annotations"][kSubgroup], "");
  container_.clear_annotations();
  input_.runtime_handler = "runc";
  EXPECT_FALSE(Config()["annotations"].contains(kSubgroup));
  input_.runtime_handler = "crun";
  input_.host.systemd_cgroup = false;
  EXPECT_FALSE(Config()["annotations"].contains(kSubgroup));
}

TEST_F(SpecTest, ContainersNeverSetSysctls) {
  (*sandbox_.mutable_linux()->mutable_sysctls())["kernel.shmmax"] = "1";
  EXPECT_FALSE(Config()["linux"].contains("sysctl"));
}

TEST_F(SpecTest, NulBytesEndNothingEarly) {
  const std::string nul("a\0b", 3);
  container_.add_args(nul);
  EXPECT_THAT(Error(), HasSubstr("NUL"));
  container_.clear_args();
  auto* env = container_.add_envs();
  env->set_key("A");
  env->set_value(nul);
  EXPECT_THAT(Error(), HasSubstr("envs[0].value: contains a NUL byte"));
  container_.clear_envs();
  container_.set_working_dir("/" + nul);
  EXPECT_THAT(Error(), HasSubstr("NUL"));
  container_.clear_working_dir();
  auto* mount = container_.add_mounts();
  mount->set_container_path("/" + nul);
  mount->set_host_path("/v");
  EXPECT_THAT(Error(), HasSubstr("mounts[0]: contains a NUL byte"));
}

// ---- errors that need no whole specification ----

TEST_F(SpecTest, MountErrors) {
  struct Row {
    const char* container_path;
    const char* host_path;
    const char* message;
  };
  for (const Row& row :
       {Row{"data", "/v", "container_path: \"data\" is not absolute"}, Row{"/", "/v", "over the root"},
        Row{"/data", "", "host_path: is missing"}, Row{"/data", "v", "host_path: \"v\" is not absolute"},
        Row{"", "/v", "is not absolute"}}) {
    container_.clear_mounts();
    auto* mount = container_.add_mounts();
    mount->set_container_path(row.container_path);
    mount->set_host_path(row.host_path);
    EXPECT_THAT(Error(), HasSubstr(row.message));
  }
  container_.clear_mounts();
  auto* mount = container_.add_mounts();
  mount->set_container_path("/a");
  mount->set_host_path("/v");
  mount->set_propagation(static_cast<criv1::MountPropagation>(9));
  EXPECT_THAT(Error(), HasSubstr("mounts[0].propagation: unknown value 9"));
  mount->set_propagation(criv1::PROPAGATION_HOST_TO_CONTAINER);
  mount->set_readonly(true);
  mount->set_recursive_read_only(true);
  input_.features.recursive_read_only = true;
  EXPECT_THAT(Error(), HasSubstr("needs private propagation"));
}

TEST_F(SpecTest, MissingInput) {
  input_.container = nullptr;
  EXPECT_FALSE(GenerateSpec(input_).ok());
}

TEST_F(SpecTest, ApparmorNames) {
  input_.host.apparmor = true;
  security().mutable_apparmor()->set_profile_type(criv1::SecurityProfile::Localhost);
  EXPECT_THAT(Error(), HasSubstr("localhost_ref: is missing"));
  security().mutable_apparmor()->set_localhost_ref("a b");
  EXPECT_THAT(Error(), HasSubstr("is no name"));
  security().mutable_apparmor()->set_localhost_ref("localhost/prof");
  EXPECT_EQ(Config()["process"]["apparmorProfile"], "prof");
}

TEST_F(SpecTest, RuntimeDefaultWithoutAProfileIsSaidInEitherForm) {
  input_.host.apparmor = true;
  EXPECT_THAT(GenerateSpec(input_)->warnings, IsEmpty()) << "nobody asked";
  security().mutable_apparmor()->set_profile_type(criv1::SecurityProfile::RuntimeDefault);
  EXPECT_THAT(GenerateSpec(input_)->warnings, ElementsAre(HasSubstr("RuntimeDefault does not apply")));
  security().clear_apparmor();
  security().set_apparmor_profile("runtime/default");
  EXPECT_THAT(GenerateSpec(input_)->warnings, ElementsAre(HasSubstr("RuntimeDefault does not apply")));
  input_.host.apparmor_default_profile = "d";
  EXPECT_THAT(GenerateSpec(input_)->warnings, IsEmpty());
}

TEST_F(SpecTest, SelinuxLabelParts) {
  input_.selinux_level = "s0";
  input_.host.selinux = true;
  security().mutable_selinux_options()->set_type("a:b");
  EXPECT_THAT(Error(), HasSubstr("selinux_options.type"));
  security().mutable_selinux_options()->set_type("spc_t");
  EXPECT_EQ(Config()["process"]["selinuxLabel"], "system_u:system_r:spc_t:s0");
}

TEST_F(SpecTest, BindSourcesInTheirOrder) {
  for (const char* path : {"/z", "/a", "/m"}) {
    auto* mount = container_.add_mounts();
    mount->set_container_path(path);
    mount->set_host_path(StrCat("/host", path));
  }
  EXPECT_THAT(GenerateSpec(input_)->bind_sources, ElementsAre("/host/z", "/host/a", "/host/m"));
}

// ---- resources ----

TEST(GenerateResourcesTest, Json) {
  std::vector<std::string> warnings;
  criv1::LinuxContainerResources resources;
  HostFacts host;
  EXPECT_EQ(*GenerateResources(resources, host, &warnings), "{}");
  resources.set_cpu_shares(102);
  resources.set_cpu_quota(-1);
  resources.set_memory_limit_in_bytes(64 << 20);
  EXPECT_EQ(*GenerateResources(resources, host, &warnings),
            R"({"memory":{"limit":67108864},"cpu":{"shares":102,"quota":-1}})");
  host.swap_controller = true;
  EXPECT_EQ(*GenerateResources(resources, host, &warnings),
            R"({"memory":{"limit":67108864,"swap":67108864},"cpu":{"shares":102,"quota":-1}})");
  resources.set_memory_swap_limit_in_bytes(-1);
  EXPECT_THAT(*GenerateResources(resources, host, &warnings), HasSubstr(R"("swap":-1)"));
}

TEST(GenerateResourcesTest, SaysWhatTheHostCannot) {
  HostFacts host;
  host.hugetlb_controller = false;
  criv1::LinuxContainerResources resources;
  resources.add_hugepage_limits()->set_page_size("2MB");
  std::vector<std::string> warnings;
  EXPECT_EQ(*GenerateResources(resources, host, &warnings), "{}");
  EXPECT_TRUE(warnings.empty());
  resources.mutable_hugepage_limits(0)->set_limit(1 << 21);
  EXPECT_EQ(*GenerateResources(resources, host, &warnings), "{}");
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_THAT(warnings[0], HasSubstr("hugepage_limits"));
}

TEST(GenerateResourcesTest, Errors) {
  const auto error = [](auto set) {
    std::vector<std::string> warnings;
    criv1::LinuxContainerResources resources;
    set(&resources);
    return std::string(GenerateResources(resources, HostFacts{}, &warnings).status().message());
  };
  EXPECT_THAT(error([](auto* r) { r->set_cpu_shares(-1); }), HasSubstr("linux.resources.cpu_shares: -1"));
  EXPECT_THAT(error([](auto* r) { r->set_cpu_quota(-2); }), HasSubstr("cpu_quota"));
  EXPECT_THAT(error([](auto* r) { r->set_memory_limit_in_bytes(-2); }), HasSubstr("memory_limit_in_bytes"));
  EXPECT_THAT(error([](auto* r) { r->set_cpuset_cpus("0-1\n"); }), HasSubstr("cpuset_cpus"));
  EXPECT_THAT(error([](auto* r) { r->set_cpuset_mems("a"); }), HasSubstr("cpuset_mems"));
  EXPECT_THAT(error([](auto* r) { r->add_hugepage_limits()->set_page_size("../x"); }),
              HasSubstr("page size"));
  EXPECT_THAT(error([](auto* r) { (*r->mutable_unified())["pids.max"] = "x"; }), HasSubstr("pids.max"));
}

TEST(OomScoreAdjTest, LowerThanOurs) {
  HostFacts host;
  host.oom_score_adj = -500;
  host.can_lower_oom_score_adj = false;
  Warnings warnings;
  EXPECT_EQ(*ResolveOomScoreAdj(-500, host, &warnings), -500);
  EXPECT_EQ(*ResolveOomScoreAdj(1000, host, &warnings), 1000);
  EXPECT_THAT(warnings, IsEmpty());
  EXPECT_EQ(*ResolveOomScoreAdj(-997, host, &warnings), -500);
  EXPECT_THAT(warnings, ElementsAre(HasSubstr("-500 instead of -997")));
  host.can_lower_oom_score_adj = true;
  EXPECT_EQ(*ResolveOomScoreAdj(-997, host, &warnings), -997);
}

// ---- paths and propagation ----

TEST(PathTest, Clean) {
  for (const auto& [in, out] :
       {std::pair{"/", "/"}, std::pair{"", "/"}, std::pair{"/a//b/./c/", "/a/b/c"},
        std::pair{"/a/../../b", "/b"}, std::pair{"a", "/a"}, std::pair{"/...", "/..."}}) {
    EXPECT_EQ(CleanPath(in), out);
  }
  EXPECT_EQ(PathDepth("/"), 0);
  EXPECT_EQ(PathDepth("/a/b"), 2);
  EXPECT_TRUE(IsAtOrBelow("/dev/shm", "/dev"));
  EXPECT_FALSE(IsAtOrBelow("/device", "/dev"));
  EXPECT_TRUE(IsAtOrBelow("/x", "/"));
}

constexpr const char* kMountInfo =
    "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
    "23 22 8:2 / /private rw - ext4 /dev/sda2 rw\n"
    "24 22 8:3 / /slave rw master:4 - ext4 /dev/sda3 rw\n"
    "25 22 8:4 / /with\\040space rw - ext4 /dev/sda4 rw\n"
    "26 22 8:5 / /twice rw - ext4 /dev/sda5 rw\n"
    "27 26 8:6 / /twice rw shared:9 - ext4 /dev/sda6 rw\n"
    "broken line\n";

TEST(PropagationTest, ByMountInfo) {
  constexpr auto kBoth = criv1::PROPAGATION_BIDIRECTIONAL;
  constexpr auto kDown = criv1::PROPAGATION_HOST_TO_CONTAINER;
  EXPECT_TRUE(CheckPropagation(kMountInfo, "/var/lib", kBoth).ok());
  EXPECT_TRUE(CheckPropagation(kMountInfo, "/privateer", kBoth).ok());
  EXPECT_FALSE(CheckPropagation(kMountInfo, "/private/x", kBoth).ok());
  EXPECT_FALSE(CheckPropagation(kMountInfo, "/private/x", kDown).ok());
  EXPECT_TRUE(CheckPropagation(kMountInfo, "/private/x", criv1::PROPAGATION_PRIVATE).ok());
  EXPECT_FALSE(CheckPropagation(kMountInfo, "/slave", kBoth).ok());
  EXPECT_TRUE(CheckPropagation(kMountInfo, "/slave", kDown).ok());
  EXPECT_FALSE(CheckPropagation(kMountInfo, "/with space/x", kBoth).ok());
  EXPECT_TRUE(CheckPropagation(kMountInfo, "/twice", kBoth).ok());
  EXPECT_THAT(std::string(CheckPropagation(kMountInfo, "/private", kBoth).message()),
              HasSubstr("mount --make-rshared /private"));
  EXPECT_FALSE(CheckPropagation("", "/a", kBoth).ok());
}

// ---- signals ----

TEST(SignalTest, Parse) {
  for (const auto& [text, number] :
       {std::pair{"SIGTERM", 15}, std::pair{"term", 15}, std::pair{"9", 9}, std::pair{"SIGRTMIN", 34},
        std::pair{"RTMIN+3", 37}, std::pair{"SIGRTMAX-1", 63}, std::pair{"sigcld", 17},
        std::pair{"64", 64}}) {
    EXPECT_EQ(ParseSignal(text).value_or(-1), number) << text;
  }
  for (const char* text : {"", "SIG", "0", "65", "-9", "SIGWHAT", "SIGRTMIN+31", "SIGRTMIN-1", "SIGRTMIN+",
                           "9x", "SIGRTMIN+ 3", "SIGSIGTERM"}) {
    EXPECT_FALSE(ParseSignal(text).ok()) << text;
  }
}

TEST(SignalTest, EveryNumberAndCriValueRoundTrips) {
  for (int number = 1; number <= 64; ++number) {
    if (number == 32 || number == 33) continue;  // the C library's
    EXPECT_EQ(ParseSignal(SignalName(number)).value_or(-1), number) << SignalName(number);
    EXPECT_NE(SignalToCri(number), criv1::SIGNAL_RUNTIME_DEFAULT) << number;
    EXPECT_EQ(ParseSignal(SignalName(SignalToCri(number))).value_or(-1), number);
  }
  for (int i = criv1::Signal_MIN; i <= criv1::Signal_MAX; ++i) {
    const std::string name = SignalName(static_cast<criv1::Signal>(i));
    EXPECT_EQ(ParseSignal(name).ok(), i != criv1::SIGNAL_RUNTIME_DEFAULT) << name;
  }
}

// ---- the validator sees what is wrong ----

TEST_F(SpecTest, ValidatorFindsBrokenRules) {
  const Json good = Config();
  EXPECT_THAT(ValidateSpec(good.dump()), IsEmpty());
  const std::pair<const char*, Json> rows[] = {
      {"/process/cwd", "relative"},
      {"/process/args", Json::array()},
      {"/process/env", {"A=1", "A=2"}},
      {"/process/capabilities/ambient", {"CAP_NET_ADMIN"}},
      {"/process/rlimits", {{{"type", "RLIMIT_NOFILE"}, {"soft", 2}, {"hard", 1}}}},
      {"/process/unknown", 1},
      {"/linux/namespaces", {{{"type", "pid"}}, {{"type", "pid"}}, {{"type", "mount"}}}},
      {"/linux/uidMappings", Json::array()},
      {"/linux/sysctl", Json::object()},
      {"/linux/maskedPaths", {"proc"}},
      {"/linux/rootfsPropagation", "both"},
      {"/mounts/0/options", {"ro", "rw"}},
      {"/mounts/3/destination", "/proc"},
      {"/root/path", ""},
  };
  for (const auto& [pointer, value] : rows) {
    Json bad = good;
    bad[Json::json_pointer(pointer)] = value;
    EXPECT_THAT(ValidateSpec(bad.dump()), Not(IsEmpty())) << pointer;
  }
  Json hidden = good;
  hidden["mounts"].push_back({{"destination", "/sys"}, {"type", "tmpfs"}, {"options", Json::array()}});
  EXPECT_THAT(ValidateSpec(hidden.dump()), Contains(HasSubstr("/sys hides /sys/fs/cgroup")));
}

TEST(ReplaceResources, KeepsTheDeviceRulesAndNothingElse) {
  absl::StatusOr<std::string> changed = ReplaceResources(
      R"({"process":{"args":["a"]},"linux":{"resources":{"devices":[{"allow":false}],"cpu":{"shares":2}}}})",
      R"({"memory":{"limit":1048576}})");
  ASSERT_TRUE(changed.ok()) << changed.status();
  EXPECT_EQ(
      *changed,
      R"({"process":{"args":["a"]},"linux":{"resources":{"memory":{"limit":1048576},"devices":[{"allow":false}]}}})");
  EXPECT_FALSE(ReplaceResources("{}", "{}").ok());
  EXPECT_FALSE(ReplaceResources("not json", "{}").ok());
}

}  // namespace
}  // namespace keelson::oci
