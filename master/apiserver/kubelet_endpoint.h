// What pods/log, exec, attach and portforward share: which container is meant, and where its node's kubelet
// is.
#pragma once

#include <absl/status/statusor.h>

#include <memory>
#include <string>

#include "api/core/v1/pod.pb.h"
#include "master/apiserver/pipeline.h"
#include "net/http_client.h"
#include "net/tls.h"

namespace keelson::master {

// `asked`, or when it is empty the pod's default container (annotation
// kubectl.kubernetes.io/default-container), or its only one. BadRequest: none, several, or no such container.
absl::StatusOr<std::string> ChooseContainer(const ::k8s::core::v1::Pod& pod, const std::string& asked);

// The kubelet of the node called `node_name`. NotFound; ServiceUnavailable when `tls` (our client
// certificate) is null; InternalError when the node has no address.
absl::StatusOr<net::HttpEndpoint> KubeletEndpoint(const Pipeline& pipeline, const std::string& node_name,
                                                  const std::shared_ptr<net::TlsClientContext>& tls);

}  // namespace keelson::master
