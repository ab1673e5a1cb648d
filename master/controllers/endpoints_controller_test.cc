#include "master/controllers/endpoints_controller.h"

#include <gtest/gtest.h>

#include "base/strings.h"
#include "master/controllers/testing.h"

namespace keelson::master {
namespace {

namespace corev1 = ::k8s::core::v1;
using Slice = ::k8s::discovery::v1::EndpointSlice;

class EndpointsControllerTest : public ControllerTest {
 protected:
  void SetUp() override {
    controller_ = std::make_unique<EndpointsController>(context());
    StartInformers();
    controller_->Start();
    PutJson<corev1::Service>(
        R"({"metadata":{"name":"web","namespace":"d"},"spec":{"selector":{"app":"web"},"ports":[{"port":80,"protocol":"TCP","targetPort":"http"}]}})");
  }
  void TearDown() override {
    env_.AwaitVoid(controller_->Stop());
    ControllerTest::TearDown();
  }
  void AddPod(const std::string& name, const std::string& ip, bool ready) {
    PutJson<corev1::Pod>(StrCat(
        R"({"metadata":{"name":")", name,
        R"(","namespace":"d","labels":{"app":"web"}},"spec":{"containers":[{"name":"c","ports":[{"name":"http","containerPort":8080,"protocol":"TCP"}]}]},"status":{"podIP":")",
        ip, R"("}})"));
    SetPod("d/" + name, "n1", "Running", ready);
  }
  void Run() { env_.Advance(absl::Seconds(1)); }
  std::string Addresses() {
    std::string out;
    for (const auto& slice : api_.All<Slice>()) {
      for (const auto& endpoint : slice->endpoints()) {
        StrAppend(&out, out.empty() ? "" : " ", endpoint.addresses(0),
                  endpoint.conditions().ready() ? "+" : "-");
      }
    }
    return out;
  }
  std::unique_ptr<EndpointsController> controller_;
};

TEST_F(EndpointsControllerTest, FollowsReadiness) {
  AddPod("a", "10.0.0.1", true);
  AddPod("b", "10.0.0.2", false);
  Run();
  EXPECT_EQ(Addresses(), "10.0.0.1+ 10.0.0.2-");
  ASSERT_EQ(api_.All<Slice>().size(), 1u);
  EXPECT_EQ(api_.All<Slice>()[0]->ports(0).port(), 8080);
  auto endpoints = api_.FindAs<corev1::Endpoints>("d/web");
  ASSERT_NE(endpoints, nullptr);
  ASSERT_EQ(endpoints->subsets_size(), 1);
  EXPECT_EQ(endpoints->subsets(0).addresses(0).ip(), "10.0.0.1");
  EXPECT_EQ(endpoints->subsets(0).not_ready_addresses(0).ip(), "10.0.0.2");
  SetPod("d/b", "n1", "Running", true);
  Run();
  EXPECT_EQ(Addresses(), "10.0.0.1+ 10.0.0.2+");
  SetPod("d/a", "n1", "Failed", false);
  Run();
  EXPECT_EQ(Addresses(), "10.0.0.2+");
  int writes = api_.calls("update endpointslices");
  SetPod("d/b", "n1", "Running", true);  // nothing that matters changed
  Run();
  EXPECT_EQ(api_.calls("update endpointslices"), writes);
}

TEST_F(EndpointsControllerTest, AServiceThatGoesTakesItsEndpointsAlong) {
  AddPod("a", "10.0.0.1", true);
  Run();
  api_.Remove(client::GvrOf<corev1::Service>(), "d/web");
  Run();
  EXPECT_TRUE(api_.All<Slice>().empty());
  EXPECT_EQ(api_.FindAs<corev1::Endpoints>("d/web"), nullptr);
}

// A manifest may name them before their Service, and some are no Service's at all: locks of leader elections.
TEST_F(EndpointsControllerTest, EndpointsOfAUserMayComeBeforeTheirService) {
  PutJson<corev1::Endpoints>(
      R"({"metadata":{"name":"db","namespace":"d"},"subsets":[{"addresses":[{"ip":"10.9.9.9"}],"ports":[{"port":1}]}]})");
  PutJson<corev1::Endpoints>(
      R"({"metadata":{"name":"left","namespace":"d","labels":{"endpoints.kubernetes.io/managed-by":"endpoint-controller"}}})");
  Run();
  EXPECT_NE(api_.FindAs<corev1::Endpoints>("d/db"), nullptr);
  EXPECT_EQ(api_.FindAs<corev1::Endpoints>("d/left"), nullptr);  // a Service's that went while nobody looked
  PutJson<corev1::Service>(R"({"metadata":{"name":"db","namespace":"d"},"spec":{"ports":[{"port":1}]}})");
  Run();
  ASSERT_NE(api_.FindAs<corev1::Endpoints>("d/db"), nullptr);
  EXPECT_EQ(api_.FindAs<corev1::Endpoints>("d/db")->subsets_size(), 1);
  api_.Remove(client::GvrOf<corev1::Service>(), "d/db");
  Run();
  EXPECT_EQ(api_.FindAs<corev1::Endpoints>("d/db"), nullptr);
}

TEST_F(EndpointsControllerTest, LargeServicesTakeSeveralSlices) {
  for (int i = 0; i < 250; ++i) AddPod(StrCat("p", i), StrCat("10.0.", i / 200, ".", i % 200 + 1), true);
  env_.Advance(absl::Seconds(10));
  EXPECT_EQ(api_.All<Slice>().size(), 3u);
  for (const auto& slice : api_.All<Slice>()) EXPECT_LE(slice->endpoints_size(), 100);
}

TEST_F(EndpointsControllerTest, ForeignEditsAreUndone) {
  AddPod("a", "10.0.0.1", true);
  Run();
  Slice edited = *api_.All<Slice>()[0];
  edited.clear_endpoints();
  api_.Put(edited);
  Run();
  EXPECT_EQ(Addresses(), "10.0.0.1+");
}

}  // namespace
}  // namespace keelson::master
