#include "master/scheduler/filters.h"

#include <gtest/gtest.h>

#include "api/codec.h"
#include "master/scheduler/fit_error.h"

namespace keelson::master {
namespace {

namespace corev1 = ::k8s::core::v1;

PodInfoPtr Pod(const std::string& name, const std::string& spec) {
  auto pod =
      api::DecodeJsonAs<corev1::Pod>(R"({"metadata":{"name":")" + name + R"(","namespace":"d","uid":")" +
                                     name + R"("},"spec":)" + spec + "}");
  EXPECT_TRUE(pod.ok()) << pod.status() << spec;
  return MakePodInfo(std::make_shared<const corev1::Pod>(*pod));
}

NodeInfo Node(const std::string& spec = "{}") {
  auto node = api::DecodeJsonAs<corev1::Node>(
      R"({"metadata":{"name":"n1","labels":{"zone":"a","size":"7"}},"spec":)" + spec +
      R"(,"status":{"allocatable":{"cpu":"2","memory":"1Gi","ephemeral-storage":"10Gi","pods":"3","x.io/gpu":"1"}}})");
  EXPECT_TRUE(node.ok()) << node.status();
  NodeInfo info;
  info.SetNode(std::make_shared<const corev1::Node>(*node));
  return info;
}

std::string Requests(const std::string& requests) {
  return R"({"containers":[{"name":"c","resources":{"requests":)" + requests + "}}]}";
}

std::string Reason(const std::optional<Rejection>& rejection) {
  std::string out;
  if (rejection.has_value()) {
    for (const std::string& reason : rejection->reasons) out += (out.empty() ? "" : "; ") + reason;
  }
  return out;
}

TEST(PodInfoTest, RequestsOfInitContainersSidecarsOverheadAndPodLevel) {
  struct Case {
    const char* spec;
    int64_t cpu_milli;
  };
  const Case cases[] = {
      {R"({"containers":[{"name":"a","resources":{"requests":{"cpu":"100m"}}},{"name":"b","resources":{"requests":{"cpu":"0.2"}}}]})",
       300},
      {R"({"containers":[{"name":"a","resources":{"requests":{"cpu":"100m"}}}],"initContainers":[{"name":"i","resources":{"requests":{"cpu":"1"}}}]})",
       1000},
      {R"({"containers":[{"name":"a","resources":{"requests":{"cpu":"1"}}}],"initContainers":[{"name":"s","restartPolicy":"Always","resources":{"requests":{"cpu":"300m"}}},{"name":"i","resources":{"requests":{"cpu":"1200m"}}}]})",
       1500},
      {R"({"containers":[{"name":"a","resources":{"requests":{"cpu":"1"}}}],"initContainers":[{"name":"s","restartPolicy":"Always","resources":{"requests":{"cpu":"300m"}}}]})",
       1300},
      {R"({"containers":[{"name":"a","resources":{"requests":{"cpu":"1"}}}],"overhead":{"cpu":"50m"}})",
       1050},
      {R"({"containers":[{"name":"a","resources":{"requests":{"cpu":"1"}}}],"resources":{"requests":{"cpu":"2"}}})",
       2000},
      {R"({"containers":[{"name":"a"}]})", 0},
  };
  for (const Case& c : cases) EXPECT_EQ(Pod("p", c.spec)->requests.cpu_milli, c.cpu_milli) << c.spec;
  EXPECT_EQ(Pod("p", R"({"containers":[{"name":"a"}]})")->scored_cpu_milli, kDefaultCpuMilli);
}

TEST(FiltersTest, NodeResourcesFit) {
  struct Case {
    const char* requests;
    const char* reason;
    bool unresolvable;
  };
  const Case cases[] = {
      {"{}", "", false},
      {R"({"cpu":"1500m"})", "", false},
      {R"({"cpu":"1501m"})", "Insufficient cpu", false},
      {R"({"cpu":"3"})", "Insufficient cpu", true},
      {R"({"memory":"2Gi","cpu":"3"})", "Insufficient cpu; Insufficient memory", true},
      {R"({"ephemeral-storage":"11Gi"})", "Insufficient ephemeral-storage", true},
      {R"({"x.io/gpu":"1"})", "", false},
      {R"({"x.io/gpu":"2"})", "Insufficient x.io/gpu", true},
      {R"({"y.io/none":"1"})", "Insufficient y.io/none", true},
  };
  for (const Case& c : cases) {
    NodeInfo node = Node();
    node.AddPod(Pod("there", Requests(R"({"cpu":"500m"})")));
    auto rejection = FilterNodeResourcesFit(*Pod("p", Requests(c.requests)), node);
    EXPECT_EQ(Reason(rejection), c.reason) << c.requests;
    if (rejection.has_value()) {
      EXPECT_EQ(rejection->unresolvable, c.unresolvable) << c.requests;
    }
  }
  NodeInfo full = Node();
  for (const char* name : {"a", "b", "c"}) full.AddPod(Pod(name, "{}"));
  EXPECT_EQ(Reason(FilterNodeResourcesFit(*Pod("p", "{}"), full)), "Too many pods");
}

