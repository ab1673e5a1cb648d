#include "master/controllers/namespace_controller.h"

#include <gtest/gtest.h>

#include "api/core/v1/config.pb.h"
#include "api/core/v1/replication_controller.pb.h"
#include "master/controllers/testing.h"

namespace keelson::master {
namespace {

namespace corev1 = ::k8s::core::v1;

TEST_F(ControllerTest, ATerminatingNamespaceIsEmptiedAndThenRemoved) {
  NamespaceController controller(context());
  StartInformers();
  controller.Start();
  PutJson<corev1::ConfigMap>(R"({"metadata":{"name":"c","namespace":"x"}})");
  PutJson<corev1::ConfigMap>(R"({"metadata":{"name":"c","namespace":"other"}})");
  PutJson<corev1::ReplicationController>(R"({"metadata":{"name":"r","namespace":"x"}})");
  PutJson<corev1::Pod>(
      R"({"metadata":{"name":"p","namespace":"x"},"spec":{"nodeName":"n1"}})");  // ends gracefully
  PutJson<corev1::Namespace>(
      R"({"metadata":{"name":"x","deletionTimestamp":"2026-01-01T00:00:00Z"},"spec":{"finalizers":["kubernetes"]}})");
  env_.Advance(absl::Seconds(5));
  EXPECT_EQ(api_.FindAs<corev1::ConfigMap>("x/c"), nullptr);
  EXPECT_EQ(api_.FindAs<corev1::ReplicationController>("x/r"), nullptr);
  ASSERT_NE(api_.FindAs<corev1::Pod>("x/p"), nullptr);
  EXPECT_TRUE(api_.FindAs<corev1::Pod>("x/p")->metadata().has_deletion_timestamp());
  EXPECT_NE(api_.FindAs<corev1::Namespace>("x"), nullptr);
  api_.Remove(client::GvrOf<corev1::Pod>(), "x/p");  // the kubelet is done
  env_.Advance(absl::Seconds(5));
  EXPECT_EQ(api_.FindAs<corev1::Namespace>("x"), nullptr);
  EXPECT_NE(api_.FindAs<corev1::ConfigMap>("other/c"), nullptr);
  env_.AwaitVoid(controller.Stop());
}

}  // namespace
}  // namespace keelson::master
