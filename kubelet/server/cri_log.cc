#include "kubelet/server/cri_log.h"

#include <algorithm>

#include "api/time.h"
#include "base/strings.h"

namespace keelson::kubelet {
namespace {

constexpr size_t kMaxTimestampBytes = 64;

// Up to the next space; false at the end of the text.
bool Cut(std::string_view* text, std::string_view* word) {
  size_t space = text->find(' ');
  if (space == std::string_view::npos) return false;
  *word = text->substr(0, space);
  text->remove_prefix(space + 1);
  return true;
}

}  // namespace

absl::StatusOr<CriLogLine> ParseCriLogLine(std::string_view line) {
  CriLogLine out;
  std::string_view stream, tags;
  if (!Cut(&line, &out.timestamp) || out.timestamp.size() > kMaxTimestampBytes) {
    return absl::InvalidArgumentError("log line: no timestamp");
  }
  auto time = api::ParseRfc3339(out.timestamp);
  if (!time.ok()) return absl::InvalidArgumentError("log line: timestamp is not RFC 3339");
  out.time = *time;
  if (!Cut(&line, &stream)) return absl::InvalidArgumentError("log line: no stream");
  if (stream != "stdout" && stream != "stderr")
    return absl::InvalidArgumentError("log line: stream is neither stdout nor stderr");
  out.is_stderr = stream == "stderr";
  // An empty message may come without the space after its tag.
  if (!Cut(&line, &tags)) {
    tags = line;
    line = {};
  }
  std::string_view first = tags.substr(0, tags.find(':'));
  if (first != "F" && first != "P") return absl::InvalidArgumentError("log line: tag is neither F nor P");
  out.partial = first == "P";
  out.message = line;
  return out;
}

std::string LogFilter::Feed(std::string_view bytes) {
  std::string out;
  while (!done_) {
    size_t end = bytes.find('\n');
    if (end == std::string_view::npos) break;
    if (rest_.empty()) {
      Line(bytes.substr(0, end), &out);
    } else {
      rest_.append(bytes.substr(0, end));
      std::string line;
      line.swap(rest_);
      Line(line, &out);
    }
    bytes.remove_prefix(end + 1);
  }
  rest_.append(bytes);
  if (rest_.size() > kMaxLogLineBytes && !done_) {
    std::string line;
    line.swap(rest_);
    Line(line, &out);
  }
  Cap(&out);
  return out;
}

std::string LogFilter::Finish() {
  std::string out, line;
  line.swap(rest_);
  if (!line.empty() && !done_) Line(line, &out);
  in_partial_ = false;
  Cap(&out);
  return out;
}

void LogFilter::Line(std::string_view line, std::string* out) {
  auto parsed = ParseCriLogLine(line);
  if (!parsed.ok()) {
    // Not ours to judge: a runtime of another format, or a torn write after a power loss.
    StrAppend(out, line, "\n");
    return;
  }
  bool continues = in_partial_;
  in_partial_ = parsed->partial;
  if (parsed->is_stderr ? !request_.want_stderr : !request_.want_stdout) return;
  if (request_.since.has_value() && parsed->time < *request_.since) return;
  if (request_.timestamps && !continues) StrAppend(out, parsed->timestamp, " ");
  StrAppend(out, parsed->message, parsed->partial ? "" : "\n");
}

void LogFilter::Cap(std::string* out) {
  if (!request_.limit_bytes.has_value()) return;
  int64_t left = std::max<int64_t>(0, *request_.limit_bytes - sent_bytes_);
  if (static_cast<int64_t>(out->size()) >= left) {
    out->resize(static_cast<size_t>(left));
    done_ = true;
  }
  sent_bytes_ += static_cast<int64_t>(out->size());
}

}  // namespace keelson::kubelet
