// What the tests of random stories share. Environment: KEELSON_SIM_SECONDS, for how long seeds are tried;
// KEELSON_SIM_SEED=N, exactly this one; KEELSON_SIM_FIRST=N, the first; KEELSON_SIM_LOG=1, the log.
#pragma once

#include <cstdint>

#include "base/log.h"

namespace keelson::sim {

int64_t Setting(const char* name, int64_t otherwise);

// Once for each program, before the first seed: its log, at `level` unless KEELSON_SIM_LOG asks for all, and
// a handler by which an abort in the middle of a seed names the seed too.
void SetUpSeeds(LogLevel level);

// From here on it is this one that is played. Returns how to replay it, as a line to print.
const char* NameSeed(uint64_t seed);

// `play` returns the hash of all that happened, and adds a failure to the running test where something did
// not hold. The one seed that the environment asks for, telling each step, or one after the other until the
// time is over or one fails.
void PlaySeeds(int default_seconds, uint64_t (*play)(uint64_t seed, bool tell));

}  // namespace keelson::sim
