#include "client/informer.h"

#include <gtest/gtest.h>

#include "api/core/v1/pod.pb.h"
#include "api/status_error.h"
#include "base/fake_env.h"
#include "base/strings.h"
#include "client/testing/fake_api_client.h"

namespace keelson::client {
namespace {

namespace corev1 = ::k8s::core::v1;

corev1::Pod MakePod(const std::string& name, const std::string& node = "") {
  corev1::Pod pod;
  pod.mutable_metadata()->set_namespace_("default");
  pod.mutable_metadata()->set_name(name);
  pod.mutable_spec()->set_node_name(node);
  return pod;
}

class InformerTest : public ::testing::Test {
 protected:
  void Start(InformerOptions options = {}) {
    informer_ = std::make_unique<Informer>(env_, api_, GvrOf<corev1::Pod>(), options);
    informer_->AddIndex("node", [](const Message& object) {
      const auto& node = static_cast<const corev1::Pod&>(object).spec().node_name();
      return node.empty() ? std::vector<std::string>() : std::vector<std::string>({node});
    });
    informer_->AddHandler([this](const ObjectPtr& before, const ObjectPtr& after) {
      const ObjectPtr& any = after != nullptr ? after : before;
      log_.push_back(StrCat(before == nullptr ? "+" : after == nullptr ? "-" : "~", api::Meta(*any).name()));
    });
    informer_->Start();
    env_.AwaitVoid(informer_->WaitForSync());
    env_.Settle();
  }
  void TearDown() override { env_.AwaitVoid(informer_->Stop()); }

  FakeEnv env_;
  FakeApiClient api_{env_};
  std::unique_ptr<Informer> informer_;
  std::vector<std::string> log_;
};

TEST_F(InformerTest, ListsThenFollows) {
  api_.Put(MakePod("a", "n1"));
  Start();
  EXPECT_EQ(informer_->size(), 1u);
  api_.Put(MakePod("b"));
  api_.Put(MakePod("b", "n1"));
  env_.Settle();
  EXPECT_EQ(informer_->ByIndex("node", "n1").size(), 2u);
  api_.Remove(GvrOf<corev1::Pod>(), "default/a");
  env_.Settle();
  EXPECT_EQ(informer_->ByIndex("node", "n1").size(), 1u);
  EXPECT_EQ(informer_->Get<corev1::Pod>("default/a"), nullptr);
  EXPECT_EQ(log_, std::vector<std::string>({"+a", "+b", "~b", "-a"}));
  EXPECT_EQ(informer_->lists(), 1);
}

TEST_F(InformerTest, AnEndedWatchResumesWithoutListing) {
  Start();
  api_.EndWatches();
  api_.Put(MakePod("late"));
  env_.Advance(absl::Seconds(1));
  EXPECT_NE(informer_->GetByKey("default/late"), nullptr);
  EXPECT_EQ(informer_->lists(), 1);
}

TEST_F(InformerTest, GoneListsAgainAndReportsTheDifferenceOnce) {
  api_.Put(MakePod("stays"));
  api_.Put(MakePod("goes"));
  api_.Put(MakePod("replaced"));
  Start();
  log_.clear();
  api_.set_fault([](const std::string& call) {
    return call == "watch pods" || call == "list pods" ? absl::UnavailableError("down") : absl::OkStatus();
  });
  api_.EndWatches();
  env_.Advance(absl::Seconds(1));
  api_.Remove(GvrOf<corev1::Pod>(), "default/goes");
  api_.Remove(GvrOf<corev1::Pod>(), "default/replaced");
  api_.Put(MakePod("replaced"));
  api_.EndWatches(/*gone=*/true);
  api_.set_fault(nullptr);
  env_.Advance(absl::Minutes(1));
  EXPECT_EQ(log_, std::vector<std::string>({"-goes", "-replaced", "+replaced"}));
  EXPECT_EQ(informer_->lists(), 2);
}

TEST_F(InformerTest, SelectorIsPassedOn) {
  api_.Put(MakePod("mine", "n1"));
  api_.Put(MakePod("other", "n2"));
  InformerOptions options;
  options.field_selector = "spec.nodeName=n1";
  Start(options);
  EXPECT_EQ(informer_->size(), 1u);
}

}  // namespace
}  // namespace keelson::client
