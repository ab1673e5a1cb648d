#include "kubelet/volumes/payload.h"

#include <absl/strings/str_split.h>

#include <functional>
#include <vector>

#include "base/status.h"
#include "base/strings.h"
#include "kubelet/field_ref.h"

namespace keelson::kubelet {
namespace {

absl::Status Put(std::string_view path, PayloadFile file, Payload* payload) {
  RETURN_IF_ERROR(CheckPayloadPath(path));
  // One name for one file: "a//b" and "a/b" are the same.
  std::string clean;
  for (absl::string_view part : absl::StrSplit(Av(path), '/', absl::SkipEmpty())) {
    StrAppend(&clean, clean.empty() ? "" : "/", part);
  }
  (*payload)[clean] = std::move(file);
  return absl::OkStatus();
}

// `find` gives the bytes of a key or null.
absl::Status AddItems(const KeyItems& items, bool optional, const PayloadDefaults& defaults, const char* what,
                      const std::function<const std::string*(const std::string&)>& find, Payload* payload) {
  for (const corev1::KeyToPath& item : items) {
    const std::string* data = find(item.key());
    if (data == nullptr) {
      if (optional) continue;
      return absl::NotFoundError(StrCat("references non-existent ", what, " key: ", item.key()));
    }
    PayloadFile file{*data, item.has_mode() ? static_cast<uint32_t>(item.mode()) : defaults.mode,
                     item.has_user() ? item.user() : defaults.user};
    RETURN_IF_ERROR(Put(item.path(), std::move(file), payload));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckPayloadPath(std::string_view path) {
  auto bad = [&](std::string_view why) {
    return absl::InvalidArgumentError(StrCat("path \"", path, "\" ", why));
  };
  if (path.empty()) return bad("must not be empty");
  if (path.front() == '/') return bad("must be relative");
  if (path.size() > kMaxPayloadPathBytes) return bad("is too long");
  bool first = true;
  for (absl::string_view part : absl::StrSplit(Av(path), '/')) {
    if (part == "..") return bad("must not contain \"..\"");
    if (part == "." || part.find('\0') != absl::string_view::npos)
      return bad("has a component that names no file");
    if (first && part.substr(0, 2) == "..") return bad("must not start with \"..\"");
    if (part.size() > kMaxPayloadNameBytes) return bad("has a component that is too long");
    first = false;
  }
  if (path.back() == '/') return bad("names no file");
  return absl::OkStatus();
}

absl::Status AddConfigMap(const corev1::ConfigMap* object, const KeyItems& items, bool optional,
                          const PayloadDefaults& defaults, Payload* payload) {
  if (object == nullptr) return absl::OkStatus();
  if (!items.empty()) {
    auto find = [&](const std::string& key) -> const std::string* {
      auto text = object->data().find(key);
      if (text != object->data().end()) return &text->second;
      auto bytes = object->binary_data().find(key);
      return bytes == object->binary_data().end() ? nullptr : &bytes->second;
    };
    return AddItems(items, optional, defaults, "config", find, payload);
  }
  for (const auto& [key, value] : object->data()) {
    RETURN_IF_ERROR(Put(key, PayloadFile{value, defaults.mode, defaults.user}, payload));
  }
  for (const auto& [key, value] : object->binary_data()) {
    RETURN_IF_ERROR(Put(key, PayloadFile{value, defaults.mode, defaults.user}, payload));
  }
  return absl::OkStatus();
}

absl::Status AddSecret(const corev1::Secret* object, const KeyItems& items, bool optional,
                       const PayloadDefaults& defaults, Payload* payload) {
  if (object == nullptr) return absl::OkStatus();
  if (!items.empty()) {
    auto find = [&](const std::string& key) -> const std::string* {
      auto bytes = object->data().find(key);
      return bytes == object->data().end() ? nullptr : &bytes->second;
    };
    return AddItems(items, optional, defaults, "secret", find, payload);
  }
  for (const auto& [key, value] : object->data()) {
    RETURN_IF_ERROR(Put(key, PayloadFile{value, defaults.mode, defaults.user}, payload));
  }
  return absl::OkStatus();
}

absl::Status AddDownwardApi(const corev1::Pod& pod, const DownwardItems& items,
                            const PayloadDefaults& defaults, const ResourceList& allocatable,
                            Payload* payload) {
  for (const corev1::DownwardAPIVolumeFile& item : items) {
    PayloadFile file;
    file.mode = item.has_mode() ? static_cast<uint32_t>(item.mode()) : defaults.mode;
    file.user = item.has_user() ? item.user() : defaults.user;
    if (item.has_field_ref()) {
      ASSIGN_OR_RETURN(file.data, ExtractFieldPath(pod, item.field_ref().field_path()));
    } else if (item.has_resource_field_ref()) {
      const corev1::Container* container = FindContainer(pod, item.resource_field_ref().container_name());
      if (container == nullptr) {
        return absl::InvalidArgumentError(StrCat(item.path(), ": container \"",
                                                 item.resource_field_ref().container_name(), "\" not found"));
      }
      ASSIGN_OR_RETURN(file.data, ExtractResource(pod, *container, item.resource_field_ref(), allocatable));
    }
    RETURN_IF_ERROR(Put(item.path(), std::move(file), payload));
  }
  return absl::OkStatus();
}

}  // namespace keelson::kubelet
