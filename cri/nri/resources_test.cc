#include "cri/nri/resources.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

namespace keelson::cri::nri {
namespace {

template <class Message>
Message Limits(const std::string& text) {
  Message message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &message)) << text;
  return message;
}

TEST(NriResourcesTest, ThereAndBack) {
  auto cri = Limits<criv1::LinuxContainerResources>(
      R"(cpu_period: 1000 cpu_quota: -1 cpu_shares: 5 memory_limit_in_bytes: 77 memory_swap_limit_in_bytes: 78
         cpuset_cpus: "0-1" cpuset_mems: "0" hugepage_limits { page_size: "2MB" limit: 9 }
         unified { key: "memory.high" value: "5" } unified { key: "pids.max" value: "12" })");
  pb::LinuxResources nri = FromCri(cri);
  EXPECT_EQ(nri.pids().limit(), 12);
  EXPECT_FALSE(nri.unified().contains("pids.max"));
  criv1::LinuxContainerResources back;
  ASSERT_TRUE(MergeIntoCri(nri, &back).ok());
  EXPECT_EQ(back.SerializeAsString().size(), cri.SerializeAsString().size());
  EXPECT_EQ(back.ShortDebugString(), cri.ShortDebugString());
}

TEST(NriResourcesTest, WhatIsUnsetIsAbsent) {
  EXPECT_EQ(FromCri({}).ShortDebugString(), "cpu { }");
  criv1::LinuxContainerResources to =
      Limits<criv1::LinuxContainerResources>("cpu_shares: 5 cpuset_cpus: '1'");
  ASSERT_TRUE(MergeIntoCri({}, &to).ok());
  EXPECT_EQ(to.ShortDebugString(),
            Limits<criv1::LinuxContainerResources>("cpu_shares: 5 cpuset_cpus: '1'").ShortDebugString());
}

TEST(NriResourcesTest, MemoryAloneIsMemoryAndSwap) {
  auto to =
      Limits<criv1::LinuxContainerResources>("memory_limit_in_bytes: 10 memory_swap_limit_in_bytes: 15");
  ASSERT_TRUE(MergeIntoCri(Limits<pb::LinuxResources>("memory { limit { value: 20 } }"), &to).ok());
  EXPECT_EQ(to.ShortDebugString(), "memory_limit_in_bytes: 20");
}

TEST(NriResourcesTest, UnlimitedProcesses) {
  criv1::LinuxContainerResources to;
  ASSERT_TRUE(MergeIntoCri(Limits<pb::LinuxResources>("pids { limit: -1 }"), &to).ok());
  EXPECT_EQ(to.unified().at("pids.max"), "max");
}

TEST(NriResourcesTest, AnUpdateHasNoRulesForDevices) {
  EXPECT_TRUE(CheckUpdate(Limits<pb::LinuxResources>("cpu { shares { value: 2 } }")).ok());
  EXPECT_TRUE(
      absl::IsUnimplemented(CheckUpdate(Limits<pb::LinuxResources>("devices { allow: true access: 'r' }"))));
}

TEST(NriResourcesTest, WhatCannotBeSetIsNamed) {
  for (const auto& [text, field] : std::initializer_list<std::pair<const char*, const char*>>{
           {"memory { reservation { value: 1 } }", "memory.reservation"},
           {"memory { kernel { value: 1 } }", "memory.kernel"},
           {"memory { kernel_tcp { value: 1 } }", "memory.kernel_tcp"},
           {"memory { swappiness { value: 1 } }", "memory.swappiness"},
           {"memory { disable_oom_killer { value: true } }", "memory.disable_oom_killer"},
           {"memory { use_hierarchy { value: true } }", "memory.use_hierarchy"},
           {"cpu { realtime_runtime { value: 1 } }", "cpu.realtime_runtime"},
           {"cpu { realtime_period { value: 1 } }", "cpu.realtime_period"},
           {"blockio_class { value: 'b' }", "blockio_class"},
           {"rdt_class { value: 'b' }", "rdt_class"}}) {
    criv1::LinuxContainerResources to;
    absl::Status status = MergeIntoCri(Limits<pb::LinuxResources>(text), &to);
    EXPECT_TRUE(absl::IsUnimplemented(status)) << text;
    EXPECT_EQ(status.message(), std::string("linux.resources.") + field + ": this runtime does not set it");
  }
  criv1::LinuxContainerResources to;
  EXPECT_TRUE(absl::IsInvalidArgument(
      MergeIntoCri(Limits<pb::LinuxResources>("cpu { shares { value: 18446744073709551615 } }"), &to)));
}

}  // namespace
}  // namespace keelson::cri::nri
