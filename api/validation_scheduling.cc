// What the scheduler reads of a pod: affinity, tolerations, spread, gates; and the taints of nodes.
#include <absl/strings/str_join.h>

#include <tuple>

#include "api/codec.h"
#include "api/labels.h"
#include "api/validation_internal.h"
#include "base/strings.h"

namespace keelson::api::validation {

namespace corev1 = ::k8s::core::v1;
namespace metav1 = ::k8s::meta::v1;

namespace {

const std::vector<std::string> kTaintEffects = {"NoSchedule", "PreferNoSchedule", "NoExecute"};
constexpr char kBadOperator[] = "not a valid selector operator";

bool IsSetOperator(const std::string& op) { return op == "In" || op == "NotIn"; }

// Of a node selector (with Gt and Lt) or of a label selector.
template <class Requirement>
void Expression(const Requirement& r, bool of_node, bool check_values, const std::string& path,
                Errors& errors) {
  const std::string& op = r.operator_();
  const std::string values = Child(path, "values");
  if (IsSetOperator(op)) {
    if (r.values().empty()) errors.Required(values, "must be specified when `operator` is 'In' or 'NotIn'");
  } else if (op == "Exists" || op == "DoesNotExist") {
    if (!r.values().empty()) {
      errors.Forbidden(values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
    }
  } else if (of_node && (op == "Gt" || op == "Lt")) {
    if (r.values_size() != 1) {
      errors.Required(values, "must be specified single value when `operator` is 'Lt' or 'Gt'");
    }
  } else {
    errors.InvalidText(Child(path, "operator"), op, kBadOperator);
  }
  errors.Messages(Child(path, "key"), r.key(), IsQualifiedName(r.key()));
  for (int i = 0; check_values && i < r.values_size(); ++i) {
    errors.Messages(Index(values, static_cast<size_t>(i)), r.values(i), IsValidLabelValue(r.values(i)));
  }
}

void Selector(const metav1::LabelSelector& selector, const std::string& path, Errors& errors) {
  errors.Labels(Child(path, "matchLabels"), selector.match_labels());
  for (int i = 0; i < selector.match_expressions_size(); ++i) {
    Expression(selector.match_expressions(i), false, true,
               Index(Child(path, "matchExpressions"), static_cast<size_t>(i)), errors);
  }
}

void NodeField(const corev1::NodeSelectorRequirement& r, const std::string& path, Errors& errors) {
  if (!IsSetOperator(r.operator_())) {
    errors.InvalidText(Child(path, "operator"), r.operator_(), kBadOperator);
  } else if (r.values_size() != 1) {
    errors.Required(Child(path, "values"),
                    "must be only one value when `operator` is 'In' or 'NotIn' for node field selector");
  }
  if (r.key() != "metadata.name") {
    return errors.InvalidText(Child(path, "key"), r.key(), "not a valid field selector key");
  }
  for (int i = 0; i < r.values_size(); ++i) {
    errors.Messages(Index(Child(path, "values"), static_cast<size_t>(i)), r.values(i),
                    IsDns1123Subdomain(r.values(i)));
  }
}

void NodeTerm(const corev1::NodeSelectorTerm& term, bool check_values, const std::string& path,
              Errors& errors) {
  for (int i = 0; i < term.match_expressions_size(); ++i) {
    Expression(term.match_expressions(i), true, check_values,
               Index(Child(path, "matchExpressions"), static_cast<size_t>(i)), errors);
  }
  for (int i = 0; i < term.match_fields_size(); ++i) {
    NodeField(term.match_fields(i), Index(Child(path, "matchFields"), static_cast<size_t>(i)), errors);
  }
}

void Weight(int32_t weight, const std::string& path, Errors& errors) {
  if (weight < 1 || weight > 100) {
    errors.InvalidNumber(Child(path, "weight"), weight, "must be in the range 1-100");
  }
}

constexpr char kRequired[] = "requiredDuringSchedulingIgnoredDuringExecution";
constexpr char kPreferred[] = "preferredDuringSchedulingIgnoredDuringExecution";

void NodeAffinity(const corev1::NodeAffinity& affinity, const std::string& path, Errors& errors) {
  if (affinity.has_required_during_scheduling_ignored_during_execution()) {
    const auto& terms = affinity.required_during_scheduling_ignored_during_execution().node_selector_terms();
    const std::string here = Child(Child(path, kRequired), "nodeSelectorTerms");
    if (terms.empty()) errors.Required(here, "must have at least one node selector term");
    for (int i = 0; i < terms.size(); ++i) {
      NodeTerm(terms[i], true, Index(here, static_cast<size_t>(i)), errors);
    }
  }
  const auto& preferred = affinity.preferred_during_scheduling_ignored_during_execution();
  for (int i = 0; i < preferred.size(); ++i) {
    const std::string here = Index(Child(path, kPreferred), static_cast<size_t>(i));
    Weight(preferred[i].weight(), here, errors);
    NodeTerm(preferred[i].preference(), false, Child(here, "preference"), errors);
  }
}

void PodTerm(const corev1::PodAffinityTerm& term, const std::string& path, Errors& errors) {
  Selector(term.label_selector(), Child(path, "labelSelector"), errors);
  Selector(term.namespace_selector(), Child(path, "namespaceSelector"), errors);
  for (const std::string& name : term.namespaces()) {
    errors.Messages(Child(path, "namespace"), name, IsDns1123Label(name));
  }
  if (term.topology_key().empty()) errors.Required(Child(path, "topologyKey"), "can not be empty");
  errors.Messages(Child(path, "topologyKey"), term.topology_key(), IsQualifiedName(term.topology_key()));
}

template <class Affinity>  // PodAffinity or PodAntiAffinity
void PodAffinityTerms(const Affinity& affinity, const std::string& path, Errors& errors) {
  const auto& required = affinity.required_during_scheduling_ignored_during_execution();
  for (int i = 0; i < required.size(); ++i) {
    PodTerm(required[i], Index(Child(path, kRequired), static_cast<size_t>(i)), errors);
  }
  const auto& preferred = affinity.preferred_during_scheduling_ignored_during_execution();
  for (int i = 0; i < preferred.size(); ++i) {
    const std::string here = Index(Child(path, kPreferred), static_cast<size_t>(i));
    Weight(preferred[i].weight(), here, errors);
    PodTerm(preferred[i].pod_affinity_term(), Child(here, "podAffinityTerm"), errors);
  }
}

void SpreadConstraints(const google::protobuf::RepeatedPtrField<corev1::TopologySpreadConstraint>& list,
                       const std::string& path, Errors& errors) {
  for (int i = 0; i < list.size(); ++i) {
    const corev1::TopologySpreadConstraint& c = list[i];
    const std::string here = Index(path, static_cast<size_t>(i));
    errors.Positive(Child(here, "maxSkew"), c.max_skew());
    if (c.topology_key().empty()) errors.Required(Child(here, "topologyKey"), "can not be empty");
    errors.Supported(Child(here, "whenUnsatisfiable"), c.when_unsatisfiable(),
                     {"DoNotSchedule", "ScheduleAnyway"});
    for (int k = i + 1; k < list.size(); ++k) {
      if (c.topology_key() != list[k].topology_key() ||
          c.when_unsatisfiable() != list[k].when_unsatisfiable()) {
        continue;
      }
      errors.Duplicate(Child(here, "{topologyKey, whenUnsatisfiable}"),
                       StrCat("{", c.topology_key(), ", ", c.when_unsatisfiable(), "}"));
      break;
    }
    if (c.has_min_domains()) {
      errors.Positive(Child(here, "minDomains"), c.min_domains());
      if (c.when_unsatisfiable() != "DoNotSchedule") {
        errors.InvalidNumber(Child(here, "minDomains"), c.min_domains(),
                             StrCat("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ",
                                    c.when_unsatisfiable()));
      }
    }
    for (const auto& [set, field, value] :
         {std::tuple(c.has_node_affinity_policy(), "nodeAffinityPolicy", c.node_affinity_policy()),
          std::tuple(c.has_node_taints_policy(), "nodeTaintsPolicy", c.node_taints_policy())}) {
      if (set) errors.Supported(Child(here, field), value, {"Honor", "Ignore"});
    }
    const std::string keys = Child(here, "matchLabelKeys");
    if (!c.match_label_keys().empty() && !c.has_label_selector()) {
      errors.Forbidden(keys, "must not be specified when labelSelector is not set");
    }
    for (int k = 0; c.has_label_selector() && k < c.match_label_keys_size(); ++k) {
      errors.Messages(Index(keys, static_cast<size_t>(k)), c.match_label_keys(k),
                      IsQualifiedName(c.match_label_keys(k)));
    }
    Selector(c.label_selector(), Child(here, "labelSelector"), errors);
  }
}

void Tolerations(const google::protobuf::RepeatedPtrField<corev1::Toleration>& tolerations,
                 const std::string& path, Errors& errors) {
  for (int i = 0; i < tolerations.size(); ++i) {
    const corev1::Toleration& toleration = tolerations[i];
    const std::string here = Index(path, static_cast<size_t>(i));
    const std::string op = Child(here, "operator");
    errors.Name(Child(here, "key"), toleration.key(), IsQualifiedName);
    if (toleration.key().empty() && toleration.operator_() != "Exists") {
      errors.InvalidText(
          op, toleration.operator_(),
          "operator must be Exists when `key` is empty, which means \"match all values and all keys\"");
    }
    if (toleration.has_toleration_seconds() && toleration.effect() != "NoExecute") {
      errors.InvalidText(Child(here, "effect"), toleration.effect(),
                         "effect must be 'NoExecute' when `tolerationSeconds` is set");
    }
    if (toleration.operator_().empty() || toleration.operator_() == "Equal") {
      const std::vector<std::string> messages = IsValidLabelValue(toleration.value());
      if (!messages.empty()) errors.InvalidText(op, toleration.value(), absl::StrJoin(messages, ";"));
    } else if (toleration.operator_() == "Exists") {
      if (!toleration.value().empty()) {
        errors.InvalidText(op, toleration.value(), "value must be empty when `operator` is 'Exists'");
      }
    } else {
      errors.NotSupported(op, toleration.operator_(), {"Equal", "Exists"});
    }
    if (!toleration.effect().empty()) {
      errors.Supported(Child(here, "effect"), toleration.effect(), kTaintEffects);
    }
  }
}

}  // namespace

void Scheduling(const corev1::PodSpec& spec, const std::string& path, Errors& errors) {
  errors.Labels(Child(path, "nodeSelector"), spec.node_selector());
  const corev1::Affinity& affinity = spec.affinity();
  NodeAffinity(affinity.node_affinity(), Child(path, "affinity.nodeAffinity"), errors);
  PodAffinityTerms(affinity.pod_affinity(), Child(path, "affinity.podAffinity"), errors);
  PodAffinityTerms(affinity.pod_anti_affinity(), Child(path, "affinity.podAntiAffinity"), errors);
  StringSet gates;
  for (int i = 0; i < spec.scheduling_gates_size(); ++i) {
    const std::string& name = spec.scheduling_gates(i).name();
    const std::string here = Index(Child(path, "schedulingGates"), static_cast<size_t>(i));
    errors.Messages(here, name, IsQualifiedName(name));
    if (!gates.insert(name).second) errors.Duplicate(here, name);
  }
  SpreadConstraints(spec.topology_spread_constraints(), Child(path, "topologySpreadConstraints"), errors);
  errors.Name(Child(path, "nodeName"), spec.node_name(), IsDns1123Subdomain);
  Tolerations(spec.tolerations(), Child(path, "tolerations"), errors);
  errors.Name(Child(path, "priorityClassName"), spec.priority_class_name(), IsDns1123Subdomain);
  if (spec.has_preemption_policy()) {
    errors.OneOf(Child(path, "preemptionPolicy"), spec.preemption_policy(),
                 {"PreemptLowerPriority", "Never"});
  }
}

void Taints(const google::protobuf::RepeatedPtrField<corev1::Taint>& taints, const std::string& path,
            Errors& errors) {
  StringSet seen;
  for (int i = 0; i < taints.size(); ++i) {
    const corev1::Taint& taint = taints[i];
    const std::string here = Index(path, static_cast<size_t>(i));
    errors.Messages(Child(here, "key"), taint.key(), IsQualifiedName(taint.key()));
    const std::vector<std::string> messages = IsValidLabelValue(taint.value());
    if (!messages.empty()) {
      errors.InvalidText(Child(here, "value"), taint.value(), absl::StrJoin(messages, ";"));
    }
    errors.OneOf(Child(here, "effect"), taint.effect(), kTaintEffects);
    if (!seen.insert(StrCat(taint.effect(), "/", taint.key())).second) {
      errors.DuplicateValue(here, EncodeJson(taint), "taints must be unique by key and effect pair");
    }
  }
}

}  // namespace keelson::api::validation
