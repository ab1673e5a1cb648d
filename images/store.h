// Store: the ImageStore. Its state belongs to the loop; everything that touches the disk for long runs in the
// pool, unpacking on threads of its own (a download that waits for the network would hold the pool's).
// Internal to images/: implemented by store_open.cc, store.cc, store_pull.cc, store_rootfs.cc,
// store_import.cc and store_export.cc.
#pragma once

#include <boost/asio/thread_pool.hpp>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/env.h"
#include "images/byte_source.h"
#include "images/image_store.h"
#include "images/manifest.h"
#include "images/overlay.h"
#include "images/records.h"
#include "images/reference.h"
#include "images/registry_client.h"
#include "images/store_dir.h"
#include "images/unpack.h"

namespace keelson::images {

class Store;

// Keeps layers and blobs from being collected while somebody works with them.
class Holds {
 public:
  explicit Holds(Store* store) : store_(store) {}
  ~Holds();
  Holds(const Holds&) = delete;
  Holds& operator=(const Holds&) = delete;
  void AddLayer(const std::string& chain_id);
  void AddBlob(const std::string& digest);

 private:
  Store* store_;
  std::vector<std::string> layers_, blobs_;
};

struct PullJob;

// One layer on its way to the disk; several pulls may wait for it.
struct LayerJob {
  // From where: a registry, or a file below a directory (import).
  std::shared_ptr<RegistrySession> session;
  std::shared_ptr<Fd> dir;
  std::string file;

  std::string chain_id, diff_id;
  std::string digest;                        // "" : unknown, of a docker archive
  uint64_t size_bytes = 0;                   // 0: unknown
  std::vector<std::string> lower_chain_ids;  // lowest first
  std::shared_ptr<LayerJob> lower;           // must be done first; null: on disk or none
  bool lower_failed = false;
  std::shared_ptr<ByteBudget> budget;

  int interested = 0;  // pulls; at zero the work is given up
  bool cancelled = false;
  std::shared_ptr<BytePipe> pipe;  // while it runs
  std::set<PullJob*> listeners;
  uint64_t done_bytes = 0;

  absl::Status status;
  LayerRecord result;
  AsyncEvent done;
};

// One pull; callers of the same reference share it.
struct PullJob {
  Reference reference;
  PullOptions options;
  std::string key;
  std::map<uint64_t, std::function<void(const PullProgress&)>> listeners;
  int waiters = 0;
  bool cancelled = false;
  std::vector<std::shared_ptr<LayerJob>> layers;  // it waits for
  absl::StatusOr<std::string> result;
  AsyncEvent done;
};

class Store : public ImageStore {
 public:
  Store(Env& env, ImageStoreOptions options);
  ~Store() override;
  absl::Status Load();

  Task<absl::StatusOr<std::string>> Pull(std::string reference, PullOptions options) override;
  const ImageRecord* Find(std::string_view reference_or_id) const override;
  std::vector<const ImageRecord*> List() const override;
  Task<absl::Status> Remove(std::string reference_or_id) override;
  Task<absl::Status> MountRootfs(RootfsOptions options) override;
  Task<absl::Status> RemoveRootfs(std::string key, std::string mount_path) override;
  std::vector<std::string> RootfsKeys() const override;
  Task<absl::StatusOr<UsageBytes>> RootfsUsage(std::string key) override;
  std::string RootfsLayer(const std::string& key) const override;
  Task<absl::StatusOr<UsageBytes>> Usage() override;
  const std::string& mount_point() const override { return dir_.root(); }
  Task<absl::StatusOr<std::vector<std::string>>> Import(std::string path) override;
  Task<absl::Status> Export(std::string reference_or_id, std::string path, bool docker_archive) override;
  Task<void> Close() override;

 private:
  friend class Holds;

  struct CachedUsage {
    UsageBytes usage;
    absl::Duration at = -absl::InfiniteDuration();
  };

  // ---- store_open.cc ----
  absl::Status DropLeftovers();
  absl::Status LoadLayers();
  absl::Status LoadImages();
  absl::Status LoadRootfs();
  void DropUnused();

