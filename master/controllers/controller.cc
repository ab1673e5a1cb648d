#include "master/controllers/controller.h"

#include "api/object.h"

namespace keelson::master {

void AddPodsByControllerIndex(client::Informer& pods) {
  pods.AddIndex(kPodsByController, [](const api::Message& object) {
    const auto* owner = api::ControllerOf(object);
    return owner == nullptr ? std::vector<std::string>() : std::vector<std::string>({owner->uid()});
  });
}

void AddByNamespaceIndex(client::Informer& informer) {
  informer.AddIndex(kByNamespace, [](const api::Message& object) {
    return std::vector<std::string>({api::Meta(object).namespace_()});
  });
}

}  // namespace keelson::master
