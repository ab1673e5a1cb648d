// The namespaces every cluster has: made by the API server before it is ready, made again by the bootstrap
// controller.
#pragma once

namespace keelson::master {

inline constexpr const char* kSystemNamespaces[] = {"default", "kube-node-lease", "kube-public",
                                                    "kube-system"};

}  // namespace keelson::master
