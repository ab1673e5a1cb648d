// Upstream's rules, a table for each area: what is set, and the one error (or none) that it gives.
#include <google/protobuf/message.h>
#include <gtest/gtest.h>

#include <memory>

#include "api/codec.h"
#include "api/defaults.h"
#include "api/validation.h"
#include "base/strings.h"

namespace keelson::api {
namespace {

std::string Joined(const FieldErrors& errors) {
  std::string out;
  for (const FieldError& error : errors) StrAppend(&out, out.empty() ? "" : "\n", error.ToString());
  return out;
}

std::unique_ptr<google::protobuf::Message> Defaulted(const std::string& json) {
  auto decoded = DecodeJson(json);
  EXPECT_TRUE(decoded.ok()) << decoded.status() << " in " << json;
  if (!decoded.ok()) return nullptr;
  EXPECT_TRUE(decoded->strict_errors.empty()) << decoded->strict_errors[0] << " in " << json;
  SetDefaults(decoded->object.get());
  return std::move(decoded->object);
}

std::string ErrorsOf(const std::string& json) { return Joined(Validate(*Defaulted(json))); }
std::string ErrorsOfUpdate(const std::string& before, const std::string& after) {
  return Joined(ValidateUpdate(*Defaulted(after), *Defaulted(before)));
}

// One of a kind. `rest`: the other members, each with a comma in front.
std::string Object(std::string_view type, std::string_view rest, std::string_view name = "x") {
  const size_t slash = type.rfind('/');
  const bool in_namespace = type != "v1/Node" && type != "scheduling.k8s.io/v1/PriorityClass";
  return StrCat(R"({"apiVersion":")", type.substr(0, slash), R"(","kind":")", type.substr(slash + 1),
                R"(","metadata":{"name":")", name, R"(","resourceVersion":"1")",
                in_namespace ? R"(,"namespace":"default")" : "", "}", rest, "}");
}

std::string PodWithSpec(std::string_view spec) {
  return Object("v1/Pod", StrCat(R"(,"spec":{"containers":[{"name":"a","image":"i"}],)", spec, "}"));
}
std::string PodWithContainer(std::string_view container,
                             std::string_view spec = R"("restartPolicy":"Always")") {
  return Object("v1/Pod",
                StrCat(R"(,"spec":{"volumes":[{"name":"v"}],"containers":[{"name":"a","image":"i",)",
                       container, "}],", spec, "}"));
}
std::string PodWithVolume(std::string_view source) {
  return PodWithSpec(StrCat(R"("serviceAccountName":"a","volumes":[{"name":"v",)", source, "}]"));
}
std::string ServiceWith(std::string_view spec) {
  return Object("v1/Service", StrCat(R"(,"spec":{"ports":[{"port":80}],)", spec, "}"));
}

struct Row {
  std::string_view set;
  std::string_view error;  // empty: valid. Ends in "...": only the beginning
};

template <size_t N>
void ExpectErrors(const Row (&rows)[N], std::string (*object)(std::string_view)) {
  for (const Row& row : rows) {
    std::string got = ErrorsOf(object(row.set));
    std::string_view want = row.error;
    if (want.ends_with("...")) {
      want.remove_suffix(3);
      got = got.substr(0, want.size());
    }
    EXPECT_EQ(got, want) << row.set;
  }
}

TEST(ValidationRules, SchedulingGates) {
  const std::string plain = R"("nodeSelector":{"a":"b"})";
  const std::string one = R"("schedulingGates":[{"name":"g/a"}],)" + plain;
  const std::string two = R"("schedulingGates":[{"name":"g/a"},{"name":"g/b"}],)" + plain;
  auto update = [](std::string_view before, std::string_view after) {
    return ErrorsOfUpdate(PodWithSpec(before), PodWithSpec(after));
  };
  EXPECT_EQ(update(two, one), "");
  EXPECT_EQ(update(one, plain), "");
  EXPECT_EQ(
      update(one, two),
      "spec.schedulingGates[1].name: Forbidden: only deletion is allowed, but found new scheduling gate "
      "'g/b'");
  EXPECT_EQ(update(plain, one).substr(0, 40), "spec.schedulingGates[0].name: Forbidden:");
  // A pod that waits may be narrowed.
  EXPECT_EQ(update(one, R"("schedulingGates":[{"name":"g/a"}],"nodeSelector":{"a":"b","c":"d"})"), "");
  EXPECT_EQ(
      update(one, R"("nodeSelector":{"c":"d"})"),
      "spec.nodeSelector: Invalid value: {\"c\":\"d\"}: only additions to spec.nodeSelector are allowed "
      "(no mutations or deletions)");
  auto affine = [&](std::string_view terms) {
    return StrCat(
        R"("affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[)",
        terms, "]}}},", one);
  };
  const std::string key = R"({"key":"k","operator":"Exists"})", other = R"({"key":"l","operator":"Exists"})";
  EXPECT_EQ(update(one, affine(StrCat(R"({"matchExpressions":[)", key, "]}"))), "");
  EXPECT_EQ(update(affine(StrCat(R"({"matchExpressions":[)", key, "]}")),
                   affine(StrCat(R"({"matchExpressions":[)", key, ",", other, "]}"))),
            "");
  EXPECT_NE(update(affine(StrCat(R"({"matchExpressions":[)", key, "]}")),
                   affine(StrCat(R"({"matchExpressions":[)", other, "]}")))
                .find("nodeSelectorTerms[0]: Invalid value: {\"matchExpressions\":[{\"key\":\"l\","
                      "\"operator\":\"Exists\"}]}: only additions are allowed (no mutations or deletions)"),
            std::string::npos);
  EXPECT_NE(update(affine(StrCat(R"({"matchExpressions":[)", key, "]}")), one)
                .find("no additions/deletions to non-empty NodeSelectorTerms list are allowed"),
            std::string::npos);
  // Without a gate nothing of it may change.
  EXPECT_EQ(update(plain, R"("nodeSelector":{"a":"b","c":"d"})").substr(0, 16), "spec: Forbidden:");
}

TEST(ValidationRules, PodUpdates) {
  auto update = [](std::string_view before, std::string_view after) {
    return ErrorsOfUpdate(PodWithSpec(before), PodWithSpec(after));
  };
  EXPECT_EQ(update(R"("activeDeadlineSeconds":5)", R"("restartPolicy":"Always")"),
            "spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil "
            "value");
  auto tolerating = [](std::string_view seconds) {
    return StrCat(R"("tolerations":[{"key":"k","operator":"Exists","effect":"NoExecute")", seconds, "}]");
  };
  EXPECT_EQ(update(tolerating(""), tolerating(R"(,"tolerationSeconds":5)")), "");
  const std::string image = PodWithContainer(R"("tty":false)");
  EXPECT_EQ(
      ErrorsOfUpdate(image, std::string(image).replace(image.find("\"image\":\"i\""), 11, R"("image":"")")),
      "spec.containers[0].image: Required value");
  // What comes new is looked at, what was wrong already is not.
  EXPECT_EQ(
      update(R"("restartPolicy":"Always")", R"("tolerations":[{"key":"k","operator":"In"}])"),
      "spec.tolerations[0].operator: Unsupported value: \"In\": supported values: \"Equal\", \"Exists\"");
  EXPECT_EQ(update(R"("dnsConfig":{"nameservers":["here"]},"activeDeadlineSeconds":5)",
                   R"("dnsConfig":{"nameservers":["here"]},"activeDeadlineSeconds":4)"),
            "");
}

TEST(ValidationRules, NoTokenWithoutAnAccount) {
  const std::string token =
      R"("volumes":[{"name":"v","projected":{"sources":[{"serviceAccountToken":{"path":"t"}}]}}])";
  EXPECT_EQ(ErrorsOf(PodWithSpec(token + R"(,"serviceAccountName":"a")")), "");
  EXPECT_EQ(ErrorsOf(PodWithSpec(token)),
            "spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when "
            "serviceAccountName is not set");
}

TEST(ValidationRules, EphemeralContainers) {
  const std::string ephemeral = R"("ephemeralContainers":[{"name":"d","image":"i"}])";
  EXPECT_EQ(ErrorsOf(PodWithSpec(ephemeral)), "spec.ephemeralContainers: Forbidden: cannot be set on create");
  EXPECT_EQ(
      ErrorsOf(Object("v1/ReplicationController",
                      StrCat(R"(,"spec":{"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":)",
                             R"([{"name":"a","image":"i"}],)", ephemeral, "}}}"))),
      "spec.template.spec.ephemeralContainers: Forbidden: ephemeral containers not allowed in pod "
      "template");
}

TEST(ValidationRules, Services) {
  const Row rows[] = {
      {R"("type":"ClusterIP")", ""},
      {R"("clusterIP":"10.96.0.5","clusterIPs":["10.96.0.5"],"ipFamilies":["IPv4"])", ""},
      {R"("clusterIP":"nonsense")",
       "spec.clusterIPs[0]: Invalid value: \"nonsense\": must be a valid IP address, (e.g. 10.9.8.7 or "
       "2001:db8::ffff)"},
      {R"("clusterIP":"10.096.0.5")",
       "spec.clusterIPs[0]: Invalid value: \"10.096.0.5\": must not have leading 0s"},
      {R"("clusterIP":"::ffff:10.96.0.5")",
       "spec.clusterIPs[0]: Invalid value: \"::ffff:10.96.0.5\": must not be an IPv4-mapped IPv6 address"},
      {R"("clusterIP":"fd00::5")",
       "spec.clusterIPs[0]: Invalid value: [\"fd00::5\"]: IPv6 is not configured on this cluster"},
      {R"("clusterIP":"None","clusterIPs":["None","10.96.0.5"],"ipFamilyPolicy":"PreferDualStack")",
       "spec.clusterIPs: Invalid value: [\"None\",\"10.96.0.5\"]: 'None' must be the first and only value"},
      {R"("clusterIPs":["10.96.0.5"])",
       "spec.clusterIPs: Invalid value: [\"10.96.0.5\"]: must be empty when `clusterIP` is not specified"},
      {R"("clusterIP":"10.96.0.5","clusterIPs":["10.96.0.6"])",
       "spec.clusterIPs: Invalid value: [\"10.96.0.6\"]: first value must match `clusterIP`"},
      {R"("clusterIP":"10.96.0.5","clusterIPs":["10.96.0.5","10.96.0.6"],"ipFamilyPolicy":"PreferDualStack")",
       "spec.clusterIPs: Invalid value: [\"10.96.0.5\",\"10.96.0.6\"]: may specify no more than one IP for "
       "each "
       "IP family"},
      {R"("ipFamilies":["IPv6"])",
       "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster"},
      {R"("ipFamilies":["IPv5"])",
       "spec.ipFamilies[0]: Unsupported value: \"IPv5\": supported values: \"IPv4\", \"IPv6\""},
      {R"("ipFamilies":["IPv4","IPv4"],"ipFamilyPolicy":"PreferDualStack")",
       "spec.ipFamilies[1]: Duplicate value: \"IPv4\""},
      {R"("clusterIP":"None","ipFamilies":["IPv6"])", ""},  // no selector: whoever writes the endpoints
      {R"("clusterIP":"None","selector":{"a":"b"},"ipFamilies":["IPv6"])",
       "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster"},
      {R"("clusterIP":"None","ipFamilies":["IPv4","IPv6"])", ""},
      {R"("ipFamilyPolicy":"PreferDualStack")", ""},
      {R"("ipFamilyPolicy":"RequireDualStack")",
       "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for "
       "dual-stack "
       "services"},
      {R"("ipFamilyPolicy":"Both")",
       "spec.ipFamilyPolicy: Unsupported value: \"Both\": supported values: \"PreferDualStack\", "
       "\"RequireDualStack\", \"SingleStack\""},
      {R"("externalIPs":["192.0.2.7"])", ""},
      {R"("externalIPs":["192.0.2.7","host"])",
       "spec.externalIPs[1]: Invalid value: \"host\": must be a valid IP address, (e.g. 10.9.8.7 or "
       "2001:db8::ffff)"},
      {R"("externalIPs":["127.0.0.1"])",
       "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, "
       "::1/128)"},
      {R"("type":"LoadBalancer","loadBalancerSourceRanges":["10.0.0.0/8"," fd00::/8 "])", ""},
      {R"("loadBalancerSourceRanges":["10.0.0.0/8"])",
       "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'"},
      {R"("type":"LoadBalancer","loadBalancerSourceRanges":["10.0.0.0/33"])",
       "spec.LoadBalancerSourceRanges[0]: Invalid value: \"10.0.0.0/33\": must be a valid CIDR value, (e.g. "
       "10.9.8.0/24 or 2001:db8::/64)"},
      {R"("type":"LoadBalancer","loadBalancerSourceRanges":["10.0.0.1/8"])",
       "spec.LoadBalancerSourceRanges[0]: Invalid value: \"10.0.0.1/8\": must not have bits set beyond the "
       "prefix length"},
      {R"("sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":86400}})", ""},
      {R"("sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":86401}})",
       "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: must be greater than 0 and "
       "less than 86400"},
      {R"("type":"ExternalName","externalName":"db.example.com.")", ""},
      {R"("type":"ExternalName","externalName":"db","ipFamilies":["IPv4"])",
       "spec.ipFamilies: Forbidden: may not be set for ExternalName services"},
      {R"("type":"ExternalName","externalName":"db","clusterIP":"10.96.0.5")",
       "spec.clusterIPs: Forbidden: may not be set for ExternalName services"},
  };
  ExpectErrors(rows, ServiceWith);
  // clusterIP alone is new: one error, not two.
  EXPECT_EQ(ErrorsOfUpdate(ServiceWith(R"("clusterIP":"10.96.0.5","clusterIPs":["10.96.0.5"])"),
                           ServiceWith(R"("clusterIP":"10.96.0.6","clusterIPs":["10.96.0.5"])")),
            "spec.clusterIPs[0]: Invalid value: [\"10.96.0.6\"]: may not change once set");
  // One that is stored already does not stand in the way.
  const std::string bad = R"("externalIPs":["127.0.0.1"],)";
  EXPECT_EQ(ErrorsOfUpdate(ServiceWith(bad + R"("type":"ClusterIP")"),
                           ServiceWith(bad + R"("publishNotReadyAddresses":true)")),
            "");
}

TEST(ValidationRules, WhatHasNoEffectInAService) {
  auto names = [](std::string_view spec) {
    std::string out;
    for (const UnimplementedField& f : UnimplementedFields(*Defaulted(ServiceWith(spec))))
      StrAppend(&out, f.path, " ");
    return out;
  };
  EXPECT_EQ(
      names(R"("sessionAffinity":"ClientIP","externalIPs":["192.0.2.7"],"ipFamilyPolicy":"PreferDualStack")"),
      "");
  EXPECT_EQ(
      names(R"("sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":60}})"),
      "spec.sessionAffinityConfig.clientIP.timeoutSeconds ");
  EXPECT_EQ(names(R"("type":"LoadBalancer","loadBalancerIP":"192.0.2.7")"),
            "spec.type=LoadBalancer spec.loadBalancerIP ");
}

TEST(ValidationRules, NodeAffinity) {
  auto required = [](std::string_view term) {
    return PodWithSpec(StrCat(
        R"("affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[)",
        term, "]}}}"));
  };
  const std::string terms =
      "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
  EXPECT_EQ(ErrorsOf(required("")), terms + ": Required value: must have at least one node selector term");
  const std::pair<std::string_view, std::string_view> rows[] = {
      {R"("matchExpressions":[{"key":"a/b","operator":"In","values":["c"]}])", ""},
      {R"("matchExpressions":[{"key":"k","operator":"Gt","values":["6"]}])", ""},
      {R"("matchFields":[{"key":"metadata.name","operator":"In","values":["n1"]}])", ""},
      {R"("matchExpressions":[{"key":"k","operator":"In"}])",
       ".matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"},
      {R"("matchExpressions":[{"key":"k","operator":"Exists","values":["c"]}])",
       ".matchExpressions[0].values: Forbidden: may not be specified when `operator` is 'Exists' or "
       "'DoesNotExist'"},
      {R"("matchExpressions":[{"key":"k","operator":"Lt","values":["1","2"]}])",
       ".matchExpressions[0].values: Required value: must be specified single value when `operator` is 'Lt' "
       "or "
       "'Gt'"},
      {R"("matchExpressions":[{"key":"k","operator":"Equals","values":["c"]}])",
       ".matchExpressions[0].operator: Invalid value: \"Equals\": not a valid selector operator"},
      {R"("matchFields":[{"key":"metadata.name","operator":"In","values":["n1","n2"]}])",
       ".matchFields[0].values: Required value: must be only one value when `operator` is 'In' or 'NotIn' "
       "for "
       "node field selector"},
      {R"("matchFields":[{"key":"metadata.uid","operator":"In","values":["n1"]}])",
       ".matchFields[0].key: Invalid value: \"metadata.uid\": not a valid field selector key"},
      {R"("matchFields":[{"key":"metadata.name","operator":"Exists"}])",
       ".matchFields[0].operator: Invalid value: \"Exists\": not a valid selector operator"},
  };
  for (const auto& [term, error] : rows) {
    EXPECT_EQ(ErrorsOf(required(StrCat("{", term, "}"))), error.empty() ? "" : StrCat(terms, "[0]", error));
  }
  const Row others[] = {
      {R"("affinity":{"nodeAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[{"weight":101,)"
       R"("preference":{"matchExpressions":[{"key":"k","operator":"Exists"}]}}]}})",
       "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: "
       "101: must be in the range 1-100"},
      {R"("affinity":{"podAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"topologyKey":"zone",)"
       R"("labelSelector":{"matchExpressions":[{"key":"k","operator":"In"}]}}]}})",
       "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector."
       "matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"},
      {R"("affinity":{"podAntiAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[{"weight":1,)"
       R"("podAffinityTerm":{"labelSelector":{"matchLabels":{"a":"b"}}}}]}})",
       "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm."
       "topologyKey: Required value: can not be empty..."},
  };
  ExpectErrors(others, PodWithSpec);
}

TEST(ValidationRules, PodSecurity) {
  const Row rows[] = {
      {R"("securityContext":{"runAsUser":0,"runAsGroup":2147483647,"supplementalGroups":[1],"fsGroup":0})",
       ""},
      {R"("securityContext":{"runAsUser":-1})",
       "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive"},
      {R"("securityContext":{"runAsGroup":2147483648})",
       "spec.securityContext.runAsGroup: Invalid value: 2147483648: must be between 0 and 2147483647, "
       "inclusive"},
      {R"("securityContext":{"supplementalGroups":[1,-2]})",
       "spec.securityContext.supplementalGroups[1]: Invalid value: -2: must be between 0 and 2147483647, "
       "inclusive"},
      {R"("securityContext":{"fsGroup":-3})",
       "spec.securityContext.fsGroup: Invalid value: -3: must be between 0 and 2147483647, inclusive"},
      {R"("securityContext":{"fsGroupChangePolicy":"Never"})",
       "spec.securityContext.fsGroupChangePolicy: Unsupported value: \"Never\": supported values: "
       "\"Always\", "
       "\"OnRootMismatch\""},
      {R"("securityContext":{"supplementalGroupsPolicy":"Loose"})",
       "spec.securityContext.supplementalGroupsPolicy: Unsupported value: \"Loose\": supported values: "
       "\"Merge\", "
       "\"Strict\""},
      {R"("securityContext":{"seccompProfile":{"type":"Localhost","localhostProfile":"a/b.json"}})", ""},
      {R"("securityContext":{"seccompProfile":{"type":""}})",
       "spec.securityContext.seccompProfile.type: Required value: type is required when seccompProfile is "
       "set"},
      {R"("securityContext":{"seccompProfile":{"type":"Default"}})",
       "spec.securityContext.seccompProfile.type: Unsupported value: \"Default\": supported values: "
       "\"Localhost\", \"RuntimeDefault\", \"Unconfined\""},
      {R"("securityContext":{"seccompProfile":{"type":"Localhost"}})",
       "spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type "
       "is "
       "Localhost"},
      {R"("securityContext":{"seccompProfile":{"type":"Localhost","localhostProfile":"../x"}})",
       "spec.securityContext.seccompProfile.localhostProfile: Invalid value: \"../x\": must not contain "
       "'..'"},
      {R"("securityContext":{"seccompProfile":{"type":"Unconfined","localhostProfile":"x"}})",
       "spec.securityContext.seccompProfile.localhostProfile: Invalid value: "
       "{\"type\":\"Unconfined\",\"localhostProfile\":\"x\"}: can only be set when seccomp type is "
       "Localhost"},
      {R"("securityContext":{"appArmorProfile":{"type":"Localhost","localhostProfile":" p"}})",
       "spec.securityContext.appArmorProfile.localhostProfile: Invalid value: \" p\": must not be padded "
       "with "
       "whitespace"},
      {R"("securityContext":{"appArmorProfile":{"type":"Localhost"}})",
       "spec.securityContext.appArmorProfile.localhostProfile: Required value: must be set when AppArmor "
       "type is "
       "Localhost"},
      {R"("securityContext":{"sysctls":[{"name":"net/ipv4/ip_forward","value":"1"}]})", ""},
      {R"("securityContext":{"sysctls":[{"name":"Net.X","value":"1"}]})",
       "spec.securityContext.sysctls[0].name: Invalid value: \"Net.X\": must have at most 253 characters "
       "and..."},
      {R"("securityContext":{"sysctls":[{"name":"net.a","value":"1"},{"name":"net.a","value":"2"}]})",
       "spec.securityContext.sysctls[1].name: Duplicate value: \"net.a\""},
      {R"("hostNetwork":true,"securityContext":{"sysctls":[{"name":"net.a","value":"1"}]})",
       "spec.securityContext.sysctls[0].name: Invalid value: \"net.a\": may not be specified when "
       "'hostNetwork' "
       "is true"},
      {R"("hostIPC":true,"securityContext":{"sysctls":[{"name":"kernel.shmmax","value":"1"}]})",
       "spec.securityContext.sysctls[0].name: Invalid value: \"kernel.shmmax\": may not be specified when "
       "'hostIPC' is true"},
      {R"("hostIPC":true,"securityContext":{"sysctls":[{"name":"net.a","value":"1"}]})", ""},
      {R"("hostPID":true,"shareProcessNamespace":true)",
       "spec.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be "
       "enabled"},
  };
  ExpectErrors(rows, PodWithSpec);
}

TEST(ValidationRules, Containers) {
  const Row rows[] = {
      {R"("securityContext":{"runAsUser":-1})",
       "spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, "
       "inclusive"},
      {R"("securityContext":{"privileged":true,"allowPrivilegeEscalation":false})",
       "spec.containers[0].securityContext: Invalid value: {\"privileged\":true,\"allowPrivilegeEscalation\":"
       "false}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true"},
      {R"("securityContext":{"capabilities":{"add":["CAP_SYS_ADMIN"]},"allowPrivilegeEscalation":false})",
       "spec.containers[0].securityContext: Invalid value: {\"capabilities\":{\"add\":[\"CAP_SYS_ADMIN\"]},"
       "\"allowPrivilegeEscalation\":false}: cannot set `allowPrivilegeEscalation` to false and "
       "`capabilities.Add` CAP_SYS_ADMIN"},
      {R"("ports":[{"containerPort":1,"hostPort":80},{"containerPort":2,"hostPort":80,"protocol":"UDP"}])",
       ""},
      {R"("ports":[{"containerPort":1,"hostPort":80,"hostIP":"10.0.0.1"},{"containerPort":2,"hostPort":80}])",
       ""},
      {R"("ports":[{"containerPort":1,"hostPort":80},{"containerPort":2,"hostPort":80}])",
       "spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//80\""},
      {R"("volumeMounts":[{"name":"v","mountPath":"/x","mountPropagation":"HostToContainer"}])", ""},
      {R"("volumeMounts":[{"name":"v","mountPath":"/x","mountPropagation":"Both"}])",
       "spec.containers[0].volumeMounts.mountPropagation: Unsupported value: \"Both\": supported values: "
       "\"Bidirectional\", \"HostToContainer\", \"None\""},
      {R"("volumeMounts":[{"name":"v","mountPath":"/x","mountPropagation":"Bidirectional"}])",
       "spec.containers[0].volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is "
       "available only to privileged containers"},
      {R"("securityContext":{"privileged":true},"volumeMounts":[{"name":"v","mountPath":"/x",)"
       R"("mountPropagation":"Bidirectional"}])",
       ""},
      {R"("volumeMounts":[{"name":"v","mountPath":"/x","readOnly":true,"recursiveReadOnly":"Enabled"}])", ""},
      {R"("volumeMounts":[{"name":"v","mountPath":"/x","recursiveReadOnly":"IfPossible"}])",
       "spec.containers[0].volumeMounts.recursiveReadOnly: Forbidden: may only be specified when readOnly is "
       "true"},
      {R"("volumeMounts":[{"name":"v","mountPath":"/x","readOnly":true,"recursiveReadOnly":"Enabled",)"
       R"("mountPropagation":"HostToContainer"}])",
       "spec.containers[0].volumeMounts.recursiveReadOnly: Forbidden: may only be specified when "
       "mountPropagation is None or not specified"},
      {R"("volumeMounts":[{"name":"v","mountPath":"/x","recursiveReadOnly":"Yes"}])",
       "spec.containers[0].volumeMounts.recursiveReadOnly: Unsupported value: \"Yes\": supported values: "
       "\"Disabled\", \"Enabled\", \"IfPossible\""},
      {R"("restartPolicy":"Never")", ""},
      {R"("restartPolicy":"Once")",
       "spec.containers[0].restartPolicy: Unsupported value: \"Once\": supported values: \"Always\", "
       "\"Never\", "
       "\"OnFailure\""},
      {R"("restartPolicy":"Never","restartPolicyRules":[{"action":"Restart","exitCodes":{"operator":"In",)"
       R"("values":[42]}}])",
       ""},
      {R"("restartPolicyRules":[{"action":"Restart","exitCodes":{"operator":"In","values":[42]}}])",
       "spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are "
       "used"},
      {R"("restartPolicy":"Never","restartPolicyRules":[{"action":"Ignore"}])",
       "spec.containers[0].restartPolicyRules[0].action: Unsupported value: \"Ignore\": supported values: "
       "\"Restart\", \"RestartAllContainers\"\n"
       "spec.containers[0].restartPolicyRules[0].exitCodes: Required value: must be specified"},
      {R"("restartPolicy":"Never","restartPolicyRules":[{"action":"Restart","exitCodes":{"operator":"Is"}}])",
       "spec.containers[0].restartPolicyRules[0].exitCodes.operator: Unsupported value: \"Is\": supported "
       "values: \"In\", \"NotIn\""},
      {R"("envFrom":[{"prefix":"P_","configMapRef":{"name":"c"}},{"secretRef":{"name":"s"}}])", ""},
      {R"("envFrom":[{"secretRef":{}}])", "spec.containers[0].envFrom[0].secretRef.name: Required value"},
      {R"("envFrom":[{"configMapRef":{"name":"C_"}}])",
       "spec.containers[0].envFrom[0].configMapRef.name: Invalid value: \"C_\": a lowercase RFC 1123..."},
      {R"("envFrom":[{"prefix":"a=","configMapRef":{"name":"c"}}])",
       "spec.containers[0].envFrom[0].prefix: Invalid value: \"a=\": a valid environment variable name must "
       "consist only of printable ASCII characters other than '='"},
      {R"("envFrom":[{"prefix":"a"}])",
       "spec.containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`"},
      {R"("resizePolicy":[{"resourceName":"cpu","restartPolicy":"NotRequired"}])", ""},
      {R"("resizePolicy":[{"resourceName":"disk","restartPolicy":"NotRequired"}])",
       "spec.containers[0].resizePolicy: Unsupported value: \"disk\": supported values: \"cpu\", \"memory\""},
      {R"("resizePolicy":[{"resourceName":"cpu","restartPolicy":"NotRequired"},)"
       R"({"resourceName":"cpu","restartPolicy":"NotRequired"}])",
       "spec.containers[0].resizePolicy[1]: Duplicate value: \"cpu\""},
      {R"("env":[{"name":"E","valueFrom":{"resourceFieldRef":{"resource":"limits.gpu"}}}])",
       "spec.containers[0].env[0].valueFrom.resourceFieldRef.resource: Unsupported value: \"limits.gpu\"..."},
      {R"("env":[{"name":"E","valueFrom":{"resourceFieldRef":{"resource":"limits.cpu","divisor":"2"}}}])",
       "spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor: Invalid value: \"limits.cpu\": only "
       "divisor's values 1m and 1 are supported with the cpu resource"},
      {R"("env":[{"name":"E","valueFrom":{"resourceFieldRef":{"resource":"limits.memory","divisor":"1Mi"}}}])",
       ""},
  };
  ExpectErrors(rows, [](std::string_view container) { return PodWithContainer(container); });
  EXPECT_EQ(
      ErrorsOf(PodWithContainer(R"("ports":[{"containerPort":8080}])",
                                R"("hostNetwork":true,"initContainers":[{"name":"i","image":"i","ports":)"
                                R"([{"containerPort":8080}]}])")),
      "");
  EXPECT_EQ(ErrorsOf(PodWithContainer(R"("ports":[{"containerPort":8080,"hostPort":80}])",
                                      R"("hostNetwork":true)")),
            "spec.containers[0].ports[0].hostPort: Invalid value: 80: must match `containerPort` when "
            "`hostNetwork` is true");
  EXPECT_EQ(
      ErrorsOf(
          PodWithContainer(R"("resizePolicy":[{"resourceName":"cpu","restartPolicy":"RestartContainer"}])",
                           R"("restartPolicy":"Never")")),
      "spec.containers[0].resizePolicy: Invalid value: \"RestartContainer\": must be 'NotRequired' when pod "
      "`restartPolicy` is 'Never'");
}

TEST(ValidationRules, ProbesAndHooks) {
  const Row rows[] = {
      {R"("livenessProbe":{"exec":{"command":["true"]},"terminationGracePeriodSeconds":5})", ""},
      {R"("livenessProbe":{"exec":{"command":["true"]},"terminationGracePeriodSeconds":0})",
       "spec.containers[0].livenessProbe.terminationGracePeriodSeconds: Invalid value: 0: must be greater "
       "than "
       "0"},
      {R"("readinessProbe":{"exec":{"command":["true"]},"terminationGracePeriodSeconds":5})",
       "spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set "
       "for "
       "readinessProbes"},
      {R"("livenessProbe":{"httpGet":{"port":80,"httpHeaders":[{"name":"X-A","value":"b"}]}})", ""},
      {R"("livenessProbe":{"httpGet":{"port":80,"httpHeaders":[{"name":"X A","value":"b"}]}})",
       "spec.containers[0].livenessProbe.httpGet.httpHeaders: Invalid value: \"X A\": a valid HTTP header "
       "must "
       "consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is "
       "'[-A-Za-z0-9]+')"},
      {R"("lifecycle":{"preStop":{"sleep":{"seconds":30}}})", ""},
      {R"("lifecycle":{"preStop":{"sleep":{"seconds":31}}})",
       "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than "
       "terminationGracePeriodSeconds (30)"},
      {R"("lifecycle":{"postStart":{"tcpSocket":{"port":0}}})",
       "spec.containers[0].lifecycle.postStart.tcpSocket.port: Invalid value: 0: must be between 1 and "
       "65535, "
       "inclusive"},
      {R"("lifecycle":{"stopSignal":"SIGUSR1"})", ""},
      {R"("lifecycle":{"stopSignal":"SIGHELLO"})",
       "spec.containers[0].lifecycle.stopSignal: Unsupported value: \"SIGHELLO\": supported values: "
       "\"SIGABRT\", "
       "\"SIGALRM\"..."},
  };
  ExpectErrors(rows, [](std::string_view container) { return PodWithContainer(container); });
  auto init = [](std::string_view rest) {
    return PodWithSpec(StrCat(R"("initContainers":[{"name":"i","image":"i",)", rest, "}]"));
  };
  const std::string startup = R"("startupProbe":{"exec":{"command":["true"]}})";
  EXPECT_EQ(ErrorsOf(init(startup)),
            "spec.initContainers[0].startupProbe: Forbidden: may not be set for init containers without "
            "restartPolicy=Always");
  EXPECT_EQ(ErrorsOf(init(startup + R"(,"restartPolicy":"Always")")), "");
  EXPECT_EQ(ErrorsOf(init(R"("restartPolicy":"OnFailure")")), "");
  EXPECT_EQ(ErrorsOf(init(R"("restartPolicy":"Never")")), "");
}

TEST(ValidationRules, Volumes) {
  const Row rows[] = {
      {R"("emptyDir":{"sizeLimit":"64Mi"})", ""},
      {R"("emptyDir":{"sizeLimit":"-1"})",
       "spec.volumes[0].emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity"},
      {R"("secret":{"secretName":"s","defaultMode":512})",
       "spec.volumes[0].secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), "
       "both inclusive"},
      {R"("configMap":{"name":"c","items":[{"key":"k","path":"p","mode":-1}]})",
       "spec.volumes[0].configMap.items[0].mode: Invalid value: -1: must be a number between 0 and 0777 "
       "(octal), "
       "both inclusive"},
      {R"("configMap":{"name":"c","items":[{"key":"k","path":"..p"}]})",
       "spec.volumes[0].configMap.items[0].path: Invalid value: \"..p\": must not start with '..'"},
      {R"("downwardAPI":{"items":[{"path":"l","fieldRef":{"fieldPath":"metadata.labels"}},{"path":"c",)"
       R"("resourceFieldRef":{"containerName":"a","resource":"limits.cpu","divisor":"1m"}}]})",
       ""},
      {R"("downwardAPI":{"items":[{"path":"l"}]})",
       "spec.volumes[0].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required"},
      {R"("downwardAPI":{"items":[{"path":"l","resourceFieldRef":{"resource":"limits.cpu"}}]})",
       "spec.volumes[0].downwardAPI.resourceFieldRef.containerName: Required value"},
      {R"("downwardAPI":{"items":[{"path":"l","fieldRef":{"fieldPath":"spec.nodeName"}}]})",
       "spec.volumes[0].downwardAPI.fieldRef.fieldPath: Unsupported value: \"spec.nodeName\"..."},
      {R"("projected":{"sources":[{"serviceAccountToken":{"path":"token"}},{"secret":{"name":"s"}},)"
       R"({"configMap":{"name":"c","items":[{"key":"k","path":"p"}]}}]})",
       ""},
      {R"("projected":{"defaultMode":1000})",
       "spec.volumes[0].projected.defaultMode: Invalid value: 1000: must be a number between 0 and 0777 "
       "(octal), "
       "both inclusive"},
      {R"("projected":{"sources":[{"secret":{}}]})",
       "spec.volumes[0].projected.sources[0].secret.name: Required value"},
      {R"("projected":{"sources":[{"serviceAccountToken":{"path":"t","expirationSeconds":60}}]})",
       "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 60: may "
       "not "
       "specify a duration less than 10 minutes"},
      {R"("projected":{"sources":[{"secret":{"name":"s"},"configMap":{"name":"c"}}]})",
       "spec.volumes[0].projected.sources[0]: Forbidden: may not specify more than 1 volume type per source"},
      {R"("projected":{"sources":[{"secret":{"name":"s","items":[{"key":"k","path":"p"}]}},)"
       R"({"configMap":{"name":"c","items":[{"key":"k","path":"p"}]}}]})",
       "spec.volumes[0].projected: Invalid value: \"c\": conflicting duplicate paths"},
  };
  ExpectErrors(rows, PodWithVolume);
}

TEST(ValidationRules, PodSpecs) {
  const Row rows[] = {
      {R"("hostAliases":[{"ip":"10.1.2.3","hostnames":["a.local"]}])", ""},
      {R"("hostAliases":[{"ip":"a","hostnames":["B"]}])",
       "spec.hostAliases[0].ip: Invalid value: \"a\": must be a valid IP address, (e.g. 10.9.8.7 or "
       "2001:db8::ffff)\nspec.hostAliases[0].hostnames[0]: Invalid value: \"B\": a lowercase..."},
      {R"("dnsPolicy":"None")",
       "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"},
      {R"("dnsConfig":{"nameservers":["10.0.0.1"],"searches":["a_b.local.","."],"options":[{"name":"ndots"}]})",
       ""},
      {R"("dnsConfig":{"nameservers":["1.1.1.1","1.1.1.2","1.1.1.3","1.1.1.4"]})",
       "spec.dnsConfig.nameservers: Invalid value: [\"1.1.1.1\",\"1.1.1.2\",\"1.1.1.3\",\"1.1.1.4\"]: must "
       "not "
       "have more than 3 nameservers"},
      {R"("dnsConfig":{"nameservers":["dns"]})",
       "spec.dnsConfig.nameservers[0]: Invalid value: \"dns\": must be a valid IP address, (e.g. 10.9.8.7 or "
       "2001:db8::ffff)"},
      {R"("dnsConfig":{"searches":["a b"]})",
       "spec.dnsConfig.searches[0]: Invalid value: \"a b\": a lowercase..."},
      {R"("dnsConfig":{"options":[{"value":"5"}]})",
       "spec.dnsConfig.options[0]: Required value: must not be empty"},
      {R"("readinessGates":[{"conditionType":"example.com/ready"}])", ""},
      {R"("readinessGates":[{"conditionType":"a b"}])",
       "spec.readinessGates[0].conditionType: Invalid value: \"a b\": name part..."},
      {R"("runtimeClassName":"Crun!")", "spec.runtimeClassName: Invalid value: \"Crun!\": a lowercase..."},
      {R"("priorityClassName":"High!")", "spec.priorityClassName: Invalid value: \"High!\": a lowercase..."},
      {R"("preemptionPolicy":"Sometimes")",
       "spec.preemptionPolicy: Unsupported value: \"Sometimes\": supported values: \"PreemptLowerPriority\", "
       "\"Never\""},
      {R"("schedulingGates":[{"name":"a"},{"name":"a"}])", "spec.schedulingGates[1]: Duplicate value: \"a\""},
      {R"("schedulingGates":[{"name":"a"}],"nodeName":"n1")",
       "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"},
      {R"("topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"zone","whenUnsatisfiable":"DoNotSchedule",)"
       R"("minDomains":2,"labelSelector":{"matchLabels":{"a":"b"}},"matchLabelKeys":["v"]}])",
       ""},
      {R"("topologySpreadConstraints":[{"maxSkew":0,"topologyKey":"","whenUnsatisfiable":"Maybe"}])",
       "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero\n"
       "spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty\n"
       "spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: \"Maybe\": supported values: "
       "\"DoNotSchedule\", \"ScheduleAnyway\""},
      {R"("topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"z","whenUnsatisfiable":"ScheduleAnyway"},)"
       R"({"maxSkew":2,"topologyKey":"z","whenUnsatisfiable":"ScheduleAnyway"}])",
       "spec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: \"{z, "
       "ScheduleAnyway}\""},
      {R"("topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"z","whenUnsatisfiable":"ScheduleAnyway",)"
       R"("minDomains":2}])",
       "spec.topologySpreadConstraints[0].minDomains: Invalid value: 2: can only use minDomains if "
       "whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway"},
      {R"("tolerations":[{"key":"k","operator":"Exists","value":"v"}])",
       "spec.tolerations[0].operator: Invalid value: \"v\": value must be empty when `operator` is 'Exists'"},
      {R"("tolerations":[{"key":"k","effect":"Never"}])",
       "spec.tolerations[0].effect: Unsupported value: \"Never\": supported values: \"NoSchedule\", "
       "\"PreferNoSchedule\", \"NoExecute\""},
      {R"("activeDeadlineSeconds":2147483648)",
       "spec.activeDeadlineSeconds: Invalid value: 2147483648: must be between 1 and 2147483647, inclusive"},
      {R"("hostnameOverride":"h","hostNetwork":true)",
       "spec.hostnameOverride: Forbidden: may not be specified when hostNetwork is true"},
      {R"("os":{"name":"plan9"})",
       "spec.os: Unsupported value: \"plan9\": supported values: \"linux\", \"windows\""},
      {R"("resources":{"requests":{"cpu":"2"},"limits":{"cpu":"1"}})",
       "spec.resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1"},
  };
  ExpectErrors(rows, PodWithSpec);
}

