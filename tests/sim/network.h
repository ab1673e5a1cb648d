// SimNetwork: what lies between the API server and its clients. Calls run on the server's side, in the life
// of one master process, whatever becomes of the caller; requests and answers are delayed, lost, refused;
// hosts are cut off; watches break. Every watch is compared with the History: no event missing, none twice,
// none out of order.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/env.h"
#include "client/api_client.h"
#include "master/admission/user_info.h"
#include "master/apiserver/api_server.h"
#include "tests/sim/history.h"

namespace keelson::sim {

// Chances per call, 0..1.
struct NetworkFaults {
  double lose_request = 0;  // Unavailable, nothing happened
  double lose_answer = 0;   // Unavailable, it happened
  double conflict = 0;      // of updates and patches: 409 without effect
  double slow = 0;          // up to max_delay on the way
  double break_watch = 0;   // the stream ends within a minute
  absl::Duration max_delay = absl::Seconds(20);
};

class SimClient;

class SimNetwork {
 public:
  SimNetwork(Env& env, uint64_t seed, std::function<void(std::string)> violation);
  ~SimNetwork();  // after Unserve()

  // A master process begins to serve, and ends: calls and watches fail, what runs on its side is cancelled.
  // The server outlives Unserve().
  void Serve(master::ApiServer* server, History* history);
  Task<void> Unserve();
  bool serving() const { return server_ != nullptr; }

  // Nothing goes from or to the host any more: calls run into their timeout, half of the watches hang.
  void CutOff(const std::string& host);
  void Reconnect(const std::string& host) { cut_.erase(host); }
  bool IsCutOff(const std::string& host) const { return cut_.count(host) > 0; }

  // Breaks every watch; `gone`: the server says 410.
  void BreakWatches();
  NetworkFaults faults;

  std::unique_ptr<SimClient> NewClient(std::string host, master::UserInfo user);

 private:
  friend class SimClient;
  friend class SimWatcher;

  struct PendingBase {
    virtual ~PendingBase() = default;
    std::string host;
    AsyncEvent done;  // an answer, or none will come
    bool lost = false;
  };
  template <class R>
  struct Pending : PendingBase {
    std::optional<R> result;
  };
  struct Stream {
    std::string host;
    std::string prefix;  // "" : with a selector or a namespace, gaps are not seen
    master::Revision last = 0;
    std::list<client::WatchEvent> queue;
    std::optional<absl::Status> end;  // OK: the server ended it in the ordinary way
    bool stalled = false;             // nothing is delivered any more
    bool closed = false;              // the client has left
    WaitList changed;
    std::optional<absl::Status> opened;
  };
  struct Incarnation;

  bool Chance(double p);
  absl::Duration Uniform(absl::Duration bound);
  bool Reachable(const std::string& host) const { return server_ != nullptr && cut_.count(host) == 0; }
  void End(Stream& stream, absl::Status status);
  void Deliver(Stream& stream, client::WatchEvent event);

  template <class R>
  static Task<void> RunCall(std::shared_ptr<client::ApiClient> local, Task<R> call,
                            std::shared_ptr<Pending<R>> pending);
  static Task<void> Pump(SimNetwork* net, std::shared_ptr<client::ApiClient> local,
                         api::GroupVersionResource gvr, std::string ns, client::WatchOptions options,
                         std::shared_ptr<Stream> stream);

  Env& env_;
  std::mt19937_64 random_;
  std::function<void(std::string)> violation_;
  History* history_ = nullptr;
  master::ApiServer* server_ = nullptr;
  std::unique_ptr<Scope> scope_;  // what runs in the master's process for its clients
  std::set<std::string> cut_;
  std::list<std::weak_ptr<PendingBase>> pending_;
  std::list<std::weak_ptr<Stream>> streams_;
};

class SimClient : public client::ApiClient {
 public:
  SimClient(SimNetwork& net, std::string host, master::UserInfo user)
      : net_(net), host_(std::move(host)), user_(std::move(user)) {}

  Task<absl::StatusOr<client::ObjectPtr>> Get(api::GroupVersionResource gvr, std::string ns,
                                              std::string name) override;
  Task<absl::StatusOr<client::ObjectList>> List(api::GroupVersionResource gvr, std::string ns,
                                                client::ListOptions options) override;
  Task<absl::StatusOr<std::unique_ptr<client::Watcher>>> Watch(api::GroupVersionResource gvr, std::string ns,
                                                               client::WatchOptions options) override;
  Task<absl::StatusOr<client::ObjectPtr>> Create(api::GroupVersionResource gvr, std::string ns,
                                                 client::ObjectPtr object, std::string name = "",
                                                 std::string subresource = "") override;
  Task<absl::StatusOr<client::ObjectPtr>> Update(api::GroupVersionResource gvr, std::string ns,
                                                 client::ObjectPtr object,
                                                 std::string subresource = "") override;
  Task<absl::StatusOr<client::ObjectPtr>> Patch(api::GroupVersionResource gvr, std::string ns,
                                                std::string name, client::PatchType type, std::string patch,
                                                std::string subresource = "") override;
  Task<absl::Status> Delete(api::GroupVersionResource gvr, std::string ns, std::string name,
                            client::DeleteOptions options) override;
  using client::ApiClient::Create;
  using client::ApiClient::Delete;
  using client::ApiClient::Get;
  using client::ApiClient::Patch;
  using client::ApiClient::Update;

 private:
  template <class R, class Invoke>
  Task<R> Call(std::string what, bool may_conflict, Invoke invoke);
  std::shared_ptr<client::ApiClient> Local() const;

  SimNetwork& net_;
  const std::string host_;
  const master::UserInfo user_;
};

}  // namespace keelson::sim