  // ---- store.cc ----
  std::string TempName();
  const StoredImage* FindStored(std::string_view reference_or_id) const;
  // Puts it into images_ and names_ and counts its references.
  void Index(std::unique_ptr<StoredImage> image);
  void Unindex(const std::string& id);
  void AddLayerOnDisk(const LayerRecord& layer);
  void AddBlobOnDisk(const std::string& digest, uint64_t bytes);
  void DropLayerReference(const std::string& chain_id);
  void DropBlobReference(const std::string& digest);
  void CollectLayer(const std::string& chain_id);
  void CollectBlob(const std::string& digest);
  // Moves it to the trash now, empties that in the pool.
  void Trash(const std::string& path);
  // Makes it durable and visible; its tags go from other images to it.
  Task<absl::Status> Commit(StoredImage image);
  Task<absl::Status> WriteRecord(StoredImage image, bool sync_all);
  Task<absl::Status> PutBlob(std::string digest, std::string bytes);

  // ---- store_pull.cc ----
  friend struct PullWaiter;
  friend struct PullEnd;
  friend struct LayerEnd;
  friend struct ImportEnd;
  void LeavePull(const std::shared_ptr<PullJob>& job, uint64_t listener);
  Task<void> RunPull(std::shared_ptr<PullJob> job);
  Task<absl::StatusOr<std::string>> PullImage(std::shared_ptr<PullJob> job);
  struct Resolved {
    std::string root_digest;  // of what the reference names: an index or a manifest
    std::string manifest_json, manifest_digest;
    Manifest manifest;
    std::string checkpoint_of;
  };
  Task<absl::StatusOr<Resolved>> Resolve(std::shared_ptr<PullJob> job,
                                         std::shared_ptr<RegistrySession> session);
  Task<absl::StatusOr<std::string>> FetchConfig(std::shared_ptr<RegistrySession> session, Descriptor config);
  absl::StatusOr<oci::ImageConfig> CheckConfig(const std::string& json) const;
  // image->record and ->layers from a manifest and its configuration.
  absl::Status Describe(const Manifest& manifest, std::string config_json, StoredImage* image) const;
  // Starts or joins what is missing of `image`'s layers, waits for all, and fills in what a docker archive
  // did not say. `source` has the fields that say where from.
  Task<absl::Status> EnsureLayers(StoredImage* image, std::shared_ptr<PullJob> job,
                                  std::vector<std::shared_ptr<LayerJob>> sources);
  std::shared_ptr<LayerJob> JoinLayer(const StoredImage& image, size_t index,
                                      std::shared_ptr<LayerJob> source, PullJob* job);
  void LeaveLayers(PullJob* job);
  Task<void> RunLayer(std::shared_ptr<LayerJob> job);
  Task<absl::Status> FetchLayer(std::shared_ptr<LayerJob> job);
  struct Unpacking;
  Task<absl::Status> UnpackOnce(std::shared_ptr<LayerJob> job, std::string temp, size_t* source,
                                UnpackedLayer* out);
  Task<absl::Status> Pump(std::shared_ptr<LayerJob> job, std::shared_ptr<BytePipe> pipe, BlobStream* blob);
  Task<absl::Status> FinishLayer(std::shared_ptr<LayerJob> job, std::string temp, UnpackedLayer unpacked);
  boost::asio::thread_pool& UnpackThreads();

  // ---- store_rootfs.cc ----
  // The lowest that no writable layer has; 0 where the file system does not count projects.
  uint32_t TakeProject();
  absl::StatusOr<OverlayMount> MountOf(const RootfsRecord& rootfs) const;

  Env& env_;
  ImageStoreOptions options_;
  Platform platform_;
  StoreDir dir_;
  std::map<std::string, std::unique_ptr<StoredImage>> images_;  // by ID
  std::map<std::string, std::string> names_;                    // tag or digest -> ID
  std::map<std::string, LayerRecord> layers_;                   // on disk, by chain ID
  std::map<std::string, uint64_t> blobs_;                       // on disk: bytes, by digest
  std::map<std::string, int> layer_references_, blob_references_;
  std::map<std::string, RootfsRecord> rootfs_;
  std::map<std::string, CachedUsage> rootfs_usage_;  // of those without a project
  bool counts_projects_ = false;
  std::set<uint32_t> projects_;  // taken; until the files of a removed layer are gone, too
  std::map<std::string, std::shared_ptr<PullJob>> pulls_;
  std::map<std::string, std::shared_ptr<LayerJob>> layer_jobs_;
  uint64_t next_listener_ = 1;
  UsageBytes usage_;
  AsyncMutex commit_mutex_;
  Semaphore unpack_slots_;
  std::optional<boost::asio::thread_pool> unpack_threads_;  // started by the first use
  Scope scope_;
};

}  // namespace keelson::images
