#include "master/apiserver/openapi_descriptions.h"

#include <cctype>
#include <map>

#include "base/strings.h"

namespace keelson::master {
namespace {

// "terminationGracePeriodSeconds" -> "termination grace period seconds".
std::string Words(const std::string& camel) {
  std::string out;
  for (size_t i = 0; i < camel.size(); ++i) {
    const char c = camel[i];
    const bool upper = std::isupper(static_cast<unsigned char>(c)) != 0;
    const bool after_lower = i > 0 && std::islower(static_cast<unsigned char>(camel[i - 1])) != 0;
    const bool before_lower =
        i > 0 && i + 1 < camel.size() && std::islower(static_cast<unsigned char>(camel[i + 1])) != 0;
    if (upper && (after_lower || before_lower)) out.push_back(' ');
    out.push_back(upper && (before_lower || i + 1 == camel.size() || after_lower)
                      ? static_cast<char>(std::tolower(static_cast<unsigned char>(c)))
                      : c);
  }
  return out;
}

std::string Sentence(std::string text) {
  if (!text.empty()) text[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(text[0])));
  return text + ".";
}

// Keys: "Type.field", or ".field" for every type.
const std::map<std::string, std::string>& Texts() {
  static const auto* texts = new std::map<std::string, std::string>{
      {"Pod", "A group of containers that share network and volumes and run on one node."},
      {"PodSpec", "What a pod is made of and how it is run."},
      {"PodStatus", "What the kubelet last said about a pod."},
      {"PodTemplateSpec", "The pod that a controller creates copies of."},
      {"ReplicationController", "Keeps a given number of pods with the same template running."},
      {"ReplicationControllerSpec", "How many replicas of which pod are wanted."},
      {"ReplicationControllerStatus", "How many replicas there are now."},
      {"Service", "A stable name and address for a set of pods."},
      {"ServiceSpec", "Ports, addresses and the pods behind a Service."},
      {"ServicePort", "One port of a Service and where it leads."},
      {"Node", "A machine that runs pods."},
      {"Namespace", "A scope for names."},
      {"Container", "One container of a pod."},
      {"Volume", "A directory that containers of a pod can mount."},
      {"ConfigMap", "Configuration as key-value pairs."},
      {"Secret", "Sensitive data as key-value pairs."},
      {"Endpoints", "Addresses behind a Service."},
      {"EndpointSlice", "A part of the addresses behind a Service."},
      {"Event", "A report about something that happened to an object."},
      {"Lease", "A lock or a sign of life, held for a while."},
      {"ObjectMeta", "What every stored object has: name, labels, owners, versions."},
      {"ListMeta", "What every list has: its version and where it goes on."},
      {"Status", "The outcome of a request that returns no object."},
      {"Probe", "A check of a container's health."},
      {"Time", "A point in time, RFC 3339, whole seconds."},
      {"MicroTime", "A point in time, RFC 3339, microseconds."},
      {"Quantity", "An amount of a resource, such as 500m or 2Gi."},
      {"IntOrString", "A number, or a name or percentage."},
      {".metadata", "Name, labels, annotations and the like. For lists: version and continuation."},
      {".spec", "The state that is wanted."},
      {".status", "The state that was seen last; written by the system."},
      {".items", "The objects of the list."},
      {".labels", "Key-value pairs that selectors look for."},
      {".annotations", "Key-value pairs for tools, not selectable."},
      {".conditions", "Aspects of the state, each true, false or unknown."},
      {".finalizers", "Who must act before the object is really removed."},
      {".ownerReferences", "Objects this one depends on; it is collected when all are gone."},
      {"ObjectMeta.name", "Name, unique within the namespace; cannot be changed."},
      {"ObjectMeta.namespace", "Scope of the name; cannot be changed."},
      {"ObjectMeta.generateName", "Prefix of a name the server completes when no name is given."},
      {"ObjectMeta.uid", "Unique in time and space; given by the server."},
      {"ObjectMeta.resourceVersion", "Version of the object as the server counts; opaque to clients."},
      {"ObjectMeta.generation", "Counts changes of the wanted state."},
      {"ObjectMeta.creationTimestamp", "When the server created the object."},
      {"ObjectMeta.deletionTimestamp", "When the object is to be gone; set by a graceful deletion."},
      {"ReplicationControllerSpec.replicas", "Number of pods wanted. Default: 1."},
      {"ReplicationControllerSpec.selector",
       "Labels of the pods that count. Default: the labels of the template."},
      {"ReplicationControllerSpec.template", "The pod to create when there are too few."},
      {"ReplicationControllerSpec.minReadySeconds",
       "Seconds a new pod must be ready before it is available. Default: 0."},
      {"ReplicationControllerStatus.replicas", "Number of pods there are."},
      {"ReplicationControllerStatus.readyReplicas", "Number of pods that are ready."},
      {"ReplicationControllerStatus.availableReplicas", "Number of pods ready for at least minReadySeconds."},
      {"PodSpec.containers", "The containers of the pod; at least one; cannot be added or removed later."},
      {"PodSpec.initContainers",
       "Containers that run one after the other, each to its end, before the others start."},
      {"PodSpec.volumes", "Volumes that the containers can mount."},
      {"PodSpec.nodeName", "Node the pod runs on; set by the scheduler when empty."},
      {"PodSpec.nodeSelector", "Labels a node must have to be chosen."},
      {"PodSpec.restartPolicy",
       "When containers are started again: Always, OnFailure or Never. Default: Always."},
      {"PodSpec.terminationGracePeriodSeconds",
       "Seconds between SIGTERM and SIGKILL when the pod ends. Default: 30."},
      {"PodSpec.tolerations", "Taints of nodes that the pod puts up with."},
      {"PodSpec.hostNetwork", "Use the node's network instead of an own one."},
      {"Container.name", "Name of the container, unique in the pod."},
      {"Container.image", "Image reference."},
      {"Container.command", "Program and first arguments; replaces the image's entrypoint."},
      {"Container.args", "Arguments; replace the image's command."},
      {"Container.env", "Environment variables."},
      {"Container.ports", "Ports the container listens on; for information and host ports."},
      {"Container.resources", "Amounts of resources it needs and may use."},
      {"Container.volumeMounts", "Where volumes appear in the container."},
      {"Container.livenessProbe", "Check whose failure restarts the container."},
      {"Container.readinessProbe", "Check whose failure takes the pod out of Services."},
      {"Container.imagePullPolicy", "When the image is pulled: Always, IfNotPresent or Never."},
      {"ServiceSpec.type", "How the Service is exposed: ClusterIP, NodePort, LoadBalancer or ExternalName."},
      {"ServiceSpec.ports", "The ports of the Service."},
      {"ServiceSpec.selector", "Labels of the pods behind the Service."},
      {"ServiceSpec.clusterIP",
       "Virtual address; given by the server when empty; None for a headless Service."},
      {"ServicePort.port", "Port of the Service."},
      {"ServicePort.targetPort", "Port of the pods, as a number or name. Default: the value of port."},
      {"ServicePort.nodePort", "Port on every node, for types NodePort and LoadBalancer."},
      {"ServicePort.protocol", "TCP, UDP or SCTP. Default: TCP."},
  };
  return *texts;
}

}  // namespace

