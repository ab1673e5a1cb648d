// `keelson check`: what this host lacks, has open or filters, with the fix. Also run by `keelson up` before
// anything starts.
#pragma once

#include <string>
#include <vector>

#include "cmd/cluster_layout.h"

namespace keelson {

struct Finding {
  enum class Severity { kOk, kWarning, kError };
  Severity severity = Severity::kOk;
  std::string what;   // "port 6443"
  std::string found;  // "in use by nginx (pid 12)"
  std::string fix;    // "stop it, or choose another with --secure-port"
};

struct CheckOptions {
  std::string proc_root = "/proc";
  std::string path;        // "" : $PATH
  bool ignore_own = true;  // ports held by this cluster's own components are fine
  bool packets = false;    // send some: packet_check.h
};

// Findings in order of the checks; kOk ones included.
std::vector<Finding> CheckHost(const ClusterLayout& layout, const CheckOptions& options = {});
bool HasErrors(const std::vector<Finding>& findings);
std::string FormatFindings(const std::vector<Finding>& findings, bool with_ok);

}  // namespace keelson
