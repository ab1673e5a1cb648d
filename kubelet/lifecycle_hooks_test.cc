// Handlers of postStart and preStop by themselves; what comes of them is in kubelet_test.cc.
#include "kubelet/lifecycle_hooks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/codec.h"
#include "base/env.h"
#include "base/status.h"
#include "cri/testing/fake_runtime.h"
#include "net/http_server.h"

namespace keelson::kubelet {
namespace {

using ::testing::HasSubstr;

// What a request came with, and an answer by its path.
struct HookServer : net::HttpHandler {
  Task<void> Handle(net::HttpRequest request, net::ResponseWriter& writer) override {
    path = request.target.path;
    header = std::string(request.headers.Get("X-Hook"));
    net::HttpResponse response(path == "/bad" ? 500 : 200, "text/plain", "ok");
    Task<absl::Status> send = writer.Send(std::move(response));
    (void)co_await std::move(send);
  }
  std::string path, header;
};

Task<absl::Status> RunHooks(Env* env) {
  cri::FakeRuntime runtime(*env);
  LifecycleHooks hooks(*env, runtime);
  HookServer handler;
  net::HttpServer server(env->executor(), &env->clock(), &handler, {});
  net::HttpServer::TcpListen listen;
  listen.address = "127.0.0.1";
  CO_ASSIGN_OR_RETURN_SYNC(uint16_t port, server.ListenTcp(listen));
  corev1::Container container;
  auto* named = container.add_ports();
  named->set_name("web");
  named->set_container_port(port);
  struct Case {
    std::string json, path, error;
  };
  const std::vector<Case> cases = {
      {StrCat(R"({"httpGet":{"path":"/up","port":)", port,
              R"(,"httpHeaders":[{"name":"X-Hook","value":"v"}]}})"),
       "/up", ""},
      {R"({"httpGet":{"path":"bare","port":"web"}})", "/bare", ""},
      {R"({"httpGet":{"path":"/bad","port":"web"}})", "/bad", "answered 500"},
      {R"({"httpGet":{"path":"/x","port":"none"}})", "", "couldn't find port: none"},
      {R"({"tcpSocket":{"port":80}})", "", "invalid handler: tcpSocket"},
      {"{}", "", "invalid handler: "},
      {R"({"sleep":{"seconds":0}})", "", ""},
  };
  for (const Case& c : cases) {
    corev1::LifecycleHandler hook;
    CO_RETURN_IF_ERROR_SYNC(api::DecodeJsonInto(c.json, hook));
    handler.path.clear();
    auto pod = std::make_shared<const corev1::Pod>();
    Task<absl::Status> run = hooks.Run(pod, container, "id", hook, "127.0.0.1", absl::Seconds(30));
    absl::Status ran = co_await std::move(run);
    EXPECT_EQ(ran.ok(), c.error.empty()) << c.json << ran;
    EXPECT_THAT(std::string(ran.message()), HasSubstr(c.error));
    EXPECT_EQ(handler.path, c.path) << c.json;
    if (c.path == "/up") EXPECT_EQ(handler.header, "v");
  }
  Task<void> close = server.Close();
  co_await std::move(close);
  co_return absl::OkStatus();
}

TEST(LifecycleHooksTest, OnARealSocket) {
  RealEnv env{Paths()};
  absl::Status status = env.RunUntilDone(RunHooks(&env));
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace keelson::kubelet
