// The RuntimeDefault profile: one table of all system calls this code has heard of, by what they do and who
// may have them. seccomp_test.cc holds it against libseccomp's own list.
#include <absl/strings/str_split.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "base/strings.h"
#include "oci/seccomp.h"

namespace keelson::oci {
namespace {

// Who may have a group of calls.
constexpr std::string_view kEveryone = "";
constexpr std::string_view kNobody = "-";    // denied whatever the capabilities
constexpr std::string_view kObsolete = "0";  // no kernel has it any more; left to ENOSYS
constexpr std::string_view kFiltered = "f";  // allowed by argument, see FilteredRules

struct Group {
  std::string_view who;  // one of the above, or capabilities of which one is enough: "CAP_A CAP_B"
  std::string_view names;
  std::string_view architectures = "";  // "" : all
  int free_since = 0;                   // kernel (1000 * major + minor) from which everyone may; 0: never
};

constexpr Group kGroups[] = {
    // Files and folders by path.
    {kEveryone,
     "access chdir chmod chown chown32 creat faccessat faccessat2 fchdir fchmod fchmodat fchmodat2 fchown "
     "fchown32 fchownat futimesat getcwd lchown lchown32 link linkat mkdir mkdirat mknod mknodat "
     "name_to_handle_at open openat openat2 readlink readlinkat rename renameat renameat2 rmdir symlink "
     "symlinkat truncate truncate64 umask unlink unlinkat utime utimensat utimensat_time64 utimes"},
    {kEveryone,
     "fstat fstat64 fstatat64 fstatfs fstatfs64 lstat lstat64 newfstatat stat stat64 statfs statfs64 statx "
     "file_getattr file_setattr listmount statmount"},
    {kEveryone,
     "fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr listxattrat "
     "llistxattr "
     "lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat"},
    // Descriptors.
    {kEveryone,
     "_llseek close close_range copy_file_range dup dup2 dup3 fadvise64 fadvise64_64 fallocate fcntl fcntl64 "
     "fdatasync flock fsync ftruncate ftruncate64 getdents getdents64 ioctl lseek pipe pipe2 pread64 preadv "
     "preadv2 pwrite64 pwritev pwritev2 read readahead readdir readv sendfile sendfile64 splice sync "
     "sync_file_range syncfs tee vmsplice write writev"},
    {kEveryone,
     "_newselect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait "
     "epoll_wait_old eventfd eventfd2 poll ppoll ppoll_time64 pselect6 pselect6_time64 select"},
    {kEveryone,
     "fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy "
     "io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit"},
    // Memory.
    {kEveryone,
     "brk cachestat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 "
     "mlockall "
     "mmap mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect "
     "remap_file_pages"},
    // Processes, threads and who they are.
    {kEveryone,
     "capget capset execve execveat exit exit_group fork vfork getegid getegid32 geteuid geteuid32 getgid "
     "getgid32 getgroups getgroups32 getpgid getpgrp getpid getppid getresgid getresgid32 getresuid "
     "getresuid32 getsid gettid getuid getuid32 pidfd_open pidfd_send_signal prctl process_mrelease setfsgid "
     "setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setpgid setregid setregid32 "
     "setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setsid setuid setuid32 wait4 waitid "
     "waitpid"},
    {kEveryone,
     "futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake get_robust_list get_thread_area "
     "restart_syscall rseq set_robust_list set_thread_area set_tid_address uretprobe uprobe"},
    {kEveryone,
     "getcpu getpriority getrlimit getrusage ioprio_get ioprio_set nice prlimit64 sched_get_priority_max "
     "sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler "
     "sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam "
     "sched_setscheduler sched_yield setpriority setrlimit sysinfo times ugetrlimit uname olduname"},
    // Signals and time.
    {kEveryone,
     "kill pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend "
     "rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaction sigaltstack signal signalfd "
     "signalfd4 "
     "sigpending sigprocmask sigreturn sigsuspend tgkill tkill"},
    {kEveryone,
     "adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime "
     "clock_gettime64 clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time "
     "timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 "
     "timerfd timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64"},
    // Sockets and System V and POSIX messages.
    {kEveryone,
     "accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg "
     "recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair"},
    {kEveryone,
     "ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend "
     "mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop "
     "semtimedop_time64 shmat shmctl shmdt shmget"},
    // What makes the caller less powerful, and chance.
    {kEveryone,
     "getrandom landlock_add_rule landlock_create_ruleset landlock_restrict_self lsm_get_self_attr "
     "lsm_list_modules lsm_set_self_attr seccomp"},
    // By machine.
    {kEveryone, "arch_prctl modify_ldt", "amd64 386"},
    {kEveryone, "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
     "arm arm64"},
    {kEveryone, "sync_file_range2 swapcontext switch_endian rtas subpage_prot", "ppc64le"},
    {kEveryone, "s390_guarded_storage s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr s390_sthyi",
     "s390x"},
    {kEveryone, "riscv_flush_icache riscv_hwprobe", "riscv64"},
    {kEveryone, "cachectl cacheflush sysmips set_thread_area", "mips64le"},
    // By argument.
    {kFiltered, "clone personality socket"},
    // With a capability.
    {"CAP_SYS_ADMIN",
     "clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount "
     "open_tree "
     "open_tree_attr pivot_root quotactl quotactl_fd setdomainname sethostname setns umount umount2 unshare"},
    {"CAP_SYS_ADMIN CAP_BPF", "bpf"},
    {"CAP_SYS_ADMIN CAP_PERFMON", "perf_event_open"},
    {"CAP_SYS_ADMIN CAP_SYSLOG", "syslog"},
    {"CAP_DAC_READ_SEARCH", "open_by_handle_at"},
    {"CAP_SYS_BOOT", "reboot"},
    {"CAP_SYS_CHROOT", "chroot"},
    {"CAP_SYS_MODULE", "delete_module finit_module init_module"},
    {"CAP_SYS_NICE", "get_mempolicy mbind migrate_pages move_pages set_mempolicy set_mempolicy_home_node"},
    {"CAP_SYS_PACCT", "acct"},
    {"CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise"},
    // Before 4.8 a tracer could change a call after the filter had looked at it.
    {"CAP_SYS_PTRACE", "process_vm_readv process_vm_writev ptrace", "", 4008},
    {"CAP_SYS_RAWIO", "ioperm iopl"},
    {"CAP_SYS_TIME", "clock_settime clock_settime64 settimeofday stime"},
    {"CAP_SYS_TTY_CONFIG", "vhangup"},
    // For nobody: keys are the kernel's and not a namespace's, userfaultfd and io_uring have been the way
    // into
    // the kernel too often, the rest belongs to the host.
    {kNobody,
     "add_key io_uring_enter io_uring_register io_uring_setup kexec_file_load kexec_load keyctl "
     "listns request_key swapoff swapon sysfs userfaultfd ustat uselib vm86 vm86old spu_create spu_run "
     "pciconfig_iobase pciconfig_read pciconfig_write sys_debug_setcontext"},
    {kObsolete,
     "_sysctl afs_syscall bdflush break create_module ftime get_kernel_syms getpmsg gtty idle lock mpx "
     "multiplexer nfsservctl oldfstat oldlstat oldolduname oldstat prof profil putpmsg query_module security "
     "sgetmask ssetmask stty tuxcall ulimit vserver syscall"},
};

// clone with one of these flags makes a namespace.
constexpr std::array<uint64_t, 7> kNamespaceFlags = {0x00020000 /* NEWNS */,
                                                     0x02000000 /* NEWCGROUP */,
                                                     0x04000000 /* NEWUTS */,
                                                     0x08000000 /* NEWIPC */,
                                                     0x10000000 /* NEWUSER */,
                                                     0x20000000 /* NEWPID */,
                                                     0x40000000 /* NEWNET */};
// personality: nothing, PER_LINUX32, UNAME26, both, and the question 0xffffffff.
constexpr std::array<uint64_t, 5> kPersonalities = {0, 0x8, 0x20000, 0x20008, 0xffffffff};
constexpr uint64_t kAddrNoRandomize = 0x40000;
constexpr uint64_t kPersonalityHighBit = 0x80000000;  // set in the question, in nothing else
constexpr uint64_t kAfVsock = 40;                     // reaches the hypervisor, past every network policy

bool Contains(std::string_view words, std::string_view word) {
  for (const absl::string_view w : absl::StrSplit(Av(words), ' ', absl::SkipEmpty())) {
    if (Sv(w) == word) return true;
  }
  return false;
}

enum class Verdict { kAllow, kDeny, kUnlisted };

Verdict VerdictOf(const Group& group, const SeccompContext& context) {
  if (!group.architectures.empty() && !Contains(group.architectures, context.architecture)) {
    return Verdict::kUnlisted;
  }
  if (group.who == kEveryone) return Verdict::kAllow;
  if (group.who == kNobody) return Verdict::kDeny;
  if (group.who == kObsolete || group.who == kFiltered) return Verdict::kUnlisted;
  if (group.free_since != 0 && context.kernel_major * 1000 + context.kernel_minor >= group.free_since) {
    return Verdict::kAllow;
  }
  for (const std::string& capability : context.capabilities) {
    if (Contains(group.who, capability)) return Verdict::kAllow;
  }
  return Verdict::kDeny;
}

SeccompRule Allow(std::string name, SeccompArg arg) {
  return {{std::move(name)}, "SCMP_ACT_ALLOW", std::nullopt, {std::move(arg)}};
}

SeccompRule Deny(std::string name, SeccompArg arg) {
  return {{std::move(name)}, "SCMP_ACT_ERRNO", kErrnoPerm, {std::move(arg)}};
}

bool HasCapability(const SeccompContext& context, std::string_view name) {
  return std::find(context.capabilities.begin(), context.capabilities.end(), name) !=
         context.capabilities.end();
}

void AddCloneRules(const SeccompContext& context, std::vector<SeccompRule>* rules) {
  if (HasCapability(context, "CAP_SYS_ADMIN")) {
    rules->push_back({{"clone"}, "SCMP_ACT_ALLOW", std::nullopt, {}});
    return;
  }
  const uint32_t flags_index = context.architecture == "s390x" ? 1 : 0;
  uint64_t all = 0;
  for (const uint64_t flag : kNamespaceFlags) all |= flag;
  rules->push_back(Allow("clone", {flags_index, all, 0, "SCMP_CMP_MASKED_EQ"}));
  for (const uint64_t flag : kNamespaceFlags) {
    rules->push_back(Deny("clone", {flags_index, flag, flag, "SCMP_CMP_MASKED_EQ"}));
  }
}

// A filter cannot say "none of these", so a personality that is neither allowed nor the debuggers' usual one
// is left to ENOSYS.
void AddPersonalityRules(std::vector<SeccompRule>* rules) {
  for (const uint64_t value : kPersonalities) {
    rules->push_back(Allow("personality", {0, value, 0, "SCMP_CMP_EQ"}));
  }
  rules->push_back(Deny("personality",
                        {0, kPersonalityHighBit | kAddrNoRandomize, kAddrNoRandomize, "SCMP_CMP_MASKED_EQ"}));
}

void AddSocketRules(std::vector<SeccompRule>* rules) {
  rules->push_back(Allow("socket", {0, kAfVsock, 0, "SCMP_CMP_NE"}));
  rules->push_back(Deny("socket", {0, kAfVsock, 0, "SCMP_CMP_EQ"}));
}

std::vector<std::string> ArchitecturesOf(const std::string& architecture) {
  static const auto* const table = new std::map<std::string, std::vector<std::string>>{
      {"amd64", {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"}},
      {"386", {"SCMP_ARCH_X86"}},
      {"arm64", {"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"}},
      {"arm", {"SCMP_ARCH_ARM"}},
      {"ppc64le", {"SCMP_ARCH_PPC64LE"}},
      {"riscv64", {"SCMP_ARCH_RISCV64"}},
      {"s390x", {"SCMP_ARCH_S390X", "SCMP_ARCH_S390"}},
      {"mips64le", {"SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_MIPSEL"}},
  };
  auto it = table->find(architecture);
  return it == table->end() ? std::vector<std::string>{} : it->second;
}

}  // namespace

SeccompProfile DefaultSeccompProfile(const SeccompContext& context) {
  // A call may stand in the groups of several machines: allowed by one is allowed.
  std::set<std::string> allowed, denied;
  for (const Group& group : kGroups) {
    const Verdict verdict = VerdictOf(group, context);
    if (verdict == Verdict::kUnlisted) continue;
    for (const absl::string_view name : absl::StrSplit(Av(group.names), ' ', absl::SkipEmpty())) {
      (verdict == Verdict::kAllow ? allowed : denied).emplace(name);
    }
  }
  denied.erase("clone3");  // ENOSYS, the default, see the declaration
  for (const std::string& name : allowed) denied.erase(name);

  SeccompProfile profile;
  profile.default_action = "SCMP_ACT_ERRNO";
  profile.default_errno_ret = kErrnoNoSys;
  profile.architectures = ArchitecturesOf(context.architecture);
  profile.rules.push_back({{allowed.begin(), allowed.end()}, "SCMP_ACT_ALLOW", std::nullopt, {}});
  if (!denied.empty()) {
    profile.rules.push_back({{denied.begin(), denied.end()}, "SCMP_ACT_ERRNO", kErrnoPerm, {}});
  }
  AddCloneRules(context, &profile.rules);
  AddPersonalityRules(&profile.rules);
  AddSocketRules(&profile.rules);
  return profile;
}

bool DefaultProfileKnows(std::string_view syscall) {
  return std::any_of(std::begin(kGroups), std::end(kGroups),
                     [&](const Group& group) { return Contains(group.names, syscall); });
}

}  // namespace keelson::oci
