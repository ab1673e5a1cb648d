#include "cri/server/oom_ledger.h"

#include <algorithm>

namespace keelson::cri {

namespace {

// A counter of the living may have been read after the slice's.
uint64_t Less(uint64_t from, uint64_t what) { return from - std::min(from, what); }

}  // namespace

void OomLedger::Open(const std::string& slice, uint64_t total, uint64_t living) {
  explained_.try_emplace(slice, Less(total, living));
}

bool OomLedger::Settle(const std::string& slice, uint64_t total, uint64_t living,
                       std::optional<uint64_t> own) {
  auto explained = explained_.find(slice);
  if (explained == explained_.end()) return own.value_or(0) > 0;
  // A slice that was made anew counts from nothing.
  explained->second = std::min(explained->second, total);
  const uint64_t open = Less(Less(total, living), explained->second);
  const uint64_t kills = own.value_or(open);
  explained->second += std::min(kills, open);
  return kills > 0;
}

}  // namespace keelson::cri
