#include "master/apiserver/resource_storage.h"

#include <gtest/gtest.h>

#include "api/codec.h"
#include "api/core/v1/config.pb.h"
#include "api/core/v1/pod.pb.h"

namespace keelson::master {
namespace {

// What the watch cache relies on when it compares an update with what is stored.
TEST(ResourceStorage, EncodesAgainWhatItStored) {
  for (const auto& row : Registry::Get().all()) {
    if (!row->stored()) continue;
    SCOPED_TRACE(row->type->gvk.ToString());
    for (const std::string& name : {std::string("a"), std::string(200, 'n')}) {
      std::unique_ptr<api::Message> object = api::NewObject(*row->type);
      auto& meta = api::MutableMeta(*object);
      meta.set_name(name);
      meta.set_uid("6ba7b810-9dad-11d1-80b4-00c04fd430c8");
      (*meta.mutable_labels())["b"] = "2";
      (*meta.mutable_labels())["a"] = "1";
      if (object->GetDescriptor() == ::k8s::core::v1::Pod::descriptor()) {
        static_cast<::k8s::core::v1::Pod&>(*object).mutable_spec()->add_containers()->set_name("c");
      }
      if (object->GetDescriptor() == ::k8s::core::v1::ConfigMap::descriptor()) {
        (*static_cast<::k8s::core::v1::ConfigMap&>(*object).mutable_data())["k"] = std::string(1000, 'v');
      }
      const std::string stored = EncodeForStore(*object);
      meta.set_resource_version("1234567");
      meta.set_self_link("/api/v1");
      EXPECT_EQ(EncodeForStoreAgain(*object), stored);
      EXPECT_EQ(meta.resource_version(), "1234567");
    }
  }
}

}  // namespace
}  // namespace keelson::master
