#include "kubelet/environment.h"

#include <absl/strings/ascii.h>

#include <algorithm>
#include <optional>

#include "base/status.h"
#include "kubelet/field_ref.h"

namespace keelson::kubelet {
namespace {

// Ordered, last value of a name wins in its first place.
class Builder {
 public:
  void Set(const std::string& name, std::string value) {
    auto [it, fresh] = index_.try_emplace(name, list_.size());
    if (fresh) {
      list_.emplace_back(name, std::move(value));
    } else {
      list_[it->second].second = std::move(value);
    }
  }
  const std::string* Find(std::string_view name) const {
    auto it = index_.find(std::string(name));
    return it == index_.end() ? nullptr : &list_[it->second].second;
  }
  EnvList Take() { return std::move(list_); }

 private:
  EnvList list_;
  std::map<std::string, size_t> index_;
};

std::string EnvName(std::string_view name) {
  std::string out(name);
  absl::AsciiStrToUpper(&out);
  std::replace(out.begin(), out.end(), '-', '_');
  return out;
}

template <class Data>
void AddAll(const Data& data, const std::string& prefix, Builder& out) {
  std::map<std::string, std::string> sorted(data.begin(), data.end());
  for (auto& [key, value] : sorted) out.Set(prefix + key, std::move(value));
}

absl::Status AddEnvFrom(const corev1::Pod& pod, const corev1::EnvFromSource& from, const EnvInputs& in,
                        Builder& out) {
  if (from.has_config_map_ref()) {
    const std::string& name = from.config_map_ref().local_object_reference().name();
    auto it = in.config_maps.find(name);
    if (it != in.config_maps.end() && it->second != nullptr) {
      AddAll(it->second->data(), from.prefix(), out);
    } else if (!from.config_map_ref().optional()) {
      return absl::NotFoundError(StrCat("configmap \"", name, "\" not found"));
    }
  }
  if (from.has_secret_ref()) {
    const std::string& name = from.secret_ref().local_object_reference().name();
    auto it = in.secrets.find(name);
    if (it != in.secrets.end() && it->second != nullptr) {
      AddAll(it->second->data(), from.prefix(), out);
    } else if (!from.secret_ref().optional()) {
      return absl::NotFoundError(StrCat("secret \"", name, "\" not found"));
    }
  }
  return absl::OkStatus();
}

// nullopt: an optional thing that is not there; the variable is left out.
absl::StatusOr<std::optional<std::string>> ValueFrom(const corev1::Pod& pod,
                                                     const corev1::Container& container,
                                                     const corev1::EnvVarSource& from, const EnvInputs& in) {
  if (from.has_field_ref()) {
    absl::StatusOr<std::string> text = ExtractFieldPath(pod, from.field_ref().field_path());
    if (!text.ok()) return text.status();
    return std::optional<std::string>(*std::move(text));
  }
  if (from.has_resource_field_ref()) {
    absl::StatusOr<std::string> text =
        ExtractResource(pod, container, from.resource_field_ref(), in.allocatable);
    if (!text.ok()) return text.status();
    return std::optional<std::string>(*std::move(text));
  }
  if (from.has_config_map_key_ref()) {
    const auto& ref = from.config_map_key_ref();
    const std::string& name = ref.local_object_reference().name();
    auto it = in.config_maps.find(name);
    if (it == in.config_maps.end() || it->second == nullptr) {
      if (ref.optional()) return std::optional<std::string>();
      return absl::NotFoundError(StrCat("configmap \"", name, "\" not found"));
    }
    auto key = it->second->data().find(ref.key());
    if (key != it->second->data().end()) return std::optional<std::string>(key->second);
    if (ref.optional()) return std::optional<std::string>();
    return absl::NotFoundError(
        StrCat("couldn't find key ", ref.key(), " in ConfigMap ", pod.metadata().namespace_(), "/", name));
  }
  if (from.has_secret_key_ref()) {
    const auto& ref = from.secret_key_ref();
    const std::string& name = ref.local_object_reference().name();
    auto it = in.secrets.find(name);
    if (it == in.secrets.end() || it->second == nullptr) {
      if (ref.optional()) return std::optional<std::string>();
      return absl::NotFoundError(StrCat("secret \"", name, "\" not found"));
    }
    auto key = it->second->data().find(ref.key());
    if (key != it->second->data().end()) return std::optional<std::string>(key->second);
    if (ref.optional()) return std::optional<std::string>();
    return absl::NotFoundError(
        StrCat("couldn't find key ", ref.key(), " in Secret ", pod.metadata().namespace_(), "/", name));
  }
  return absl::UnimplementedError("valueFrom.fileKeyRef is not implemented");
}

}  // namespace

std::string ExpandVariables(std::string_view text,
                            const std::function<const std::string*(std::string_view)>& lookup) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '$' || i + 1 == text.size()) {
      out += text[i];
      continue;
    }
    if (text[i + 1] == '$') {
      out += '$';
      ++i;
      continue;
    }
    if (text[i + 1] != '(') {
      out += '$';
      out += text[++i];
      continue;
    }
    size_t close = text.find(')', i + 2);
    if (close == std::string_view::npos) {
      out += "$(";
      ++i;
      continue;
    }
    std::string_view name = text.substr(i + 2, close - i - 2);
    const std::string* value = lookup(name);
    if (value != nullptr) {
      out += *value;
    } else {
      out += text.substr(i, close - i + 1);
    }
    i = close;
  }
  return out;
}

