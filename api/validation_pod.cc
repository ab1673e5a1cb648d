#include <absl/strings/match.h>
#include <google/protobuf/util/message_differencer.h>

#include <algorithm>

#include "api/codec.h"
#include "api/labels.h"
#include "api/validation_internal.h"
#include "base/strings.h"

namespace keelson::api::validation {

namespace corev1 = ::k8s::core::v1;

namespace {

constexpr char kOwnUsers[] = "when `hostUsers` is false";
constexpr int kMaxNameservers = 3;
constexpr int kMaxSearches = 32;
constexpr size_t kMaxSearchListBytes = 2048;
constexpr size_t kMaxHostnameOverrideBytes = 64;
constexpr int64_t kMaxDeadlineS = 2147483647;

// As a DNS subdomain, with underscores.
std::vector<std::string> SearchPath(std::string_view name) {
  if (absl::EndsWith(Av(name), ".")) name.remove_suffix(1);
  std::string plain(name);
  std::replace(plain.begin(), plain.end(), '_', 'a');
  if (IsDns1123Subdomain(plain).empty()) return {};
  std::vector<std::string> messages;
  if (name.size() > 253) messages.push_back("must be no more than 253 bytes");
  messages.push_back(
      "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-', '_' or '.', "
      "and must start and end with an alphanumeric character");
  return messages;
}

void DnsConfig(const corev1::PodSpec& spec, const std::string& path, Errors& errors) {
  const corev1::PodDNSConfig& config = spec.dns_config();
  if (spec.dns_policy() == "None") {
    if (!spec.has_dns_config())
      return errors.Required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
    if (config.nameservers().empty()) {
      return errors.Required(Child(path, "nameservers"),
                             "must provide at least one DNS nameserver when `dnsPolicy` is None");
    }
  }
  const std::string nameservers = Child(path, "nameservers"), searches = Child(path, "searches");
  if (config.nameservers_size() > kMaxNameservers) {
    errors.Invalid(nameservers, ListJson(config.nameservers()),
                   StrCat("must not have more than ", kMaxNameservers, " nameservers"));
  }
  for (int i = 0; i < config.nameservers_size(); ++i) {
    errors.Ip(Index(nameservers, static_cast<size_t>(i)), config.nameservers(i));
  }
  if (config.searches_size() > kMaxSearches) {
    errors.Invalid(searches, ListJson(config.searches()),
                   StrCat("must not have more than ", kMaxSearches, " search paths"));
  }
  size_t bytes = 0;
  for (int i = 0; i < config.searches_size(); ++i) {
    const std::string& search = config.searches(i);
    bytes += search.size() + (i > 0 ? 1 : 0);
    if (search != ".") errors.Messages(Index(searches, static_cast<size_t>(i)), search, SearchPath(search));
  }
  if (bytes > kMaxSearchListBytes) {
    errors.Invalid(searches, ListJson(config.searches()),
                   StrCat("must not have more than ", kMaxSearchListBytes,
                          " characters (including spaces) in the search list"));
  }
  for (int i = 0; i < config.options_size(); ++i) {
    if (!config.options(i).name().empty()) continue;
    errors.Required(Index(Child(path, "options"), static_cast<size_t>(i)), "must not be empty");
  }
}

void Hostnames(const corev1::PodSpec& spec, const std::string& path, Errors& errors) {
  errors.Name(Child(path, "hostname"), spec.hostname(), IsDns1123Label);
  errors.Name(Child(path, "subdomain"), spec.subdomain(), IsDns1123Label);
  for (int i = 0; i < spec.host_aliases_size(); ++i) {
    const std::string here = Index(Child(path, "hostAliases"), static_cast<size_t>(i));
    const corev1::HostAlias& alias = spec.host_aliases(i);
    errors.Ip(Child(here, "ip"), alias.ip());
    for (int k = 0; k < alias.hostnames_size(); ++k) {
      errors.Messages(Index(Child(here, "hostnames"), static_cast<size_t>(k)), alias.hostnames(k),
                      IsDns1123Subdomain(alias.hostnames(k)));
    }
  }
  if (!spec.has_hostname_override()) return;
  const std::string here = Child(path, "hostnameOverride");
  if (spec.set_hostname_as_fqdn()) {
    errors.Forbidden(here, "may not be specified when setHostnameAsFQDN is true");
  }
  if (spec.host_network()) errors.Forbidden(here, "may not be specified when hostNetwork is true");
  if (spec.hostname_override().size() > kMaxHostnameOverrideBytes) {
    errors.TooLong(here, kMaxHostnameOverrideBytes);
  }
  errors.Messages(here, spec.hostname_override(), IsDns1123Subdomain(spec.hostname_override()));
}

}  // namespace

void PodSpec(const corev1::PodSpec& spec, const std::string& path, Errors& errors) {
  StringSet volumes;
  Volumes(spec, Child(path, "volumes"), &volumes, errors);
  Containers(spec, volumes, path, errors);
  PodResources(spec, path, errors);
  errors.OneOf(Child(path, "restartPolicy"), spec.restart_policy(), {"Always", "Never", "OnFailure"});
  errors.OneOf(Child(path, "dnsPolicy"), spec.dns_policy(),
               {"ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"});
  PodSecurity(spec, path, errors);
  Scheduling(spec, path, errors);
  DnsConfig(spec, Child(path, "dnsConfig"), errors);
  for (int i = 0; i < spec.readiness_gates_size(); ++i) {
    const std::string& type = spec.readiness_gates(i).condition_type();
    errors.Messages(Child(Index(Child(path, "readinessGates"), static_cast<size_t>(i)), "conditionType"),
                    type, IsQualifiedName(type));
  }
  // Other namespaces of the host and the pod's own users: permissions would be surprising.
  if (spec.has_host_users() && !spec.host_users()) {
    if (spec.host_network()) errors.Forbidden(Child(path, "hostNetwork"), kOwnUsers);
    if (spec.host_pid()) errors.Forbidden(Child(path, "HostPID"), kOwnUsers);
    if (spec.host_ipc()) errors.Forbidden(Child(path, "HostIPC"), kOwnUsers);
  }
  errors.NonNegative(Child(path, "terminationGracePeriodSeconds"), spec.termination_grace_period_seconds());
  if (spec.has_active_deadline_seconds() &&
      (spec.active_deadline_seconds() < 1 || spec.active_deadline_seconds() > kMaxDeadlineS)) {
    errors.InvalidNumber(Child(path, "activeDeadlineSeconds"), spec.active_deadline_seconds(),
                         StrCat("must be between 1 and ", kMaxDeadlineS, ", inclusive"));
  }
  errors.Name(Child(path, "serviceAccountName"), spec.service_account_name(), IsDns1123Subdomain);
  Hostnames(spec, path, errors);
  if (spec.has_runtime_class_name()) {
    errors.Messages(Child(path, "runtimeClassName"), spec.runtime_class_name(),
                    IsDns1123Subdomain(spec.runtime_class_name()));
  }
  if (spec.has_os()) {
    if (spec.os().name().empty()) {
      errors.Required(Child(path, "os.name"));
    } else {
      errors.Supported(Child(path, "os"), spec.os().name(), {"linux", "windows"});
    }
  }
}

void PodCreate(const corev1::PodSpec& spec, Errors& errors) {
  if (!spec.ephemeral_containers().empty()) {
    errors.Forbidden("spec.ephemeralContainers", "cannot be set on create");
  }
  if (!spec.node_name().empty() && !spec.scheduling_gates().empty()) {
    errors.Forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared");
  }
  // Pods that stand for those of a manifest have no account, and so no token.
  for (int i = 0; spec.service_account_name().empty() && i < spec.volumes_size(); ++i) {
    const auto& sources = spec.volumes(i).volume_source().projected().sources();
    for (int k = 0; k < sources.size(); ++k) {
      if (!sources[k].has_service_account_token()) continue;
      const std::string volume = Index("spec.volumes", static_cast<size_t>(i));
      errors.Forbidden(StrCat(volume, ".projected.sources[", k, "].serviceAccountToken"),
                       "must not be specified when serviceAccountName is not set");
    }
  }
}

namespace {

// A pod that waits at a gate may be narrowed to fewer nodes, never widened.
void GatedNodeSelection(const corev1::PodSpec& now, const corev1::PodSpec& old, Errors& errors) {
  for (const auto& [key, value] : old.node_selector()) {
    auto it = now.node_selector().find(key);
    if (it != now.node_selector().end() && it->second == value) continue;
    errors.Invalid("spec.nodeSelector", MapJson(now.node_selector()),
                   "only additions to spec.nodeSelector are allowed (no mutations or deletions)");
    break;
  }
  const auto& before = old.affinity().node_affinity().required_during_scheduling_ignored_during_execution();
  const auto& after = now.affinity().node_affinity().required_during_scheduling_ignored_during_execution();
  const std::string path =
      "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
  if (before.node_selector_terms().empty()) return;
  if (before.node_selector_terms_size() != after.node_selector_terms_size()) {
    return errors.Invalid(path, EncodeJson(after),
                          "no additions/deletions to non-empty NodeSelectorTerms list are allowed");
  }
  auto begins_with = [](const auto& list, const auto& start) {
    return list.size() >= start.size() &&
           std::equal(start.begin(), start.end(), list.begin(),
                      [](const auto& a, const auto& b) { return SameBytes(a, b); });
  };
  for (int i = 0; i < before.node_selector_terms_size(); ++i) {
    const auto& had = before.node_selector_terms(i);
    const auto& has = after.node_selector_terms(i);
    // An empty term matches nothing: with any requirement it could match something.
    const bool was_empty = had.match_expressions().empty() && had.match_fields().empty();
    if ((was_empty && !SameBytes(had, has)) ||
        !begins_with(has.match_expressions(), had.match_expressions()) ||
        !begins_with(has.match_fields(), had.match_fields())) {
      errors.Invalid(Index(path, static_cast<size_t>(i)), EncodeJson(has),
                     "only additions are allowed (no mutations or deletions)");
    }
  }
}

void OnlyRemovedGates(const corev1::PodSpec& now, const corev1::PodSpec& old, Errors& errors) {
  for (int i = 0; i < now.scheduling_gates_size(); ++i) {
    const std::string& name = now.scheduling_gates(i).name();
    if (std::any_of(old.scheduling_gates().begin(), old.scheduling_gates().end(),
                    [&](const auto& gate) { return gate.name() == name; })) {
      continue;
    }
    errors.Forbidden(Child(Index("spec.schedulingGates", static_cast<size_t>(i)), "name"),
                     StrCat("only deletion is allowed, but found new scheduling gate '", name, "'"));
  }
}

}  // namespace

void PodUpdate(const corev1::Pod& pod, const corev1::Pod& old, Errors& errors) {
  using google::protobuf::util::MessageDifferencer;
  // What may change is put back to the old value; what then differs may not.
  corev1::PodSpec munged = pod.spec();
  auto restore_images = [](auto* now, const auto& before) {
    for (int i = 0; i < now->size() && i < before.size(); ++i) (*now)[i].set_image(before[i].image());
  };
  if (munged.containers_size() != old.spec().containers_size()) {
    return errors.Forbidden("spec.containers", "pod updates may not add or remove containers");
  }
  if (munged.init_containers_size() != old.spec().init_containers_size()) {
    return errors.Forbidden("spec.initContainers", "pod updates may not add or remove containers");
  }
  restore_images(munged.mutable_containers(), old.spec().containers());
  restore_images(munged.mutable_init_containers(), old.spec().init_containers());
  OnlyRemovedGates(pod.spec(), old.spec(), errors);
  *munged.mutable_scheduling_gates() = old.spec().scheduling_gates();
  if (!old.spec().scheduling_gates().empty()) {
    GatedNodeSelection(pod.spec(), old.spec(), errors);
    *munged.mutable_node_selector() = old.spec().node_selector();
    if (old.spec().affinity().has_node_affinity()) {
      *munged.mutable_affinity()->mutable_node_affinity() = old.spec().affinity().node_affinity();
    } else if (munged.has_affinity()) {
      munged.mutable_affinity()->clear_node_affinity();
      if (!old.spec().has_affinity() && SameBytes(munged.affinity(), corev1::Affinity())) {
        munged.clear_affinity();
      }
    }
  }
  if (old.spec().has_active_deadline_seconds()) {
    if (!munged.has_active_deadline_seconds()) {
      errors.Invalid("spec.activeDeadlineSeconds", "null",
                     "must not update from a positive integer to nil value");
    } else if (munged.active_deadline_seconds() > old.spec().active_deadline_seconds()) {
      errors.InvalidNumber("spec.activeDeadlineSeconds", munged.active_deadline_seconds(),
                           "must be less than or equal to previous value");
    }
    munged.set_active_deadline_seconds(old.spec().active_deadline_seconds());
  } else {
    munged.clear_active_deadline_seconds();
  }
  for (const auto& toleration : old.spec().tolerations()) {
    bool kept = std::any_of(pod.spec().tolerations().begin(), pod.spec().tolerations().end(),
                            [&](corev1::Toleration t) {
                              t.clear_toleration_seconds();
                              corev1::Toleration before = toleration;
                              before.clear_toleration_seconds();
                              return MessageDifferencer::Equals(t, before);
                            });
    if (!kept) {
      errors.Forbidden("spec.tolerations",
                       "existing toleration can not be modified except its tolerationSeconds");
      break;
    }
  }
  *munged.mutable_tolerations() = old.spec().tolerations();
  // Written by the eviction and ephemeral-container subresources only.
  if (!MessageDifferencer::Equals(munged, old.spec())) {
    errors.Forbidden(
        "spec",
        "pod updates may not change fields other than "
        "`spec.containers[*].image`,`spec.initContainers[*].image`,"
        "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
        "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)");
  }
}

}  // namespace keelson::api::validation
