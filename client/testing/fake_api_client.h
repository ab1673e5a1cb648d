// FakeApiClient: a small stateful API server in memory for unit tests of clients: revisions, watches,
// conflicts, finalizers and graceful pod deletion as far as clients see them, and failures on demand. It does
// not validate, default or authorize; the master's LocalClient does.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/env.h"
#include "client/api_client.h"

namespace keelson::client {

class FakeApiClient : public ApiClient {
 public:
  explicit FakeApiClient(Env& env);
  ~FakeApiClient() override;

  // The typed helpers of the base stay visible.
  using ApiClient::Create;
  using ApiClient::Delete;
  using ApiClient::Get;
  using ApiClient::Patch;
  using ApiClient::Update;
  Task<absl::StatusOr<ObjectPtr>> Get(api::GroupVersionResource gvr, std::string ns,
                                      std::string name) override;
  Task<absl::StatusOr<ObjectList>> List(api::GroupVersionResource gvr, std::string ns,
                                        ListOptions options) override;
  Task<absl::StatusOr<std::unique_ptr<Watcher>>> Watch(api::GroupVersionResource gvr, std::string ns,
                                                       WatchOptions options) override;
  Task<absl::StatusOr<ObjectPtr>> Create(api::GroupVersionResource gvr, std::string ns, ObjectPtr object,
                                         std::string name = "", std::string subresource = "") override;
  Task<absl::StatusOr<ObjectPtr>> Update(api::GroupVersionResource gvr, std::string ns, ObjectPtr object,
                                         std::string subresource = "") override;
  Task<absl::StatusOr<ObjectPtr>> Patch(api::GroupVersionResource gvr, std::string ns, std::string name,
                                        PatchType type, std::string patch,
                                        std::string subresource = "") override;
  Task<absl::Status> Delete(api::GroupVersionResource gvr, std::string ns, std::string name,
                            DeleteOptions options) override;

  // ---- for the test ----
  // Stores the object as it is (new revision), without hooks.
  ObjectPtr Put(const Message& object);
  void Remove(const api::GroupVersionResource& gvr, const std::string& key);
  ObjectPtr Find(const api::GroupVersionResource& gvr, const std::string& key) const;
  template <class T>
  std::shared_ptr<const T> FindAs(const std::string& key) const {
    return api::As<T>(Find(GvrOf<T>(), key));
  }
  template <class T>
  std::vector<std::shared_ptr<const T>> All() const {
    std::vector<std::shared_ptr<const T>> out;
    for (const auto& [key, object] : Table(GvrOf<T>())) out.push_back(api::As<T>(object));
    return out;
  }
  // Asked before every call with "verb resource[/subresource]" ("create pods", "watch nodes"); an error is
  // the answer.
  using Fault = std::function<absl::Status(const std::string& call)>;
  void set_fault(Fault fault) { fault_ = std::move(fault); }
  // Ends every watch: in the ordinary way, or with IsGone (and forgets history, so that clients must list).
  void EndWatches(bool gone = false);
  int calls(const std::string& call) const;

  struct Stream;

 private:
  friend class FakeWatcher;
  const std::map<std::string, ObjectPtr>& Table(const api::GroupVersionResource& gvr) const;
  absl::Status Begin(const std::string& call);
  void Publish(const std::string& resource, WatchEventType type, const ObjectPtr& object);
  ObjectPtr Store(std::unique_ptr<Message> object, WatchEventType type);

  Env& env_;
  Fault fault_;
  int64_t revision_ = 1;
  int64_t oldest_ = 1;                                              // watches from before are gone
  std::map<std::string, std::map<std::string, ObjectPtr>> tables_;  // "group/resource" -> key -> object
  struct Logged {
    std::string resource;
    WatchEvent event;
    int64_t revision;
  };
  std::vector<Logged> log_;
  std::set<std::shared_ptr<Stream>> streams_;
  std::map<std::string, int> calls_;
};

}  // namespace keelson::client
