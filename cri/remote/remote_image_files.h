// The ImageFilesService of a `keelson cri` behind a unix socket. Other runtimes answer Unimplemented.
#pragma once

#include <absl/status/statusor.h>

#include <memory>
#include <string>

#include "base/env.h"
#include "cri/image_files.h"

namespace keelson::cri {

// As RemoteRuntime::Create.
absl::StatusOr<std::unique_ptr<ImageFilesService>> ConnectImageFiles(Env& env, const std::string& endpoint);

}  // namespace keelson::cri
