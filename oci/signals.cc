#include "oci/signals.h"

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/strip.h>

#include <csignal>
#include <utility>

#include "base/status.h"

namespace keelson::oci {
namespace {

// The C library keeps 32 and 33 for itself; a program's first real-time signal is this one.
constexpr int kRtMin = 34, kRtMax = 64;

constexpr std::pair<std::string_view, int> kSignals[] = {
    {"ABRT", SIGABRT},
    {"ALRM", SIGALRM},
    {"BUS", SIGBUS},
    {"CHLD", SIGCHLD},
    {"CONT", SIGCONT},
    {"FPE", SIGFPE},
    {"HUP", SIGHUP},
    {"ILL", SIGILL},
    {"INT", SIGINT},
    {"IO", SIGIO},
    {"KILL", SIGKILL},
    {"PIPE", SIGPIPE},
    {"PROF", SIGPROF},
    {"PWR", SIGPWR},
    {"QUIT", SIGQUIT},
    {"SEGV", SIGSEGV},
    {"STOP", SIGSTOP},
    {"SYS", SIGSYS},
    {"TERM", SIGTERM},
    {"TRAP", SIGTRAP},
    {"TSTP", SIGTSTP},
    {"TTIN", SIGTTIN},
    {"TTOU", SIGTTOU},
    {"URG", SIGURG},
    {"USR1", SIGUSR1},
    {"USR2", SIGUSR2},
    {"XCPU", SIGXCPU},
    {"XFSZ", SIGXFSZ},
    {"VTALRM", SIGVTALRM},
    {"WINCH", SIGWINCH},
#ifdef SIGSTKFLT
    {"STKFLT", SIGSTKFLT},
#endif
    // Other names of the same numbers, after the usual ones.
    {"CLD", SIGCHLD},
    {"IOT", SIGABRT},
    {"POLL", SIGIO},
};

// "+3" of "RTMIN+3"; 0 for "".
bool ParseOffset(absl::string_view text, char sign, int* offset) {
  *offset = 0;
  if (text.empty()) return true;
  return text.size() > 1 && text[0] == sign && absl::ascii_isdigit(text[1]) &&
         absl::SimpleAtoi(text.substr(1), offset) && *offset <= kRtMax - kRtMin;
}

}  // namespace

absl::StatusOr<int> ParseSignal(std::string_view text) {
  const absl::Status unknown = absl::InvalidArgumentError(StrCat("unknown signal \"", text, "\""));
  int number = 0;
  if (!text.empty() && absl::ascii_isdigit(text[0])) {
    if (!absl::SimpleAtoi(Av(text), &number) || number < 1 || number > kRtMax) return unknown;
    return number;
  }
  const std::string upper = absl::AsciiStrToUpper(Av(text));
  absl::string_view name = absl::StripPrefix(upper, "SIG");
  for (const auto& [known, value] : kSignals) {
    if (Sv(name) == known) return value;
  }
  int offset = 0;
  if (absl::ConsumePrefix(&name, "RTMIN") && ParseOffset(name, '+', &offset)) return kRtMin + offset;
  name = absl::StripPrefix(upper, "SIG");
  if (absl::ConsumePrefix(&name, "RTMAX") && ParseOffset(name, '-', &offset)) return kRtMax - offset;
  return unknown;
}

std::string SignalName(int number) {
  for (const auto& [name, value] : kSignals) {
    if (value == number) return StrCat("SIG", name);
  }
  if (number == kRtMin) return "SIGRTMIN";
  if (number == kRtMax) return "SIGRTMAX";
  if (number > kRtMin && number <= kRtMin + (kRtMax - kRtMin) / 2) {
    return StrCat("SIGRTMIN+", number - kRtMin);
  }
  if (number > kRtMin && number < kRtMax) return StrCat("SIGRTMAX-", kRtMax - number);
  return std::to_string(number);
}

std::string SignalName(::runtime::v1::Signal signal) {
  if (signal == ::runtime::v1::SIGNAL_RUNTIME_DEFAULT || !::runtime::v1::Signal_IsValid(signal)) return "";
  const std::string& enum_name = ::runtime::v1::Signal_Name(signal);
  absl::string_view name = absl::StripPrefix(enum_name, "SIGNAL_");
  if (absl::ConsumePrefix(&name, "SIGRTMINPLUS")) return absl::StrCat("SIGRTMIN+", name);
  if (absl::ConsumePrefix(&name, "SIGRTMAXMINUS")) return absl::StrCat("SIGRTMAX-", name);
  return std::string(name);
}

::runtime::v1::Signal SignalToCri(int number) {
  for (int i = ::runtime::v1::Signal_MIN; i <= ::runtime::v1::Signal_MAX; ++i) {
    const auto signal = static_cast<::runtime::v1::Signal>(i);
    const std::string name = SignalName(signal);
    if (name.empty()) continue;
    if (name == SignalName(number)) return signal;
  }
  return ::runtime::v1::SIGNAL_RUNTIME_DEFAULT;
}

}  // namespace keelson::oci
