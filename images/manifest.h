// Manifests and indexes of OCI (image-spec 1.1) and Docker (schema 2), from untrusted bytes. Pure.
#pragma once

#include <absl/status/statusor.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace keelson::images {

inline constexpr size_t kMaxManifestBytes = 4 << 20;
inline constexpr size_t kMaxLayers = 127;  // what overlayfs and docker allow
inline constexpr size_t kMaxIndexEntries = 1024;
inline constexpr int kMaxIndexDepth = 4;  // an index of indexes of ...
inline constexpr uint64_t kMaxBlobBytes = 1ull << 40;

inline constexpr char kOciManifest[] = "application/vnd.oci.image.manifest.v1+json";
inline constexpr char kOciIndex[] = "application/vnd.oci.image.index.v1+json";
inline constexpr char kDockerManifest[] = "application/vnd.docker.distribution.manifest.v2+json";
inline constexpr char kDockerManifestList[] = "application/vnd.docker.distribution.manifest.list.v2+json";
inline constexpr char kOciConfig[] = "application/vnd.oci.image.config.v1+json";
inline constexpr char kOciLayer[] = "application/vnd.oci.image.layer.v1.tar";

struct Platform {
  std::string os, architecture, variant;  // "linux", "arm64", "v8"
  std::string ToString() const;
};

struct Descriptor {
  std::string media_type;
  std::string digest;  // "sha256:...", checked
  uint64_t size_bytes = 0;
  Platform platform;     // of index entries; empty when not given
  std::string ref_name;  // annotation: the tag or name of an entry of an OCI layout
};

struct Manifest {
  std::string media_type;
  Descriptor config;
  std::vector<Descriptor> layers;  // lowest first
};

// Annotations by which an image says that its files are those of a container's checkpoint: checkpointctl's,
// which containerd reads, and CRI-O's. The value is the container's name.
inline constexpr const char* kCheckpointAnnotations[] = {"org.criu.checkpoint.container.name",
                                                         "io.kubernetes.cri-o.annotations.checkpoint.name"};

// One document of either kind.
struct ManifestOrIndex {
  bool is_index = false;
  Manifest manifest;
  std::vector<Descriptor> entries;  // of an index
  std::string checkpoint_of;        // kCheckpointAnnotations of the document; "" : it has none
};

// `content_type` (of the HTTP answer or descriptor; may be empty) decides when the document does not say
// itself; the two must not disagree about index or manifest. InvalidArgument names the field;
// ResourceExhausted for limits; Unimplemented for schema 1, foreign layers and artifacts.
absl::StatusOr<ManifestOrIndex> ParseManifest(std::string_view json, std::string_view content_type);

// The best entry for `wanted`: os and architecture equal; variant equal, else the highest not above wanted's
// (arm), else an entry without one. Attestations ("unknown") are never chosen. FailedPrecondition lists what
// there is.
absl::StatusOr<Descriptor> ChoosePlatform(const std::vector<Descriptor>& entries, const Platform& wanted);

// This machine's, in the words of image-spec.
Platform HostPlatform();

// docker's `manifest.json` of a `docker save` archive.
struct ArchiveImage {
  std::string config_path;
  std::vector<std::string> repo_tags;
  std::vector<std::string> layer_paths;  // lowest first
};
absl::StatusOr<std::vector<ArchiveImage>> ParseDockerArchive(std::string_view json);

std::string EncodeManifest(const Manifest& manifest);
std::string EncodeIndex(const std::vector<Descriptor>& entries);
std::string EncodeDockerArchive(const std::vector<ArchiveImage>& images);

}  // namespace keelson::images
