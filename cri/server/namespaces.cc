#include "cri/server/namespaces.h"

#include <absl/functional/any_invocable.h>
#include <absl/functional/function_ref.h>
#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <system_error>
#include <thread>
#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "net/netlink.h"

namespace keelson::cri {
namespace {

constexpr char kProcSys[] = "/proc/sys";
constexpr size_t kMaxHostnameBytes = 64;
constexpr size_t kMaxIdMappings = 340;  // the kernel's own bound
constexpr size_t kMaxNetDevBytes = 1 << 20;
constexpr size_t kHolderStackBytes = 64 << 10;
constexpr int kMaxStackedMounts = 16;

struct Kind {
  const char* name;
  int flag;
};
constexpr std::array<Kind, 3> kKinds = {
    {{kNetNamespace, CLONE_NEWNET}, {kIpcNamespace, CLONE_NEWIPC}, {kUtsNamespace, CLONE_NEWUTS}}};

// Runs `work` on a thread of its own and waits for it.
absl::Status OnThread(absl::FunctionRef<absl::Status()> work) {
  absl::Status result;
  try {
    std::thread thread([&] { result = work(); });
    thread.join();
  } catch (const std::system_error& error) {
    return absl::ResourceExhaustedError(StrCat("start a thread for a namespace: ", error.what()));
  }
  return result;
}

absl::Status EnterNamespace(const std::string& path, int flag) {
  ASSIGN_OR_RETURN(Fd fd, OpenFile(path, O_RDONLY));
  if (::setns(fd.get(), flag) != 0) return ErrnoStatus(errno, StrCat("enter namespace ", path));
  return absl::OkStatus();
}

bool IsNamespaceMount(const std::string& path) {
  struct statfs fs;
  return ::statfs(path.c_str(), &fs) == 0 && fs.f_type == NSFS_MAGIC;
}

int Flags(const PinRequest& r) {
  return (r.network ? CLONE_NEWNET : 0) | (r.ipc ? CLONE_NEWIPC : 0) | (r.uts ? CLONE_NEWUTS : 0);
}

// ---- sysctls ----

enum class Owner { kNone, kNetwork, kIpc, kUts };

Owner OwnerOf(std::string_view path) {
  auto starts = [&](const char* prefix) { return absl::StartsWith(Av(path), prefix); };
  if (starts("net/")) return Owner::kNetwork;
  if (starts("kernel/shm") || starts("kernel/msg") || path == "kernel/sem" || starts("fs/mqueue/"))
    return Owner::kIpc;
  if (path == "kernel/hostname" || path == "kernel/domainname") return Owner::kUts;
  return Owner::kNone;
}

bool IsOfOneInterface(std::string_view path) {
  std::vector<absl::string_view> parts = absl::StrSplit(Av(path), '/');
  return parts.size() > 4 && parts[0] == "net" && (parts[2] == "conf" || parts[2] == "neigh") &&
         parts[3] != "all" && parts[3] != "default" && parts[3] != "lo";
}

absl::Status WriteFileAt(int dir, const std::string& path, const std::string& value) {
  ASSIGN_OR_RETURN(Fd fd, OpenBeneath(dir, path, O_WRONLY));
  return WriteAll(fd.get(), value);
}

// The files of an IPC namespace belong to the root of its user namespace, and the host's root is a stranger
// there, when it opens them and when it writes. Only this thread changes its user: the raw call, not libc's,
// which takes all threads along.
absl::Status WriteSysctl(int proc_sys, const std::string& path, const std::string& value) {
  absl::Status status = WriteFileAt(proc_sys, path, value);
  struct stat st;
  if (!absl::IsPermissionDenied(status) || ::fstatat(proc_sys, path.c_str(), &st, 0) != 0 ||
      st.st_uid == ::geteuid() || ::syscall(SYS_setresuid, -1, st.st_uid, -1) != 0) {
    return status;
  }
  status = WriteFileAt(proc_sys, path, value);
  KEELSON_CHECK(::syscall(SYS_setresuid, -1, 0, -1) == 0, "become root again");
  return status;
}

// In the calling thread's namespaces.
absl::Status WriteEach(const Sysctls& sysctls) {
  if (sysctls.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(Fd proc_sys, OpenFile(kProcSys, O_PATH | O_DIRECTORY));
  for (const auto& [name, value] : sysctls) {
    std::string what = StrCat("set sysctl ", name, "=", value);
    ASSIGN_OR_RETURN(std::string path, SysctlPath(name));
    absl::Status status = WriteSysctl(proc_sys.get(), path, value);
    if (absl::IsNotFound(status))
      return absl::NotFoundError(StrCat(what, ": this kernel has no such sysctl"));
    RETURN_IF_ERROR(Annotate(status, what));
  }
  return absl::OkStatus();
}

// ---- user namespaces ----

// A tiny process that holds new namespaces open until they are bound somewhere. It shares this process'
// memory and descriptors, and makes system calls only; it does not return from `Hold`.
class NamespaceHolder {
 public:
  static absl::StatusOr<NamespaceHolder> Start(int flags) {
    NamespaceHolder holder;
    int pipe[2];
    if (::pipe2(pipe, O_CLOEXEC) != 0) return ErrnoStatus(errno, "pipe2");
    holder.read_end_ = Fd(pipe[0]);
    holder.write_end_ = Fd(pipe[1]);
    void* stack = ::mmap(nullptr, kHolderStackBytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED) return ErrnoStatus(errno, "map a stack");
    holder.stack_ = stack;
    // Below the stack that grows towards it, in memory that both see: it may outlive this process by a
    // moment.
    auto* order = new (stack) Order{pipe[0], ::getpid()};
    // No signal handler of ours may run on its stack.
    sigset_t all, before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    // CLONE_VM: nothing is copied, whatever the size of this process. Without an exit signal only __WALL sees
    // it.
    int pid =
        ::clone(&Hold, static_cast<char*>(stack) + kHolderStackBytes, CLONE_VM | CLONE_FILES | flags, order);
    int error = errno;
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (pid < 0) return ErrnoStatus(error, "make a user namespace");
    holder.pid_ = pid;
    return holder;
  }
  NamespaceHolder(NamespaceHolder&& o) noexcept
      : pid_(std::exchange(o.pid_, -1)),
        stack_(std::exchange(o.stack_, nullptr)),
        read_end_(std::move(o.read_end_)),
        write_end_(std::move(o.write_end_)) {}
  NamespaceHolder& operator=(NamespaceHolder&&) = delete;
  ~NamespaceHolder() {
    write_end_.reset();  // it reads the end and leaves
    if (pid_ > 0) {
      while (::waitpid(pid_, nullptr, __WALL) < 0 && errno == EINTR) {
      }
    }
    if (stack_ != nullptr) ::munmap(stack_, kHolderStackBytes);
  }
  int pid() const { return pid_; }

 private:
  NamespaceHolder() = default;

  struct Order {
    int read_end;
    pid_t parent;
  };

  __attribute__((no_sanitize("address", "thread", "undefined"))) static int Hold(void* order) {
    const Order& given = *static_cast<const Order*>(order);
    ::syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    // Killed before that, the parent took no signal along, and the pipe does not end either: the other end of
    // it, like every lock and socket of the parent, is in the descriptors that are this process' as well.
    if (::syscall(SYS_getppid) != given.parent) ::syscall(SYS_exit, 0);
    char byte;
    ::syscall(SYS_read, given.read_end, &byte, 1);
    ::syscall(SYS_exit, 0);
    return 0;
  }

  int pid_ = -1;
  void* stack_ = nullptr;
  Fd read_end_, write_end_;
};

absl::Status WriteIdMap(int pid, const char* file, const std::vector<IdMapping>& mappings) {
  std::string text;
  for (const IdMapping& m : mappings) StrAppend(&text, m.container_id, " ", m.host_id, " ", m.length, "\n");
  std::string path = StrCat("/proc/", pid, "/", file);
  ASSIGN_OR_RETURN(Fd fd, OpenFile(path, O_WRONLY));
  // In one piece, or the kernel refuses.
  if (::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    return ErrnoStatus(errno, StrCat("write ", file, " of the user namespace"));
  }
  return absl::OkStatus();
}

absl::Status CheckMappings(const char* what, const std::vector<IdMapping>& mappings) {
  if (mappings.size() > kMaxIdMappings)
    return absl::InvalidArgumentError(StrCat(what, " mappings: more than ", kMaxIdMappings));
  for (const IdMapping& m : mappings) {
    if (m.length == 0 || uint64_t{m.container_id} + m.length > UINT32_MAX ||
        uint64_t{m.host_id} + m.length > UINT32_MAX) {
      return absl::InvalidArgumentError(
          StrCat(what, " mapping ", m.container_id, ":", m.host_id, ":", m.length, ": out of range"));
    }
  }
  return absl::OkStatus();
}

// ---- pins ----

// Takes back what was pinned, unless Keep() is called.
class Pins {
 public:
  explicit Pins(std::string dir) : dir_(std::move(dir)) {}
  ~Pins() {
    for (const std::string& path : paths_) {
      ::umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW);
      ::unlink(path.c_str());
    }
    if (made_dir_) ::rmdir(dir_.c_str());
  }
  absl::Status MakeDir() {
    made_dir_ = ::mkdir(dir_.c_str(), 0711) == 0;
    if (!made_dir_ && errno != EEXIST) return ErrnoStatus(errno, StrCat("make ", dir_));
    return absl::OkStatus();
  }
  absl::Status Add(const char* name, const std::string& source) {
    std::string path = StrCat(dir_, "/", name);
    if (IsNamespaceMount(path)) return absl::AlreadyExistsError(StrCat(path, " is pinned already"));
    ASSIGN_OR_RETURN(Fd file, OpenFile(path, O_RDONLY | O_CREAT | O_NOFOLLOW, 0444));
    paths_.push_back(path);
    if (::mount(source.c_str(), path.c_str(), nullptr, MS_BIND, nullptr) != 0)
      return ErrnoStatus(errno, StrCat("bind ", source, " to ", path));
    return absl::OkStatus();
  }
  void Keep() {
    paths_.clear();
    made_dir_ = false;
  }

 private:
  std::string dir_;
  bool made_dir_ = false;
  std::vector<std::string> paths_;
};

// On a thread that is inside the new namespaces.
absl::Status SetUpInside(const PinRequest& r) {
  if (r.uts && !r.hostname.empty() && ::sethostname(r.hostname.data(), r.hostname.size()) != 0)
    return ErrnoStatus(errno, StrCat("set hostname ", r.hostname));
  if (r.network) {
    ASSIGN_OR_RETURN(net::Netlink netlink, net::Netlink::Open());
    RETURN_IF_ERROR(netlink.SetLinkUp("lo"));
    // The address plugin gives no address twice; looking for it would hold every IPv6 ADD up by 1.8 s. All of
    // what a kernel without IPv6 lacks.
    absl::Status dad = WriteEach({{"net.ipv6.conf.default.accept_dad", "0"}});
    if (!absl::IsNotFound(dad)) RETURN_IF_ERROR(dad);
  }
  Sysctls now = r.sysctls;
  for (const auto& [name, value] : WaitsForInterfaces(r.sysctls)) now.erase(name);
  return WriteEach(now);
}

absl::Status PinEach(const PinRequest& r, const std::string& source, bool user, Pins* pins) {
  if (user) RETURN_IF_ERROR(pins->Add(kUserNamespace, StrCat(source, "/user")));
  for (const Kind& kind : kKinds) {
    if ((Flags(r) & kind.flag) != 0) RETURN_IF_ERROR(pins->Add(kind.name, StrCat(source, "/", kind.name)));
  }
  return absl::OkStatus();
}

// The namespaces belong to a new user namespace, so a process has to make them: one with threads cannot enter
// it.
absl::Status PinWithUserNamespace(const PinRequest& r, Pins* pins) {
  ASSIGN_OR_RETURN(NamespaceHolder holder, NamespaceHolder::Start(CLONE_NEWUSER | Flags(r)));
  RETURN_IF_ERROR(WriteIdMap(holder.pid(), "uid_map", r.uid_mappings));
  RETURN_IF_ERROR(WriteIdMap(holder.pid(), "gid_map", r.gid_mappings));
  std::string source = StrCat("/proc/", holder.pid(), "/ns");
  for (const Kind& kind : kKinds) {
    if ((Flags(r) & kind.flag) != 0)
      RETURN_IF_ERROR(EnterNamespace(StrCat(source, "/", kind.name), kind.flag));
  }
  RETURN_IF_ERROR(SetUpInside(r));
  return PinEach(r, source, /*user=*/true, pins);
}

absl::Status CheckRequest(const PinRequest& r) {
  if (r.dir.empty() || r.dir[0] != '/')
    return absl::InvalidArgumentError("the folder must be an absolute path");
  if (!r.hostname.empty()) {
    bool bad = r.hostname.size() > kMaxHostnameBytes || !r.uts;
    for (char c : r.hostname) bad = bad || !absl::ascii_isgraph(static_cast<unsigned char>(c));
    if (bad) {
      return absl::InvalidArgumentError(
          StrCat("hostname: at most ", kMaxHostnameBytes,
                 " printable characters, and a UTS namespace of the sandbox's own"));
    }
  }
  if (r.uid_mappings.empty() != r.gid_mappings.empty())
    return absl::InvalidArgumentError("user namespace: uid and gid mappings come together");
  RETURN_IF_ERROR(CheckMappings("uid", r.uid_mappings));
  RETURN_IF_ERROR(CheckMappings("gid", r.gid_mappings));
  return CheckSysctls(r);
}

// ---- sockets ----

constexpr int kTimedOut = -1;

// 0, an errno value, or kTimedOut.
int Connect(int fd, const sockaddr* address, socklen_t size, int timeout_ms) {
  if (::connect(fd, address, size) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  pollfd wait{.fd = fd, .events = POLLOUT};
  int ready;
  do {
    ready = ::poll(&wait, 1, timeout_ms);
  } while (ready < 0 && errno == EINTR);
  if (ready == 0) return kTimedOut;
  int error = 0;
  socklen_t length = sizeof error;
  if (ready < 0 || ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0) return errno;
  return error;
}

absl::StatusOr<Fd> DialLocalhost(uint16_t port, absl::Duration timeout) {
  sockaddr_in v4{.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  sockaddr_in6 v6{.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = in6addr_loopback};
  struct Try {
    const sockaddr* address;
    socklen_t size;
  } tries[] = {{reinterpret_cast<const sockaddr*>(&v4), sizeof v4},
               {reinterpret_cast<const sockaddr*>(&v6), sizeof v6}};
  int first_error = 0;
  int timeout_ms = static_cast<int>(std::clamp<int64_t>(absl::ToInt64Milliseconds(timeout), 1, INT32_MAX));
  for (const Try& t : tries) {
    Fd fd(::socket(t.address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    int error = fd.valid() ? Connect(fd.get(), t.address, t.size, timeout_ms) : errno;
    if (error == 0) return fd;
    if (error == kTimedOut)
      return absl::DeadlineExceededError(StrCat("no answer within ", absl::FormatDuration(timeout)));
    if (first_error == 0) first_error = error;
  }
  return absl::UnavailableError(std::strerror(first_error));
}

}  // namespace

absl::StatusOr<std::string> SysctlPath(const std::string& name) {
  std::string path = name;
  size_t first = path.find_first_of("./");
  if (first != std::string::npos && path[first] == '.') {
    for (char& c : path) c = c == '.' ? '/' : c == '/' ? '.' : c;
  }
  auto bad = [&] {
    return absl::InvalidArgumentError(StrCat("sysctl \"", name.substr(0, 128), "\": no valid name"));
  };
  if (first == std::string::npos || path.size() > 256) return bad();
  for (absl::string_view part : absl::StrSplit(path, '/')) {
    if (part.empty() || part == "." || part == "..") return bad();
    for (char c : part) {
      if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && !absl::StrContains("_-.:@", c)) return bad();
    }
  }
  return path;
}

absl::Status CheckSysctls(const PinRequest& request) {
  if (request.sysctls.size() > kMaxSysctls)
    return absl::InvalidArgumentError(StrCat("sysctls: more than ", kMaxSysctls));
  for (const auto& [name, value] : request.sysctls) {
    ASSIGN_OR_RETURN(std::string path, SysctlPath(name));
    auto refuse = [&](std::string_view why) {
      return absl::InvalidArgumentError(StrCat("sysctl ", name, ": ", why));
    };
    if (value.size() > kMaxSysctlValueBytes || value.find('\0') != std::string::npos)
      return refuse(StrCat("its value must be at most ", kMaxSysctlValueBytes, " bytes of text"));
    Owner owner = OwnerOf(path);
    if (owner == Owner::kNone) return refuse("not of a namespace; it would change the whole host");
    if (owner == Owner::kNetwork && !request.network) return refuse("the pod is on the host's network");
    if (owner == Owner::kIpc && !request.ipc) return refuse("the pod uses the host's IPC namespace");
    if (owner == Owner::kUts && !request.uts) return refuse("the pod uses the host's UTS namespace");
  }
  return absl::OkStatus();
}

Sysctls WaitsForInterfaces(const Sysctls& sysctls) {
  Sysctls out;
  for (const auto& [name, value] : sysctls) {
    absl::StatusOr<std::string> path = SysctlPath(name);
    if (path.ok() && IsOfOneInterface(*path)) out[name] = value;
  }
  return out;
}

absl::Status PinNamespaces(const PinRequest& request) {
  std::string what = StrCat("make the namespaces of ", request.dir);
  RETURN_IF_ERROR(Annotate(CheckRequest(request), what));
  absl::Status status = OnThread([&]() -> absl::Status {
    Pins pins(request.dir);
    RETURN_IF_ERROR(pins.MakeDir());
    if (!request.uid_mappings.empty()) {
      RETURN_IF_ERROR(PinWithUserNamespace(request, &pins));
    } else {
      if (::unshare(Flags(request)) != 0) return ErrnoStatus(errno, "unshare");
      RETURN_IF_ERROR(SetUpInside(request));
      RETURN_IF_ERROR(PinEach(request, "/proc/thread-self/ns", /*user=*/false, &pins));
    }
    pins.Keep();
    return absl::OkStatus();
  });
  return Annotate(status, what);
}

absl::Status UnpinNamespaces(const std::string& dir) {
  absl::Status first;
  for (const char* name : {kNetNamespace, kIpcNamespace, kUtsNamespace, kUserNamespace}) {
    std::string path = StrCat(dir, "/", name);
    // EINVAL: not, or no longer, a mount point.
    int lifted = 0;
    while (lifted < kMaxStackedMounts && ::umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) ++lifted;
    if (lifted == 0 && errno != EINVAL && errno != ENOENT)
      first.Update(ErrnoStatus(errno, StrCat("unmount ", path)));
    if (::unlink(path.c_str()) != 0 && errno != ENOENT)
      first.Update(ErrnoStatus(errno, StrCat("remove ", path)));
  }
  ::rmdir(dir.c_str());  // the caller may keep more there
  return first;
}

absl::Status WriteSysctls(const std::string& dir, const Sysctls& sysctls) {
  if (sysctls.empty()) return absl::OkStatus();
  PinRequest pinned;
  for (const Kind& kind : kKinds) {
    if (!IsNamespaceMount(StrCat(dir, "/", kind.name))) continue;
    if (kind.flag == CLONE_NEWNET) pinned.network = true;
    if (kind.flag == CLONE_NEWIPC) pinned.ipc = true;
    if (kind.flag == CLONE_NEWUTS) pinned.uts = true;
  }
  pinned.sysctls = sysctls;
  RETURN_IF_ERROR(CheckSysctls(pinned));
  return OnThread([&]() -> absl::Status {
    for (const Kind& kind : kKinds) {
      if ((Flags(pinned) & kind.flag) != 0)
        RETURN_IF_ERROR(EnterNamespace(StrCat(dir, "/", kind.name), kind.flag));
    }
    return WriteEach(sysctls);
  });
}

absl::StatusOr<Fd> ConnectInNamespace(const std::string& netns_path, uint16_t port, absl::Duration timeout) {
  absl::StatusOr<Fd> out = absl::UnknownError("");
  absl::Status ran = OnThread([&]() -> absl::Status {
    RETURN_IF_ERROR(EnterNamespace(netns_path, CLONE_NEWNET));
    out = DialLocalhost(port, timeout);
    return out.status();
  });
  if (!ran.ok()) return Annotate(ran, StrCat("dial localhost:", port, " inside ", netns_path));
  return out;
}

absl::StatusOr<std::vector<InterfaceCounters>> ParseNetDev(std::string_view text) {
  std::vector<InterfaceCounters> out;
  std::vector<absl::string_view> lines = absl::StrSplit(Av(text), '\n');
  if (lines.size() < 2 || !absl::StrContains(lines[1], "bytes"))
    return absl::DataLossError("net/dev: no heading");
  for (size_t i = 2; i < lines.size(); ++i) {
    size_t colon = lines[i].rfind(':');
    if (colon == absl::string_view::npos) continue;
    InterfaceCounters c;
    c.name = std::string(absl::StripAsciiWhitespace(lines[i].substr(0, colon)));
    std::vector<absl::string_view> fields =
        absl::StrSplit(lines[i].substr(colon + 1), ' ', absl::SkipEmpty());
    struct Column {
      size_t index;
      uint64_t* to;
    } columns[] = {{0, &c.rx_bytes}, {1, &c.rx_packets}, {2, &c.rx_errors},  {3, &c.rx_dropped},
                   {8, &c.tx_bytes}, {9, &c.tx_packets}, {10, &c.tx_errors}, {11, &c.tx_dropped}};
    bool whole = fields.size() >= 12 && !c.name.empty();
    for (const Column& column : columns) whole = whole && absl::SimpleAtoi(fields[column.index], column.to);
    if (!whole) return absl::DataLossError(StrCat("net/dev: line ", i + 1));
    if (c.name != "lo") out.push_back(std::move(c));
  }
  return out;
}

std::vector<absl::StatusOr<std::vector<InterfaceCounters>>> ReadInterfaceCountersOf(
    const std::vector<std::string>& netns_paths) {
  std::vector<absl::StatusOr<std::vector<InterfaceCounters>>> out;
  absl::Status ran = OnThread([&]() -> absl::Status {
    for (const std::string& path : netns_paths) {
      absl::Status entered = EnterNamespace(path, CLONE_NEWNET);
      if (!entered.ok()) {
        out.push_back(Annotate(entered, "read interface counters"));
        continue;
      }
      absl::StatusOr<std::string> text = ReadFile("/proc/thread-self/net/dev", kMaxNetDevBytes);
      if (text.ok()) {
        out.push_back(ParseNetDev(*text));
      } else {
        out.push_back(Annotate(text.status(), "read interface counters"));
      }
    }
    return absl::OkStatus();
  });
  if (!ran.ok()) out.assign(netns_paths.size(), ran);
  return out;
}

absl::StatusOr<std::vector<InterfaceCounters>> ReadInterfaceCounters(const std::string& netns_path) {
  std::vector<std::string> one = {netns_path};
  return ReadInterfaceCountersOf(one).front();
}

}  // namespace keelson::cri
