// Label selectors: the text form of query strings, the message form, matching; and the rules for label text.
#pragma once

#include <absl/status/statusor.h>
#include <google/protobuf/map.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "api/meta/v1/meta.pb.h"

namespace keelson::api {

using LabelMap = google::protobuf::Map<std::string, std::string>;

struct LabelRequirement {
  enum class Op : uint8_t { kIn, kNotIn, kExists, kDoesNotExist, kGreaterThan, kLessThan };
  std::string key;
  Op op = Op::kIn;
  std::vector<std::string> values;  // sorted; one for Gt and Lt

  bool Matches(const LabelMap& labels) const;
  std::string ToString() const;
};

// A conjunction. Empty matches everything; Nothing() matches nothing.
class LabelSelector {
 public:
  LabelSelector() = default;
  static LabelSelector Nothing();
  // All pairs must be equal. An empty map matches everything.
  static LabelSelector FromMap(const LabelMap& labels);
  // "a=b,c!=d,e in (x,y),!f,g,h>3". InvalidArgument with upstream's words and the place.
  static absl::StatusOr<LabelSelector> Parse(std::string_view text);
  // An unset selector matches nothing, an empty one everything: callers pass has_selector() ? ... themselves.
  static absl::StatusOr<LabelSelector> FromMessage(const ::k8s::meta::v1::LabelSelector& selector);

  bool Matches(const LabelMap& labels) const;
  bool Empty() const { return !nothing_ && requirements_.empty(); }
  bool IsNothing() const { return nothing_; }
  const std::vector<LabelRequirement>& requirements() const { return requirements_; }
  // Canonical text, parses back to the same selector.
  std::string ToString() const;

 private:
  bool nothing_ = false;
  std::vector<LabelRequirement> requirements_;  // sorted by key
};

bool SameLabels(const LabelMap& a, const LabelMap& b);

// Every pair of `selector` is in `labels`; an empty selector selects nothing here (RC and Service rule).
bool SelectsNonEmpty(const LabelMap& selector, const LabelMap& labels);

// Rules for names. Each gives the list of complaints, empty when valid, in upstream's words.
std::vector<std::string> IsQualifiedName(std::string_view value);  // label and annotation keys
std::vector<std::string> IsValidLabelValue(std::string_view value);
std::vector<std::string> IsDns1123Label(std::string_view value);
std::vector<std::string> IsDns1123Subdomain(std::string_view value);

// Labels that every kubelet keeps up to date on its Node: host name, place, kind and platform of the machine,
// also by their former names (upstream's kubelet/apis).
bool IsNodeDefaultLabel(std::string_view label);
// Whether a kubelet may set the label on its own Node (NodeRestriction). Of the namespaces of Kubernetes only
// the above and those of kubelets. Whoever places pods by a label of node-restriction.kubernetes.io/ relies
// on it.
bool NodeMayLabelItself(std::string_view label);

}  // namespace keelson::api
