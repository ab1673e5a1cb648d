#include "kubelet/probes/prober.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/codec.h"
#include "base/env.h"
#include "base/fake_env.h"
#include "base/status.h"
#include "cri/testing/fake_runtime.h"
#include "net/http_server.h"

namespace keelson::kubelet {
namespace {

using ::testing::HasSubstr;

corev1::Container ContainerWith(const std::string& probe_json) {
  auto container = api::DecodeJsonAs<corev1::Container>(
      R"({"name":"c","env":[{"name":"A","value":"x"}],"ports":[{"name":"web","containerPort":8080}],"livenessProbe":)" +
      probe_json + "}");
  EXPECT_TRUE(container.ok()) << container.status();
  return *container;
}

TEST(MakeHttpProbe, TargetAndHeaders) {
  auto container = ContainerWith(
      R"({"httpGet":{"path":"ok?a=b","port":"web","scheme":"HTTPS","httpHeaders":[{"name":"X","value":"1"}]}})");
  auto target = MakeHttpProbe(container, container.liveness_probe().probe_handler().http_get(), "10.0.0.9");
  ASSERT_TRUE(target.ok()) << target.status();
  EXPECT_TRUE(target->https);
  EXPECT_EQ(target->endpoint.host, "10.0.0.9");
  EXPECT_EQ(target->endpoint.port, 8080);
  EXPECT_EQ(target->request.target, "/ok?a=b");
  EXPECT_EQ(target->request.headers.Get("x"), "1");
  EXPECT_EQ(target->request.headers.Get("User-Agent"), "kube-probe/1.37");
  container = ContainerWith(R"({"httpGet":{"port":"nope"}})");
  EXPECT_FALSE(
      MakeHttpProbe(container, container.liveness_probe().probe_handler().http_get(), "10.0.0.9").ok());
}

TEST(ExecProbe, ExitCodeIsTheVerdict) {
  FakeEnv env;
  cri::FakeRuntime runtime(env);
  auto prober = NewProber(env, runtime);
  criv1::RunPodSandboxRequest sandbox;
  sandbox.mutable_config()->mutable_metadata()->set_name("p");
  sandbox.mutable_config()->mutable_metadata()->set_uid("u");
  sandbox.mutable_config()->mutable_metadata()->set_namespace_("n");
  auto ran = env.Await(runtime.RunPodSandbox(sandbox));
  ASSERT_TRUE(ran.ok()) << ran.status();
  runtime.AddLocalImage("img");
  criv1::CreateContainerRequest create;
  create.set_pod_sandbox_id(ran->pod_sandbox_id());
  create.mutable_config()->mutable_metadata()->set_name("c");
  create.mutable_config()->mutable_image()->set_image("img");
  *create.mutable_sandbox_config() = sandbox.config();
  auto created = env.Await(runtime.CreateContainer(create));
  ASSERT_TRUE(created.ok()) << created.status();
  criv1::StartContainerRequest start;
  start.set_container_id(created->container_id());
  ASSERT_TRUE(env.Await(runtime.StartContainer(start)).ok());

  std::vector<std::string> seen;
  int exit_code = 0;
  runtime.set_exec_handler(
      [&](const auto&, const std::vector<std::string>& cmd) -> absl::StatusOr<criv1::ExecSyncResponse> {
        seen = cmd;
        criv1::ExecSyncResponse response;
        response.set_exit_code(exit_code);
        response.set_stderr("not yet");
        return response;
      });
  auto container = ContainerWith(R"x({"exec":{"command":["test","$(A)","$(B)"]},"timeoutSeconds":2})x");
  auto pod = std::make_shared<const corev1::Pod>();
  auto probe = [&] {
    return env.Await(prober->Probe(pod, container, container.liveness_probe(), "", created->container_id()));
  };
  auto outcome = probe();
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_TRUE(outcome->success);
  EXPECT_THAT(seen, ::testing::ElementsAre("test", "x", "$(B)"));
  exit_code = 1;
  outcome = probe();
  ASSERT_TRUE(outcome.ok());
  EXPECT_FALSE(outcome->success);
  EXPECT_EQ(outcome->message, "not yet");
  runtime.set_exec_latency(absl::Seconds(10));
  outcome = probe();
  ASSERT_TRUE(outcome.ok());
  EXPECT_THAT(outcome->message, HasSubstr("timed out"));
  runtime.Crash();
  EXPECT_FALSE(probe().ok());  // no verdict
}

Task<void> Answer(net::HttpRequest request, net::ResponseWriter& writer) {
  net::HttpResponse response(200, "text/plain", "ok");
  if (request.target.path == "/bad") response.status = 503;
  if (request.target.path == "/away") {
    response.status = 302;
    response.headers.Add("Location", "http://192.0.2.1/");
  }
  if (request.target.path == "/moved") {
    response.status = 301;
    response.headers.Add("Location", "/bad");
  }
  Task<absl::Status> send = writer.Send(std::move(response));
  (void)co_await std::move(send);
}

Task<absl::Status> ProbeLocal(Env* env) {
  cri::FakeRuntime runtime(*env);
  auto prober = NewProber(*env, runtime);
  net::FunctionHandler handler(Answer);
  net::HttpServer server(env->executor(), &env->clock(), &handler, {});
  net::HttpServer::TcpListen listen;
  listen.address = "127.0.0.1";
  CO_ASSIGN_OR_RETURN_SYNC(uint16_t port, server.ListenTcp(listen));
  struct Case {
    std::string json;
    bool success;
  };
  const std::string p = StrCat(port);
  std::vector<Case> cases = {
      {R"({"httpGet":{"path":"/","port":)" + p + "}}", true},
      {R"({"httpGet":{"path":"/bad","port":)" + p + "}}", false},
      {R"({"httpGet":{"path":"/away","port":)" + p + "}}", true},
      {R"({"httpGet":{"path":"/moved","port":)" + p + "}}", false},
      {R"({"httpGet":{"scheme":"HTTPS","port":)" + p + "}}", false},
      {R"({"tcpSocket":{"port":)" + p + "}}", true},
      {R"({"tcpSocket":{"port":1}})", false},
  };
  for (const Case& c : cases) {
    corev1::Container container = ContainerWith(c.json);
    auto pod = std::make_shared<const corev1::Pod>();
    Task<absl::StatusOr<ProbeOutcome>> attempt =
        prober->Probe(pod, container, container.liveness_probe(), "127.0.0.1", "id");
    absl::StatusOr<ProbeOutcome> outcome = co_await std::move(attempt);
    EXPECT_TRUE(outcome.ok()) << c.json << outcome.status();
    if (outcome.ok()) {
      EXPECT_EQ(outcome->success, c.success) << c.json << ": " << outcome->message;
    }
  }
  Task<void> close = server.Close();
  co_await std::move(close);
  co_return absl::OkStatus();
}

TEST(HttpAndTcpProbes, OnARealSocket) {
  RealEnv env{Paths()};
  absl::Status status = env.RunUntilDone(ProbeLocal(&env));
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace keelson::kubelet
