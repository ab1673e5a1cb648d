#include "master/controllers/bootstrap_controller.h"

#include <gtest/gtest.h>

#include "api/core/v1/config.pb.h"
#include "api/core/v1/namespace.pb.h"
#include "master/controllers/service_account_controller.h"
#include "master/controllers/testing.h"

namespace keelson::master {
namespace {

namespace corev1 = ::k8s::core::v1;
using Slice = ::k8s::discovery::v1::EndpointSlice;

class BootstrapControllerTest : public ControllerTest {
 protected:
  void SetUp() override {
    controller_ = std::make_unique<BootstrapController>(context(), options_);
    accounts_ = std::make_unique<ServiceAccountController>(context());
    StartInformers();
    controller_->Start();
    accounts_->Start();
    env_.Advance(absl::Seconds(2));
  }
  void TearDown() override {
    env_.AwaitVoid(controller_->Stop());
    env_.AwaitVoid(accounts_->Stop());
    ControllerTest::TearDown();
  }
  BootstrapOptions options_{"10.96.0.0/12", "192.0.2.7", 6443};
  std::unique_ptr<BootstrapController> controller_;
  std::unique_ptr<ServiceAccountController> accounts_;
};

TEST_F(BootstrapControllerTest, MakesNamespacesAccountsAndTheService) {
  EXPECT_EQ(api_.All<corev1::Namespace>().size(), 4u);
  EXPECT_EQ(api_.All<corev1::ServiceAccount>().size(), 4u);
  EXPECT_NE(api_.FindAs<corev1::ServiceAccount>("kube-system/default"), nullptr);
  auto service = api_.FindAs<corev1::Service>("default/kubernetes");
  ASSERT_NE(service, nullptr);
  EXPECT_EQ(service->spec().cluster_ip(), "10.96.0.1");
  EXPECT_EQ(service->spec().ports(0).port(), 443);
  EXPECT_EQ(service->spec().ports(0).name(), "https");
  EXPECT_EQ(service->spec().ports(0).target_port().int_val(), 6443);
  EXPECT_EQ(api_.FindAs<corev1::Endpoints>("default/kubernetes")->subsets(0).addresses(0).ip(), "192.0.2.7");
  EXPECT_EQ(api_.FindAs<Slice>("default/kubernetes")->endpoints(0).addresses(0), "192.0.2.7");
}

TEST_F(BootstrapControllerTest, RepairsWhatIsDeletedOrChanged) {
  api_.Remove(client::GvrOf<corev1::Service>(), "default/kubernetes");
  api_.Remove(client::GvrOf<Slice>(), "default/kubernetes");
  api_.Remove(client::GvrOf<corev1::Namespace>(), "kube-public");
  api_.Remove(client::GvrOf<corev1::ServiceAccount>(), "default/default");
  auto endpoints = *api_.FindAs<corev1::Endpoints>("default/kubernetes");
  endpoints.mutable_subsets(0)->mutable_addresses(0)->set_ip("192.0.2.99");
  api_.Put(endpoints);
  env_.Advance(absl::Seconds(2));
  EXPECT_NE(api_.FindAs<corev1::Service>("default/kubernetes"), nullptr);
  EXPECT_NE(api_.FindAs<Slice>("default/kubernetes"), nullptr);
  EXPECT_NE(api_.FindAs<corev1::Namespace>("kube-public"), nullptr);
  EXPECT_NE(api_.FindAs<corev1::ServiceAccount>("default/default"), nullptr);
  EXPECT_EQ(api_.FindAs<corev1::Endpoints>("default/kubernetes")->subsets(0).addresses(0).ip(), "192.0.2.7");
}

TEST_F(BootstrapControllerTest, ATerminatingNamespaceGetsNoAccount) {
  PutJson<corev1::Namespace>(R"({"metadata":{"name":"gone","deletionTimestamp":"2026-01-01T00:00:00Z"}})");
  env_.Advance(absl::Seconds(2));
  EXPECT_EQ(api_.FindAs<corev1::ServiceAccount>("gone/default"), nullptr);
}

}  // namespace
}  // namespace keelson::master
