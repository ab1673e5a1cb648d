#include "cgroups/conversions.h"

#include <gtest/gtest.h>

namespace keelson::cgroups {
namespace {

TEST(Conversions, MilliCpuToShares) {
  struct Row {
    int64_t milli_cpu;
    uint64_t shares;
  };
  for (Row row : std::vector<Row>{{0, 2},
                                  {-5, 2},
                                  {1, 2},
                                  {2, 2},
                                  {10, 10},
                                  {100, 102},
                                  {250, 256},
                                  {500, 512},
                                  {1000, 1024},
                                  {2000, 2048},
                                  {255999, 262142},
                                  {256000, 262144},
                                  {1000000, 262144},
                                  {INT64_MAX, 262144}}) {
    EXPECT_EQ(MilliCpuToShares(row.milli_cpu), row.shares) << row.milli_cpu;
  }
}

TEST(Conversions, MilliCpuToQuota) {
  struct Row {
    int64_t milli_cpu;
    uint64_t period_us;
    int64_t quota_us;
  };
  for (Row row : std::vector<Row>{{0, 100000, -1},
                                  {5, 100000, 1000},
                                  {9, 100000, 1000},
                                  {10, 100000, 1000},
                                  {20, 100000, 2000},
                                  {200, 100000, 20000},
                                  {1000, 100000, 100000},
                                  {1500, 100000, 150000},
                                  {1000, 5000, 5000},
                                  {100, 5000, 1000}}) {
    EXPECT_EQ(MilliCpuToQuotaUs(row.milli_cpu, row.period_us), row.quota_us)
        << row.milli_cpu << " " << row.period_us;
  }
  EXPECT_EQ(QuotaUsToMilliCpu(150000, 100000), 1500);
  EXPECT_EQ(QuotaUsToMilliCpu(-1, 100000), 0);
}

TEST(Conversions, ARequestSurvivesTheWayThroughShares) {
  for (int64_t milli_cpu : {3, 7, 10, 33, 100, 250, 999, 1000, 1001, 4567, 100000}) {
    EXPECT_EQ(SharesToMilliCpu(MilliCpuToShares(milli_cpu)), milli_cpu);
  }
  EXPECT_EQ(SharesToMilliCpu(2), 0);
}

TEST(Conversions, SharesToWeight) {
  struct Row {
    uint64_t shares, weight, linear;
  };
  for (Row row : std::vector<Row>{{0, 0, 0},
                                  {1, 1, 1},
                                  {2, 1, 1},
                                  {3, 2, 1},
                                  {10, 4, 1},
                                  {102, 17, 4},
                                  {512, 59, 20},
                                  {1024, 100, 39},
                                  {2048, 174, 79},
                                  {4096, 303, 157},
                                  {262144, 10000, 10000},
                                  {500000, 10000, 10000}}) {
    EXPECT_EQ(SharesToWeight(row.shares), row.weight) << row.shares;
    EXPECT_EQ(SharesToWeightLinear(row.shares), row.linear) << row.shares;
  }
  for (uint64_t shares = 2; shares < 262144; shares += 17)
    ASSERT_LE(SharesToWeight(shares), SharesToWeight(shares + 17));
  EXPECT_EQ(WeightToShares(1), 2u);
  EXPECT_EQ(WeightToShares(100), 1024u);
  EXPECT_EQ(WeightToShares(10000), 262144u);
}

TEST(Conversions, HugepageSizeName) {
  EXPECT_EQ(HugepageSizeName(2 << 20), "2MB");
  EXPECT_EQ(HugepageSizeName(1 << 30), "1GB");
  EXPECT_EQ(HugepageSizeName(64 << 10), "64KB");
}

TEST(Conversions, SystemdNames) {
  struct Row {
    std::string cgroupfs, systemd;
  };
  for (const Row& row : std::vector<Row>{
           {"kubepods", "kubepods.slice"},
           {"kubepods/burstable", "kubepods.slice/kubepods-burstable.slice"},
           {"kubepods/besteffort/pod0a1b-2c3d",
            "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod0a1b_2c3d.slice"},
       }) {
    EXPECT_EQ(ToSystemdPath(row.cgroupfs), row.systemd);
    auto back = FromSystemdPath(row.systemd);
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(*back, row.cgroupfs);
  }
  EXPECT_FALSE(FromSystemdPath("kubepods").ok());
  EXPECT_FALSE(FromSystemdPath("a--b.slice").ok());
  EXPECT_FALSE(FromSystemdPath(".slice").ok());
}

TEST(Conversions, ExpandSlice) {
  struct Row {
    std::string name, path;
  };
  for (const Row& row : std::vector<Row>{
           {"kubepods.slice", "kubepods.slice"},
           {"kubepods-burstable-pod0a_1.slice",
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0a_1.slice"},
           {"a\\x2db-c.slice", "a\\x2db.slice/a\\x2db-c.slice"},
           {"-.slice", ""},
       }) {
    auto path = ExpandSlice(row.name);
    ASSERT_TRUE(path.ok()) << path.status();
    EXPECT_EQ(*path, row.path);
  }
  EXPECT_EQ(*ExpandSlice("a-b.slice"), ToSystemdPath("a/b"));
  for (const std::string& bad :
       {std::string(""), std::string(".slice"), std::string("a"), std::string("a.scope"),
        std::string("a/b.slice"), std::string("-a.slice"), std::string("a-.slice"), std::string("a--b.slice"),
        std::string("--.slice"), std::string("a:b.slice"), std::string("a b.slice"),
        std::string("a\nb.slice"), std::string(250, 'a') + ".slice"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ExpandSlice(bad).status())) << bad;
  }
}

TEST(Parsers, LimitsAndNumbers) {
  EXPECT_EQ(*ParseLimit("max\n"), std::nullopt);
  EXPECT_EQ(*ParseLimit("9223372036854771712\n"), std::nullopt);
  EXPECT_EQ(*ParseLimit("1048576\n"), 1048576u);
  EXPECT_EQ(*ParseNumber("18446744073709551615"), UINT64_MAX);
  for (const char* bad : {"", "x", "-3", "1 2", "0x10", "18446744073709551616"})
    EXPECT_FALSE(ParseNumber(bad).ok()) << bad;
}

TEST(Parsers, FlatKeyed) {
  auto values = ParseFlatKeyed("cache 1\nrss 2\nshmem -4096\n");
  ASSERT_TRUE(values.ok());
  EXPECT_EQ((*values)["cache"], 1u);
  EXPECT_EQ((*values)["shmem"], 0u);
  EXPECT_FALSE(ParseFlatKeyed("cache\n").ok());
  EXPECT_FALSE(ParseFlatKeyed(" 1\n").ok());
  EXPECT_FALSE(ParseFlatKeyed("cache 1x\n").ok());
}

TEST(Parsers, Pids) {
  EXPECT_EQ(*ParsePids("12\n0\n7\n"), (std::vector<pid_t>{12, 7}));
  EXPECT_FALSE(ParsePids("-1\n").ok());
  EXPECT_FALSE(ParsePids("99999999999\n").ok());
}

TEST(Parsers, PressureLines) {
  auto psi = ParsePsi(
      "some avg10=1.25 avg60=0.50 avg300=0.00 total=123\nfull avg10=0.00 avg60=0.00 avg300=7.00 total=4\n");
  ASSERT_TRUE(psi.ok()) << psi.status();
  EXPECT_DOUBLE_EQ(psi->some.avg10_percent, 1.25);
  EXPECT_EQ(psi->some.total_us, 123u);
  EXPECT_DOUBLE_EQ(psi->full.avg300_percent, 7);
  EXPECT_TRUE(ParsePsi("some avg10=0.00 new=x total=1\n").ok());
  for (const char* bad : {"", "any avg10=1\n", "some avg10=x\n", "some avg10=nan\n", "some total=-1\n"}) {
    EXPECT_FALSE(ParsePsi(bad).ok()) << bad;
  }
}

TEST(Parsers, BlockIo) {
  auto v1 = ParseV1BlockIo("8:16 Read 10\n8:16 Write 20\n8:16 Sync 30\n8:16 Total 30\n8:0 Read 1\nTotal 31\n",
                           "8:16 Read 3\n8:16 Write 4\nTotal 7\n");
  ASSERT_TRUE(v1.ok()) << v1.status();
  ASSERT_EQ(v1->size(), 2u);
  EXPECT_EQ((*v1)[0].minor, 0u);
  EXPECT_EQ((*v1)[0].read_bytes, 1u);
  EXPECT_EQ((*v1)[1].minor, 16u);
  EXPECT_EQ((*v1)[1].write_bytes, 20u);
  EXPECT_EQ((*v1)[1].read_operations, 3u);
  EXPECT_TRUE(ParseV1BlockIo("Total 0\n", "")->empty());
  for (const char* bad : {"8:0 Read\n", "8 Read 1\n", "8:0 Read x\n", "8:x Read 1\n"})
    EXPECT_FALSE(ParseV1BlockIo(bad, "").ok()) << bad;

  auto v2 = ParseIoStat(
      "8:0 8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n252:0 rbytes=7 cost.vrate=1.5\n");
  ASSERT_TRUE(v2.ok()) << v2.status();
  ASSERT_EQ(v2->size(), 3u);
  EXPECT_EQ((*v2)[0].read_bytes, 0u);
  EXPECT_EQ((*v2)[1].write_operations, 4u);
  EXPECT_EQ((*v2)[2].major, 252u);
  EXPECT_EQ((*v2)[2].read_bytes, 7u);
  for (const char* bad : {"rbytes=1\n", "8:0 rbytes=x\n", "sda rbytes=1\n"})
    EXPECT_FALSE(ParseIoStat(bad).ok()) << bad;
}

TEST(Parsers, HugetlbFileNames) {
  EXPECT_EQ(HugetlbSizesOf({"hugetlb.2MB.current", "hugetlb.2MB.rsvd.current", "hugetlb.1GB.current",
                            "hugetlb.2MB.max", "hugetlb..current", "memory.current"},
                           ".current"),
            (std::vector<std::string>{"2MB", "1GB"}));
}

TEST(Parsers, CpuLists) {
  EXPECT_EQ(*ParseCpuList("0-3,7\n"), (std::vector<int>{0, 1, 2, 3, 7}));
  EXPECT_EQ(*ParseCpuList("7,1,1-2"), (std::vector<int>{1, 2, 7}));
  EXPECT_TRUE(ParseCpuList("\n")->empty());
  for (const char* bad : {"a", "3-1", "1,", "1-", "-1", "0-99999999"})
    EXPECT_FALSE(ParseCpuList(bad).ok()) << bad;
}

TEST(Parsers, Meminfo) {
  auto values = ParseMeminfo("MemTotal:       100 kB\nHugePages_Total:       3\n");
  ASSERT_TRUE(values.ok());
  EXPECT_EQ((*values)["MemTotal"], 102400u);
  EXPECT_EQ((*values)["HugePages_Total"], 3u);
  EXPECT_FALSE(ParseMeminfo("MemTotal\n").ok());
}

}  // namespace
}  // namespace keelson::cgroups
