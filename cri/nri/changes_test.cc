#include "cri/nri/changes.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

namespace keelson::cri::nri {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

template <class Message>
Message From(const std::string& text) {
  Message message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &message)) << text;
  return message;
}

std::string Show(const google::protobuf::Message& message) {
  std::string text;
  google::protobuf::TextFormat::Printer printer;
  printer.SetSingleLineMode(true);
  printer.PrintToString(message, &text);
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

pb::CreateContainerRequest Creating() {
  return From<pb::CreateContainerRequest>(R"(
      container { id: "c" annotations { key: "a" value: "1" } env: "A=1" env: "B=2" args: "sh"
                  mounts { destination: "/data" } mounts { destination: "/tmp" }
                  rlimits { type: "RLIMIT_CORE" hard: 1 }
                  linux { devices { path: "/dev/x" } namespaces { type: "pid" } namespaces { type: "ipc" } } })");
}

class NriChangesTest : public testing::Test {
 protected:
  absl::Status Take(const std::string& plugin, const std::string& adjust, const std::string& rest = "") {
    return changes_.Take(From<pb::CreateContainerResponse>("adjust {" + adjust + "}" + rest), plugin);
  }
  pb::CreateContainerRequest request_ = Creating();
  Changes changes_{&request_};
};

TEST_F(NriChangesTest, TheNextPluginSeesWhatWasAskedFor) {
  ASSERT_TRUE(Take("00-a", R"(annotations { key: "b" value: "2" } annotations { key: "-a" }
                              env { key: "A" value: "9" } env { key: "-B" } args: "true"
                              mounts { destination: "/data" source: "/new" } mounts { destination: "-/tmp" }
                              rlimits { type: "RLIMIT_CORE" hard: 5 }
                              hooks { prestart { path: "/h" } }
                              linux { devices { path: "/dev/x" major: 7 } namespaces { type: "-pid" }
                                      resources { cpu { shares { value: 5 } } memory { limit { value: 6 } } } })")
                  .ok());
  EXPECT_EQ(Show(request_.container()),
            R"(id: "c" annotations { key: "b" value: "2" } args: "true" env: "A=9" )"
            R"(mounts { destination: "/data" source: "/new" } hooks { prestart { path: "/h" } } )"
            R"(linux { namespaces { type: "ipc" } devices { path: "/dev/x" major: 7 } )"
            R"(resources { memory { limit { value: 6 } } cpu { shares { value: 5 } } } } )"
            R"(rlimits { type: "RLIMIT_CORE" hard: 5 })");
}

TEST_F(NriChangesTest, TwoThatSetTheSameAreRefusedByName) {
  const std::vector<std::pair<std::string, std::string>> same = {
      {R"(annotations { key: "k" value: "1" })", "Annotations k"},
      {R"(mounts { destination: "/m" })", "Mounts /m"},
      {R"(env { key: "E" value: "1" })", "Env E"},
      {R"(args: "x")", "Args"},
      {R"(rlimits { type: "RLIMIT_NPROC" })", "Rlimits RLIMIT_NPROC"},
      {R"(CDI_devices { name: "v/c=d" })", "CdiDevices v/c=d"},
      {R"(linux { devices { path: "/dev/y" } })", "Devices /dev/y"},
      {R"(linux { cgroups_path: "/x" })", "CgroupsPath"},
      {R"(linux { oom_score_adj { value: 1 } })", "OomScoreAdj"},
      {R"(linux { io_priority { priority: 1 } })", "IoPriority"},
      {R"(linux { seccomp_policy { default_action: "SCMP_ACT_ALLOW" } })", "SeccompPolicy"},
      {R"(linux { namespaces { type: "ipc" } })", "Namespace ipc"},
      {R"(linux { sysctl { key: "a.b" value: "1" } })", "Sysctl a.b"},
      {R"(linux { net_devices { key: "eth9" value {} } })", "LinuxNetDevices eth9"},
      {R"(linux { scheduler { nice: 1 } })", "LinuxSched"},
      {R"(linux { memory_policy { nodes: "0" } })", "MemoryPolicy"},
      {R"(linux { rdt { clos_id { value: "c" } } })", "RdtClosID"},
      {R"(linux { resources { memory { limit { value: 1 } } } })", "MemLimit"},
      {R"(linux { resources { memory { use_hierarchy { value: true } } } })", "MemUseHierarchy"},
      {R"(linux { resources { cpu { shares { value: 1 } } } })", "CPUShares"},
      {R"(linux { resources { cpu { cpus: "0" } } })", "CPUSetCPUs"},
      {R"(linux { resources { cpu { mems: "0" } } })", "CPUSetMems"},
      {R"(linux { resources { pids { limit: 1 } } })", "PidsLimit"},
      {R"(linux { resources { hugepage_limits { page_size: "2MB" } } })", "HugepageLimits 2MB"},
      {R"(linux { resources { unified { key: "u" value: "1" } } })", "CgroupsUnified u"},
      {R"(linux { resources { blockio_class { value: "b" } } })", "BlockioClass"},
      {R"(linux { resources { rdt_class { value: "b" } } })", "RdtClass"},
  };
  for (const auto& [adjust, field] : same) {
    pb::CreateContainerRequest request = Creating();
    Changes changes(&request);
    auto response = From<pb::CreateContainerResponse>("adjust {" + adjust + "}");
    ASSERT_TRUE(changes.Take(response, "00-a").ok()) << adjust;
    absl::Status status = changes.Take(response, "10-b");
    EXPECT_TRUE(absl::IsAlreadyExists(status)) << adjust << ": " << status;
    EXPECT_EQ(status.message(), "nri plugins \"10-b\" and \"00-a\" both set " + field);
  }
}

// Hooks are nobody's: lists grow.
TEST_F(NriChangesTest, HooksOfAllPlugins) {
  ASSERT_TRUE(Take("00-a", R"(hooks { poststop { path: "/a" } })").ok());
  ASSERT_TRUE(Take("10-b", R"(hooks { poststop { path: "/b" } prestart { path: "/c" } })").ok());
  EXPECT_EQ(Show(changes_.adjustment().hooks()),
            R"(prestart { path: "/c" } poststop { path: "/a" } poststop { path: "/b" })");
  EXPECT_EQ(changes_.owners().owners().at("c").simple().at(pb::OciHooks), "00-a,10-b");
}

TEST_F(NriChangesTest, WhoRemovesItFirstMaySetIt) {
  ASSERT_TRUE(Take("00-a", R"(annotations { key: "k" value: "1" } mounts { destination: "/m" source: "/1" }
                              env { key: "E" value: "1" } args: "one" linux { devices { path: "/dev/y" major: 1 } })")
                  .ok());
  ASSERT_TRUE(Take("10-b", R"(annotations { key: "k" value: "2" } annotations { key: "-k" }
                              mounts { destination: "-/m" } mounts { destination: "/m" source: "/2" }
                              env { key: "-E" } env { key: "E" value: "2" } args: "" args: "two"
                              linux { devices { path: "-/dev/y" } devices { path: "/dev/y" major: 2 } })")
                  .ok());
  EXPECT_EQ(changes_.adjustment().annotations().at("k"), "2");
  EXPECT_EQ(Show(changes_.adjustment().linux()),
            R"(devices { path: "-/dev/y" } devices { path: "/dev/y" major: 2 })");
  EXPECT_THAT(changes_.adjustment().args(), ElementsAre("two"));
  EXPECT_EQ(changes_.adjustment().mounts_size(), 2);
  EXPECT_EQ(changes_.adjustment().mounts(1).source(), "/2");
  // And is then its owner.
  EXPECT_TRUE(absl::IsAlreadyExists(Take("20-c", R"(env { key: "E" value: "3" })")));
}

TEST_F(NriChangesTest, ARemovalAloneIsHandedOn) {
  ASSERT_TRUE(Take("00-a", R"(annotations { key: "k" value: "1" })").ok());
  ASSERT_TRUE(
      Take("10-b", R"(annotations { key: "-k" } env { key: "-A" } linux { devices { path: "-/dev/x" } })")
          .ok());
  EXPECT_EQ(Show(changes_.adjustment()),
            R"(annotations { key: "-k" value: "" } env { key: "-A" } linux { devices { path: "-/dev/x" } })");
  EXPECT_TRUE(absl::IsAlreadyExists(Take("20-c", R"(annotations { key: "k" value: "3" })")))
      << "10-b wants it gone";
}

TEST_F(NriChangesTest, UpdatesOfOthers) {
  ASSERT_TRUE(Take("00-a", "", R"(update { container_id: "d" linux { resources { cpu { cpus: "0" } } } }
                                  update { container_id: "e" ignore_failure: true })")
                  .ok());
  ASSERT_TRUE(
      Take("10-b", "", R"(update { container_id: "d" linux { resources { cpu { mems: "1" } } } })").ok());
  ASSERT_EQ(changes_.updates().size(), 2u);
  EXPECT_EQ(Show(changes_.updates()[0]),
            R"(container_id: "d" linux { resources { cpu { cpus: "0" mems: "1" } } })");
  EXPECT_TRUE(changes_.updates()[1].ignore_failure());
  const std::string again =
      R"(update { container_id: "d" linux { resources { cpu { cpus: "1" mems: "1" } } } )";
  EXPECT_TRUE(absl::IsAlreadyExists(Take("20-c", "", again + "}")));
  // One that may fail is left out whole.
  EXPECT_TRUE(Take("20-c", "", again + "ignore_failure: true }").ok());
  EXPECT_EQ(changes_.updates()[0].linux().resources().cpu().cpus(), "0");
  // Nor does it own what it would have set.
  EXPECT_TRUE(
      Take("30-d", "", R"(update { container_id: "d" linux { resources { pids { limit: 1 } } } })").ok());
  EXPECT_TRUE(Take("40-e", "",
                   R"(update { container_id: "d" ignore_failure: true
                               linux { resources { cpu { shares { value: 2 } } pids { limit: 2 } } } })")
                  .ok());
  EXPECT_TRUE(
      Take("50-f", "", R"(update { container_id: "d" linux { resources { cpu { shares { value: 3 } } } } })")
          .ok());
  absl::Status own = Take("20-c", "", R"(update { container_id: "c" })");
  EXPECT_THAT(std::string(own.message()), HasSubstr("the container that is being created"));
}

