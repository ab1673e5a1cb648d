// InParallel: many alike calls with a bound on how many run at once.
#pragma once

#include <absl/status/status.h>

#include <cstddef>
#include <functional>

#include "base/task.h"

namespace keelson {

// Makes the task of one number; called on the loop.
using NumberedWork = std::function<Task<absl::Status>(size_t number)>;

// Runs work(0) .. work(count - 1) in `scope`, at most `limit` at a time and begun in that order. After the
// first error, or when the caller is cancelled, no further one is begun; those under way end by themselves
// (`work` must own what they use). Returns when all have ended: the first error, Cancelled when the scope was
// closed meanwhile.
Task<absl::Status> InParallel(Scope* scope, size_t limit, size_t count, NumberedWork work);

}  // namespace keelson
