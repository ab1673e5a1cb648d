#include "proxy/dns/cache.h"

#include <algorithm>
#include <cctype>
#include <functional>

#include "base/strings.h"

namespace keelson::proxy::dns {
namespace {

constexpr size_t kDnsHeaderBytes = 12;
constexpr size_t kTypeAndClassBytes = 4;
constexpr size_t kMaxRecords = 4096;
constexpr int kNoError = 0, kNameError = 3;
constexpr uint16_t kTypeSoa = 6, kTypeOpt = 41;

uint16_t U16(std::string_view wire, size_t at) {
  return static_cast<uint16_t>(static_cast<uint8_t>(wire[at]) << 8 | static_cast<uint8_t>(wire[at + 1]));
}

uint32_t U32(std::string_view wire, size_t at) {
  return static_cast<uint32_t>(U16(wire, at)) << 16 | U16(wire, at + 2);
}

// Where the name at `at` ends; nullopt when it does not within `wire`. A pointer ends a name.
std::optional<size_t> SkipName(std::string_view wire, size_t at) {
  while (at < wire.size()) {
    uint8_t length = static_cast<uint8_t>(wire[at]);
    if (length == 0) return at + 1;
    if ((length & 0xc0) == 0xc0) return at + 2 <= wire.size() ? std::optional<size_t>(at + 2) : std::nullopt;
    if ((length & 0xc0) != 0) return std::nullopt;
    at += 1 + length;
  }
  return std::nullopt;
}

// End of the only question; nullopt when there is not exactly one.
std::optional<size_t> QuestionEnd(std::string_view wire) {
  if (wire.size() < kDnsHeaderBytes || U16(wire, 4) != 1) return std::nullopt;
  std::optional<size_t> end = SkipName(wire, kDnsHeaderBytes);
  if (!end.has_value() || *end + kTypeAndClassBytes > wire.size()) return std::nullopt;
  return *end + kTypeAndClassBytes;
}

struct RecordPlace {
  enum Section { kAnswer, kAuthority, kAdditional };
  Section section;
  uint16_t type;
  size_t ttl_at;
  size_t data_at, data_bytes;
};

// Calls `each` for every record. False when the packet is not sound.
bool ForEachRecord(std::string_view wire, const std::function<void(const RecordPlace&)>& each) {
  std::optional<size_t> at = QuestionEnd(wire);
  if (!at.has_value()) return false;
  size_t seen = 0;
  for (auto section : {RecordPlace::kAnswer, RecordPlace::kAuthority, RecordPlace::kAdditional}) {
    size_t count = U16(wire, 6 + 2 * static_cast<size_t>(section));
    for (size_t i = 0; i < count; ++i) {
      if (++seen > kMaxRecords) return false;
      std::optional<size_t> fixed = SkipName(wire, *at);
      constexpr size_t kFixedBytes = 10;  // type, class, TTL, length of the data
      if (!fixed.has_value() || *fixed + kFixedBytes > wire.size()) return false;
      RecordPlace record{section, U16(wire, *fixed), *fixed + 4, *fixed + kFixedBytes, U16(wire, *fixed + 8)};
      if (record.data_at + record.data_bytes > wire.size()) return false;
      each(record);
      at = record.data_at + record.data_bytes;
    }
  }
  return true;
}

}  // namespace

std::string QueryKey(std::string_view query, bool tcp) {
  std::optional<size_t> end = QuestionEnd(query);
  if (!end.has_value()) return "";
  std::string key = StrCat(tcp ? "t" : "u", query.substr(2));
  // Only the labels: the length bytes before them stay below 'A'.
  for (size_t i = 1 + kDnsHeaderBytes - 2; i < 1 + *end - 2 - kTypeAndClassBytes; ++i) {
    key[i] = static_cast<char>(std::tolower(static_cast<uint8_t>(key[i])));
  }
  return key;
}

uint32_t CacheableFor(std::string_view answer) {
  if (answer.size() < kDnsHeaderBytes) return 0;
  constexpr uint8_t kResponse = 0x80, kTruncated = 0x02;
  const uint8_t flags = static_cast<uint8_t>(answer[2]);
  const int rcode = answer[3] & 0xf;
  if ((flags & kResponse) == 0 || (flags & kTruncated) != 0) return 0;
  if (rcode != kNoError && rcode != kNameError) return 0;
  const uint16_t answers = U16(answer, 6);
  uint32_t ttl_s = kMaxCached_s;
  bool soa = false;
  bool sound = ForEachRecord(answer, [&](const RecordPlace& record) {
    if (record.type == kTypeOpt) return;  // its TTL is flags
    uint32_t own_s = U32(answer, record.ttl_at);
    if (own_s > 0x7fffffff) own_s = 0;  // RFC 2181: the sign bit means zero
    ttl_s = std::min(ttl_s, own_s);
    constexpr size_t kSoaNumbersBytes = 20;
    if (record.section == RecordPlace::kAuthority && record.type == kTypeSoa &&
        record.data_bytes >= kSoaNumbersBytes) {
      soa = true;
      // The last number: how long a denial holds.
      ttl_s = std::min(ttl_s, U32(answer, record.data_at + record.data_bytes - 4));
    }
  });
  if (!sound) return 0;
  const bool denial = rcode == kNameError || answers == 0;
  if (!denial) return ttl_s;
  return soa ? std::min(ttl_s, kMaxCachedNegative_s) : 0;
}

bool LowerTtls(std::string* answer, uint32_t age_s) {
  std::string lowered = *answer;
  bool sound = ForEachRecord(*answer, [&](const RecordPlace& record) {
    if (record.type == kTypeOpt) return;
    uint32_t ttl_s = U32(*answer, record.ttl_at);
    ttl_s = ttl_s > age_s ? ttl_s - age_s : 1;
    for (int i = 0; i < 4; ++i) {
      lowered[record.ttl_at + static_cast<size_t>(i)] = static_cast<char>(ttl_s >> (24 - 8 * i));
    }
  });
  if (sound) *answer = std::move(lowered);
  return sound;
}

void AddressTo(std::string_view query, std::string* answer) {
  if (query.size() < 2 || answer->size() < 2) return;
  std::copy(query.begin(), query.begin() + 2, answer->begin());
  std::optional<size_t> end = QuestionEnd(query);
  if (!end.has_value() || end != QuestionEnd(*answer)) return;
  std::copy(query.begin() + kDnsHeaderBytes, query.begin() + static_cast<ptrdiff_t>(*end),
            answer->begin() + kDnsHeaderBytes);
}

std::optional<std::string> AnswerCache::Get(const std::string& key, absl::Duration now) {
  auto found = by_key_.find(key);
  if (found == by_key_.end()) return std::nullopt;
  auto entry = found->second;
  std::string answer = entry->answer;
  uint32_t age_s = static_cast<uint32_t>(absl::ToInt64Seconds(now - entry->stored));
  if (now >= entry->expires || !LowerTtls(&answer, age_s)) {
    Drop(entry);
    return std::nullopt;
  }
  entries_.splice(entries_.begin(), entries_, entry);
  return answer;
}

void AnswerCache::Put(const std::string& key, const std::string& answer, absl::Duration now) {
  uint32_t ttl_s = key.empty() ? 0 : CacheableFor(answer);
  const size_t size = key.size() * 2 + answer.size();
  if (ttl_s == 0 || size > kMaxCacheBytes / 16) return;
  if (auto found = by_key_.find(key); found != by_key_.end()) Drop(found->second);
  while (!entries_.empty() && (entries_.size() >= kMaxCacheEntries || bytes_ + size > kMaxCacheBytes)) {
    Drop(std::prev(entries_.end()));
  }
  entries_.push_front({key, answer, now, now + absl::Seconds(ttl_s)});
  by_key_[key] = entries_.begin();
  bytes_ += size;
}

void AnswerCache::Clear() {
  entries_.clear();
  by_key_.clear();
  bytes_ = 0;
}

void AnswerCache::Drop(std::list<Entry>::iterator entry) {
  bytes_ -= entry->key.size() * 2 + entry->answer.size();
  by_key_.erase(entry->key);
  entries_.erase(entry);
}

}  // namespace keelson::proxy::dns
