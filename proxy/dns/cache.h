// AnswerCache: what the resolvers outside said, kept as long as they allow and never longer than
// kMaxCached_s. Sources: RFC 1035, 2308 (negative answers), 2181 section 8 (TTLs), 8767 is not followed
// (nothing stale).
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/time/time.h>

#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <string>
#include <string_view>

namespace keelson::proxy::dns {

inline constexpr uint32_t kMaxCached_s = 30;          // a change outside is seen after that
inline constexpr uint32_t kMaxCachedNegative_s = 10;  // a name that does not exist yet
inline constexpr size_t kMaxCacheEntries = 4096;
inline constexpr size_t kMaxCacheBytes = 4 << 20;  // keys and answers

// Two queries with the same key get the same answer, but for id and the case of the name: everything in them
// counts, flags and EDNS too. "" when `query` is not one sound question.
std::string QueryKey(std::string_view query, bool tcp);

// How long the answer may be kept, in seconds; 0: not at all. Only complete answers count, and denials that
// carry the SOA that says for how long. Pure and total.
uint32_t CacheableFor(std::string_view answer);

// The answer with each TTL lowered by `age_s`, not below 1. False (and `answer` unchanged) when it does not
// parse.
bool LowerTtls(std::string* answer, uint32_t age_s);

// Puts id and question of `query` into an answer to a query with the same key: a client that mixes cases to
// be harder to deceive compares them.
void AddressTo(std::string_view query, std::string* answer);

class AnswerCache {
 public:
  // `now`: monotonic.
  std::optional<std::string> Get(const std::string& key, absl::Duration now);
  // Keeps it if it may be kept; what was used longest ago makes room.
  void Put(const std::string& key, const std::string& answer, absl::Duration now);
  void Clear();
  size_t entries() const { return entries_.size(); }
  size_t bytes() const { return bytes_; }

 private:
  struct Entry {
    std::string key, answer;
    absl::Duration stored, expires;
  };
  void Drop(std::list<Entry>::iterator entry);

  std::list<Entry> entries_;  // last used first
  absl::flat_hash_map<std::string, std::list<Entry>::iterator> by_key_;
  size_t bytes_ = 0;
};

}  // namespace keelson::proxy::dns
