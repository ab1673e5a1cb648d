// Payload: the files a ConfigMap, Secret, downwardAPI or projected volume shows. Pure.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "api/core/v1/config.pb.h"
#include "api/core/v1/volume.pb.h"
#include "kubelet/resources.h"
#include "kubelet/types.h"

namespace keelson::kubelet {

inline constexpr uint32_t kDefaultFileMode = 0644;
inline constexpr size_t kMaxPayloadPathBytes = 4096;
inline constexpr size_t kMaxPayloadNameBytes = 255;

struct PayloadFile {
  std::string data;
  uint32_t mode = kDefaultFileMode;
  int64_t user = -1;  // owner; -1: root
  bool operator==(const PayloadFile&) const = default;
};
// Relative path -> file.
using Payload = std::map<std::string, PayloadFile>;

// InvalidArgument for an absolute path, "..", a first component starting with "..", or lengths over the
// bounds.
absl::Status CheckPayloadPath(std::string_view path);

struct PayloadDefaults {
  uint32_t mode = kDefaultFileMode;
  int64_t user = -1;
};
using KeyItems = google::protobuf::RepeatedPtrField<corev1::KeyToPath>;

// Every key, or `items` only. An item whose key is missing is NotFound ("references non-existent config key:
// k") unless `optional`. A null object (optional and absent) gives nothing.
absl::Status AddConfigMap(const corev1::ConfigMap* object, const KeyItems& items, bool optional,
                          const PayloadDefaults& defaults, Payload* payload);
absl::Status AddSecret(const corev1::Secret* object, const KeyItems& items, bool optional,
                       const PayloadDefaults& defaults, Payload* payload);
using DownwardItems = google::protobuf::RepeatedPtrField<corev1::DownwardAPIVolumeFile>;
absl::Status AddDownwardApi(const corev1::Pod& pod, const DownwardItems& items,
                            const PayloadDefaults& defaults, const ResourceList& allocatable,
                            Payload* payload);

}  // namespace keelson::kubelet
