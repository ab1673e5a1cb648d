#include "master/controllers/namespace_controller.h"

#include <gtest/gtest.h>

#include "api/core/v1/config.pb.h"
#include "api/core/v1/replication_controller.pb.h"
#include "api/core/v1/service.pb.h"
#include "base/strings.h"
#include "master/controllers/testing.h"

namespace keelson::master {
namespace {

namespace corev1 = ::k8s::core::v1;

class NamespaceControllerTest : public ControllerTest {
 protected:
  // "status reason: message"
  std::string Condition(const std::string& type) {
    for (const auto& condition : api_.FindAs<corev1::Namespace>("x")->status().conditions()) {
      if (condition.type() == type) {
        EXPECT_NE(condition.last_transition_time().seconds(), 0);
        return StrCat(condition.status(), " ", condition.reason(), ": ", condition.message());
      }
    }
    return "";
  }
};

TEST_F(NamespaceControllerTest, ATerminatingNamespaceIsEmptiedAndThenRemoved) {
  NamespaceController controller(context());
  StartInformers();
  controller.Start();
  PutJson<corev1::ConfigMap>(R"({"metadata":{"name":"c","namespace":"x"}})");
  PutJson<corev1::ConfigMap>(R"({"metadata":{"name":"c","namespace":"other"}})");
  PutJson<corev1::ReplicationController>(R"({"metadata":{"name":"r","namespace":"x"}})");
  PutJson<corev1::Pod>(
      R"({"metadata":{"name":"p","namespace":"x","finalizers":["test/hold"]},"spec":{"nodeName":"n1"}})");  // ends gracefully
  PutJson<corev1::Namespace>(
      R"({"metadata":{"name":"x","deletionTimestamp":"2026-01-01T00:00:00Z"},"spec":{"finalizers":["kubernetes"]}})");
  env_.Advance(absl::Seconds(5));
  EXPECT_EQ(api_.FindAs<corev1::ConfigMap>("x/c"), nullptr);
  EXPECT_EQ(api_.FindAs<corev1::ReplicationController>("x/r"), nullptr);
  ASSERT_NE(api_.FindAs<corev1::Pod>("x/p"), nullptr);
  EXPECT_TRUE(api_.FindAs<corev1::Pod>("x/p")->metadata().has_deletion_timestamp());
  ASSERT_NE(api_.FindAs<corev1::Namespace>("x"), nullptr);
  EXPECT_EQ(Condition("NamespaceDeletionDiscoveryFailure"),
            "False ResourcesDiscovered: All resources successfully discovered");
  EXPECT_EQ(Condition("NamespaceDeletionContentFailure"),
            "False ContentDeleted: All content successfully deleted, may be waiting on finalization");
  EXPECT_EQ(Condition("NamespaceContentRemaining"),
            "True SomeResourcesRemain: Some resources are remaining: pods. has 1 resource instances");
  EXPECT_EQ(
      Condition("NamespaceFinalizersRemaining"),
      "True SomeFinalizersRemain: Some content in the namespace has finalizers remaining: test/hold in 1 "
      "resource instances");
  const int writes = api_.calls("patch namespaces/status");
  env_.Advance(absl::Seconds(10));
  EXPECT_EQ(api_.calls("patch namespaces/status"), writes);  // nothing new to say
  api_.Remove(client::GvrOf<corev1::Pod>(), "x/p");          // the kubelet is done
  env_.Advance(absl::Seconds(5));
  EXPECT_EQ(api_.FindAs<corev1::Namespace>("x"), nullptr);
  EXPECT_NE(api_.FindAs<corev1::ConfigMap>("other/c"), nullptr);
  env_.AwaitVoid(controller.Stop());
}

TEST_F(NamespaceControllerTest, AKindThatCannotBeDeletedIsNamedAndHoldsUpNoOther) {
  NamespaceController controller(context());
  StartInformers();
  controller.Start();
  bool down = true;
  api_.set_fault([&](const std::string& call) {
    return call == "delete services" && down ? absl::UnavailableError("down") : absl::OkStatus();
  });
  PutJson<corev1::Service>(R"({"metadata":{"name":"s","namespace":"x"}})");
  PutJson<corev1::ConfigMap>(R"({"metadata":{"name":"c","namespace":"x"}})");
  PutJson<corev1::Namespace>(
      R"({"metadata":{"name":"x","deletionTimestamp":"2026-01-01T00:00:00Z"},"spec":{"finalizers":["kubernetes"]}})");
  env_.Advance(absl::Seconds(5));
  EXPECT_EQ(api_.FindAs<corev1::ConfigMap>("x/c"), nullptr);
  ASSERT_NE(api_.FindAs<corev1::Namespace>("x"), nullptr);
  EXPECT_EQ(Condition("NamespaceDeletionContentFailure"),
            "True ContentDeletionFailed: Failed to delete all resource types, 1 remaining: down");
  EXPECT_EQ(Condition("NamespaceFinalizersRemaining"),
            "False ContentHasNoFinalizers: All content-preserving finalizers finished");
  down = false;
  env_.Advance(absl::Minutes(5));
  EXPECT_EQ(api_.FindAs<corev1::Namespace>("x"), nullptr);
  env_.AwaitVoid(controller.Stop());
}

}  // namespace
}  // namespace keelson::master