TEST(ValidationRules, Resources) {
  const Row rows[] = {
      {R"("limits":{"example.com/gpu":"2"},"requests":{"example.com/gpu":"2","cpu":"1"})", ""},
      {R"("requests":{"example.com/gpu":"2"})",
       "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable "
       "resources"},
      {R"("limits":{"example.com/gpu":"2"},"requests":{"example.com/gpu":"1"})",
       "spec.containers[0].resources.requests: Invalid value: \"1\": must be equal to example.com/gpu limit "
       "of 2"},
      {R"("limits":{"example.com/gpu":"1500m"})",
       "spec.containers[0].resources.limits[example.com/gpu]: Invalid value: \"1500m\": must be an "
       "integer..."},
      {R"("limits":{"hugepages-2Mi":"4Mi"})",
       "spec.containers[0].resources: Forbidden: HugePages require cpu or memory"},
      {R"("limits":{"disk":"1"})",
       "spec.containers[0].resources.limits[disk]: Invalid value: \"disk\": must be a standard resource type "
       "or "
       "fully qualified..."},
  };
  ExpectErrors(rows, [](std::string_view resources) {
    return PodWithContainer(StrCat(R"("resources":{)", resources, "}"));
  });
  auto pod = [](std::string_view of_pod, std::string_view of_container) {
    return ErrorsOf(PodWithContainer(StrCat(R"("resources":{)", of_container, "}"),
                                     StrCat(R"("resources":{)", of_pod, "}")));
  };
  EXPECT_EQ(pod(R"("requests":{"cpu":"1"},"limits":{"cpu":"2"})", R"("requests":{"cpu":"1"})"), "");
  EXPECT_EQ(pod(R"("requests":{"cpu":"1"})", R"("requests":{"cpu":"1100m"})"),
            "spec.resources.requests[cpu]: Invalid value: \"1\": must be greater than or equal to aggregate "
            "container requests of 1100m");
  EXPECT_EQ(
      pod(R"("limits":{"memory":"1Gi"})", R"("limits":{"memory":"2Gi"})"),
      "spec.resources.containers[0][memory].limits: Invalid value: \"2Gi\": must be less than or equal to "
      "pod limits of 1Gi");
  EXPECT_EQ(pod(R"("limits":{"ephemeral-storage":"1Gi"})", ""),
            "spec.resources.limits[ephemeral-storage]: Unsupported value: \"ephemeral-storage\": supported "
            "values: \"cpu\", \"hugepages-\", \"memory\"");
}