std::string DescribeType(const google::protobuf::Descriptor& type) {
  auto it = Texts().find(type.name());
  return it == Texts().end() ? Sentence(Words(type.name())) : it->second;
}

std::string DescribeField(const google::protobuf::Descriptor& type,
                          const google::protobuf::FieldDescriptor& field) {
  auto it = Texts().find(StrCat(type.name(), ".", field.json_name()));
  if (it == Texts().end()) it = Texts().find(StrCat(".", field.json_name()));
  return it == Texts().end() ? Sentence(Words(field.json_name())) : it->second;
}

std::string DescribeParameter(const std::string& name) {
  static const auto* texts = new std::map<std::string, std::string>{
      {"dryRun", "All: check everything, store nothing."},
      {"fieldManager", "Name of who changes the object."},
      {"fieldValidation", "What to do about unknown and duplicate fields: Ignore, Warn or Strict."},
      {"labelSelector", "Labels to select by."},
      {"fieldSelector", "Fields to select by."},
      {"limit", "Largest number of objects in one answer."},
      {"continue", "Where the list goes on; from the answer before."},
      {"watch", "Answer with a stream of changes."},
      {"resourceVersion", "Version to read at or to watch from."},
      {"name", "Name of the object."},
      {"namespace", "Namespace of the object."},
  };
  auto it = texts->find(name);
  return it == texts->end() ? Sentence(Words(name)) : it->second;
}

}  // namespace keelson::master
