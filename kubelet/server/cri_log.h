// The log format of CRI runtimes, and which of its lines a client asked for. Pure; the bytes are a
// container's.
//   2016-10-06T00:17:09.669794202Z stdout F the message
//   2016-10-06T00:17:09.669794202Z stderr P a part, the next line goes on
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace keelson::kubelet {

inline constexpr size_t kMaxLogLineBytes = 256
                                           << 10;  // runtimes cut at 16 KiB; a longer line is shown in pieces

struct CriLogLine {
  std::string_view timestamp;  // as written
  absl::Time time;
  bool is_stderr = false;
  bool partial = false;
  std::string_view message;  // without line end
};
// `line` without its '\n'. InvalidArgument for what is not of this form.
absl::StatusOr<CriLogLine> ParseCriLogLine(std::string_view line);

// PodLogOptions as far as they concern the node.
struct LogRequest {
  bool follow = false, previous = false, timestamps = false;
  std::optional<int64_t> tail_lines, limit_bytes;
  std::optional<absl::Time> since;
  bool want_stdout = true, want_stderr = true;
};

// Turns raw bytes of a log file into what the client gets. Fed piece by piece.
class LogFilter {
 public:
  explicit LogFilter(LogRequest request) : request_(std::move(request)) {}
  // Output for `bytes`, which go on where the last ones ended. Lines that do not parse are shown as they are.
  std::string Feed(std::string_view bytes);
  // What is left of a last line without end (the writer died).
  std::string Finish();
  // A rotated file begins: what was left of the old one is dropped in favour of Finish().
  bool done() const { return done_; }  // limitBytes is used up

 private:
  void Line(std::string_view line, std::string* out);
  void Cap(std::string* out);

  LogRequest request_;
  std::string rest_;         // start of a line
  bool in_partial_ = false;  // the last line was a part: no timestamp before the next
  bool done_ = false;
  int64_t sent_bytes_ = 0;
};

}  // namespace keelson::kubelet
