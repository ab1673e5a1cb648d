#include "master/scheduler/fit_error.h"

#include <absl/strings/str_join.h>

#include <algorithm>

#include "base/strings.h"

namespace keelson::master {

namespace {

std::string Sentence(size_t nodes, const std::map<std::string, int>& reasons) {
  std::vector<std::string> parts;
  for (const auto& [reason, count] : reasons) parts.push_back(StrCat(count, " ", reason));
  std::sort(parts.begin(), parts.end());
  return StrCat("0/", nodes, " nodes are available: ", absl::StrJoin(parts, ", "), ".");
}

}  // namespace

void FitError::Add(const Rejection& rejection) {
  for (const std::string& reason : rejection.reasons) ++reasons_[reason];
  ++(rejection.unresolvable ? unresolvable_ : resolvable_);
}

std::string FitError::Message(const ::k8s::core::v1::PodSpec& spec) const {
  if (!unsupported_.empty()) {
    return StrCat("0/", nodes_, " nodes are available: ", unsupported_,
                  " is not supported by this scheduler.");
  }
  if (nodes_ == 0) return "no nodes available to schedule pods";
  std::string out = Sentence(nodes_, reasons_);
  if (spec.preemption_policy() == "Never") {
    return out + " preemption: not eligible due to preemptionPolicy=Never.";
  }
  // There is no preemption: where upstream would look for victims, say so.
  std::map<std::string, int> preemption;
  if (resolvable_ > 0) preemption["Preemption is not implemented"] = resolvable_;
  if (unresolvable_ > 0) preemption["Preemption is not helpful for scheduling"] = unresolvable_;
  return StrCat(out, " preemption: ", Sentence(nodes_, preemption));
}

}  // namespace keelson::master
