#include "api/validation.h"

#include <gtest/gtest.h>

#include "api/codec.h"
#include "api/defaults.h"
#include "base/strings.h"

namespace keelson::api {
namespace {

// Decodes, defaults, validates; one error a line.
std::string Check(std::string_view json) {
  auto decoded = DecodeJson(json);
  if (!decoded.ok()) return std::string(decoded.status().message());
  SetDefaults(decoded->object.get());
  std::string out;
  for (const FieldError& error : Validate(*decoded->object))
    StrAppend(&out, out.empty() ? "" : "\n", error.ToString());
  return out;
}

std::string CheckUpdate(std::string_view before, std::string_view after) {
  auto old = DecodeJson(before), now = DecodeJson(after);
  if (!old.ok() || !now.ok()) return "undecodable";
  SetDefaults(old->object.get());
  SetDefaults(now->object.get());
  std::string out;
  for (const FieldError& error : ValidateUpdate(*now->object, *old->object)) {
    StrAppend(&out, out.empty() ? "" : "\n", error.ToString());
  }
  return out;
}

std::string Pod(std::string_view containers, std::string_view rest = "") {
  return StrCat(
      R"({"kind":"Pod","apiVersion":"v1","metadata":{"name":"p","namespace":"d","resourceVersion":"1"},"spec":{"containers":[)",
      containers, "]", rest, "}}");
}

TEST(ValidationTest, Pods) {
  EXPECT_EQ(Check(Pod(R"({"name":"a","image":"i"})")), "");
  EXPECT_EQ(Check(Pod(R"({"name":"a"})")), "spec.containers[0].image: Required value");
  EXPECT_EQ(Check(Pod(R"({"image":"i"})")), "spec.containers[0].name: Required value");
  EXPECT_EQ(Check(Pod("")), "spec.containers: Required value");
  EXPECT_EQ(Check(Pod(R"({"name":"a","image":"i"},{"name":"a","image":"i"})")),
            "spec.containers[1].name: Duplicate value: \"a\"");
  EXPECT_EQ(Check(Pod(R"({"name":"a","image":"i","ports":[{"containerPort":70000}]})")),
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, "
            "inclusive");
  EXPECT_EQ(Check(Pod(R"({"name":"a","image":"i","volumeMounts":[{"name":"v","mountPath":"/x"}]})")),
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"");
  EXPECT_EQ(Check(Pod(R"({"name":"a","image":"i"})", R"(,"hostUsers":false)")), "");
  EXPECT_EQ(Check(Pod(R"({"name":"a","image":"i"})", R"(,"hostUsers":true,"hostPID":true)")), "");
  EXPECT_EQ(Check(Pod(R"({"name":"a","image":"i"})",
                      R"(,"hostUsers":false,"hostNetwork":true,"hostPID":true,"hostIPC":true)")),
            "spec.hostNetwork: Forbidden: when `hostUsers` is false\n"
            "spec.HostPID: Forbidden: when `hostUsers` is false\n"
            "spec.HostIPC: Forbidden: when `hostUsers` is false");
  EXPECT_EQ(Check(Pod(R"({"name":"a","image":"i","volumeDevices":[{"name":"b","devicePath":"/dev/b"}]})",
                      R"(,"hostUsers":false)")),
            "spec.containers[0].volumeDevices: Forbidden: when `hostUsers` is false");
  const std::string unmasked = R"({"name":"a","image":"i","securityContext":{"procMount":"Unmasked"}})";
  EXPECT_EQ(Check(Pod(unmasked, R"(,"hostUsers":false)")), "");
  EXPECT_EQ(
      Check(Pod(unmasked)),
      "spec.containers[0].securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false "
      "to use `Unmasked`");
  EXPECT_EQ(Check(Pod(R"({"name":"a","image":"i","securityContext":{"procMount":"Other"}})")),
            "spec.containers[0].securityContext.procMount: Unsupported value: \"Other\": supported values: "
            "\"Default\", \"Unmasked\"");
  EXPECT_EQ(Check(Pod(R"({"name":"a","image":"i"})", R"(,"restartPolicy":"Sometimes")")),
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Never\", "
            "\"OnFailure\"");
  EXPECT_EQ(Check(Pod(R"({"name":"a","image":"i","livenessProbe":{}})")),
            "spec.containers[0].livenessProbe: Required value: must specify a handler type");
  EXPECT_EQ(
      Check(Pod(R"({"name":"a","image":"i","resources":{"requests":{"cpu":"2"},"limits":{"cpu":"1"}}})")),
      "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit "
      "of 1");
}

TEST(ValidationTest, NamesAndLabels) {
  EXPECT_EQ(Check(R"({"kind":"ConfigMap","apiVersion":"v1","metadata":{"namespace":"d"}})"),
            "metadata.name: Required value: name or generateName is required");
  std::string upper =
      Check(R"({"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"UPPER","namespace":"d"}})");
  EXPECT_EQ(
      upper.find("metadata.name: Invalid value: \"UPPER\": a lowercase RFC 1123 subdomain must consist of"),
      0u)
      << upper;
  std::string label = Check(
      R"({"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","namespace":"d","labels":{"a":"b c"}}})");
  EXPECT_EQ(label.find("metadata.labels: Invalid value: \"b c\": a valid label must be"), 0u) << label;
}

