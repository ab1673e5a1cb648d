#include "kubelet/server/kubelet_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include "base/fake_env.h"
#include "base/fd.h"
#include "base/status.h"
#include "net/http_client.h"
#include "net/pki.h"

namespace keelson::kubelet {
namespace {

using ::testing::HasSubstr;

class FakeNode : public NodeApi {
 public:
  std::vector<PodPtr> Pods() const override {
    auto pod = std::make_shared<corev1::Pod>();
    pod->mutable_metadata()->set_name("web");
    return {pod};
  }
  Task<absl::StatusOr<std::vector<PodPtr>>> RunningPods() override { co_return Pods(); }
  Task<absl::StatusOr<ContainerLocation>> LocateContainer(std::string ns, std::string pod, std::string,
                                                          std::string container, bool previous) override {
    if (pod != "web") co_return absl::NotFoundError(StrCat("pod \"", pod, "\" not found"));
    if (previous)
      co_return absl::InvalidArgumentError("previous terminated container \"c\" in pod \"web\" not found");
    ContainerLocation location;
    location.container_id = "id";
    location.log_path = log_path;
    co_return location;
  }
  Task<absl::StatusOr<std::string>> LocateSandbox(std::string, std::string, std::string) override {
    co_return absl::NotFoundError("none");
  }
  absl::Status Healthy() const override { return health; }
  std::string log_path;
  absl::Status health;
};

class Server : public ::testing::Test {
 protected:
  Server() {
    char path[] = "/tmp/kubelet_server_XXXXXX";
    dir_ = ::mkdtemp(path);
    node_.log_path = dir_ + "/0.log";
    EXPECT_TRUE(WriteFileAtomic(node_.log_path, "2016-10-06T00:17:09Z stdout F hello\n", 0600, false).ok());
  }
  ~Server() override { (void)RemoveTree(dir_); }
  // The answer to `target` for a client of that name and group.
  std::string Get(const std::string& target, const std::string& name, const std::string& group = "",
                  bool verified = true, const std::string& method = "GET") {
    net::HttpRequest request;
    request.method = method;
    request.target = *net::HttpTarget::Parse(target);
    if (!name.empty()) {
      auto certificate = std::make_shared<net::PeerCertificate>();
      certificate->common_name = name;
      certificate->verified = verified;
      if (!group.empty()) certificate->organizations = {group};
      request.peer_certificate = certificate;
    }
    net::RecordingResponseWriter writer;
    env_.AwaitVoid(server_.handler().Handle(request, writer));
    return StrCat(writer.status, " ", writer.body);
  }
  std::string Api(const std::string& target) { return Get(target, kApiServerUser); }

