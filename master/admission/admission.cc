#include "master/admission/admission.h"

#include "base/status.h"

namespace keelson::master {

absl::Status AdmissionPlugin::Admit(AdmissionRequest&, const ClusterReader&) const {
  return absl::OkStatus();
}
absl::Status AdmissionPlugin::Validate(const AdmissionRequest&, const ClusterReader&) const {
  return absl::OkStatus();
}

absl::Status AdmissionChain::Admit(AdmissionRequest& request, const ClusterReader& cluster) const {
  for (const auto& plugin : plugins_) RETURN_IF_ERROR(plugin->Admit(request, cluster));
  return absl::OkStatus();
}

absl::Status AdmissionChain::Validate(const AdmissionRequest& request, const ClusterReader& cluster) const {
  for (const auto& plugin : plugins_) RETURN_IF_ERROR(plugin->Validate(request, cluster));
  return absl::OkStatus();
}

std::vector<std::string_view> AdmissionChain::names() const {
  std::vector<std::string_view> out;
  for (const auto& plugin : plugins_) out.push_back(plugin->name());
  return out;
}

AdmissionChain DefaultAdmissionChain() {
  std::vector<std::unique_ptr<AdmissionPlugin>> plugins;
  plugins.push_back(NewNamespaceLifecycle());
  plugins.push_back(NewServiceAccountDefault());
  plugins.push_back(NewNodeRestriction());
  plugins.push_back(NewTaintNodesByCondition());
  plugins.push_back(NewPriority());
  plugins.push_back(NewDefaultTolerationSeconds());
  plugins.push_back(NewRuntimeClass());
  return AdmissionChain(std::move(plugins));
}

}  // namespace keelson::master
