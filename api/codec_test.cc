#include "api/codec.h"

#include <gtest/gtest.h>

#include "api/apps/v1/apps.pb.h"
#include "api/authentication/v1/authentication.pb.h"
#include "api/autoscaling/v1/autoscaling.pb.h"
#include "api/core/v1/config.pb.h"
#include "api/core/v1/endpoints.pb.h"
#include "api/core/v1/event.pb.h"
#include "api/core/v1/pod.pb.h"
#include "api/core/v1/replication_controller.pb.h"
#include "api/core/v1/service.pb.h"
#include "api/json_text.h"
#include "api/kubeconfig/v1/kubeconfig.pb.h"
#include "api/kubelet/config/v1beta1/kubelet_config.pb.h"
#include "api/meta/v1/discovery.pb.h"
#include "api/meta/v1/table.pb.h"
#include "api/policy/v1/policy.pb.h"
#include "api/status_error.h"

namespace keelson::api {
namespace {

using ::k8s::core::v1::Pod;
using ::k8s::core::v1::Service;

// Decodes and encodes again.
std::string Again(std::string_view json) {
  auto decoded = DecodeJson(json);
  return decoded.ok() ? EncodeJson(*decoded->object) : "error: " + std::string(decoded.status().message());
}

std::vector<std::string> StrictErrors(std::string_view json) {
  auto decoded = DecodeJson(json);
  EXPECT_TRUE(decoded.ok()) << decoded.status();
  return decoded.ok() ? decoded->strict_errors : std::vector<std::string>{};
}

std::string ErrorOf(std::string_view json) {
  auto decoded = DecodeJson(json);
  return decoded.ok() ? "no error" : std::string(decoded.status().message());
}

TEST(JsonEncode, EmptyPodAsUpstreamWritesIt) {
  EXPECT_EQ(EncodeJson(Pod()),
            R"({"kind":"Pod","apiVersion":"v1","metadata":{},"spec":{"containers":null},"status":{}})");
}

TEST(JsonEncode, AlwaysPresentFields) {
  EXPECT_EQ(EncodeJson(Service()),
            R"({"kind":"Service","apiVersion":"v1","metadata":{},"spec":{},"status":{"loadBalancer":{}}})");
  Service service;
  service.mutable_spec()->add_ports()->set_port(80);
  EXPECT_EQ(EncodeJson(service),
            R"({"kind":"Service","apiVersion":"v1","metadata":{},)"
            R"("spec":{"ports":[{"port":80,"targetPort":0}]},"status":{"loadBalancer":{}}})");
  EXPECT_EQ(EncodeJson(::k8s::core::v1::PodList()),
            R"({"kind":"PodList","apiVersion":"v1","metadata":{},"items":[]})");
  EXPECT_EQ(
      EncodeJson(::k8s::core::v1::Event()),
      R"({"kind":"Event","apiVersion":"v1","metadata":{},"involvedObject":{},"source":{},"firstTimestamp":null,)"
      R"("lastTimestamp":null,"eventTime":null,"reportingComponent":"","reportingInstance":""})");
  EXPECT_EQ(
      EncodeJson(::k8s::core::v1::ReplicationController()),
      R"({"kind":"ReplicationController","apiVersion":"v1","metadata":{},"spec":{},"status":{"replicas":0}})");
  EXPECT_EQ(EncodeJson(::k8s::apps::v1::Deployment()),
            R"({"kind":"Deployment","apiVersion":"apps/v1","metadata":{},"spec":{"selector":null,)"
            R"("template":{"metadata":{},"spec":{"containers":null}},"strategy":{}},"status":{}})");
}

TEST(JsonEncode, ScalarsAndSpecialTypes) {
  Pod pod;
  pod.mutable_metadata()->set_name("a<b>&\"\\\n\x01\xe2\x80\xa8\xff");
  pod.mutable_metadata()->set_generation(9007199254740993);
  pod.mutable_metadata()->mutable_creation_timestamp()->set_seconds(1795378009);
  (*pod.mutable_metadata()->mutable_labels())["b"] = "2";
  (*pod.mutable_metadata()->mutable_labels())["a"] = "1";
  pod.mutable_spec()->set_termination_grace_period_seconds(0);
  pod.mutable_spec()->set_enable_service_links(false);
  EXPECT_EQ(EncodeJson(pod),
            "{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":"
            "\"a\\u003cb\\u003e\\u0026\\\"\\\\\\n\\u0001"
            "\\u2028\\ufffd\",\"generation\":9007199254740993,\"creationTimestamp\":\"2026-11-22T20:06:49Z\","
            "\"labels\":{\"a\":\"1\",\"b\":\"2\"}},\"spec\":{\"containers\":null,"
            "\"terminationGracePeriodSeconds\":0,"
            "\"enableServiceLinks\":false},\"status\":{}}");
}

TEST(JsonEncode, BrokenRawTextBecomesNull) {
  ::k8s::meta::v1::TableRow row;
  row.add_cells("\"web\"");
  row.add_cells("3");
  row.add_cells("}{");
  row.mutable_object()->set_raw("{\"kind\":\"Pod\"");
  EXPECT_EQ(EncodeJson(row), R"({"cells":["web",3,null],"object":null})");
}

TEST(JsonEncode, Discovery) {
  ::k8s::meta::v1::APIResourceList list;
  list.set_group_version("v1");
  auto* r = list.add_resources();
  r->set_name("pods");
  r->mutable_verbs()->add_items("get");
  EXPECT_EQ(EncodeJson(list),
            R"({"kind":"APIResourceList","apiVersion":"v1","groupVersion":"v1","resources":[)"
            R"({"name":"pods","singularName":"","namespaced":false,"kind":"","verbs":["get"]}]})");
}

TEST(JsonDecode, RoundTrips) {
  for (
      const char* json : {
          R"({"kind":"Pod","apiVersion":"v1","metadata":{"name":"web"},"spec":{"volumes":[{"name":"v","emptyDir":{}}],"containers":[{"name":"c","image":"i","resources":{"limits":{"cpu":"100m","memory":"1Gi"}},"livenessProbe":{"httpGet":{"port":"http"},"periodSeconds":5}}]},"status":{}})",
          R"({"kind":"Secret","apiVersion":"v1","metadata":{"name":"s"},"data":{"k":"AAEC/w=="},"type":"Opaque"})",
          R"({"kind":"Endpoints","apiVersion":"v1","metadata":{"name":"e"},"subsets":[{"addresses":[{"ip":"10.0.0.1"}],"ports":[{"port":80}]}]})",
          R"({"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","metadata":{},"spec":{"token":"t"},"status":{"user":{"extra":{"a":["b","c"]}}}})",
          R"({"kind":"Eviction","apiVersion":"policy/v1","metadata":{"name":"p"},"deleteOptions":{"gracePeriodSeconds":0}})",
          R"({"kind":"Scale","apiVersion":"autoscaling/v1","metadata":{"name":"p"},"spec":{"replicas":3},"status":{"replicas":0}})",
          R"({"kind":"PodDisruptionBudget","apiVersion":"policy/v1","metadata":{"name":"p"},"spec":{"minAvailable":"50%"},"status":{"disruptedPods":{"a":"2026-01-02T03:04:05Z"},"disruptionsAllowed":0,"currentHealthy":0,"desiredHealthy":0,"expectedPods":0}})",
          R"({"kind":"Pod","apiVersion":"v1","metadata":{"name":"m","managedFields":[{"manager":"kubectl","operation":"Update","apiVersion":"v1","time":"2026-01-02T03:04:05Z","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:x":{}}}}]},"spec":{"containers":null},"status":{}})",
      }) {
    EXPECT_EQ(Again(json), json);
  }
}

TEST(JsonDecode, UnknownAndDuplicateFields) {
  EXPECT_EQ(
      StrictErrors(
          R"({"kind":"Pod","apiVersion":"v1","bogus":1,"spec":{"foo":{"x":1},"containers":[{"nam":"c"}]}})"),
      (std::vector<std::string>{"unknown field \"bogus\"", "unknown field \"spec.foo\"",
                                "unknown field \"spec.containers[0].nam\""}));
  EXPECT_EQ(
      StrictErrors(
          R"({"kind":"Pod","kind":"Pod","apiVersion":"v1","metadata":{"labels":{"a":"1","a":"2"}},"spec":{"nodeName":"x","nodeName":"y"}})"),
      (std::vector<std::string>{"duplicate field \"kind\"", "duplicate field \"metadata.labels.a\"",
                                "duplicate field \"spec.nodeName\""}));
  EXPECT_EQ(
      Again(
          R"({"kind":"Service","apiVersion":"v1","spec":{"ports":[{"port":1}],"ports":[{"port":2}],"type":"A","type":"B"}})"),
      R"({"kind":"Service","apiVersion":"v1","metadata":{},"spec":{"ports":[{"port":2,"targetPort":0}],"type":"B"},"status":{"loadBalancer":{}}})");
  // Names are case-sensitive; inline structs have no name of their own.
  EXPECT_EQ(
      StrictErrors(R"({"kind":"Pod","apiVersion":"v1","Spec":{},"spec":{"volumes":[{"volume_source":{}}]}})")
          .size(),
      2u);
  // kind and apiVersion are known where a type carries them, unknown where not.
  EXPECT_TRUE(
      StrictErrors(R"({"kind":"PodList","apiVersion":"v1","items":[{"kind":"Pod","apiVersion":"v1"}]})")
          .empty());
  EXPECT_EQ(StrictErrors(R"({"kind":"Pod","apiVersion":"v1","spec":{"kind":"x"}})").size(), 1u);
  EXPECT_EQ(StrictError(Scheme::Get().Of<Pod>(), {"unknown field \"a\"", "unknown field \"b\""}).message(),
            "Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: unknown field \"a\", "
            "unknown field "
            "\"b\"");
}

TEST(JsonDecode, TypeErrorsNameFieldAndValue) {
  EXPECT_EQ(
      ErrorOf(R"({"kind":"Service","apiVersion":"v1","spec":{"ports":[{"port":"8080 nodePort:30001"}]}})"),
      "Service in version \"v1\" cannot be handled as a Service: json: cannot unmarshal string \"8080 "
      "nodePort:30001\" into field spec.ports[0].port of type int32 (is a space missing after the colon of "
      "\"nodePort:30001\"?)");
  for (
      const char* bad : {
          R"({"kind":"Pod","apiVersion":"v1","spec":{"containers":{}}})",
          R"({"kind":"Pod","apiVersion":"v1","spec":{"containers":["x"]}})",
          R"({"kind":"Pod","apiVersion":"v1","spec":[]})",
          R"({"kind":"Pod","apiVersion":"v1","spec":{"hostNetwork":"true"}})",
          R"({"kind":"Pod","apiVersion":"v1","spec":{"nodeName":7}})",
          R"({"kind":"Pod","apiVersion":"v1","spec":{"priority":1.5}})",
          R"({"kind":"Pod","apiVersion":"v1","spec":{"priority":2147483648}})",
          R"({"kind":"Pod","apiVersion":"v1","metadata":{"generation":9223372036854775808}})",
          R"({"kind":"Pod","apiVersion":"v1","metadata":{"creationTimestamp":"yesterday"}})",
          R"({"kind":"Pod","apiVersion":"v1","metadata":{"labels":{"a":1}}})",
          R"({"kind":"Pod","apiVersion":"v1","spec":{"containers":[{"resources":{"limits":{"cpu":"lots"}}}]}})",
          R"({"kind":"Secret","apiVersion":"v1","data":{"a":"!!"}})",
          R"({"kind":1,"apiVersion":"v1"})",
          R"([])",
          R"("x")",
          R"({"kind":"Pod","apiVersion":"v1"} x)",
          R"({"kind":"Pod","apiVersion":"v1",})",
          R"({"kind":"Nope","apiVersion":"v1"})",
          R"({"kind":"Pod","apiVersion":"v2"})",
          R"({"apiVersion":"v1"})",
          "",
      }) {
    const std::string error = ErrorOf(bad);
    EXPECT_NE(error, "no error") << bad;
  }
  EXPECT_NE(ErrorOf(R"({"kind":"Pod","apiVersion":"v1","spec":{"priority":1.5}})").find("spec.priority"),
            std::string::npos);
  EXPECT_NE(ErrorOf("{\n  \"kind\": Pod\n}").find("line 2"), std::string::npos);
  EXPECT_TRUE(IsBadRequest(DecodeJson("{").status()));
  EXPECT_EQ(HttpCode(DecodeJson(std::string(kMaxObjectBytes + 1, ' ')).status()), 413);
}

TEST(JsonDecode, NullIsTheZeroValue) {
  EXPECT_EQ(
      Again(
          R"({"kind":"Pod","apiVersion":"v1","metadata":{"creationTimestamp":null,"labels":null},"spec":{"containers":[null],"nodeName":null,"priority":null,"affinity":null},"status":null})"),
      R"({"kind":"Pod","apiVersion":"v1","metadata":{},"spec":{"containers":[{"name":"","resources":{}}]},"status":{}})");
  EXPECT_EQ(Again(R"({"kind":"ConfigMap","apiVersion":"v1","data":{"a":null}})"),
            R"({"kind":"ConfigMap","apiVersion":"v1","metadata":{},"data":{"a":""}})");
}

TEST(JsonDecode, DepthIsBounded) {
  const std::string deep =
      R"({"kind":"Pod","apiVersion":"v1","x":)" + std::string(5000, '[') + std::string(5000, ']') + "}";
  EXPECT_FALSE(DecodeJson(deep).ok());
  EXPECT_FALSE(CheckJson(std::string(100000, '['), kMaxJsonDepth));
}

TEST(JsonDecode, QuantitiesAndNumbers) {
  auto pod = DecodeJsonAs<Pod>(
      R"({"spec":{"containers":[{"resources":{"requests":{"cpu":0.5,"memory":1073741824,"x":"1024Mi"}}}],"volumes":[{"emptyDir":{"sizeLimit":"1024Mi"}}]}})");
  ASSERT_TRUE(pod.ok()) << pod.status();
  const auto& requests = pod->spec().containers(0).resources().requests();
  EXPECT_EQ(requests.at("cpu").string(), "500m");
  EXPECT_EQ(requests.at("memory").string(), "1073741824");
  EXPECT_EQ(requests.at("x").string(), "1Gi");
  EXPECT_EQ(pod->spec().volumes(0).volume_source().empty_dir().size_limit().string(), "1024Mi");
}

TEST(JsonDecode, EmptyStructsAreKeptAbsent) {
  auto pod = DecodeJsonAs<Pod>(
      R"({"metadata":{},"spec":{"volumes":[{"emptyDir":{}}],"containers":[{"resources":{}}],"securityContext":{}},"status":{}})");
  ASSERT_TRUE(pod.ok());
  EXPECT_FALSE(pod->has_metadata());
  EXPECT_FALSE(pod->has_status());
  EXPECT_FALSE(pod->spec().containers(0).has_resources());
  EXPECT_TRUE(pod->spec().has_security_context());  // a pointer in Go
  EXPECT_TRUE(pod->spec().volumes(0).volume_source().has_empty_dir());
}

TEST(JsonDecode, ConfigurationTypes) {
  std::vector<std::string> strict;
  auto config = DecodeJsonAs<::k8s::kubelet::config::v1beta1::KubeletConfiguration>(
      R"({"kind":"KubeletConfiguration","apiVersion":"kubelet.config.k8s.io/v1beta1","syncFrequency":"1m30s","maxPods":20,"evictionHard":{"memory.available":"100Mi"},"staticPodURLHeader":{"a":["b"]},"memoryThrottlingFactor":0.9,"logging":{"format":"json"},"nope":1})",
      &strict);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->sync_frequency().duration(), 90'000'000'000);
  EXPECT_EQ(config->static_pod_url_header().at("a").items(0), "b");
  EXPECT_DOUBLE_EQ(config->memory_throttling_factor(), 0.9);
  EXPECT_EQ(strict, std::vector<std::string>{"unknown field \"nope\""});
  auto kubeconfig = DecodeJsonAs<::k8s::kubeconfig::v1::Config>(
      R"({"kind":"Config","apiVersion":"v1","clusters":[{"name":"a","cluster":{"server":"https://x","certificate-authority-data":"AAEC"}}],"current-context":"a"})");
  ASSERT_TRUE(kubeconfig.ok()) << kubeconfig.status();
  EXPECT_EQ(kubeconfig->clusters(0).cluster().certificate_authority_data(), std::string("\0\1\2", 3));
  EXPECT_EQ(kubeconfig->current_context(), "a");
}

TEST(Protobuf, EnvelopeBothWays) {
  Pod pod;
  pod.mutable_metadata()->set_name("web");
  const std::string bytes = EncodeProtobuf(pod);
  EXPECT_TRUE(IsProtobufEnvelope(bytes));
  // Magic, Unknown{TypeMeta{"v1","Pod"}, raw{ObjectMeta{name}}, "", ""}.
  EXPECT_EQ(bytes,
            std::string("k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x07\x0a\x05\x0a\x03web\x1a\x00\x22\x00", 28));
  auto decoded = DecodeProtobuf(bytes);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(EncodeJson(*decoded->object), EncodeJson(pod));
  EXPECT_FALSE(DecodeProtobuf("k8s").ok());
  EXPECT_FALSE(DecodeProtobuf(bytes.substr(0, 20)).ok());
  EXPECT_FALSE(DecodeProtobuf(WrapProtobuf("v1", "Pod", "\xff\xff")).ok());
  EXPECT_FALSE(DecodeProtobuf(WrapProtobuf("v1", "Nope", "")).ok());
}

TEST(Protobuf, UnknownFieldsAreDropped) {
  auto decoded = DecodeProtobuf(WrapProtobuf("v1", "Pod", std::string("\xf8\x3f\x01", 3)));  // field 1023
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(decoded->object->ByteSizeLong(), 0u);
}

TEST(DecodeObject, ByContentType) {
  EXPECT_TRUE(DecodeObject(R"({"kind":"Pod","apiVersion":"v1"})", "application/json; charset=utf-8").ok());
  EXPECT_TRUE(DecodeObject("kind: Pod\napiVersion: v1\n", "application/yaml").ok());
  EXPECT_TRUE(DecodeObject("kind: Pod\napiVersion: v1\n", "").ok());
  EXPECT_TRUE(DecodeObject(EncodeProtobuf(Pod()), "application/vnd.kubernetes.protobuf").ok());
  EXPECT_TRUE(DecodeObject(EncodeProtobuf(Pod()), "").ok());
  EXPECT_EQ(HttpCode(DecodeObject("x", "text/html").status()), 415);
  EXPECT_EQ(HttpCode(DecodeObject("a: [", "application/yaml").status()), 400);
  DecodeOptions options;
  options.default_type = &Scheme::Get().Of<Pod>();
  EXPECT_TRUE(DecodeObject(R"({"spec":{}})", "application/json", options).ok());
}

TEST(Scheme, LooksUp) {
  const Scheme& scheme = Scheme::Get();
  const TypeInfo* pod = scheme.ByKind("v1", "Pod");
  ASSERT_NE(pod, nullptr);
  EXPECT_EQ(pod->plural, "pods");
  EXPECT_EQ(pod->singular, "pod");
  EXPECT_EQ(pod->short_names, std::vector<std::string>{"po"});
  EXPECT_EQ(pod->list->gvk.kind, "PodList");
  EXPECT_EQ(pod->list->item, pod);
  EXPECT_TRUE(pod->namespaced);
  EXPECT_EQ(scheme.ByResource({"", "v1", "pods"}), pod);
  EXPECT_EQ(scheme.ByResource({"apps", "v1", "deployments"})->gvk.kind, "Deployment");
  EXPECT_FALSE(scheme.ByResource({"", "v1", "nodes"})->namespaced);
  EXPECT_EQ(scheme.ByKind("v1", "pod"), nullptr);
  EXPECT_NE(scheme.ByKind("policy/v1", "DeleteOptions"), nullptr);
  EXPECT_EQ(scheme.ByKind("apps/v1", "Pod"), nullptr);
}

TEST(JsonText, PrettyAndCheck) {
  EXPECT_EQ(PrettyJson(R"({"a":[1,{"b":"x,{y"}],"c":{},"d":[]})"),
            "{\n  \"a\": [\n    1,\n    {\n      \"b\": \"x,{y\"\n    }\n  ],\n  \"c\": {},\n  \"d\": []\n}");
  for (const char* good : {"1", "-1.5e+3", "\"\\u00e9\"", "[]", "{\"a\":null}", " true "})
    EXPECT_TRUE(CheckJson(good, 10)) << good;
  for (const char* bad :
       {"", "01", "1.", "+1", "[1,]", "{\"a\"}", "{a:1}", "\"\\x\"", "\"\n\"", "nul", "[", "1 2"}) {
    EXPECT_FALSE(CheckJson(bad, 10)) << bad;
  }
}

}  // namespace
}  // namespace keelson::api
