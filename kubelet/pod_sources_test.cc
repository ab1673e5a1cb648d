#include "kubelet/pod_sources.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <set>

#include "base/fake_env.h"
#include "base/fd.h"
#include "base/strings.h"
#include "base/testing/few_descriptors.h"

namespace keelson::kubelet {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr absl::Duration kPeriod = absl::Seconds(20);

class FilePodSourceTest : public testing::Test {
 protected:
  FilePodSourceTest() {
    char name[] = "/tmp/keelson-manifests-XXXXXX";
    dir_ = ::mkdtemp(name);
  }
  void TearDown() override {
    if (source_ != nullptr) env_.AwaitVoid(source_->Stop());
    EXPECT_TRUE(RemoveTree(dir_).ok());
  }
  void Write(const std::string& file, const std::string& pod) {
    std::string text = StrCat("apiVersion: v1\nkind: Pod\nmetadata:\n  name: ", pod,
                              "\nspec:\n  containers:\n  - name: main\n    image: app:1\n");
    ASSERT_TRUE(WriteFileAtomic(StrCat(dir_, "/", file), text, 0644, false).ok());
  }
  void Start(const std::string& path) {
    source_ = NewFilePodSource(env_, path, "n1", kPeriod, [this](const PodPtr& before, const PodPtr& after) {
      if (before != nullptr) pods_.erase(before->metadata().name());
      if (after != nullptr) pods_.insert(after->metadata().name());
    });
    source_->Start();
    env_.Settle();
  }
  FakeEnv env_;
  std::string dir_;
  std::unique_ptr<PodSource> source_;
  std::set<std::string> pods_;
};

TEST_F(FilePodSourceTest, FilesComeAndGo) {
  Write("a.yaml", "a");
  Write(".hidden.yaml", "hidden");
  ASSERT_TRUE(MakeDirs(dir_ + "/folder.yaml").ok());
  Start(dir_);
  EXPECT_TRUE(source_->Ready());
  EXPECT_THAT(pods_, ElementsAre("a-n1"));
  Write("b.yaml", "b");
  env_.Advance(kPeriod);
  EXPECT_THAT(pods_, ElementsAre("a-n1", "b-n1"));
  std::filesystem::remove(dir_ + "/a.yaml");
  env_.Advance(kPeriod);
  EXPECT_THAT(pods_, ElementsAre("b-n1"));
}

TEST_F(FilePodSourceTest, OneFileAndNone) {
  Write("a.yaml", "a");
  Start(dir_ + "/a.yaml");
  EXPECT_THAT(pods_, ElementsAre("a-n1"));
  std::filesystem::remove(dir_ + "/a.yaml");
  env_.Advance(kPeriod);
  EXPECT_THAT(pods_, IsEmpty());
  EXPECT_TRUE(source_->Ready());
}

// A folder that cannot be read now does not say that its pods are to be stopped.
TEST_F(FilePodSourceTest, WithoutDescriptorsPodsStay) {
  Write("a.yaml", "a");
  {
    FewDescriptors limit(0);
    Start(dir_);
    EXPECT_FALSE(source_->Ready());
  }
  env_.Advance(kPeriod);
  EXPECT_TRUE(source_->Ready());
  EXPECT_THAT(pods_, ElementsAre("a-n1"));
  for (int more = 0; more < 3; ++more) {
    FewDescriptors limit(more);
    env_.Advance(kPeriod);
    EXPECT_THAT(pods_, ElementsAre("a-n1")) << "with " << more << " descriptors";
  }
}

TEST_F(FilePodSourceTest, AnInvalidPodHoldsUpNoOther) {
  Write("a.yaml", "a");
  Write("b.yaml", "Not_A_Name");
  Start(dir_);
  EXPECT_THAT(pods_, ElementsAre("a-n1"));
  Write("b.yaml", "b");
  env_.Advance(kPeriod);
  EXPECT_THAT(pods_, ElementsAre("a-n1", "b-n1"));
}

}  // namespace
}  // namespace keelson::kubelet
