#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include "api/codec.h"
#include "base/fake_env.h"
#include "base/fd.h"
#include "client/testing/fake_api_client.h"
#include "kubelet/volumes/testing/fake_mounter.h"
#include "kubelet/volumes/volume_manager_impl.h"

namespace keelson::kubelet {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class Volumes : public ::testing::Test {
 protected:
  Volumes() {
    char path[] = "/tmp/volume_manager_XXXXXX";
    dir_ = ::mkdtemp(path);
    Restart();
  }
  ~Volumes() override {
    Stop();
    (void)RemoveTree(dir_);
  }
  void Stop() {
    if (volumes_ == nullptr) return;
    env_.AwaitVoid(volumes_->Stop());
    env_.AwaitVoid(objects_->Stop());
  }
  // A new kubelet on the same disk and mounts.
  void Restart() {
    Stop();
    volumes_.reset();
    objects_ = std::make_unique<CachedObjects>(env_, &api_);
    VolumeManagerOptions options;
    options.kubelet_dir = dir_;
    options.host_root = dir_ + "/host";
    volumes_ = std::make_unique<VolumeManagerImpl>(env_, objects_.get(), mounter_, options);
  }
  PodPtr Pod(const std::string& volumes, const std::string& more_spec = "") {
    auto pod = api::DecodeJsonAs<corev1::Pod>(
        R"({"metadata":{"name":"p","namespace":"ns","uid":"u1","labels":{"a":"b"}},
        "spec":{"containers":[{"name":"c","resources":{"limits":{"memory":"32Mi"}}}])" +
        more_spec + R"(,"volumes":[)" + volumes + "]}}");
    EXPECT_TRUE(pod.ok()) << pod.status();
    return std::make_shared<const corev1::Pod>(*pod);
  }
  absl::StatusOr<PodVolumes> Mount(const PodPtr& pod) {
    objects_->RegisterPod(pod);
    return env_.Await(volumes_->Mount(pod));
  }
  void PutMap(const std::string& value) {
    corev1::ConfigMap map;
    map.mutable_metadata()->set_namespace_("ns");
    map.mutable_metadata()->set_name("cm");
    (*map.mutable_data())["k"] = value;
    api_.Put(map);
  }
  std::string Read(const std::string& path) {
    auto text = ReadFile(path);
    return text.ok() ? *text : std::string(text.status().message());
  }
  FakeEnv env_;
  client::FakeApiClient api_{env_};
  std::shared_ptr<FakeMounter> mounter_ = std::make_shared<FakeMounter>();
  std::unique_ptr<CachedObjects> objects_;
  std::unique_ptr<VolumeManagerImpl> volumes_;
  std::string dir_;
};

TEST_F(Volumes, EveryTypeWithUpstreamsPaths) {
  PutMap("v");
  corev1::Secret secret;
  secret.mutable_metadata()->set_namespace_("ns");
  secret.mutable_metadata()->set_name("s");
  (*secret.mutable_data())["key"] = "hidden";
  api_.Put(secret);
  auto mounted = Mount(
      Pod(R"({"name":"disk","emptyDir":{}},{"name":"mem","emptyDir":{"medium":"Memory","sizeLimit":"64Mi"}},
      {"name":"host","hostPath":{"path":"/data","type":"DirectoryOrCreate"}},
      {"name":"cm","configMap":{"name":"cm"}},{"name":"s","secret":{"secretName":"s","defaultMode":256}},
      {"name":"da","downwardAPI":{"items":[{"path":"l","fieldRef":{"fieldPath":"metadata.labels"}}]}},
      {"name":"pr","projected":{"sources":[{"configMap":{"name":"cm"}},{"secret":{"name":"s","items":[{"key":"key","path":"x/y"}]}}]}})"));
  ASSERT_TRUE(mounted.ok()) << mounted.status();
  std::string base = dir_ + "/pods/u1/volumes/kubernetes.io~";
  auto& by_name = mounted->by_name;
  EXPECT_EQ(by_name["disk"].host_path, base + "empty-dir/disk");
  EXPECT_EQ(by_name["host"].host_path, dir_ + "/host/data");
  EXPECT_EQ(by_name["cm"].host_path, base + "configmap/cm");
  EXPECT_TRUE(by_name["cm"].read_only);
  EXPECT_EQ(Read(by_name["cm"].host_path + "/k"), "v");
  EXPECT_EQ(Read(by_name["s"].host_path + "/key"), "hidden");
  EXPECT_EQ(Read(base + "downward-api/da/l"), "a=\"b\"");
  EXPECT_EQ(Read(base + "projected/pr/x/y"), "hidden");
  ASSERT_EQ(mounter_->mounts.size(), 4u);  // mem, s, da, pr
  EXPECT_EQ(mounter_->mounts[0].target, base + "empty-dir/mem");
  EXPECT_EQ(mounter_->mounts[0].size_bytes, 32 << 20);  // the pod's memory limit is below sizeLimit
}

TEST_F(Volumes, WhatIsMissingIsNamed) {
  auto status = Mount(Pod(R"({"name":"cm","configMap":{"name":"cm"}})")).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("MountVolume.SetUp failed for volume \"cm\""));
  EXPECT_TRUE(Mount(Pod(R"({"name":"cm","configMap":{"name":"cm","optional":true}})")).ok());
  status = Mount(Pod(R"({"name":"a","emptyDir":{}},{"name":"n","nfs":{"server":"s","path":"/"}})")).status();
  EXPECT_TRUE(absl::IsUnimplemented(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("spec.volumes[1].nfs"));
  status = Mount(Pod(R"({"name":"t","projected":{"sources":[{"serviceAccountToken":{"path":"token"}}]}})"))
               .status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("serviceAccountToken"));
  status = Mount(Pod(R"({"name":"h","emptyDir":{"medium":"HugePages"}})")).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("spec.volumes[0].emptyDir.medium"));
}

