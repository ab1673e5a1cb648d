// RegistrySession: the registry's API (OCI distribution-spec) for one pull: mirrors with fallback, tokens,
// redirects, retries and resumed downloads. On the loop.
#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/env.h"
#include "images/image_store.h"
#include "images/manifest.h"
#include "images/reference.h"
#include "images/registry_config.h"

namespace keelson::images {

inline constexpr int kMaxRedirects = 5;
inline constexpr int kMaxAttempts = 4;             // of one request to one server
inline constexpr int kMaxResumesWithoutBytes = 4;  // of one blob; every byte that comes resets it
inline constexpr int kMaxResumes = 200;
inline constexpr absl::Duration kMaxRetryAfter = absl::Seconds(30);

struct RegistryOptions {
  std::string registries_dir;  // see registry_config.h; "" : none
  std::string auth_file;       // "" : none
  ProxySettings proxy;
  std::optional<RegistryCredentials> credentials;  // for the registry itself, never for mirrors
  absl::Duration no_progress_timeout = absl::Minutes(1);
  absl::Duration min_backoff = absl::Milliseconds(250);  // times three each time, with jitter
};

struct FetchedManifest {
  std::string bytes;
  std::string digest;        // of the bytes
  std::string content_type;  // as the server said
};

// A blob as it comes; a broken connection is resumed inside. Its digest is the caller's to check.
class BlobStream {
 public:
  virtual ~BlobStream() = default;
  // Empty at the end, after exactly the size that was asked for. Unavailable; DataLoss: of another size;
  // NotFound, PermissionDenied.
  virtual Task<absl::StatusOr<std::string>> Read() = 0;
  // Index of the server it comes from, for Distrust.
  virtual size_t source() const = 0;
};

// Errors of all calls: NotFound, PermissionDenied (401, 403), Unavailable, DataLoss (a manifest that does not
// have its digest), ResourceExhausted, InvalidArgument (configuration files).
class RegistrySession {
 public:
  // Reads the configuration files. `env` must outlive the session and its streams.
  static Task<absl::StatusOr<std::shared_ptr<RegistrySession>>> Open(Env* env, Reference reference,
                                                                     RegistryOptions options);
  virtual ~RegistrySession() = default;

  // `object`: a tag or a digest. A manifest asked for by digest is checked against it.
  virtual Task<absl::StatusOr<FetchedManifest>> FetchManifest(std::string object) = 0;
  virtual Task<absl::StatusOr<std::unique_ptr<BlobStream>>> OpenBlob(std::string digest,
                                                                     uint64_t size_bytes) = 0;
  // The server gave wrong bytes: it is not asked again. False when no other is left.
  virtual bool Distrust(size_t source) = 0;
};

}  // namespace keelson::images
