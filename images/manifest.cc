#include "images/manifest.h"

#include <absl/strings/match.h>
#include <absl/strings/str_join.h>
#include <sys/utsname.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/status.h"
#include "base/strings.h"
#include "images/digest.h"

namespace keelson::images {
namespace {

using Json = nlohmann::json;

constexpr int kMaxJsonDepth = 16;
constexpr size_t kMaxStringBytes = 4096;
constexpr size_t kMaxArchiveImages = 1024;

// A parse that keeps nothing nested too deep, so that the tree stays small whatever the bytes are.
absl::StatusOr<Json> ParseJson(std::string_view text, size_t max_bytes, std::string_view what) {
  if (text.size() > max_bytes) {
    return absl::ResourceExhaustedError(StrCat(what, ": over the limit of ", max_bytes, " bytes"));
  }
  bool too_deep = false;
  Json out = Json::parse(
      text.begin(), text.end(),
      [&](int depth, Json::parse_event_t event, Json&) {
        if (depth > kMaxJsonDepth) too_deep = true;
        return !too_deep;
      },
      /*allow_exceptions=*/false);
  if (too_deep) return absl::InvalidArgumentError(StrCat(what, ": nested too deep"));
  if (out.is_discarded()) return absl::InvalidArgumentError(StrCat(what, ": not JSON"));
  return out;
}

absl::StatusOr<std::string> StringField(const Json& object, const char* name, std::string_view where) {
  auto it = object.find(name);
  if (it == object.end() || it->is_null()) return std::string();
  if (!it->is_string()) return absl::InvalidArgumentError(StrCat(where, ".", name, ": not a string"));
  const std::string& value = it->get_ref<const std::string&>();
  if (value.size() > kMaxStringBytes) {
    return absl::InvalidArgumentError(StrCat(where, ".", name, ": longer than ", kMaxStringBytes, " bytes"));
  }
  return value;
}

absl::StatusOr<Platform> ParsePlatform(const Json& object, const std::string& where) {
  Platform out;
  auto it = object.find("platform");
  if (it == object.end() || it->is_null()) return out;
  if (!it->is_object()) return absl::InvalidArgumentError(StrCat(where, ".platform: not an object"));
  ASSIGN_OR_RETURN(out.os, StringField(*it, "os", where));
  ASSIGN_OR_RETURN(out.architecture, StringField(*it, "architecture", where));
  ASSIGN_OR_RETURN(out.variant, StringField(*it, "variant", where));
  return out;
}

absl::StatusOr<Descriptor> ParseDescriptor(const Json& object, const std::string& where) {
  if (!object.is_object()) return absl::InvalidArgumentError(StrCat(where, ": not an object"));
  Descriptor out;
  ASSIGN_OR_RETURN(out.media_type, StringField(object, "mediaType", where));
  ASSIGN_OR_RETURN(out.digest, StringField(object, "digest", where));
  auto hex = DigestHex(out.digest);
  if (!hex.ok()) return Annotate(hex.status(), where);
  auto size = object.find("size");
  if (size == object.end() || !size->is_number_integer() ||
      (!size->is_number_unsigned() && size->get<int64_t>() < 0)) {
    return absl::InvalidArgumentError(StrCat(where, ".size: not a byte count"));
  }
  out.size_bytes = size->get<uint64_t>();
  if (out.size_bytes > kMaxBlobBytes) {
    return absl::ResourceExhaustedError(
        StrCat(where, ".size: ", out.size_bytes, " is over the limit of ", kMaxBlobBytes, " bytes"));
  }
  ASSIGN_OR_RETURN(out.platform, ParsePlatform(object, where));
  auto annotations = object.find("annotations");
  if (annotations != object.end() && annotations->is_object()) {
    for (const char* name : {"io.containerd.image.name", "org.opencontainers.image.ref.name"}) {
      if (out.ref_name.empty()) {
        ASSIGN_OR_RETURN(out.ref_name, StringField(*annotations, name, where));
      }
    }
  }
  return out;
}

bool IsLayerType(std::string_view type) {
  absl::string_view t = Av(type);
  return t.empty() || absl::StartsWith(t, "application/vnd.oci.image.layer.v1.tar") ||
         absl::StartsWith(t, "application/vnd.docker.image.rootfs.diff.tar");
}

bool IsForeignLayerType(std::string_view type) {
  return absl::StrContains(Av(type), "nondistributable") || absl::StrContains(Av(type), "rootfs.foreign");
}

absl::StatusOr<Manifest> ParseImageManifest(const Json& root, std::string media_type) {
  Manifest out;
  out.media_type = std::move(media_type);
  auto config = root.find("config");
  if (config == root.end()) return absl::InvalidArgumentError("manifest.config: missing");
  ASSIGN_OR_RETURN(out.config, ParseDescriptor(*config, "manifest.config"));
  const std::string& type = out.config.media_type;
  if (!type.empty() && type != kOciConfig && type != "application/vnd.docker.container.image.v1+json") {
    return absl::UnimplementedError(
        StrCat("manifest.config.mediaType: ", type, ": an artifact, not a container image"));
  }
  auto layers = root.find("layers");
  if (layers == root.end() || layers->is_null()) return out;
  if (!layers->is_array()) return absl::InvalidArgumentError("manifest.layers: not a list");
  if (layers->size() > kMaxLayers) {
    return absl::ResourceExhaustedError(
        StrCat("manifest.layers: ", layers->size(), " layers, over the limit of ", kMaxLayers));
  }
  for (size_t i = 0; i < layers->size(); ++i) {
    std::string where = StrCat("manifest.layers[", i, "]");
    ASSIGN_OR_RETURN(Descriptor layer, ParseDescriptor((*layers)[i], where));
    if (IsForeignLayerType(layer.media_type)) {
      return absl::UnimplementedError(
          StrCat(where, ".mediaType: ", layer.media_type, ": layers kept elsewhere are not fetched"));
    }
    if (!IsLayerType(layer.media_type)) {
      return absl::UnimplementedError(StrCat(where, ".mediaType: ", layer.media_type, ": not supported"));
    }
    if (absl::StrContains(layer.media_type, "encrypted")) {
      return absl::UnimplementedError(StrCat(where, ".mediaType: encrypted layers are not supported"));
    }
    out.layers.push_back(std::move(layer));
  }
  return out;
}

// The name is for people: one that is no short string still says that it is a checkpoint.
std::string CheckpointOf(const Json& root) {
  auto annotations = root.find("annotations");
  if (annotations == root.end() || !annotations->is_object()) return "";
  for (const char* name : kCheckpointAnnotations) {
    if (!annotations->contains(name)) continue;
    absl::StatusOr<std::string> value = StringField(*annotations, name, "annotations");
    return value.ok() && !value->empty() ? *value : "?";
  }
  return "";
}

enum class Kind { kUnknown, kManifest, kIndex, kSchema1 };

Kind KindOf(std::string_view media_type) {
  // Parameters such as "; charset=utf-8" do not count.
  media_type = media_type.substr(0, media_type.find(';'));
  while (!media_type.empty() && media_type.back() == ' ') media_type.remove_suffix(1);
  if (media_type == kOciManifest || media_type == kDockerManifest) return Kind::kManifest;
  if (media_type == kOciIndex || media_type == kDockerManifestList) return Kind::kIndex;
  if (absl::StrContains(Av(media_type), "manifest.v1+")) return Kind::kSchema1;
  return Kind::kUnknown;
}

// "v8" -> 8; -1 when it is not of that form.
int VariantNumber(const std::string& variant) {
  if (variant.size() < 2 || variant.size() > 3 || variant[0] != 'v') return -1;
  int out = 0;
  for (char c : variant.substr(1)) {
    if (c < '0' || c > '9') return -1;
    out = out * 10 + (c - '0');
  }
  return out;
}

// Higher is better, 0: does not run here.
int PlatformScore(const Platform& entry, const Platform& wanted) {
  constexpr int kExact = 1000, kNone = 500;
  std::string architecture = entry.architecture;
  if (architecture == "x86_64") architecture = "amd64";
  if (architecture == "aarch64") architecture = "arm64";
  if (entry.os != wanted.os || architecture != wanted.architecture) return 0;
  if (entry.variant == wanted.variant) return kExact;
  if (entry.variant.empty()) return kNone;
  int have = VariantNumber(entry.variant), want = VariantNumber(wanted.variant);
  // arm64 has one variant in practice; amd64/v2 and up need newer processors than plain amd64 promises.
  if (want < 0) want = wanted.architecture == "arm64" ? 8 : wanted.architecture == "amd64" ? 1 : -1;
  if (have < 0 || have > want) return 0;
  return kNone + have;
}

}  // namespace

std::string Platform::ToString() const {
  return variant.empty() ? StrCat(os, "/", architecture) : StrCat(os, "/", architecture, "/", variant);
}

absl::StatusOr<ManifestOrIndex> ParseManifest(std::string_view json, std::string_view content_type) {
  ASSIGN_OR_RETURN(Json root, ParseJson(json, kMaxManifestBytes, "manifest"));
  if (!root.is_object()) return absl::InvalidArgumentError("manifest: not a JSON object");
  ASSIGN_OR_RETURN(std::string own_type, StringField(root, "mediaType", "manifest"));
  auto version = root.find("schemaVersion");
  if (KindOf(own_type) == Kind::kSchema1 || KindOf(content_type) == Kind::kSchema1 ||
      (version != root.end() && *version == 1)) {
    return absl::UnimplementedError(
        "manifest: Docker schema 1 is not supported; build and push the image again with a current tool");
  }
  if (version == root.end() || *version != 2) {
    return absl::InvalidArgumentError("manifest.schemaVersion: must be 2");
  }
  bool has_layers = root.contains("layers") || root.contains("config");
  bool has_entries = root.contains("manifests");
  if (has_layers && has_entries) {
    // One document read two ways by two tools (CVE-2021-41190).
    return absl::InvalidArgumentError("manifest: has both layers and manifests");
  }
  Kind kind = KindOf(own_type);
  Kind header = KindOf(content_type);
  if (kind != Kind::kUnknown && header != Kind::kUnknown && kind != header) {
    return absl::InvalidArgumentError(StrCat("manifest.mediaType: ", own_type, " came as ", content_type));
  }
  if (kind == Kind::kUnknown) kind = header;
  if (kind == Kind::kUnknown) kind = has_entries ? Kind::kIndex : Kind::kManifest;
  if (kind == Kind::kIndex && has_layers) {
    return absl::InvalidArgumentError("manifest: an index by its type, but with layers");
  }
  if (kind == Kind::kManifest && has_entries) {
    return absl::InvalidArgumentError("manifest: an image by its type, but with manifests");
  }
  ManifestOrIndex out;
  out.checkpoint_of = CheckpointOf(root);
  if (kind == Kind::kManifest) {
    if (own_type.empty()) own_type = header == Kind::kManifest ? std::string(content_type) : kOciManifest;
    ASSIGN_OR_RETURN(out.manifest, ParseImageManifest(root, own_type));
    return out;
  }
  out.is_index = true;
  auto entries = root.find("manifests");
  if (entries == root.end() || entries->is_null()) return out;
  if (!entries->is_array()) return absl::InvalidArgumentError("index.manifests: not a list");
  if (entries->size() > kMaxIndexEntries) {
    return absl::ResourceExhaustedError(
        StrCat("index.manifests: ", entries->size(), " entries, over the limit of ", kMaxIndexEntries));
  }
  for (size_t i = 0; i < entries->size(); ++i) {
    ASSIGN_OR_RETURN(Descriptor entry, ParseDescriptor((*entries)[i], StrCat("index.manifests[", i, "]")));
    out.entries.push_back(std::move(entry));
  }
  return out;
}

absl::StatusOr<Descriptor> ChoosePlatform(const std::vector<Descriptor>& entries, const Platform& wanted) {
  const Descriptor* best = nullptr;
  int best_score = 0;
  std::vector<std::string> offered;
  for (const Descriptor& entry : entries) {
    if (entry.platform.os == "unknown") continue;
    // An entry without a platform may be the image of every platform, or a nested index.
    bool any = entry.platform.os.empty() && entry.platform.architecture.empty();
    int score = any ? 1 : PlatformScore(entry.platform, wanted);
    if (score > best_score) {
      best = &entry;
      best_score = score;
    }
    if (!any && offered.size() < 16) offered.push_back(entry.platform.ToString());
  }
  if (best == nullptr) {
    return absl::FailedPreconditionError(StrCat("no image for ", wanted.ToString(), "; there is ",
                                                offered.empty() ? "none" : absl::StrJoin(offered, ", ")));
  }
  return *best;
}

Platform HostPlatform() {
  Platform out;
  out.os = "linux";
  utsname name{};
  ::uname(&name);
  std::string machine = name.machine;
  if (machine == "x86_64") {
    out.architecture = "amd64";
  } else if (machine == "aarch64") {
    out.architecture = "arm64";
    out.variant = "v8";
  } else if (machine == "armv7l" || machine == "armv8l") {
    out.architecture = "arm";
    out.variant = "v7";
  } else if (machine == "armv6l") {
    out.architecture = "arm";
    out.variant = "v6";
  } else if (machine == "i686" || machine == "i386") {
    out.architecture = "386";
  } else {
    out.architecture = machine;  // riscv64, s390x, ppc64le
  }
  return out;
}

absl::StatusOr<std::vector<ArchiveImage>> ParseDockerArchive(std::string_view json) {
  ASSIGN_OR_RETURN(Json root, ParseJson(json, kMaxManifestBytes, "manifest.json"));
  if (!root.is_array()) return absl::InvalidArgumentError("manifest.json: not a list");
  if (root.size() > kMaxArchiveImages) return absl::ResourceExhaustedError("manifest.json: too many images");
  std::vector<ArchiveImage> out;
  for (size_t i = 0; i < root.size(); ++i) {
    std::string where = StrCat("manifest.json[", i, "]");
    if (!root[i].is_object()) return absl::InvalidArgumentError(StrCat(where, ": not an object"));
    ArchiveImage image;
    ASSIGN_OR_RETURN(image.config_path, StringField(root[i], "Config", where));
    if (image.config_path.empty()) return absl::InvalidArgumentError(StrCat(where, ".Config: missing"));
    for (auto [name, list] :
         {std::pair("RepoTags", &image.repo_tags), std::pair("Layers", &image.layer_paths)}) {
      auto it = root[i].find(name);
      if (it == root[i].end() || it->is_null()) continue;
      if (!it->is_array()) return absl::InvalidArgumentError(StrCat(where, ".", name, ": not a list"));
      for (const Json& item : *it) {
        if (!item.is_string() || item.get_ref<const std::string&>().size() > kMaxStringBytes) {
          return absl::InvalidArgumentError(StrCat(where, ".", name, ": not a list of short strings"));
        }
        list->push_back(item.get<std::string>());
      }
    }
    if (image.layer_paths.size() > kMaxLayers) {
      return absl::ResourceExhaustedError(StrCat(where, ".Layers: over the limit of ", kMaxLayers));
    }
    out.push_back(std::move(image));
  }
  return out;
}

namespace {

nlohmann::ordered_json DescriptorJson(const Descriptor& d) {
  nlohmann::ordered_json out;
  out["mediaType"] = d.media_type;
  out["digest"] = d.digest;
  out["size"] = d.size_bytes;
  if (!d.platform.os.empty()) {
    out["platform"]["architecture"] = d.platform.architecture;
    out["platform"]["os"] = d.platform.os;
    if (!d.platform.variant.empty()) out["platform"]["variant"] = d.platform.variant;
  }
  if (!d.ref_name.empty()) {
    out["annotations"]["io.containerd.image.name"] = d.ref_name;
    size_t colon = d.ref_name.rfind(':');
    out["annotations"]["org.opencontainers.image.ref.name"] =
        colon == std::string::npos ? d.ref_name : d.ref_name.substr(colon + 1);
  }
  return out;
}

std::string Dump(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace

std::string EncodeManifest(const Manifest& manifest) {
  nlohmann::ordered_json out;
  out["schemaVersion"] = 2;
  out["mediaType"] = manifest.media_type;
  out["config"] = DescriptorJson(manifest.config);
  out["layers"] = nlohmann::ordered_json::array();
  for (const Descriptor& layer : manifest.layers) out["layers"].push_back(DescriptorJson(layer));
  return Dump(out);
}

std::string EncodeIndex(const std::vector<Descriptor>& entries) {
  nlohmann::ordered_json out;
  out["schemaVersion"] = 2;
  out["mediaType"] = kOciIndex;
  out["manifests"] = nlohmann::ordered_json::array();
  for (const Descriptor& entry : entries) out["manifests"].push_back(DescriptorJson(entry));
  return Dump(out);
}

std::string EncodeDockerArchive(const std::vector<ArchiveImage>& images) {
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (const ArchiveImage& image : images) {
    nlohmann::ordered_json item;
    item["Config"] = image.config_path;
    item["RepoTags"] = image.repo_tags;
    item["Layers"] = image.layer_paths;
    out.push_back(std::move(item));
  }
  return Dump(out);
}

}  // namespace keelson::images
