#include "kubelet/config/kubelet_settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include "base/fd.h"

namespace keelson::kubelet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kHead[] = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";

std::string Message(const absl::Status& status) { return std::string(status.message()); }

class Settings : public ::testing::Test {
 protected:
  Settings() {
    char path[] = "/tmp/kubelet_settings_XXXXXX";
    dir_ = ::mkdtemp(path);
  }
  ~Settings() override { (void)RemoveTree(dir_); }
  absl::StatusOr<KubeletSettings> With(const std::string& yaml, KubeletFlags flags = {}) {
    flags.config = dir_ + "/kubelet.yaml";
    EXPECT_TRUE(WriteFileAtomic(flags.config, kHead + yaml, 0644, false).ok());
    return MakeKubeletSettings(flags, "Host");
  }
  std::string dir_;
};

TEST_F(Settings, DefaultsAreUpstreams) {
  auto s = MakeKubeletSettings({}, "Host-1");
  ASSERT_TRUE(s.ok()) << s.status();
  EXPECT_EQ(s->options.node_name, "host-1");
  EXPECT_EQ(s->server.port, 10250);
  EXPECT_EQ(s->server.healthz_port, 10248);
  EXPECT_EQ(s->paths.kubelet_dir, "/var/lib/kubelet");
  EXPECT_EQ(s->runtime_endpoint, "unix:///run/containerd/containerd.sock");
  EXPECT_FALSE(s->options.register_node);  // no kubeconfig
  EXPECT_THAT(s->warnings, IsEmpty());
}

TEST_F(Settings, FileThenFlags) {
  KubeletFlags flags;
  flags.kubeconfig = "/k";
  flags.node_ip = "192.0.2.1";
  flags.node_labels = "a=b,example.com/c=d";
  flags.register_with_taints = "x=y:NoSchedule,z:NoExecute";
  flags.config_values = {{"max-pods", "7"},
                         {"cluster-dns", "10.96.0.10,10.96.0.11"},
                         {"eviction-hard", "memory.available<5%,nodefs.available<1Gi"},
                         {"client-ca-file", "/ca.crt"},
                         {"sync-frequency", "5s"}};
  auto s = With(
      "maxPods: 30\npodsPerCore: 3\nsyncFrequency: 0s\ncgroupRoot: /keelson-a/\nkubeReserved: {cpu: 100m}\n",
      flags);
  ASSERT_TRUE(s.ok()) << s.status();
  EXPECT_EQ(s->options.max_pods, 7);
  EXPECT_EQ(s->options.pods_per_core, 3);
  EXPECT_EQ(s->options.sync_frequency, absl::Seconds(5));
  EXPECT_THAT(s->options.cluster_dns, ElementsAre("10.96.0.10", "10.96.0.11"));
  EXPECT_EQ(s->options.eviction_hard.at("memory.available"), "5%");
  EXPECT_EQ(s->options.eviction_hard.size(), 2u);
  EXPECT_EQ(s->paths.cgroup_root, "keelson-a");
  EXPECT_EQ(s->server.client_ca_file, "/ca.crt");
  EXPECT_EQ(s->options.node_labels.at("example.com/c"), "d");
  ASSERT_EQ(s->options.register_with_taints.size(), 2u);
  EXPECT_EQ(s->options.register_with_taints[1].effect(), "NoExecute");
  EXPECT_TRUE(s->options.register_node);
}

TEST_F(Settings, TlsTowardsTheRuntime) {
  KubeletFlags flags;
  flags.runtime_streaming_ca = "/ca";
  flags.runtime_streaming_cert = "/crt";
  EXPECT_THAT(std::string(MakeKubeletSettings(flags, "h").status().message()),
              HasSubstr("--runtime-streaming-key"));
  flags.runtime_streaming_key = "/key";
  auto s = MakeKubeletSettings(flags, "h");
  ASSERT_TRUE(s.ok()) << s.status();
  EXPECT_EQ(s->server.runtime_tls.ca_file, "/ca");
  EXPECT_EQ(s->server.runtime_tls.certificate_file, "/crt");
  EXPECT_EQ(s->server.runtime_tls.private_key_file, "/key");
}

TEST_F(Settings, UnknownKeysAreRefusedByName) {
  auto s = With("maxPodz: 30\n");
  EXPECT_THAT(Message(s.status()), HasSubstr("maxPodz"));
  s = With("authentication: {x509: {caFile: /x}}\n");
  EXPECT_THAT(Message(s.status()), HasSubstr("authentication.x509.caFile"));
}

