#include "oci/capabilities.h"

#include <absl/strings/ascii.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/capability.h>

#include "base/strings.h"

namespace keelson::oci {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAreArray;

using Names = std::vector<std::string>;

CapabilityRequest Request(const Names& add, const Names& drop, const Names& ambient = {}) {
  CapabilityRequest request;
  for (const auto& name : add) request.change.add_add_capabilities(name);
  for (const auto& name : drop) request.change.add_drop_capabilities(name);
  for (const auto& name : ambient) request.change.add_add_ambient_capabilities(name);
  return request;
}

Names Effective(const CapabilityRequest& request) {
  absl::StatusOr<CapabilitySets> sets = ResolveCapabilities(request, nullptr);
  EXPECT_TRUE(sets.ok()) << sets.status();
  return sets.ok() ? sets->effective : Names{"error"};
}

Names Without(Names names, const std::string& name) {
  names.erase(std::remove(names.begin(), names.end(), name), names.end());
  return names;
}

TEST(CapabilitiesTest, NamesAgreeWithTheKernelAndLibcap) {
  ASSERT_EQ(AllCapabilities().size(), static_cast<size_t>(CAP_LAST_CAP) + 1);
  for (size_t i = 0; i < AllCapabilities().size(); ++i) {
    cap_value_t value = -1;
    ASSERT_EQ(cap_from_name(absl::AsciiStrToLower(AllCapabilities()[i]).c_str(), &value), 0)
        << AllCapabilities()[i];
    EXPECT_EQ(value, static_cast<int>(i)) << AllCapabilities()[i];
  }
}

TEST(CapabilitiesTest, Number) {
  EXPECT_EQ(CapabilityNumber("CAP_CHOWN"), 0);
  EXPECT_EQ(CapabilityNumber("sys_admin"), 21);
  EXPECT_EQ(CapabilityNumber("Cap_Bpf"), 39);
  EXPECT_EQ(CapabilityNumber("ALL"), -1);
  EXPECT_EQ(CapabilityNumber(""), -1);
  EXPECT_EQ(CapabilityNumber("CAP_CAP_CHOWN"), -1);
}

TEST(CapabilitiesTest, FourteenByDefault) {
  EXPECT_EQ(DefaultCapabilities().size(), 14u);
  EXPECT_THAT(Effective(Request({}, {})), UnorderedElementsAreArray(DefaultCapabilities()));
}

TEST(CapabilitiesTest, AddAndDrop) {
  Names with_admin = DefaultCapabilities();
  with_admin.push_back("CAP_NET_ADMIN");
  EXPECT_THAT(Effective(Request({"net_admin"}, {})), UnorderedElementsAreArray(with_admin));
  EXPECT_THAT(Effective(Request({}, {"CAP_CHOWN"})),
              UnorderedElementsAreArray(Without(DefaultCapabilities(), "CAP_CHOWN")));
  EXPECT_THAT(Effective(Request({"CHOWN"}, {"CHOWN"})),
              UnorderedElementsAreArray(Without(DefaultCapabilities(), "CAP_CHOWN")));
  EXPECT_THAT(Effective(Request({}, {"all"})), IsEmpty());
  EXPECT_THAT(Effective(Request({"KILL"}, {"ALL"})), ElementsAre("CAP_KILL"));
  EXPECT_THAT(Effective(Request({"ALL"}, {})), UnorderedElementsAreArray(AllCapabilities()));
  EXPECT_THAT(Effective(Request({"ALL"}, {"SYS_ADMIN"})),
              UnorderedElementsAreArray(Without(AllCapabilities(), "CAP_SYS_ADMIN")));
  EXPECT_THAT(Effective(Request({"ALL"}, {"ALL"})), IsEmpty());
}

TEST(CapabilitiesTest, HostDecidesWhatThereIs) {
  CapabilityRequest request = Request({"ALL"}, {});
  request.last_capability = 37;
  EXPECT_EQ(Effective(request).size(), 38u);
  request.host_capabilities = 0b11;
  EXPECT_THAT(Effective(request), ElementsAre("CAP_CHOWN", "CAP_DAC_OVERRIDE"));
  request.privileged = true;
  EXPECT_THAT(Effective(request), ElementsAre("CAP_CHOWN", "CAP_DAC_OVERRIDE"));

  CapabilityRequest plain = Request({}, {});
  plain.host_capabilities = ~(uint64_t{1} << CapabilityNumber("MKNOD"));
  Names missing;
  absl::StatusOr<CapabilitySets> sets = ResolveCapabilities(plain, &missing);
  EXPECT_THAT(missing, ElementsAre("CAP_MKNOD"));
  EXPECT_EQ(sets->effective.size(), 13u);
}

TEST(CapabilitiesTest, Errors) {
  EXPECT_THAT(std::string(ResolveCapabilities(Request({"FLY"}, {}), nullptr).status().message()),
              HasSubstr("add_capabilities: unknown capability \"FLY\""));
  EXPECT_THAT(std::string(ResolveCapabilities(Request({}, {"FLY"}), nullptr).status().message()),
              HasSubstr("drop_capabilities: unknown"));
  EXPECT_THAT(std::string(ResolveCapabilities(Request({}, {}, {"ALL"}), nullptr).status().message()),
              HasSubstr("add_ambient_capabilities"));
  CapabilityRequest request = Request({"SYS_RESOURCE"}, {});
  request.host_capabilities = ~(uint64_t{1} << CapabilityNumber("SYS_RESOURCE"));
  EXPECT_EQ(ResolveCapabilities(request, nullptr).status().code(), absl::StatusCode::kFailedPrecondition);
  request = Request({"BPF"}, {});
  request.last_capability = 37;
  EXPECT_EQ(ResolveCapabilities(request, nullptr).status().code(), absl::StatusCode::kFailedPrecondition);
}

// CVE-2022-24769: inheritable sets that were not empty let an executable with inheritable file capabilities
// raise more than its user has.
TEST(CapabilitiesTest, InheritableIsEmpty_CVE_2022_24769) {
  CapabilityRequest privileged;
  privileged.privileged = true;
  for (const CapabilityRequest& request :
       {Request({}, {}), Request({"ALL"}, {}), Request({"NET_ADMIN"}, {"ALL"}), privileged}) {
    absl::StatusOr<CapabilitySets> sets = ResolveCapabilities(request, nullptr);
    ASSERT_TRUE(sets.ok());
    EXPECT_THAT(sets->inheritable, IsEmpty());
    EXPECT_THAT(sets->ambient, IsEmpty());
  }
}

TEST(CapabilitiesTest, AmbientAreInAllSets) {
  absl::StatusOr<CapabilitySets> sets =
      ResolveCapabilities(Request({"KILL"}, {"ALL"}, {"NET_BIND_SERVICE"}), nullptr);
  ASSERT_TRUE(sets.ok());
  EXPECT_THAT(sets->ambient, ElementsAre("CAP_NET_BIND_SERVICE"));
  EXPECT_EQ(sets->inheritable, sets->ambient);
  EXPECT_THAT(sets->permitted, ElementsAre("CAP_KILL", "CAP_NET_BIND_SERVICE"));
  EXPECT_EQ(sets->bounding, sets->permitted);
  EXPECT_THAT(ResolveCapabilities(Request({}, {"KILL"}, {"KILL"}), nullptr)->ambient, IsEmpty());
}

}  // namespace
}  // namespace keelson::oci
