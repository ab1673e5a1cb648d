#include "master/controllers/endpoint_slice_mirroring_controller.h"

#include <gtest/gtest.h>

#include "api/core/v1/event.pb.h"
#include "base/strings.h"
#include "master/controllers/testing.h"

namespace keelson::master {
namespace {

namespace corev1 = ::k8s::core::v1;
using Slice = ::k8s::discovery::v1::EndpointSlice;

class EndpointSliceMirroringControllerTest : public ControllerTest {
 protected:
  void SetUp() override {
    controller_ = std::make_unique<EndpointSliceMirroringController>(context());
    StartInformers();
    controller_->Start();
  }
  void TearDown() override {
    env_.AwaitVoid(controller_->Stop());
    ControllerTest::TearDown();
  }
  void PutService(const std::string& spec = R"("ports":[{"port":80}])") {
    PutJson<corev1::Service>(StrCat(R"({"metadata":{"name":"db","namespace":"d"},"spec":{)", spec, "}}"));
  }
  void PutEndpoints(const std::string& subsets, const std::string& meta = "") {
    PutJson<corev1::Endpoints>(StrCat(R"({"metadata":{"name":"db","namespace":"d","uid":"u1")", meta,
                                      R"(},"subsets":[)", subsets, "]}"));
  }
  void Run() { env_.Advance(absl::Seconds(1)); }
  // "IPv4 80: 10.0.0.1+ 10.0.0.2-; ..."
  std::string Mirrors() {
    std::string out;
    for (const auto& slice : api_.All<Slice>()) {
      StrAppend(&out, out.empty() ? "" : "; ", slice->address_type());
      for (const auto& port : slice->ports()) StrAppend(&out, " ", port.port());
      StrAppend(&out, ":");
      for (const auto& endpoint : slice->endpoints()) {
        StrAppend(&out, " ", endpoint.addresses(0), endpoint.conditions().ready() ? "+" : "-");
      }
    }
    return out;
  }
  static constexpr char kOne[] = R"({"addresses":[{"ip":"10.0.0.1"}],"ports":[{"port":80}]})";
  std::unique_ptr<EndpointSliceMirroringController> controller_;
};

TEST_F(EndpointSliceMirroringControllerTest, HandMadeEndpointsBecomeSlices) {
  PutService();
  PutEndpoints(R"({"addresses":[{"ip":"10.0.0.1","nodeName":"n1","hostname":"a"}],
                   "notReadyAddresses":[{"ip":"10.0.0.2"}],"ports":[{"name":"p","port":5432}]})",
               R"(,"labels":{"app":"db"},"annotations":{"mine":"x",
                  "kubectl.kubernetes.io/last-applied-configuration":"{}"})");
  Run();
  ASSERT_EQ(Mirrors(), "IPv4 5432: 10.0.0.1+ 10.0.0.2-");
  auto slice = api_.All<Slice>()[0];
  EXPECT_TRUE(slice->metadata().name().starts_with("db-"));
  EXPECT_EQ(slice->metadata().labels().at("endpointslice.kubernetes.io/managed-by"),
            "endpointslicemirroring-controller.k8s.io");
  EXPECT_EQ(slice->metadata().labels().at("kubernetes.io/service-name"), "db");
  EXPECT_EQ(slice->metadata().labels().at("app"), "db");
  EXPECT_EQ(slice->metadata().annotations().size(), 1u);
  ASSERT_EQ(slice->metadata().owner_references_size(), 1);
  EXPECT_EQ(slice->metadata().owner_references(0).kind(), "Endpoints");
  EXPECT_EQ(slice->metadata().owner_references(0).uid(), "u1");
  EXPECT_EQ(slice->ports(0).name(), "p");
  EXPECT_EQ(slice->ports(0).protocol(), "TCP");
  EXPECT_EQ(slice->endpoints(0).node_name(), "n1");
  EXPECT_EQ(slice->endpoints(0).hostname(), "a");
}

TEST_F(EndpointSliceMirroringControllerTest, OnePerFamilyAndSetOfPorts) {
  PutService();
  PutEndpoints(R"({"addresses":[{"ip":"10.0.0.1"},{"ip":"fd00::1"}],"ports":[{"port":80}]},
                  {"addresses":[{"ip":"10.0.0.2"}],"ports":[{"port":81}]},
                  {"addresses":[{"ip":"10.0.0.3"}],"ports":[{"port":80}]})");
  Run();
  EXPECT_EQ(api_.All<Slice>().size(), 3u);
  EXPECT_NE(Mirrors().find("IPv4 80: 10.0.0.1+ 10.0.0.3+"), std::string::npos) << Mirrors();
  EXPECT_NE(Mirrors().find("IPv4 81: 10.0.0.2+"), std::string::npos) << Mirrors();
  EXPECT_NE(Mirrors().find("IPv6 80: fd00::1+"), std::string::npos) << Mirrors();
}

