// The environment variables of a container. Pure: what must be fetched first is named by EnvReferences().
#pragma once

#include <absl/status/statusor.h>

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "api/core/v1/config.pb.h"
#include "api/core/v1/service.pb.h"
#include "kubelet/resources.h"
#include "kubelet/types.h"

namespace keelson::kubelet {

using EnvList = std::vector<std::pair<std::string, std::string>>;

// Replaces $(NAME) by `lookup(NAME)`; "$$" is one "$"; a name lookup does not know stays as it was written.
std::string ExpandVariables(std::string_view text,
                            const std::function<const std::string*(std::string_view)>& lookup);

// Variables of Services, as upstream: MYSQL_SERVICE_HOST, MYSQL_SERVICE_PORT, MYSQL_PORT,
// MYSQL_PORT_3306_TCP, ... Headless and ExternalName ones give none.
EnvList ServiceEnvironment(const std::vector<std::shared_ptr<const corev1::Service>>& services);
// Those a pod sees: its namespace's with enableServiceLinks (default), and always `kubernetes` of
// `master_ns`.
std::vector<std::shared_ptr<const corev1::Service>> ServicesFor(
    const corev1::Pod& pod, const std::vector<std::shared_ptr<const corev1::Service>>& all,
    std::string_view master_ns);

struct EnvReferences {
  std::set<std::string> config_maps, secrets;
};
EnvReferences ReferencesOf(const corev1::Container& container);

struct EnvInputs {
  // Null for what does not exist; an error only where something not optional is missing.
  std::map<std::string, std::shared_ptr<const corev1::ConfigMap>> config_maps;
  std::map<std::string, std::shared_ptr<const corev1::Secret>> secrets;
  EnvList service_env;
  ResourceList allocatable;  // of the node
};

// In order: envFrom, env, then Services' for names not set. `pod.status()` carries the current IPs. Errors
// name the object and key; they become the waiting reason CreateContainerConfigError.
absl::StatusOr<EnvList> MakeEnvironment(const corev1::Pod& pod, const corev1::Container& container,
                                        const EnvInputs& inputs);

}  // namespace keelson::kubelet
