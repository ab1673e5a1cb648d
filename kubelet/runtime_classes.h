// RuntimeClass (node.k8s.io/v1, KEP-585) -> the runtime handler a pod's sandbox is asked for.
#pragma once

#include <absl/status/statusor.h>

#include <map>
#include <string>

#include "base/task.h"
#include "client/api_client.h"

namespace keelson::kubelet {

class RuntimeClasses {
 public:
  // `client` null: only `configured` (class -> handler) is known. It overrules the API's.
  RuntimeClasses(client::ApiClient* client, std::map<std::string, std::string> configured)
      : client_(client), configured_(std::move(configured)) {}

  // "": the runtime's default. NotFound: there is no such class. While the API server cannot be asked, what
  // it said last counts.
  Task<absl::StatusOr<std::string>> HandlerOf(std::string class_name);

 private:
  client::ApiClient* client_;
  const std::map<std::string, std::string> configured_;
  std::map<std::string, std::string> known_;  // from the API
};

}  // namespace keelson::kubelet