TEST(ValidationTest, ReplicationControllers) {
  auto controller = [](std::string_view spec) {
    return StrCat(
        R"({"kind":"ReplicationController","apiVersion":"v1","metadata":{"name":"r","namespace":"d"},"spec":)",
        spec, "}");
  };
  EXPECT_EQ(
      Check(controller(
          R"({"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"a","image":"i"}]}}})")),
      "");
  EXPECT_EQ(
      Check(controller(
          R"({"replicas":-1,"selector":{"a":"c"},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"a","image":"i"}]}}})")),
      "spec.replicas: Invalid value: -1: must be greater than or equal to 0\n"
      "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template "
      "`labels`");
  EXPECT_EQ(Check(controller(R"({"selector":{"a":"b"}})")), "spec.template: Required value");
}

TEST(ValidationTest, Services) {
  auto service = [](std::string_view spec) {
    return StrCat(
        R"({"kind":"Service","apiVersion":"v1","metadata":{"name":"s","namespace":"d","resourceVersion":"1"},"spec":)",
        spec, "}");
  };
  EXPECT_EQ(Check(service(R"({"type":"NodePort","ports":[{"port":8080,"nodePort":30001}]})")), "");
  EXPECT_EQ(Check(service(R"({})")), "spec.ports: Required value");
  EXPECT_EQ(Check(service(R"({"ports":[{"port":0,"targetPort":80}]})")),
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive");
  EXPECT_EQ(Check(service(R"({"ports":[{"port":80,"nodePort":30001}]})")),
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'");
  EXPECT_EQ(Check(service(R"({"ports":[{"port":80},{"port":81}]})")),
            "spec.ports[0].name: Required value\nspec.ports[1].name: Required value");
  EXPECT_NE(Check(service(R"({"ports":[{"port":"8080 nodePort:30001"}]})")).find("spec.ports[0].port"),
            std::string::npos);
  EXPECT_NE(Check(service(R"({"ports":[{"port":"8080 nodePort:30001"}]})")).find("8080 nodePort:30001"),
            std::string::npos);
  EXPECT_EQ(CheckUpdate(service(R"({"clusterIP":"10.96.0.5","ports":[{"port":80}]})"),
                        service(R"({"clusterIP":"10.96.0.6","ports":[{"port":80}]})")),
            "spec.clusterIPs[0]: Invalid value: [\"10.96.0.6\"]: may not change once set");
}

TEST(ValidationTest, PodUpdates) {
  EXPECT_EQ(CheckUpdate(Pod(R"({"name":"a","image":"i"})"), Pod(R"({"name":"a","image":"j"})")), "");
  EXPECT_EQ(CheckUpdate(Pod(R"({"name":"a","image":"i"})"), Pod(R"({"name":"a","image":"i","tty":true})"))
                .find("spec: Forbidden: pod updates may not change fields other than"),
            0u);
}

TEST(ValidationTest, ImmutableConfig) {
  auto config = [](std::string_view rest) {
    return StrCat(
        R"({"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"c","namespace":"d","resourceVersion":"1"},)",
        rest, "}");
  };
  EXPECT_EQ(CheckUpdate(config(R"("immutable":true,"data":{"a":"1"})"),
                        config(R"("immutable":true,"data":{"a":"2"})")),
            "data: Forbidden: field is immutable when `immutable` is set");
  EXPECT_EQ(CheckUpdate(config(R"("data":{"a":"1"})"), config(R"("data":{"a":"2"})")), "");
}

TEST(ValidationTest, RuntimeClasses) {
  auto c = [](std::string_view rest) {
    return StrCat(
        R"({"kind":"RuntimeClass","apiVersion":"node.k8s.io/v1","metadata":{"name":"c","resourceVersion":"1"},)",
        rest, "}");
  };
  EXPECT_EQ(Check(c(R"("handler":"crun","overhead":{"podFixed":{"memory":"8Mi"}})")), "");
  EXPECT_EQ(
      Check(c(R"("handler":"Crun!")")).find("handler: Invalid value: \"Crun!\": a lowercase RFC 1123 label"),
      0u);
  EXPECT_EQ(Check(c(R"("handler":"crun","overhead":{"podFixed":{"memory":"-1"}})")),
            "overhead.podFixed[memory]: Invalid value: \"-1\": must be greater than or equal to 0");
  EXPECT_EQ(CheckUpdate(c(R"("handler":"crun")"), c(R"("handler":"runc")")),
            "handler: Invalid value: \"runc\": field is immutable");
}

TEST(DefaultsTest, AreIdempotentAndAsUpstream) {
  auto decoded = DecodeJson(Pod(
      R"({"name":"a","image":"nginx:latest","ports":[{"containerPort":80}],"resources":{"limits":{"cpu":"1"}}})"));
  ASSERT_TRUE(decoded.ok());
  SetDefaults(decoded->object.get());
  std::string once = EncodeJson(*decoded->object);
  SetDefaults(decoded->object.get());
  EXPECT_EQ(EncodeJson(*decoded->object), once);
  for (const char* part :
       {R"("imagePullPolicy":"Always")", R"("dnsPolicy":"ClusterFirst")", R"("restartPolicy":"Always")",
        R"("terminationGracePeriodSeconds":30)", R"("protocol":"TCP")", R"("requests":{"cpu":"1"})",
        R"("enableServiceLinks":true)", R"("schedulerName":"default-scheduler")"}) {
    EXPECT_NE(once.find(part), std::string::npos) << part << " in " << once;
  }
}

}  // namespace
}  // namespace keelson::api