TEST(ValidationRules, PriorityClasses) {
  auto c = [](std::string_view name, std::string_view rest) {
    return Object("scheduling.k8s.io/v1/PriorityClass", rest, name);
  };
  EXPECT_EQ(ErrorsOf(c("high", R"(,"value":1000000000)")), "");
  EXPECT_EQ(ErrorsOf(c("high", R"(,"value":1000000001)")),
            "value: Forbidden: maximum allowed value of a user defined priority is 1000000000");
  EXPECT_EQ(ErrorsOf(c("system-node-critical", R"(,"value":2000001000)")), "");
  EXPECT_EQ(
      ErrorsOf(c("system-cluster-critical", R"(,"value":1)")),
      "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use "
      "only. error: value of system-cluster-critical PriorityClass must be 2000000000");
  EXPECT_EQ(
      ErrorsOf(c("system-mine", R"(,"value":1)")),
      "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use "
      "only. error: system-mine is not a known system priority class");
  EXPECT_EQ(ErrorsOf(c("high", R"(,"value":1,"preemptionPolicy":"Maybe")")),
            "preemptionPolicy: Unsupported value: \"Maybe\": supported values: \"PreemptLowerPriority\", "
            "\"Never\"");
  EXPECT_EQ(ErrorsOfUpdate(c("high", R"(,"value":1)"), c("high", R"(,"value":2,"preemptionPolicy":"Never")")),
            "value: Forbidden: may not be changed in an update.\n"
            "preemptionPolicy: Invalid value: \"Never\": field is immutable");
  EXPECT_EQ(ErrorsOfUpdate(c("high", R"(,"value":1)"), c("high", R"(,"value":1,"description":"d")")), "");
  auto without_default = DecodeJson(c("high", R"(,"value":1)"));
  ASSERT_TRUE(without_default.ok());
  EXPECT_EQ(Joined(ValidateUpdate(*Defaulted(c("high", R"(,"value":1)")), *without_default->object)), "");
}

