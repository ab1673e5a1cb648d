// The API over HTTP without sockets: paths, queries, media types, errors.
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "api/codec.h"
#include "base/fd.h"
#include "base/strings.h"
#include "master/apiserver/testing/fixture.h"
#include "net/http_server.h"

namespace keelson::master {
namespace {

using AnyJson = nlohmann::json;

// tests/golden/apiserver/NAME; rewritten when KEELSON_UPDATE_GOLDEN is set (hack/update-golden).
void ExpectGolden(const std::string& name, const std::string& text) {
  std::string path = "tests/golden/apiserver/" + name;
  if (std::getenv("KEELSON_UPDATE_GOLDEN") != nullptr) {
    ASSERT_TRUE(MakeDirs("tests/golden/apiserver").ok());
    ASSERT_TRUE(WriteFileAtomic(path, text, 0644, false).ok());
    return;
  }
  absl::StatusOr<std::string> golden = ReadFile(path);
  ASSERT_TRUE(golden.ok()) << golden.status();
  EXPECT_EQ(*golden, text) << path;
}

struct Options {
  std::string accept, content_type = "application/json", body;
  std::string user = "admin";
  std::vector<std::string> groups = {"system:masters"};
};

class HttpTest : public ApiServerTest {
 protected:
  net::HttpRequest Request(const std::string& method, const std::string& target, const Options& o) {
    net::HttpRequest request;
    request.method = method;
    request.target = *net::HttpTarget::Parse(target);
    request.body = o.body;
    if (!o.accept.empty()) request.headers.Add("Accept", o.accept);
    if (!o.body.empty()) request.headers.Add("Content-Type", o.content_type);
    if (!o.user.empty()) {
      auto certificate = std::make_shared<net::PeerCertificate>();
      certificate->verified = true;
      certificate->common_name = o.user;
      certificate->organizations = o.groups;
      request.peer_certificate = certificate;
    }
    return request;
  }
  // Fills `writer`.
  void Send(const std::string& method, const std::string& target, Options o = {}) {
    writer = std::make_unique<net::RecordingResponseWriter>();
    env_.AwaitVoid(server_->handler().Handle(Request(method, target, o), *writer));
  }
  std::string Text(const std::string& method, const std::string& target, Options o = {}) {
    Send(method, target, std::move(o));
    return writer->body;
  }
  AnyJson Answer(const std::string& method, const std::string& target, Options o = {}) {
    return AnyJson::parse(Text(method, target, std::move(o)), nullptr, false);
  }
  Options Body(const AnyJson& json) {
    Options o;
    o.body = json.dump();
    return o;
  }
  static AnyJson ConfigMapJson(const std::string& name) {
    return {
        {"apiVersion", "v1"}, {"kind", "ConfigMap"}, {"metadata", {{"name", name}}}, {"data", {{"k", "v"}}}};
  }

