// The `info` of Status calls with verbose=true, as JSON that crictl prints. Not a stable interface.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "cri/server/records.pb.h"

namespace keelson::cri {

std::string SandboxInfoJson(const records::Sandbox& record, const std::string& namespaces_dir);
std::string ContainerInfoJson(const records::Container& record, const std::string& config_json);
// {"chainID": of all its layers, "imageSpec": its configuration}, as containerd's.
std::string ImageInfoJson(const std::string& chain_id, const std::string& config_json);
// `vulnerabilities`: published holes of the OCI runtimes, by handler.
std::string RuntimeInfoJson(const std::string& state_dir, const std::string& run_dir,
                            const std::string& default_handler,
                            const std::map<std::string, std::vector<std::string>>& vulnerabilities);

}  // namespace keelson::cri