TEST(ValidationRules, Nodes) {
  const Row rows[] = {
      {R"("taints":[{"key":"a","effect":"NoSchedule"},{"key":"a","effect":"NoExecute"}])", ""},
      {R"("podCIDR":"10.244.0.0/24","podCIDRs":["10.244.0.0/24","fd00::/64"])", ""},
      {R"("taints":[{"key":"a","effect":"NoSchedule"},{"key":"a","value":"v","effect":"NoSchedule"}])",
       "metadata.taints[1]: Duplicate value: {\"key\":\"a\",\"value\":\"v\",\"effect\":\"NoSchedule\"}: "
       "taints must "
       "be unique by key and effect pair"},
      {R"("taints":[{"key":"a"}])", "metadata.taints[0].effect: Required value"},
      {R"("taints":[{"key":"a","effect":"Never"}])",
       "metadata.taints[0].effect: Unsupported value: \"Never\": supported values: \"NoSchedule\", "
       "\"PreferNoSchedule\", \"NoExecute\""},
      {R"("taints":[{"key":"a b","effect":"NoSchedule"}])",
       "metadata.taints[0].key: Invalid value: \"a b\": ..."},
      {R"("podCIDR":"10.244.0.1/24","podCIDRs":["10.244.0.1/24"])",
       "spec.podCIDRs[0]: Invalid value: \"10.244.0.1/24\": must not have bits set beyond the prefix length"},
      {R"("podCIDRs":["10.244.0.0/24","10.244.1.0/24"])",
       "spec.podCIDRs: Invalid value: [\"10.244.0.0/24\",\"10.244.1.0/24\"]: may specify no more than one "
       "CIDR for "
       "each IP family"},
  };
  ExpectErrors(rows,
               [](std::string_view spec) { return Object("v1/Node", StrCat(R"(,"spec":{)", spec, "}")); });
}

