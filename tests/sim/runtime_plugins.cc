#include "tests/sim/runtime_plugins.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/strings.h"
#include "net/stream_util.h"

namespace keelson::sim {

namespace {

namespace nri = cri::nri;
namespace pb = ::nri::pkg::api::v1alpha1;
namespace v1 = cri::v1;

constexpr size_t kMostConnected = 3;
constexpr const char* kFallible[] = {"RunPodSandbox",  "CreateContainer", "StartContainer",
                                     "StopContainer",  "RemoveContainer", "PostCreateContainer",
                                     "StopPodSandbox", "UpdateContainer"};

}  // namespace

RuntimePlugins::RuntimePlugins(RuntimeWorld* world, Generation* generation, Env* env)
    : world_(*world),
      generation_(*generation),
      env_(env),
      adaptation_(env, {.runtime_name = "sim", .runtime_version = "1"}),
      scope_(env->executor()) {}

void RuntimePlugins::Connect() {
  const size_t number = plugins_.size();
  plugins_.push_back(
      std::make_unique<nri::TestPlugin>(env_, StrCat(10 + number % 90), StrCat("plugin", number)));
  nri::TestPlugin* plugin = plugins_.back().get();
  plugin->on_told = [this, plugin, number] {
    if (generation_.dead()) return;
    world_.Note(StrCat("plugin ", number, ": ", plugin->told.back()));
    generation_.Step();
  };
  plugin->on_create = [this, plugin, number](const auto& request) {
    pb::CreateContainerResponse response;
    response.mutable_adjust()->add_env()->set_key(StrCat("PLUGIN", number));
    WantLimits(*plugin, request.container().id(), response.mutable_update());
    return response;
  };
  plugin->on_update = [this, plugin](const auto&) {
    pb::UpdateContainerResponse response;
    WantLimits(*plugin, "", response.mutable_update());
    return response;
  };
  plugin->on_stop = [this, plugin](const auto&) {
    pb::StopContainerResponse response;
    WantLimits(*plugin, "", response.mutable_update());
    return response;
  };
  auto [ours, theirs] = net::MemoryStreamPair();
  adaptation_.Connect(std::move(ours));
  plugin->Connect(&scope_, std::move(theirs));
}

// Of one that the plugin knows, alive or not; but for `except`.
void RuntimePlugins::WantLimits(const nri::TestPlugin& plugin, const std::string& except,
                                google::protobuf::RepeatedPtrField<pb::ContainerUpdate>* updates) {
  auto known = plugin.ids.find("CreateContainer");
  if (generation_.dead() || known == plugin.ids.end() || world_.Below(2) == 0) return;
  const std::string& id =
      known->second[static_cast<size_t>(world_.Below(static_cast<int>(known->second.size())))];
  if (id == except) return;
  pb::ContainerUpdate* update = updates->Add();
  update->set_container_id(id);
  update->set_ignore_failure(true);  // another plugin's may be the same
  update->mutable_linux()->mutable_resources()->mutable_cpu()->mutable_shares()->set_value(
      static_cast<uint64_t>(2 + world_.Below(1000)));
}

Task<void> RuntimePlugins::UpdateByItself(nri::TestPlugin* plugin) {
  pb::UpdateContainersRequest request;
  WantLimits(*plugin, "", request.mutable_update());
  Task<nri::CallResult> call = plugin->Call("UpdateContainers", request.SerializeAsString());
  (void)co_await std::move(call);
}

nri::TestPlugin* RuntimePlugins::AnyConnected() {
  std::vector<nri::TestPlugin*> connected;
  for (const auto& plugin : plugins_) {
    if (plugin->connected()) connected.push_back(plugin.get());
  }
  if (connected.empty()) return nullptr;
  return connected[static_cast<size_t>(world_.Below(static_cast<int>(connected.size())))];
}

void RuntimePlugins::Mishap() {
  const auto connected =
      std::count_if(plugins_.begin(), plugins_.end(), [](const auto& plugin) { return plugin->connected(); });
  nri::TestPlugin* plugin = AnyConnected();
  const int what = world_.Below(8);
  if (plugin == nullptr || (what < 2 && static_cast<size_t>(connected) < kMostConnected)) return Connect();
  const std::string method = kFallible[world_.Below(std::size(kFallible))];
  switch (what) {
    case 2:
      world_.Note("a plugin disconnects");
      return plugin->Disconnect();
    case 3:
      world_.Note("a plugin will hang at " + method);
      plugin->holds[method] = std::make_shared<AsyncEvent>();
      return;
    case 6:
    case 7:
      world_.Note("a plugin sets limits by itself");
      return scope_.Spawn("plugin updates", UpdateByItself(plugin));
    default:
      world_.Note("a plugin will fail at " + method);
      plugin->errors[method] = absl::InternalError("a plugin's own");
      plugin->error_times[method] = 1;
  }
}

std::vector<std::string> RuntimePlugins::Check(const std::vector<v1::PodSandbox>& pods,
                                               const std::vector<v1::Container>& containers) const {
  std::vector<std::string> wrong;
  for (const auto& plugin : plugins_) {
    for (const auto& [method, ids] : plugin->ids) {
      if (method.find("Update") != std::string::npos || method == "StartContainer")
        continue;  // as often as asked
      std::set<std::string> once(ids.begin(), ids.end());
      if (once.size() != ids.size()) wrong.push_back(StrCat("a plugin was told twice: ", method));
    }
    if (!plugin->connected() || !plugin->synchronized) continue;
    std::set<std::string> known;
    for (const pb::PodSandbox& pod : plugin->known.pods()) known.insert(pod.id());
    for (const pb::Container& container : plugin->known.containers()) known.insert(container.id());
    for (const char* method : {"RunPodSandbox", "CreateContainer"}) {
      auto told = plugin->ids.find(method);
      if (told != plugin->ids.end()) known.insert(told->second.begin(), told->second.end());
    }
    for (const v1::PodSandbox& pod : pods) {
      if (pod.state() == v1::SANDBOX_READY && !known.contains(pod.id()))
        wrong.push_back(StrCat("a plugin does not know sandbox ", pod.id()));
    }
    for (const v1::Container& container : containers) {
      if (container.state() <= v1::CONTAINER_RUNNING && !known.contains(container.id()))
        wrong.push_back(StrCat("a plugin does not know container ", container.id()));
    }
  }
  return wrong;
}

Task<void> RuntimePlugins::Close() {
  Task<void> sessions = adaptation_.Close();
  co_await std::move(sessions);
  Task<void> plugins = scope_.Close();
  co_await std::move(plugins);
}

}  // namespace keelson::sim
