#include "kubelet/field_ref.h"

#include <absl/strings/str_join.h>

#include <algorithm>
#include <map>

namespace keelson::kubelet {
namespace {

using Map = google::protobuf::Map<std::string, std::string>;

// key="value" lines, sorted, as files of the downward API have them.
std::string FormatMap(const Map& map) {
  std::map<std::string, std::string> sorted(map.begin(), map.end());
  std::string out;
  for (const auto& [key, value] : sorted) {
    if (!out.empty()) out += '\n';
    StrAppend(&out, key, "=\"");
    for (char c : value) {
      switch (c) {
        case '"':
          out += "\\\"";
          break;
        case '\\':
          out += "\\\\";
          break;
        case '\n':
          out += "\\n";
          break;
        case '\t':
          out += "\\t";
          break;
        case '\r':
          out += "\\r";
          break;
        default:
          out += c;
      }
    }
    out += '"';
  }
  return out;
}

// "metadata.labels['k']" -> k; empty view when it is not of that form.
bool Subscript(std::string_view path, std::string_view field, std::string_view* key) {
  if (path.size() < field.size() + 4 || path.substr(0, field.size()) != field) return false;
  std::string_view rest = path.substr(field.size());
  if (rest.substr(0, 2) != "['" || rest.substr(rest.size() - 2) != "']") return false;
  *key = rest.substr(2, rest.size() - 4);
  return true;
}

std::string Lookup(const Map& map, std::string_view key) {
  auto it = map.find(std::string(key));
  return it == map.end() ? "" : it->second;
}

}  // namespace

absl::StatusOr<std::string> ExtractFieldPath(const corev1::Pod& pod, std::string_view path) {
  const auto& meta = pod.metadata();
  std::string_view key;
  if (Subscript(path, "metadata.labels", &key)) return Lookup(meta.labels(), key);
  if (Subscript(path, "metadata.annotations", &key)) return Lookup(meta.annotations(), key);
  if (path == "metadata.name") return meta.name();
  if (path == "metadata.namespace") return meta.namespace_();
  if (path == "metadata.uid") return meta.uid();
  if (path == "metadata.labels") return FormatMap(meta.labels());
  if (path == "metadata.annotations") return FormatMap(meta.annotations());
  if (path == "spec.nodeName") return pod.spec().node_name();
  if (path == "spec.serviceAccountName") return pod.spec().service_account_name();
  if (path == "status.hostIP") return pod.status().host_ip();
  if (path == "status.podIP") return pod.status().pod_ip();
  if (path == "status.hostIPs") {
    return absl::StrJoin(pod.status().host_ips(), ",", [](std::string* o, const auto& ip) { *o += ip.ip(); });
  }
  if (path == "status.podIPs") {
    return absl::StrJoin(pod.status().pod_ips(), ",", [](std::string* o, const auto& ip) { *o += ip.ip(); });
  }
  return absl::InvalidArgumentError(StrCat("unsupported fieldPath: ", path));
}

absl::StatusOr<std::string> ExtractResource(const corev1::Pod& pod, const corev1::Container& container,
                                            const corev1::ResourceFieldSelector& selector,
                                            const ResourceList& allocatable) {
  const corev1::Container* target = &container;
  if (!selector.container_name().empty() && selector.container_name() != container.name()) {
    target = FindContainer(pod, selector.container_name());
    if (target == nullptr) {
      return absl::InvalidArgumentError(StrCat("container ", selector.container_name(), " not found"));
    }
  }
  std::string_view resource = selector.resource();
  size_t dot = resource.find('.');
  std::string_view side = resource.substr(0, dot);
  std::string name(dot == std::string_view::npos ? "" : resource.substr(dot + 1));
  if (name.empty() || (side != "limits" && side != "requests")) {
    return absl::InvalidArgumentError(StrCat("unsupported container resource: ", resource));
  }
  const auto& r = target->resources();
  api::Quantity amount;
  if (side == "limits") {
    if (r.limits().contains(name)) {
      amount = GetQuantity(r.limits(), name);
    } else if (auto it = allocatable.find(name); it != allocatable.end()) {
      amount = it->second;
    }
  } else {
    amount = r.requests().contains(name) ? GetQuantity(r.requests(), name) : GetQuantity(r.limits(), name);
  }
  api::Quantity divisor = api::Quantity::Of(selector.divisor());
  if (divisor.IsZero()) divisor = api::Quantity::FromValue(1);
  __int128 value = name == "cpu" ? amount.MilliValue() : amount.Value();
  __int128 by = name == "cpu" ? divisor.MilliValue() : divisor.Value();
  if (by <= 0) return absl::InvalidArgumentError(StrCat("divisor of ", resource, " must be positive"));
  return StrCat(static_cast<int64_t>((value + by - 1) / by));
}

}  // namespace keelson::kubelet
