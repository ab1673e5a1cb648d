#include "images/records.h"

#include <absl/strings/match.h>

#include <nlohmann/json.hpp>

#include "base/status.h"
#include "base/strings.h"
#include "images/digest.h"

namespace keelson::images {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kMagic = "keelson-images-1 ";

// "keelson-images-1 sha256:...\n" and the JSON the digest is of.
std::string Seal(const Json& json) {
  std::string body = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  body.push_back('\n');
  return StrCat(kMagic, DigestOf(body), "\n", body);
}

absl::StatusOr<Json> Unseal(std::string_view text) {
  size_t line = text.find('\n');
  if (line == std::string_view::npos) return absl::DataLossError("record without a first line");
  std::string_view head = text.substr(0, line), body = text.substr(line + 1);
  if (head.substr(0, kMagic.size()) != kMagic) {
    if (absl::StartsWith(Av(head), "keelson-images-")) {
      return absl::UnimplementedError(StrCat("record of another version: ", head.substr(0, 40)));
    }
    return absl::DataLossError("not a record of ours");
  }
  if (head.substr(kMagic.size()) != DigestOf(body)) return absl::DataLossError("checksum does not match");
  Json out = Json::parse(body.begin(), body.end(), nullptr, /*allow_exceptions=*/false);
  if (!out.is_object()) return absl::DataLossError("record is not a JSON object");
  return out;
}

std::string Text(const Json& json, const char* name) {
  auto it = json.find(name);
  return it != json.end() && it->is_string() ? it->get<std::string>() : std::string();
}
uint64_t Number(const Json& json, const char* name) {
  auto it = json.find(name);
  return it != json.end() && it->is_number_unsigned() ? it->get<uint64_t>() : 0;
}
bool Flag(const Json& json, const char* name) {
  auto it = json.find(name);
  return it != json.end() && it->is_boolean() && it->get<bool>();
}
std::vector<std::string> Texts(const Json& json, const char* name) {
  std::vector<std::string> out;
  auto it = json.find(name);
  if (it == json.end() || !it->is_array()) return out;
  for (const Json& item : *it) {
    if (item.is_string()) out.push_back(item.get<std::string>());
  }
  return out;
}
absl::Time TimeOf(const Json& json, const char* name) {
  absl::Time out = absl::UnixEpoch();
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, Text(json, name), &out, &error)) return absl::UnixEpoch();
  return out;
}
std::string TimeText(absl::Time time) {
  return absl::FormatTime(absl::RFC3339_full, time, absl::UTCTimeZone());
}

}  // namespace

std::vector<std::string> StoredImage::ChainIds() const {
  std::vector<std::string> out;
  for (const StoredLayer& layer : layers) out.push_back(layer.chain_id);
  return out;
}

std::vector<std::string> StoredImage::BlobDigests() const {
  std::vector<std::string> out = {manifest_digest, record.id};
  for (const StoredLayer& layer : layers) out.push_back(layer.digest);
  return out;
}

std::string EncodeImage(const StoredImage& image) {
  Json json;
  json["id"] = image.record.id;
  json["repoTags"] = image.record.repo_tags;
  json["repoDigests"] = image.record.repo_digests;
  json["size"] = image.record.size_bytes;
  json["pinned"] = image.record.pinned;
  json["pulledAt"] = TimeText(image.record.pulled_at);
  if (!image.record.checkpoint_of.empty()) json["checkpointOf"] = image.record.checkpoint_of;
  json["manifest"] = image.manifest_digest;
  json["manifestSize"] = image.manifest_bytes;
  json["configSize"] = image.config_bytes;
  json["layers"] = Json::array();
  for (const StoredLayer& layer : image.layers) {
    json["layers"].push_back({{"digest", layer.digest},
                              {"size", layer.size_bytes},
                              {"mediaType", layer.media_type},
                              {"diffId", layer.diff_id},
                              {"chainId", layer.chain_id}});
  }
  return Seal(json);
}

