// The gRPC probe against a real server on loopback.
#include <gmock/gmock.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include <future>

#include "base/env.h"
#include "base/status.h"
#include "cri/testing/fake_runtime.h"
#include "kubelet/probes/health_service.grpc.pb.h"
#include "kubelet/probes/prober.h"

namespace keelson::kubelet {
namespace {

using ::testing::HasSubstr;
using HealthResponse = grpc::health::v1::HealthCheckResponse;

// "" is healthy, "sick" is not, "slow" answers when it is told to, others are unknown.
class HealthServer : public grpc::health::v1::Health::Service {
 public:
  grpc::Status Check(grpc::ServerContext*, const grpc::health::v1::HealthCheckRequest* request,
                     HealthResponse* response) override {
    const std::string& service = request->service();
    if (service == "slow") go_on_.get_future().wait();
    // What gRPC itself answers where the service is not registered.
    if (service == "absent") return grpc::Status(grpc::UNIMPLEMENTED, "");
    response->set_status(service == "sick" ? HealthResponse::NOT_SERVING : HealthResponse::SERVING);
    if (service.empty() || service == "sick") return grpc::Status();
    return grpc::Status(grpc::NOT_FOUND, "unknown service");
  }
  void GoOn() { go_on_.set_value(); }

 private:
  std::promise<void> go_on_;
};

class GrpcProbeTest : public ::testing::Test {
 protected:
  std::unique_ptr<grpc::Server> Serve(grpc::Service* service) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(service);
    return builder.BuildAndStart();
  }

  static Task<absl::Status> Attempt(Prober* prober, corev1::Probe probe, ProbeOutcome* outcome) {
    CO_ASSIGN_OR_RETURN(*outcome, prober->Probe(std::make_shared<const corev1::Pod>(), corev1::Container(),
                                                probe, "127.0.0.1", "id"));
    co_return absl::OkStatus();
  }
  ProbeOutcome Probe(const std::string& service) {
    cri::FakeRuntime runtime(env_);
    auto prober = NewProber(env_, runtime);
    corev1::Probe probe;
    probe.set_timeout_seconds(1);
    auto* action = probe.mutable_probe_handler()->mutable_grpc();
    action->set_port(port_);
    if (!service.empty()) action->set_service(service);
    ProbeOutcome outcome;
    EXPECT_TRUE(env_.RunUntilDone(Attempt(prober.get(), probe, &outcome)).ok());
    return outcome;
  }

  RealEnv env_{Paths()};
  int port_ = 0;
};

TEST_F(GrpcProbeTest, ServingIsSuccessAndEverythingElseSaysWhy) {
  HealthServer health;
  std::unique_ptr<grpc::Server> server = Serve(&health);
  ASSERT_NE(server, nullptr);
  EXPECT_TRUE(Probe("").success);
  EXPECT_THAT(Probe("sick").message, HasSubstr("responded with \"NOT_SERVING\""));
  EXPECT_THAT(Probe("other").message, HasSubstr("health rpc probe failed: unknown service"));
  EXPECT_THAT(Probe("absent").message, HasSubstr("does not implement the grpc health protocol"));
  EXPECT_THAT(Probe("slow").message, HasSubstr("did not complete within 1s"));
  health.GoOn();
  server->Shutdown();
  server->Wait();
  ProbeOutcome gone = Probe("");
  EXPECT_FALSE(gone.success);
  EXPECT_THAT(gone.message, HasSubstr("failed to connect to gRPC service 127.0.0.1:"));
}

}  // namespace
}  // namespace keelson::kubelet
