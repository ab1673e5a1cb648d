// The socket that NRI plugins connect to. Who can open it can change every container and run programs as root
// (hooks): it is root's alone.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <functional>
#include <memory>
#include <string>

#include "base/env.h"
#include "base/task.h"
#include "net/byte_stream.h"

namespace keelson::net {
class Socket;
}

namespace keelson::cri::nri {

inline constexpr size_t kMaxSocketPathBytes = 107;  // sun_path with its NUL

// An absolute path that a Unix socket can have. InvalidArgument.
absl::Status CheckSocketPath(const std::string& path);

class Listener {
 public:
  // The socket (0600), its folder made where it is missing (0700); one that nobody serves is replaced.
  // AlreadyExists: somebody does; FailedPrecondition: there is something else, or others than root could put
  // a socket of theirs there.
  static absl::StatusOr<std::unique_ptr<Listener>> Open(Env* env, const std::string& path);
  ~Listener();

  // Accepts until cancelled; in a scope that ends before this.
  Task<void> Run(std::function<void(std::unique_ptr<net::ByteStream>)> connected);

 private:
  Listener(Env* env, std::string path, std::shared_ptr<net::Socket> socket)
      : env_(env), path_(std::move(path)), socket_(std::move(socket)) {}

  Env* const env_;
  const std::string path_;
  const std::shared_ptr<net::Socket> socket_;
};

}  // namespace keelson::cri::nri
