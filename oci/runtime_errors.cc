#include "oci/runtime_errors.h"

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>

#include <optional>
#include <utility>
#include <vector>

#include "base/strings.h"

namespace keelson::oci {
namespace {

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

void AppendUtf8(std::string* out, unsigned code) {
  if (code < 0x80) {
    out->push_back(static_cast<char>(code));
  } else if (code < 0x800) {
    out->push_back(static_cast<char>(0xc0 | code >> 6));
    out->push_back(static_cast<char>(0x80 | (code & 0x3f)));
  } else {
    out->push_back(static_cast<char>(0xe0 | code >> 12));
    out->push_back(static_cast<char>(0x80 | (code >> 6 & 0x3f)));
    out->push_back(static_cast<char>(0x80 | (code & 0x3f)));
  }
}

// Reads a quoted string (JSON's and Go's %q agree on what occurs here) that starts after the opening quote;
// moves `text` behind the closing one. Without a closing quote: all of it.
std::string Unquote(std::string_view* text) {
  std::string out;
  size_t i = 0;
  for (; i < text->size() && (*text)[i] != '"'; ++i) {
    char c = (*text)[i];
    if (c != '\\' || i + 1 == text->size()) {
      out.push_back(c);
      continue;
    }
    c = (*text)[++i];
    size_t digits = c == 'u' ? 4 : c == 'x' ? 2 : 0;
    uint32_t code = 0;
    if (digits != 0 && i + digits < text->size() &&
        absl::SimpleHexAtoi(Av(text->substr(i + 1, digits)), &code)) {
      AppendUtf8(&out, code);
      i += digits;
    } else if (c == 'n') {
      out.push_back('\n');
    } else if (c == 't') {
      out.push_back('\t');
    } else if (c == 'r') {
      out.push_back('\r');
    } else {
      out.push_back(c);
    }
  }
  *text = text->substr(std::min(i + 1, text->size()));
  return out;
}

// The value of `key` in a logrus text line or a JSON log line; nullopt when it has none.
std::optional<std::string> Field(std::string_view line, std::string_view key) {
  if (!line.empty() && line.front() == '{') {
    std::string name = StrCat("\"", key, "\"");
    size_t at = line.find(name);
    if (at == std::string_view::npos) return std::nullopt;
    size_t quote = line.find('"', at + name.size());
    if (quote == std::string_view::npos) return std::nullopt;
    line.remove_prefix(quote + 1);
    return Unquote(&line);
  }
  std::string name = StrCat(key, "=");
  size_t at = line.find(name);
  if (at == std::string_view::npos || (at != 0 && line[at - 1] != ' ')) return std::nullopt;
  line.remove_prefix(at + name.size());
  if (!line.empty() && line.front() == '"') {
    line.remove_prefix(1);
    return Unquote(&line);
  }
  return std::string(line.substr(0, line.find(' ')));
}

bool ConsumePrefix(std::string_view* text, std::string_view prefix) {
  if (text->substr(0, prefix.size()) != prefix) return false;
  text->remove_prefix(prefix.size());
  return true;
}

// "nsexec[25778]: " and "container_linux.go:380: ", which say where in runc, not what.
void ConsumeOrigin(std::string_view* text) {
  size_t colon = text->find(": ");
  if (colon == std::string_view::npos) return;
  std::string_view head = text->substr(0, colon);
  size_t file = head.find(".go:");
  bool origin = (ConsumePrefix(&head, "nsexec") && !head.empty() && head.front() == '[') ||
                (file != std::string_view::npos && head.find(' ') == std::string_view::npos);
  if (origin) text->remove_prefix(colon + 2);
}

std::string StripLayers(std::string_view text) {
  static constexpr std::string_view kLayers[] = {
      "runc create failed: ",
      "runc run failed: ",
      "exec failed: ",
      "unable to start container process: ",
      "starting container process caused: ",
      "process_linux.go: ",
      "error during container init: ",
  };
  for (bool again = true; again;) {
    again = false;
    size_t before = text.size();
    ConsumeOrigin(&text);
    for (std::string_view layer : kLayers) ConsumePrefix(&text, layer);
    again = text.size() != before;
  }
  return std::string(text);
}

// Text between the first `open` and the next `close`.
std::string Between(std::string_view text, char open, char close) {
  size_t begin = text.find(open);
  if (begin == std::string_view::npos) return "";
  size_t end = text.find(close, begin + 1);
  if (end == std::string_view::npos) return "";
  return std::string(text.substr(begin + 1, end - begin - 1));
}

std::string LastPart(std::string_view text) {
  size_t colon = text.rfind(": ");
  std::string part(colon == std::string_view::npos ? text : text.substr(colon + 2));
  absl::AsciiStrToLower(&part);
  return part;
}

struct Explained {
  absl::StatusCode code;
  std::string message;
};

// A program or working directory that is not there, in runc's words whoever said it.
std::optional<Explained> ExplainProgram(std::string_view cause) {
  const auto kInvalid = absl::StatusCode::kInvalidArgument;
  if (cause.substr(0, 6) == "exec: ") {  // runc: exec: "/nope": stat /nope: no such file or directory
    std::string program = Between(cause, '"', '"');
    if (program.empty()) {
      // crun: a script whose interpreter is missing, or no program at all
      return Explained{kInvalid, StrCat("exec: ", LastPart(cause))};
    }
    if (Contains(cause, "executable file not found")) return Explained{kInvalid, std::string(cause)};
    return Explained{kInvalid, StrCat("exec: \"", program, "\": ", LastPart(cause))};
  }
  if (cause.substr(0, 17) == "executable file `" && Contains(cause, "not found")) {  // crun
    std::string program = Between(cause, '`', '`');
    return Explained{kInvalid, Contains(program, "/")
                                   ? StrCat("exec: \"", program, "\": ", LastPart(cause))
                                   : StrCat("exec: \"", program, "\": executable file not found in $PATH")};
  }
  if (cause.substr(0, 15) == "open executable" || cause.substr(0, 15) == "exec the contai") {
    return Explained{kInvalid, StrCat("exec: ", LastPart(cause))};
  }
  if (cause.substr(0, 9) == "chdir to ") {  // runc: chdir to cwd ("/nodir") set in config.json failed: ...
    return Explained{kInvalid,
                     StrCat("working directory \"", Between(cause, '"', '"'), "\": ", LastPart(cause))};
  }
  if (cause.substr(0, 7) == "chdir `") {
    return Explained{kInvalid,
                     StrCat("working directory \"", Between(cause, '`', '`'), "\": ", LastPart(cause))};
  }
  if (cause.substr(0, 6) == "mkdir " && Contains(cause, "/proc/self/fd/")) {
    // A working directory that names a descriptor (CVE-2024-21626).
    std::string_view path = cause.substr(6, cause.rfind(": ") - 6);
    return Explained{kInvalid, StrCat("working directory \"", path, "\": ", LastPart(cause))};
  }
  return std::nullopt;
}

Explained Explain(std::string_view command, std::string_view cause) {
  using absl::StatusCode;
  if (auto program = ExplainProgram(cause)) return *program;
  if (Contains(cause, "container does not exist") ||
      (Contains(cause, "/status`: No such file or directory") && Contains(cause, "error opening file")) ||
      (Contains(cause, "cannot open directory") && Contains(cause, "No such file or directory"))) {
    return {StatusCode::kNotFound, "no such container"};
  }
  if (command == "kill") {
    if (Contains(cause, "container not running") || Contains(cause, "No such process") ||
        Contains(cause, "process already finished") || Contains(cause, "no such process")) {
      return {StatusCode::kNotFound, "the container has ended"};
    }
    if (Contains(cause, "nvalid argument") || Contains(cause, "unknown signal") ||
        Contains(cause, "invalid signal")) {
      return {StatusCode::kInvalidArgument, "no such signal"};
    }
  }
  if (Contains(cause, "already exists")) return {StatusCode::kAlreadyExists, "the container exists already"};
  if (Contains(cause, "already running") || Contains(cause, "exec.fifo`: No such file or directory")) {
    return {StatusCode::kFailedPrecondition, "the container was started before"};
  }
  if (Contains(cause, "has stopped") || Contains(cause, "stopped container") ||
      Contains(cause, "container not running") || Contains(cause, "is not running") ||
      (command == "exec" && Contains(cause, "setns") && Contains(cause, "No such process"))) {
    return {StatusCode::kFailedPrecondition, "the container does not run"};
  }
  if (Contains(cause, "in a paused container") || Contains(cause, "is paused")) {
    return {StatusCode::kFailedPrecondition, "the container is paused"};
  }
  if (Contains(cause, "container not paused")) {
    return {StatusCode::kFailedPrecondition, "the container is not paused"};
  }
  if (Contains(cause, "that is not stopped") || Contains(cause, "is not in `created` or `stopped` state")) {
    return {StatusCode::kFailedPrecondition, "the container still runs"};
  }
  if (Contains(cause, "unable to set memory limit") ||
      (Contains(cause, "memory.") && Contains(cause, "Device or resource busy"))) {
    return {StatusCode::kFailedPrecondition,
            StrCat("the memory limit is below what the container uses: ", cause)};
  }
  if (Contains(cause, "oom_score_adj")) {
    return {StatusCode::kPermissionDenied,
            StrCat("a lower oom_score_adj than the server's needs CAP_SYS_RESOURCE: ", cause)};
  }
  if (Contains(cause, "hybrid mode not supported")) {
    return {StatusCode::kFailedPrecondition,
            StrCat("this runtime wants a mount namespace without the unified cgroup hierarchy: ", cause)};
  }
  return {StatusCode::kInternal, cause.empty() ? "failed without a message" : std::string(cause)};
}

}  // namespace

std::string RuntimeMessage(std::string_view output) {
  std::vector<std::string> errors, plain;
  std::optional<std::string> fatal;
  for (absl::string_view raw : absl::StrSplit(Av(output), '\n')) {
    std::string_view line = Sv(absl::StripAsciiWhitespace(raw));
    if (line.empty()) continue;
    std::optional<std::string> level = Field(line, "level");
    std::optional<std::string> message = Field(line, "msg");
    if (!level || !message) {
      plain.push_back(StripLayers(line));
    } else if (*level == "fatal") {
      // Of runc's C part: the cause; what Go says afterwards only follows from it.
      if (!fatal) fatal = StripLayers(*message);
    } else if (*level == "error") {
      errors.push_back(StripLayers(*message));
    }
  }
  std::string out;
  if (fatal) {
    out = *fatal;
  } else if (!errors.empty()) {
    out = errors.back();
  } else {
    for (const std::string& line : plain) {
      StrAppend(&out, out.empty() ? "" : "; ", line);
      if (out.size() > kMaxRuntimeMessageBytes) break;
    }
  }
  if (out.size() > kMaxRuntimeMessageBytes) out.resize(kMaxRuntimeMessageBytes);
  return out;
}

absl::Status RuntimeError(std::string_view runtime, std::string_view command, std::string_view id,
                          std::string_view output) {
  Explained explained = Explain(command, RuntimeMessage(output));
  return absl::Status(explained.code, StrCat(runtime, " ", command, " ", id, ": ", explained.message));
}

absl::StatusOr<SyncMessage> ParseSyncMessage(std::string_view line) {
  if (line.size() > kMaxSyncMessageBytes) {
    return absl::ResourceExhaustedError(
        StrCat("monitor's answer: more than ", kMaxSyncMessageBytes, " bytes"));
  }
  SyncMessage out;
  bool found = false;
  // "pid" is what a monitor of API version 0 writes.
  for (std::string_view key : {"{\"data\":", "{\"pid\":"}) {
    size_t at = line.find(key);
    if (at == std::string_view::npos) continue;
    std::string_view rest = Sv(absl::StripLeadingAsciiWhitespace(Av(line.substr(at + key.size()))));
    size_t end = rest.find_first_not_of("-0123456789");
    found = absl::SimpleAtoi(Av(rest.substr(0, end)), &out.value);
    break;
  }
  if (!found) return absl::InternalError("monitor's answer: neither a process nor an error");
  size_t message = line.find("\"message\":");
  if (message != std::string_view::npos) {
    size_t quote = line.find('"', message + sizeof("\"message\":") - 1);
    if (quote != std::string_view::npos) {
      line.remove_prefix(quote + 1);
      out.message = Unquote(&line);
    }
  }
  return out;
}

std::string CriuCause(std::string_view log) {
  constexpr size_t kMaxCauseBytes = 300;
  for (absl::string_view line : absl::StrSplit(Av(log), '\n')) {
    size_t at = line.find("Error (");
    if (at == absl::string_view::npos) continue;
    size_t text = line.find("): ", at);
    return std::string(
        line.substr(text == absl::string_view::npos ? at : text + 3).substr(0, kMaxCauseBytes));
  }
  return std::string(log.substr(0, kMaxCauseBytes));
}

}  // namespace keelson::oci