  std::unique_ptr<net::RecordingResponseWriter> writer;
};

constexpr char kConfigMaps[] = "/api/v1/namespaces/default/configmaps";

TEST_F(HttpTest, CrudInJson) {
  AnyJson made = Answer("POST", kConfigMaps, Body(ConfigMapJson("c")));
  EXPECT_EQ(writer->status, 201);
  EXPECT_EQ(made["kind"], "ConfigMap");
  EXPECT_EQ(made["apiVersion"], "v1");
  EXPECT_EQ(made["metadata"]["namespace"], "default");
  AnyJson got = Answer("GET", std::string(kConfigMaps) + "/c");
  EXPECT_EQ(got, made);
  AnyJson list = Answer("GET", "/api/v1/configmaps?labelSelector=x%21%3Dy");
  EXPECT_EQ(list["kind"], "ConfigMapList");
  ASSERT_EQ(list["items"].size(), 1u);
  EXPECT_FALSE(list["items"][0].contains("kind"));
  made["data"]["k"] = "w";
  AnyJson put = Answer("PUT", std::string(kConfigMaps) + "/c", Body(made));
  EXPECT_EQ(put["data"]["k"], "w");
  Options patch;
  patch.content_type = "application/merge-patch+json";
  patch.body = R"({"data":{"k":null,"j":"1"}})";
  EXPECT_EQ(Answer("PATCH", std::string(kConfigMaps) + "/c", patch)["data"].dump(), R"({"j":"1"})");
  patch.content_type = "text/plain";
  Send("PATCH", std::string(kConfigMaps) + "/c", patch);
  EXPECT_EQ(writer->status, 415);
  AnyJson gone = Answer("DELETE", std::string(kConfigMaps) + "/c");
  EXPECT_EQ(gone["kind"], "Status");
  EXPECT_EQ(gone["status"], "Success");
  EXPECT_EQ(gone["details"]["kind"], "configmaps");
  AnyJson missing = Answer("GET", std::string(kConfigMaps) + "/c");
  EXPECT_EQ(writer->status, 404);
  EXPECT_EQ(missing["reason"], "NotFound");
  EXPECT_EQ(missing["details"]["name"], "c");
}

TEST_F(HttpTest, YamlAndProtobuf) {
  Options yaml;
  yaml.content_type = "application/yaml";
  yaml.accept = "application/yaml";
  yaml.body = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: in-yaml}\n";
  std::string text = Text("POST", kConfigMaps, yaml);
  EXPECT_EQ(writer->status, 201) << text;
  EXPECT_NE(text.find("kind: ConfigMap"), std::string::npos) << text;

