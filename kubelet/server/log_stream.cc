#include "kubelet/server/log_stream.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cerrno>
#include <utility>

#include "base/status.h"
#include "base/strings.h"

namespace keelson::kubelet {
namespace {

absl::StatusOr<size_t> ReadAt(int fd, char* buffer, size_t size, int64_t offset) {
  while (true) {
    ssize_t n = ::pread(fd, buffer, size, offset);
    if (n >= 0) return static_cast<size_t>(n);
    if (errno != EINTR) return ErrnoStatus(errno, "read log");
  }
}

// Wakes when something happens in the file's folder, or after kLogFollowInterval. Without inotify: the latter
// alone.
class FolderWatch {
 public:
  FolderWatch(Env& env, const std::string& path)
      : env_(env), state_(std::make_shared<State>(env.executor())) {
    Fd fd(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
    if (!fd.valid()) return;
    std::string folder = path.substr(0, path.rfind('/'));
    if (::inotify_add_watch(fd.get(), folder.c_str(), IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0) return;
    state_->descriptor.assign(fd.release());
    Arm(state_);
  }
  ~FolderWatch() {
    boost::system::error_code ignored;
    state_->descriptor.close(ignored);
  }

  Task<void> Wait() {
    std::shared_ptr<State> state = state_;
    uint64_t timer = env_.clock().Schedule(kLogFollowInterval, [state] { state->event.Set(); });
    Task<void> wait = state->event.Wait();
    co_await std::move(wait);
    state->event.Reset();
    env_.clock().CancelTimer(timer);
  }

 private:
  struct State {
    explicit State(Executor executor) : descriptor(executor) {}
    boost::asio::posix::basic_stream_descriptor<Executor> descriptor;
    AsyncEvent event;
  };
  static void Arm(std::shared_ptr<State> state) {
    auto& descriptor = state->descriptor;
    descriptor.async_wait(boost::asio::posix::descriptor_base::wait_read,
                          [state](boost::system::error_code error) {
                            if (error || !state->descriptor.is_open()) return;
                            char events[4096];
                            while (::read(state->descriptor.native_handle(), events, sizeof events) > 0) {
                            }
                            state->event.Set();
                            Arm(state);
                          });
  }

  Env& env_;
  std::shared_ptr<State> state_;
};

// The file at `path` is another than the one open: it was rotated.
absl::StatusOr<Fd> OpenIfRotated(const std::string& path, int current) {
  struct stat open_st, path_st;
  if (::fstat(current, &open_st) != 0 || ::stat(path.c_str(), &path_st) != 0) return Fd();
  if (open_st.st_ino == path_st.st_ino && open_st.st_dev == path_st.st_dev) return Fd();
  return OpenFile(path, O_RDONLY | O_NONBLOCK);
}

// Everything from *offset to the end of the file.
Task<absl::Status> SendRest(int fd, int64_t* offset, LogFilter* filter, net::ResponseWriter* writer) {
  std::string buffer(kLogPieceBytes, '\0');
  while (!filter->done()) {
    CO_ASSIGN_OR_RETURN_SYNC(size_t size, ReadAt(fd, buffer.data(), buffer.size(), *offset));
    if (size == 0) break;
    *offset += static_cast<int64_t>(size);
    std::string out = filter->Feed(std::string_view(buffer.data(), size));
    if (out.empty()) continue;
    Task<absl::Status> write = writer->Write(net::MakeSharedBytes(std::move(out)));
    absl::Status written = co_await std::move(write);
    if (!written.ok()) co_return written;
  }
  co_return absl::OkStatus();
}

Task<absl::Status> SendEnd(LogFilter* filter, net::ResponseWriter* writer) {
  std::string out = filter->Finish();
  if (out.empty()) co_return absl::OkStatus();
  Task<absl::Status> write = writer->Write(net::MakeSharedBytes(std::move(out)));
  co_return co_await std::move(write);
}

Task<absl::Status> Follow(Env* env, std::string path, Fd fd, int64_t offset, LogFilter* filter,
                          StillRunning running, net::ResponseWriter* writer) {
  FolderWatch watch(*env, path);
  while (!filter->done()) {
    Task<bool> ask = running();
    bool alive = co_await std::move(ask);
    // Read after asking: what the container wrote before its end is in the file by then.
    Task<absl::Status> send = SendRest(fd.get(), &offset, filter, writer);
    absl::Status sent = co_await std::move(send);
    if (!sent.ok()) co_return sent;
    absl::StatusOr<Fd> rotated = OpenIfRotated(path, fd.get());
    if (!rotated.ok() && !absl::IsNotFound(rotated.status())) co_return rotated.status();
    if (rotated.ok() && rotated->valid()) {
      // What came between the last read and the rename is still in the old file.
      Task<absl::Status> last = SendRest(fd.get(), &offset, filter, writer);
      absl::Status done = co_await std::move(last);
      if (!done.ok()) co_return done;
      fd = *std::move(rotated);
      offset = 0;
      continue;
    }
    if (!alive) break;
    Task<void> wait = watch.Wait();
    co_await std::move(wait);
  }
  Task<absl::Status> end = SendEnd(filter, writer);
  co_return co_await std::move(end);
}

}  // namespace

absl::StatusOr<int64_t> TailOffset(int fd, int64_t size, int64_t lines) {
  if (lines <= 0) return size;
  std::string buffer(kLogPieceBytes, '\0');
  int64_t found = 0;
  int64_t end = size;
  bool last_byte = true;  // the line end that closes the last line is not a start
  while (end > 0) {
    int64_t begin = std::max<int64_t>(0, end - static_cast<int64_t>(buffer.size()));
    ASSIGN_OR_RETURN(size_t got, ReadAt(fd, buffer.data(), static_cast<size_t>(end - begin), begin));
    for (int64_t i = static_cast<int64_t>(got) - 1; i >= 0; --i) {
      bool skip = std::exchange(last_byte, false);
      if (buffer[static_cast<size_t>(i)] != '\n' || skip) continue;
      if (++found == lines) return begin + i + 1;
    }
    end = begin;
  }
  return 0;
}

Task<absl::Status> StreamLog(Env& env, std::string path, LogRequest request, StillRunning running,
                             net::ResponseWriter& writer) {
  absl::StatusOr<Fd> fd = OpenFile(path, O_RDONLY | O_NONBLOCK);
  if (!fd.ok()) co_return Annotate(fd.status(), "failed to open log file");
  struct stat st;
  if (::fstat(fd->get(), &st) != 0) co_return ErrnoStatus(errno, StrCat("stat ", path));
  if (!S_ISREG(st.st_mode)) co_return absl::FailedPreconditionError(StrCat(path, " is no regular file"));
  int64_t offset = 0;
  if (request.tail_lines.has_value()) {
    CO_ASSIGN_OR_RETURN_SYNC(offset, TailOffset(fd->get(), st.st_size, *request.tail_lines));
  }
  net::HttpHeaders headers;
  headers.Add("Content-Type", "text/plain");
  Task<absl::Status> start = writer.StartStream(200, std::move(headers));
  absl::Status started = co_await std::move(start);
  if (!started.ok()) co_return absl::OkStatus();  // the client is gone
  LogFilter filter(request);
  absl::Status status;
  if (request.follow) {
    Task<absl::Status> follow =
        Follow(&env, path, *std::move(fd), offset, &filter, std::move(running), &writer);
    status = co_await std::move(follow);
  } else {
    Task<absl::Status> send = SendRest(fd->get(), &offset, &filter, &writer);
    status = co_await std::move(send);
    if (status.ok()) {
      Task<absl::Status> end = SendEnd(&filter, &writer);
      status = co_await std::move(end);
    }
  }
  if (!status.ok()) writer.Abort();
  co_return absl::OkStatus();
}

}  // namespace keelson::kubelet
