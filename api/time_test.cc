#include "api/time.h"

#include <gtest/gtest.h>

#include "api/int_or_string.h"

namespace keelson::api {
namespace {

TEST(Time, FormatsAndParses) {
  auto t = ParseTime("2026-11-22T20:06:49Z");
  ASSERT_TRUE(t.ok());
  EXPECT_EQ(t->seconds(), 1795378009);
  EXPECT_EQ(FormatTime(*t), "2026-11-22T20:06:49Z");
  EXPECT_EQ(ParseTime("2026-11-22T22:06:49.999+02:00")->seconds(), 1795378009);
  EXPECT_EQ(ParseTime("1969-12-31T23:59:59Z")->seconds(), -1);
  EXPECT_EQ(FormatTime(*ParseTime("0001-01-01T00:00:00Z")), "0001-01-01T00:00:00Z");
  EXPECT_EQ(FormatTime(*ParseTime("2024-02-29T00:00:00Z")), "2024-02-29T00:00:00Z");
  EXPECT_EQ(FormatTime({}), "");
}

TEST(Time, MicroTimeKeepsSixDigits) {
  auto t = ParseMicroTime("2026-11-22T20:06:49.123456789Z");
  ASSERT_TRUE(t.ok());
  EXPECT_EQ(FormatMicroTime(*t), "2026-11-22T20:06:49.123456Z");
  EXPECT_EQ(FormatMicroTime(*ParseMicroTime("2026-11-22T20:06:49Z")), "2026-11-22T20:06:49.000000Z");
}

TEST(Time, Refuses) {
  for (const char* bad :
       {"", "2026", "2026-11-22", "2026-11-22 20:06:49Z", "2026-13-22T20:06:49Z", "2026-02-29T20:06:49Z",
        "2026-11-22T24:06:49Z", "2026-11-22T20:60:49Z", "2026-11-22T20:06:60Z", "2026-11-22T20:06:49",
        "2026-11-22T20:06:49ZZ", "2026-11-22T20:06:49.Z", "2026-11-22T20:06:49+2:00"}) {
    EXPECT_FALSE(ParseTime(bad).ok()) << bad;
  }
}

TEST(Time, AbslRoundTrip) {
  const absl::Time now = absl::FromUnixMicros(1795378009123456);
  EXPECT_EQ(ToAbsl(ToApiMicroTime(now)), now);
  EXPECT_EQ(ToAbsl(ToApiTime(now)), absl::FromUnixSeconds(1795378009));
  EXPECT_EQ(ToAbsl(ToApiTime(absl::InfinitePast())), absl::InfinitePast());
}

TEST(Time, GoDurations) {
  const struct {
    const char* text;
    int64_t ns;
    const char* out;
  } kCases[] = {{"0s", 0, "0s"},
                {"0", 0, "0s"},
                {"1.5s", 1500000000, "1.5s"},
                {"100ms", 100000000, "100ms"},
                {"1h30m", 5400000000000, "1h30m0s"},
                {"2m0s", 120000000000, "2m0s"},
                {"90s", 90000000000, "1m30s"},
                {"-1m", -60000000000, "-1m0s"},
                {"1us", 1000, "1\xc2\xb5s"},
                {"1ns", 1, "1ns"}};
  for (const auto& c : kCases) {
    ASSERT_TRUE(ParseGoDuration(c.text).ok()) << c.text;
    EXPECT_EQ(*ParseGoDuration(c.text), c.ns) << c.text;
    EXPECT_EQ(FormatGoDuration(c.ns), c.out);
  }
  for (const char* bad : {"", "1", "s", "1x", "1h1", ".s", "99999999999h"})
    EXPECT_FALSE(ParseGoDuration(bad).ok()) << bad;
}

TEST(IntOrString, Basics) {
  EXPECT_EQ(ToString(ParseIntOrString("80")), "80");
  EXPECT_TRUE(IsInt(ParseIntOrString("80")));
  EXPECT_FALSE(IsInt(ParseIntOrString("http")));
  EXPECT_EQ(*ScaledValue(FromString("25%"), 10, true), 3);
  EXPECT_EQ(*ScaledValue(FromString("25%"), 10, false), 2);
  EXPECT_EQ(*ScaledValue(FromInt(4), 10, false), 4);
  EXPECT_FALSE(ScaledValue(FromString("http"), 10, false).ok());
}

}  // namespace
}  // namespace keelson::api
