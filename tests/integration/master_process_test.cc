// A master in a process of its own (SQLite, TLS), clients in this one; the master is killed with SIGKILL
// while they write. Nothing acknowledged is lost, watchers come back by themselves and see every change once.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>

#include <filesystem>
#include <map>
#include <set>

#include "api/core/v1/config.pb.h"
#include "api/core/v1/pod.pb.h"
#include "api/core/v1/replication_controller.pb.h"
#include "api/status_error.h"
#include "base/env.h"
#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"
#include "client/http_api_client.h"
#include "client/informer.h"
#include "net/pki.h"

namespace keelson {
namespace {

namespace corev1 = ::k8s::core::v1;
using ConfigMapPtr = std::shared_ptr<const corev1::ConfigMap>;

constexpr int kWriters = 4, kObjectsEach = 25, kKills = 3;
constexpr absl::Duration kPoll = absl::Milliseconds(5);
constexpr absl::Duration kBound = absl::Seconds(60);  // of anything that is waited for, on a busy machine

class MasterProcess {
 public:
  MasterProcess(RealEnv& env, std::string dir) : env_(env), dir_(std::move(dir)) {}
  ~MasterProcess() { Kill(); }

  absl::Status WritePki() {
    absl::Time now = env_.clock().Now();
    auto ca = net::CertificateAuthority::Create("integration", now);
    RETURN_IF_ERROR(ca.status());
    net::CertificateSpec server;
    server.common_name = "apiserver";
    server.ip_addresses = {"127.0.0.1"};
    server.server = true;
    net::CertificateSpec admin;
    admin.common_name = "admin";
    admin.organizations = {"system:masters"};
    admin.client = true;
    auto server_pair = ca->Issue(server, now);
    RETURN_IF_ERROR(server_pair.status());
    auto admin_pair = ca->Issue(admin, now);
    RETURN_IF_ERROR(admin_pair.status());
    config_.ca_pem = ca->certificate_pem();
    config_.client_certificate_pem = admin_pair->certificate_pem;
    config_.client_key_pem = admin_pair->private_key_pem;
    RETURN_IF_ERROR(WriteFileAtomic(dir_ + "/ca.crt", ca->certificate_pem()));
    RETURN_IF_ERROR(WriteFileAtomic(dir_ + "/server.crt", server_pair->certificate_pem));
    return WriteFileAtomic(dir_ + "/server.key", server_pair->private_key_pem, 0600);
  }

  // Returns when it answers requests. The first start chooses the port of all later ones.
  Task<absl::Status> Start() {
    std::error_code ignored;
    std::filesystem::remove(dir_ + "/port", ignored);
    SpawnOptions options;
    options.argv = {INTEGRATION_MASTER, dir_, port_.empty() ? "0" : port_};
    options.stderr_fd = 2;
    CO_ASSIGN_OR_RETURN_SYNC(child_, env_.subprocess().Spawn(options));
    for (absl::Duration waited; waited < kBound; waited += kPoll) {
      absl::StatusOr<std::string> port = ReadFile(dir_ + "/port", 16);
      if (port.ok()) {
        port_ = *port;
        config_.server = StrCat("https://127.0.0.1:", port_);
        co_return absl::OkStatus();
      }
      Task<void> sleep = env_.clock().Sleep(kPoll);
      co_await std::move(sleep);
    }
    co_return absl::DeadlineExceededError("the master does not start");
  }
  void Kill() {
    if (child_ != nullptr) (void)child_->Signal(SIGKILL);
  }
  Task<void> KillAndWait() {
    Kill();
    Task<int> wait = child_->Wait();
    (void)co_await std::move(wait);
    child_.reset();
  }
  const client::KubeConfig& config() const { return config_; }