absl::StatusOr<StoredImage> ParseImage(std::string_view text) {
  ASSIGN_OR_RETURN(Json json, Unseal(text));
  StoredImage out;
  out.record.id = Text(json, "id");
  out.record.repo_tags = Texts(json, "repoTags");
  out.record.repo_digests = Texts(json, "repoDigests");
  out.record.size_bytes = Number(json, "size");
  out.record.pinned = Flag(json, "pinned");
  out.record.pulled_at = TimeOf(json, "pulledAt");
  out.record.checkpoint_of = Text(json, "checkpointOf");
  out.manifest_digest = Text(json, "manifest");
  out.manifest_bytes = Number(json, "manifestSize");
  out.config_bytes = Number(json, "configSize");
  auto layers = json.find("layers");
  if (layers == json.end() || !layers->is_array()) return absl::DataLossError("record without layers");
  for (const Json& item : *layers) {
    StoredLayer layer;
    layer.digest = Text(item, "digest");
    layer.size_bytes = Number(item, "size");
    layer.media_type = Text(item, "mediaType");
    layer.diff_id = Text(item, "diffId");
    layer.chain_id = Text(item, "chainId");
    if (!IsDigest(layer.digest) || !IsDigest(layer.chain_id))
      return absl::DataLossError("layer without digest");
    out.layers.push_back(std::move(layer));
  }
  if (!IsDigest(out.record.id) || !IsDigest(out.manifest_digest)) {
    return absl::DataLossError("record without digests");
  }
  return out;
}

std::string EncodeLayer(const LayerRecord& layer) {
  Json json;
  json["chainId"] = layer.chain_id;
  json["diffId"] = layer.diff_id;
  json["digest"] = layer.digest;
  json["blobBytes"] = layer.blob_bytes;
  json["compressed"] = layer.compressed;
  json["usedBytes"] = layer.usage.used_bytes;
  json["inodes"] = layer.usage.inodes;
  return Seal(json);
}

absl::StatusOr<LayerRecord> ParseLayer(std::string_view text) {
  ASSIGN_OR_RETURN(Json json, Unseal(text));
  LayerRecord out;
  out.chain_id = Text(json, "chainId");
  out.diff_id = Text(json, "diffId");
  out.digest = Text(json, "digest");
  out.blob_bytes = Number(json, "blobBytes");
  out.compressed = Flag(json, "compressed");
  out.usage.used_bytes = Number(json, "usedBytes");
  out.usage.inodes = Number(json, "inodes");
  if (!IsDigest(out.chain_id)) return absl::DataLossError("layer without chain ID");
  return out;
}

std::string EncodeRootfs(const RootfsRecord& rootfs) {
  Json json;
  json["key"] = rootfs.key;
  json["image"] = rootfs.image_id;
  json["mountPath"] = rootfs.mount_path;
  json["readonly"] = rootfs.readonly;
  json["layers"] = rootfs.chain_ids;
  if (!rootfs.userns_path.empty()) json["userns"] = rootfs.userns_path;
  if (!rootfs.selinux_label.empty()) json["selinuxLabel"] = rootfs.selinux_label;
  if (rootfs.project != 0) json["project"] = rootfs.project;
  return Seal(json);
}

absl::StatusOr<RootfsRecord> ParseRootfs(std::string_view text) {
  ASSIGN_OR_RETURN(Json json, Unseal(text));
  RootfsRecord out;
  out.key = Text(json, "key");
  out.image_id = Text(json, "image");
  out.mount_path = Text(json, "mountPath");
  out.readonly = Flag(json, "readonly");
  out.chain_ids = Texts(json, "layers");
  out.userns_path = Text(json, "userns");
  out.selinux_label = Text(json, "selinuxLabel");
  out.project = static_cast<uint32_t>(Number(json, "project"));
  for (const std::string& id : out.chain_ids) {
    if (!IsDigest(id)) return absl::DataLossError("layer without chain ID");
  }
  return out;
}

std::vector<std::string> ChainIdsOf(const std::vector<std::string>& diff_ids) {
  std::vector<std::string> out;
  for (const std::string& diff_id : diff_ids) {
    out.push_back(out.empty() ? diff_id : DigestOf(StrCat(out.back(), " ", diff_id)));
  }
  return out;
}

absl::Time CreatedAt(std::string_view config_json) {
  // Its depth and size were checked when it was parsed as a configuration.
  Json json = Json::parse(config_json.begin(), config_json.end(), nullptr, /*allow_exceptions=*/false);
  return json.is_object() ? TimeOf(json, "created") : absl::UnixEpoch();
}

}  // namespace keelson::images
