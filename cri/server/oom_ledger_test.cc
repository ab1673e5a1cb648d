#include "cri/server/oom_ledger.h"

#include <gtest/gtest.h>

namespace keelson::cri {
namespace {

constexpr char kPodCgroup[] = "kubepods.slice/kubepods-podu1.slice";

TEST(OomLedgerTest, WhatTheLivingDoNotExplainIsTheEndedOnes) {
  OomLedger ledger;
  ledger.Open(kPodCgroup, 0, 0);
  EXPECT_FALSE(ledger.Settle(kPodCgroup, 0, 0, std::nullopt)) << "an ordinary end";
  EXPECT_TRUE(ledger.Settle(kPodCgroup, 2, 1, std::nullopt)) << "one kill is a living one's";
  EXPECT_FALSE(ledger.Settle(kPodCgroup, 2, 1, std::nullopt)) << "explained";
  EXPECT_TRUE(ledger.Settle(kPodCgroup, 2, 0, std::nullopt)) << "that living one has ended";
  EXPECT_FALSE(ledger.Settle(kPodCgroup, 2, 0, std::nullopt));
}

TEST(OomLedgerTest, WhatWasBeforeIsNobodys) {
  OomLedger ledger;
  ledger.Open(kPodCgroup, 7, 2);
  ledger.Open(kPodCgroup, 9, 0);  // is open
  EXPECT_FALSE(ledger.Settle(kPodCgroup, 7, 2, std::nullopt));
  EXPECT_TRUE(ledger.Settle(kPodCgroup, 8, 2, std::nullopt));
}

TEST(OomLedgerTest, ItsOwnCounterIsBelieved) {
  OomLedger ledger;
  ledger.Open(kPodCgroup, 0, 0);
  EXPECT_FALSE(ledger.Settle(kPodCgroup, 1, 0, 0)) << "the kill was another's, which is looked at next";
  EXPECT_TRUE(ledger.Settle(kPodCgroup, 1, 0, std::nullopt));
  EXPECT_TRUE(ledger.Settle(kPodCgroup, 4, 0, 3));
  EXPECT_FALSE(ledger.Settle(kPodCgroup, 4, 0, std::nullopt));
}

TEST(OomLedgerTest, CountersThatMoveBetweenReadings) {
  OomLedger ledger;
  ledger.Open(kPodCgroup, 1, 2);
  EXPECT_FALSE(ledger.Settle(kPodCgroup, 2, 3, std::nullopt));
  EXPECT_TRUE(ledger.Settle(kPodCgroup, 3, 0, std::nullopt));
  EXPECT_TRUE(ledger.Settle(kPodCgroup, 1, 0, 1)) << "a new slice of that name";
}

TEST(OomLedgerTest, UnknownSlices) {
  OomLedger ledger;
  EXPECT_FALSE(ledger.Settle(kPodCgroup, 5, 0, std::nullopt));
  EXPECT_TRUE(ledger.Settle(kPodCgroup, 5, 0, 1));
  ledger.Open(kPodCgroup, 0, 0);
  ledger.Close(kPodCgroup);
  EXPECT_FALSE(ledger.Settle(kPodCgroup, 5, 0, std::nullopt));
}

}  // namespace
}  // namespace keelson::cri
