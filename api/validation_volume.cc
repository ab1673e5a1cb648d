// Volumes of a pod, and what names its own fields.
#include <absl/strings/match.h>
#include <absl/strings/str_split.h>

#include <algorithm>

#include "api/labels.h"
#include "api/quantity.h"
#include "api/validation_internal.h"
#include "base/strings.h"

namespace keelson::api::validation {

namespace corev1 = ::k8s::core::v1;

void PathWithoutDotDot(const std::string& field, const std::string& path, Errors& errors) {
  for (absl::string_view part : absl::StrSplit(path, '/')) {
    if (part == "..") {
      errors.InvalidText(field, path, "must not contain '..'");
      return;
    }
  }
}

void RelativePath(const std::string& field, const std::string& path, Errors& errors) {
  if (absl::StartsWith(path, "/")) errors.InvalidText(field, path, "must be a relative path");
  PathWithoutDotDot(field, path, errors);
}

void FieldRef(const corev1::ObjectFieldSelector& ref, bool volume, const std::string& path, Errors& errors) {
  static const std::vector<std::string> kEnvPaths = {
      "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
      "status.hostIP", "status.hostIPs",     "status.podIP", "status.podIPs"};
  static const std::vector<std::string> kVolumePaths = {
      "metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"};
  if (ref.field_path().empty()) return errors.Required(Child(path, "fieldPath"));
  if (absl::StartsWith(ref.field_path(), "metadata.annotations['") ||
      absl::StartsWith(ref.field_path(), "metadata.labels['")) {
    return;
  }
  errors.OneOf(Child(path, "fieldPath"), ref.field_path(), volume ? kVolumePaths : kEnvPaths);
}

void ResourceFieldRef(const corev1::ResourceFieldSelector& ref, bool volume, const std::string& path,
                      Errors& errors) {
  static const std::vector<std::string> kResources = {
      "limits.cpu",   "limits.ephemeral-storage",   "limits.memory",
      "requests.cpu", "requests.ephemeral-storage", "requests.memory"};
  static const std::vector<std::string> kBytes = {"1",   "1k",  "1M",  "1G",  "1T",  "1P", "1E",
                                                  "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"};
  const std::string& resource = ref.resource();
  const bool huge_pages =
      absl::StartsWith(resource, "limits.hugepages-") || absl::StartsWith(resource, "requests.hugepages-");
  if (volume && ref.container_name().empty()) {
    errors.Required(Child(path, "containerName"));
  } else if (resource.empty()) {
    errors.Required(Child(path, "resource"));
  } else if (!huge_pages) {
    errors.Supported(Child(path, "resource"), resource, kResources);
  }
  if (ref.divisor().string().empty()) return;
  const Quantity divisor = Quantity::Of(ref.divisor());
  if (divisor.IsZero()) return;
  const std::string text = divisor.ToString();
  const bool known =
      huge_pages || std::find(kResources.begin(), kResources.end(), resource) != kResources.end();
  if (absl::EndsWith(resource, ".cpu")) {
    if (text != "1" && text != "1m") {
      errors.InvalidText(Child(path, "divisor"), resource,
                         "only divisor's values 1m and 1 are supported with the cpu resource");
    }
  } else if (known && std::find(kBytes.begin(), kBytes.end(), text) == kBytes.end()) {
    const std::string_view kind = huge_pages                            ? "hugepages"
                                  : absl::EndsWith(resource, ".memory") ? "memory"
                                                                        : "local ephemeral storage";
    errors.InvalidText(Child(path, "divisor"), resource,
                       StrCat("only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei "
                              "are supported with the ",
                              kind, " resource"));
  }
}

namespace {

constexpr int32_t kMaxFileMode = 0777;
constexpr int32_t kMaxEmptyDirMode = 01777;
constexpr int64_t kMinTokenS = 600;
constexpr int64_t kMaxTokenS = int64_t{1} << 32;

void FileMode(const std::string& field, int32_t mode, Errors& errors) {
  if (mode >= 0 && mode <= kMaxFileMode) return;
  errors.InvalidNumber(field, mode, "must be a number between 0 and 0777 (octal), both inclusive");
}

// The mode and owner of a volume's files, where they are set.
template <class Source>
void FileDefaults(const Source& source, const std::string& path, Errors& errors) {
  if (source.has_default_mode()) FileMode(Child(path, "defaultMode"), source.default_mode(), errors);
  if (source.has_default_user()) errors.Id(Child(path, "defaultUser"), source.default_user());
}

template <class Item>  // KeyToPath or DownwardAPIVolumeFile
void File(const Item& file, const std::string& path, Errors& errors) {
  const std::string field = Child(path, "path");
  if (file.path().empty()) errors.Required(field);
  RelativePath(field, file.path(), errors);
  if (absl::StartsWith(file.path(), "..") && file.path() != ".." && !absl::StartsWith(file.path(), "../")) {
    errors.InvalidText(field, file.path(), "must not start with '..'");
  }
  if (file.has_mode()) FileMode(Child(path, "mode"), file.mode(), errors);
  if (file.has_user()) errors.Id(Child(path, "user"), file.user());
}

void Keys(const google::protobuf::RepeatedPtrField<corev1::KeyToPath>& items, const std::string& path,
          Errors& errors) {
  for (int i = 0; i < items.size(); ++i) {
    const std::string here = Index(Child(path, "items"), static_cast<size_t>(i));
    if (items[i].key().empty()) errors.Required(Child(here, "key"));
    File(items[i], here, errors);
  }
}

// Upstream names the volume only, not the item.
void DownwardFiles(const google::protobuf::RepeatedPtrField<corev1::DownwardAPIVolumeFile>& items,
                   const std::string& path, Errors& errors) {
  for (const corev1::DownwardAPIVolumeFile& item : items) {
    if (item.has_field_ref()) {
      FieldRef(item.field_ref(), true, Child(path, "fieldRef"), errors);
      if (item.has_resource_field_ref()) {
        errors.InvalidText(path, "resource",
                           "fieldRef and resourceFieldRef can not be specified simultaneously");
      }
    } else if (item.has_resource_field_ref()) {
      ResourceFieldRef(item.resource_field_ref(), true, Child(path, "resourceFieldRef"), errors);
    } else {
      errors.Required(path, "one of fieldRef and resourceFieldRef is required");
    }
    File(item, path, errors);
  }
}

// Files of one projected volume: no two at the same place.
class ProjectedPaths {
 public:
  ProjectedPaths(const std::string& volume, Errors& errors) : volume_(volume), errors_(errors) {}
  // `shown`: what upstream prints of the one that comes second.
  template <class Items>
  void Add(const Items& items, const std::string* shown) {
    for (const auto& item : items) {
      if (item.path().empty() || paths_.insert(item.path()).second) continue;
      errors_.InvalidText(volume_, shown == nullptr ? item.path() : *shown, "conflicting duplicate paths");
    }
  }

