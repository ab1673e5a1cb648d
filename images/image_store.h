// ImageStore: the images of a node and the root file systems made from them. Content-addressed blobs,
// unpacked layers shared between images (overlayfs), records written atomically: after a crash or power loss
// an image is whole or absent. On the loop; long work goes to the blocking pool.
#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/env.h"
#include "oci/image_config.h"

namespace keelson::images {

struct ImageRecord {
  std::string id;                         // digest of its configuration: "sha256:..."
  std::vector<std::string> repo_tags;     // normalised: "docker.io/library/busybox:1.36"
  std::vector<std::string> repo_digests;  // "docker.io/library/busybox@sha256:..."
  uint64_t size_bytes = 0;                // compressed layers and configuration, as upstream counts
  bool pinned = false;                    // never removed by garbage collection
  absl::Time created_at, pulled_at;
  oci::ImageConfig config;
  std::string config_json;  // as stored, for ImageStatus(verbose)
  // It is no program but the checkpoint of the container of this name: each manifest it came by says so
  // (kCheckpointAnnotations). "" : none.
  std::string checkpoint_of;
};

struct RegistryCredentials {
  std::string username, password;
  std::string identity_token, registry_token;  // as in CRI's AuthConfig
};

struct PullProgress {
  std::string layer_digest;
  uint64_t done_bytes = 0, total_bytes = 0;
};

struct PullOptions {
  std::optional<RegistryCredentials> credentials;        // before those of the credential file
  std::function<void(const PullProgress&)> on_progress;  // on the loop
  bool pinned = false;
};

// One container's root file system.
struct RootfsOptions {
  std::string key;  // container ID; names the writable layer
  std::string image_id;
  std::string mount_path;  // made if missing
  bool readonly = false;   // no writable layer
  // A pinned user namespace ("/run/.../user"): owners in the layers are seen through its ID mapping, which
  // every layer below is mounted with. "" : as they are. Unimplemented: this kernel cannot (Linux 5.19).
  std::string userns_path;
  std::string selinux_label;  // of all its files as the container sees them; "": a host without SELinux
  // A tar of what another container of the image had written (a layer: whiteouts as ".wh." files), with which
  // the writable layer begins. A stranger's as a layer is. "" : it begins empty.
  std::string layer_tar;
};

struct UsageBytes {
  uint64_t used_bytes = 0, inodes = 0;
};

struct ImageStoreOptions {
  std::string root_dir;        // blobs, layers, records, writable layers
  std::string registries_dir;  // hosts.toml-like mirrors: see registry_config.h; "" : none
  std::string auth_file;       // docker's config.json; "" : none
  std::string platform_os = "linux", platform_architecture, platform_variant;  // "" : this machine's
  uint64_t max_image_bytes = 64ull << 30;                                      // unpacked; a bomb ends here
  int parallel_layers = 3;
  absl::Duration no_progress_timeout = absl::Minutes(1);
  // The compressed layers as they came, which Export needs. false: half the disk, and images that cannot be
  // exported.
  bool keep_layer_blobs = true;
  absl::Duration min_retry_backoff = absl::Milliseconds(250);  // between tries of one registry; grows
};

class ImageStore {
 public:
  // Opens what is on disk, drops what a crash left half made.
  static absl::StatusOr<std::unique_ptr<ImageStore>> Open(Env& env, ImageStoreOptions options);
  virtual ~ImageStore() = default;

  // `reference` as a user writes it. Returns the image's ID. Two pulls of one reference share the work.
  // Errors: InvalidArgument (reference), NotFound (manifest unknown), PermissionDenied (401, 403),
  // Unavailable (registry), DataLoss (digest mismatch), ResourceExhausted (limits, disk), FailedPrecondition
  // (no such platform).
  virtual Task<absl::StatusOr<std::string>> Pull(std::string reference, PullOptions options) = 0;
  // By reference (tag or digest), full ID, or a unique prefix of an ID of at least 3 hex digits. nullptr:
  // absent. Valid until the next change of the store.
  virtual const ImageRecord* Find(std::string_view reference_or_id) const = 0;
  virtual std::vector<const ImageRecord*> List() const = 0;
  // Removes a tag, or the whole image when named by ID or by its last name. Absent is success. Layers in use
  // by root file systems stay until those go.
  virtual Task<absl::Status> Remove(std::string reference_or_id) = 0;

  // Mounts a root file system. AlreadyExists key: the same mount again is success (after a crash).
  virtual Task<absl::Status> MountRootfs(RootfsOptions options) = 0;
  // Mounts read-only at a path, for image volumes (KEP-4639) and resolving users before a container exists.
  // Unmounts and removes the writable layer. Missing is success.
  virtual Task<absl::Status> RemoveRootfs(std::string key, std::string mount_path) = 0;
  // The directory of what a container wrote (an upperdir of overlayfs); "" : it has none.
  virtual std::string RootfsLayer(const std::string& key) const = 0;
  // Keys of all writable layers on disk, for recovery.
  virtual std::vector<std::string> RootfsKeys() const = 0;
  // What a container wrote. From the file system's own accounting (project quota) or a walk of the writable
  // layer only, at most every 10 s.
  virtual Task<absl::StatusOr<UsageBytes>> RootfsUsage(std::string key) = 0;

  // Of blobs, layers and records together; incremental.
  virtual Task<absl::StatusOr<UsageBytes>> Usage() = 0;
  virtual const std::string& mount_point() const = 0;  // FilesystemIdentifier.mountpoint

  // OCI layout directories and docker archives (tar). Return the image IDs.
  virtual Task<absl::StatusOr<std::vector<std::string>>> Import(std::string path) = 0;
  virtual Task<absl::Status> Export(std::string reference_or_id, std::string path, bool docker_archive) = 0;

  // Ends what is under way (callers get Cancelled) and waits. To be awaited before the destructor.
  virtual Task<void> Close() { co_return; }
};

}  // namespace keelson::images
