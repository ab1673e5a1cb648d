// Garbage collector: deletes what lost all of its owners, and carries out foreground and orphan deletion. The
// graph is read off indexes of the shared informers; that an owner is absent is only believed when the server
// says so. Source: the garbage collection contract of metadata.ownerReferences and the finalizers orphan and
// foregroundDeletion. Key: "<number of the resource> <namespace/name>".
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>

#include <string>
#include <vector>

#include "client/reconciler.h"
#include "master/controllers/controller.h"

namespace keelson::master {

class GarbageCollector : public Controller, public client::Reconciler {
 public:
  static constexpr size_t kMaxAbsentOwners = 4096;  // remembered, so that each is asked for once

  explicit GarbageCollector(ControllerContext context);
  std::string name() const override { return "garbage-collector"; }
  void Start() override;
  Task<void> Stop() override;
  Task<absl::StatusOr<client::Requeue>> Reconcile(std::string key) override;

 private:
  using OwnerReference = ::k8s::meta::v1::OwnerReference;
  struct Resource {
    api::GroupVersionResource gvr;
    client::Informer* informer;
  };
  struct Place {
    size_t resource;
    std::string key;
  };
  // What an object's references come to.
  struct Owners {
    bool solid = false;                 // at least one owner that is there to stay
    std::vector<std::string> dangling;  // uids: verified to be gone
    std::vector<std::string> waiting;   // uids: owners in foreground deletion that wait for this object
  };

  void OnChange(size_t resource, const client::ObjectPtr& before, const client::ObjectPtr& after);
  void Enqueue(const Place& place);
  void EnqueueDependents(const std::string& uid);
  std::vector<Place> DependentsOf(const std::string& uid) const;
  client::ObjectPtr ObjectAt(const Place& place) const;
  client::ObjectPtr ObjectOf(const std::string& uid) const;

  Task<absl::Status> Orphan(Place place, client::ObjectPtr object);
  Task<absl::Status> OrphanOne(Place dependent, std::string owner_uid);
  Task<absl::Status> DeleteDependentsFirst(Place place, client::ObjectPtr object);
  Task<absl::Status> Collect(Place place, client::ObjectPtr object);
  Task<absl::StatusOr<bool>> IsAbsent(OwnerReference owner, std::string ns);
  Task<absl::StatusOr<Owners>> Classify(client::ObjectPtr object);
  Task<absl::Status> RemoveOwners(Place place, client::ObjectPtr object, std::vector<std::string> uids);
  Task<absl::Status> RemoveFinalizer(Place place, client::ObjectPtr object, std::string finalizer);
  Task<absl::Status> Delete(Place place, client::ObjectPtr object, std::string policy);

  ControllerContext context_;
  std::vector<Resource> resources_;
  // Every object; the key is the uid in it.
  struct Known {
    size_t resource;
    client::ObjectPtr object;
  };
  absl::flat_hash_map<std::string_view, Known> by_uid_;
  absl::flat_hash_set<std::string> absent_;  // uids
  client::ReconcileLoop loop_;
  Scope calls_;
};

}  // namespace keelson::master
