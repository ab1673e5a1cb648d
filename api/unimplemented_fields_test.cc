#include "api/unimplemented_fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/codec.h"
#include "api/core/v1/pod.pb.h"

namespace keelson::api {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// "path" for a field without effect, "!path" for one that the kubelet refuses.
std::vector<std::string> Of(const std::string& spec, const std::string& path = "spec") {
  auto pod = DecodeJsonAs<::k8s::core::v1::Pod>(R"({"spec":)" + spec + "}");
  EXPECT_TRUE(pod.ok()) << pod.status();
  std::vector<std::string> out;
  for (const UnimplementedField& field : UnimplementedPodFields(pod->spec(), path)) {
    out.push_back((field.refused ? "!" : "") + field.path);
  }
  return out;
}

TEST(UnimplementedFields, UsualPodsSetNone) {
  EXPECT_THAT(
      Of(R"({"os":{"name":"linux"},"hostUsers":true,"hostnameOverride":"h","containers":[{"name":"c",)"
         R"("restartPolicyRules":[{"action":"Restart"}],"ports":[{"containerPort":80}]}],)"
         R"("volumes":[{"name":"a","emptyDir":{}},{"name":"b","configMap":{"name":"x"}}]})"),
      IsEmpty());
}

TEST(UnimplementedFields, NamesWhatIsSet) {
  EXPECT_THAT(Of(R"({"runtimeClassName":"gvisor","resourceClaims":[{"name":"r"}],"hostUsers":false,)"
                 R"("volumes":[{"name":"a","emptyDir":{}},{"name":"n","nfs":{"path":"/","server":"s"}}]})"),
              ElementsAre("!spec.resourceClaims", "spec.volumes[1].nfs"));
  EXPECT_THAT(
      Of(R"({"containers":[{"name":"a"},{"name":"b","ports":[{"hostPort":80}],"env":[{"name":"E","valueFrom":)"
         R"({"fileKeyRef":{"key":"k"}}}]}],"initContainers":[{"name":"i","volumeDevices":[{"devicePath":"/d"}]}]})",
         "spec.template.spec"),
      ElementsAre("!spec.template.spec.containers[1].env[0].valueFrom.fileKeyRef",
                  "!spec.template.spec.initContainers[0].volumeDevices"));
  EXPECT_THAT(Of(R"({"containers":[{"name":"b","ports":[{"hostPort":80}]}]})"), IsEmpty());
  EXPECT_THAT(
      Of(R"({"automountServiceAccountToken":true,"volumes":[{"name":"a","emptyDir":{"medium":"HugePages"}},{"name":"b",)"
         R"("projected":{"sources":[{"configMap":{"name":"c"}},{"serviceAccountToken":{"path":"t"}}]}}],"containers":[)"
         R"({"name":"c","livenessProbe":{"grpc":{"port":1,"mode":"TLS"}},"readinessProbe":{"httpGet":{"port":1,)"
         R"("protocol":"HTTP2"}}}]})"),
      ElementsAre("spec.automountServiceAccountToken", "spec.volumes[0].emptyDir.medium: HugePages",
                  "spec.volumes[1].projected.sources[1].serviceAccountToken",
                  "spec.containers[0].livenessProbe.grpc.mode",
                  "spec.containers[0].readinessProbe.httpGet.protocol"));
  EXPECT_THAT(Of(R"({"automountServiceAccountToken":false})"), IsEmpty());
  // Scheduler and kubelet act on a pod's own resources; nothing resizes in place.
  EXPECT_THAT(Of(R"({"resources":{"requests":{"cpu":"1"}},"schedulingGates":[{"name":"g"}],"containers":[)"
                 R"({"name":"b","resizePolicy":[{"resourceName":"cpu","restartPolicy":"NotRequired"}]}]})"),
              ElementsAre("spec.containers[0].resizePolicy"));
}

}  // namespace
}  // namespace keelson::api
