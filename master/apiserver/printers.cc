// Columns of `kubectl get` per kind, with upstream's headings and cell rules (pkg/printers/internalversion as
// facts).
#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <map>

#include "api/coordination/v1/coordination.pb.h"
#include "api/core/v1/config.pb.h"
#include "api/core/v1/endpoints.pb.h"
#include "api/core/v1/event.pb.h"
#include "api/core/v1/namespace.pb.h"
#include "api/core/v1/node.pb.h"
#include "api/core/v1/replication_controller.pb.h"
#include "api/core/v1/service.pb.h"
#include "api/discovery/v1/discovery.pb.h"
#include "api/int_or_string.h"
#include "api/node/v1/node.pb.h"
#include "api/scheduling/v1/scheduling.pb.h"
#include "api/storage/v1/storage.pb.h"
#include "api/time.h"
#include "base/strings.h"
#include "master/apiserver/pod_status_text.h"
#include "master/apiserver/registry.h"
#include "master/apiserver/table.h"

namespace keelson::master {
namespace {

namespace core = ::k8s::core::v1;
using api::Message;

constexpr char kNone[] = "<none>";

TableColumn NameColumn() {
  return {"Name", "string", "name", "Name of the object, unique within its namespace.", 0};
}
TableColumn AgeColumn() { return {"Age", "string", "", "Time since the object was created.", 0}; }

template <class Range>
std::string Join(const Range& range, std::string_view separator) {
  std::string out;
  for (const auto& item : range) {
    if (!out.empty()) out += separator;
    out += item;
  }
  return out;
}

std::string OrNone(std::string text) { return text.empty() ? kNone : text; }

std::string Labels(const google::protobuf::Map<std::string, std::string>& map) {
  std::map<std::string, std::string> sorted(map.begin(), map.end());
  std::string out;
  for (const auto& [k, v] : sorted) StrAppend(&out, out.empty() ? "" : ",", k, "=", v);
  return OrNone(std::move(out));
}

std::string Age(const Message& m, const PrintContext& c) {
  return AgeOf(api::Meta(m).creation_timestamp(), c.now);
}

// ---- Pod ----
void PrintPod(const Message& m, const PrintContext& c, TableCells& out) {
  const auto& pod = To<core::Pod>(m);
  PodStatusText text = DescribePod(pod, c.now);
  out.Text(pod.metadata().name());
  out.Text(text.ready);
  out.Text(text.status);
  out.Text(text.restarts);
  out.Text(Age(m, c));
  out.Text(OrNone(pod.status().pod_ip()));
  out.Text(OrNone(pod.spec().node_name()));
  out.Text(OrNone(pod.status().nominated_node_name()));
  std::string gates = kNone;
  if (!pod.spec().readiness_gates().empty()) {
    int ready = 0;
    for (const auto& gate : pod.spec().readiness_gates()) {
      for (const auto& condition : pod.status().conditions()) {
        if (condition.type() == gate.condition_type() && condition.status() == "True") ++ready;
      }
    }
    gates = StrCat(ready, "/", pod.spec().readiness_gates_size());
  }
  out.Text(gates);
}

// ---- ReplicationController ----
void PrintRc(const Message& m, const PrintContext& c, TableCells& out) {
  const auto& rc = To<core::ReplicationController>(m);
  out.Text(rc.metadata().name());
  out.Number(rc.spec().replicas());
  out.Number(rc.status().replicas());
  out.Number(rc.status().ready_replicas());
  out.Text(Age(m, c));
  std::vector<std::string> names, images;
  for (const auto& container : rc.spec().template_().spec().containers()) {
    names.push_back(container.name());
    images.push_back(container.image());
  }
  out.Text(Join(names, ","));
  out.Text(Join(images, ","));
  out.Text(Labels(rc.spec().selector()));
}

// ---- Service ----
std::string ExternalIp(const core::Service& s) {
  std::string external = Join(s.spec().external_ips(), ",");
  if (s.spec().type() == "ExternalName") return s.spec().external_name();
  if (s.spec().type() != "LoadBalancer") return OrNone(external);
  std::vector<std::string> addresses;
  for (const auto& i : s.status().load_balancer().ingress())
    addresses.push_back(i.ip().empty() ? i.hostname() : i.ip());
  for (const std::string& ip : s.spec().external_ips()) addresses.push_back(ip);
  return addresses.empty() ? "<pending>" : Join(addresses, ",");
}

void PrintService(const Message& m, const PrintContext& c, TableCells& out) {
  const auto& s = To<core::Service>(m);
  out.Text(s.metadata().name());
  out.Text(s.spec().type());
  out.Text(OrNone(s.spec().cluster_ips().empty() ? s.spec().cluster_ip() : s.spec().cluster_ips(0)));
  out.Text(ExternalIp(s));
  std::vector<std::string> ports;
  for (const auto& p : s.spec().ports()) {
    ports.push_back(p.node_port() > 0 ? StrCat(p.port(), ":", p.node_port(), "/", p.protocol())
                                      : StrCat(p.port(), "/", p.protocol()));
  }
  out.Text(OrNone(Join(ports, ",")));
  out.Text(Age(m, c));
  out.Text(Labels(s.spec().selector()));
}

// ---- Endpoints, EndpointSlice ----
constexpr size_t kMaxShown = 3;

std::string Shorten(const std::vector<std::string>& all) {
  if (all.empty()) return kNone;
  if (all.size() <= kMaxShown) return Join(all, ",");
  std::vector<std::string> head(all.begin(), all.begin() + kMaxShown);
  return StrCat(Join(head, ","), " + ", all.size() - kMaxShown, " more...");
}

void PrintEndpoints(const Message& m, const PrintContext& c, TableCells& out) {
  const auto& e = To<core::Endpoints>(m);
  std::vector<std::string> all;
  for (const auto& subset : e.subsets()) {
    if (subset.ports().empty()) {
      for (const auto& a : subset.addresses()) all.push_back(a.ip());
      continue;
    }
    for (const auto& port : subset.ports()) {
      for (const auto& a : subset.addresses()) {
        all.push_back(a.ip().find(':') == std::string::npos ? StrCat(a.ip(), ":", port.port())
                                                            : StrCat("[", a.ip(), "]:", port.port()));
      }
    }
  }
  out.Text(e.metadata().name());
  out.Text(Shorten(all));
  out.Text(Age(m, c));
}

void PrintEndpointSlice(const Message& m, const PrintContext& c, TableCells& out) {
  const auto& e = To<::k8s::discovery::v1::EndpointSlice>(m);
  std::vector<std::string> ports, addresses;
  for (const auto& p : e.ports()) {
    ports.push_back(p.has_port() ? StrCat(p.port()) : p.has_name() && !p.name().empty() ? p.name() : "*");
  }
  for (const auto& endpoint : e.endpoints()) {
    for (const std::string& a : endpoint.addresses()) addresses.push_back(a);
  }
  out.Text(e.metadata().name());
  out.Text(e.address_type());
  out.Text(ports.empty() ? "<unset>" : Shorten(ports));
  out.Text(addresses.empty() ? "<unset>" : Shorten(addresses));
  out.Text(Age(m, c));
}

// ---- Node ----
std::string NodeAddressOf(const core::Node& n, std::string_view type) {
  for (const auto& a : n.status().addresses()) {
    if (a.type() == type) return a.address();
  }
  return kNone;
}

std::string NodeRoles(const core::Node& n) {
  constexpr std::string_view kPrefix = "node-role.kubernetes.io/";
  std::vector<std::string> roles;
  for (const auto& [k, v] : n.metadata().labels()) {
    if (k.starts_with(kPrefix) && k.size() > kPrefix.size()) roles.push_back(k.substr(kPrefix.size()));
    if (k == "kubernetes.io/role" && !v.empty()) roles.push_back(v);
  }
  std::sort(roles.begin(), roles.end());
  roles.erase(std::unique(roles.begin(), roles.end()), roles.end());
  return OrNone(Join(roles, ","));
}

void PrintNode(const Message& m, const PrintContext& c, TableCells& out) {
  const auto& n = To<core::Node>(m);
  std::string status = "Unknown";
  for (const auto& condition : n.status().conditions()) {
    if (condition.type() == "Ready") status = condition.status() == "True" ? "Ready" : "NotReady";
  }
  if (n.spec().unschedulable()) status += ",SchedulingDisabled";
  auto unknown = [](const std::string& text) { return text.empty() ? std::string("<unknown>") : text; };
  out.Text(n.metadata().name());
  out.Text(status);
  out.Text(NodeRoles(n));
  out.Text(Age(m, c));
  out.Text(n.status().node_info().kubelet_version());
  out.Text(NodeAddressOf(n, "InternalIP"));
  out.Text(NodeAddressOf(n, "ExternalIP"));
  out.Text(unknown(n.status().node_info().os_image()));
  out.Text(unknown(n.status().node_info().kernel_version()));
  out.Text(unknown(n.status().node_info().container_runtime_version()));
}

// ---- Event ----
void PrintEvent(const Message& m, const PrintContext& c, TableCells& out) {
  const auto& e = To<core::Event>(m);
  absl::Time first =
      api::IsZero(e.first_timestamp()) ? api::ToAbsl(e.event_time()) : api::ToAbsl(e.first_timestamp());
  absl::Time last = api::IsZero(e.last_timestamp()) ? first : api::ToAbsl(e.last_timestamp());
  int64_t count = e.count();
  if (e.has_series()) {
    count = e.series().count();
    last = api::ToAbsl(e.series().last_observed_time());
  } else if (count == 0) {
    count = 1;
  }
  auto since = [&](absl::Time t) {
    return t == absl::InfinitePast() ? std::string("<unknown>") : HumanDuration(c.now - t);
  };
  std::string seen = since(last);
  if (count > 1) seen = StrCat(seen, " (x", count, " over ", since(first), ")");
  std::string target = e.involved_object().kind();
  std::transform(target.begin(), target.end(), target.begin(),
                 [](char ch) { return static_cast<char>(std::tolower(ch)); });
  if (!e.involved_object().name().empty()) StrAppend(&target, "/", e.involved_object().name());
  std::string source = e.source().component().empty() ? e.reporting_component() : e.source().component();
  if (!e.source().host().empty()) StrAppend(&source, ", ", e.source().host());
  std::string message = e.message();
  while (!message.empty() && std::isspace(static_cast<unsigned char>(message.back()))) message.pop_back();
  out.Text(seen);
  out.Text(e.type());
  out.Text(e.reason());
  out.Text(target);
  out.Text(e.involved_object().field_path());
  out.Text(source);
  out.Text(message);
  out.Text(since(first));
  out.Number(count);
  out.Text(e.metadata().name());
}

std::vector<TableColumn> EventColumns() {
  return {{"Last Seen", "string", "", "When the event happened last.", 0},
          {"Type", "string", "", "Normal or Warning.", 0},
          {"Reason", "string", "", "Short word for programs.", 0},
          {"Object", "string", "", "The object the event is about.", 0},
          {"Subobject", "string", "", "The part of the object.", 1},
          {"Source", "string", "", "Component that reports it.", 1},
          {"Message", "string", "", "What happened.", 0},
          {"First Seen", "string", "", "When the event happened first.", 1},
          {"Count", "integer", "", "How often it happened.", 1},
          {"Name", "string", "name", "Name of the event.", 1}};
}

// ---- the rest ----
void PrintNamespace(const Message& m, const PrintContext& c, TableCells& out) {
  out.Text(api::Meta(m).name());
  out.Text(To<core::Namespace>(m).status().phase());
  out.Text(Age(m, c));
}

void PrintConfigMap(const Message& m, const PrintContext& c, TableCells& out) {
  const auto& cm = To<core::ConfigMap>(m);
  out.Text(cm.metadata().name());
  out.Text(StrCat(cm.data().size() + cm.binary_data().size()));
  out.Text(Age(m, c));
}

void PrintSecret(const Message& m, const PrintContext& c, TableCells& out) {
  const auto& s = To<core::Secret>(m);
  out.Text(s.metadata().name());
  out.Text(s.type());
  out.Number(static_cast<int64_t>(s.data().size()));
  out.Text(Age(m, c));
}

void PrintServiceAccount(const Message& m, const PrintContext& c, TableCells& out) {
  out.Text(api::Meta(m).name());
  out.Number(To<core::ServiceAccount>(m).secrets_size());
  out.Text(Age(m, c));
}

void PrintLease(const Message& m, const PrintContext& c, TableCells& out) {
  out.Text(api::Meta(m).name());
  out.Text(To<::k8s::coordination::v1::Lease>(m).spec().holder_identity());
  out.Text(Age(m, c));
}

void PrintPriorityClass(const Message& m, const PrintContext& c, TableCells& out) {
  const auto& p = To<::k8s::scheduling::v1::PriorityClass>(m);
  out.Text(p.metadata().name());
  out.Number(p.value());
  out.Text(p.global_default() ? "true" : "false");
  out.Text(Age(m, c));
  out.Text(p.preemption_policy());
}

void PrintRuntimeClass(const Message& m, const PrintContext& c, TableCells& out) {
  out.Text(api::Meta(m).name());
  out.Text(To<::k8s::node::v1::RuntimeClass>(m).handler());
  out.Text(Age(m, c));
}

void PrintCsiNode(const Message& m, const PrintContext& c, TableCells& out) {
  out.Text(api::Meta(m).name());
  out.Number(To<::k8s::storage::v1::CSINode>(m).spec().drivers_size());
  out.Text(Age(m, c));
}

void PrintNameAndAge(const Message& m, const PrintContext& c, TableCells& out) {
  out.Text(api::Meta(m).name());
  out.Text(Age(m, c));
}

}  // namespace

void AddPrinter(ResourceInfo& row) {
  const google::protobuf::Descriptor* kind = row.type->prototype->GetDescriptor();
  auto set = [&](std::vector<TableColumn> columns, auto* print) {
    row.columns = std::move(columns);
    row.print = print;
  };
  if (kind == core::Pod::descriptor()) {
    set({NameColumn(),
         {"Ready", "string", "", "Containers that are ready, of all.", 0},
         {"Status", "string", "", "What the pod is doing, in one word.", 0},
         {"Restarts", "string", "", "Container restarts, and when the last one was.", 0},
         AgeColumn(),
         {"IP", "string", "", "Address of the pod.", 1},
         {"Node", "string", "", "Node the pod is bound to.", 1},
         {"Nominated Node", "string", "", "Node held free for the pod by preemption.", 1},
         {"Readiness Gates", "string", "", "Gates that are passed, of all.", 1}},
        PrintPod);
  } else if (kind == core::ReplicationController::descriptor()) {
    set({NameColumn(),
         {"Desired", "integer", "", "Replicas wanted.", 0},
         {"Current", "integer", "", "Replicas there are.", 0},
         {"Ready", "integer", "", "Replicas that are ready.", 0},
         AgeColumn(),
         {"Containers", "string", "", "Container names of the template.", 1},
         {"Images", "string", "", "Images of the template.", 1},
         {"Selector", "string", "", "Labels of the pods it counts.", 1}},
        PrintRc);
  } else if (kind == core::Service::descriptor()) {
    set({NameColumn(),
         {"Type", "string", "", "How the service is exposed.", 0},
         {"Cluster-IP", "string", "", "Virtual address inside the cluster.", 0},
         {"External-IP", "string", "", "Addresses outside the cluster.", 0},
         {"Port(s)", "string", "", "Ports, with their node ports.", 0},
         AgeColumn(),
         {"Selector", "string", "", "Labels of the pods behind it.", 1}},
        PrintService);
  } else if (kind == core::Endpoints::descriptor()) {
    set({NameColumn(), {"Endpoints", "string", "", "Addresses and ports that are ready.", 0}, AgeColumn()},
        PrintEndpoints);
  } else if (kind == ::k8s::discovery::v1::EndpointSlice::descriptor()) {
    set({NameColumn(),
         {"AddressType", "string", "", "IPv4, IPv6 or FQDN.", 0},
         {"Ports", "string", "", "Ports of every endpoint.", 0},
         {"Endpoints", "string", "", "Addresses of the endpoints.", 0},
         AgeColumn()},
        PrintEndpointSlice);
  } else if (kind == core::Node::descriptor()) {
    set({NameColumn(),
         {"Status", "string", "", "Whether the node is ready and takes pods.", 0},
         {"Roles", "string", "", "Roles from the node's labels.", 0},
         AgeColumn(),
         {"Version", "string", "", "Version of the kubelet.", 0},
         {"Internal-IP", "string", "", "Address inside the cluster.", 1},
         {"External-IP", "string", "", "Address outside the cluster.", 1},
         {"OS-Image", "string", "", "Name of the operating system.", 1},
         {"Kernel-Version", "string", "", "Version of the kernel.", 1},
         {"Container-Runtime", "string", "", "Container runtime and its version.", 1}},
        PrintNode);
  } else if (kind == core::Event::descriptor()) {
    set(EventColumns(), PrintEvent);
  } else if (kind == core::Namespace::descriptor()) {
    set({NameColumn(), {"Status", "string", "", "Active or Terminating.", 0}, AgeColumn()}, PrintNamespace);
  } else if (kind == core::ConfigMap::descriptor()) {
    set({NameColumn(), {"Data", "string", "", "Number of entries.", 0}, AgeColumn()}, PrintConfigMap);
  } else if (kind == core::Secret::descriptor()) {
    set({NameColumn(),
         {"Type", "string", "", "Kind of the secret's data.", 0},
         {"Data", "integer", "", "Number of entries.", 0},
         AgeColumn()},
        PrintSecret);
  } else if (kind == core::ServiceAccount::descriptor()) {
    set({NameColumn(), {"Secrets", "integer", "", "Number of secrets.", 0}, AgeColumn()},
        PrintServiceAccount);
  } else if (kind == ::k8s::coordination::v1::Lease::descriptor()) {
    set({NameColumn(), {"Holder", "string", "", "Who holds it.", 0}, AgeColumn()}, PrintLease);
  } else if (kind == ::k8s::scheduling::v1::PriorityClass::descriptor()) {
    set({NameColumn(),
         {"Value", "integer", "", "Priority of its pods.", 0},
         {"Global-Default", "boolean", "", "Whether pods without a class get it.", 0},
         AgeColumn(),
         {"PreemptionPolicy", "string", "", "Whether its pods may push others out.", 0}},
        PrintPriorityClass);
  } else if (kind == ::k8s::node::v1::RuntimeClass::descriptor()) {
    set({NameColumn(), {"Handler", "string", "", "The runtime's name for it.", 0}, AgeColumn()},
        PrintRuntimeClass);
  } else if (kind == ::k8s::storage::v1::CSINode::descriptor()) {
    set({NameColumn(), {"Drivers", "integer", "", "CSI drivers on the node.", 0}, AgeColumn()}, PrintCsiNode);
  } else {
    set({NameColumn(), AgeColumn()}, PrintNameAndAge);
  }
}

}  // namespace keelson::master
