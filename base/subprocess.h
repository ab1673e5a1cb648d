// Subprocess on posix_spawn and pidfds.
#pragma once

#include <boost/asio/io_context.hpp>

#include "base/env.h"

namespace keelson {

class RealSubprocess : public Subprocess {
 public:
  RealSubprocess(boost::asio::io_context& io, Clock& clock) : io_(io), clock_(clock) {}
  Task<absl::StatusOr<SubprocessResult>> Run(SubprocessOptions options) override;
  absl::StatusOr<std::unique_ptr<ChildProcess>> Spawn(const SpawnOptions& options) override;
  absl::StatusOr<std::unique_ptr<ChildProcess>> Adopt(int pid) override;

 private:
  boost::asio::io_context& io_;
  Clock& clock_;
};

}  // namespace keelson
