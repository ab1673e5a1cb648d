#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <optional>

#include "api/codec.h"
#include "api/time.h"
#include "base/fake_env.h"
#include "client/testing/fake_api_client.h"
#include "kubelet/probes/probe_manager_impl.h"

namespace keelson::kubelet {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Answers as told; counts.
class FakeProber : public Prober {
 public:
  Task<absl::StatusOr<ProbeOutcome>> Probe(PodPtr, corev1::Container, corev1::Probe, std::string,
                                           std::string container_id) override {
    ++attempts;
    last_id = container_id;
    if (!error.ok()) co_return error;
    ProbeOutcome outcome;
    outcome.success = healthy;
    outcome.message = "sick";
    co_return outcome;
  }
  bool healthy = true;
  absl::Status error;
  int attempts = 0;
  std::string last_id;
};

class FakeStatuses : public PodStatusProvider {
 public:
  const corev1::PodStatus* GetPodStatus(std::string_view) const override {
    return status.has_value() ? &*status : nullptr;
  }
  std::optional<corev1::PodStatus> status;
};

class Probes : public ::testing::Test {
 protected:
  Probes() { Restart(); }
  ~Probes() override { env_.AwaitVoid(manager_->Stop()); }
  void Restart() {
    if (manager_ != nullptr) env_.AwaitVoid(manager_->Stop());
    auto prober = std::make_unique<FakeProber>();
    prober_ = prober.get();
    manager_ = std::make_unique<ProbeManagerImpl>(env_, std::move(prober), events_to_);
    manager_->set_status_provider(&statuses_);
    manager_->set_listener([this](const ProbeEvent& event) { events_.push_back(event.result); });
  }
  PodPtr Pod(const std::string& probes, const std::string& status = "{}",
             const std::string& policy = "Always") {
    auto pod = api::DecodeJsonAs<corev1::Pod>(
        R"({"metadata":{"name":"p","namespace":"n","uid":"u"},"spec":{"restartPolicy":")" + policy +
        R"(","containers":[{"name":"c",)" + probes + R"(}]},"status":)" + status + "}");
    EXPECT_TRUE(pod.ok()) << pod.status();
    return std::make_shared<const corev1::Pod>(*pod);
  }
  void Running(const std::string& id, bool started = true) {
    corev1::PodStatus status;
    auto* container = status.add_container_statuses();
    container->set_name("c");
    container->set_container_id("fake://" + id);
    container->set_started(started);
    *container->mutable_state()->mutable_running()->mutable_started_at() = api::ToApiTime(env_.clock().Now());
    statuses_.status = status;
  }
  void Terminated(const std::string& id) {
    Running(id);
    auto* container = statuses_.status->mutable_container_statuses(0);
    container->mutable_state()->clear_running();
    container->mutable_state()->mutable_terminated()->set_exit_code(1);
  }
  ProbeResult Get(ProbeKind kind, const std::string& id) { return manager_->Get(kind, id); }

  FakeEnv env_;
  FakeStatuses statuses_;
  FakeProber* prober_ = nullptr;
  client::EventRecorder* events_to_ = nullptr;
  std::unique_ptr<ProbeManagerImpl> manager_;
  std::vector<ProbeResult> events_;
};

constexpr char kReady[] =
    R"("readinessProbe":{"exec":{"command":["x"]},"periodSeconds":10,"initialDelaySeconds":5,"failureThreshold":3,"successThreshold":1})";
constexpr char kLive[] =
    R"("livenessProbe":{"exec":{"command":["x"]},"periodSeconds":10,"failureThreshold":3,"successThreshold":1})";
constexpr char kStart[] =
    R"("startupProbe":{"exec":{"command":["x"]},"periodSeconds":1,"failureThreshold":30})";