EnvList ServiceEnvironment(const std::vector<std::shared_ptr<const corev1::Service>>& services) {
  EnvList out;
  for (const auto& service : services) {
    const auto& spec = service->spec();
    const std::string& ip = spec.cluster_ip();
    if (ip.empty() || ip == "None" || spec.ports_size() == 0 || spec.type() == "ExternalName") continue;
    const std::string prefix = EnvName(service->metadata().name());
    const std::string host = ip.find(':') != std::string::npos ? StrCat("[", ip, "]") : ip;
    out.emplace_back(prefix + "_SERVICE_HOST", ip);
    out.emplace_back(prefix + "_SERVICE_PORT", StrCat(spec.ports(0).port()));
    for (const auto& port : spec.ports()) {
      if (!port.name().empty()) {
        out.emplace_back(StrCat(prefix, "_SERVICE_PORT_", EnvName(port.name())), StrCat(port.port()));
      }
    }
    for (int i = 0; i < spec.ports_size(); ++i) {
      const auto& port = spec.ports(i);
      std::string protocol = port.protocol().empty() ? "TCP" : port.protocol();
      std::string url = StrCat(absl::AsciiStrToLower(protocol), "://", host, ":", port.port());
      if (i == 0) out.emplace_back(prefix + "_PORT", url);
      std::string each = StrCat(prefix, "_PORT_", port.port(), "_", absl::AsciiStrToUpper(protocol));
      out.emplace_back(each, url);
      out.emplace_back(each + "_PROTO", absl::AsciiStrToLower(protocol));
      out.emplace_back(each + "_PORT", StrCat(port.port()));
      out.emplace_back(each + "_ADDR", ip);
    }
  }
  return out;
}

std::vector<std::shared_ptr<const corev1::Service>> ServicesFor(
    const corev1::Pod& pod, const std::vector<std::shared_ptr<const corev1::Service>>& all,
    std::string_view master_ns) {
  const bool links = !pod.spec().has_enable_service_links() || pod.spec().enable_service_links();
  std::vector<std::shared_ptr<const corev1::Service>> out;
  for (const auto& service : all) {
    const auto& meta = service->metadata();
    const bool own = links && meta.namespace_() == pod.metadata().namespace_();
    const bool master = meta.namespace_() == master_ns && meta.name() == "kubernetes";
    if (own) {
      out.push_back(service);
    } else if (master) {
      // A service of the pod's own namespace with that name hides it.
      bool hidden = links && std::any_of(all.begin(), all.end(), [&](const auto& s) {
                      return s->metadata().namespace_() == pod.metadata().namespace_() &&
                             s->metadata().name() == "kubernetes";
                    });
      if (!hidden) out.push_back(service);
    }
  }
  return out;
}

EnvReferences ReferencesOf(const corev1::Container& container) {
  EnvReferences out;
  for (const auto& from : container.env_from()) {
    if (from.has_config_map_ref())
      out.config_maps.insert(from.config_map_ref().local_object_reference().name());
    if (from.has_secret_ref()) out.secrets.insert(from.secret_ref().local_object_reference().name());
  }
  for (const auto& env : container.env()) {
    const auto& from = env.value_from();
    if (from.has_config_map_key_ref())
      out.config_maps.insert(from.config_map_key_ref().local_object_reference().name());
    if (from.has_secret_key_ref()) out.secrets.insert(from.secret_key_ref().local_object_reference().name());
  }
  return out;
}

absl::StatusOr<EnvList> MakeEnvironment(const corev1::Pod& pod, const corev1::Container& container,
                                        const EnvInputs& inputs) {
  Builder out;
  std::map<std::string, std::string, std::less<>> services;
  for (const auto& [name, value] : inputs.service_env) services.emplace(name, value);
  auto lookup = [&](std::string_view name) -> const std::string* {
    if (const std::string* own = out.Find(name)) return own;
    auto it = services.find(name);
    return it == services.end() ? nullptr : &it->second;
  };
  for (const auto& from : container.env_from()) RETURN_IF_ERROR(AddEnvFrom(pod, from, inputs, out));
  for (const auto& env : container.env()) {
    if (!env.has_value_from()) {
      out.Set(env.name(), ExpandVariables(env.value(), lookup));
      continue;
    }
    absl::StatusOr<std::optional<std::string>> value = ValueFrom(pod, container, env.value_from(), inputs);
    if (!value.ok()) return value.status();
    if (value->has_value()) out.Set(env.name(), **std::move(value));
  }
  for (const auto& [name, value] : inputs.service_env) {
    if (out.Find(name) == nullptr) out.Set(name, value);
  }
  return out.Take();
}

}  // namespace keelson::kubelet
