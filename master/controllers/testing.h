// Fixture for controller tests: fake clock, fake API, shared informers, event recorder.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "api/codec.h"
#include "api/core/v1/pod.pb.h"
#include "base/fake_env.h"
#include "client/testing/fake_api_client.h"
#include "master/controllers/controller.h"

namespace keelson::master {

class ControllerTest : public ::testing::Test {
 protected:
  ControllerContext context() { return {env_, api_, informers_, events_}; }

  // Constructs nothing: call after the controllers under test exist.
  void StartInformers() {
    informers_.Start();
    env_.AwaitVoid(informers_.WaitForSync());
  }
  void TearDown() override {
    env_.AwaitVoid(informers_.Stop());
    env_.AwaitVoid(events_.Stop());
  }
  template <class T>
  std::shared_ptr<const T> PutJson(std::string_view json) {
    auto object = api::DecodeJsonAs<T>(json);
    EXPECT_TRUE(object.ok()) << object.status();
    return api::As<T>(api_.Put(*object));
  }
  // Gives the pod a node and the phase and readiness.
  void SetPod(const std::string& key, const std::string& node, const std::string& phase, bool ready) {
    auto pod = api_.FindAs<::k8s::core::v1::Pod>(key);
    ASSERT_NE(pod, nullptr) << key;
    ::k8s::core::v1::Pod changed = *pod;
    changed.mutable_spec()->set_node_name(node);
    changed.mutable_status()->set_phase(phase);
    changed.mutable_status()->clear_conditions();
    auto* condition = changed.mutable_status()->add_conditions();
    condition->set_type("Ready");
    condition->set_status(ready ? "True" : "False");
    condition->mutable_last_transition_time()->set_seconds(absl::ToUnixSeconds(env_.clock().Now()));
    api_.Put(changed);
  }

  FakeEnv env_;
  client::FakeApiClient api_{env_};
  client::InformerFactory informers_{env_, api_};
  client::EventRecorder events_{env_, api_, "test", ""};
};

}  // namespace keelson::master
