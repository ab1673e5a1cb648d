// Cluster: a master and its nodes in one process on a fake clock. Every part is the product's own but four:
// the store keeps its data in memory, the network and the runtimes are simulated, volumes and probes are
// simple stand-ins.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "api/core/v1/pod.pb.h"
#include "base/fake_env.h"
#include "client/api_client.h"
#include "cri/testing/fake_runtime.h"
#include "kubelet/kubelet.h"
#include "kubelet/testing/fakes.h"
#include "master/apiserver/api_server.h"
#include "master/controllers/controller_manager.h"
#include "master/store/memory_store.h"
#include "tests/sim/history.h"
#include "tests/sim/network.h"
#include "tests/sim/sim_cri.h"

namespace keelson::sim {

namespace corev1 = ::k8s::core::v1;

// The cluster's clock, randomness and loop, with folders of one machine.
class NodeEnv : public Env {
 public:
  NodeEnv(Env& env, Paths paths) : env_(env), paths_(std::move(paths)) {}
  Executor executor() override { return env_.executor(); }
  Clock& clock() override { return env_.clock(); }
  Random& random() override { return env_.random(); }
  Subprocess& subprocess() override { return env_.subprocess(); }
  const Paths& paths() const override { return paths_; }
  void RunInPool(absl::AnyInvocable<void()> work, absl::AnyInvocable<void()> done) override {
    env_.RunInPool(std::move(work), std::move(done));
  }

 private:
  Env& env_;
  const Paths paths_;
};

// A machine: a runtime that outlives the kubelets on it.
class Node {
 public:
  Node(FakeEnv& env, SimNetwork& net, int number, const std::string& folder, uint64_t seed);
  ~Node();  // after Stop()

  void StartKubelet();
  // kill -9: calls under way go on without it.
  void CrashKubelet();
  bool kubelet_runs() const { return process_ != nullptr; }
  // The machine loses power, and gets it back.
  void PowerOff();
  void PowerOn();
  bool powered() const { return powered_; }
  void Stop();

  const std::string& name() const { return name_; }
  cri::FakeRuntime& runtime() { return runtime_; }
  kubelet::Kubelet& kubelet();
  // Chance per CRI call of each kind of fault.
  double cri_fault_rate = 0;
  bool gone_for_ever = false;

 private:
  struct Process;
  cri::Fault DrawFault();

  FakeEnv& shared_env_;
  SimNetwork& net_;
  const std::string name_, folder_;
  NodeEnv env_;
  cri::FakeRuntime runtime_;
  SimCri cri_;
  std::mt19937_64 random_;
  bool powered_ = true;
  std::unique_ptr<Process> process_;
};

struct ClusterOptions {
  uint64_t seed = 1;
  int nodes = 3;
};

class Cluster {
 public:
  explicit Cluster(ClusterOptions options);
  ~Cluster();

  void StartMaster();
  // kill -9; the store keeps what it has acknowledged.
  void CrashMaster();
  bool master_runs() const { return server_ != nullptr; }

  FakeEnv& env() { return env_; }
  master::MemoryStore& store() { return store_; }
  SimNetwork& net() { return net_; }
  History& history() { return *history_; }
  std::vector<std::unique_ptr<Node>>& nodes() { return nodes_; }
  // An administrator's, on a host of its own that is never cut off. Fails while the master is down.
  client::ApiClient& admin() { return *admin_; }

  // What a user does; the answer of the server.
  absl::Status CreateRc(const std::string& name, int replicas, int64_t toleration_s = -1);
  absl::Status ScaleRc(const std::string& name, int replicas);
  absl::Status CreateService(const std::string& name);  // selects the pods of the RC of that name
  absl::Status DeletePod(const std::string& name, std::optional<int64_t> grace_s = std::nullopt);

  // What there is, as the server has it now; empty while the master is down.
  template <class T>
  std::vector<std::shared_ptr<const T>> All() {
    std::vector<std::shared_ptr<const T>> out;
    if (!master_runs()) return out;
    auto list = env_.Await(server_->NewClient("observer")->List(client::GvrOf<T>(), "", {}));
    if (!list.ok()) return out;
    for (const auto& item : list->items) out.push_back(api::As<T>(item));
    return out;
  }
  std::vector<std::shared_ptr<const corev1::Pod>> PodsOf(
      const std::string& rc);  // not terminating, not ended

  // Runs so long, checking what must hold at every moment.
  void Run(absl::Duration duration, absl::Duration step = absl::Seconds(1));
  // Runs until `done`; false when it did not hold within `limit`.
  bool RunUntil(const std::function<bool()>& done, absl::Duration limit,
                absl::Duration step = absl::Seconds(1));
  // Runs until everything is as it should be; else a violation says what is not.
  bool Converge(absl::Duration limit = absl::Minutes(20));
  // After Converge(): nothing is written, created or started any more.
  void CheckQuiet(absl::Duration duration = absl::Minutes(2));

  // Everything that must hold now.
  void Check();
  // Why the cluster is not yet what it should be; "" when it is.
  std::string NotYet();
  const std::vector<std::string>& violations() const { return violations_; }
  void Violation(std::string what);
  // pods, sandboxes and containers, for people.
  std::string Dump();

 private:
  std::string NotYetGone(const std::string& name);
  std::string NotYetRcs();
  std::string NotYetEndpoints();
  std::string NotYetNode(Node& node);
  int StartCalls();

  const ClusterOptions options_;
  const std::string folder_;
  FakeEnv env_;
  master::MemoryStore store_;
  SimNetwork net_;
  std::unique_ptr<History> history_;
  std::unique_ptr<client::ApiClient> admin_;
  std::unique_ptr<master::ApiServer> server_;
  std::unique_ptr<client::ApiClient> controllers_client_;
  std::unique_ptr<master::ControllerManager> controllers_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::vector<std::string> violations_;
};

}  // namespace keelson::sim
