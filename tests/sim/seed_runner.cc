#include "tests/sim/seed_runner.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>

namespace keelson::sim {

namespace {

char current_seed[64];
void OnAbort(int) { (void)!::write(2, current_seed, strlen(current_seed)); }

}  // namespace

int64_t Setting(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::atoll(text);
}

void SetUpSeeds(LogLevel level) {
  LogOptions log;
  log.component = "sim";
  log.level = Setting("KEELSON_SIM_LOG", 0) != 0 ? LogLevel::kDebug : level;
  InitLog(log);
  struct sigaction action = {};
  action.sa_handler = OnAbort;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  ::sigaction(SIGABRT, &action, nullptr);
}

const char* NameSeed(uint64_t seed) {
  std::snprintf(current_seed, sizeof(current_seed), "\nreplay with KEELSON_SIM_SEED=%llu\n",
                static_cast<unsigned long long>(seed));
  return current_seed;
}

void PlaySeeds(int default_seconds, uint64_t (*play)(uint64_t seed, bool tell)) {
  if (const int64_t seed = Setting("KEELSON_SIM_SEED", -1); seed >= 0) {
    const uint64_t hash = play(static_cast<uint64_t>(seed), true);
    std::printf("seed %lld: hash %016llx\n", static_cast<long long>(seed),
                static_cast<unsigned long long>(hash));
    return;
  }
  // How long seeds are tried is real time, of which no story knows.
  auto now = [] { return std::chrono::steady_clock::now(); };  // tidy: allow clock: see above
  const auto end = now() + std::chrono::seconds(Setting("KEELSON_SIM_SECONDS", default_seconds));
  const uint64_t first = static_cast<uint64_t>(Setting("KEELSON_SIM_FIRST", 1));
  uint64_t seed = first;
  while (now() < end && !::testing::Test::HasFailure()) play(seed++, false);
  std::printf("seeds %llu to %llu\n", static_cast<unsigned long long>(first),
              static_cast<unsigned long long>(seed - 1));
}

}  // namespace keelson::sim
