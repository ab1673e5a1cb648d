// The verbs, through a local client.
#include "api/autoscaling/v1/autoscaling.pb.h"
#include "api/coordination/v1/coordination.pb.h"
#include "api/core/v1/config.pb.h"
#include "api/core/v1/event.pb.h"
#include "api/core/v1/misc.pb.h"
#include "api/core/v1/namespace.pb.h"
#include "api/core/v1/node.pb.h"
#include "api/events/v1/events.pb.h"
#include "api/policy/v1/policy.pb.h"
#include "api/storage/v1/storage.pb.h"
#include "base/strings.h"
#include "master/apiserver/local_client.h"
#include "master/apiserver/testing/fixture.h"

namespace keelson::master {
namespace {

using client::PatchType;
using ::k8s::core::v1::ConfigMap;

ConfigMap Config(const std::string& name, const std::string& value) {
  ConfigMap cm;
  cm.mutable_metadata()->set_name(name);
  cm.mutable_metadata()->set_namespace_("default");
  (*cm.mutable_data())["k"] = value;
  return cm;
}

Task<void> CreateInto(client::ApiClient* client, core::Pod pod, std::optional<bool>* created) {
  Task<absl::StatusOr<std::shared_ptr<const core::Pod>>> create = client->Create<core::Pod>(std::move(pod));
  absl::StatusOr<std::shared_ptr<const core::Pod>> result = co_await std::move(create);
  *created = result.ok();
}

class VerbTest : public ApiServerTest {
 protected:
  absl::StatusOr<api::ObjectPtr> Bind(const std::string& pod, const std::string& node) {
    auto binding = std::make_shared<core::Binding>();
    binding->mutable_metadata()->set_name(pod);
    binding->mutable_target()->set_kind("Node");
    binding->mutable_target()->set_name(node);
    return env_.Await(client_->Create({"", "v1", "pods"}, "default", binding, pod, "binding"));
  }
  std::string Message(const absl::Status& status) { return api::ToApiStatus(status).message(); }
};

TEST_F(VerbTest, StartsWithNamespaces) {
  auto ns = env_.Await(client_->Get<core::Namespace>("", "kube-system"));
  ASSERT_TRUE(ns.ok()) << ns.status();
  EXPECT_EQ((*ns)->status().phase(), "Active");
  EXPECT_EQ((*ns)->spec().finalizers(0), "kubernetes");
}

TEST_F(VerbTest, CreateFillsMetadataDefaultsAndAdmission) {
  auto pod = Create(PodNamed("a"));
  ASSERT_TRUE(pod.ok()) << pod.status();
  const core::Pod& p = **pod;
  EXPECT_EQ(p.metadata().uid().size(), 36u);
  EXPECT_EQ(p.metadata().generation(), 1);
  EXPECT_NE(p.metadata().creation_timestamp().seconds(), 0);
  EXPECT_FALSE(p.metadata().resource_version().empty());
  EXPECT_EQ(p.status().phase(), "Pending");
  EXPECT_EQ(p.status().qos_class(), "BestEffort");
  EXPECT_EQ(p.spec().restart_policy(), "Always");
  EXPECT_EQ(p.spec().service_account_name(), "default");
  ASSERT_EQ(p.spec().tolerations_size(), 2);
  EXPECT_EQ(p.spec().tolerations(0).toleration_seconds(), 300);
  EXPECT_EQ(p.spec().priority(), 0);
}

TEST_F(VerbTest, GatesAreRemovedOneByOneAndThenThePodIsBound) {
  core::Pod gated = PodNamed("a");
  gated.mutable_spec()->add_scheduling_gates()->set_name("example.com/wait");
  auto created = Create(gated);
  ASSERT_TRUE(created.ok()) << created.status();
  ASSERT_EQ((*created)->status().conditions_size(), 1);
  const core::PodCondition& condition = (*created)->status().conditions(0);
  EXPECT_EQ(condition.type(), "PodScheduled");
  EXPECT_EQ(condition.status(), "False");
  EXPECT_EQ(condition.reason(), "SchedulingGated");
  EXPECT_NE(condition.last_transition_time().seconds(), 0);
  EXPECT_FALSE(Bind("a", "n1").ok());
  core::Pod next = **created;
  next.mutable_spec()->clear_scheduling_gates();
  auto updated = Update(next);
  ASSERT_TRUE(updated.ok()) << updated.status();
  EXPECT_TRUE((*updated)->spec().scheduling_gates().empty());
  EXPECT_TRUE(Bind("a", "n1").ok());
}

TEST_F(VerbTest, CreateRefusesWhatUpstreamRefuses) {
  ASSERT_TRUE(Create(PodNamed("a")).ok());
  absl::Status again = Create(PodNamed("a")).status();
  EXPECT_TRUE(api::IsAlreadyExists(again));
  EXPECT_EQ(Message(again), "pods \"a\" already exists");
  core::Pod no_image = PodNamed("b");
  no_image.mutable_spec()->mutable_containers(0)->clear_image();
  absl::Status invalid = Create(no_image).status();
  EXPECT_TRUE(api::IsInvalid(invalid));
  EXPECT_EQ(Message(invalid), "Pod \"b\" is invalid: spec.containers[0].image: Required value");
  core::Pod with_version = PodNamed("c");
  with_version.mutable_metadata()->set_resource_version("7");
  EXPECT_EQ(Message(Create(with_version).status()),
            "resourceVersion should not be set on objects to be created");
  core::Pod elsewhere = PodNamed("d");
  elsewhere.mutable_metadata()->set_namespace_("nowhere");
  EXPECT_EQ(Message(Create(elsewhere).status()), "namespaces \"nowhere\" not found");
}

TEST_F(VerbTest, GenerateName) {
  core::Pod pod = PodNamed("");
  pod.mutable_metadata()->set_generate_name("web-");
  auto a = Create(pod), b = Create(pod);
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ((*a)->metadata().name().size(), 9u);
  EXPECT_TRUE((*a)->metadata().name().starts_with("web-"));
  EXPECT_NE((*a)->metadata().name(), (*b)->metadata().name());
}

TEST_F(VerbTest, UpdateIsOptimistic) {
  auto created = Create(Config("c", "1"));
  ASSERT_TRUE(created.ok());
  ConfigMap next = **created;
  (*next.mutable_data())["k"] = "2";
  auto updated = Update(next);
  ASSERT_TRUE(updated.ok()) << updated.status();
  EXPECT_NE((*updated)->metadata().resource_version(), (*created)->metadata().resource_version());
  absl::Status stale = Update(next).status();
  EXPECT_TRUE(api::IsConflict(stale));
  EXPECT_EQ(
      Message(stale),
      "Operation cannot be fulfilled on configmaps \"c\": the object has been modified; please apply your "
      "changes to the latest version and try again");
  next.mutable_metadata()->clear_resource_version();
  EXPECT_TRUE(Update(next).ok());
  next.mutable_metadata()->set_uid("another");
  EXPECT_TRUE(api::IsConflict(Update(next).status()));
  next.mutable_metadata()->set_name("missing");
  EXPECT_TRUE(api::IsNotFound(Update(next).status()));
}

TEST_F(VerbTest, UpdateWithoutChangeWritesNothing) {
  auto created = Create(Config("c", "1"));
  ASSERT_TRUE(created.ok());
  const Revision before = store_.CurrentRevision();
  auto same = Update(ConfigMap(**created));
  ASSERT_TRUE(same.ok());
  EXPECT_EQ(store_.CurrentRevision(), before);
  EXPECT_EQ((*same)->metadata().resource_version(), (*created)->metadata().resource_version());
}

TEST_F(VerbTest, StatusAndSpecAreWrittenApart) {
  core::ReplicationController rc;
  rc.mutable_metadata()->set_name("web");
  rc.mutable_metadata()->set_namespace_("default");
  rc.mutable_spec()->set_replicas(2);
  *rc.mutable_spec()->mutable_template_()->mutable_metadata() = PodNamed("x").metadata();
  rc.mutable_spec()->mutable_template_()->mutable_metadata()->clear_name();
  rc.mutable_spec()->mutable_template_()->mutable_metadata()->clear_namespace_();
  *rc.mutable_spec()->mutable_template_()->mutable_spec() = PodNamed("x").spec();
  rc.mutable_status()->set_replicas(9);
  auto created = Create(rc);
  ASSERT_TRUE(created.ok()) << created.status();
  EXPECT_EQ((*created)->status().replicas(), 0);
  EXPECT_EQ((*created)->spec().selector().at("app"), "web");

  rc = **created;
  rc.mutable_spec()->set_replicas(5);
  rc.mutable_status()->set_replicas(2);
  auto status = Update(rc, "status");
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_EQ((*status)->spec().replicas(), 2);
  EXPECT_EQ((*status)->status().replicas(), 2);
  EXPECT_EQ((*status)->metadata().generation(), 1);

  rc = **status;
  rc.mutable_spec()->set_replicas(5);
  rc.mutable_status()->set_replicas(0);
  auto spec = Update(rc);
  ASSERT_TRUE(spec.ok());
  EXPECT_EQ((*spec)->spec().replicas(), 5);
  EXPECT_EQ((*spec)->status().replicas(), 2);
  EXPECT_EQ((*spec)->metadata().generation(), 2);
}

TEST_F(VerbTest, Patch) {
  ASSERT_TRUE(Create(PodNamed("a")).ok());
  auto merged =
      env_.Await(client_->Patch<core::Pod>("default", "a", PatchType::kStrategicMerge,
                                           R"({"spec":{"containers":[{"name":"main","image":"nginx:2"}]}})"));
  ASSERT_TRUE(merged.ok()) << merged.status();
  EXPECT_EQ((*merged)->spec().containers(0).image(), "nginx:2");
  EXPECT_EQ((*merged)->spec().containers_size(), 1);
  EXPECT_EQ((*merged)->metadata().generation(), 2);
  auto label = env_.Await(client_->Patch<core::Pod>("default", "a", PatchType::kMerge,
                                                    R"({"metadata":{"labels":{"app":null,"x":"y"}}})"));
  ASSERT_TRUE(label.ok());
  EXPECT_EQ((*label)->metadata().labels().count("app"), 0u);
  EXPECT_EQ((*label)->metadata().generation(), 2);
  auto json = env_.Await(client_->Patch<core::Pod>(
      "default", "a", PatchType::kJson, R"([{"op":"test","path":"/metadata/labels/x","value":"z"}])"));
  EXPECT_EQ(api::HttpCode(json.status()), 422);
  auto stale = env_.Await(client_->Patch<core::Pod>("default", "a", PatchType::kMerge,
                                                    R"({"metadata":{"resourceVersion":"2"}})"));
  EXPECT_TRUE(api::IsConflict(stale.status()));
  auto forbidden = env_.Await(
      client_->Patch<core::Pod>("default", "a", PatchType::kMerge, R"({"spec":{"restartPolicy":"Never"}})"));
  EXPECT_TRUE(api::IsInvalid(forbidden.status())) << forbidden.status();
}

// Conflicts of the store are the server's to retry for a patch.
TEST_F(VerbTest, PatchRetriesOnConflict) {
  auto created = Create(Config("c", "1"));
  ASSERT_TRUE(created.ok());
  store_.FailNth(1, ConflictError("/registry/configmaps/default/c", 1, 2));
  auto patched =
      env_.Await(client_->Patch<ConfigMap>("default", "c", PatchType::kMerge, R"({"data":{"k":"9"}})"));
  ASSERT_TRUE(patched.ok()) << patched.status();
  EXPECT_EQ((*patched)->data().at("k"), "9");
}

TEST_F(VerbTest, UnboundPodGoesAtOnceBoundPodGracefully) {
  ASSERT_TRUE(Create(PodNamed("unbound")).ok());
  EXPECT_TRUE(Delete<core::Pod>("unbound").ok());
  EXPECT_TRUE(api::IsNotFound(Get<core::Pod>("unbound").status()));

  ASSERT_TRUE(Create(PodNamed("bound")).ok());
  ASSERT_TRUE(Bind("bound", "n1").ok());
  EXPECT_TRUE(Delete<core::Pod>("bound").ok());
  auto pod = Get<core::Pod>("bound");
  ASSERT_TRUE(pod.ok());
  EXPECT_EQ((*pod)->metadata().deletion_grace_period_seconds(), 30);
  EXPECT_EQ((*pod)->metadata().deletion_timestamp().seconds(), absl::ToUnixSeconds(env_.clock().Now()) + 30);
  EXPECT_EQ((*pod)->metadata().generation(), 2);  // binding does not count, deletion does
  client::DeleteOptions shorter;
  shorter.grace_period_s = 5;
  EXPECT_TRUE(Delete<core::Pod>("bound", shorter).ok());
  EXPECT_EQ((*Get<core::Pod>("bound"))->metadata().deletion_grace_period_seconds(), 5);
  shorter.grace_period_s = 60;
  EXPECT_TRUE(Delete<core::Pod>("bound", shorter).ok());
  EXPECT_EQ((*Get<core::Pod>("bound"))->metadata().deletion_grace_period_seconds(), 5);
  shorter.grace_period_s = 0;
  EXPECT_TRUE(Delete<core::Pod>("bound", shorter).ok());
  EXPECT_TRUE(api::IsNotFound(Get<core::Pod>("bound").status()));
}

TEST_F(VerbTest, DeletePreconditions) {
  ASSERT_TRUE(Create(Config("c", "1")).ok());
  client::DeleteOptions options;
  options.precondition_uid = "another";
  EXPECT_TRUE(api::IsConflict(Delete<ConfigMap>("c", options)));
  options = {};
  options.precondition_resource_version = "1";
  EXPECT_TRUE(api::IsConflict(Delete<ConfigMap>("c", options)));
  EXPECT_TRUE(Delete<ConfigMap>("c").ok());
  EXPECT_TRUE(api::IsNotFound(Delete<ConfigMap>("c")));
}

TEST_F(VerbTest, DeleteRetriesOnConflict) {
  ASSERT_TRUE(Create(Config("c", "1")).ok());
  store_.FailNth(1, ConflictError("/registry/configmaps/default/c", 1, 2));
  EXPECT_TRUE(Delete<ConfigMap>("c").ok());
}

TEST_F(VerbTest, FinalizersAndPropagation) {
  ConfigMap cm = Config("c", "1");
  cm.mutable_metadata()->add_finalizers("example.com/hold");
  ASSERT_TRUE(Create(cm).ok());
  client::DeleteOptions foreground;
  foreground.propagation_policy = "Foreground";
  ASSERT_TRUE(Delete<ConfigMap>("c", foreground).ok());
  auto held = Get<ConfigMap>("c");
  ASSERT_TRUE(held.ok());
  EXPECT_TRUE((*held)->metadata().has_deletion_timestamp());
  ASSERT_EQ((*held)->metadata().finalizers_size(), 2);
  EXPECT_EQ((*held)->metadata().finalizers(1), "foregroundDeletion");
  ConfigMap next = **held;
  next.mutable_metadata()->add_finalizers("example.com/late");
  EXPECT_TRUE(api::IsInvalid(Update(next).status()));
  next = **held;
  next.mutable_metadata()->clear_finalizers();
  ASSERT_TRUE(Update(next).ok());
  EXPECT_TRUE(api::IsNotFound(Get<ConfigMap>("c").status()));
}

TEST_F(VerbTest, NamespaceEndsThroughFinalize) {
  core::Namespace ns;
  ns.mutable_metadata()->set_name("team");
  ASSERT_TRUE(Create(ns).ok());
  ASSERT_TRUE(env_.Await(client_->Delete<core::Namespace>("", "team")).ok());
  auto ending = env_.Await(client_->Get<core::Namespace>("", "team"));
  ASSERT_TRUE(ending.ok());
  EXPECT_EQ((*ending)->status().phase(), "Terminating");
  absl::Status again = env_.Await(client_->Delete<core::Namespace>("", "team"));
  EXPECT_TRUE(api::IsConflict(again));
  EXPECT_NE(Message(again).find("will automatically be purged"), std::string::npos);
  ConfigMap late = Config("c", "1");
  late.mutable_metadata()->set_namespace_("team");
  absl::Status refused = Create(late).status();
  EXPECT_TRUE(api::IsForbidden(refused));
  EXPECT_NE(Message(refused).find("because it is being terminated"), std::string::npos);
  core::Namespace done = **ending;
  done.mutable_spec()->clear_finalizers();
  ASSERT_TRUE(Update(done, "finalize").ok());
  EXPECT_TRUE(api::IsNotFound(env_.Await(client_->Get<core::Namespace>("", "team")).status()));
  EXPECT_TRUE(api::IsForbidden(env_.Await(client_->Delete<core::Namespace>("", "default"))));
}

TEST_F(VerbTest, BindingHappensOnce) {
  ASSERT_TRUE(Create(PodNamed("a")).ok());
  ASSERT_TRUE(Bind("a", "n1").ok());
  auto pod = Get<core::Pod>("a");
  EXPECT_EQ((*pod)->spec().node_name(), "n1");
  ASSERT_EQ((*pod)->status().conditions_size(), 1);
  EXPECT_EQ((*pod)->status().conditions(0).type(), "PodScheduled");
  EXPECT_TRUE(api::IsConflict(Bind("a", "n2").status()));
  EXPECT_TRUE(api::IsNotFound(Bind("b", "n1").status()));
}

TEST_F(VerbTest, EvictionDeletes) {
  ASSERT_TRUE(Create(PodNamed("a")).ok());
  auto eviction = std::make_shared<::k8s::policy::v1::Eviction>();
  ASSERT_TRUE(env_.Await(client_->Create({"", "v1", "pods"}, "default", eviction, "a", "eviction")).ok());
  EXPECT_TRUE(api::IsNotFound(Get<core::Pod>("a").status()));
}

TEST_F(VerbTest, ListPagesOneState) {
  for (const char* name : {"a", "b", "c", "d", "e"}) ASSERT_TRUE(Create(Config(name, "1")).ok());
  client::ListOptions options;
  options.limit = 2;
  auto page = env_.Await(client_->List({"", "v1", "configmaps"}, "default", options));
  ASSERT_TRUE(page.ok()) << page.status();
  ASSERT_EQ(page->items.size(), 2u);
  ASSERT_FALSE(page->continue_token.empty());
  ASSERT_TRUE(Delete<ConfigMap>("d").ok());
  const std::string version = page->resource_version;
  options.continue_token = page->continue_token;
  page = env_.Await(client_->List({"", "v1", "configmaps"}, "default", options));
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_EQ(page->resource_version, version);
  ASSERT_EQ(page->items.size(), 2u);
  EXPECT_EQ(api::Meta(*page->items[1]).name(), "d");  // as it was
  options.continue_token = "rubbish";
  EXPECT_TRUE(
      api::IsBadRequest(env_.Await(client_->List({"", "v1", "configmaps"}, "default", options)).status()));
}

TEST_F(VerbTest, Selectors) {
  ASSERT_TRUE(Create(PodNamed("a")).ok());
  core::Pod other = PodNamed("b");
  (*other.mutable_metadata()->mutable_labels())["app"] = "db";
  ASSERT_TRUE(Create(other).ok());
  ASSERT_TRUE(Bind("b", "n1").ok());
  auto names = [&](client::ListOptions options) {
    std::string out;
    auto list = env_.Await(client_->List({"", "v1", "pods"}, "", options));
    if (!list.ok()) return Message(list.status());
    for (const auto& item : list->items) out += api::Meta(*item).name();
    return out;
  };
  client::ListOptions options;
  options.label_selector = "app in (web,x)";
  EXPECT_EQ(names(options), "a");
  options = {};
  options.field_selector = "spec.nodeName=n1";
  EXPECT_EQ(names(options), "b");
  options.field_selector = "spec.nodeName=,metadata.namespace=default";
  EXPECT_EQ(names(options), "a");
  options.field_selector = "spec.nope=1";
  EXPECT_EQ(names(options), "field label not supported: spec.nope");
}

TEST_F(VerbTest, WatchFollowsASelection) {
  ASSERT_TRUE(Create(PodNamed("a")).ok());
  auto list = env_.Await(client_->List({"", "v1", "pods"}, "", {}));
  client::WatchOptions options;
  options.resource_version = list->resource_version;
  options.field_selector = "spec.nodeName=n1";
  options.timeout_s = 60;
  auto watcher = env_.Await(client_->Watch({"", "v1", "pods"}, "", options));
  ASSERT_TRUE(watcher.ok()) << watcher.status();
  ASSERT_TRUE(Bind("a", "n1").ok());
  auto event = env_.Await((*watcher)->Next());
  ASSERT_TRUE(event.ok() && event->has_value());
  EXPECT_EQ((*event)->type, client::WatchEventType::kAdded);
  EXPECT_EQ(api::Meta(*(*event)->object).name(), "a");
  client::DeleteOptions now;
  now.grace_period_s = 0;
  ASSERT_TRUE(Delete<core::Pod>("a", now).ok());
  do event = env_.Await((*watcher)->Next());
  while (event.ok() && event->has_value() && (*event)->type == client::WatchEventType::kModified);
  ASSERT_TRUE(event.ok() && event->has_value());
  EXPECT_EQ((*event)->type, client::WatchEventType::kDeleted);
  do event = env_.Await((*watcher)->Next());
  while (event.ok() && event->has_value());
  EXPECT_TRUE(event.ok());  // the timeout ends it in the ordinary way
}

TEST_F(VerbTest, WatchFromTheFutureIsRefused) {
  client::WatchOptions options;
  options.resource_version = "99999";
  auto watcher = env_.Await(client_->Watch({"", "v1", "pods"}, "", options));
  EXPECT_TRUE(api::IsTimeout(watcher.status())) << watcher.status();
}

TEST_F(VerbTest, Services) {
  core::Service web = ServiceNamed("web", 8080);
  web.mutable_spec()->set_type("NodePort");
  web.mutable_spec()->mutable_ports(0)->set_node_port(30001);
  auto created = Create(web);
  ASSERT_TRUE(created.ok()) << created.status();
  EXPECT_TRUE((*created)->spec().cluster_ip().starts_with("10."));
  EXPECT_EQ((*created)->spec().ports(0).target_port().int_val(), 8080);
  web.mutable_metadata()->set_name("web2");
  EXPECT_EQ(Message(Create(web).status()),
            "Service \"web2\" is invalid: spec.ports[0].nodePort: Invalid value: 30001: provided port is "
            "already allocated");
  core::Service fixed = ServiceNamed("fixed", 80);
  fixed.mutable_spec()->set_cluster_ip("10.1.2.3");
  EXPECT_NE(Message(Create(fixed).status()).find("provided IP is not in the valid range"), std::string::npos);

  core::Service anybodys = ServiceNamed("anybodys", 80);  // headless, without a selector
  anybodys.mutable_spec()->set_cluster_ip("None");
  anybodys.mutable_spec()->clear_selector();
  auto dual = Create(anybodys);
  ASSERT_TRUE(dual.ok()) << dual.status();
  EXPECT_EQ((*dual)->spec().ip_family_policy(), "RequireDualStack");
  EXPECT_EQ((*dual)->spec().ip_families_size(), 2);
  EXPECT_TRUE(Update(core::Service(**dual)).ok());

  core::Service next = **created;
  next.mutable_spec()->clear_cluster_ip();
  next.mutable_spec()->clear_cluster_ips();
  next.mutable_spec()->mutable_ports(0)->clear_node_port();
  auto kept = Update(next);
  ASSERT_TRUE(kept.ok()) << kept.status();
  EXPECT_EQ((*kept)->spec().cluster_ip(), (*created)->spec().cluster_ip());
  EXPECT_EQ((*kept)->spec().ports(0).node_port(), 30001);
  next = **kept;
  next.mutable_spec()->set_cluster_ip("10.96.9.9");
  next.mutable_spec()->set_cluster_ips(0, "10.96.9.9");
  EXPECT_TRUE(api::IsInvalid(Update(next).status()));
  ASSERT_TRUE(Delete<core::Service>("web").ok());
  EXPECT_TRUE(Create(web).ok());  // the port is free again
}

// The whole object comes back with a new type: kubectl edit, replace and apply.
TEST_F(VerbTest, AServiceChangesItsTypeByUpdate) {
  core::Service web = ServiceNamed("web", 80);
  web.mutable_spec()->set_type("NodePort");
  auto created = Create(web);
  ASSERT_TRUE(created.ok()) << created.status();
  const int port = (*created)->spec().ports(0).node_port();
  ASSERT_NE(port, 0);
  EXPECT_EQ((*created)->spec().external_traffic_policy(), "Cluster");
  core::Service next = **created;
  next.mutable_spec()->set_type("ClusterIP");
  auto inner = Update(next);
  ASSERT_TRUE(inner.ok()) << inner.status();
  EXPECT_EQ((*inner)->spec().ports(0).node_port(), 0);
  EXPECT_EQ((*inner)->spec().external_traffic_policy(), "");
  EXPECT_EQ((*inner)->spec().cluster_ip(), (*created)->spec().cluster_ip());
  core::Service taker = ServiceNamed("taker", 80);  // the port is free again
  taker.mutable_spec()->set_type("NodePort");
  taker.mutable_spec()->mutable_ports(0)->set_node_port(port);
  EXPECT_TRUE(Create(taker).ok());

  next = **inner;
  next.mutable_spec()->set_type("ExternalName");
  next.mutable_spec()->set_external_name("db.example.com");
  auto outer = Update(next);
  ASSERT_TRUE(outer.ok()) << outer.status();
  EXPECT_EQ((*outer)->spec().cluster_ip(), "");
  EXPECT_EQ((*outer)->spec().cluster_ips_size(), 0);
  EXPECT_EQ((*outer)->spec().ip_families_size(), 0);
  EXPECT_FALSE((*outer)->spec().has_ip_family_policy());
  taker.mutable_metadata()->set_name("taker2");  // the address as well
  taker.mutable_spec()->set_type("ClusterIP");
  taker.mutable_spec()->mutable_ports(0)->clear_node_port();
  taker.mutable_spec()->set_cluster_ip((*created)->spec().cluster_ip());
  EXPECT_TRUE(Create(taker).ok());
  next = **outer;
  next.mutable_spec()->set_type("ClusterIP");
  next.mutable_spec()->clear_external_name();
  auto back = Update(next);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_TRUE((*back)->spec().cluster_ip().starts_with("10."));
}

TEST_F(VerbTest, AServiceChangesItsTypeByPatch) {
  core::Service web = ServiceNamed("web", 80);
  web.mutable_spec()->set_type("NodePort");
  auto created = Create(web);
  ASSERT_TRUE(created.ok()) << created.status();
  auto patch = [&](const std::string& spec) {
    return env_.Await(client_->Patch<core::Service>("default", "web", PatchType::kStrategicMerge,
                                                    StrCat(R"({"spec":)", spec, "}")));
  };
  // A node port that the client does name is its mistake.
  auto refused = patch(R"({"type":"ClusterIP","ports":[{"port":80,"nodePort":30999}]})");
  EXPECT_EQ(Message(refused.status()),
            "Service \"web\" is invalid: spec.ports[0].nodePort: Forbidden: may not be used when `type` is "
            "'ClusterIP'");
  auto inner = patch(R"({"type":"ClusterIP"})");
  ASSERT_TRUE(inner.ok()) << inner.status();
  EXPECT_EQ((*inner)->spec().ports(0).node_port(), 0);
  ASSERT_TRUE(patch(R"({"type":"NodePort"})").ok());
  auto outer = patch(R"({"type":"ExternalName","externalName":"db.example.com"})");
  ASSERT_TRUE(outer.ok()) << outer.status();
  EXPECT_EQ((*outer)->spec().cluster_ip(), "");
  EXPECT_EQ((*outer)->spec().ports(0).node_port(), 0);
  ASSERT_TRUE(patch(R"({"type":"NodePort","externalName":null})").ok());
  // clusterIP cleared by a client that does not know clusterIPs.
  outer = patch(R"({"type":"ExternalName","externalName":"db.example.com","clusterIP":""})");
  ASSERT_TRUE(outer.ok()) << outer.status();
  EXPECT_EQ((*outer)->spec().cluster_ips_size(), 0);
}

TEST_F(VerbTest, APodOfANewNamespaceWaitsForItsAccount) {
  core::Namespace fresh;
  fresh.mutable_metadata()->set_name("fresh");
  ASSERT_TRUE(Create(fresh).ok());
  core::Pod pod = PodNamed("a");
  pod.mutable_metadata()->set_namespace_("fresh");
  EXPECT_EQ(Message(Create(pod).status()),
            "pods \"a\" is forbidden: error looking up service account fresh/default: serviceaccount "
            "\"default\" not found");
  std::optional<bool> created;
  Scope scope(env_.executor());
  scope.Spawn("create", CreateInto(client_.get(), pod, &created));
  env_.Advance(absl::Milliseconds(400));
  EXPECT_FALSE(created.has_value());
  core::ServiceAccount account;
  account.mutable_metadata()->set_namespace_("fresh");
  account.mutable_metadata()->set_name("default");
  ASSERT_TRUE(Create(account).ok());
  env_.Advance(absl::Milliseconds(400));
  EXPECT_EQ(created, true);
  env_.AwaitVoid(scope.Close());
}

TEST_F(VerbTest, EventsHaveTwoViews) {
  core::Event event;
  event.mutable_metadata()->set_name("e");
  event.mutable_metadata()->set_namespace_("default");
  event.mutable_involved_object()->set_kind("Pod");
  event.mutable_involved_object()->set_name("a");
  event.mutable_involved_object()->set_namespace_("default");
  event.set_reason("Started");
  event.set_message("hello");
  event.set_type("Normal");
  ASSERT_TRUE(Create(event).ok());
  auto view = Get<::k8s::events::v1::Event>("e");
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_EQ((*view)->note(), "hello");
  EXPECT_EQ((*view)->regarding().name(), "a");
}

TEST_F(VerbTest, ScaleIsAViewOfTheRc) {
  core::ReplicationController rc;
  rc.mutable_metadata()->set_name("web");
  rc.mutable_metadata()->set_namespace_("default");
  (*rc.mutable_spec()->mutable_template_()->mutable_metadata()->mutable_labels())["app"] = "web";
  *rc.mutable_spec()->mutable_template_()->mutable_spec() = PodNamed("x").spec();
  ASSERT_TRUE(Create(rc).ok());
  auto scaled = env_.Await(client_->Patch({"", "v1", "replicationcontrollers"}, "default", "web",
                                          PatchType::kMerge, R"({"spec":{"replicas":7}})", "scale"));
  ASSERT_TRUE(scaled.ok()) << scaled.status();
  const auto* scale = api::As<::k8s::autoscaling::v1::Scale>(**scaled);
  ASSERT_NE(scale, nullptr);
  EXPECT_EQ(scale->spec().replicas(), 7);
  EXPECT_EQ(scale->status().selector(), "app=web");
  EXPECT_EQ((*Get<core::ReplicationController>("web"))->spec().replicas(), 7);
}

TEST_F(VerbTest, LeaseUpdateNeedsItsVersion) {
  ::k8s::coordination::v1::Lease lease;
  lease.mutable_metadata()->set_name("l");
  lease.mutable_metadata()->set_namespace_("kube-node-lease");
  lease.mutable_spec()->set_holder_identity("me");
  lease.mutable_spec()->set_lease_duration_seconds(40);
  auto created = Create(lease);
  ASSERT_TRUE(created.ok()) << created.status();
  EXPECT_TRUE(api::IsInvalid(Update(lease).status()));
  EXPECT_TRUE(Update(::k8s::coordination::v1::Lease(**created)).ok());
}

TEST_F(VerbTest, NodeMayTouchOnlyItsOwn) {
  UserInfo user;
  user.name = "system:node:n1";
  user.groups = {"system:nodes", "system:authenticated"};
  std::unique_ptr<client::ApiClient> node = NewLocalClient(server_->pipeline(), user);
  core::Node n1;
  n1.mutable_metadata()->set_name("n1");
  auto registered = env_.Await(node->Create<core::Node>(n1));
  ASSERT_TRUE(registered.ok()) << registered.status();
  ASSERT_EQ((*registered)->spec().taints_size(), 1);
  EXPECT_EQ((*registered)->spec().taints(0).key(), "node.kubernetes.io/not-ready");
  n1.mutable_metadata()->set_name("n2");
  EXPECT_TRUE(api::IsForbidden(env_.Await(node->Create<core::Node>(n1)).status()));

  core::Pod pod = PodNamed("a");
  auto* volume = pod.mutable_spec()->add_volumes();
  volume->set_name("s");
  volume->mutable_volume_source()->mutable_secret()->set_secret_name("key");
  ASSERT_TRUE(Create(pod).ok());
  core::Secret secret;
  secret.mutable_metadata()->set_name("key");
  secret.mutable_metadata()->set_namespace_("default");
  (*secret.mutable_string_data())["k"] = "v";
  ASSERT_TRUE(Create(secret).ok());
  absl::Status before = env_.Await(node->Get<core::Secret>("default", "key")).status();
  EXPECT_EQ(Message(before),
            "secrets \"key\" is forbidden: User \"system:node:n1\" cannot get resource \"secrets\" in API "
            "group \"\" in the namespace \"default\"");
  ASSERT_TRUE(Bind("a", "n1").ok());
  auto allowed = env_.Await(node->Get<core::Secret>("default", "key"));
  ASSERT_TRUE(allowed.ok()) << allowed.status();
  EXPECT_EQ((*allowed)->data().at("k"), "v");

  core::Pod status = **Get<core::Pod>("a");
  status.mutable_status()->set_phase("Running");
  EXPECT_TRUE(env_.Await(node->Update<core::Pod>(status, "status")).ok());
  ASSERT_TRUE(Create(PodNamed("foreign")).ok());
  status = **Get<core::Pod>("foreign");
  status.mutable_status()->set_phase("Running");
  EXPECT_TRUE(api::IsForbidden(env_.Await(node->Update<core::Pod>(status, "status")).status()));

  // It sees itself and its pods, no others.
  EXPECT_TRUE(env_.Await(node->Get<core::Node>("", "n1")).ok());
  EXPECT_TRUE(api::IsForbidden(env_.Await(node->Get<core::Node>("", "n2")).status()));
  EXPECT_TRUE(env_.Await(node->Get<core::Pod>("default", "a")).ok());
  EXPECT_TRUE(api::IsForbidden(env_.Await(node->Get<core::Pod>("default", "foreign")).status()));
  client::ListOptions own;
  own.field_selector = "spec.nodeName=n1";
  auto listed = env_.Await(node->List({"", "v1", "pods"}, "", own));
  ASSERT_TRUE(listed.ok()) << listed.status();
  EXPECT_TRUE(api::IsForbidden(env_.Await(node->List({"", "v1", "pods"}, "", {})).status()));
  own.field_selector = "spec.nodeName=n2";
  EXPECT_TRUE(api::IsForbidden(env_.Await(node->List({"", "v1", "pods"}, "", own)).status()));
  EXPECT_TRUE(api::IsForbidden(env_.Await(node->List({"", "v1", "nodes"}, "", {})).status()));
}

// Upstream's kubelet asks all of this before its node is ready, and ends itself when it is refused for long.
TEST_F(VerbTest, AKubeletOfUpstreamFindsWhatItAsksAtItsStart) {
  UserInfo user;
  user.name = "system:node:n1";
  user.groups = {"system:nodes", "system:authenticated"};
  std::unique_ptr<client::ApiClient> node = NewLocalClient(server_->pipeline(), user);
  ::k8s::storage::v1::CSINode mine;
  mine.mutable_metadata()->set_name("n1");
  EXPECT_TRUE(api::IsNotFound(env_.Await(node->Get<::k8s::storage::v1::CSINode>("", "n1")).status()));
  auto created = env_.Await(node->Create<::k8s::storage::v1::CSINode>(mine));
  ASSERT_TRUE(created.ok()) << created.status();
  ::k8s::storage::v1::CSINode annotated = **created;
  (*annotated.mutable_metadata()->mutable_annotations())["migrated"] = "x";
  EXPECT_TRUE(env_.Await(node->Update<::k8s::storage::v1::CSINode>(annotated)).ok());
  mine.mutable_metadata()->set_name("n2");
  EXPECT_TRUE(api::IsForbidden(env_.Await(node->Create<::k8s::storage::v1::CSINode>(mine)).status()));

  EXPECT_TRUE(env_.Await(node->List({"storage.k8s.io", "v1", "csidrivers"}, "", {})).ok());
  EXPECT_TRUE(env_.Await(node->List({"node.k8s.io", "v1", "runtimeclasses"}, "", {})).ok());
  client::ListOptions of_node;
  of_node.field_selector = "spec.nodeName=n1";
  auto requests =
      env_.Await(node->List({"certificates.k8s.io", "v1", "podcertificaterequests"}, "", of_node));
  EXPECT_TRUE(requests.ok()) << requests.status();
}

TEST_F(VerbTest, AllocationsSurviveARestart) {
  ASSERT_TRUE(Create(ServiceNamed("a", 80)).ok());
  ASSERT_TRUE(Create(ServiceNamed("b", 80)).ok());
  const size_t used = server_->pipeline().allocator().used_ips();
  server_->pipeline().allocator().Repair(server_->pipeline());
  EXPECT_EQ(server_->pipeline().allocator().used_ips(), used);
  EXPECT_EQ(used, 2u);
}

}  // namespace
}  // namespace keelson::master