  FakeEnv env_;
  FakeNode node_;
  KubeletServer server_{env_, node_, ServerSettings(), "node", {}, "/nowhere"};
  std::string dir_;
};

TEST_F(Server, WhoMay) {
  EXPECT_THAT(Get("/pods", ""), HasSubstr("401"));
  EXPECT_THAT(Get("/pods", kApiServerUser, "", /*verified=*/false), HasSubstr("401"));
  EXPECT_THAT(Get("/pods", "system:node:other", "system:nodes"),
              HasSubstr("403 Forbidden (user=system:node:other"));
  EXPECT_THAT(Get("/healthz", "someone"), HasSubstr("403"));
  EXPECT_THAT(Get("/pods", kApiServerUser), HasSubstr("200"));
  EXPECT_THAT(Get("/pods", "admin", kMastersGroup), HasSubstr("200"));
}

TEST_F(Server, Paths) {
  EXPECT_THAT(Api("/pods"), HasSubstr("\"kind\":\"PodList\""));
  EXPECT_THAT(Api("/runningpods/"), HasSubstr("\"name\":\"web\""));
  EXPECT_EQ(Api("/healthz"), "200 ok");
  node_.health = absl::UnavailableError("PLEG is late");
  EXPECT_THAT(Api("/healthz"), HasSubstr("500 [-]PLEG is late"));
  EXPECT_THAT(Api("/metrics"), HasSubstr("200"));
  EXPECT_THAT(Get("/exec/ns/web/c", kApiServerUser, "", true, "POST"), HasSubstr("501"));
  EXPECT_THAT(Api("/portForward/ns/web"), HasSubstr("501"));
  EXPECT_THAT(Api("/"), HasSubstr("404"));
  EXPECT_THAT(Get("/pods", kApiServerUser, "", true, "DELETE"), HasSubstr("405"));
}

TEST_F(Server, ContainerLogs) {
  EXPECT_EQ(Api("/containerLogs/ns/web/c"), "200 hello\n");
  EXPECT_EQ(Api("/containerLogs/ns/web/c?timestamps=true&tailLines=5"), "200 2016-10-06T00:17:09Z hello\n");
  EXPECT_EQ(Api("/containerLogs/ns/web/c?follow=true"), "200 hello\n");  // it does not run
  EXPECT_EQ(Api("/containerLogs/ns/other/c"), "404 pod \"other\" not found");
  EXPECT_THAT(Api("/containerLogs/ns/web/c?previous=true"), HasSubstr("400 previous terminated"));
  EXPECT_THAT(Api("/containerLogs/ns/web/c?tailLines=-1"), HasSubstr("400 tailLines"));
  EXPECT_THAT(Api("/containerLogs/ns/web/c?sinceTime=today"), HasSubstr("400 sinceTime"));
  EXPECT_THAT(Api("/containerLogs/ns/web/c?sinceTime=2016-10-06T00:17:09Z&sinceSeconds=1"), HasSubstr("400"));
  EXPECT_THAT(Api("/containerLogs/ns/web"), HasSubstr("400"));
  node_.log_path = dir_ + "/gone";
  EXPECT_THAT(Api("/containerLogs/ns/web/c"), HasSubstr("failed to open log file"));
}

Task<int> StatusOver(Env* env, uint16_t port, std::shared_ptr<net::TlsClientContext> tls, std::string path) {
  net::HttpClient http(env, {});
  net::HttpEndpoint endpoint;
  endpoint.host = "127.0.0.1";
  endpoint.port = port;
  endpoint.tls = tls;
  net::HttpClientRequest request;
  request.target = path;
  Task<absl::StatusOr<net::HttpClientResponse>> call = http.Do(endpoint, std::move(request));
  absl::StatusOr<net::HttpClientResponse> response = co_await std::move(call);
  http.CloseIdle();
  co_return response.ok() ? response->status : -1;
}

Task<absl::Status> OverTheWire(Env* env, std::string dir) {
  absl::Time now = env->clock().Now();
  CO_ASSIGN_OR_RETURN_SYNC(auto authority, net::CertificateAuthority::Create("ca", now));
  net::CertificateSpec spec;
  spec.common_name = kApiServerUser;
  spec.client = true;
  CO_ASSIGN_OR_RETURN_SYNC(net::KeyPair client, authority.Issue(spec, now));
  CO_RETURN_IF_ERROR_SYNC(WriteFileAtomic(dir + "/ca.crt", authority.certificate_pem(), 0644, false));
  FakeNode node;
  ServerSettings settings;
  settings.address = "127.0.0.1";
  settings.port = 0;
  settings.healthz_port = 0;
  settings.client_ca_file = dir + "/ca.crt";
  KubeletServer server(*env, node, settings, "node", {}, dir + "/pki");
  CO_RETURN_IF_ERROR_SYNC(server.Start());
  net::TlsClientConfig config;
  config.insecure_skip_verify = true;
  CO_ASSIGN_OR_RETURN_SYNC(auto nobody, net::TlsClientContext::Create(config));
  config.certificate_pem = client.certificate_pem;
  config.private_key_pem = client.private_key_pem;
  CO_ASSIGN_OR_RETURN_SYNC(auto apiserver, net::TlsClientContext::Create(config));
  Task<int> refused = StatusOver(env, server.port(), nobody, "/pods");
  int status = co_await std::move(refused);
  EXPECT_EQ(status, 401);
  Task<int> welcome = StatusOver(env, server.port(), apiserver, "/pods");
  status = co_await std::move(welcome);
  EXPECT_EQ(status, 200);
  Task<void> stop = server.Stop();
  co_await std::move(stop);
  co_return absl::OkStatus();
}

TEST_F(Server, OnARealSocketWithASelfSignedCertificate) {
  RealEnv env{Paths()};
  absl::Status status = env.RunUntilDone(OverTheWire(&env, dir_));
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace keelson::kubelet