  Options proto;
  proto.accept = proto.content_type = "application/vnd.kubernetes.protobuf";
  proto.body = api::EncodeProtobuf(PodNamed("p"));
  auto pod = api::DecodeProtobuf(Text("POST", "/api/v1/namespaces/default/pods", proto));
  EXPECT_EQ(writer->headers.Get("Content-Type"), "application/vnd.kubernetes.protobuf");
  ASSERT_TRUE(pod.ok()) << pod.status();
  proto.body.clear();
  auto list = api::DecodeProtobuf(Text("GET", "/api/v1/pods", proto));
  ASSERT_TRUE(list.ok()) << list.status();
  const auto& pods = static_cast<const core::PodList&>(*list->object);
  ASSERT_EQ(pods.items_size(), 1);
  EXPECT_EQ(pods.items(0).SerializeAsString(), pod->object->SerializeAsString());
}

TEST_F(HttpTest, WhoMayDoWhat) {
  Options nobody;
  nobody.user.clear();
  for (const char* path : {"/livez", "/readyz", "/version"}) {
    Send("GET", path, nobody);
    EXPECT_EQ(writer->status, 200) << path;
  }
  for (const char* path : {"/healthz", "/metrics"}) {
    Send("GET", path, nobody);
    EXPECT_EQ(writer->status, 401) << path;
  }
  AnyJson refused = Answer("GET", "/api/v1/pods", nobody);
  EXPECT_EQ(writer->status, 401);
  EXPECT_EQ(refused["reason"], "Unauthorized");
  Options jane;
  jane.user = "jane";
  jane.groups = {};
  EXPECT_EQ(Answer("GET", "/api/v1/namespaces/default/pods", jane)["message"],
            "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the "
            "namespace \"default\"");
  EXPECT_EQ(writer->status, 403);
  EXPECT_EQ(Answer("GET", "/api/v1/nodes/n1", jane)["message"],
            "nodes \"n1\" is forbidden: User \"jane\" cannot get resource \"nodes\" in API group \"\" at the "
            "cluster scope");
  Send("GET", "/apis", jane);
  EXPECT_EQ(writer->status, 200);
  net::HttpRequest bad = Request("GET", "/version", {});
  auto certificate = std::make_shared<net::PeerCertificate>();
  certificate->common_name = "admin";
  bad.peer_certificate = certificate;  // not verified
  writer = std::make_unique<net::RecordingResponseWriter>();
  env_.AwaitVoid(server_->handler().Handle(bad, *writer));
  EXPECT_EQ(writer->status, 401);
}

TEST_F(HttpTest, EveryWriteNamesFieldsThatHaveNoEffect) {
  const std::string rcs = "/api/v1/namespaces/default/replicationcontrollers";
  AnyJson container = {{"name", "c"}, {"image", "i"}};
  AnyJson spread = {{"maxSkew", 1}, {"topologyKey", "zone"}, {"whenUnsatisfiable", "ScheduleAnyway"}};
  AnyJson rc = {{"apiVersion", "v1"},
                {"kind", "ReplicationController"},
                {"metadata", {{"name", "rc"}}},
                {"spec",
                 {{"replicas", 0},
                  {"selector", {{"a", "b"}}},
                  {"template",
                   {{"metadata", {{"labels", {{"a", "b"}}}}},
                    {"spec", {{"containers", AnyJson::array({container})}}}}}}}};
  auto warned = [&] {
    return writer->headers.Get("Warning").find("spec.template.spec.topologySpreadConstraints: ") !=
           std::string::npos;
  };
  Send("POST", rcs, Body(rc));
  EXPECT_FALSE(writer->headers.Has("Warning"));
  rc["spec"]["template"]["spec"]["topologySpreadConstraints"] = AnyJson::array({spread});
  Send("PUT", rcs + "/rc?dryRun=All", Body(rc));
  EXPECT_EQ(writer->status, 200);
  EXPECT_TRUE(warned());
  Options patch = Body({{"spec", {{"template", rc["spec"]["template"]}}}});
  patch.content_type = "application/merge-patch+json";
  Send("PATCH", rcs + "/rc", patch);
  EXPECT_EQ(writer->status, 200);
  EXPECT_TRUE(warned());
  Send("PUT", rcs + "/rc", Body(rc));
  EXPECT_TRUE(warned());
  rc["metadata"]["name"] = "other";
  Send("POST", rcs + "?dryRun=All", Body(rc));
  EXPECT_EQ(writer->status, 201);
  EXPECT_TRUE(warned());
}

TEST_F(HttpTest, FieldValidation) {
  AnyJson cm = ConfigMapJson("a");
  cm["dota"] = 1;
  AnyJson strict = Answer("POST", std::string(kConfigMaps) + "?fieldValidation=Strict", Body(cm));
  EXPECT_EQ(writer->status, 400);
  EXPECT_EQ(strict["message"],
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown "
            "field \"dota\"");
  Send("POST", std::string(kConfigMaps) + "?dryRun=All", Body(cm));
  EXPECT_EQ(writer->status, 201);
  EXPECT_EQ(writer->headers.Get("Warning"), "299 - \"unknown field \\\"dota\\\"\"");
  Send("POST", std::string(kConfigMaps) + "?dryRun=All&fieldValidation=Ignore", Body(cm));
  EXPECT_FALSE(writer->headers.Has("Warning"));
  Send("GET", std::string(kConfigMaps) + "/a");
  EXPECT_EQ(writer->status, 404);  // dryRun stored nothing
  Send("POST", std::string(kConfigMaps) + "?dryRun=Some", Body(ConfigMapJson("a")));
  EXPECT_EQ(writer->status, 422);
}

// The seed's misprint in valid YAML: the message names field and value.
TEST_F(HttpTest, TheMisprintedPort) {
  Options o;
  o.content_type = "application/yaml";
  o.body =
      "apiVersion: v1\nkind: Service\nmetadata: {name: myweb}\nspec:\n  type: NodePort\n  ports:\n"
      "  - port: \"8080 nodePort:30001\"\n  selector: {app: myweb}\n";
  std::string message = Answer("POST", "/api/v1/namespaces/default/services", o)["message"];
  EXPECT_EQ(writer->status, 400);
  EXPECT_NE(message.find("spec.ports[0].port"), std::string::npos) << message;
  EXPECT_NE(message.find("8080 nodePort:30001"), std::string::npos) << message;
}

TEST_F(HttpTest, UnknownPathsAndMethods) {
  EXPECT_EQ(Answer("GET", "/api/v1/gadgets")["message"], "the server could not find the requested resource");
  EXPECT_EQ(writer->status, 404);
  Send("GET", "/api/v1/namespaces/default/pods/a/exec");
  EXPECT_EQ(writer->status, 404);
  Send("POST", "/api/v1/namespaces/default/pods/a");
  EXPECT_EQ(writer->status, 405);
  Send("PUT", "/api/v1/nodes");
  EXPECT_EQ(writer->status, 405);
  Send("GET", "/nothing");
  EXPECT_EQ(writer->status, 404);
  Options html;
  html.accept = "text/html";
  Send("GET", "/api/v1/pods", html);
  EXPECT_EQ(writer->status, 406);
}

constexpr char kTable[] = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

TEST_F(HttpTest, GoldenTables) {
  core::Service service = ServiceNamed("web", 8080);
  service.mutable_spec()->set_cluster_ip("10.96.0.50");
  ASSERT_TRUE(Create(service).ok());
  ASSERT_TRUE(Create(PodNamed("a")).ok());
  env_.Advance(absl::Seconds(90));
  Options o;
  o.accept = kTable;
  auto golden = [&](const std::string& name, const std::string& target) {
    AnyJson table = Answer("GET", target, o);
    for (AnyJson& row : table["rows"]) {
      if (!row["object"].is_null()) row["object"]["metadata"].erase("uid");
      if (!row["object"].is_null()) row["object"]["metadata"].erase("creationTimestamp");
    }
    ExpectGolden(name, table.dump(2) + "\n");
  };
  golden("services-table.json", "/api/v1/namespaces/default/services");
  golden("pods-table.json", "/api/v1/namespaces/default/pods?includeObject=None");
  golden("namespace-table.json", "/api/v1/namespaces/default");
}

TEST_F(HttpTest, GoldenDiscovery) {
  Options aggregated;
  aggregated.accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
  ExpectGolden("discovery-api-v2.json", Answer("GET", "/api", aggregated).dump(2) + "\n");
  EXPECT_EQ(writer->headers.Get("Content-Type"),
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
  ExpectGolden("discovery-apis-v2.json", Answer("GET", "/apis", aggregated).dump(2) + "\n");
  ExpectGolden("discovery-api.json", Answer("GET", "/api").dump(2) + "\n");
  ExpectGolden("discovery-apis.json", Answer("GET", "/apis").dump(2) + "\n");
  ExpectGolden("discovery-api-v1.json", Answer("GET", "/api/v1").dump(2) + "\n");
}

TEST_F(HttpTest, WatchStream) {
  ASSERT_TRUE(Create(PodNamed("a")).ok());
  Send("GET",
       "/api/v1/pods?watch=1&timeoutSeconds=5&resourceVersionMatch=NotOlderThan&sendInitialEvents=true"
       "&allowWatchBookmarks=true&resourceVersion=");
  EXPECT_EQ(writer->status, 200);
  std::vector<AnyJson> events;
  size_t start = 0;
  for (size_t end; (end = writer->body.find('\n', start)) != std::string::npos; start = end + 1) {
    events.push_back(AnyJson::parse(writer->body.substr(start, end - start)));
  }
  ASSERT_GE(events.size(), 2u);
  EXPECT_EQ(events[0]["type"], "ADDED");
  EXPECT_EQ(events[0]["object"]["kind"], "Pod");
  EXPECT_EQ(events[1]["type"], "BOOKMARK");
  EXPECT_EQ(events[1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
}

TEST_F(HttpTest, WatchTooOldIsAnErrorEvent) {
  ASSERT_TRUE(Create(PodNamed("a")).ok());
  const Revision first = store_.CurrentRevision();
  ASSERT_TRUE(Delete<core::Pod>("a").ok());
  for (int i = 0; i < 5000; ++i) {
    ASSERT_TRUE(Create(PodNamed("a")).ok());
    ASSERT_TRUE(Delete<core::Pod>("a").ok());
  }
  AnyJson event = Answer("GET", StrCat("/api/v1/pods?watch=true&resourceVersion=", first));
  EXPECT_EQ(writer->status, 200);
  EXPECT_EQ(event["type"], "ERROR");
  EXPECT_EQ(event["object"]["code"], 410);
  EXPECT_EQ(event["object"]["reason"], "Expired");
}

TEST_F(HttpTest, DeleteOptionsInTheBody) {
  Send("POST", kConfigMaps, Body(ConfigMapJson("c")));
  Options o;
  o.body = R"({"apiVersion":"v1","kind":"DeleteOptions","preconditions":{"uid":"no"}})";
  Send("DELETE", std::string(kConfigMaps) + "/c", o);
  EXPECT_EQ(writer->status, 409);
  o.body = R"({"apiVersion":"v1","kind":"DeleteOptions","propagationPolicy":"Sideways"})";
  Send("DELETE", std::string(kConfigMaps) + "/c", o);
  EXPECT_EQ(writer->status, 422);
  o.body = R"({"propagationPolicy":"Background"})";
  Send("DELETE", std::string(kConfigMaps) + "/c", o);
  EXPECT_EQ(writer->status, 200);
}

TEST_F(HttpTest, DeleteCollection) {
  for (const char* name : {"a", "b"}) Send("POST", kConfigMaps, Body(ConfigMapJson(name)));
  Send("DELETE", std::string(kConfigMaps) + "?fieldSelector=metadata.name%3Da");
  EXPECT_EQ(writer->status, 200);
  AnyJson left = Answer("GET", kConfigMaps);
  ASSERT_EQ(left["items"].size(), 1u);
  EXPECT_EQ(left["items"][0]["metadata"]["name"], "b");
}

// A store takes a while for each write, and many writes at once.
TEST_F(HttpTest, DeleteCollectionDeletesManyAtOnce) {
  constexpr int kObjects = 200;
  for (int i = 0; i < kObjects; ++i) Send("POST", kConfigMaps, Body(ConfigMapJson(StrCat("c", i).c_str())));
  store_.set_fault_hook([](const StoreCall&) {
    return StoreFault{absl::Milliseconds(10), absl::OkStatus()};
  });
  const absl::Duration start = env_.clock().Monotonic();
  Send("DELETE", kConfigMaps);
  store_.set_fault_hook(nullptr);
  EXPECT_EQ(writer->status, 200);
  EXPECT_LE(env_.clock().Monotonic() - start, absl::Milliseconds(10 * (kObjects / kMaxDeletionsAtOnce + 2)));
  EXPECT_EQ(Answer("GET", kConfigMaps)["items"].size(), 0u);
}

TEST_F(HttpTest, AccessReviews) {
  AnyJson review = {{"apiVersion", "authorization.k8s.io/v1"},
                    {"kind", "SubjectAccessReview"},
                    {"spec",
                     {{"user", "system:kube-proxy"},
                      {"groups", {"system:authenticated"}},
                      {"resourceAttributes", {{"verb", "list"}, {"resource", "services"}}}}}};
  EXPECT_EQ(
      Answer("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", Body(review))["status"]["allowed"],
      true);
  review["spec"]["resourceAttributes"]["verb"] = "delete";
  EXPECT_EQ(
      Answer("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", Body(review))["status"]["allowed"],
      false);
}

TEST_F(HttpTest, LogOfAnUnscheduledPodIsEmpty) {
  ASSERT_TRUE(Create(PodNamed("a")).ok());
  EXPECT_EQ(Text("GET", "/api/v1/namespaces/default/pods/a/log"), "");
  EXPECT_EQ(writer->status, 200);
  EXPECT_EQ(Answer("GET", "/api/v1/namespaces/default/pods/a/log?container=z")["message"],
            "container z is not valid for pod a");
}

}  // namespace
}  // namespace keelson::master