TEST(Thresholds, AgreeInARow) {
  corev1::Probe probe;
  probe.set_failure_threshold(3);
  probe.set_success_threshold(2);
  ProbeThresholds t;
  struct {
    bool attempt;
    ProbeResult verdict;
  } steps[] = {
      {true, ProbeResult::kUnknown},  {true, ProbeResult::kSuccess},  {false, ProbeResult::kUnknown},
      {false, ProbeResult::kUnknown}, {true, ProbeResult::kUnknown},  {false, ProbeResult::kUnknown},
      {false, ProbeResult::kUnknown}, {false, ProbeResult::kFailure}, {false, ProbeResult::kFailure}};
  for (size_t i = 0; i < std::size(steps); ++i)
    EXPECT_EQ(t.Add(steps[i].attempt, probe), steps[i].verdict) << i;
}

TEST_F(Probes, ReadyAfterTheInitialDelay) {
  manager_->AddPod(Pod(kReady));
  env_.Advance(absl::Seconds(30));
  EXPECT_EQ(prober_->attempts, 0);
  Running("a");
  env_.Advance(absl::Seconds(4));
  EXPECT_EQ(Get(ProbeKind::kReadiness, "a"), ProbeResult::kFailure);
  EXPECT_EQ(prober_->attempts, 0);
  env_.Advance(absl::Seconds(2));
  EXPECT_EQ(Get(ProbeKind::kReadiness, "a"), ProbeResult::kSuccess);
  prober_->healthy = false;
  env_.Advance(absl::Seconds(28));
  EXPECT_EQ(Get(ProbeKind::kReadiness, "a"), ProbeResult::kSuccess);
  env_.Advance(absl::Seconds(10));
  EXPECT_EQ(Get(ProbeKind::kReadiness, "a"), ProbeResult::kFailure);
  EXPECT_THAT(events_, ElementsAre(ProbeResult::kFailure, ProbeResult::kSuccess, ProbeResult::kFailure));
}

TEST_F(Probes, LivenessFailsOnceThenWaitsForTheRestart) {
  manager_->AddPod(Pod(kLive));
  Running("a");
  prober_->healthy = false;
  env_.Advance(absl::Seconds(21));
  EXPECT_EQ(prober_->attempts, 3);
  EXPECT_EQ(Get(ProbeKind::kLiveness, "a"), ProbeResult::kFailure);
  env_.Advance(absl::Minutes(2));
  EXPECT_EQ(prober_->attempts, 3);
  Running("b");
  prober_->healthy = true;
  env_.Advance(absl::Seconds(1));
  EXPECT_EQ(Get(ProbeKind::kLiveness, "b"), ProbeResult::kSuccess);
  EXPECT_EQ(Get(ProbeKind::kLiveness, "a"), ProbeResult::kUnknown);
  EXPECT_EQ(prober_->last_id, "b");
}

TEST_F(Probes, NothingElseBeforeStartup) {
  manager_->AddPod(Pod(std::string(kLive) + "," + kReady + "," + kStart));
  Running("a", /*started=*/false);
  prober_->healthy = false;
  env_.Advance(absl::Seconds(10));
  EXPECT_EQ(Get(ProbeKind::kStartup, "a"), ProbeResult::kUnknown);
  EXPECT_EQ(Get(ProbeKind::kLiveness, "a"), ProbeResult::kSuccess);
  prober_->healthy = true;
  env_.Advance(absl::Seconds(2));
  EXPECT_EQ(Get(ProbeKind::kStartup, "a"), ProbeResult::kSuccess);
  EXPECT_EQ(Get(ProbeKind::kReadiness, "a"), ProbeResult::kFailure);
  statuses_.status->mutable_container_statuses(0)->set_started(true);
  env_.Advance(absl::Seconds(1));
  EXPECT_EQ(Get(ProbeKind::kReadiness, "a"), ProbeResult::kSuccess);
}

