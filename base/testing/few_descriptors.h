// As long as it lives, the process can open only so many descriptors more than it has open: a test of what
// becomes of state on disk when it cannot be read. Descriptors are given out from the lowest free number on.
#pragma once

#include <sys/resource.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"

namespace keelson {

class FewDescriptors {
 public:
  explicit FewDescriptors(int more) {
    Fd first_free(::dup(STDIN_FILENO));
    KEELSON_CHECK(::getrlimit(RLIMIT_NOFILE, &usual_) == 0 && first_free.valid(), "no limit to lower");
    rlimit few = {static_cast<rlim_t>(first_free.get() + more), usual_.rlim_max};
    KEELSON_CHECK(::setrlimit(RLIMIT_NOFILE, &few) == 0, "limit not lowered");
  }
  ~FewDescriptors() { (void)::setrlimit(RLIMIT_NOFILE, &usual_); }
  FewDescriptors(const FewDescriptors&) = delete;
  FewDescriptors& operator=(const FewDescriptors&) = delete;

 private:
  rlimit usual_;
};

}  // namespace keelson
