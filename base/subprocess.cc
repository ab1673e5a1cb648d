#include "base/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
extern "C" {  // glibc 2.36 forgot it
#include <sys/pidfd.h>
}
#include <unistd.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>

#include "base/log.h"
#include "base/process.h"
#include "base/status.h"

extern char** environ;

namespace keelson {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

// Waits for one child's pidfd and reaps it, whether or not anyone still holds the ChildProcess.
struct Reaper : std::enable_shared_from_this<Reaper> {
  Reaper(asio::io_context& io, int child_pid, int pidfd) : pid(child_pid), descriptor(io, pidfd) {}

  void Start() {
    descriptor.async_wait(
        asio::posix::descriptor_base::wait_read, [self = shared_from_this()](error_code error) {
          if (error) return;
          pollfd poll_fd{self->descriptor.native_handle(), POLLIN, 0};
          if (::poll(&poll_fd, 1, 0) == 0)
            return self->Start();  // a spurious wake-up: the process still runs
          int status = 0;
          pid_t got;
          do {
            got = ::waitpid(self->pid, &status, WNOHANG);
          } while (got < 0 && errno == EINTR);
          self->status = got == self->pid ? status : 0;  // an adopted process is another's to reap
          self->exited.Set();
          if (self->on_exit) std::exchange(self->on_exit, nullptr)();
        });
  }

  int pid;
  asio::posix::stream_descriptor descriptor;
  int status = 0;
  AsyncEvent exited;
  absl::AnyInvocable<void()> on_exit;
};

class RealChild : public ChildProcess {
 public:
  explicit RealChild(std::shared_ptr<Reaper> reaper) : reaper_(std::move(reaper)) {}

  int pid() const override { return reaper_->pid; }

  Task<int> Wait() override { return WaitFor(reaper_); }

  absl::Status Signal(int signal) override {
    if (reaper_->exited.is_set()) return absl::NotFoundError("the process has ended");
    if (::pidfd_send_signal(reaper_->descriptor.native_handle(), signal, nullptr, 0) != 0) {
      return errno == ESRCH ? absl::NotFoundError("the process has ended")
                            : ErrnoStatus(errno, "pidfd_send_signal");
    }
    return absl::OkStatus();
  }

  Reaper& reaper() { return *reaper_; }

 private:
  static Task<int> WaitFor(std::shared_ptr<Reaper> reaper) {
    Task<void> wait = reaper->exited.Wait();
    co_await std::move(wait);
    co_return reaper->status;
  }

  std::shared_ptr<Reaper> reaper_;
};

std::vector<char*> CStrings(const std::vector<std::string>& strings) {
  std::vector<char*> out;
  for (const std::string& s : strings) out.push_back(const_cast<char*>(s.c_str()));
  out.push_back(nullptr);
  return out;
}

// Owns the libc structures and the high-numbered duplicates whose dup2 targets are 0, 1, 2, ...
struct SpawnActions {
  SpawnActions() {
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
  }
  ~SpawnActions() {
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
  }
  absl::Status Map(int fd, int target) {
    constexpr int kAboveTargets = 64;
    Fd source(fd >= 0 ? ::fcntl(fd, F_DUPFD_CLOEXEC, kAboveTargets)
                      : ::open("/dev/null", O_RDWR | O_CLOEXEC));
    if (!source.valid()) return ErrnoStatus(errno, "duplicate descriptor");
    if (fd < 0) {
      int high = ::fcntl(source.get(), F_DUPFD_CLOEXEC, kAboveTargets);
      if (high < 0) return ErrnoStatus(errno, "duplicate /dev/null");
      source = Fd(high);
    }
    ::posix_spawn_file_actions_adddup2(&actions, source.get(), target);
    sources.push_back(std::move(source));
    return absl::OkStatus();
  }
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  std::vector<Fd> sources;
};

absl::StatusOr<std::shared_ptr<Reaper>> StartChild(asio::io_context& io, const SpawnOptions& options) {
  if (options.argv.empty()) return absl::InvalidArgumentError("spawn: empty argv");
  SpawnActions spawn;
  RETURN_IF_ERROR(spawn.Map(options.stdin_fd, 0));
  RETURN_IF_ERROR(spawn.Map(options.stdout_fd, 1));
  RETURN_IF_ERROR(spawn.Map(options.stderr_fd, 2));
  for (size_t i = 0; i < options.extra_fds.size(); ++i) {
    RETURN_IF_ERROR(spawn.Map(options.extra_fds[i], static_cast<int>(3 + i)));
  }
  // Also what some library opened without O_CLOEXEC: a descriptor that gets into a container leads out of it.
  ::posix_spawn_file_actions_addclosefrom_np(&spawn.actions, static_cast<int>(3 + options.extra_fds.size()));
  if (!options.cwd.empty()) ::posix_spawn_file_actions_addchdir_np(&spawn.actions, options.cwd.c_str());
  short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
  if (options.new_session) flags |= POSIX_SPAWN_SETSID;
  ::posix_spawnattr_setflags(&spawn.attributes, flags);
  sigset_t none, all;
  ::sigemptyset(&none);
  ::sigfillset(&all);
  ::posix_spawnattr_setsigmask(&spawn.attributes, &none);
  ::posix_spawnattr_setsigdefault(&spawn.attributes, &all);
  std::vector<char*> argv = CStrings(options.argv), env = CStrings(options.env);
  pid_t pid = -1;
  int error = ::posix_spawnp(&pid, options.argv[0].c_str(), &spawn.actions, &spawn.attributes, argv.data(),
                             options.env.empty() ? environ : env.data());
  if (error != 0) return ErrnoStatus(error, StrCat("start ", options.argv[0]));
  int pidfd = ::pidfd_open(pid, 0);
  KEELSON_CHECK(pidfd >= 0, "pidfd_open of our own child ", pid, ": errno ", errno);
  auto reaper = std::make_shared<Reaper>(io, pid, pidfd);
  reaper->Start();
  return reaper;
}

// One Run(): reads both pipes until the child has exited and they are drained or at EOF. A grandchild that
// keeps a pipe open does not hold the result back.
struct RunState : std::enable_shared_from_this<RunState> {
  explicit RunState(asio::io_context& io) : out(io), err(io), in(io) {}

