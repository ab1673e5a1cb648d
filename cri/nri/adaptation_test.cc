// Adaptation with plugins in memory, on a fake clock.
#include "cri/nri/adaptation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/fake_env.h"
#include "base/strings.h"
#include "cri/nri/testing/test_plugin.h"
#include "net/stream_util.h"

namespace keelson::cri::nri {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// What a runtime has, and what was set in it.
class FakeRuntime : public Runtime {
 public:
  pb::SynchronizeRequest state;
  std::vector<pb::ContainerUpdate> set;
  absl::Status error;

  Task<pb::SynchronizeRequest> Snapshot() override { co_return state; }
  Task<absl::StatusOr<std::vector<pb::ContainerUpdate>>> UpdateContainers(
      std::vector<pb::ContainerUpdate> updates) override {
    std::vector<pb::ContainerUpdate> failed;
    for (pb::ContainerUpdate& update : updates) {
      if (!error.ok() && !update.ignore_failure()) co_return error;
      if (!error.ok()) failed.push_back(update);
      set.push_back(std::move(update));
    }
    co_return failed;
  }
};

pb::PodSandbox Pod(const std::string& name) {
  pb::PodSandbox pod;
  pod.set_id("id-" + name);
  pod.set_name(name);
  return pod;
}

pb::Container Made(const std::string& name) {
  pb::Container container;
  container.set_id("id-" + name);
  container.set_name(name);
  return container;
}

pb::ContainerUpdate Update(const std::string& id) {
  pb::ContainerUpdate update;
  update.set_container_id(id);
  update.mutable_linux()->mutable_resources()->mutable_cpu()->set_cpus("0");
  return update;
}

Task<void> StoreStatus(Task<absl::Status> task, std::optional<absl::Status>* out) {
  absl::Status status = co_await std::move(task);
  *out = status;
}

Task<void> TakeBlock(Adaptation* adaptation, std::optional<Adaptation::SyncBlock>* out) {
  Task<Adaptation::SyncBlock> take = adaptation->BlockSync();
  Adaptation::SyncBlock block = co_await std::move(take);
  out->emplace(std::move(block));
}

class NriAdaptationTest : public testing::Test {
 protected:
  NriAdaptationTest() { adaptation_.set_runtime(&runtime_); }
  ~NriAdaptationTest() override {
    env_.AwaitVoid(scope_.Close());
    env_.AwaitVoid(adaptation_.Close());
  }
  // A connection whose plugin's end is given back.
  std::unique_ptr<net::ByteStream> Dial() {
    auto [ours, theirs] = net::MemoryStreamPair();
    adaptation_.Connect(std::move(ours));
    return std::move(theirs);
  }
  TestPlugin* Add(const std::string& index, const std::string& name = "p") {
    plugins_.push_back(std::make_unique<TestPlugin>(&env_, index, name));
    return plugins_.back().get();
  }
  TestPlugin* Connect(TestPlugin* plugin) {
    plugin->Connect(&scope_, Dial());
    env_.Settle();
    return plugin;
  }
  absl::Status Run(const std::string& pod) {
    return env_.Await(adaptation_.PodEvent(pb::RUN_POD_SANDBOX, Pod(pod)));
  }
  absl::StatusOr<Creation> Create(const std::string& name) {
    return env_.Await(adaptation_.CreateContainer(Pod("pod"), Made(name)));
  }

