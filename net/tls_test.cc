// Server and client against each other over TLS on a real loop.
#include "net/tls.h"

#include <absl/strings/match.h>

#include "base/env.h"
#include "base/strings.h"
#include "net/http_client.h"
#include "net/http_server.h"
#include "net/test_util.h"

namespace keelson::net {
namespace {

// Answers with what it knows of the client.
class WhoHandler : public HttpHandler {
 public:
  Task<void> Handle(HttpRequest request, ResponseWriter& writer) override {
    return Answer(std::move(request), &writer);
  }
  Task<void> Answer(HttpRequest request, ResponseWriter* writer) {
    std::string text = "anonymous";
    if (request.peer_certificate != nullptr) {
      const PeerCertificate& peer = *request.peer_certificate;
      text = StrCat(peer.verified ? "verified " : "unverified ", peer.common_name, " ",
                    absl::StrJoin(peer.organizations, ","));
    }
    HttpResponse response(200, "text/plain", text);
    Task<absl::Status> send = writer->Send(std::move(response));
    (void)co_await std::move(send);
  }
};

class TlsTest : public ::testing::Test {
 protected:
  Task<absl::Status> Fetch(HttpEndpoint endpoint, std::string* body) {
    HttpClientRequest request;
    Task<absl::StatusOr<HttpClientResponse>> call = client_.Do(endpoint, std::move(request));
    absl::StatusOr<HttpClientResponse> response = co_await std::move(call);
    if (!response.ok()) co_return response.status();
    *body = response->body;
    co_return absl::OkStatus();
  }
  Task<absl::Status> CloseServer() {
    client_.CloseIdle();
    Task<void> close = server_.Close();
    co_await std::move(close);
    co_return absl::OkStatus();
  }
  void Listen(ClientCertificates mode) {
    HttpServer::TcpListen listen;
    listen.address = "127.0.0.1";
    listen.tls = pki_.Server(mode);
    port_ = *server_.ListenTcp(listen);
  }
  std::string Get(std::shared_ptr<TlsClientContext> tls, std::string host = "127.0.0.1",
                  std::string name = "") {
    HttpEndpoint endpoint;
    endpoint.host = host;
    endpoint.port = port_;
    endpoint.tls = std::move(tls);
    endpoint.tls_server_name = name;
    std::string body;
    absl::Status status = env_.RunUntilDone(Fetch(endpoint, &body));
    if (status.ok()) return body;
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    return StrCat("error: ", Sv(status.message()));
  }
  void TearDown() override { EXPECT_TRUE(env_.RunUntilDone(CloseServer()).ok()); }

  RealEnv env_{Paths()};
  TestPki pki_;
  WhoHandler handler_;
  HttpServer server_{env_.executor(), &env_.clock(), &handler_, HttpServerOptions()};
  HttpClient client_{&env_, HttpClientOptions()};
  uint16_t port_ = 0;
};

TEST_F(TlsTest, ServerIsVerifiedByIpAndName) {
  Listen(ClientCertificates::kNone);
  EXPECT_EQ(Get(pki_.Client()), "anonymous");
  EXPECT_EQ(Get(pki_.Client(), "localhost"), "anonymous");
  EXPECT_EQ(Get(pki_.Client(), "127.0.0.1", "kubernetes.default"), "anonymous");
  EXPECT_TRUE(absl::StrContains(Get(pki_.Client(), "127.0.0.1", "other.name"), "hostname mismatch"));
  EXPECT_TRUE(absl::StrContains(Get(pki_.Client(), "127.0.0.1", "10.0.0.9"), "IP address mismatch"));
  TlsClientConfig stranger;
  stranger.ca_pem = pki_.other_ca.certificate_pem();
  EXPECT_TRUE(absl::StartsWith(Get(*TlsClientContext::Create(stranger)), "error: ")) << "wrong CA";
  stranger.insecure_skip_verify = true;
  EXPECT_EQ(Get(*TlsClientContext::Create(stranger)), "anonymous");
}

TEST_F(TlsTest, OptionalClientCertificate) {
  Listen(ClientCertificates::kOptional);
  EXPECT_EQ(Get(pki_.Client()), "anonymous");
  EXPECT_EQ(Get(pki_.Client(&pki_.client)), "verified alice system:masters,dev");
  EXPECT_EQ(Get(pki_.Client(&pki_.stranger)), "unverified alice system:masters,dev");
  // A server certificate does not make a client.
  EXPECT_EQ(Get(pki_.Client(&pki_.server)), "unverified server ");
}

TEST_F(TlsTest, RequiredClientCertificate) {
  Listen(ClientCertificates::kRequired);
  EXPECT_EQ(Get(pki_.Client(&pki_.client)), "verified alice system:masters,dev");
  EXPECT_TRUE(absl::StartsWith(Get(pki_.Client()), "error: "));
  EXPECT_TRUE(absl::StartsWith(Get(pki_.Client(&pki_.stranger)), "error: "));
  EXPECT_GE(server_.stats().handshake_errors_total, 2u);
}

TEST_F(TlsTest, ReloadTakesEffectOnTheNextConnection) {
  Listen(ClientCertificates::kNone);
  auto old_trust = pki_.Client();
  EXPECT_EQ(Get(old_trust), "anonymous");
  CertificateSpec spec;
  spec.common_name = "server2";
  spec.ip_addresses = {"127.0.0.1"};
  spec.server = true;
  KeyPair pair = *pki_.other_ca.Issue(spec, absl::Now());
  TlsServerConfig config;
  config.certificate_pem = pair.certificate_pem;
  config.private_key_pem = pair.private_key_pem;
  server_.SetTls(*TlsServerContext::Create(config));
  TlsClientConfig trust;
  trust.ca_pem = pki_.other_ca.certificate_pem();
  EXPECT_EQ(Get(*TlsClientContext::Create(trust)), "anonymous");
  EXPECT_EQ(Get(old_trust), "anonymous") << "the pooled connection goes on";
  client_.CloseIdle();
  EXPECT_TRUE(absl::StartsWith(Get(old_trust), "error: "));
}

TEST_F(TlsTest, PlainTextOnATlsPortIsRefused) {
  Listen(ClientCertificates::kNone);
  EXPECT_TRUE(absl::StartsWith(Get(nullptr), "error: "));
  EXPECT_EQ(server_.stats().handshake_errors_total, 1u);
}

}  // namespace
}  // namespace keelson::net
