#include "oci/io.h"

#include <absl/strings/ascii.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "base/status.h"

namespace keelson::oci {

using boost::system::error_code;

namespace {

struct WaitState {
  AsyncEvent done;
  bool timed_out = false;
  error_code error;
};

// Ends the wait when the coroutine goes on or away.
struct WaitGuard {
  Env* env;
  std::shared_ptr<Descriptor> descriptor;
  uint64_t timer = 0;
  bool pending = true;
  ~WaitGuard() {
    if (timer != 0) env->clock().CancelTimer(timer);
    error_code ignored;
    if (pending) descriptor->cancel(ignored);
  }
};

Task<absl::Status> WaitFor(Env* env, std::shared_ptr<Descriptor> descriptor, Descriptor::wait_type type,
                           absl::Duration timeout) {
  auto state = std::make_shared<WaitState>();
  descriptor->async_wait(type, [state, descriptor](error_code error) {
    state->error = error;
    state->done.Set();
  });
  WaitGuard guard{env, descriptor};
  if (timeout < absl::InfiniteDuration()) {
    guard.timer = env->clock().Schedule(timeout, [state] {
      state->timed_out = true;
      state->done.Set();
    });
  }
  Task<void> wait = state->done.Wait();
  co_await std::move(wait);
  guard.pending = state->timed_out;
  if (state->timed_out) {
    co_return absl::DeadlineExceededError(StrCat("nothing came in ", absl::FormatDuration(timeout)));
  }
  if (state->error) co_return absl::CancelledError(state->error.message());
  co_return absl::OkStatus();
}

}  // namespace

std::shared_ptr<Descriptor> MakeDescriptor(Env* env, Fd fd) {
  ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) | O_NONBLOCK);
  return std::make_shared<Descriptor>(env->executor(), fd.release());
}

Task<absl::Status> WaitReadable(Env* env, std::shared_ptr<Descriptor> descriptor, absl::Duration timeout) {
  return WaitFor(env, std::move(descriptor), Descriptor::wait_read, timeout);
}

Task<absl::Status> WaitWritable(Env* env, std::shared_ptr<Descriptor> descriptor, absl::Duration timeout) {
  return WaitFor(env, std::move(descriptor), Descriptor::wait_write, timeout);
}

Task<absl::StatusOr<std::string>> ReadLine(Env* env, std::shared_ptr<Descriptor> descriptor, size_t max_bytes,
                                           absl::Duration timeout) {
  std::string out;
  absl::Duration deadline = env->clock().Monotonic() + timeout;
  char buffer[4096];
  while (true) {
    ssize_t n = ::read(descriptor->native_handle(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno != EAGAIN) co_return ErrnoStatus(errno, "read");
    if (n == 0) co_return out;
    if (n > 0) {
      std::string_view got(buffer, static_cast<size_t>(n));
      size_t newline = got.find('\n');
      out.append(got.substr(0, newline));
      if (out.size() > max_bytes) {
        co_return absl::ResourceExhaustedError(StrCat("a line of more than ", max_bytes, " bytes"));
      }
      if (newline != std::string_view::npos) co_return out;
      continue;
    }
    CO_RETURN_IF_ERROR(WaitReadable(env, descriptor, deadline - env->clock().Monotonic()));
  }
}

absl::Status CheckId(std::string_view id) {
  bool good = !id.empty() && id.size() <= kMaxIdBytes && id.front() != '-' && id.front() != '.';
  for (char c : id)
    good = good && (absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.' || c == '-');
  if (!good) return absl::InvalidArgumentError(StrCat("container id \"", id, "\": not a plain name"));
  return absl::OkStatus();
}

}  // namespace keelson::oci
