// Rules of the runtime-spec (1.0.2: config.md, config-linux.md) a configuration must keep, for tests.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace keelson::oci {

// One line per broken rule; empty when it is valid. Written against the specification, not against the code
// that generates: unknown members are broken rules too.
std::vector<std::string> ValidateSpec(std::string_view config_json);

}  // namespace keelson::oci