TEST_F(EndpointSliceMirroringControllerTest, FollowsUpdatesAndDeletions) {
  PutService();
  PutEndpoints(kOne);
  Run();
  PutEndpoints(R"({"addresses":[{"ip":"10.0.0.9"}],"ports":[{"port":8080}]})");
  Run();
  EXPECT_EQ(Mirrors(), "IPv4 8080: 10.0.0.9+");
  EXPECT_EQ(api_.calls("create endpointslices"), 1);
  Slice edited = *api_.All<Slice>()[0];
  edited.clear_endpoints();
  api_.Put(edited);
  Run();
  EXPECT_EQ(Mirrors(), "IPv4 8080: 10.0.0.9+");
  const int writes = api_.calls("update endpointslices");
  PutService();
  Run();
  EXPECT_EQ(api_.calls("update endpointslices"), writes);
  api_.Remove(client::GvrOf<corev1::Endpoints>(), "d/db");
  Run();
  EXPECT_EQ(Mirrors(), "");
  PutEndpoints(kOne);
  Run();
  EXPECT_EQ(Mirrors(), "IPv4 80: 10.0.0.1+");
  api_.Remove(client::GvrOf<corev1::Service>(), "d/db");
  Run();
  EXPECT_EQ(Mirrors(), "");
}

TEST_F(EndpointSliceMirroringControllerTest, OnlyWhatIsTheUsersAndIsAskedFor) {
  PutEndpoints(kOne);
  Run();
  EXPECT_EQ(Mirrors(), "");  // no Service
  PutService(R"("selector":{"app":"db"})");
  Run();
  EXPECT_EQ(Mirrors(), "");  // the endpoints controller's
  PutService();
  Run();
  EXPECT_EQ(Mirrors(), "IPv4 80: 10.0.0.1+");
  PutEndpoints(kOne, R"(,"labels":{"endpointslice.kubernetes.io/skip-mirror":"true"})");
  Run();
  EXPECT_EQ(Mirrors(), "");
  PutEndpoints(kOne, R"(,"labels":{"endpointslice.kubernetes.io/skip-mirror":"false"})");
  Run();
  EXPECT_EQ(Mirrors(), "IPv4 80: 10.0.0.1+");
  PutEndpoints(kOne, R"(,"annotations":{"control-plane.alpha.kubernetes.io/leader":"{}"})");
  Run();
  EXPECT_EQ(Mirrors(), "");
}

TEST_F(EndpointSliceMirroringControllerTest, ForeignSlicesOfTheServiceStay) {
  PutService();
  PutJson<Slice>(R"({"metadata":{"name":"mine","namespace":"d","labels":{"kubernetes.io/service-name":"db"}},
                     "addressType":"IPv4"})");
  PutEndpoints(kOne);
  Run();
  EXPECT_EQ(api_.All<Slice>().size(), 2u);
  api_.Remove(client::GvrOf<corev1::Endpoints>(), "d/db");
  Run();
  EXPECT_EQ(api_.All<Slice>().size(), 1u);
}

TEST_F(EndpointSliceMirroringControllerTest, WhatIsLeftOutIsTold) {
  PutService();
  std::string addresses = R"({"ip":"nonsense"})";
  for (int i = 0; i < 1003; ++i) {
    StrAppend(&addresses, R"(,{"ip":"10.0.)", i / 250, ".", i % 250 + 1, R"("})");
  }
  PutEndpoints(StrCat(R"({"addresses":[)", addresses, R"(],"ports":[{"port":80}]})"));
  Run();
  ASSERT_EQ(api_.All<Slice>().size(), 1u);
  EXPECT_EQ(api_.All<Slice>()[0]->endpoints_size(), 1000);
  std::map<std::string, std::string> told;
  for (const auto& event : api_.All<corev1::Event>()) told[event->reason()] = event->message();
  EXPECT_EQ(told["InvalidIPAddress"], "Skipped 1 invalid IP addresses when mirroring to EndpointSlices");
  EXPECT_EQ(told["TooManyAddressesToMirror"],
            "A max of 1000 addresses can be mirrored to EndpointSlices per Endpoints subset. 4 addresses "
            "were skipped");
}

}  // namespace
}  // namespace keelson::master