TEST(ValidationRules, EndpointsAndSlices) {
  const Row rows[] = {
      {R"("addresses":[{"ip":"10.244.0.5","nodeName":"n1"}],"ports":[{"port":80}])", ""},
      {R"("addresses":[{"ip":"web"}])",
       "subsets[0].addresses[0].ip: Invalid value: \"web\": must be a valid IP address, (e.g. 10.9.8.7 or "
       "2001:db8::ffff)"},
      {R"("addresses":[{"ip":"127.0.0.1"}])",
       "subsets[0].addresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range "
       "(127.0.0.0/8, "
       "::1/128)"},
      {R"("notReadyAddresses":[{"ip":"fe80::1"}])",
       "subsets[0].notReadyAddresses[0].ip: Invalid value: \"fe80::1\": may not be in the link-local range "
       "(169.254.0.0/16, fe80::/10)"},
      {R"("addresses":[{"ip":"169.254.1.1"}])",
       "subsets[0].addresses[0].ip: Invalid value: \"169.254.1.1\": may not be in the link-local range "
       "(169.254.0.0/16, fe80::/10)"},
      {R"("addresses":[{"ip":"224.0.0.1"}])",
       "subsets[0].addresses[0].ip: Invalid value: \"224.0.0.1\": may not be in the link-local multicast "
       "range "
       "(224.0.0.0/24, ff02::/10)"},
      {R"("addresses":[{"ip":"0.0.0.0"}])",
       "subsets[0].addresses[0].ip: Invalid value: \"0.0.0.0\": may not be unspecified (0.0.0.0)"},
      {R"("addresses":[{"ip":"10.0.0.1","hostname":"A"}])",
       "subsets[0].addresses[0].hostname: Invalid value: \"A\": a lowercase..."},
      {R"("addresses":[{"ip":"10.0.0.1"}],"ports":[{"port":80},{"name":"b","port":81}])",
       "subsets[0].ports[0].name: Required value"},
      {R"("addresses":[{"ip":"10.0.0.1"}],"ports":[{"port":80,"protocol":"ICMP"}])",
       "subsets[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", "
       "\"UDP\""},
  };
  ExpectErrors(rows, [](std::string_view subset) {
    return Object("v1/Endpoints", StrCat(R"(,"subsets":[{)", subset, "}]"));
  });
  // A cluster for one machine alone: its API server, its pods in the machine's network.
  EXPECT_EQ(
      ErrorsOf(Object("v1/Endpoints", R"(,"subsets":[{"addresses":[{"ip":"127.0.0.1"}]}])", "kubernetes")),
      "");
  EXPECT_EQ(ErrorsOf(Object("v1/Endpoints", R"(,"subsets":[{"addresses":[{"ip":"127.0.0.1","nodeName":"n",)"
                                            R"("targetRef":{"kind":"Pod","name":"p"}}]}])")),
            "");

  const Row slices[] = {
      {R"("addressType":"IPv4","endpoints":[{"addresses":["10.244.0.5"],"nodeName":"n1"}],"ports":[{"port":80}])",
       ""},
      {R"("addressType":"IPv4","endpoints":[{"addresses":["127.0.0.1"],"nodeName":"n","targetRef":{"kind":"Pod"}}])",
       ""},
      {R"("addressType":"FQDN","endpoints":[{"addresses":["db.example.com"]}])", ""},
      {R"("addressType":"FQDN","endpoints":[{"addresses":["db"]}])",
       "endpoints[0].addresses[0]: Invalid value: \"db\": should be a domain with at least two segments "
       "separated "
       "by dots"},
      {R"("addressType":"IPv4","endpoints":[{"addresses":["fd00::5"]}])",
       "endpoints[0].addresses: Invalid value: \"fd00::5\": must be an IPv4 address"},
      {R"("addressType":"IPv6","endpoints":[{"addresses":["::1"]}])",
       "endpoints[0].addresses[0]: Invalid value: \"::1\": may not be in the loopback range (127.0.0.0/8, "
       "::1/128)"},
      {R"("addressType":"IPv4","endpoints":[{"addresses":["10.0.0.1"]}],"ports":[{"name":"a"},{"name":"a"}])",
       "ports[1].name: Duplicate value: \"a\""},
  };
  ExpectErrors(slices, [](std::string_view rest) {
    return Object("discovery.k8s.io/v1/EndpointSlice", StrCat(",", rest));
  });
}

