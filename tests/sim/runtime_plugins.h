// RuntimePlugins: NRI plugins of one life of the runtime server: they connect, disconnect, fail, hang and
// adjust by chance, and what they were told is checked against what the server lists.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cri/nri/adaptation.h"
#include "cri/nri/testing/test_plugin.h"
#include "tests/sim/runtime_world.h"

namespace keelson::sim {

class RuntimePlugins {
 public:
  // `env`: the server's. Each thing a plugin is asked is a step of `generation`.
  RuntimePlugins(RuntimeWorld* world, Generation* generation, Env* env);
  cri::nri::Adaptation* adaptation() { return &adaptation_; }

  // A new plugin, which does what it is asked to.
  void Connect();
  // One thing that happens to plugins, by chance.
  void Mishap();
  // What is wrong: a plugin that is connected and was told what there was knows every container and pod that
  // is listed as alive, and was told nothing of any twice.
  std::vector<std::string> Check(const std::vector<cri::v1::PodSandbox>& pods,
                                 const std::vector<cri::v1::Container>& containers) const;
  Task<void> Close();

 private:
  cri::nri::TestPlugin* AnyConnected();
  void WantLimits(const cri::nri::TestPlugin& plugin, const std::string& except,
                  google::protobuf::RepeatedPtrField<::nri::pkg::api::v1alpha1::ContainerUpdate>* updates);
  Task<void> UpdateByItself(cri::nri::TestPlugin* plugin);

  RuntimeWorld& world_;
  Generation& generation_;
  Env* const env_;
  cri::nri::Adaptation adaptation_;
  Scope scope_;
  std::vector<std::unique_ptr<cri::nri::TestPlugin>> plugins_;
};

}  // namespace keelson::sim
