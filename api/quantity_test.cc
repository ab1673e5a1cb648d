#include "api/quantity.h"

#include <gtest/gtest.h>

#include <limits>

namespace keelson::api {
namespace {

std::string Canonical(std::string_view text) {
  auto q = Quantity::Parse(text);
  return q.ok() ? q->ToString() : "error: " + std::string(q.status().message());
}

Quantity Q(std::string_view text) { return *Quantity::Parse(text); }

TEST(Quantity, CanonicalForm) {
  const struct {
    const char* in;
    const char* out;
  } kCases[] = {
      {"0", "0"},
      {"0Mi", "0"},
      {"-0", "0"},
      {"1", "1"},
      {"+1", "1"},
      {"-1", "-1"},
      {"100m", "100m"},
      {"0.1", "100m"},
      {"1.5", "1500m"},
      {".5", "500m"},
      {"5.", "5"},
      {"1000m", "1"},
      {"1000", "1k"},
      {"1024", "1024"},
      {"1024Ki", "1Mi"},
      {"1024Mi", "1Gi"},
      {"1.5Gi", "1536Mi"},
      {"0.5Ki", "512"},
      {"1000k", "1M"},
      {"12345", "12345"},
      {"12000", "12k"},
      {"1e3", "1e3"},
      {"1E3", "1e3"},
      {"10e2", "1e3"},
      {"1e-3", "1e-3"},
      {"1e0", "1"},
      {"100e-1", "10"},
      {"1n", "1n"},
      {"0.1n", "1n"},
      {"1.1u", "1100n"},
      {"1Ei", "1Ei"},
      {"500Ki", "500Ki"},
      {"1000Ki", "1000Ki"},
      {"0.3Ki", "307200m"},
      {"1T", "1T"},
      {"9223372036854775807", "9223372036854775807"},
      {"1P", "1P"},
      {"3E", "3E"},
      {"0.0000000001Gi", "107374183n"},
      {"-1.5Gi", "-1536Mi"},
      {"1Ki", "1Ki"},
      {"1023", "1023"},
      {"100000000000000000000000", "9223372036854775807"},
      {"12Ei", "9223372036854775807"},
  };
  for (const auto& c : kCases) EXPECT_EQ(Canonical(c.in), c.out) << c.in;
}

TEST(Quantity, Errors) {
  for (const char* bad : {"", "abc", "1 ", " 1", "1.2.3", "--1", "1x", "m", "+", "1mm", "1K", "1Kii", "1e",
                          "1e+", "1ee3", "0x10", "1_000", "Ki", "1e99999999999"}) {
    EXPECT_FALSE(Quantity::Parse(bad).ok()) << bad;
  }
  EXPECT_EQ(Quantity::Parse("").status().message(),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'");
  EXPECT_EQ(Quantity::Parse("1mm").status().message(), "unable to parse quantity's suffix");
  EXPECT_FALSE(Quantity::Parse(std::string(1000, '1')).ok());
}

TEST(Quantity, ValuesRoundAwayFromZero) {
  EXPECT_EQ(Q("1500m").Value(), 2);
  EXPECT_EQ(Q("-1500m").Value(), -2);
  EXPECT_EQ(Q("1500m").MilliValue(), 1500);
  EXPECT_EQ(Q("1n").MilliValue(), 1);
  EXPECT_EQ(Q("64Mi").Value(), 64 << 20);
  EXPECT_EQ(Q("9E").MilliValue(), std::numeric_limits<int64_t>::max());
  EXPECT_DOUBLE_EQ(Q("250m").ToDouble(), 0.25);
}

TEST(Quantity, Arithmetic) {
  Quantity sum = Q("100m");
  sum.Add(Q("1"));
  EXPECT_EQ(sum.ToString(), "1100m");
  sum.Sub(Q("1.1"));
  EXPECT_TRUE(sum.IsZero());
  sum.Add(Q("1Gi"));
  EXPECT_EQ(sum.ToString(), "1Gi");  // a zero takes the other's format
  sum.Add(Q("1Mi"));
  EXPECT_EQ(sum.ToString(), "1025Mi");
  EXPECT_LT(Q("999m"), Q("1"));
  EXPECT_EQ(Q("1Ki"), Q("1024"));
  EXPECT_EQ(Q("0.5Gi").Cmp(Q("512Mi")), 0);
  Quantity big = Q("9E");
  for (int i = 0; i < 100; ++i) big.Add(Q("9E"));
  EXPECT_EQ(big.Value(), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(Q("1.0001").RoundUpToMilli().ToString(), "1001m");
}

TEST(Quantity, WritersTextIsKeptOutsideResourceLists) {
  EXPECT_EQ(*NormalizeQuantityText("1024Mi"), "1024Mi");
  EXPECT_EQ(*NormalizeQuantityText("0.1"), "0.1");
  EXPECT_EQ(*NormalizeQuantityText("0.5Gi"), "512Mi");
  EXPECT_FALSE(NormalizeQuantityText("lots").ok());
}

}  // namespace
}  // namespace keelson::api
