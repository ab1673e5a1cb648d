// Statistics and metrics: each figure beside what the kernel's files say before and after, each filter beside
// pods it must leave out. Under cri/testing/with_keelson_cri, once for each OCI runtime.
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <gmock/gmock.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <set>

#include "base/fd.h"
#include "cri/testing/cgroup_files.h"
#include "cri/testing/live_test.h"

namespace keelson::cri {
namespace {

using testing::AllOf;
using testing::Ge;
using testing::Gt;
using testing::Le;

constexpr uint64_t kHeldBytes = 4 << 20, kWrittenBytes = 3 << 20, kLimitBytes = 64 << 20,
                   kSwapBytes = 16 << 20;
constexpr int64_t kShares = 512, kPeriodUs = 50000, kQuotaUs = 100000, kMaxPids = 99;
constexpr char kAsWritten[] = "keelson.test/as-written:1";
constexpr char kOwnCgroup[] = "stats";

// Counters never go back: what an answer tells lies between two looks at the kernel's files.
struct Counters {
  uint64_t cpu_ns = 0, faults = 0, major_faults = 0, received = 0, sent = 0;
  uint64_t inactive_file = 0;  // no counter: see kPagesInFlight
};

// The kernel moves pages of a quiet cgroup between its lists in batches, whenever something else drains them.
constexpr uint64_t kPagesInFlight = 1 << 20;

// One pod with a cgroup and a network of its own, and a container that holds memory, has written a file and
// sent a packet, and waits.
class ServerStatsLiveTest : public LiveTest {
 protected:
  void SetUp() override {
    LiveTest::SetUp();
    if (live_ == nullptr || HasFailure()) return;
    pod_config_ = NetworkPodConfig("stats");
    pod_config_.mutable_linux()->set_cgroup_parent(live_->CgroupParent(kOwnCgroup));
    (*pod_config_.mutable_labels())["of"] = "the pod";
    (*pod_config_.mutable_annotations())["on"] = "the pod";
    pod_ = RunPod(pod_config_);
    ASSERT_FALSE(pod_.empty());
    config_ = Script("worker", StrCat("x=$(head -c ", kHeldBytes, " /dev/zero | tr '\\0' x); head -c ",
                                      kWrittenBytes, " /dev/zero >/data/big; ping -c 1 -w 20 ",
                                      "$(ip route | awk '/default/ {print $3}'); echo ready; ", kForever));
    config_.mutable_image()->set_user_specified_image(kAsWritten);
    (*config_.mutable_labels())["of"] = "the container";
    (*config_.mutable_annotations())["on"] = "the container";
    Security(&config_)->mutable_capabilities()->add_add_capabilities("NET_ADMIN");
    auto* resources = config_.mutable_linux()->mutable_resources();
    resources->set_cpu_shares(kShares);
    resources->set_cpu_period(kPeriodUs);
    resources->set_cpu_quota(kQuotaUs);
    resources->set_memory_limit_in_bytes(kLimitBytes);
    resources->set_memory_swap_limit_in_bytes(kLimitBytes + kSwapBytes);
    (*resources->mutable_unified())["pids.max"] = StrCat(kMaxPids);
    id_ = Start(pod_, config_);
    const std::string cgroup = live_->CgroupOf(kOwnCgroup, id_);
    own_ = std::make_unique<CgroupFiles>(cgroup);
    pods_own_ = std::make_unique<CgroupFiles>(cgroup.substr(0, cgroup.rfind('/')));
    pod_cgroup_ = cgroup.substr(0, cgroup.rfind('/'));
    ASSERT_TRUE(Eventually([&] { return absl::StrContains(Log(id_), "ready\n"); })) << Log(id_);
  }
  void TearDown() override {
    const bool slice = live_ != nullptr && live_->paths().systemd;
    LiveTest::TearDown();
    if (pod_cgroup_.empty() || slice) return;  // a slice is systemd's to keep
    std::error_code ignored;
    std::filesystem::remove(StrCat("/sys/fs/cgroup/", pod_cgroup_), ignored);
    for (const auto& top : std::filesystem::directory_iterator("/sys/fs/cgroup")) {
      std::filesystem::remove(StrCat(top.path().string(), "/", pod_cgroup_), ignored);
    }
  }

