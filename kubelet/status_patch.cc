// The two-way strategic merge patch of a pod status.
#include <nlohmann/json.hpp>

#include "api/codec.h"
#include "kubelet/status_manager.h"

namespace keelson::kubelet {
namespace {

using Json = nlohmann::json;

// Lists of PodStatus the API merges element by element; all others are replaced.
const char* MergeKey(const std::string& field) {
  if (field == "conditions") return "type";
  if (field == "podIPs" || field == "hostIPs") return "ip";
  if (field == "resourceClaimStatuses") return "name";
  return nullptr;
}

Json ToJson(const google::protobuf::Message& status) {
  std::string text;
  api::AppendJsonWithoutType(status, text);
  return Json::parse(text, nullptr, false);
}

Json DiffObject(const Json& before, const Json& after);

Json DiffList(const Json& before, const Json& after, const std::string& key) {
  Json out = Json::array();
  for (const Json& item : after) {
    const Json* old = nullptr;
    for (const Json& b : before) {
      if (b.value(key, "") == item.value(key, "")) old = &b;
    }
    if (old == nullptr) {
      out.push_back(item);
      continue;
    }
    Json diff = DiffObject(*old, item);
    if (diff.empty()) continue;
    diff[key] = item.value(key, "");
    out.push_back(std::move(diff));
  }
  for (const Json& b : before) {
    bool kept = false;
    for (const Json& item : after) kept = kept || b.value(key, "") == item.value(key, "");
    if (!kept) out.push_back(Json{{"$patch", "delete"}, {key, b.value(key, "")}});
  }
  return out;
}

Json DiffObject(const Json& before, const Json& after) {
  Json out = Json::object();
  for (const auto& [name, value] : after.items()) {
    auto old = before.find(name);
    if (old == before.end()) {
      if (!value.is_null()) out[name] = value;
      continue;
    }
    if (*old == value) continue;
    if (name == "addresses") {
      // Merged by type upstream, which cannot express two of one type: replaced as a whole.
      Json list = Json::array({Json{{"$patch", "replace"}}});
      for (const Json& item : value) list.push_back(item);
      out[name] = std::move(list);
      continue;
    }
    const char* key = MergeKey(name);
    if (value.is_array() && old->is_array() && key != nullptr) {
      Json diff = DiffList(*old, value, key);
      if (!diff.empty()) out[name] = std::move(diff);
    } else {
      out[name] = value;
    }
  }
  for (const auto& [name, value] : before.items()) {
    if (!after.contains(name) && !value.is_null()) out[name] = nullptr;
  }
  return out;
}

}  // namespace

std::string MakeStatusPatch(const std::string& uid, const corev1::PodStatus& before,
                            const corev1::PodStatus& after) {
  Json from = ToJson(before), to = ToJson(after);
  Json diff = DiffObject(from, to);
  if (diff.empty()) return "";
  Json patch = {{"metadata", {{"uid", uid}}}, {"status", std::move(diff)}};
  return patch.dump();
}

std::string MakeNodeStatusPatch(const corev1::NodeStatus& before, const corev1::NodeStatus& after) {
  Json diff = DiffObject(ToJson(before), ToJson(after));
  if (diff.empty()) return "";
  return Json{{"status", std::move(diff)}}.dump();
}

}  // namespace keelson::kubelet