 private:
  const std::string& volume_;
  Errors& errors_;
  StringSet paths_;
};

void TokenProjection(const corev1::ServiceAccountTokenProjection& token, const std::string& volume,
                     const std::string& path, Errors& errors) {
  const std::string expiry = Child(path, "expirationSeconds");
  if (!token.has_expiration_seconds()) {
    errors.Required(expiry);
  } else if (token.expiration_seconds() < kMinTokenS) {
    errors.InvalidNumber(expiry, token.expiration_seconds(),
                         "may not specify a duration less than 10 minutes");
  } else if (token.expiration_seconds() > kMaxTokenS) {
    errors.InvalidNumber(expiry, token.expiration_seconds(),
                         "may not specify a duration larger than 2^32 seconds");
  }
  if (token.path().empty()) errors.Required(Child(volume, "path"));
  RelativePath(Child(volume, "path"), token.path(), errors);
  if (token.has_user()) errors.Id(Child(path, "user"), token.user());
}

void Projected(const corev1::ProjectedVolumeSource& volume, const std::string& path, Errors& errors) {
  FileDefaults(volume, path, errors);
  ProjectedPaths paths(path, errors);
  for (int i = 0; i < volume.sources_size(); ++i) {
    const corev1::VolumeProjection& source = volume.sources(i);
    const std::string here = Index(Child(path, "sources"), static_cast<size_t>(i));
    auto object = [&](const auto& projection, const char* field) {
      const std::string at = Child(here, field);
      const std::string& name = projection.local_object_reference().name();
      if (name.empty()) errors.Required(Child(at, "name"));
      Keys(projection.items(), at, errors);
      paths.Add(projection.items(), &name);
    };
    if (source.has_secret()) object(source.secret(), "secret");
    if (source.has_config_map()) object(source.config_map(), "configMap");
    if (source.has_downward_api()) {
      DownwardFiles(source.downward_api().items(), Child(here, "downwardAPI"), errors);
      paths.Add(source.downward_api().items(), nullptr);
    }
    if (source.has_service_account_token()) {
      TokenProjection(source.service_account_token(), path, Child(here, "serviceAccountToken"), errors);
    }
    if (source.has_secret() + source.has_config_map() + source.has_downward_api() +
            source.has_service_account_token() + source.has_cluster_trust_bundle() +
            source.has_pod_certificate() >
        1) {
      errors.Forbidden(here, "may not specify more than 1 volume type per source");
    }
  }
}

void HostPath(const corev1::HostPathVolumeSource& source, const std::string& path, Errors& errors) {
  if (source.path().empty()) errors.Required(Child(path, "path"));
  PathWithoutDotDot(Child(path, "path"), source.path(), errors);
  errors.Supported(
      Child(path, "type"), source.type(),
      {"", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"});
}

void EmptyDir(const corev1::EmptyDirVolumeSource& source, const std::string& path, Errors& errors) {
  if (source.has_size_limit()) {
    auto limit = Quantity::Parse(source.size_limit().string());
    if (!limit.ok() || limit->Sign() < 0) {
      errors.Forbidden(Child(path, "sizeLimit"), "SizeLimit field must be a valid resource quantity");
    }
  }
  if (source.has_mode() && (source.mode() < 0 || source.mode() > kMaxEmptyDirMode)) {
    errors.InvalidNumber(Child(path, "mode"), source.mode(),
                         "must be a number between 0 and 01777 (octal), both inclusive");
  }
}

// Of the types there is something for here; the others are reported by UnimplementedFields().
void Source(const corev1::VolumeSource& source, const std::string& path, Errors& errors) {
  if (source.has_host_path()) HostPath(source.host_path(), Child(path, "hostPath"), errors);
  if (source.has_empty_dir()) EmptyDir(source.empty_dir(), Child(path, "emptyDir"), errors);
  if (source.has_secret()) {
    const std::string here = Child(path, "secret");
    if (source.secret().secret_name().empty()) errors.Required(Child(here, "secretName"));
    FileDefaults(source.secret(), here, errors);
    Keys(source.secret().items(), here, errors);
  }
  if (source.has_config_map()) {
    const std::string here = Child(path, "configMap");
    if (source.config_map().local_object_reference().name().empty()) errors.Required(Child(here, "name"));
    FileDefaults(source.config_map(), here, errors);
    Keys(source.config_map().items(), here, errors);
  }
  if (source.has_downward_api()) {
    const std::string here = Child(path, "downwardAPI");
    FileDefaults(source.downward_api(), here, errors);
    DownwardFiles(source.downward_api().items(), here, errors);
  }
  if (source.has_projected()) Projected(source.projected(), Child(path, "projected"), errors);
}

}  // namespace

void Volumes(const corev1::PodSpec& spec, const std::string& path, StringSet* names, Errors& errors) {
  for (int i = 0; i < spec.volumes_size(); ++i) {
    const auto& volume = spec.volumes(i);
    std::string here = Index(path, static_cast<size_t>(i));
    if (volume.name().empty()) {
      errors.Required(Child(here, "name"));
    } else {
      errors.Messages(Child(here, "name"), volume.name(), IsDns1123Label(volume.name()));
      if (!names->insert(volume.name()).second) errors.Duplicate(Child(here, "name"), volume.name());
    }
    const auto& source = volume.volume_source();
    int sources = 0;
    for (int f = 0; f < source.GetDescriptor()->field_count(); ++f) {
      if (!source.GetReflection()->HasField(source, source.GetDescriptor()->field(f))) continue;
      if (++sources > 1) {
        errors.Forbidden(Child(here, source.GetDescriptor()->field(f)->json_name()),
                         "may not specify more than 1 volume type");
      }
    }
    if (sources == 0) errors.Required(here, "must specify a volume type");
    Source(source, here, errors);
  }
}

}  // namespace keelson::api::validation