  int64_t Now() { return absl::ToUnixNanos(env_.clock().Now()); }
  Counters Look(const CgroupFiles& files) {
    Counters out;
    out.cpu_ns = files.CpuNs();
    out.faults = files.Memory("pgfault");
    out.major_faults = files.Memory("pgmajfault");
    out.inactive_file = files.Memory("inactive_file");
    // "  eth0: RECEIVED packets errs drop fifo frame compressed multicast SENT ..."
    absl::StatusOr<std::string> devices = ReadFile(StrCat("/proc/", Pid(id_), "/net/dev"));
    for (absl::string_view line : absl::StrSplit(devices.value_or(""), '\n')) {
      std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
      if (words.size() < 10 || words[0] != "eth0:") continue;
      EXPECT_TRUE(absl::SimpleAtoi(words[1], &out.received) && absl::SimpleAtoi(words[9], &out.sent)) << line;
    }
    return out;
  }
  v1::ContainerStats ContainerFigures() {
    v1::ContainerStatsRequest request;
    request.set_container_id(id_);
    auto response = Call(runtime().ContainerStats(request));
    EXPECT_TRUE(response.ok()) << response.status();
    return response.ok() ? response->stats() : v1::ContainerStats();
  }
  v1::PodSandboxStats PodFigures() {
    v1::PodSandboxStatsRequest request;
    request.set_pod_sandbox_id(pod_);
    auto response = Call(runtime().PodSandboxStats(request));
    EXPECT_TRUE(response.ok()) << response.status();
    return response.ok() ? response->stats() : v1::PodSandboxStats();
  }

  // "some" or "full" of a pressure file, in microseconds; absent where the kernel keeps none.
  static std::optional<uint64_t> Stalled(const CgroupFiles& files, const std::string& resource,
                                         const std::string& line) {
    absl::StatusOr<std::string> text = ReadFile(files.Path(resource, resource + ".pressure"));
    if (!CgroupFiles::V2() || !text.ok()) return std::nullopt;
    for (absl::string_view words : absl::StrSplit(*text, '\n')) {
      size_t at = words.find("total=");
      uint64_t total = 0;
      if (absl::StartsWith(words, line) && absl::SimpleAtoi(words.substr(at + 6), &total)) return total;
    }
    return std::nullopt;
  }
  struct Pressure {
    std::map<std::string, std::optional<uint64_t>> stalled;  // "cpu some"
  };
  static Pressure LookAtPressure(const CgroupFiles& files) {
    Pressure out;
    for (const char* resource : {"cpu", "memory", "io"}) {
      for (const char* line : {"some", "full"}) {
        out.stalled[StrCat(resource, " ", line)] = Stalled(files, resource, line);
      }
    }
    return out;
  }
  void CheckPressure(const std::string& resource, bool has, const v1::PsiStats& psi, const Pressure& before,
                     const Pressure& after) {
    ASSERT_EQ(has, before.stalled.at(resource + " some").has_value())
        << resource << ": told where the kernel keeps it, and only there";
    if (!has) return;
    for (const auto& [line, data] : {std::pair{"some", psi.some()}, std::pair{"full", psi.full()}}) {
      const std::string key = StrCat(resource, " ", line);
      EXPECT_THAT(data.total(),
                  AllOf(Ge(before.stalled.at(key).value_or(0)), Le(after.stalled.at(key).value_or(0))))
          << key;
      for (double average : {data.avg10(), data.avg60(), data.avg300()}) {
        EXPECT_THAT(average, AllOf(Ge(0.0), Le(100.0))) << key;
      }
    }
  }
  void CheckCpu(const v1::CpuUsage& cpu, const Counters& before, const Counters& after, int64_t begin) {
    EXPECT_THAT(cpu.timestamp(), AllOf(Ge(begin), Le(Now())));
    EXPECT_THAT(cpu.usage_core_nano_seconds().value(), AllOf(Ge(before.cpu_ns), Le(after.cpu_ns)));
    EXPECT_GT(cpu.usage_core_nano_seconds().value(), 0u);
    EXPECT_TRUE(cpu.has_usage_nano_cores());  // of no work meanwhile, where the look was long ago
  }
  void CheckMemory(const v1::MemoryUsage& memory, const Counters& before, const Counters& after,
                   int64_t begin) {
    EXPECT_THAT(memory.timestamp(), AllOf(Ge(begin), Le(Now())));
    EXPECT_THAT(memory.page_faults().value(), AllOf(Ge(before.faults), Le(after.faults)));
    EXPECT_GT(memory.page_faults().value(), kHeldBytes / 4096);
    EXPECT_TRUE(memory.has_major_page_faults());
    EXPECT_THAT(memory.major_page_faults().value(), AllOf(Ge(before.major_faults), Le(after.major_faults)));
    EXPECT_THAT(memory.rss_bytes().value(), AllOf(Ge(kHeldBytes), Le(kLimitBytes)));
    EXPECT_THAT(memory.usage_bytes().value(), AllOf(Ge(memory.rss_bytes().value()), Le(kLimitBytes)));
    const uint64_t inactive = memory.usage_bytes().value() - memory.working_set_bytes().value();
    EXPECT_GE(inactive + kPagesInFlight, std::min(before.inactive_file, after.inactive_file));
    EXPECT_LE(inactive, std::max(before.inactive_file, after.inactive_file) + kPagesInFlight);
    EXPECT_GT(inactive, kWrittenBytes / 2) << "the file that was written";
  }
  bool Quiet(const v1::MemoryUsage& memory) {
    return memory.rss_bytes().value() >= kHeldBytes &&
           memory.usage_bytes().value() - memory.working_set_bytes().value() >= kWrittenBytes;
  }
  // A rate wants two looks some time apart, with work between them.
  void Work() { Exec(id_, "head -c 2000000 /dev/zero | md5sum"); }