TEST_F(Volumes, AChangedConfigMapReachesTheFiles) {
  PutMap("1");
  auto mounted = Mount(Pod(R"({"name":"cm","configMap":{"name":"cm"}})"));
  ASSERT_TRUE(mounted.ok());
  std::string file = mounted->by_name["cm"].host_path + "/k";
  PutMap("2");
  EXPECT_EQ(Read(file), "1");
  env_.Advance(kObjectTtl * 2);
  EXPECT_EQ(Read(file), "2");
}

TEST_F(Volumes, ARestartedKubeletFindsItsVolumes) {
  PodPtr pod = Pod(R"({"name":"disk","emptyDir":{}},{"name":"mem","emptyDir":{"medium":"Memory"}})");
  auto mounted = Mount(pod);
  ASSERT_TRUE(mounted.ok());
  ASSERT_TRUE(WriteFileAtomic(mounted->by_name["disk"].host_path + "/kept", "x", 0600, false).ok());
  Restart();
  mounted = Mount(pod);
  ASSERT_TRUE(mounted.ok());
  EXPECT_EQ(mounter_->mounts.size(), 1u);
  EXPECT_EQ(Read(mounted->by_name["disk"].host_path + "/kept"), "x");
  Restart();  // and the pod is gone meanwhile
  EXPECT_TRUE(env_.Await(volumes_->Unmount("u1")).ok());
  EXPECT_THAT(mounter_->mounts, IsEmpty());
  EXPECT_NE(::access((dir_ + "/pods/u1/volumes").c_str(), F_OK), 0);
  EXPECT_TRUE(env_.Await(volumes_->Unmount("u1")).ok());
  EXPECT_TRUE(env_.Await(volumes_->Unmount("never-seen")).ok());
  EXPECT_FALSE(env_.Await(volumes_->Unmount("../u2")).ok());
}

TEST_F(Volumes, SubPathsAreUnmountedWithThePod) {
  PodPtr pod = Pod(R"({"name":"disk","emptyDir":{}})");
  ASSERT_TRUE(Mount(pod).ok());
  auto path = env_.Await(volumes_->PrepareSubPath(pod, "c", 0, "disk", "a/b"));
  ASSERT_TRUE(path.ok()) << path.status();
  EXPECT_EQ(*path, dir_ + "/pods/u1/volume-subpaths/disk/c/0");
  EXPECT_EQ(::access((dir_ + "/pods/u1/volumes/kubernetes.io~empty-dir/disk/a/b").c_str(), F_OK), 0);
  EXPECT_FALSE(env_.Await(volumes_->PrepareSubPath(pod, "c", 0, "disk", "/etc")).ok());
  EXPECT_FALSE(env_.Await(volumes_->PrepareSubPath(pod, "c", 0, "other", "a")).ok());
  EXPECT_TRUE(env_.Await(volumes_->Unmount("u1")).ok());
  EXPECT_THAT(mounter_->mounts, IsEmpty());
  EXPECT_NE(::access((dir_ + "/pods/u1/volume-subpaths").c_str(), F_OK), 0);
}

}  // namespace
}  // namespace keelson::kubelet
