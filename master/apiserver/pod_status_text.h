// The READY, STATUS and RESTARTS columns of a pod (upstream printPod as facts). Pure.
#pragma once

#include <absl/time/time.h>

#include <string>

#include "api/core/v1/pod.pb.h"

namespace keelson::master {

struct PodStatusText {
  std::string ready;     // "1/2"
  std::string status;    // "Running", "CrashLoopBackOff", "Init:0/1", "Terminating", ...
  std::string restarts;  // "3 (5m ago)"
};

PodStatusText DescribePod(const ::k8s::core::v1::Pod& pod, absl::Time now);

}  // namespace keelson::master
