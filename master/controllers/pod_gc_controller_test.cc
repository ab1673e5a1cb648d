#include "master/controllers/pod_gc_controller.h"

#include <gtest/gtest.h>

#include "api/core/v1/node.pb.h"
#include "base/strings.h"
#include "master/controllers/testing.h"

namespace keelson::master {
namespace {

namespace corev1 = ::k8s::core::v1;

class PodGcControllerTest : public ControllerTest {
 protected:
  void Start(size_t threshold) {
    controller_ = std::make_unique<PodGcController>(context(), threshold);
    StartInformers();
    controller_->Start();
  }
  void TearDown() override {
    env_.AwaitVoid(controller_->Stop());
    ControllerTest::TearDown();
  }
  void PutPod(const std::string& name, const std::string& node, const std::string& phase,
              const std::string& meta = "") {
    PutJson<corev1::Pod>(StrCat(R"({"metadata":{"namespace":"d","name":")", name, "\"", meta,
                                R"(},"spec":{"nodeName":")", node, R"("},"status":{"phase":")", phase,
                                R"("}})"));
  }
  bool Exists(const std::string& name) { return api_.FindAs<corev1::Pod>("d/" + name) != nullptr; }
  std::unique_ptr<PodGcController> controller_;
};

TEST_F(PodGcControllerTest, PodsOfAGoneNodeGoAfterTheQuarantine) {
  PutJson<corev1::Node>(R"({"metadata":{"name":"n1"}})");
  PutPod("stays", "n1", "Running");
  PutPod("orphan", "n2", "Running");
  Start(10);
  env_.Advance(absl::Seconds(30));
  EXPECT_TRUE(Exists("orphan"));
  env_.Advance(absl::Seconds(40));
  EXPECT_FALSE(Exists("orphan"));
  EXPECT_TRUE(Exists("stays"));
}

TEST_F(PodGcControllerTest, TerminatedOverTheThresholdOldestFirst) {
  PutJson<corev1::Node>(R"({"metadata":{"name":"n1"}})");
  PutPod("young", "n1", "Failed", R"(,"creationTimestamp":"2026-01-03T00:00:00Z")");
  PutPod("old", "n1", "Succeeded", R"(,"creationTimestamp":"2026-01-01T00:00:00Z")");
  PutPod("runs", "n1", "Running", R"(,"creationTimestamp":"2025-01-01T00:00:00Z")");
  Start(1);
  env_.Advance(absl::Seconds(30));
  EXPECT_TRUE(Exists("young"));
  EXPECT_FALSE(Exists("old"));
  EXPECT_TRUE(Exists("runs"));
}

TEST_F(PodGcControllerTest, ATerminatingPodWithoutNodeGoesAtOnce) {
  PutPod("ending", "", "Pending", R"(,"deletionTimestamp":"2026-01-01T00:00:00Z")");
  PutPod("waiting", "", "Pending");
  Start(10);
  env_.Advance(absl::Seconds(30));
  EXPECT_FALSE(Exists("ending"));
  EXPECT_TRUE(Exists("waiting"));
}

TEST_F(PodGcControllerTest, PodsLeaveANodeThatIsOutOfService) {
  const char* taints = R"("taints":[{"key":"node.kubernetes.io/out-of-service","effect":"NoExecute"}])";
  auto put_node = [&](const std::string& name, const std::string& spec, const std::string& ready) {
    PutJson<corev1::Node>(StrCat(R"({"metadata":{"name":")", name, R"("},"spec":{)", spec,
                                 R"(},"status":{"conditions":[{"type":"Ready","status":")", ready,
                                 R"("}]}})"));
  };
  put_node("out", taints, "Unknown");
  put_node("silent", "", "Unknown");
  put_node("ready", taints, "True");
  const char* leaving = R"(,"deletionTimestamp":"2026-01-01T00:00:00Z")";
  PutPod("goes", "out", "Running", leaving);
  PutPod("stays", "out", "Running");
  PutPod("silent", "silent", "Running", leaving);
  PutPod("ready", "ready", "Running", leaving);
  Start(10);
  env_.Advance(absl::Seconds(30));
  EXPECT_FALSE(Exists("goes"));
  EXPECT_TRUE(Exists("stays"));
  EXPECT_TRUE(Exists("silent"));
  EXPECT_TRUE(Exists("ready"));
}

}  // namespace
}  // namespace keelson::master