  FakeEnv env_;
  Scope scope_{env_.executor()};
  FakeRuntime runtime_;
  Adaptation adaptation_{&env_, {.runtime_name = "keelson", .runtime_version = "v1"}};
  std::vector<std::unique_ptr<TestPlugin>> plugins_;
};

TEST_F(NriAdaptationTest, APluginIsRegisteredConfiguredAndToldWhatThereIs) {
  *runtime_.state.add_pods() = Pod("there");
  *runtime_.state.add_containers() = Made("c");
  EXPECT_FALSE(adaptation_.active());
  TestPlugin* plugin = Connect(Add("10"));
  EXPECT_TRUE(plugin->registration.ok()) << plugin->registration;
  EXPECT_EQ(plugin->configuration.runtime_name(), "keelson");
  EXPECT_EQ(plugin->configuration.registration_timeout(), 5000);
  EXPECT_EQ(plugin->configuration.request_timeout(), 2000);
  EXPECT_TRUE(plugin->synchronized);
  EXPECT_EQ(plugin->known.pods(0).name(), "there");
  EXPECT_EQ(plugin->known.containers(0).name(), "c");
  EXPECT_TRUE(adaptation_.active());
  EXPECT_TRUE(Run("new").ok());
  EXPECT_THAT(plugin->told, ElementsAre("RunPodSandbox new"));
  plugin->Disconnect();
  env_.Settle();
  EXPECT_FALSE(adaptation_.active());
}

TEST_F(NriAdaptationTest, BadNamesAreRefused) {
  for (const auto& [index, name] : std::initializer_list<std::pair<const char*, const char*>>{
           {"1", "p"}, {"1a", "p"}, {"100", "p"}, {"10", ""}, {"10", "a/b"}, {"10", "a b"}}) {
    TestPlugin* plugin = Connect(Add(index, name));
    EXPECT_TRUE(absl::IsInvalidArgument(plugin->registration)) << index << name << plugin->registration;
    EXPECT_FALSE(plugin->synchronized);
    plugin->Disconnect();
  }
}

TEST_F(NriAdaptationTest, InTheOrderOfTheirIndices) {
  std::vector<std::string> order;
  for (const char* index : {"50", "05", "50"}) {
    TestPlugin* plugin = Add(index, index);
    plugin->on_create = [&order, index, n = order.size()](const auto&) {
      order.push_back(index);
      return pb::CreateContainerResponse();
    };
    Connect(plugin);
  }
  EXPECT_TRUE(Create("c").ok());
  EXPECT_THAT(order, ElementsAre("05", "50", "50"));
}

TEST_F(NriAdaptationTest, OnlyWhatItSubscribedTo) {
  TestPlugin* plugin = Add("10");
  plugin->events = 1 << (pb::STOP_CONTAINER - 1);
  Connect(plugin);
  EXPECT_TRUE(Run("p").ok());
  EXPECT_TRUE(Create("c").ok());
  EXPECT_TRUE(env_.Await(adaptation_.StopContainer(Pod("p"), Made("c"))).ok());
  EXPECT_THAT(plugin->told, ElementsAre("StopContainer p/c"));
  TestPlugin* odd = Add("20");
  odd->events = 1 << 20;
  Connect(odd);
  EXPECT_FALSE(odd->synchronized) << "no such event";
  EXPECT_FALSE(odd->connected());
}

TEST_F(NriAdaptationTest, AnErrorEndsTheEventAndNamesThePlugin) {
  TestPlugin* first = Add("00", "no");
  first->errors["RunPodSandbox"] = absl::FailedPreconditionError("not today");
  Connect(first);
  TestPlugin* second = Connect(Add("10"));
  absl::Status status = Run("p");
  EXPECT_EQ(status, absl::FailedPreconditionError("nri plugin 00-no: RunPodSandbox: not today"));
  EXPECT_TRUE(second->told.empty());
  EXPECT_TRUE(first->connected()) << "it stays";
}

TEST_F(NriAdaptationTest, WhoIsLateIsGivenUpAndTheEventGoesOn) {
  TestPlugin* late = Add("00", "late");
  late->holds["RunPodSandbox"] = std::make_shared<AsyncEvent>();
  Connect(late);
  TestPlugin* other = Connect(Add("10"));
  absl::Duration begin = env_.clock().Monotonic();
  EXPECT_TRUE(Run("p").ok());
  EXPECT_EQ(env_.clock().Monotonic() - begin, absl::Seconds(2));
  EXPECT_FALSE(late->connected());
  EXPECT_EQ(other->Count("RunPodSandbox p"), 1u);
  EXPECT_TRUE(Run("q").ok());
  EXPECT_EQ(late->told.size(), 1u);
}

TEST_F(NriAdaptationTest, WhoDisconnectsInAnEventDoesNotEndIt) {
  TestPlugin* gone = Add("00");
  gone->holds["RunPodSandbox"] = std::make_shared<AsyncEvent>();
  Connect(gone);
  std::optional<absl::Status> ran;
  scope_.Spawn("run", StoreStatus(adaptation_.PodEvent(pb::RUN_POD_SANDBOX, Pod("p")), &ran));
  env_.Settle();
  EXPECT_FALSE(ran.has_value());
  gone->Disconnect();
  env_.Settle();
  ASSERT_TRUE(ran.has_value());
  EXPECT_TRUE(ran->ok()) << *ran;
}

TEST_F(NriAdaptationTest, WhoDoesNotRegisterIsGivenUp) {
  TestPlugin* silent = Add("00");
  silent->registers = false;
  Connect(silent);
  env_.Advance(absl::Seconds(4));
  EXPECT_TRUE(silent->connected());
  env_.Advance(absl::Seconds(2));
  EXPECT_FALSE(silent->connected());
}

Task<void> WriteBytes(net::ByteStream* stream, std::string bytes) {
  Task<absl::Status> write = stream->Write(bytes);
  (void)co_await std::move(write);
}

TEST_F(NriAdaptationTest, BadBytesEndTheirConnectionAlone) {
  TestPlugin* plugin = Connect(Add("10"));
  std::unique_ptr<net::ByteStream> bad = Dial();
  scope_.Spawn("write", WriteBytes(bad.get(), std::string("\0\0\0\1\xff\xff\xff\xff", 8)));
  env_.Settle();
  char byte;
  EXPECT_EQ(env_.Await(bad->Read(&byte, 1)).value_or(0), 0u) << "closed at once";
  EXPECT_TRUE(Run("p").ok());
  EXPECT_EQ(plugin->Count("RunPodSandbox p"), 1u);
}

TEST_F(NriAdaptationTest, OlderPluginsHearByStateChange) {
  TestPlugin* old = Add("10");
  for (const char* method : {"RunPodSandbox", "RemoveContainer"})
    old->errors[method] = absl::UnimplementedError("?");
  old->errors["CreateContainer"] = absl::UnimplementedError("?");
  Connect(old);
  EXPECT_TRUE(Run("p").ok());
  EXPECT_TRUE(env_.Await(adaptation_.ContainerEvent(pb::REMOVE_CONTAINER, Pod("p"), Made("c"))).ok());
  EXPECT_EQ(old->Count("StateChange:RunPodSandbox p"), 1u);
  EXPECT_EQ(old->Count("StateChange:RemoveContainer p/c"), 1u);
  // This call was always there.
  EXPECT_TRUE(absl::IsUnimplemented(Create("c").status()));
}

TEST_F(NriAdaptationTest, ChangesOfAllArePutTogether) {
  TestPlugin* first = Add("00", "a");
  first->on_create = [](const auto& request) {
    pb::CreateContainerResponse response;
    response.mutable_adjust()->add_env()->set_key("A");
    *response.add_update() = Update("other");
    return response;
  };
  TestPlugin* second = Add("10", "b");
  std::vector<std::string> seen;
  second->on_create = [&](const pb::CreateContainerRequest& request) {
    seen.assign(request.container().env().begin(), request.container().env().end());
    pb::CreateContainerResponse response;
    response.mutable_adjust()->add_env()->set_key("B");
    return response;
  };
  Connect(first);
  Connect(second);
  absl::StatusOr<Creation> creation = Create("c");
  ASSERT_TRUE(creation.ok()) << creation.status();
  EXPECT_EQ(creation->adjust.env_size(), 2);
  EXPECT_EQ(creation->updates.size(), 1u);
  EXPECT_THAT(seen, ElementsAre("A="));
  second->on_create = first->on_create;
  EXPECT_TRUE(absl::IsAlreadyExists(Create("d").status())) << "a conflict";
}

TEST_F(NriAdaptationTest, ValidatorsSeeEverythingAndCanRefuse) {
  TestPlugin* setter = Add("00", "set");
  setter->on_create = [](const auto&) {
    pb::CreateContainerResponse response;
    response.mutable_adjust()->add_args("true");
    return response;
  };
  TestPlugin* validator = Add("10", "check");
  pb::ValidateContainerAdjustmentRequest seen;
  bool reject = false;
  validator->on_validate = [&](const auto& request) {
    seen = request;
    pb::ValidateContainerAdjustmentResponse response;
    response.set_reject(reject);
    response.set_reason("no arguments");
    return response;
  };
  Connect(setter);
  Connect(validator);
  EXPECT_TRUE(Create("c").ok());
  EXPECT_EQ(seen.adjust().args(0), "true");
  EXPECT_EQ(seen.container().args_size(), 0) << "as it was";
  EXPECT_EQ(seen.owners().owners().at("id-c").simple().at(pb::Args), "00-set");
  ASSERT_EQ(seen.plugins_size(), 2);
  EXPECT_EQ(seen.plugins(1).name(), "check");
  EXPECT_EQ(seen.plugins(1).index(), "10");
  reject = true;
  absl::Status status = Create("d").status();
  EXPECT_TRUE(absl::IsPermissionDenied(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("10-check refuses the container's adjustment: no arguments"));
  // Silence is no consent.
  validator->holds["ValidateContainerAdjustment"] = std::make_shared<AsyncEvent>();
  EXPECT_TRUE(absl::IsUnavailable(Create("e").status()));
  EXPECT_TRUE(Create("f").ok()) << "it is gone";
}

TEST_F(NriAdaptationTest, LimitsOfAnUpdate) {
  TestPlugin* plugin = Connect(Add("10"));
  pb::LinuxResources asked;
  asked.mutable_cpu()->mutable_shares()->set_value(5);
  auto update = [&] { return env_.Await(adaptation_.UpdateContainer(Pod("p"), Made("c"), asked)); };
  absl::StatusOr<LimitChange> change = update();
  ASSERT_TRUE(change.ok());
  EXPECT_FALSE(change->changed);
  plugin->on_update = [](const pb::UpdateContainerRequest& request) {
    pb::UpdateContainerResponse response;
    *response.add_update() = Update(request.container().id());
    *response.add_update() = Update("other");
    return response;
  };
  change = update();
  ASSERT_TRUE(change.ok());
  EXPECT_TRUE(change->changed);
  EXPECT_EQ(change->resources.cpu().cpus(), "0");
  EXPECT_EQ(change->resources.cpu().shares().value(), 5u);
  ASSERT_EQ(change->updates.size(), 1u);
  EXPECT_EQ(change->updates[0].container_id(), "other");
}

TEST_F(NriAdaptationTest, APluginUpdatesContainersByItself) {
  TestPlugin* plugin = Connect(Add("10"));
  pb::UpdateContainersRequest request;
  *request.add_update() = Update("c");
  request.mutable_update(0)->set_ignore_failure(true);
  CallResult result = env_.Await(plugin->Call("UpdateContainers", request.SerializeAsString()));
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(runtime_.set.size(), 1u);
  runtime_.error = absl::NotFoundError("none");
  result = env_.Await(plugin->Call("UpdateContainers", request.SerializeAsString()));
  pb::UpdateContainersResponse response;
  ASSERT_TRUE(response.ParseFromString(result.payload));
  EXPECT_EQ(response.failed_size(), 1);
  request.add_evict()->set_container_id("c");
  result = env_.Await(plugin->Call("UpdateContainers", request.SerializeAsString()));
  EXPECT_TRUE(absl::IsUnimplemented(result.status)) << result.status;
  result = env_.Await(plugin->Call("Sing", ""));
  EXPECT_TRUE(absl::IsUnimplemented(result.status)) << result.status;
}

TEST_F(NriAdaptationTest, UpdatesThatSynchronizeAsksFor) {
  TestPlugin* plugin = Add("10");
  plugin->updates_at_sync.push_back(Update("c"));
  Connect(plugin);
  ASSERT_EQ(runtime_.set.size(), 1u);
  EXPECT_EQ(runtime_.set[0].container_id(), "c");
}

TEST_F(NriAdaptationTest, ManyContainersAreToldInParts) {
  for (int i = 0; i < 100; ++i) {
    pb::Container container = Made(StrCat("c", i));
    container.add_env(std::string(100000, 'x'));
    *runtime_.state.add_containers() = std::move(container);
  }
  TestPlugin* plugin = Connect(Add("10"));
  EXPECT_TRUE(plugin->synchronized);
  EXPECT_GT(plugin->sync_messages, 3u);
  EXPECT_EQ(plugin->known.containers_size(), 100);
  TestPlugin* simple = Add("20");
  simple->takes_parts = false;
  Connect(simple);
  EXPECT_FALSE(simple->connected()) << "it cannot know all";
}

TEST(NriSplitSyncTest, BySizeAndAtLeastOne) {
  EXPECT_EQ(SplitSync({}, 10).size(), 1u);
  pb::SynchronizeRequest all;
  for (int i = 0; i < 3; ++i) all.add_pods()->set_id(std::string(40, 'x'));
  all.add_containers()->set_id(std::string(400, 'x'));
  std::vector<pb::SynchronizeRequest> parts = SplitSync(all, 110);
  ASSERT_EQ(parts.size(), 3u);
  EXPECT_EQ(parts[0].pods_size(), 2);
  EXPECT_TRUE(parts[0].more() && parts[1].more() && !parts[2].more());
  EXPECT_EQ(parts[2].containers_size(), 1) << "longer than a part, alone";
}

TEST_F(NriAdaptationTest, NoEventAndNoBlockWhileAPluginIsTold) {
  TestPlugin* plugin = Add("10");
  auto hold = std::make_shared<AsyncEvent>();
  plugin->holds["Synchronize"] = hold;
  Connect(plugin);
  EXPECT_TRUE(adaptation_.active()) << "events must not pass it by";
  std::optional<absl::Status> ran;
  std::optional<Adaptation::SyncBlock> block;
  scope_.Spawn("run", StoreStatus(adaptation_.PodEvent(pb::RUN_POD_SANDBOX, Pod("p")), &ran));
  scope_.Spawn("block", TakeBlock(&adaptation_, &block));
  env_.Settle();
  EXPECT_FALSE(ran.has_value() || block.has_value());
  hold->Set();
  env_.Settle();
  EXPECT_TRUE(ran.has_value() && block.has_value());
  EXPECT_EQ(plugin->Count("RunPodSandbox p"), 1u);
  block.reset();
}

TEST_F(NriAdaptationTest, APluginWaitsForWhatIsHalfMade) {
  std::optional<Adaptation::SyncBlock> one, two;
  scope_.Spawn("block", TakeBlock(&adaptation_, &one));
  scope_.Spawn("block", TakeBlock(&adaptation_, &two));
  env_.Settle();
  TestPlugin* plugin = Connect(Add("10"));
  EXPECT_TRUE(plugin->registration.ok());
  EXPECT_FALSE(plugin->synchronized);
  *runtime_.state.add_pods() = Pod("made meanwhile");
  one.reset();
  env_.Settle();
  EXPECT_FALSE(plugin->synchronized);
  two.reset();
  env_.Settle();
  EXPECT_TRUE(plugin->synchronized);
  EXPECT_EQ(plugin->known.pods_size(), 1);
}

TEST_F(NriAdaptationTest, APluginThatIsLateToSynchronizeLetsTheOthersGoOn) {
  TestPlugin* plugin = Add("10");
  plugin->holds["Synchronize"] = std::make_shared<AsyncEvent>();
  Connect(plugin);
  EXPECT_TRUE(Run("p").ok());
  EXPECT_FALSE(plugin->connected());
  EXPECT_FALSE(adaptation_.active());
}

TEST_F(NriAdaptationTest, OneEventAtATime) {
  TestPlugin* plugin = Add("10");
  auto hold = std::make_shared<AsyncEvent>();
  plugin->holds["RunPodSandbox"] = hold;
  Connect(plugin);
  std::optional<absl::Status> first, second;
  scope_.Spawn("run", StoreStatus(adaptation_.PodEvent(pb::RUN_POD_SANDBOX, Pod("p")), &first));
  scope_.Spawn("run", StoreStatus(adaptation_.PodEvent(pb::STOP_POD_SANDBOX, Pod("q")), &second));
  env_.Settle();
  EXPECT_THAT(plugin->told, ElementsAre("RunPodSandbox p"));
  hold->Set();
  env_.Settle();
  EXPECT_TRUE(first.has_value() && second.has_value());
}

TEST_F(NriAdaptationTest, TooManyAreTurnedAway) {
  std::vector<std::unique_ptr<net::ByteStream>> open;
  for (size_t i = 0; i < kMaxPlugins; ++i) open.push_back(Dial());
  TestPlugin* plugin = Connect(Add("10"));
  EXPECT_FALSE(plugin->synchronized);
  open.back()->Close();
  env_.Settle();
  EXPECT_TRUE(Connect(Add("10"))->synchronized);
}

// More calls at a time than anybody needs.
TEST_F(NriAdaptationTest, AFloodOfCallsEndsItsConnection) {
  class Stuck : public FakeRuntime {
   public:
    AsyncEvent never;
    Task<absl::StatusOr<std::vector<pb::ContainerUpdate>>> UpdateContainers(
        std::vector<pb::ContainerUpdate>) override {
      Task<void> wait = never.Wait();
      co_await std::move(wait);
      co_return std::vector<pb::ContainerUpdate>();
    }
  } stuck;
  adaptation_.set_runtime(&stuck);
  TestPlugin* plugin = Connect(Add("10"));
  pb::UpdateContainersRequest request;
  *request.add_update() = Update("c");
  struct Caller {
    static Task<void> Run(TestPlugin* plugin, std::string payload) {
      Task<CallResult> call = plugin->Call("UpdateContainers", std::move(payload));
      (void)co_await std::move(call);
    }
  };
  for (int i = 0; i < kMaxCallsOfPeer; ++i)
    scope_.Spawn("call", Caller::Run(plugin, request.SerializeAsString()));
  env_.Settle();
  EXPECT_TRUE(plugin->connected());
  scope_.Spawn("call", Caller::Run(plugin, request.SerializeAsString()));
  env_.Settle();
  EXPECT_FALSE(plugin->connected());
  env_.AwaitVoid(adaptation_.Close());
}

}  // namespace
}  // namespace keelson::cri::nri