TEST_F(Settings, WhatHasNoEffectIsNamed) {
  auto s = With(
      "topologyManagerScope: pod\nhairpinMode: promiscuous-bridge\nfeatureGates: {A: "
      "true}\nvolumeStatsAggPeriod: 0s\n");
  ASSERT_TRUE(s.ok()) << s.status();
  EXPECT_THAT(s->warnings,
              ElementsAre("topologyManagerScope \"pod\" has no effect", "featureGates has no effect"));
  EXPECT_THAT(Message(With("cpuManagerPolicy: static\n").status()), HasSubstr("cpuManagerPolicy"));
  EXPECT_THAT(Message(With("readOnlyPort: 10255\n").status()), HasSubstr("readOnlyPort"));
  KubeletFlags flags;
  flags.ignored = {"pod-infra-container-image"};
  s = MakeKubeletSettings(flags, "h");
  ASSERT_TRUE(s.ok());
  EXPECT_THAT(s->warnings, ElementsAre(HasSubstr("--pod-infra-container-image")));
}

TEST_F(Settings, SoftEviction) {
  KubeletFlags flags;
  flags.config_values = {{"eviction-minimum-reclaim", "nodefs.available=5%"}};
  auto s = With(
      "evictionSoft: {memory.available: 1Gi}\nevictionSoftGracePeriod: {memory.available: 1m30s}\n"
      "evictionMaxPodGracePeriod: 60\n",
      flags);
  ASSERT_TRUE(s.ok()) << s.status();
  EXPECT_THAT(s->warnings, IsEmpty());
  EXPECT_EQ(s->options.eviction_soft.at("memory.available"), "1Gi");
  EXPECT_EQ(s->options.eviction_soft_grace.at("memory.available"), absl::Seconds(90));
  EXPECT_EQ(s->options.eviction_max_pod_grace_period_s, 60);
  EXPECT_EQ(s->options.eviction_minimum_reclaim.at("nodefs.available"), "5%");
  EXPECT_THAT(Message(With("evictionSoft: {memory.available: 1Gi}\n").status()),
              HasSubstr("grace period must be specified for the soft eviction threshold memory.available"));
}

TEST_F(Settings, SwapAndLocalStorage) {
  auto s = With("");
  ASSERT_TRUE(s.ok()) << s.status();
  EXPECT_FALSE(s->options.fail_swap_on);
  EXPECT_TRUE(s->options.local_storage_capacity_isolation);
  s = With("failSwapOn: true\nlocalStorageCapacityIsolation: false\n");
  ASSERT_TRUE(s.ok()) << s.status();
  EXPECT_TRUE(s->options.fail_swap_on);
  EXPECT_FALSE(s->options.local_storage_capacity_isolation);
  EXPECT_THAT(s->warnings, IsEmpty());
  EXPECT_TRUE(With("evictionHard: {containerfs.available: 0%, memory.available: 5%}\n").ok());
}

TEST_F(Settings, BadValuesNameTheField) {
  struct Case {
    const char* yaml;
    const char* named;
  } cases[] = {
      {"clusterDNS: [ten]\n", "clusterDNS"},
      {"port: 70000\n", "port"},
      {"evictionHard: {mem: 5%}\n", "evictionHard"},
      {"evictionSoft: {mem: 5%}\n", "evictionSoft"},
      {"evictionSoftGracePeriod: {memory.available: soon}\n", "evictionSoftGracePeriod.memory.available"},
      {"evictionMinimumReclaim: {memory.available: -1}\n", "evictionMinimumReclaim.memory.available"},
      {"evictionMaxPodGracePeriod: -1\n", "evictionMaxPodGracePeriod"},
      {"evictionHard: {containerfs.available: 5%}\n", "evictionHard.containerfs.available"},
      {"evictionHard: {allocatableMemory.available: 1Gi}\n", "evictionHard.allocatableMemory.available"},
      {"cgroupDriver: none\n", "cgroupDriver"},
      {"containerLogMaxSize: big\n", "containerLogMaxSize"},
      {"tlsCertFile: /x\n", "tlsCertFile"},
      {"kubeReserved: {gpu: 1}\n", "kubeReserved"},
      {"imageGCLowThresholdPercent: 90\n", "imageGCLowThresholdPercent"},
      {"cgroupRoot: /a/../b\n", "cgroupRoot"},
  };
  for (const Case& c : cases) EXPECT_THAT(Message(With(c.yaml).status()), HasSubstr(c.named)) << c.yaml;
  KubeletFlags flags;
  flags.config_values = {{"max-pods", "many"}};
  EXPECT_THAT(Message(With("", flags).status()), HasSubstr("--max-pods"));
  flags = KubeletFlags();
  flags.node_labels = "node-role.kubernetes.io/worker=";
  EXPECT_THAT(Message(With("", flags).status()), HasSubstr("--node-labels: node-role.kubernetes.io/worker"));
}

TEST(ConfigFlagsTable, EveryFlagReachesItsField) {
  for (const ConfigFlag& flag : ConfigFlags()) {
    KubeletConfiguration config;
    bool taken = false;
    for (const char* text : {"1", "true", "1s", "a=true"})
      taken = taken || ApplyConfigFlag(flag.flag, text, &config).ok();
    EXPECT_TRUE(taken) << flag.flag;
    EXPECT_GT(config.ByteSizeLong(), 0u) << flag.flag;
  }
}

}  // namespace
}  // namespace keelson::kubelet
