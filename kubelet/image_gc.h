// ImageGc: when the disk below the images is fuller than the high threshold, removes images no container
// uses, oldest use first, until the low threshold is reached. Source: upstream's image garbage collection.
#pragma once

#include <absl/status/status.h>
#include <absl/time/time.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/env.h"
#include "base/task.h"
#include "client/event_recorder.h"
#include "cri/image_service.h"
#include "cri/runtime_service.h"
#include "kubelet/options.h"
#include "kubelet/types.h"

namespace keelson::kubelet {

struct ImageRecord {
  std::string id;
  uint64_t size_bytes = 0;
  absl::Time first_seen, last_used;
  bool in_use = false;
  bool pinned = false;
};
// IDs to remove to free `bytes`, in order. Pure. Images younger than `min_age` stay.
std::vector<std::string> PlanImageGc(std::vector<ImageRecord> images, int64_t bytes, absl::Duration min_age,
                                     absl::Time now);
// Bytes to free for a disk: 0 below the high threshold, else down to the low one.
int64_t BytesToFree(int64_t capacity, int64_t available, int high_percent, int low_percent);

class ImageGc {
 public:
  ImageGc(Env& env, cri::RuntimeService& runtime, cri::ImageService& images, const KubeletOptions& options);
  // One round: notes which images are in use; frees where needed. Call every 5 minutes.
  Task<absl::Status> Collect();
  // Removes every image that nobody uses and that is old enough: the disk is short.
  Task<absl::Status> RemoveUnused();

 private:
  Task<absl::Status> NoteImages();
  Task<void> Remove(int64_t wanted_bytes);

  Env& env_;
  cri::RuntimeService& runtime_;
  cri::ImageService& images_;
  const KubeletOptions& options_;
  std::map<std::string, ImageRecord> records_;
};

}  // namespace keelson::kubelet
