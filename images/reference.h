// Reference: the name of an image as users write it, taken apart and completed the way docker and the kubelet
// do: "busybox" is "docker.io/library/busybox:latest". Pure.
#pragma once

#include <absl/status/statusor.h>

#include <cstddef>
#include <string>
#include <string_view>

namespace keelson::images {

inline constexpr size_t kMaxReferenceNameBytes = 255;  // domain and path
inline constexpr size_t kMaxTagBytes = 128;

struct Reference {
  std::string domain;  // "docker.io", "localhost:5000", "[::1]:5000"
  std::string path;    // "library/busybox"
  std::string tag;     // "" when there is a digest
  std::string digest;  // "sha256:..." or ""

  // "docker.io/library/busybox"
  std::string Name() const { return domain + "/" + path; }
  // What names it in the store: "docker.io/library/busybox:1.36", ".../busybox@sha256:...".
  std::string ToString() const;
  // Name of the manifest in the registry's API: digest, else tag.
  const std::string& object() const { return digest.empty() ? tag : digest; }

  // InvalidArgument says which part is wrong. With tag and digest the digest counts and the tag is dropped.
  static absl::StatusOr<Reference> Parse(std::string_view text);
};

}  // namespace keelson::images
