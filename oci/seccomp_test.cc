#include "oci/seccomp.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <seccomp.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>

#include "base/strings.h"

namespace keelson::oci {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

const std::vector<std::string> kDefaultCaps = {"CAP_CHOWN", "CAP_SYS_CHROOT", "CAP_NET_RAW"};

SeccompContext Context(std::vector<std::string> capabilities = kDefaultCaps,
                       std::string architecture = "amd64", int major = 6, int minor = 1) {
  return {std::move(capabilities), std::move(architecture), major, minor};
}

// What a profile does with a call without arguments: "ALLOW", "ERRNO 1", ...; "" : the default.
std::string ActionOf(const SeccompProfile& profile, const std::string& name) {
  for (const SeccompRule& rule : profile.rules) {
    if (!rule.args.empty()) continue;
    if (std::find(rule.names.begin(), rule.names.end(), name) == rule.names.end()) continue;
    return rule.errno_ret.has_value() ? StrCat(rule.action, " ", *rule.errno_ret) : rule.action;
  }
  return "";
}

constexpr const char* kAllow = "SCMP_ACT_ALLOW";
constexpr const char* kEperm = "SCMP_ACT_ERRNO 1";

TEST(DefaultSeccompTest, ByCapability) {
  struct Row {
    const char* name;
    const char* without;
    const char* capability;
  };
  const Row rows[] = {
      {"mount", kEperm, "CAP_SYS_ADMIN"},
      {"unshare", kEperm, "CAP_SYS_ADMIN"},
      {"setns", kEperm, "CAP_SYS_ADMIN"},
      {"clone3", "", "CAP_SYS_ADMIN"},
      {"bpf", kEperm, "CAP_BPF"},
      {"bpf", kEperm, "CAP_SYS_ADMIN"},
      {"perf_event_open", kEperm, "CAP_PERFMON"},
      {"syslog", kEperm, "CAP_SYSLOG"},
      {"kcmp", kEperm, "CAP_SYS_PTRACE"},
      {"process_madvise", kEperm, "CAP_SYS_PTRACE"},
      {"chroot", kEperm, "CAP_SYS_CHROOT"},
      {"reboot", kEperm, "CAP_SYS_BOOT"},
      {"finit_module", kEperm, "CAP_SYS_MODULE"},
      {"acct", kEperm, "CAP_SYS_PACCT"},
      {"settimeofday", kEperm, "CAP_SYS_TIME"},
      {"iopl", kEperm, "CAP_SYS_RAWIO"},
      {"vhangup", kEperm, "CAP_SYS_TTY_CONFIG"},
      {"mbind", kEperm, "CAP_SYS_NICE"},
      {"open_by_handle_at", kEperm, "CAP_DAC_READ_SEARCH"},
  };
  const SeccompProfile none = DefaultSeccompProfile(Context({}));
  for (const Row& row : rows) {
    EXPECT_EQ(ActionOf(none, row.name), row.without) << row.name;
    EXPECT_EQ(ActionOf(DefaultSeccompProfile(Context({row.capability})), row.name), kAllow) << row.name;
  }
}

TEST(DefaultSeccompTest, NeverWhateverTheCapabilities) {
  const SeccompProfile all =
      DefaultSeccompProfile(Context({"CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_MODULE"}));
  for (const char* name : {"keyctl", "add_key", "request_key", "io_uring_setup", "userfaultfd", "kexec_load",
                           "swapon", "uselib", "vm86"}) {
    EXPECT_EQ(ActionOf(all, name), kEperm) << name;
  }
}

TEST(DefaultSeccompTest, UnknownCallsAnswerEnosys) {
  const SeccompProfile profile = DefaultSeccompProfile(Context());
  EXPECT_EQ(profile.default_action, "SCMP_ACT_ERRNO");
  EXPECT_EQ(profile.default_errno_ret, kErrnoNoSys);
  EXPECT_EQ(ActionOf(profile, "a_call_of_the_year_2040"), "");
}

TEST(DefaultSeccompTest, ByKernel) {
  EXPECT_EQ(ActionOf(DefaultSeccompProfile(Context({}, "amd64", 4, 7)), "ptrace"), kEperm);
  EXPECT_EQ(ActionOf(DefaultSeccompProfile(Context({}, "amd64", 4, 8)), "ptrace"), kAllow);
  EXPECT_EQ(ActionOf(DefaultSeccompProfile(Context({"CAP_SYS_PTRACE"}, "amd64", 4, 7)), "ptrace"), kAllow);
}

TEST(DefaultSeccompTest, ByArchitecture) {
  const SeccompProfile amd64 = DefaultSeccompProfile(Context());
  EXPECT_THAT(amd64.architectures, ElementsAre("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"));
  EXPECT_EQ(ActionOf(amd64, "arch_prctl"), kAllow);
  EXPECT_EQ(ActionOf(amd64, "set_tls"), "");
  const SeccompProfile arm64 = DefaultSeccompProfile(Context({}, "arm64"));
  EXPECT_THAT(arm64.architectures, ElementsAre("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"));
  EXPECT_EQ(ActionOf(arm64, "arch_prctl"), "");
  EXPECT_EQ(ActionOf(arm64, "set_tls"), kAllow);
  EXPECT_EQ(ActionOf(DefaultSeccompProfile(Context({}, "riscv64")), "riscv_flush_icache"), kAllow);
}

TEST(DefaultSeccompTest, CloneMayNotMakeNamespaces) {
  const auto rules_of = [](const SeccompProfile& profile, const std::string& name) {
    std::vector<SeccompRule> rules;
    for (const SeccompRule& rule : profile.rules) {
      if (rule.names == std::vector<std::string>{name}) rules.push_back(rule);
    }
    return rules;
  };
  const auto rules = rules_of(DefaultSeccompProfile(Context()), "clone");
  ASSERT_EQ(rules.size(), 8u);
  EXPECT_EQ(rules[0].action, "SCMP_ACT_ALLOW");
  EXPECT_EQ(rules[0].args[0].value, 0x7e020000u);
  EXPECT_EQ(rules[0].args[0].op, "SCMP_CMP_MASKED_EQ");
  uint64_t denied = 0;
  for (size_t i = 1; i < rules.size(); ++i) {
    EXPECT_EQ(rules[i].errno_ret, kErrnoPerm);
    denied |= rules[i].args[0].value;
  }
  EXPECT_EQ(denied, 0x7e020000u);
  EXPECT_EQ(rules_of(DefaultSeccompProfile(Context({}, "s390x")), "clone")[0].args[0].index, 1u);
  const auto admin = rules_of(DefaultSeccompProfile(Context({"CAP_SYS_ADMIN"})), "clone");
  ASSERT_EQ(admin.size(), 1u);
  EXPECT_TRUE(admin[0].args.empty());
}

// Every call libseccomp knows on any machine has a place in the table, so that none is denied by being
// forgotten.
TEST(DefaultSeccompTest, TableIsCompleteByLibseccomp) {
  constexpr int kNumbers = 7000;  // beyond the ranges of MIPS
  std::set<std::string> unknown;
  for (const uint32_t arch : std::initializer_list<uint32_t>{
           SCMP_ARCH_X86_64, SCMP_ARCH_X86, SCMP_ARCH_X32, SCMP_ARCH_AARCH64, SCMP_ARCH_ARM,
           SCMP_ARCH_RISCV64, SCMP_ARCH_S390X, SCMP_ARCH_PPC64LE, SCMP_ARCH_MIPSEL64}) {
    for (int number = 0; number < kNumbers; ++number) {
      std::unique_ptr<char, decltype(&free)> name(seccomp_syscall_resolve_num_arch(arch, number), &free);
      if (name != nullptr && !DefaultProfileKnows(name.get())) unknown.insert(name.get());
    }
  }
  EXPECT_THAT(unknown, IsEmpty());
}

// The other way round: the table has no name that is misspelt. Calls newer than the libseccomp of the oldest
// supported system are listed here with their numbers in the kernel's table (common to all machines from 424
// on).
TEST(DefaultSeccompTest, NamesResolveByLibseccomp) {
  const std::set<std::string> newer = {"statmount" /* 457 */,
                                       "listmount" /* 458 */,
                                       "lsm_get_self_attr" /* 459 */,
                                       "lsm_set_self_attr" /* 460 */,
                                       "lsm_list_modules" /* 461 */,
                                       "mseal" /* 462 */,
                                       "setxattrat" /* 463 */,
                                       "getxattrat" /* 464 */,
                                       "listxattrat" /* 465 */,
                                       "removexattrat" /* 466 */,
                                       "open_tree_attr" /* 467 */,
                                       "file_getattr" /* 468 */,
                                       "file_setattr" /* 469 */,
                                       "listns" /* 470 */,
                                       "uretprobe" /* x86-64: 335 */,
                                       "uprobe" /* x86-64: 336 */,
                                       "riscv_hwprobe" /* riscv: 258 */};
  for (const char* architecture : {"amd64", "arm64", "riscv64", "s390x", "ppc64le", "mips64le"}) {
    for (const auto& capabilities : {kDefaultCaps, std::vector<std::string>{"CAP_SYS_ADMIN"}}) {
      const SeccompProfile profile = DefaultSeccompProfile(Context(capabilities, architecture));
      for (const std::string& name : UnknownSyscalls(profile)) {
        EXPECT_TRUE(newer.count(name) != 0) << name << " is known to nobody";
      }
    }
  }
}

struct ContextDeleter {
  void operator()(void* filter) const { seccomp_release(filter); }
};

uint32_t ScmpAction(const SeccompRule& rule) {
  return rule.action == "SCMP_ACT_ALLOW" ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(rule.errno_ret.value_or(EPERM));
}

scmp_compare ScmpOperator(const std::string& op) {
  static const std::map<std::string, scmp_compare> table = {
      {"SCMP_CMP_NE", SCMP_CMP_NE}, {"SCMP_CMP_EQ", SCMP_CMP_EQ}, {"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ}};
  return table.at(op);
}

// libseccomp takes every rule, as the OCI runtimes feed it.
TEST(DefaultSeccompTest, LibseccompAcceptsEveryRule) {
  for (const auto& capabilities : {kDefaultCaps, std::vector<std::string>{"CAP_SYS_ADMIN", "CAP_BPF"}, {}}) {
    const SeccompProfile profile = DefaultSeccompProfile(Context(capabilities));
    std::unique_ptr<void, ContextDeleter> filter(seccomp_init(SCMP_ACT_ERRNO(*profile.default_errno_ret)));
    ASSERT_NE(filter, nullptr);
    for (const SeccompRule& rule : profile.rules) {
      for (const std::string& name : rule.names) {
        const int number = seccomp_syscall_resolve_name(name.c_str());
        if (number == __NR_SCMP_ERROR) continue;
        std::vector<scmp_arg_cmp> args;
        for (const SeccompArg& arg : rule.args) {
          args.push_back({arg.index, ScmpOperator(arg.op), arg.value, arg.value_two});
        }
        EXPECT_EQ(seccomp_rule_add_array(filter.get(), ScmpAction(rule), number,
                                         static_cast<unsigned>(args.size()), args.data()),
                  0)
            << name;
      }
    }
  }
}

// ---- Localhost ----

TEST(ParseSeccompTest, RuntimeSpecForm) {
  absl::StatusOr<SeccompProfile> profile = ParseSeccompProfile(
      R"({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "architectures": ["SCMP_ARCH_X86_64"],
          "flags": ["SECCOMP_FILTER_FLAG_LOG"], "syscalls": [
            {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "comment": "x"},
            {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22, "args": [
              {"index": 1, "value": 18446744073709551615, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}]}]})",
      Context(), nullptr);
  ASSERT_TRUE(profile.ok()) << profile.status();
  EXPECT_EQ(profile->default_errno_ret, 38u);
  ASSERT_EQ(profile->rules.size(), 2u);
  EXPECT_EQ(profile->rules[1].errno_ret, 22u);
  EXPECT_EQ(profile->rules[1].args[0].value, UINT64_MAX);
  EXPECT_EQ(profile->rules[1].args[0].value_two, 2u);
}

struct ConditionRow {
  const char* condition;
  SeccompContext context;
  bool applies;
};

TEST(ParseSeccompTest, DockerConditions) {
  const ConditionRow rows[] = {
      {R"("includes": {})", Context(), true},
      {R"("includes": {"caps": ["CAP_A", "CAP_B"]})", Context({"CAP_A"}), false},
      {R"("includes": {"caps": ["CAP_A", "CAP_B"]})", Context({"CAP_B", "CAP_A"}), true},
      {R"("excludes": {"caps": ["CAP_A", "CAP_B"]})", Context({"CAP_A"}), false},
      {R"("excludes": {"caps": ["CAP_A"]})", Context({}), true},
      {R"("includes": {"arches": ["arm", "arm64"]})", Context(), false},
      {R"("includes": {"arches": ["amd64"]})", Context(), true},
      {R"("excludes": {"arches": ["amd64"]})", Context(), false},
      {R"("includes": {"minKernel": "6.1"})", Context(), true},
      {R"("includes": {"minKernel": "6.2"})", Context(), false},
      {R"("includes": {"minKernel": "5.19"})", Context(), true},
      {R"("excludes": {"minKernel": "5.19"})", Context(), false},
      {R"("includes": null, "excludes": null)", Context(), true},
  };
  for (const ConditionRow& row : rows) {
    absl::StatusOr<SeccompProfile> profile = ParseSeccompProfile(
        StrCat(
            R"({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", )",
            row.condition, "}]}"),
        row.context, nullptr);
    ASSERT_TRUE(profile.ok()) << profile.status();
    EXPECT_EQ(profile->rules.size(), row.applies ? 1u : 0u) << row.condition;
  }
}