  v1::PodSandboxConfig pod_config_;
  v1::ContainerConfig config_;
  std::string pod_, id_, pod_cgroup_;
  std::unique_ptr<CgroupFiles> own_, pods_own_;
};

TEST_F(ServerStatsLiveTest, AContainersFiguresAreTheKernels) {
  ASSERT_TRUE(Eventually([&] {
    Work();
    v1::ContainerStats stats = ContainerFigures();
    return stats.cpu().usage_nano_cores().value() > 0 && Quiet(stats.memory()) &&
           stats.writable_layer().used_bytes().value() >= kWrittenBytes;
  })) << ContainerFigures().DebugString();
  const int64_t begin = Now();
  const Counters before = Look(*own_);
  const Pressure pressure = LookAtPressure(*own_);
  const v1::ContainerStats stats = ContainerFigures();
  const Counters after = Look(*own_);
  const Pressure pressure_after = LookAtPressure(*own_);

  EXPECT_EQ(stats.attributes().id(), id_);
  EXPECT_EQ(stats.attributes().metadata().SerializeAsString(), config_.metadata().SerializeAsString());
  EXPECT_EQ(stats.attributes().labels().at("of"), "the container");
  EXPECT_EQ(stats.attributes().annotations().at("on"), "the container");
  CheckCpu(stats.cpu(), before, after, begin);
  CheckMemory(stats.memory(), before, after, begin);
  EXPECT_EQ(stats.memory().available_bytes().value(),
            kLimitBytes - stats.memory().working_set_bytes().value());
  CheckPressure("cpu", stats.cpu().has_psi(), stats.cpu().psi(), pressure, pressure_after);
  CheckPressure("memory", stats.memory().has_psi(), stats.memory().psi(), pressure, pressure_after);
  CheckPressure("io", stats.has_io(), stats.io().psi(), pressure, pressure_after);
  if (stats.has_io()) {
    EXPECT_THAT(stats.io().timestamp(), AllOf(Ge(begin), Le(Now())));
  }
  const bool counts_swap = CgroupFiles::V2() ? own_->Has("memory", "memory.swap.current")
                                             : own_->Has("memory", "memory.memsw.limit_in_bytes");
  ASSERT_EQ(stats.has_swap(), counts_swap);
  if (counts_swap) {
    EXPECT_THAT(stats.swap().timestamp(), AllOf(Ge(begin), Le(Now())));
    EXPECT_TRUE(stats.swap().has_swap_usage_bytes());
    EXPECT_EQ(stats.swap().swap_usage_bytes().value() + stats.swap().swap_available_bytes().value(),
              kSwapBytes);
  }
  const v1::FilesystemUsage& layer = stats.writable_layer();
  EXPECT_THAT(layer.timestamp(), AllOf(Ge(begin), Le(Now())));
  EXPECT_THAT(layer.used_bytes().value(), AllOf(Ge(kWrittenBytes), Le(2 * kWrittenBytes)));
  EXPECT_GE(layer.inodes_used().value(), 1u);
  auto info = Call(images().ImageFsInfo(v1::ImageFsInfoRequest()));
  ASSERT_TRUE(info.ok() && info->container_filesystems_size() == 1);
  EXPECT_EQ(layer.fs_id().mountpoint(), info->container_filesystems(0).fs_id().mountpoint());

  // The lists have the same, and the layer as it was measured last.
  auto listed = Call(runtime().ListContainerStats(v1::ListContainerStatsRequest()));
  ASSERT_TRUE(listed.ok() && listed->stats_size() == 1);
  EXPECT_GE(listed->stats(0).cpu().usage_core_nano_seconds().value(), before.cpu_ns);
  EXPECT_GE(listed->stats(0).writable_layer().used_bytes().value(), kWrittenBytes);
  // Who has ended has a layer, and no more.
  ASSERT_TRUE(Stop(id_, 0).ok());
  const v1::ContainerStats ended = ContainerFigures();
  EXPECT_EQ(ended.attributes().id(), id_);
  EXPECT_FALSE(ended.has_cpu() || ended.has_memory() || ended.has_swap() || ended.has_io());
  EXPECT_GE(ended.writable_layer().used_bytes().value(), kWrittenBytes);
}

TEST_F(ServerStatsLiveTest, APodsFiguresAreTheKernels) {
  // A link beside eth0: it makes its other end, too.
  ASSERT_EQ(RunIn(id_, {"ip", "link", "add", "name", "other0", "type", "veth"}).code, 0);
  ASSERT_TRUE(Eventually([&] {
    Work();
    v1::PodSandboxStats stats = PodFigures();
    return stats.linux().cpu().usage_nano_cores().value() > 0 && Quiet(stats.linux().memory()) &&
           stats.linux().containers_size() == 1 &&
           stats.linux().containers(0).cpu().usage_nano_cores().value() > 0 &&
           stats.linux().process().process_count().value() == 2;  // without the exec's
  })) << PodFigures().DebugString();
  const int64_t begin = Now();
  const Counters before = Look(*pods_own_);
  const Pressure pressure = LookAtPressure(*pods_own_);
  const v1::PodSandboxStats stats = PodFigures();
  const Counters after = Look(*pods_own_);
  const Pressure pressure_after = LookAtPressure(*pods_own_);

  EXPECT_EQ(stats.attributes().id(), pod_);
  EXPECT_EQ(stats.attributes().metadata().SerializeAsString(), pod_config_.metadata().SerializeAsString());
  EXPECT_EQ(stats.attributes().labels().at("of"), "the pod");
  EXPECT_EQ(stats.attributes().annotations().at("on"), "the pod");
  const v1::LinuxPodSandboxStats& figures = stats.linux();
  CheckCpu(figures.cpu(), before, after, begin);
  CheckMemory(figures.memory(), before, after, begin);
  EXPECT_FALSE(figures.memory().has_available_bytes()) << "the pod's own cgroup has no limit";
  CheckPressure("cpu", figures.cpu().has_psi(), figures.cpu().psi(), pressure, pressure_after);
  CheckPressure("memory", figures.memory().has_psi(), figures.memory().psi(), pressure, pressure_after);
  CheckPressure("io", figures.has_io(), figures.io().psi(), pressure, pressure_after);
  EXPECT_THAT(figures.process().timestamp(), AllOf(Ge(begin), Le(Now())));
  EXPECT_EQ(figures.process().process_count().value(), 2u) << "the shell and its sleep";
  ASSERT_EQ(figures.containers_size(), 1);
  EXPECT_EQ(figures.containers(0).attributes().id(), id_);
  EXPECT_GE(figures.containers(0).memory().rss_bytes().value(), kHeldBytes);

  const v1::NetworkUsage& network = figures.network();
  EXPECT_THAT(network.timestamp(), AllOf(Ge(begin), Le(Now())));
  EXPECT_EQ(network.default_interface().name(), "eth0");
  EXPECT_THAT(network.default_interface().rx_bytes().value(), AllOf(Ge(before.received), Le(after.received)));
  EXPECT_THAT(network.default_interface().tx_bytes().value(), AllOf(Ge(before.sent), Le(after.sent), Gt(0u)));
  EXPECT_TRUE(network.default_interface().has_rx_errors() && network.default_interface().has_tx_errors());
  std::set<std::string> others;
  for (const v1::NetworkInterfaceUsage& other : network.interfaces()) {
    others.insert(other.name());
    EXPECT_TRUE(other.has_rx_bytes() && other.has_tx_bytes() && other.has_rx_errors() &&
                other.has_tx_errors());
  }
  EXPECT_EQ(others.size(), static_cast<size_t>(network.interfaces_size()));
  EXPECT_TRUE(others.contains("other0")) << stats.DebugString();
  EXPECT_FALSE(others.contains("eth0") || others.contains("lo"));
}

TEST_F(ServerStatsLiveTest, MetricsAreTheKernels) {
  auto described = Call(runtime().ListMetricDescriptors(v1::ListMetricDescriptorsRequest()));
  ASSERT_TRUE(described.ok()) << described.status();
  std::map<std::string, v1::MetricDescriptor> descriptors;
  for (const v1::MetricDescriptor& descriptor : described->descriptors()) {
    EXPECT_FALSE(descriptor.help().empty()) << descriptor.name();
    EXPECT_TRUE(descriptors.emplace(descriptor.name(), descriptor).second) << descriptor.name();
  }
  ContainerFigures();  // measures the layer
  ASSERT_TRUE(Eventually([&] { return own_->Number("pids", "pids.current") == 2; }));
  const int64_t begin = Now();
  const Counters before = Look(*own_);
  auto listed = Call(runtime().ListPodSandboxMetrics(v1::ListPodSandboxMetricsRequest()));
  auto streamed = Call(runtime().StreamPodSandboxMetrics(v1::StreamPodSandboxMetricsRequest()));
  const Counters after = Look(*own_);
  ASSERT_TRUE(listed.ok() && streamed.ok()) << listed.status() << streamed.status();
  ASSERT_EQ(listed->pod_metrics_size(), 1);
  ASSERT_EQ(streamed->pod_sandbox_metrics_size(), 1);

  struct statvfs space;
  ASSERT_EQ(::statvfs(live_->paths().state_dir.c_str(), &space), 0);
  const v1::ContainerStatus status = Status(id_);
  for (const v1::PodSandboxMetrics& pod : {listed->pod_metrics(0), streamed->pod_sandbox_metrics(0)}) {
    EXPECT_EQ(pod.pod_sandbox_id(), pod_);
    ASSERT_EQ(pod.container_metrics_size(), 1);
    EXPECT_EQ(pod.container_metrics(0).container_id(), id_);
    // By name and the labels that are not of every metric: "container_network_receive_bytes_total eth0".
    std::map<std::string, uint64_t> values;
    std::set<std::string> seen;
    auto take = [&](const v1::Metric& metric, bool of_pod) {
      seen.insert(metric.name());
      ASSERT_TRUE(descriptors.contains(metric.name())) << metric.name() << " is not announced";
      const v1::MetricDescriptor& descriptor = descriptors.at(metric.name());
      ASSERT_EQ(metric.label_values_size(), descriptor.label_keys_size()) << metric.name();
      std::map<std::string, std::string> labels;
      std::string key = metric.name();
      for (int i = 0; i < metric.label_values_size(); ++i) {
        labels[descriptor.label_keys(i)] = metric.label_values(i);
        if (i >= 6) StrAppend(&key, " ", metric.label_values(i));
      }
      EXPECT_EQ(labels["id"], StrCat("/", of_pod ? pod_cgroup_ : live_->CgroupOf(kOwnCgroup, id_)));
      EXPECT_EQ(labels["name"], of_pod ? pod_ : id_);
      EXPECT_EQ(labels["image"], of_pod ? "" : kAsWritten);
      EXPECT_EQ(labels["container"], of_pod ? "" : "worker");
      EXPECT_EQ(labels["namespace"], "live");
      EXPECT_EQ(labels["pod"], "stats");
      const bool counts =
          (absl::EndsWith(metric.name(), "_total") && metric.name() != "container_fs_inodes_total") ||
          metric.name() == "container_memory_failcnt";
      EXPECT_EQ(metric.metric_type(), counts ? v1::COUNTER : v1::GAUGE) << metric.name();
      EXPECT_LE(metric.timestamp(), Now()) << metric.name();
      EXPECT_TRUE(metric.has_value()) << metric.name();
      EXPECT_TRUE(values.emplace(key, metric.value().value()).second) << key << " twice";
    };
    for (const v1::Metric& metric : pod.metrics()) take(metric, true);
    for (const v1::Metric& metric : pod.container_metrics(0).metrics()) take(metric, false);
    for (const auto& [name, descriptor] : descriptors) {
      if (absl::StartsWith(name, "container_pressure_") || absl::StartsWith(name, "container_hugetlb_"))
        continue;  // if the kernel was started with them
      EXPECT_TRUE(seen.contains(name)) << name << " is announced and missing";
    }
    auto of = [&](const std::string& key) {
      EXPECT_TRUE(values.contains(key)) << key;
      return values[key];
    };
    EXPECT_EQ(of("container_spec_memory_limit_bytes"), kLimitBytes);
    EXPECT_EQ(of("container_spec_memory_swap_limit_bytes"), kLimitBytes + kSwapBytes);
    EXPECT_EQ(of("container_spec_cpu_shares"), static_cast<uint64_t>(kShares));
    EXPECT_EQ(of("container_spec_cpu_period"), static_cast<uint64_t>(kPeriodUs));
    EXPECT_EQ(of("container_spec_cpu_quota"), static_cast<uint64_t>(kQuotaUs));
    EXPECT_EQ(of("container_processes"), 2u);
    EXPECT_EQ(of("container_threads"), 2u);
    EXPECT_EQ(of("container_threads_max"), static_cast<uint64_t>(kMaxPids));
    EXPECT_GE(of("container_file_descriptors"), 6u) << "three of each";
    EXPECT_EQ(of("container_start_time_seconds"), static_cast<uint64_t>(status.started_at() / 1000000000));
    EXPECT_THAT(of("container_last_seen"), AllOf(Ge(static_cast<uint64_t>(begin / 1000000000)),
                                                 Le(static_cast<uint64_t>(Now() / 1000000000))));
    EXPECT_THAT(of("container_cpu_usage_seconds_total total"),
                AllOf(Ge(before.cpu_ns / 1000000000), Le(after.cpu_ns / 1000000000)));
    EXPECT_THAT(of("container_memory_failures_total pgfault hierarchy"),
                AllOf(Ge(before.faults), Le(after.faults), Gt(0u)));
    EXPECT_GE(of("container_memory_usage_bytes"), kHeldBytes);
    EXPECT_GE(of("container_memory_rss"), kHeldBytes / 2);
    EXPECT_THAT(of("container_memory_working_set_bytes"),
                AllOf(Gt(0u), Le(of("container_memory_usage_bytes"))));
    EXPECT_GE(of("container_network_transmit_packets_total eth0"), 1u);
    EXPECT_GE(of("container_network_transmit_bytes_total eth0"), before.sent);
    EXPECT_EQ(of("container_oom_events_total"), 0u);
    for (const auto& [key, value] : values) {
      if (absl::StartsWith(key, "container_fs_usage_bytes ")) EXPECT_GE(value, kWrittenBytes);
      if (absl::StartsWith(key, "container_fs_limit_bytes "))
        EXPECT_EQ(value, space.f_blocks * space.f_frsize);
      if (absl::StartsWith(key, "container_fs_inodes_total ")) EXPECT_EQ(value, space.f_files);
    }
  }
}

using ServerStatsFilterLiveTest = LiveTest;

TEST_F(ServerStatsFilterLiveTest, StatsArePickedByIdPodAndLabel) {
  v1::PodSandboxConfig config_a = PodConfig("a"), config_b = PodConfig("b");
  (*config_a.mutable_labels())["which"] = "a";
  (*config_b.mutable_labels())["which"] = "b";
  const std::string a = RunPod(config_a), b = RunPod(config_b);
  auto start = [&](const std::string& pod, const std::string& name, const std::string& role) {
    v1::ContainerConfig config = Script(name, kForever);
    (*config.mutable_labels())["role"] = role;
    return Start(pod, config);
  };
  const std::string a1 = start(a, "a1", "main"), a2 = start(a, "a2", "helper"), b1 = start(b, "b1", "main");
  Create(b, Script("created", kForever));  // has no figures

  struct ContainerCase {
    std::string id, pod;
    std::map<std::string, std::string> labels;
    std::set<std::string> want;
  };
  const ContainerCase containers[] = {
      {"", "", {}, {a1, a2, b1}},
      {a1, "", {}, {a1}},
      {a2.substr(0, 13), "", {}, {a2}},
      {"", a, {}, {a1, a2}},
      {"", b, {}, {b1}},
      {"", "", {{"role", "main"}}, {a1, b1}},
      {"", a, {{"role", "main"}}, {a1}},
      {a1, b, {}, {}},
      {a1, "", {{"role", "helper"}}, {}},
      {a1 + "0", "", {}, {}},
  };
  for (const ContainerCase& test : containers) {
    v1::ListContainerStatsRequest list;
    list.mutable_filter()->set_id(test.id);
    list.mutable_filter()->set_pod_sandbox_id(test.pod);
    for (const auto& [key, value] : test.labels)
      (*list.mutable_filter()->mutable_label_selector())[key] = value;
    v1::StreamContainerStatsRequest stream;
    *stream.mutable_filter() = list.filter();
    auto listed = Call(runtime().ListContainerStats(list));
    auto streamed = Call(runtime().StreamContainerStats(stream));
    ASSERT_TRUE(listed.ok() && streamed.ok()) << listed.status() << streamed.status();
    std::set<std::string> got, got_streamed;
    for (const auto& item : listed->stats()) got.insert(item.attributes().id());
    for (const auto& item : streamed->container_stats()) got_streamed.insert(item.attributes().id());
    EXPECT_EQ(got, test.want) << list.filter().ShortDebugString();
    EXPECT_EQ(got_streamed, test.want) << list.filter().ShortDebugString();
  }

  struct PodCase {
    std::string id;
    std::map<std::string, std::string> labels;
    std::set<std::string> want;
  };
  const PodCase pods[] = {
      {"", {}, {a, b}},           {a, {}, {a}},
      {b.substr(0, 13), {}, {b}}, {"", {{"which", "a"}}, {a}},
      {b, {{"which", "a"}}, {}},  {"", {{"which", "c"}}, {}},
  };
  for (const PodCase& test : pods) {
    v1::ListPodSandboxStatsRequest list;
    list.mutable_filter()->set_id(test.id);
    for (const auto& [key, value] : test.labels)
      (*list.mutable_filter()->mutable_label_selector())[key] = value;
    v1::StreamPodSandboxStatsRequest stream;
    *stream.mutable_filter() = list.filter();
    auto listed = Call(runtime().ListPodSandboxStats(list));
    auto streamed = Call(runtime().StreamPodSandboxStats(stream));
    ASSERT_TRUE(listed.ok() && streamed.ok()) << listed.status() << streamed.status();
    std::set<std::string> got, got_streamed;
    for (const auto& item : listed->stats()) got.insert(item.attributes().id());
    for (const auto& item : streamed->pod_sandbox_stats()) got_streamed.insert(item.attributes().id());
    EXPECT_EQ(got, test.want) << list.filter().ShortDebugString();
    EXPECT_EQ(got_streamed, test.want) << list.filter().ShortDebugString();
  }

  // A pod without a cgroup of its own is the sum of its containers.
  v1::PodSandboxStatsRequest one;
  one.set_pod_sandbox_id(a);
  v1::PodSandboxStats sum;
  EXPECT_TRUE(Eventually([&] {
    auto stats = Call(runtime().PodSandboxStats(one));
    if (stats.ok()) sum = stats->stats();
    return sum.linux().process().process_count().value() == 4;
  })) << sum.DebugString();
  ASSERT_EQ(sum.linux().containers_size(), 2);
  uint64_t cpu_ns = 0, usage_bytes = 0;
  for (const v1::ContainerStats& part : sum.linux().containers()) {
    EXPECT_GT(part.cpu().usage_core_nano_seconds().value(), 0u);
    cpu_ns += part.cpu().usage_core_nano_seconds().value();
    usage_bytes += part.memory().usage_bytes().value();
  }
  EXPECT_EQ(sum.linux().cpu().usage_core_nano_seconds().value(), cpu_ns);
  EXPECT_EQ(sum.linux().memory().usage_bytes().value(), usage_bytes);
  EXPECT_FALSE(sum.linux().has_network()) << "the host's is nobody's own";
}

}  // namespace
}  // namespace keelson::cri
