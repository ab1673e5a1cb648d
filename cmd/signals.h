// SIGTERM and SIGINT as an event of the loop.
#pragma once

#include "base/env.h"
#include "base/task.h"

namespace keelson {

// Sets `stop` at the first of them. Spawn it into a scope that is closed before `stop` goes away.
Task<void> WatchSignals(Env* env, AsyncEvent* stop);

}  // namespace keelson
