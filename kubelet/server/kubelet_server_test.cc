#include "kubelet/server/kubelet_server.h"

#include <absl/strings/str_join.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include "base/fake_env.h"
#include "base/fd.h"
#include "base/status.h"
#include "net/http_client.h"
#include "net/pki.h"
#include "net/remote_command.h"
#include "net/test_util.h"

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
  Task<absl::StatusOr<std::string>> ExecUrl(std::string ns, std::string pod, std::string uid,
                                            std::string container, StreamRequest request) override {
    if (pod != "web") co_return absl::NotFoundError(StrCat("pod \"", pod, "\" not found"));
    asked = StrCat("exec ", ns, "/", pod, "/", uid, "/", container, " ", absl::StrJoin(request.command, " "),
                   " ", request.with_stdin, request.with_stdout, request.with_stderr, request.tty);
    co_return url;
  }
  Task<absl::StatusOr<std::string>> AttachUrl(std::string, std::string, std::string, std::string container,
                                              StreamRequest request) override {
    asked = StrCat("attach ", container, " ", request.with_stdin, request.with_stdout);
    co_return url;
  }
  Task<absl::StatusOr<std::string>> PortForwardUrl(std::string, std::string pod, std::string,
                                                   std::vector<int32_t> ports) override {
    asked = StrCat("forward ", pod, " ", absl::StrJoin(ports, ","));
    co_return url;
  }
  Task<absl::StatusOr<std::string>> RunCommand(std::string, std::string, std::string, std::string,
                                               std::vector<std::string> command) override {
    if (command[0] == "false") co_return absl::AbortedError("command terminated with exit code 1: ");
    co_return StrCat("ran ", absl::StrJoin(command, ","));
  }
  absl::Status Healthy() const override { return health; }
  std::string log_path, url = "http://127.0.0.1:1/exec/t", asked;
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
                  bool verified = true, const std::string& method = "GET", net::HttpHeaders headers = {}) {
    net::HttpRequest request;
    request.method = method;
    request.headers = std::move(headers);
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

std::string Target(const std::string& target) {
  auto t = ParseStreamTarget(*net::HttpTarget::Parse(target));
  if (!t.ok()) return StrCat("!", Sv(t.status().message()));
  const StreamRequest& r = t->request;
  return StrCat(t->ns, "/", t->pod, "/", t->uid, "/", t->container, " [", absl::StrJoin(r.command, "|"), "] ",
                r.with_stdin, r.with_stdout, r.with_stderr, r.tty, " ", absl::StrJoin(t->ports, ","));
}

TEST(ParseStreamTarget, Table) {
  EXPECT_EQ(Target("/exec/ns/p/c?command=a%20b&command=c&output=1&error=1"), "ns/p//c [a b|c] 0110 ");
  EXPECT_EQ(Target("/exec/ns/p/u/c?command=sh&input=1&output=1&error=1&tty=1"), "ns/p/u/c [sh] 1101 ");
  EXPECT_EQ(Target("/attach/ns/p/c?output=true"), "ns/p//c [] 0100 ");
  EXPECT_EQ(Target("/portForward/ns/p/u?port=80&port=81,82"), "ns/p/u/ [] 0000 80,81,82");
  EXPECT_EQ(Target("/portForward/ns/p"), "ns/p// [] 0000 ");
  EXPECT_EQ(Target("/run/ns/p/c?cmd=ls%20-l"), "ns/p//c [ls|-l] 0000 ");
  EXPECT_THAT(Target("/exec/ns/p?command=ls&output=1"), HasSubstr("!path must be /exec/"));
  EXPECT_THAT(Target("/exec/ns//c?command=ls&output=1"), HasSubstr("!path"));
  EXPECT_THAT(Target("/exec/a/b/c/d/e?command=ls&output=1"), HasSubstr("!path"));
  EXPECT_THAT(Target("/exec/ns/p/c?output=1"), HasSubstr("!you must specify at least 1 command"));
  EXPECT_THAT(Target("/exec/ns/p/c?command=ls"), HasSubstr("!you must specify at least 1 of stdin"));
  EXPECT_THAT(Target("/portForward/ns/p?port=0"), HasSubstr("!port"));
  EXPECT_THAT(Target("/portForward/ns/p?port=70000"), HasSubstr("!port"));
  EXPECT_THAT(Target("/run/ns/p/c"), HasSubstr("!you must specify a command"));
}

TEST_F(Server, StreamsNeedAnUpgrade) {
  for (const char* method : {"GET", "POST"}) {
    for (const char* target :
         {"/exec/ns/web/c?command=ls&output=1", "/attach/ns/web/c?output=1", "/portForward/ns/web"}) {
      EXPECT_THAT(Get(target, kApiServerUser, "", true, method), HasSubstr("400 unable to upgrade"))
          << target;
    }
  }
  EXPECT_EQ(node_.asked, "");  // the runtime was not bothered
  EXPECT_THAT(Get("/exec/ns/web/c?command=ls&output=1", kApiServerUser, "", true, "PUT"), HasSubstr("400"));
  EXPECT_THAT(Get("/exec/ns/web/c?command=ls&output=1", "mallory", "", true, "POST"), HasSubstr("403"));
}

// A browser sends its user's certificate along with what any page asks for.
TEST_F(Server, PagesOfOthersAreRefused) {
  net::HttpHeaders offer{{"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}};
  net::HttpHeaders page = net::UpgradeForward(offer, net::UpgradeKind::kWebSocket);
  page.Add("Host", "node:10250");
  page.Add("Origin", "https://evil.example");
  for (const char* target :
       {"/exec/ns/web/c?command=ls&output=1", "/attach/ns/web/c?output=1", "/portForward/ns/web"}) {
    EXPECT_THAT(Get(target, kApiServerUser, "", true, "GET", page), HasSubstr("403 unable to upgrade"))
        << target;
  }
  EXPECT_EQ(node_.asked, "");
}

TEST_F(Server, Run) {
  EXPECT_EQ(Get("/run/ns/web/c?cmd=ls%20-l", kApiServerUser, "", true, "POST"), "200 ran ls,-l");
  EXPECT_THAT(Get("/run/ns/web/c?cmd=false", kApiServerUser, "", true, "POST"),
              HasSubstr("500 command terminated with exit code 1"));
  EXPECT_THAT(Api("/run/ns/web/c?cmd=ls"), HasSubstr("400"));
}

TEST_F(Server, DebuggingHandlersOff) {
  ServerSettings settings;
  settings.debugging_handlers = false;
  KubeletServer server(env_, node_, settings, "node", {}, "/nowhere");
  for (const char* path :
       {"/exec/ns/web/c", "/containerLogs/ns/web/c", "/run/ns/web/c", "/portForward/ns/web"}) {
    net::HttpRequest request;
    request.method = "POST";
    request.target = *net::HttpTarget::Parse(path);
    auto certificate = std::make_shared<net::PeerCertificate>();
    certificate->common_name = kApiServerUser;
    certificate->verified = true;
    request.peer_certificate = certificate;
    net::RecordingResponseWriter writer;
    env_.AwaitVoid(server.handler().Handle(request, writer));
    EXPECT_EQ(writer.status, 405) << path;
  }
}

// The runtime's streaming server: says what it was asked, then echoes.
class EchoRuntime : public net::HttpHandler {
 public:
  Task<void> Handle(net::HttpRequest request, net::ResponseWriter& writer) override {
    last = request;
    if (request.target.path == "/refuse") {
      net::HttpResponse response(403, "text/plain", std::string("not today\n"));
      Task<absl::Status> send = writer.Send(std::move(response));
      (void)co_await std::move(send);
      co_return;
    }
    net::HttpHeaders answer{{"Connection", "Upgrade"},
                            {"Upgrade", "SPDY/3.1"},
                            {"X-Stream-Protocol-Version", "v4.channel.k8s.io"}};
    Task<absl::StatusOr<std::unique_ptr<net::ByteStream>>> hijack = writer.Hijack(101, std::move(answer));
    absl::StatusOr<std::unique_ptr<net::ByteStream>> stream = co_await std::move(hijack);
    char buffer[100];
    while (true) {
      Task<absl::StatusOr<size_t>> read = (*stream)->Read(buffer, sizeof buffer);
      absl::StatusOr<size_t> n = co_await std::move(read);
      if (!n.ok() || *n == 0) break;
      Task<absl::Status> write = (*stream)->Write(std::string_view(buffer, *n));
      absl::Status status = co_await std::move(write);
      if (!status.ok()) break;
    }
    Task<absl::Status> close = (*stream)->CloseWrite();
    (void)co_await std::move(close);
  }
  net::HttpRequest last;
};

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
  settings.runtime_tls = {dir + "/runtime/ca.crt", dir + "/runtime/own.crt", dir + "/runtime/own.key"};
  CO_RETURN_IF_ERROR_SYNC(MakeDirs(dir + "/runtime"));
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

  // An exec, through to the runtime and back.
  EchoRuntime runtime;
  net::HttpServer streaming(env->executor(), &env->clock(), &runtime, net::HttpServerOptions());
  net::HttpServer::TcpListen listen;
  listen.address = "127.0.0.1";
  CO_ASSIGN_OR_RETURN_SYNC(uint16_t port, streaming.ListenTcp(listen));
  node.url = StrCat("http://127.0.0.1:", port, "/exec/token");
  net::HttpClient http(env, {});
  net::HttpEndpoint endpoint;
  endpoint.host = "127.0.0.1";
  endpoint.port = server.port();
  endpoint.tls = apiserver;
  net::HttpClientRequest exec;
  exec.method = "POST";
  exec.target = "/exec/ns/web/uid/c?command=cat&input=1&output=1";
  net::HttpHeaders offer{{"X-Stream-Protocol-Version", "v4.channel.k8s.io"}};
  exec.headers = net::UpgradeForward(offer, net::UpgradeKind::kSpdy);
  exec.headers.Add("Authorization", "Bearer secret");
  CO_ASSIGN_OR_RETURN(net::HttpUpgrade upgrade, http.Upgrade(endpoint, exec));
  EXPECT_EQ(upgrade.status, 101) << upgrade.body;
  EXPECT_EQ(node.asked, "exec ns/web/uid/c cat 1100");
  EXPECT_EQ(upgrade.headers.Get("X-Stream-Protocol-Version"), "v4.channel.k8s.io");
  EXPECT_EQ(runtime.last.target.path, "/exec/token");
  EXPECT_EQ(runtime.last.method, "POST");
  EXPECT_FALSE(runtime.last.headers.Has("Authorization"));
  CO_RETURN_IF_ERROR(upgrade.stream->Write("hello"));
  CO_RETURN_IF_ERROR(upgrade.stream->CloseWrite());
  std::string got;
  char buffer[100];
  while (true) {
    CO_ASSIGN_OR_RETURN(size_t n, upgrade.stream->Read(buffer, sizeof buffer));
    if (n == 0) break;
    got.append(buffer, n);
  }
  EXPECT_EQ(got, "hello");
  // What the runtime refuses is told.
  node.url = StrCat("http://127.0.0.1:", port, "/refuse");
  CO_ASSIGN_OR_RETURN(upgrade, http.Upgrade(endpoint, exec));
  EXPECT_EQ(upgrade.status, 403);
  EXPECT_EQ(upgrade.body, "not today\n");
  node.url = "http://127.0.0.1:1/exec/t";
  CO_ASSIGN_OR_RETURN(upgrade, http.Upgrade(endpoint, exec));
  EXPECT_EQ(upgrade.status, 500);
  EXPECT_THAT(upgrade.body, HasSubstr("connecting to the runtime's streaming server"));
  // By TLS the runtime is asked who it is, and shown who we are.
  net::TestPki pki(now);
  EchoRuntime guarded_runtime;
  net::HttpServer guarded(env->executor(), &env->clock(), &guarded_runtime, net::HttpServerOptions());
  listen.tls = pki.Server(net::ClientCertificates::kRequired);
  CO_ASSIGN_OR_RETURN_SYNC(uint16_t guarded_port, guarded.ListenTcp(listen));
  node.url = StrCat("https://127.0.0.1:", guarded_port, "/exec/token");
  CO_ASSIGN_OR_RETURN(upgrade, http.Upgrade(endpoint, exec));
  EXPECT_EQ(upgrade.status, 500);
  EXPECT_THAT(upgrade.body, HasSubstr("ca.crt"));  // there is none yet
  CO_RETURN_IF_ERROR_SYNC(
      WriteFileAtomic(settings.runtime_tls.ca_file, pki.other_ca.certificate_pem(), 0644, false));
  CO_RETURN_IF_ERROR_SYNC(net::SaveKeyPair(pki.client, settings.runtime_tls.certificate_file,
                                           settings.runtime_tls.private_key_file));
  CO_ASSIGN_OR_RETURN(upgrade, http.Upgrade(endpoint, exec));
  EXPECT_EQ(upgrade.status, 500);
  EXPECT_THAT(upgrade.body, HasSubstr("self-signed certificate"));
  EXPECT_THAT(upgrade.body, HasSubstr("--runtime-streaming-ca"));
  EXPECT_EQ(guarded_runtime.last.target.path, "");  // nor was it told the token
  CO_RETURN_IF_ERROR_SYNC(
      WriteFileAtomic(settings.runtime_tls.ca_file, pki.ca.certificate_pem(), 0644, false));
  CO_ASSIGN_OR_RETURN(upgrade, http.Upgrade(endpoint, exec));
  EXPECT_EQ(upgrade.status, 101) << upgrade.body;
  EXPECT_TRUE(guarded_runtime.last.peer_certificate->verified);
  upgrade.stream.reset();
  Task<void> close_guarded = guarded.Close();
  co_await std::move(close_guarded);
  // Cut off when the kubelet stops.
  node.url = StrCat("http://127.0.0.1:", port, "/exec/token");
  CO_ASSIGN_OR_RETURN(upgrade, http.Upgrade(endpoint, exec));
  Task<void> close_streaming = streaming.Close();
  co_await std::move(close_streaming);
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
