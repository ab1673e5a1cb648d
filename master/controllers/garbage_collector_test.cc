#include "master/controllers/garbage_collector.h"

#include <gtest/gtest.h>

#include "api/core/v1/config.pb.h"
#include "api/core/v1/node.pb.h"
#include "api/core/v1/replication_controller.pb.h"
#include "api/storage/v1/storage.pb.h"
#include "base/strings.h"
#include "master/controllers/testing.h"

namespace keelson::master {
namespace {

namespace corev1 = ::k8s::core::v1;
using Rc = corev1::ReplicationController;
using ::k8s::storage::v1::CSINode;

class GarbageCollectorTest : public ControllerTest {
 protected:
  void SetUp() override {
    controller_ = std::make_unique<GarbageCollector>(context());
    StartInformers();
    controller_->Start();
  }
  void TearDown() override {
    env_.AwaitVoid(controller_->Stop());
    ControllerTest::TearDown();
  }
  void Run() { env_.Advance(absl::Seconds(2)); }
  void PutRc(const std::string& name, const std::string& meta = "") {
    PutJson<Rc>(
        StrCat(R"({"metadata":{"namespace":"d","name":")", name, R"(","uid":"uid-)", name, "\"", meta, "}}"));
  }
  static std::string Owner(const std::string& name, bool block = true) {
    return StrCat(R"({"apiVersion":"v1","kind":"ReplicationController","name":")", name, R"(","uid":"uid-)",
                  name, R"(","controller":)", block ? "true" : "false", R"(,"blockOwnerDeletion":)",
                  block ? "true" : "false", "}");
  }
  void PutPod(const std::string& name, const std::string& owners, const std::string& meta = "") {
    PutJson<corev1::Pod>(StrCat(R"({"metadata":{"namespace":"d","name":")", name, R"(","uid":"uid-)", name,
                                R"(","ownerReferences":[)", owners, "]", meta, "}}"));
  }
  std::shared_ptr<const corev1::Pod> Pod(const std::string& name) {
    return api_.FindAs<corev1::Pod>("d/" + name);
  }
  std::unique_ptr<GarbageCollector> controller_;
};

TEST_F(GarbageCollectorTest, DependentsFollowTheirOwner) {
  PutRc("web");
  PutPod("p", Owner("web"));
  Run();
  EXPECT_NE(Pod("p"), nullptr);
  api_.Remove(client::GvrOf<Rc>(), "d/web");
  Run();
  EXPECT_EQ(Pod("p"), nullptr);
}

TEST_F(GarbageCollectorTest, ACsiNodeGoesWithItsNode) {
  PutJson<corev1::Node>(R"({"metadata":{"name":"n1","uid":"uid-n1"}})");
  PutJson<CSINode>(
      R"({"metadata":{"name":"n1","uid":"uid-c1","ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"n1","uid":"uid-n1"}]}})");
  Run();
  EXPECT_NE(api_.FindAs<CSINode>("n1"), nullptr);
  api_.Remove(client::GvrOf<corev1::Node>(), "n1");
  Run();
  EXPECT_EQ(api_.FindAs<CSINode>("n1"), nullptr);
}

TEST_F(GarbageCollectorTest, AnAbsentOwnerIsVerified) {
  PutPod("orphan", Owner("never"));
  Run();
  EXPECT_EQ(Pod("orphan"), nullptr);
  // Made again under the name: the uid is another.
  PutRc("web");
  PutPod("old", StrCat(R"({"apiVersion":"v1","kind":"ReplicationController","name":"web","uid":"former"})"));
  // A kind this server does not know is nobody's to judge.
  PutPod("foreign", R"({"apiVersion":"example.com/v1","kind":"Thing","name":"t","uid":"u"})");
  Run();
  EXPECT_EQ(Pod("old"), nullptr);
  EXPECT_NE(Pod("foreign"), nullptr);
}

TEST_F(GarbageCollectorTest, AnUnreachableServerDeletesNothing) {
  bool down = true;
  api_.set_fault([&](const std::string& call) {
    return call == "get replicationcontrollers" && down ? absl::UnavailableError("down") : absl::OkStatus();
  });
  PutPod("p", Owner("gone"));
  Run();
  EXPECT_NE(Pod("p"), nullptr);
  down = false;
  env_.Advance(absl::Minutes(2));
  EXPECT_EQ(Pod("p"), nullptr);
}

TEST_F(GarbageCollectorTest, OneLivingOwnerKeepsIt) {
  PutRc("a");
  PutRc("b");
  PutPod("p", StrCat(Owner("a"), ",", Owner("b", false)));
  Run();
  api_.Remove(client::GvrOf<Rc>(), "d/a");
  Run();
  ASSERT_NE(Pod("p"), nullptr);
  ASSERT_EQ(Pod("p")->metadata().owner_references_size(), 1);
  EXPECT_EQ(Pod("p")->metadata().owner_references(0).name(), "b");
}

TEST_F(GarbageCollectorTest, OrphanReleasesTheDependents) {
  PutRc("web");
  PutPod("p", Owner("web"));
  Run();
  PutRc("web", R"(,"deletionTimestamp":"2026-01-01T00:00:00Z","finalizers":["orphan"])");
  Run();
  ASSERT_NE(Pod("p"), nullptr);
  EXPECT_EQ(Pod("p")->metadata().owner_references_size(), 0);
  auto rc = api_.FindAs<Rc>("d/web");
  EXPECT_TRUE(rc == nullptr || rc->metadata().finalizers().empty());
}

TEST_F(GarbageCollectorTest, ForegroundWaitsForBlockingDependents) {
  PutRc("web");
  PutPod("p", Owner("web"), R"(,"finalizers":["test/hold"])");
  Run();
  PutRc("web", R"(,"deletionTimestamp":"2026-01-01T00:00:00Z","finalizers":["foregroundDeletion"])");
  Run();
  ASSERT_NE(Pod("p"), nullptr);
  EXPECT_TRUE(Pod("p")->metadata().has_deletion_timestamp());
  EXPECT_EQ(api_.FindAs<Rc>("d/web")->metadata().finalizers_size(), 1);
  api_.Remove(client::GvrOf<corev1::Pod>(), "d/p");
  Run();
  auto rc = api_.FindAs<Rc>("d/web");
  EXPECT_TRUE(rc == nullptr || rc->metadata().finalizers().empty());
}

}  // namespace
}  // namespace keelson::master
