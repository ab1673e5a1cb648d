// The cases any CRI v1 runtime passes, run on the fake (unit test) and on a real one (label root). Each case
// is a coroutine that leaves nothing behind and returns the first violation.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/env.h"
#include "cri/image_service.h"
#include "cri/runtime_service.h"

namespace keelson::cri {

struct ConformanceTarget {
  Env* env = nullptr;
  RuntimeService* runtime = nullptr;
  ImageService* images = nullptr;
  std::string image;                   // present, or pullable; with `command` it must run until SIGTERM
  std::vector<std::string> command;    // e.g. {"/pause"}; obeys SIGTERM
  std::vector<std::string> exec_true;  // a command in the image that exits with 0; empty: no exec case
  std::string cgroup_parent;           // "" : the runtime's default
  std::string log_directory = "/tmp";
  std::string pod_uid_prefix = "keelson-conformance";
};

struct ConformanceCase {
  std::string name;
  std::function<Task<absl::Status>(ConformanceTarget)> run;
};

const std::vector<ConformanceCase>& ConformanceCases();

// Stops and removes every sandbox whose UID begins with pod_uid_prefix; for after a failure.
Task<absl::Status> CleanUp(ConformanceTarget target);

}  // namespace keelson::cri
