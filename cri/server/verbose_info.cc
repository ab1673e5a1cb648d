#include "cri/server/verbose_info.h"

#include <google/protobuf/util/json_util.h>

#include <nlohmann/json.hpp>

namespace keelson::cri {

namespace {

using Json = nlohmann::ordered_json;

Json MessageJson(const google::protobuf::Message& message) {
  std::string text;
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  if (!google::protobuf::util::MessageToJsonString(message, &text, options).ok()) return nullptr;
  return Json::parse(text, nullptr, /*allow_exceptions=*/false);
}

std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace

std::string SandboxInfoJson(const records::Sandbox& record, const std::string& namespaces_dir) {
  Json json;
  json["pid"] = record.pause().pid();
  json["namespacesDir"] = namespaces_dir;
  json["runtimeHandler"] = record.runtime_handler();
  json["config"] = MessageJson(record.config());
  return Dump(json);
}

std::string ContainerInfoJson(const records::Container& record, const std::string& config_json) {
  Json json;
  json["sandboxID"] = record.sandbox_id();
  json["pid"] = record.init().pid();
  json["monitorPid"] = record.monitor().pid();
  json["runtimeHandler"] = record.runtime_handler();
  json["cgroupPath"] = record.cgroup_path();
  json["config"] = MessageJson(record.config());
  Json spec = Json::parse(config_json, nullptr, /*allow_exceptions=*/false);
  if (!spec.is_discarded()) json["runtimeSpec"] = std::move(spec);
  return Dump(json);
}

std::string ImageInfoJson(const std::string& chain_id, const std::string& config_json) {
  Json json;
  json["chainID"] = chain_id;
  Json spec = Json::parse(config_json, nullptr, /*allow_exceptions=*/false);
  if (!spec.is_discarded()) json["imageSpec"] = std::move(spec);
  return Dump(json);
}

std::string RuntimeInfoJson(const std::string& state_dir, const std::string& run_dir,
                            const std::string& default_handler,
                            const std::map<std::string, std::vector<std::string>>& vulnerabilities) {
  Json json;
  json["stateDir"] = state_dir;
  json["runDir"] = run_dir;
  json["defaultRuntimeHandler"] = default_handler;
  json["vulnerabilities"] = vulnerabilities;
  return Dump(json);
}

}  // namespace keelson::cri
