// Names and numbers of signals, as images, the CRI and runtimes write them. Pure.
#pragma once

#include <absl/status/statusor.h>

#include <string>
#include <string_view>

#include "cri/proto/runtime/v1/api.pb.h"

namespace keelson::oci {

// "SIGTERM", "term", "15", "SIGRTMIN+3", "RTMAX-1" -> its number on this machine. InvalidArgument otherwise.
absl::StatusOr<int> ParseSignal(std::string_view text);
// 15 -> "SIGTERM"; 37 -> "SIGRTMIN+3".
std::string SignalName(int number);
// SIGNAL_SIGRTMINPLUS3 -> "SIGRTMIN+3"; "" for SIGNAL_RUNTIME_DEFAULT and numbers without a name.
std::string SignalName(::runtime::v1::Signal signal);
// SIGTERM -> SIGNAL_SIGTERM, for ContainerStatus.stop_signal.
::runtime::v1::Signal SignalToCri(int number);

}  // namespace keelson::oci