  void Read(asio::posix::stream_descriptor& pipe, std::string& sink) {
    pipe.async_wait(asio::posix::descriptor_base::wait_read,
                    [self = shared_from_this(), &pipe, &sink](error_code error) {
                      if (error) return;
                      if (self->Drain(pipe, sink)) self->Read(pipe, sink);
                    });
  }

  // Reads until EAGAIN (true: more may come) or EOF (false).
  bool Drain(asio::posix::stream_descriptor& pipe, std::string& sink) {
    char buffer[16384];
    while (pipe.is_open()) {
      ssize_t n = ::read(pipe.native_handle(), buffer, sizeof buffer);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return errno == EAGAIN;
      if (n == 0) return false;
      size_t room = max_output_bytes - std::min(max_output_bytes, sink.size());
      sink.append(buffer, std::min(room, static_cast<size_t>(n)));
    }
    return false;
  }

  void Exited() {
    Drain(out, result.stdout_data);
    Drain(err, result.stderr_data);
    error_code ignored;
    out.close(ignored);
    err.close(ignored);
    in.close(ignored);
    done.Set();
  }

  asio::posix::stream_descriptor out, err, in;
  std::string input;
  size_t max_output_bytes = 0;
  SubprocessResult result;
  bool timed_out = false;
  AsyncEvent done;
};

// Kills the process group when the awaiting coroutine goes away early.
struct KillGuard {
  std::shared_ptr<Reaper> reaper;
  ~KillGuard() {
    if (!reaper->exited.is_set()) ::kill(-reaper->pid, SIGKILL);
  }
};

struct Pipe {
  Fd read_end, write_end;
};

absl::StatusOr<Pipe> MakePipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) return ErrnoStatus(errno, "pipe2");
  return Pipe{Fd(fds[0]), Fd(fds[1])};
}

absl::Status SetNonBlocking(int fd) {
  int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
    return ErrnoStatus(errno, "fcntl O_NONBLOCK");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChildProcess>> RealSubprocess::Spawn(const SpawnOptions& options) {
  ASSIGN_OR_RETURN(auto reaper, StartChild(io_, options));
  return std::make_unique<RealChild>(std::move(reaper));
}

absl::StatusOr<std::unique_ptr<ChildProcess>> RealSubprocess::Adopt(int pid) {
  auto process = OpenProcess(pid);
  if (!process.ok()) return Annotate(process.status(), "adopt");
  auto reaper = std::make_shared<Reaper>(io_, pid, process->release());
  reaper->Start();
  return std::make_unique<RealChild>(std::move(reaper));
}

Task<absl::StatusOr<SubprocessResult>> RealSubprocess::Run(SubprocessOptions options) {
  CO_ASSIGN_OR_RETURN_SYNC(Pipe out, MakePipe());
  CO_ASSIGN_OR_RETURN_SYNC(Pipe err, MakePipe());
  Pipe in;
  if (!options.stdin_data.empty()) {
    CO_ASSIGN_OR_RETURN_SYNC(in, MakePipe());
  }
  SpawnOptions spawn;
  spawn.argv = options.argv;
  spawn.env = options.env;
  spawn.cwd = options.cwd;
  spawn.stdin_fd = in.read_end.get();
  spawn.stdout_fd = out.write_end.get();
  spawn.stderr_fd = err.write_end.get();
  auto started = StartChild(io_, spawn);
  if (!started.ok()) co_return started.status();
  std::shared_ptr<Reaper> reaper = *started;
  KillGuard guard{reaper};
  out.write_end.reset();
  err.write_end.reset();
  in.read_end.reset();
  CO_RETURN_IF_ERROR_SYNC(SetNonBlocking(out.read_end.get()));
  CO_RETURN_IF_ERROR_SYNC(SetNonBlocking(err.read_end.get()));

  auto state = std::make_shared<RunState>(io_);
  state->max_output_bytes = options.max_output_bytes;
  state->out.assign(out.read_end.release());
  state->err.assign(err.read_end.release());
  state->Read(state->out, state->result.stdout_data);
  state->Read(state->err, state->result.stderr_data);
  if (in.write_end.valid()) {
    ::signal(SIGPIPE, SIG_IGN);
    state->input = std::move(options.stdin_data);
    state->in.assign(in.write_end.release());
    asio::async_write(state->in, asio::buffer(state->input), [state](error_code, size_t) {
      error_code ignored;
      state->in.close(ignored);
    });
  }
  reaper->on_exit = [state] { state->Exited(); };
  uint64_t timer = clock_.Schedule(options.timeout, [state, reaper] {
    state->timed_out = true;
    ::kill(-reaper->pid, SIGKILL);
  });
  Task<void> wait = state->done.Wait();
  co_await std::move(wait);
  clock_.CancelTimer(timer);
  if (state->timed_out) {
    co_return absl::DeadlineExceededError(
        StrCat(options.argv[0], ": still running after ", absl::FormatDuration(options.timeout), ", killed"));
  }
  SubprocessResult result = std::move(state->result);
  if (WIFSIGNALED(reaper->status)) {
    result.term_signal = WTERMSIG(reaper->status);
  } else {
    result.exit_code = WEXITSTATUS(reaper->status);
  }
  co_return result;
}

}  // namespace keelson
