#include <absl/strings/str_replace.h>
#include <gtest/gtest.h>

#include "api/core/v1/node.pb.h"
#include "api/core/v1/pod.pb.h"
#include "api/core/v1/service.pb.h"
#include "api/time.h"
#include "base/strings.h"
#include "master/apiserver/pod_status_text.h"
#include "master/apiserver/registry.h"
#include "master/apiserver/table.h"

namespace keelson::master {
namespace {

namespace core = ::k8s::core::v1;
const absl::Time kNow = absl::FromUnixSeconds(1'700'000'000);

// Headings, then cells, of `kubectl get -o wide`.
std::string Print(const ResourceInfo& row, const api::Message& object) {
  TableCells cells;
  row.print(object, PrintContext{kNow}, cells);
  EXPECT_EQ(cells.json().size(), row.columns.size());
  std::string out;
  for (size_t i = 0; i < cells.json().size() && i < row.columns.size(); ++i) {
    StrAppend(&out, i == 0 ? "" : " ", row.columns[i].name, "=", cells.json()[i]);
  }
  // JSON text escapes angle brackets.
  return absl::StrReplaceAll(out, {{"\\u003c", "<"}, {"\\u003e", ">"}});
}

core::Pod Pod() {
  core::Pod pod;
  pod.mutable_metadata()->set_name("a");
  *pod.mutable_metadata()->mutable_creation_timestamp() = api::ToApiTime(kNow - absl::Seconds(125));
  pod.mutable_spec()->add_containers()->set_name("x");
  pod.mutable_spec()->add_containers()->set_name("y");
  pod.mutable_status()->set_phase("Running");
  return pod;
}

core::ContainerStatus* AddStatus(core::Pod& pod, const std::string& name) {
  auto* s = pod.mutable_status()->add_container_statuses();
  s->set_name(name);
  return s;
}

TEST(Printers, EveryResourcePrintsAnEmptyObject) {
  for (const auto& row : Registry::Get().all()) {
    if (!row->stored() || row->storage != row.get()) continue;
    Print(*row, *row->type->prototype);
  }
}

TEST(Printers, Pod) {
  core::Pod pod = Pod();
  auto* x = AddStatus(pod, "x");
  x->set_ready(true);
  x->mutable_state()->mutable_running();
  auto* y = AddStatus(pod, "y");
  y->set_restart_count(3);
  y->mutable_state()->mutable_waiting()->set_reason("CrashLoopBackOff");
  *y->mutable_last_state()->mutable_terminated()->mutable_finished_at() =
      api::ToApiTime(kNow - absl::Minutes(12));
  pod.mutable_status()->set_pod_ip("10.244.0.3");
  pod.mutable_spec()->set_node_name("n1");
  EXPECT_EQ(
      Print(*Registry::Get().Find("", "pods"), pod),
      R"x(Name="a" Ready="1/2" Status="CrashLoopBackOff" Restarts="3 (12m ago)" Age="2m5s" IP="10.244.0.3" )x"
      R"x(Node="n1" Nominated Node="<none>" Readiness Gates="<none>")x");
}

TEST(Printers, PodStates) {
  core::Pod pod = Pod();
  EXPECT_EQ(DescribePod(pod, kNow).status, "Running");
  pod.mutable_spec()->add_init_containers()->set_name("i");
  auto* init = pod.mutable_status()->add_init_container_statuses();
  init->set_name("i");
  init->mutable_state()->mutable_running();
  EXPECT_EQ(DescribePod(pod, kNow).status, "Init:0/1");
  init->mutable_state()->mutable_terminated()->set_exit_code(2);
  EXPECT_EQ(DescribePod(pod, kNow).status, "Init:ExitCode:2");
  init->mutable_state()->mutable_terminated()->set_exit_code(0);
  AddStatus(pod, "x")->mutable_state()->mutable_terminated()->set_reason("Completed");
  EXPECT_EQ(DescribePod(pod, kNow).status, "Completed");
  pod.mutable_metadata()->mutable_deletion_timestamp()->set_seconds(1);
  EXPECT_EQ(DescribePod(pod, kNow).status, "Terminating");
}

TEST(Printers, Service) {
  core::Service s;
  s.mutable_metadata()->set_name("web");
  s.mutable_spec()->set_type("NodePort");
  s.mutable_spec()->set_cluster_ip("10.96.1.2");
  auto* p = s.mutable_spec()->add_ports();
  p->set_port(8080);
  p->set_node_port(30001);
  p->set_protocol("TCP");
  (*s.mutable_spec()->mutable_selector())["app"] = "web";
  EXPECT_EQ(
      Print(*Registry::Get().Find("", "services"), s),
      R"x(Name="web" Type="NodePort" Cluster-IP="10.96.1.2" External-IP="<none>" Port(s)="8080:30001/TCP" )x"
      R"x(Age="<unknown>" Selector="app=web")x");
}

TEST(Printers, Node) {
  core::Node n;
  n.mutable_metadata()->set_name("n1");
  (*n.mutable_metadata()->mutable_labels())["node-role.kubernetes.io/control-plane"] = "";
  auto* c = n.mutable_status()->add_conditions();
  c->set_type("Ready");
  c->set_status("True");
  n.mutable_spec()->set_unschedulable(true);
  auto* a = n.mutable_status()->add_addresses();
  a->set_type("InternalIP");
  a->set_address("192.0.2.7");
  EXPECT_EQ(
      Print(*Registry::Get().Find("", "nodes"), n),
      R"x(Name="n1" Status="Ready,SchedulingDisabled" Roles="control-plane" Age="<unknown>" Version="" )x"
      R"x(Internal-IP="192.0.2.7" External-IP="<none>" OS-Image="<unknown>" Kernel-Version="<unknown>" )x"
      R"x(Container-Runtime="<unknown>")x");
}

TEST(HumanDuration, AsKubectl) {
  auto text = [](int64_t s) { return HumanDuration(absl::Seconds(s)); };
  EXPECT_EQ(text(0), "0s");
  EXPECT_EQ(text(119), "119s");
  EXPECT_EQ(text(120), "2m");
  EXPECT_EQ(text(125), "2m5s");
  EXPECT_EQ(text(3 * 3600), "3h");
  EXPECT_EQ(text(3 * 3600 - 1), "179m");
  EXPECT_EQ(text(5 * 3600 + 120), "5h2m");
  EXPECT_EQ(text(50 * 3600), "2d2h");
  EXPECT_EQ(text(30LL * 86400), "30d");
  EXPECT_EQ(text(3LL * 365 * 86400), "3y");
}

}  // namespace
}  // namespace keelson::master