TEST(ParseSeccompTest, ArchMapOfThisMachine) {
  const char* text = R"({"defaultAction": "SCMP_ACT_ALLOW", "archMap": [
      {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
      {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}]})";
  EXPECT_THAT(ParseSeccompProfile(text, Context(), nullptr)->architectures,
              ElementsAre("SCMP_ARCH_X86_64", "SCMP_ARCH_X86"));
  EXPECT_THAT(ParseSeccompProfile(text, Context({}, "arm64"), nullptr)->architectures,
              ElementsAre("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"));
}

TEST(ParseSeccompTest, UnknownCallsAreNamed) {
  std::vector<std::string> warnings;
  absl::StatusOr<SeccompProfile> profile = ParseSeccompProfile(
      R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read", "fly"], "action": "SCMP_ACT_ERRNO"}]})",
      Context(), &warnings);
  ASSERT_TRUE(profile.ok());
  EXPECT_THAT(warnings, ElementsAre(HasSubstr("fly")));
  EXPECT_THAT(profile->rules[0].names, Contains("fly"));
}

TEST(ParseSeccompTest, ErrorsNameTheMember) {
  const std::pair<std::string, const char*> rows[] = {
      {"", "not a JSON object"},
      {"{}", "defaultAction: unknown action"},
      {R"({"defaultAction": "ALLOW"})", "defaultAction: unknown action \"ALLOW\""},
      {R"({"defaultAction": 3})", "defaultAction: must be a string"},
      {R"({"defaultAction": "SCMP_ACT_NOTIFY"})", "cannot be the default"},
      {R"({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": -1})", "defaultErrnoRet"},
      {R"({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096})", "4096 is more than 4095"},
      {R"({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["x86"]})", "unknown architecture \"x86\""},
      {R"({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["X"]})", "unknown flag \"X\""},
      {R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {}})", "syscalls: must be an array"},
      {R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [7]})", "syscalls[0]: must be an object"},
      {R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_ALLOW"}]})",
       "names: is empty"},
      {R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "name": "b", "action": "SCMP_ACT_ALLOW"}]})",
       "both name and names"},
      {R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["A B"], "action": "SCMP_ACT_ALLOW"}]})",
       "no name of a system call"},
      {R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW",
           "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}]})",
       "args[0].index: 6 is more than 5"},
      {R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW",
           "args": [{"index": 0, "value": 1, "op": "EQ"}]}]})",
       "args[0].op: unknown operator"},
      {R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW",
           "includes": {"minKernel": "six"}}]})",
       "minKernel"},
      {R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}]})",
       "listenerPath: is missing"},
      {R"({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_ARM"], "archMap": [{}]})",
       "archMap: both"},
      {std::string(kMaxSeccompProfileBytes + 1, ' '), "bytes; at most"},
      {std::string(64, '['), "nested deeper than"},
  };
  for (const auto& [text, message] : rows) {
    absl::StatusOr<SeccompProfile> profile = ParseSeccompProfile(text, Context(), nullptr);
    ASSERT_FALSE(profile.ok()) << message;
    EXPECT_EQ(profile.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(profile.status().message()), HasSubstr(message));
  }
}

}  // namespace
}  // namespace keelson::oci
