// Where pods come from: the API server (an informer on this node's pods), a folder of manifests, a URL. Each
// reports adds, updates and removes by UID; the kubelet merges them.
#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/env.h"
#include "base/task.h"
#include "client/informer.h"
#include "kubelet/types.h"

namespace keelson::kubelet {

// `before` null: new; `after` null: gone. On the loop.
using PodChange = std::function<void(const PodPtr& before, const PodPtr& after)>;

class PodSource {
 public:
  virtual ~PodSource() = default;
  virtual void Start() = 0;
  // Its first full list has been reported.
  virtual bool Ready() const = 0;
  virtual Task<void> Stop() = 0;
};

std::unique_ptr<PodSource> NewApiPodSource(Env& env, client::ApiClient& client, std::string node_name,
                                           PodChange on_change);
// `path`: a folder (its *.yaml, *.yml, *.json and other files not starting with a dot) or one file, looked at
// every `period`. A file that cannot be read as pods is logged by name and skipped; its former pods stay.
std::unique_ptr<PodSource> NewFilePodSource(Env& env, std::string path, std::string node_name,
                                            absl::Duration period, PodChange on_change);
// A manifest or a PodList behind a URL.
std::unique_ptr<PodSource> NewUrlPodSource(Env& env, std::string url, std::string node_name,
                                           absl::Duration period, PodChange on_change);

// The pods of one manifest text as static pods of this node: name with the node's appended, UID from the
// content, config annotations, a NoExecute toleration, defaults; valid as the API would have it.
// InvalidArgument names document and field.
absl::StatusOr<std::vector<corev1::Pod>> DecodeStaticPods(std::string_view text, const std::string& node_name,
                                                          std::string_view source, std::string_view where,
                                                          absl::Time now);

// The API's reflection of a static pod.
corev1::Pod MakeMirrorPod(const corev1::Pod& static_pod, const std::string& node_name,
                          const std::string& node_uid);

}  // namespace keelson::kubelet