TEST(ValidationRules, SecretTypes) {
  const Row rows[] = {
      {R"("type":"example.com/any")", ""},
      {R"("type":"kubernetes.io/dockerconfigjson","data":{".dockerconfigjson":"eyJhdXRocyI6e319"})", ""},
      {R"("type":"kubernetes.io/dockerconfigjson")", "data[.dockerconfigjson]: Required value"},
      {R"("type":"kubernetes.io/dockerconfigjson","data":{".dockerconfigjson":"eA=="})",
       "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": ..."},
      {R"("type":"kubernetes.io/dockercfg","data":{".dockercfg":"W10="})",
       "data[.dockercfg]: Invalid value: \"<secret contents redacted>\": json: cannot unmarshal array into "
       "Go "
       "value of type map[string]interface {}"},
      {R"("type":"kubernetes.io/basic-auth","data":{"password":""})", ""},
      {R"("type":"kubernetes.io/basic-auth")",
       "data[username]: Required value\ndata[password]: Required value"},
      {R"("type":"kubernetes.io/ssh-auth","data":{"ssh-privatekey":""})",
       "data[ssh-privatekey]: Required value"},
      {R"("type":"kubernetes.io/tls","data":{"a<b&\\":"eA==","tls.crt":"","tls.key":""})",
       "data[a<b&\\]: Invalid value: \"a<b&\\\\\": a valid config key..."},
      {R"("type":"kubernetes.io/tls")", "data[tls.crt]: Required value\ndata[tls.key]: Required value"},
      {R"("type":"kubernetes.io/service-account-token")",
       "metadata.annotations[kubernetes.io/service-account.name]: Required value"},
  };
  ExpectErrors(rows, [](std::string_view rest) { return Object("v1/Secret", StrCat(",", rest)); });
}

}  // namespace
}  // namespace keelson::api
