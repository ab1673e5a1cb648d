#include "proxy/dns/cache.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/strings.h"

namespace keelson::proxy::dns {
namespace {

std::string Bytes16(uint32_t n) { return {static_cast<char>(n >> 8), static_cast<char>(n)}; }
std::string Bytes32(uint32_t n) { return Bytes16(n >> 16) + Bytes16(n & 0xffff); }

// "Far.test" -> labels
std::string Name(const std::string& name) {
  std::string wire;
  size_t from = 0;
  while (from < name.size()) {
    size_t dot = std::min(name.find('.', from), name.size());
    wire.push_back(static_cast<char>(dot - from));
    wire += name.substr(from, dot - from);
    from = dot + 1;
  }
  return wire + std::string(1, '\0');
}

struct Rr {
  uint16_t type;
  uint32_t ttl_s;
  std::string data;
};
const Rr kA{1, 25, std::string("\xc0\x00\x02\x09", 4)};

Rr Soa(uint32_t ttl_s, uint32_t minimum_s) {
  return {6, ttl_s,
          Name("ns") + Name("who") + Bytes32(1) + Bytes32(2) + Bytes32(3) + Bytes32(4) + Bytes32(minimum_s)};
}

std::string Query(uint16_t id, const std::string& name, const std::string& more = "") {
  return Bytes16(id) + Bytes16(0x0100) + Bytes16(1) + Bytes16(0) + Bytes16(0) +
         Bytes16(more.empty() ? 0 : 1) + Name(name) + Bytes16(1) + Bytes16(1) + more;
}

std::string Reply(const std::string& name, int rcode, const std::vector<Rr>& answers,
                  const std::vector<Rr>& authority = {}, const std::vector<Rr>& additional = {},
                  uint16_t flags = 0x8180) {
  std::string wire = Bytes16(7) + Bytes16(static_cast<uint32_t>(flags | rcode)) + Bytes16(1) +
                     Bytes16(static_cast<uint32_t>(answers.size())) +
                     Bytes16(static_cast<uint32_t>(authority.size())) +
                     Bytes16(static_cast<uint32_t>(additional.size())) + Name(name) + Bytes16(1) + Bytes16(1);
  for (const auto* section : {&answers, &authority, &additional}) {
    for (const Rr& rr : *section) {
      wire += std::string("\xc0\x0c", 2) + Bytes16(rr.type) + Bytes16(1) + Bytes32(rr.ttl_s) +
              Bytes16(static_cast<uint32_t>(rr.data.size())) + rr.data;
    }
  }
  return wire;
}

TEST(DnsCacheTest, HowLongAnAnswerMayBeKept) {
  struct Case {
    const char* name;
    std::string answer;
    uint32_t seconds;
  };
  const Rr opt{41, 0x8000, ""};  // its TTL field holds flags
  const Case cases[] = {
      {"an address", Reply("a.b", 0, {kA}), 25},
      {"the shortest of all", Reply("a.b", 0, {kA, {1, 3, "abcd"}}), 3},
      {"of the other sections too", Reply("a.b", 0, {kA}, {}, {{1, 2, "abcd"}}), 2},
      {"EDNS is no TTL", Reply("a.b", 0, {kA}, {}, {opt}), 25},
      {"a day is too long", Reply("a.b", 0, {{1, 86400, "abcd"}}), kMaxCached_s},
      {"zero", Reply("a.b", 0, {{1, 0, "abcd"}}), 0},
      {"a negative one is zero", Reply("a.b", 0, {{1, 0x80000001, "abcd"}}), 0},
      {"no such name, by the SOA's minimum", Reply("a.b", 3, {}, {Soa(100, 4)}), 4},
      {"no such name, by the SOA's own TTL", Reply("a.b", 3, {}, {Soa(3, 100)}), 3},
      {"no such name, for long", Reply("a.b", 3, {}, {Soa(900, 900)}), kMaxCachedNegative_s},
      {"no such name, nobody says for how long", Reply("a.b", 3, {}), 0},
      {"no such type", Reply("a.b", 0, {}, {Soa(900, 6)}), 6},
      {"a referral", Reply("a.b", 0, {}, {{2, 900, Name("ns")}}), 0},
      {"a server's failure", Reply("a.b", 2, {}), 0},
      {"refused", Reply("a.b", 5, {}), 0},
      {"truncated", Reply("a.b", 0, {kA}, {}, {}, 0x8380), 0},
      {"a query", Query(1, "a.b"), 0},
      {"nothing", "", 0},
      {"cut", Reply("a.b", 0, {kA}).substr(0, 30), 0},
  };
  for (const Case& c : cases) EXPECT_EQ(CacheableFor(c.answer), c.seconds) << c.name;
}

TEST(DnsCacheTest, TheKeyIsAllButIdAndCase) {
  std::string opt = std::string(1, '\0') + Bytes16(41) + Bytes16(1232) + Bytes32(0) + Bytes16(0);
  EXPECT_EQ(QueryKey(Query(1, "a.B"), false), QueryKey(Query(2, "A.b"), false));
  EXPECT_NE(QueryKey(Query(1, "a.b"), false), QueryKey(Query(1, "a.b"), true));
  EXPECT_NE(QueryKey(Query(1, "a.b"), false), QueryKey(Query(1, "a.c"), false));
  EXPECT_NE(QueryKey(Query(1, "a.b"), false), QueryKey(Query(1, "a.b", opt), false));
  EXPECT_EQ(QueryKey("short", false), "");
  EXPECT_EQ(QueryKey(Reply("a.b", 0, {}).substr(0, 14), false), "");
}

TEST(DnsCacheTest, AnswersAgeAndEnd) {
  AnswerCache cache;
  const std::string key = QueryKey(Query(1, "a.b"), false), answer = Reply("a.b", 0, {kA});
  cache.Put(key, answer, absl::Seconds(100));
  EXPECT_EQ(cache.Get(key, absl::Seconds(100)), answer);
  EXPECT_EQ(cache.Get(key, absl::Seconds(110)), Reply("a.b", 0, {{1, 15, kA.data}}));
  EXPECT_EQ(cache.Get(key, absl::Milliseconds(124900)), Reply("a.b", 0, {{1, 1, kA.data}}));
  EXPECT_EQ(cache.Get(key, absl::Seconds(125)), std::nullopt);
  EXPECT_EQ(cache.entries(), 0u);
  EXPECT_EQ(cache.bytes(), 0u);
  cache.Put(key, Reply("a.b", 2, {}), absl::Seconds(200));
  EXPECT_EQ(cache.entries(), 0u);
}

TEST(DnsCacheTest, TheBoundsHoldAndTheLongestUnusedGoes) {
  AnswerCache cache;
  for (size_t i = 0; i < kMaxCacheEntries; ++i) {
    cache.Put(StrCat("k", i), Reply("a.b", 0, {kA}), absl::ZeroDuration());
  }
  EXPECT_TRUE(cache.Get("k0", absl::ZeroDuration()).has_value());
  cache.Put("new", Reply("a.b", 0, {kA}), absl::ZeroDuration());
  EXPECT_EQ(cache.entries(), kMaxCacheEntries);
  EXPECT_TRUE(cache.Get("k0", absl::ZeroDuration()).has_value());
  EXPECT_FALSE(cache.Get("k1", absl::ZeroDuration()).has_value());
  const std::string large = Reply("a.b", 0, {{16, 25, std::string(60000, 'x')}});
  for (int i = 0; i < 200; ++i) cache.Put(StrCat("large", i), large, absl::ZeroDuration());
  EXPECT_LE(cache.bytes(), kMaxCacheBytes);
  EXPECT_GT(cache.entries(), 50u);
  cache.Clear();
  EXPECT_EQ(cache.bytes(), 0u);
}

TEST(DnsCacheTest, TheAnswerIsAddressedToTheAsker) {
  std::string answer = Reply("far.test", 0, {kA});
  AddressTo(Query(0x1234, "FaR.tesT"), &answer);
  std::string expected = Reply("FaR.tesT", 0, {kA});
  expected[0] = 0x12;
  expected[1] = 0x34;
  EXPECT_EQ(answer, expected);
  std::string other = Reply("a.b", 0, {kA});
  AddressTo(Query(7, "longer.name"), &other);
  EXPECT_EQ(other, Reply("a.b", 0, {kA}));
}

}  // namespace
}  // namespace keelson::proxy::dns