TEST_F(Probes, ARestartedKubeletFlipsNothing) {
  const char* known =
      R"({"containerStatuses":[{"name":"c","containerID":"fake://a","ready":true,"started":true,"state":{"running":{}}}]})";
  PodPtr pod = Pod(std::string(kReady) + "," + kStart + "," + kLive, known);
  Running("a");
  manager_->AddPod(pod);
  EXPECT_EQ(Get(ProbeKind::kReadiness, "a"), ProbeResult::kSuccess);
  EXPECT_EQ(Get(ProbeKind::kStartup, "a"), ProbeResult::kSuccess);
  EXPECT_EQ(Get(ProbeKind::kLiveness, "a"), ProbeResult::kSuccess);
  env_.Advance(absl::Minutes(1));
  EXPECT_THAT(events_, IsEmpty());
  EXPECT_GT(prober_->attempts, 0);
  // Another container than the one remembered starts anew.
  Running("b");
  env_.Advance(absl::Seconds(12));
  EXPECT_EQ(Get(ProbeKind::kReadiness, "a"), ProbeResult::kUnknown);
}

TEST_F(Probes, ErrorsAreNoVerdicts) {
  manager_->AddPod(Pod(kLive));
  Running("a");
  prober_->error = absl::UnavailableError("runtime away");
  env_.Advance(absl::Minutes(5));
  EXPECT_GT(prober_->attempts, 3);
  EXPECT_EQ(Get(ProbeKind::kLiveness, "a"), ProbeResult::kSuccess);
}

TEST_F(Probes, TerminatingPodsKeepReadinessOnly) {
  manager_->AddPod(Pod(std::string(kLive) + "," + kReady));
  Running("a");
  env_.Advance(absl::Seconds(20));
  manager_->StopLivenessAndStartup("u");
  prober_->healthy = false;
  env_.Advance(absl::Minutes(1));
  EXPECT_EQ(Get(ProbeKind::kLiveness, "a"), ProbeResult::kSuccess);
  EXPECT_EQ(Get(ProbeKind::kReadiness, "a"), ProbeResult::kFailure);
  manager_->RemovePod("u");
  int attempts = prober_->attempts;
  env_.Advance(absl::Minutes(1));
  EXPECT_EQ(prober_->attempts, attempts);
  EXPECT_EQ(Get(ProbeKind::kReadiness, "a"), ProbeResult::kUnknown);
  EXPECT_EQ(manager_->workers(), 0u);
}

TEST_F(Probes, AnEndedContainerIsNotReady) {
  manager_->AddPod(Pod(kReady));
  Running("a");
  env_.Advance(absl::Seconds(10));
  EXPECT_EQ(Get(ProbeKind::kReadiness, "a"), ProbeResult::kSuccess);
  Terminated("a");
  env_.Advance(absl::Seconds(11));
  EXPECT_EQ(Get(ProbeKind::kReadiness, "a"), ProbeResult::kFailure);
}

TEST_F(Probes, WhatCannotBeRunIsTold) {
  client::FakeApiClient api(env_);
  client::EventRecorder recorder(env_, api, "kubelet", "n1");
  events_to_ = &recorder;
  Restart();
  manager_->AddPod(Pod(kLive));
  Running("a");
  prober_->error = absl::UnavailableError("runtime away");
  ASSERT_TRUE(env_.RunUntil([&] { return !api.All<corev1::Event>().empty(); }, absl::Minutes(1)));
  const auto told = api.All<corev1::Event>();
  EXPECT_EQ(told[0]->type(), "Warning");
  EXPECT_EQ(told[0]->reason(), "Unhealthy");
  EXPECT_EQ(told[0]->message(), "Liveness probe errored and resulted in unknown state: runtime away");
  EXPECT_EQ(told[0]->involved_object().field_path(), "spec.containers{c}");
  events_to_ = nullptr;
  Restart();
  env_.AwaitVoid(recorder.Stop());
}

// A container whose own rules let it run again in a pod of policy Never is probed again.
TEST_F(Probes, ARestartByTheContainersOwnRulesIsProbed) {
  manager_->AddPod(Pod(std::string(kLive) + R"(,"restartPolicy":"OnFailure")", "{}", "Never"));
  Running("a");
  env_.Advance(absl::Seconds(15));
  Terminated("a");
  env_.Advance(absl::Seconds(15));
  Running("b");
  env_.Advance(absl::Seconds(15));
  EXPECT_EQ(prober_->last_id, "b");
}

}  // namespace
}  // namespace keelson::kubelet