 private:
  RealEnv& env_;
  const std::string dir_;
  std::string port_;
  client::KubeConfig config_;
  std::unique_ptr<ChildProcess> child_;
};

struct Shared {
  RealEnv& env;
  client::ApiClient& client;
  std::set<std::string> acknowledged;
  int writers_left = kWriters;
  int doubtful = 0;  // created although the answer was lost
};

// Creates its objects in order, each until it is there.
Task<void> Write(Shared* shared, int writer) {
  for (int i = 0; i < kObjectsEach; ++i) {
    corev1::ConfigMap map;
    map.mutable_metadata()->set_name(StrCat("w", writer, "-", i));
    map.mutable_metadata()->set_namespace_("default");
    (*map.mutable_data())["value"] = StrCat(writer, "/", i);
    while (true) {
      Task<absl::StatusOr<ConfigMapPtr>> create = shared->client.Create<corev1::ConfigMap>(map);
      absl::StatusOr<ConfigMapPtr> created = co_await std::move(create);
      if (created.ok()) break;
      if (api::IsAlreadyExists(created.status())) {
        ++shared->doubtful;
        break;
      }
      Task<void> sleep = shared->env.clock().Sleep(kPoll);
      co_await std::move(sleep);
    }
    shared->acknowledged.insert(map.metadata().name());
  }
  --shared->writers_left;
}

Task<absl::Status> WaitFor(Shared* shared, std::function<bool()> done, std::string what) {
  for (absl::Duration waited; waited < kBound; waited += kPoll) {
    if (done()) co_return absl::OkStatus();
    Task<void> sleep = shared->env.clock().Sleep(kPoll);
    co_await std::move(sleep);
  }
  co_return absl::DeadlineExceededError(what);
}

// Leaves nothing running behind, whatever failed.
Task<absl::Status> KillWhileWriting(RealEnv* env, MasterProcess* master) {
  CO_RETURN_IF_ERROR(master->Start());
  CO_ASSIGN_OR_RETURN_SYNC(auto client, client::NewHttpApiClient(*env, master->config()));
  client::InformerOptions options;
  options.ns = "default";
  client::Informer informer(*env, *client, client::GvrOf<corev1::ConfigMap>(), options);
  std::map<std::string, int> adds, deletes;
  informer.AddHandler([&](const api::ObjectPtr& before, const api::ObjectPtr& after) {
    if (before == nullptr) ++adds[api::Meta(*after).name()];
    if (after == nullptr) ++deletes[api::Meta(*before).name()];
  });
  informer.Start();
  Shared shared{*env, *client, {}};
  Scope writers(env->executor());
  for (int i = 0; i < kWriters; ++i) writers.Spawn("writer", Write(&shared, i));

  absl::Status status;
  for (int kill = 1; kill <= kKills && status.ok(); ++kill) {
    const size_t enough = kill * kWriters * kObjectsEach / (kKills + 1);
    std::function<bool()> reached = [&shared, enough] { return shared.acknowledged.size() >= enough; };
    Task<absl::Status> wait = WaitFor(&shared, reached, "writes do not go on");
    status = co_await std::move(wait);
    if (!status.ok()) break;
    Task<void> end = master->KillAndWait();
    co_await std::move(end);
    Task<absl::Status> start = master->Start();
    status = co_await std::move(start);
  }
  if (status.ok()) {
    std::function<bool()> written = [&shared] { return shared.writers_left == 0; };
    Task<absl::Status> wait = WaitFor(&shared, written, "the writers do not end");
    status = co_await std::move(wait);
  }
  if (status.ok()) {
    std::function<bool()> seen = [&] { return informer.size() >= shared.acknowledged.size(); };
    Task<absl::Status> wait = WaitFor(&shared, seen, "the informer does not catch up");
    status = co_await std::move(wait);
  }
  Task<absl::StatusOr<client::ObjectList>> list_task =
      client->List(client::GvrOf<corev1::ConfigMap>(), "default", client::ListOptions());
  absl::StatusOr<client::ObjectList> list = co_await std::move(list_task);
  Task<void> stop_writers = writers.Close();
  co_await std::move(stop_writers);
  Task<void> stop_informer = informer.Stop();
  co_await std::move(stop_informer);
  if (!status.ok()) co_return status;
  if (!list.ok()) co_return list.status();

  std::set<std::string> listed;
  for (const auto& item : list->items) listed.insert(api::Meta(*item).name());
  EXPECT_EQ(shared.acknowledged.size(), static_cast<size_t>(kWriters * kObjectsEach));
  for (const std::string& name : shared.acknowledged)
    EXPECT_EQ(listed.count(name), 1u) << name << " was lost";
  EXPECT_EQ(informer.size(), listed.size());
  for (const auto& [name, count] : adds) EXPECT_EQ(count, 1) << name << " was added more than once";
  EXPECT_TRUE(deletes.empty());
  co_return absl::OkStatus();
}

// What the controllers had begun, they finish after a kill: no pod too many, none too few.
Task<absl::Status> KillWhileReplicating(RealEnv* env, MasterProcess* master) {
  CO_RETURN_IF_ERROR(master->Start());
  CO_ASSIGN_OR_RETURN_SYNC(auto client, client::NewHttpApiClient(*env, master->config()));
  Shared shared{*env, *client, {}};
  client::InformerOptions options;
  options.ns = "default";
  client::Informer pods(*env, *client, client::GvrOf<corev1::Pod>(), options);
  pods.Start();
  constexpr size_t kReplicas = 40;
  corev1::ReplicationController rc;
  rc.mutable_metadata()->set_name("web");
  rc.mutable_metadata()->set_namespace_("default");
  rc.mutable_spec()->set_replicas(kReplicas);
  auto* pod = rc.mutable_spec()->mutable_template_();
  (*pod->mutable_metadata()->mutable_labels())["app"] = "web";
  auto* container = pod->mutable_spec()->add_containers();
  container->set_name("main");
  container->set_image("example.com/web:1");
  Task<absl::StatusOr<std::shared_ptr<const corev1::ReplicationController>>> create =
      client->Create<corev1::ReplicationController>(rc);
  absl::StatusOr<std::shared_ptr<const corev1::ReplicationController>> created = co_await std::move(create);
  absl::Status status = created.status();
  if (status.ok()) {
    std::function<bool()> begun = [&pods] { return pods.size() > 0; };
    Task<absl::Status> wait = WaitFor(&shared, begun, "no pod is made");
    status = co_await std::move(wait);
  }
  if (status.ok()) {
    Task<void> end = master->KillAndWait();
    co_await std::move(end);
    Task<absl::Status> start = master->Start();
    status = co_await std::move(start);
  }
  if (status.ok()) {
    std::function<bool()> complete = [&pods] { return pods.size() >= kReplicas; };
    Task<absl::Status> wait = WaitFor(&shared, complete, "the pods do not become enough");
    status = co_await std::move(wait);
  }
  // One too many would be seen, and taken back, soon after.
  Task<void> pause = env->clock().Sleep(absl::Milliseconds(300));
  co_await std::move(pause);
  EXPECT_EQ(pods.size(), kReplicas);
  Task<void> stop = pods.Stop();
  co_await std::move(stop);
  co_return status;
}

class MasterProcessTest : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ = ::testing::TempDir() + "/keelson_integration_XXXXXX";
    ASSERT_NE(::mkdtemp(dir_.data()), nullptr);
    env_ = std::make_unique<RealEnv>(Paths());
    master_ = std::make_unique<MasterProcess>(*env_, dir_);
    absl::Status pki = master_->WritePki();
    ASSERT_TRUE(pki.ok()) << pki;
  }
  void TearDown() override {
    master_.reset();
    std::filesystem::remove_all(dir_);
  }
  std::string dir_;
  std::unique_ptr<RealEnv> env_;
  std::unique_ptr<MasterProcess> master_;
};

TEST_F(MasterProcessTest, KillsLoseNothingAcknowledged) {
  absl::Status status = env_->RunUntilDone(KillWhileWriting(env_.get(), master_.get()));
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(MasterProcessTest, KillWhileReplicatingMakesNoPodTooMany) {
  absl::Status status = env_->RunUntilDone(KillWhileReplicating(env_.get(), master_.get()));
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace keelson
