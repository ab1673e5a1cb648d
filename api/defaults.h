// Defaults of the served kinds, as upstream's API server sets them on create and update (k8s.io/kubernetes
// pkg/apis/*/v1/defaults.go describes the facts). Static ones come from the descriptors, the rest are small
// functions.
#pragma once

#include <google/protobuf/message.h>

namespace keelson::api {

// Idempotent. Kinds without defaults are left as they are.
void SetDefaults(google::protobuf::Message* object);

}  // namespace keelson::api
