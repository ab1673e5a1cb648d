// The resources controllers must know as a whole: all that can lie in a namespace, all that can own or be
// owned.
#pragma once

#include <functional>
#include <vector>

#include "api/scheme.h"
#include "client/informer_factory.h"

namespace keelson::master {

// Namespaced resources in the order the namespace controller empties them: controllers before what they would
// make again.
std::vector<api::GroupVersionResource> NamespacedResources();

// Calls `visit` with the shared informer of every kind that takes part in garbage collection: all that are
// served but Events, as upstream.
void ForEachCollectedInformer(
    client::InformerFactory& informers,
    const std::function<void(const api::GroupVersionResource&, client::Informer&)>& visit);

}  // namespace keelson::master
