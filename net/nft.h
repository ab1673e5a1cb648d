// Nft: loads nftables scripts through a short-lived `nft -f -` (its memory, 70 MiB for
// 5,000 Services, goes with the child) and watches the kernel's table so that what others remove is put back.
//
// One loop. Touches the one table it is made for, nothing else.
#pragma once

#include <absl/status/status.h>
#include <absl/time/time.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/env.h"

namespace keelson::net {

struct NftOptions {
  std::string table = "keelson";
  std::string family = "ip";                   // of the table: "ip", "ip6" or "inet"
  std::string nft = "nft";                     // looked up in PATH
  absl::Duration timeout = absl::Seconds(30);  // of one load
};

class Nft {
 public:
  Nft(Env& env, NftOptions options);
  ~Nft();  // after Stop()

  // Loads `script` as one transaction: all of it or nothing. Loads queue up.
  // NotFound: there is no nft program. FailedPrecondition: the kernel or nft refused, with its words;
  // PermissionDenied.
  Task<absl::Status> Apply(std::string script);

  // Calls `changed` on the loop, soon after somebody else changed our table (or may have: events were lost).
  absl::Status Watch(std::function<void()> changed);
  Task<void> Stop();

  uint64_t foreign_changes() const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace keelson::net
