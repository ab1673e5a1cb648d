// The bound no parser of CNI's JSON goes without: writing a deeply nested value recurses. Internal to
// cri/cni.
#pragma once

#include <absl/status/status.h>

#include <string_view>

namespace keelson::cri {

// InvalidArgument when brackets outside strings nest deeper. Says nothing about the rest of the text.
absl::Status CheckJsonDepth(std::string_view text, int max_depth);

}  // namespace keelson::cri