TEST(FiltersTest, TaintsAndUnschedulable) {
  const std::string tainted =
      R"({"taints":[{"key":"k","value":"v","effect":"NoSchedule"},{"key":"soft","effect":"PreferNoSchedule"}]})";
  EXPECT_EQ(Reason(RunFilters(*Pod("p", "{}"), Node(tainted))), "node(s) had untolerated taint {k: v}");
  struct Case {
    const char* toleration;
    bool fits;
  };
  const Case cases[] = {
      {R"({"key":"k","value":"v"})", true},
      {R"({"key":"k","value":"other"})", false},
      {R"({"key":"k","operator":"Exists"})", true},
      {R"({"operator":"Exists"})", true},
      {R"({"key":"k","value":"v","effect":"NoExecute"})", false},
      {R"({"key":"k","value":"v","effect":"NoSchedule"})", true},
  };
  for (const Case& c : cases) {
    auto pod = Pod("p", std::string(R"({"tolerations":[)") + c.toleration + "]}");
    EXPECT_EQ(!RunFilters(*pod, Node(tainted)).has_value(), c.fits) << c.toleration;
  }
  EXPECT_EQ(Reason(RunFilters(*Pod("p", "{}"), Node(R"({"unschedulable":true})"))),
            "node(s) were unschedulable");
  auto daemon =
      Pod("p", R"({"tolerations":[{"key":"node.kubernetes.io/unschedulable","operator":"Exists"}]})");
  EXPECT_FALSE(RunFilters(*daemon, Node(R"({"unschedulable":true})")).has_value());
}

TEST(FiltersTest, NodeAffinity) {
  struct Case {
    const char* spec;
    bool fits;
  };
#define TERMS(t)                                                                                              \
  R"({"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[)" t \
  R"(]}}}})"
  const Case cases[] = {
      {R"({"nodeSelector":{"zone":"a"}})", true},
      {R"({"nodeSelector":{"zone":"b"}})", false},
      {R"({"nodeSelector":{"none":"b"}})", false},
      {TERMS(R"({"matchExpressions":[{"key":"zone","operator":"In","values":["a","b"]}]})"), true},
      {TERMS(R"({"matchExpressions":[{"key":"zone","operator":"NotIn","values":["a"]}]})"), false},
      {TERMS(R"({"matchExpressions":[{"key":"none","operator":"NotIn","values":["a"]}]})"), true},
      {TERMS(R"({"matchExpressions":[{"key":"size","operator":"Gt","values":["6"]}]})"), true},
      {TERMS(R"({"matchExpressions":[{"key":"size","operator":"Lt","values":["7"]}]})"), false},
      {TERMS(R"({"matchExpressions":[{"key":"none","operator":"DoesNotExist"}]})"), true},
      {TERMS(R"({"matchFields":[{"key":"metadata.name","operator":"In","values":["n1"]}]})"), true},
      {TERMS(
           R"({"matchFields":[{"key":"metadata.name","operator":"In","values":["n2"]}]},{"matchExpressions":[{"key":"zone","operator":"Exists"}]})"),
       true},
      {TERMS("{}"), false},
  };
#undef TERMS
  for (const Case& c : cases) {
    auto rejection = FilterNodeAffinity(*Pod("p", c.spec), Node());
    EXPECT_EQ(!rejection.has_value(), c.fits) << c.spec;
    if (!c.fits) {
      EXPECT_EQ(Reason(rejection), "node(s) didn't match Pod's node affinity/selector");
    }
  }
}

TEST(FiltersTest, NodePorts) {
  auto with_port = [](const char* name, const char* port) {
    return Pod(name, std::string(R"({"containers":[{"name":"c","ports":[)") + port + "]}]}");
  };
  NodeInfo node = Node();
  auto there = with_port("there", R"({"containerPort":1,"hostPort":80,"hostIP":"10.0.0.1"})");
  node.AddPod(there);
  EXPECT_TRUE(FilterNodePorts(*with_port("p", R"({"containerPort":1,"hostPort":80})"), node).has_value());
  EXPECT_FALSE(
      FilterNodePorts(*with_port("p", R"({"containerPort":1,"hostPort":80,"hostIP":"10.0.0.2"})"), node)
          .has_value());
  // The same address.
  EXPECT_TRUE(FilterNodePorts(
                  *with_port("p", R"({"containerPort":1,"hostPort":80,"hostIP":"::ffff:10.0.0.1"})"), node)
                  .has_value());
  EXPECT_FALSE(FilterNodePorts(*with_port("p", R"({"containerPort":1,"hostPort":80,"protocol":"UDP"})"), node)
                   .has_value());
  EXPECT_FALSE(FilterNodePorts(*with_port("p", R"({"containerPort":80})"), node).has_value());
  node.RemovePod(*there);
  EXPECT_FALSE(FilterNodePorts(*with_port("p", R"({"containerPort":1,"hostPort":80})"), node).has_value());
}

TEST(FitErrorTest, WordsAsUpstream) {
  corev1::PodSpec spec;
  EXPECT_EQ(FitError(0).Message(spec), "no nodes available to schedule pods");
  FitError error(3);
  error.Add({"NodeResourcesFit", {"Insufficient cpu"}, false});
  error.Add({"TaintToleration", {"node(s) had untolerated taint {k: v}"}, true});
  error.Add({"TaintToleration", {"node(s) had untolerated taint {k: v}"}, true});
  EXPECT_EQ(error.Message(spec),
            "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint {k: v}. "
            "preemption: 0/3 nodes "
            "are available: 1 Preemption is not implemented, 2 Preemption is not helpful for scheduling.");
  spec.set_preemption_policy("Never");
  EXPECT_EQ(
      error.Message(spec),
      "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint {k: v}. preemption: not "
      "eligible due to preemptionPolicy=Never.");
}

TEST(FiltersTest, UnsupportedFieldsAreNamed) {
  auto pod = Pod(
      "p",
      R"({"topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"z","whenUnsatisfiable":"DoNotSchedule"}]})");
  EXPECT_EQ(UnsupportedField(pod->pod->spec()),
            "spec.topologySpreadConstraints[0].whenUnsatisfiable: DoNotSchedule");
  EXPECT_EQ(UnsupportedField(Pod("p", "{}")->pod->spec()), "");
}

}  // namespace
}  // namespace keelson::master
