// A plugin's CreateContainerResponse: put together with another's, and applied to a specification.
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>

#include "cri/nri/adjust.h"
#include "cri/nri/changes.h"
#include "cri/nri/resources.h"
#include "cri/nri/spec.h"

namespace {

using namespace keelson::cri::nri;  // NOLINT

constexpr char kId[] = "0123456789abcdef";
constexpr char kSpec[] = R"({"ociVersion":"1.0.2","process":{"args":["sh"],"env":["PATH=/bin"],"cwd":"/",
  "rlimits":[{"type":"RLIMIT_NOFILE","hard":10,"soft":9}]},"root":{"path":"/r"},
  "mounts":[{"destination":"/proc","type":"proc","source":"proc","options":[]}],
  "annotations":{"org.criu.config":"/criu"},
  "linux":{"resources":{"devices":[{"allow":false,"access":"rwm"}]},"cgroupsPath":"/pods/0123456789abcdef",
    "namespaces":[{"type":"pid"},{"type":"mount"},{"type":"user","path":"/u"}]}})";

void Require(bool holds) {
  if (!holds) std::abort();
}

size_t Namespaces(const nlohmann::json& config, const std::string& type) {
  size_t count = 0;
  for (const auto& ns : config["linux"]["namespaces"]) count += ns["type"] == type ? 1 : 0;
  return count;
}

void CheckApplied(const AdjustedSpec& applied) {
  const nlohmann::json config = nlohmann::json::parse(applied.config_json, nullptr, false);
  Require(config.is_object() && config["process"]["args"].is_array() && config["mounts"].is_array());
  // What no plugin may touch.
  Require(config["annotations"]["org.criu.config"] == "/criu");
  Require(!config["annotations"].contains("run.oci.systemd.subgroup"));
  Require(Namespaces(config, "mount") == 1 && Namespaces(config, "user") == 1);
  const std::string cgroup = config["linux"]["cgroupsPath"];
  Require(cgroup == applied.cgroups_path && cgroup.ends_with(std::string("/") + kId));
  Require(cgroup.find("..") == std::string::npos);
  for (const auto& mount : config["mounts"])
    Require(mount["destination"].get<std::string>().starts_with('/'));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pb::CreateContainerResponse response;
  if (!response.ParseFromArray(data, static_cast<int>(size))) return 0;
  pb::CreateContainerRequest request;
  request.mutable_container()->set_id(kId);
  FillFromSpec(kSpec, request.mutable_container());
  Changes changes(&request);
  const bool taken = changes.Take(response, "00-a").ok();
  runtime::v1::LinuxContainerResources limits;
  (void)MergeIntoCri(response.adjust().linux().resources(), &limits);
  (void)FromCri(limits);
  if (taken) {
    auto applied =
        ApplyAdjustment(kSpec, changes.adjustment(), {.container_id = kId, .systemd_cgroup = false});
    if (applied.ok()) CheckApplied(*applied);
    (void)ApplyAdjustment(kSpec, changes.adjustment(), {.container_id = kId, .systemd_cgroup = true});
  }
  // As it came, without what Changes may have straightened.
  auto raw = ApplyAdjustment(kSpec, response.adjust(), {.container_id = kId, .systemd_cgroup = false});
  if (raw.ok()) CheckApplied(*raw);
  if (taken) (void)changes.Take(response, "10-b");
  return 0;
}
