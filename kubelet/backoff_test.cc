#include "kubelet/backoff.h"

#include <gtest/gtest.h>

namespace keelson::kubelet {
namespace {

TEST(BackoffTest, DoublesToTheBound) {
  Backoff backoff(absl::Seconds(10), absl::Minutes(5));
  absl::Time now = absl::FromUnixSeconds(1000);
  EXPECT_EQ(backoff.Remaining("k", now, now), absl::ZeroDuration());
  for (int expected_s : {10, 20, 40, 80, 160, 300, 300}) {
    backoff.Next("k", now, now);
    EXPECT_EQ(backoff.Remaining("k", now, now), absl::Seconds(expected_s));
    now += absl::Seconds(expected_s);
  }
}

TEST(BackoffTest, CountsFromTheExit) {
  Backoff backoff(absl::Seconds(10), absl::Minutes(5));
  absl::Time start = absl::FromUnixSeconds(1000);
  backoff.Next("k", start, start);
  EXPECT_EQ(backoff.Remaining("k", start + absl::Seconds(3), start + absl::Seconds(5)), absl::Seconds(8));
  EXPECT_EQ(backoff.Remaining("k", start + absl::Seconds(3), start + absl::Seconds(13)),
            absl::ZeroDuration());
}

TEST(BackoffTest, TenMinutesOfPeaceResetIt) {
  Backoff backoff(absl::Seconds(10), absl::Minutes(5));
  absl::Time start = absl::FromUnixSeconds(1000);
  backoff.Next("k", start, start);
  backoff.Next("k", start, start);
  absl::Time later = start + absl::Minutes(11);
  EXPECT_EQ(backoff.Remaining("k", later, later), absl::ZeroDuration());
  backoff.Next("k", later, later);
  EXPECT_EQ(backoff.Get("k"), absl::Seconds(10));
}

TEST(BackoffTest, ForgetPrefixAndCollect) {
  Backoff backoff(absl::Seconds(10), absl::Minutes(5));
  absl::Time start = absl::FromUnixSeconds(1000);
  backoff.Next("a/1", start, start);
  backoff.Next("a/2", start, start);
  backoff.Next("b/1", start, start);
  backoff.ForgetPrefix("a/");
  EXPECT_EQ(backoff.size(), 1u);
  backoff.Collect(start + absl::Minutes(11));
  EXPECT_EQ(backoff.size(), 0u);
}

}  // namespace
}  // namespace keelson::kubelet
