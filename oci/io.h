// Small waits on descriptors and facts of processes, shared by the runtime driver and the monitor.
#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/env.h"

namespace keelson::oci {

using Descriptor = boost::asio::posix::stream_descriptor;

// Takes the descriptor; made non-blocking.
std::shared_ptr<Descriptor> MakeDescriptor(Env* env, Fd fd);
// One waiter per direction. DeadlineExceeded; Cancelled when the descriptor is closed meanwhile.
Task<absl::Status> WaitReadable(Env* env, std::shared_ptr<Descriptor> descriptor, absl::Duration timeout);
Task<absl::Status> WaitWritable(Env* env, std::shared_ptr<Descriptor> descriptor, absl::Duration timeout);
// Reads up to a newline (left out) or the end of the pipe. ResourceExhausted beyond max_bytes.
Task<absl::StatusOr<std::string>> ReadLine(Env* env, std::shared_ptr<Descriptor> descriptor, size_t max_bytes,
                                           absl::Duration timeout);

// A container's name may become a path component and an argument: letters, digits, '_', '.', '-', not
// starting with '-' or '.', at most kMaxIdBytes.
inline constexpr size_t kMaxIdBytes = 128;
absl::Status CheckId(std::string_view id);

}  // namespace keelson::oci
