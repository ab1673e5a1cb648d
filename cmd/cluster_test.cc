#include <absl/strings/match.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>

#include "base/fd.h"
#include "base/strings.h"
#include "client/kubeconfig.h"
#include "cmd/check.h"
#include "cmd/cluster_layout.h"
#include "cmd/cluster_pki.h"
#include "cmd/containerd_files.h"
#include "net/pki.h"

namespace keelson {
namespace {

ClusterOptions Options() {
  ClusterOptions options;
  options.node_name = "n1";
  options.node_ip = "192.0.2.10";
  return options;
}

TEST(ClusterLayoutTest, DefaultsAndRoot) {
  auto layout = MakeClusterLayout(Options());
  ASSERT_TRUE(layout.ok()) << layout.status();
  EXPECT_EQ(layout->admin_conf(), "/etc/keelson/admin.conf");
  EXPECT_EQ(layout->dns_ip(), "10.96.0.10");
  EXPECT_EQ(layout->service_ip(1), "10.96.0.1");
  EXPECT_EQ(layout->node_pod_cidr(), "10.244.0.0/24");
  EXPECT_EQ(layout->nft_table(), "keelson");
  ClusterOptions moved = Options();
  moved.root = "/srv/two";
  auto second = MakeClusterLayout(moved);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(second->admin_conf(), "/srv/two/etc/keelson/admin.conf");
  EXPECT_EQ(second->nft_table(), "keelson_two");
}

TEST(ClusterLayoutTest, BadOptionsNameTheFlag) {
  auto expect = [](ClusterOptions options, const char* part) {
    auto layout = MakeClusterLayout(options);
    ASSERT_FALSE(layout.ok()) << part;
    EXPECT_NE(std::string(layout.status().message()).find(part), std::string::npos) << layout.status();
  };
  ClusterOptions options = Options();
  options.pod_cidr = "10.96.0.0/16";
  expect(options, "--pod-cidr 10.96.0.0/16 overlaps --service-cidr");
  options = Options();
  options.pod_cidr = "192.0.2.0/24";
  expect(options, "contains the node's own address");
  options = Options();
  options.service_cidr = "10.96.0.0/33";
  expect(options, "--service-cidr");
  options = Options();
  options.root = "relative";
  expect(options, "--root relative");
  options = Options();
  options.node_name.clear();
  options.root = "/tmp/My_Edge.Node_";
  absl::StatusOr<ClusterLayout> named = MakeClusterLayout(options);
  ASSERT_TRUE(named.ok()) << named.status();
  EXPECT_TRUE(named->options.node_name.ends_with("-my-edge-node")) << named->options.node_name;
  options = Options();
  options.node_name = "Bad_Name";
  expect(options, "--hostname-override Bad_Name");
}

TEST(ClusterLayoutTest, TheCgroupDriver) {
  auto choose = [](const std::string& driver, bool systemd, const std::string& root = "",
                   const std::string& runtime = "cri", const std::string& endpoint = "",
                   const std::string& made_with = "") {
    ClusterOptions options = Options();
    options.cgroup_driver = driver;
    options.root = root;
    options.container_runtime = runtime;
    options.container_runtime_endpoint = endpoint;
    absl::StatusOr<std::string> chosen = ChooseCgroupDriver(options, systemd, made_with);
    return chosen.ok() ? *chosen : std::string(chosen.status().message());
  };
  EXPECT_EQ(choose("auto", true), "systemd");
  EXPECT_EQ(choose("auto", false), "cgroupfs");
  EXPECT_EQ(choose("auto", true, "/srv/two"), "cgroupfs");
  EXPECT_EQ(choose("auto", true, "", "containerd"), "cgroupfs");
  EXPECT_EQ(choose("auto", true, "", "cri", "unix:///run/x.sock"), "cgroupfs");
  EXPECT_EQ(choose("auto", true, "", "cri", "", "cgroupfs"), "cgroupfs");
  EXPECT_EQ(choose("auto", true, "", "cri", "", "systemd"), "systemd");
  EXPECT_EQ(choose("auto", false, "", "cri", "", "systemd"), "cgroupfs");
  EXPECT_EQ(choose("systemd", true, "", "cri", "", "cgroupfs"), "systemd");
  EXPECT_EQ(choose("cgroupfs", true), "cgroupfs");
  EXPECT_EQ(choose("systemd", true), "systemd");
  EXPECT_TRUE(absl::StrContains(choose("systemd", false), "--cgroup-driver systemd: this host was not"));
  EXPECT_TRUE(absl::StrContains(choose("systemd", true, "/srv/two"), "--root"));
  EXPECT_TRUE(absl::StrContains(choose("systemd", true, "", "containerd"), "--container-runtime cri"));
  EXPECT_TRUE(absl::StrContains(choose("openrc", true), "--cgroup-driver openrc: want auto"));

  absl::StatusOr<ClusterLayout> layout = MakeClusterLayout(Options());
  ASSERT_TRUE(layout.ok()) << layout.status();
  EXPECT_NE(layout->options.cgroup_driver, "auto");
  EXPECT_EQ(MarkedCgroupDriver(RenderMarker(layout->options)), layout->options.cgroup_driver);
  EXPECT_EQ(MarkedCgroupDriver("cgroup_driver=systemd\nnode_name=a\n"), "systemd");
  EXPECT_EQ(MarkedCgroupDriver("pod_cidr=10.244.0.0/16\n"), "cgroupfs");
  EXPECT_EQ(layout->cri_cgroup(false), "keelson-cri");
  EXPECT_EQ(layout->cri_cgroup(true), "keelson_cri.slice");
}

class ClusterFilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/keelson-cl-XXXXXX";
    ClusterOptions options = Options();
    options.root = dir_ = ::mkdtemp(name);
    auto layout = MakeClusterLayout(options);
    ASSERT_TRUE(layout.ok()) << layout.status();
    layout_ = *std::move(layout);
  }
  void TearDown() override { EXPECT_TRUE(RemoveTree(dir_).ok()); }
  std::string dir_;
  ClusterLayout layout_;
};