TEST_F(NriChangesTest, MoreThanAnyoneNeedsIsRefused) {
  pb::CreateContainerResponse response;
  auto* limits = response.mutable_adjust()->mutable_rlimits();
  for (size_t i = 0; i < kMaxAdjustmentEntries; ++i) limits->Add()->set_type("RLIMIT_" + std::to_string(i));
  EXPECT_TRUE(changes_.Take(response, "00-a").ok());
  limits->Add()->set_type("RLIMIT_CORE");
  absl::Status status = changes_.Take(response, "10-b");
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("10-b: rlimits: has more than 4096"));
  // Lists in lists, and maps.
  pb::StopContainerResponse stop;
  auto* unified = stop.add_update()->mutable_linux()->mutable_resources()->mutable_unified();
  for (size_t i = 0; i <= kMaxAdjustmentEntries; ++i) (*unified)[std::to_string(i)] = "1";
  status = Changes().Take(stop, "00-a");
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
}

TEST_F(NriChangesTest, EvictionsAreRefused) {
  absl::Status status = Take("00-a", "", R"(evict { container_id: "d" })");
  EXPECT_TRUE(absl::IsUnimplemented(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("00-a: evict"));
}

TEST(NriChangesOfUpdateTest, OwnLimitsAreInTheRequest) {
  auto request = From<pb::UpdateContainerRequest>(
      R"(container { id: "c" } linux_resources { cpu { shares { value: 1 } quota { value: 2 } } })");
  Changes changes(&request);
  EXPECT_FALSE(changes.own_limits_changed());
  ASSERT_TRUE(changes
                  .Take(From<pb::UpdateContainerResponse>(
                            R"(update { container_id: "c" linux { resources { cpu { quota { value: 9 } }
                                                                              pids { limit: 4 } } } })"),
                        "00-a")
                  .ok());
  EXPECT_TRUE(changes.own_limits_changed());
  EXPECT_TRUE(changes.updates().empty());
  EXPECT_EQ(Show(request.linux_resources()),
            R"(cpu { shares { value: 1 } quota { value: 9 } } pids { limit: 4 })");
}

}  // namespace
}  // namespace keelson::cri::nri
