// An ApiServer on a memory store and the fake clock, with a client of an administrator; for unit tests.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "api/core/v1/pod.pb.h"
#include "api/core/v1/replication_controller.pb.h"
#include "api/core/v1/service.pb.h"
#include "api/status_error.h"
#include "base/fake_env.h"
#include "client/api_client.h"
#include "master/apiserver/api_server.h"
#include "master/store/memory_store.h"

namespace keelson::master {

namespace core = ::k8s::core::v1;

class ApiServerTest : public ::testing::Test {
 protected:
  ApiServerTest() : store_(env_) {
    ApiServerOptions options;
    options.advertise_address = "192.0.2.1";
    auto server = ApiServer::Create(env_, store_, options);
    if (!server.ok()) std::abort();
    server_ = *std::move(server);
    absl::Status started = env_.Await(server_->Start());
    EXPECT_TRUE(started.ok()) << started;
    client_ = server_->NewClient("admin");
  }
  ~ApiServerTest() override {
    client_.reset();
    env_.AwaitVoid(server_->Stop());
    server_.reset();
    env_.AwaitVoid(store_.Close());
  }

  static core::Pod PodNamed(const std::string& name) {
    core::Pod pod;
    pod.mutable_metadata()->set_name(name);
    pod.mutable_metadata()->set_namespace_("default");
    (*pod.mutable_metadata()->mutable_labels())["app"] = "web";
    auto* c = pod.mutable_spec()->add_containers();
    c->set_name("main");
    c->set_image("nginx:1.25");
    return pod;
  }
  static core::Service ServiceNamed(const std::string& name, int port) {
    core::Service s;
    s.mutable_metadata()->set_name(name);
    s.mutable_metadata()->set_namespace_("default");
    (*s.mutable_spec()->mutable_selector())["app"] = "web";
    s.mutable_spec()->add_ports()->set_port(port);
    return s;
  }

  template <class T>
  absl::StatusOr<std::shared_ptr<const T>> Create(T object) {
    return env_.Await(client_->Create<T>(std::move(object)));
  }
  template <class T>
  absl::StatusOr<std::shared_ptr<const T>> Get(const std::string& name) {
    return env_.Await(client_->Get<T>("default", name));
  }
  template <class T>
  absl::StatusOr<std::shared_ptr<const T>> Update(T object, std::string subresource = "") {
    return env_.Await(client_->Update<T>(std::move(object), std::move(subresource)));
  }
  template <class T>
  absl::Status Delete(const std::string& name, client::DeleteOptions options = {}) {
    return env_.Await(client_->Delete<T>("default", name, std::move(options)));
  }

  FakeEnv env_;
  MemoryStore store_;
  std::unique_ptr<ApiServer> server_;
  std::unique_ptr<client::ApiClient> client_;
};

}  // namespace keelson::master
