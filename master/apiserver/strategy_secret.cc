// Secret: stringData is write-only and lands in data.
#include "api/core/v1/config.pb.h"
#include "master/apiserver/registry.h"

namespace keelson::master {

void PrepareSecretWrite(api::Message& object) {
  auto& secret = static_cast<::k8s::core::v1::Secret&>(object);
  for (const auto& [key, value] : secret.string_data()) (*secret.mutable_data())[key] = value;
  secret.clear_string_data();
}

}  // namespace keelson::master