TEST_F(ClusterFilesTest, PkiIsMadeOnceRenewedAndFollowsAddresses) {
  absl::Time now = absl::Now();
  ASSERT_TRUE(EnsureClusterPki(layout_, now).ok());
  std::string ca = *ReadFile(layout_.pki("ca.crt")), server = *ReadFile(layout_.pki("apiserver.crt"));
  struct stat st;
  ASSERT_EQ(::stat(layout_.pki("apiserver.key").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
  auto admin = client::LoadKubeConfig(layout_.admin_conf());
  ASSERT_TRUE(admin.ok()) << admin.status();
  EXPECT_EQ(admin->server, "https://127.0.0.1:6443");
  auto subject = net::ParseCertificate(admin->client_certificate_pem);
  ASSERT_TRUE(subject.ok());
  EXPECT_EQ(subject->organizations, std::vector<std::string>({"system:masters"}));
  auto node = client::LoadKubeConfig(layout_.kubelet_conf());
  ASSERT_TRUE(node.ok());
  EXPECT_EQ(net::ParseCertificate(node->client_certificate_pem)->common_name, "system:node:n1");

  ASSERT_TRUE(EnsureClusterPki(layout_, now + absl::Hours(24)).ok());
  EXPECT_EQ(*ReadFile(layout_.pki("apiserver.crt")), server);  // nothing to do
  layout_.options.node_ip = "192.0.2.99";
  ASSERT_TRUE(EnsureClusterPki(layout_, now).ok());
  EXPECT_NE(*ReadFile(layout_.pki("apiserver.crt")), server);  // the SAN followed
  server = *ReadFile(layout_.pki("apiserver.crt"));
  ASSERT_TRUE(EnsureClusterPki(layout_, now + absl::Hours(24 * 300)).ok());
  EXPECT_NE(*ReadFile(layout_.pki("apiserver.crt")), server);  // renewed
  EXPECT_EQ(*ReadFile(layout_.pki("ca.crt")), ca);
}

TEST_F(ClusterFilesTest, FilesHoldTheLayoutsPaths) {
  ASSERT_TRUE(EnsureClusterFiles(layout_).ok());
  EXPECT_FALSE(std::filesystem::exists(layout_.containerd_config()));  // nobody reads it
  layout_.options.container_runtime = "containerd";
  ASSERT_TRUE(EnsureClusterFiles(layout_).ok());
  std::string config = *ReadFile(layout_.containerd_config());
  EXPECT_NE(config.find(layout_.paths.run_dir + "/containerd/containerd.sock"), std::string::npos);
  EXPECT_NE(config.find("restrict_oom_score_adj = true"), std::string::npos);
  EXPECT_NE(ReadFile(layout_.cni_conf_dir() + "/10-keelson.conflist")->find("10.244.0.0/24"),
            std::string::npos);
  EXPECT_NE(ReadFile(layout_.kubelet_config())->find("clusterDNS: [10.96.0.10]"), std::string::npos);
}

TEST_F(ClusterFilesTest, TheMarkerKeepsTheOptionsTheClusterWasMadeWith) {
  ClusterLayout later = layout_;
  EXPECT_FALSE(ApplyMarker(&later));  // nothing is ours yet
  ClusterOptions made = layout_.options;
  made.service_cidr = "10.100.0.0/16";
  ASSERT_TRUE(MakeDirs(layout_.paths.etc_dir).ok());
  ASSERT_TRUE(WriteFileAtomic(layout_.marker_file(), RenderMarker(made)).ok());
  EXPECT_TRUE(ApplyMarker(&later));
  EXPECT_EQ(later.dns_ip(), "10.100.0.10");
}

// A runc of the test's own says which version it is.
TEST_F(ClusterFilesTest, CheckNamesTheHolesOfTheRuntimeThatIsThere) {
  std::string bin = layout_.paths.root + "/bin";
  ASSERT_TRUE(MakeDirs(bin).ok());
  ASSERT_TRUE(WriteFileAtomic(bin + "/runc", "#!/bin/sh\necho runc version 1.2.0\n", 0755).ok());
  CheckOptions options;
  options.path = bin;
  std::string text = FormatFindings(CheckHost(layout_, options), /*with_ok=*/true);
  for (const char* hole : {"CVE-2025-31133", "CVE-2025-52565", "CVE-2025-52881"}) {
    EXPECT_NE(text.find(hole), std::string::npos) << text;
  }
  EXPECT_EQ(text.find("CVE-2019-5736"), std::string::npos) << text;  // fixed long before
  ASSERT_TRUE(WriteFileAtomic(bin + "/runc", "#!/bin/sh\necho runc version 1.0-rc6\n", 0755).ok());
  text = FormatFindings(CheckHost(layout_, options), /*with_ok=*/true);
  EXPECT_NE(text.find("CVE-2019-5736"), std::string::npos) << text;
}

TEST_F(ClusterFilesTest, CheckLooksForTheParserWhereAppArmorIsOn) {
  CheckOptions options;
  options.proc_root = layout_.paths.root + "/proc";
  const std::string attributes = options.proc_root + "/self/attr/apparmor";
  ASSERT_TRUE(MakeDirs(attributes).ok());
  options.path = layout_.paths.root + "/bin";
  EXPECT_EQ(FormatFindings(CheckHost(layout_, options), /*with_ok=*/true).find("AppArmor"),
            std::string::npos);
  ASSERT_TRUE(WriteFileAtomic(attributes + "/current", "unconfined\n").ok());
  // Found in /sbin or not: it depends on the machine of the test.
  EXPECT_NE(FormatFindings(CheckHost(layout_, options), /*with_ok=*/true).find("AppArmor: "),
            std::string::npos);
  ASSERT_TRUE(MakeDirs(options.path).ok());
  ASSERT_TRUE(WriteFileAtomic(options.path + "/apparmor_parser", "", 0755).ok());
  EXPECT_NE(FormatFindings(CheckHost(layout_, options), /*with_ok=*/true)
                .find(StrCat("AppArmor: ", options.path, "/apparmor_parser")),
            std::string::npos);
}

TEST(FillTemplateTest, UnknownNamesAreErrors) {
  EXPECT_EQ(*FillTemplate("a@B@c user@host @lower@", {{"B", "1"}}), "a1c user@host @lower@");
  EXPECT_FALSE(FillTemplate("@MISSING@", {}).ok());
}

}  // namespace
}  // namespace keelson
