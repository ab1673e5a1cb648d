#include "master/controllers/node_ipam_controller.h"

#include <gtest/gtest.h>

#include <set>

#include "api/status_error.h"
#include "base/strings.h"
#include "master/controllers/testing.h"

namespace keelson::master {
namespace {

namespace corev1 = ::k8s::core::v1;

TEST(CidrPoolTest, LowestFreeBlockAndOverlaps) {
  CidrPool pool(*net::Cidr::Parse("10.244.0.0/22"), 24);
  pool.Occupy(*net::Cidr::Parse("10.244.1.128/25"));
  pool.Occupy(*net::Cidr::Parse("192.168.0.0/16"));  // elsewhere
  EXPECT_EQ(pool.Allocate()->ToString(), "10.244.0.0/24");
  EXPECT_EQ(pool.Allocate()->ToString(), "10.244.2.0/24");
  EXPECT_EQ(pool.Allocate()->ToString(), "10.244.3.0/24");
  EXPECT_TRUE(absl::IsResourceExhausted(pool.Allocate().status()));
  pool.Release(*net::Cidr::Parse("10.244.0.0/24"));
  EXPECT_EQ(pool.Allocate()->ToString(), "10.244.0.0/24");
}

class NodeIpamControllerTest : public ControllerTest {
 protected:
  void Start() {
    controller_ = std::make_unique<NodeIpamController>(context(), "10.244.0.0/16");
    StartInformers();
    controller_->Start();
    env_.Advance(absl::Seconds(2));
  }
  void TearDown() override {
    env_.AwaitVoid(controller_->Stop());
    ControllerTest::TearDown();
  }
  void PutNode(const std::string& name, const std::string& cidr = "") {
    PutJson<corev1::Node>(
        StrCat(R"({"metadata":{"name":")", name, R"("},"spec":{"podCIDR":")", cidr, R"("}})"));
  }
  std::string CidrOf(const std::string& name) { return api_.FindAs<corev1::Node>(name)->spec().pod_cidr(); }
  std::unique_ptr<NodeIpamController> controller_;
};

TEST_F(NodeIpamControllerTest, KeepsWhatIsGivenAndFillsTheGaps) {
  PutNode("old", "10.244.0.0/24");
  PutNode("other", "10.244.2.0/24");
  PutNode("new1");
  PutNode("new2");
  Start();
  std::set<std::string> all;
  for (const auto& node : api_.All<corev1::Node>()) {
    all.insert(node->spec().pod_cidr());
    if (node->spec().pod_cidrs_size() > 0) {
      EXPECT_EQ(node->spec().pod_cidrs(0), node->spec().pod_cidr());
    }
  }
  EXPECT_EQ(all, (std::set<std::string>{"10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24", "10.244.3.0/24"}));
  EXPECT_EQ(CidrOf("old"), "10.244.0.0/24");
}

TEST_F(NodeIpamControllerTest, ADeletedNodesBlockIsFreeAgainAndAFailedWriteIsRetried) {
  Start();
  PutNode("a");
  env_.Advance(absl::Seconds(1));
  EXPECT_EQ(CidrOf("a"), "10.244.0.0/24");
  api_.Remove(client::GvrOf<corev1::Node>(), "a");
  env_.Advance(absl::Seconds(1));
  int failures = 2;
  api_.set_fault([&](const std::string& call) {
    return call == "patch nodes" && failures-- > 0 ? absl::UnavailableError("down") : absl::OkStatus();
  });
  PutNode("b");
  env_.Advance(absl::Seconds(5));
  EXPECT_EQ(CidrOf("b"), "10.244.0.0/24");
}

}  // namespace
}  // namespace keelson::master
