#include "master/apiserver/negotiation.h"

#include <absl/strings/ascii.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <absl/strings/strip.h>

#include <algorithm>

#include "api/status_error.h"
#include "base/strings.h"

namespace keelson::master {
namespace {

constexpr char kJson[] = "application/json";
constexpr char kYaml[] = "application/yaml";
constexpr char kProtobuf[] = "application/vnd.kubernetes.protobuf";
constexpr char kAccepted[] = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

bool MediaOf(const std::string& type, MediaType* out) {
  if (type == kJson || type == "*/*" || type == "application/*") {
    *out = MediaType::kJson;
  } else if (type == kYaml) {
    *out = MediaType::kYaml;
  } else if (type == kProtobuf) {
    *out = MediaType::kProtobuf;
  } else {
    return false;
  }
  return true;
}

bool TransformOf(const MediaRange& range, Transform* out) {
  if (range.as.empty()) {
    *out = Transform::kNone;
    return true;
  }
  if (range.g != "meta.k8s.io" || (range.v != "v1" && range.v != "v1beta1")) return false;
  if (range.as == "Table") {
    *out = Transform::kTable;
  } else if (range.as == "PartialObjectMetadata") {
    *out = Transform::kPartialMetadata;
  } else if (range.as == "PartialObjectMetadataList") {
    *out = Transform::kPartialMetadataList;
  } else {
    return false;
  }
  return true;
}

}  // namespace

std::vector<MediaRange> ParseAccept(std::string_view accept) {
  std::vector<MediaRange> out;
  for (absl::string_view clause : absl::StrSplit(Av(accept), ',', absl::SkipWhitespace())) {
    MediaRange range;
    bool first = true;
    for (absl::string_view part : absl::StrSplit(clause, ';')) {
      part = absl::StripAsciiWhitespace(part);
      if (first) {
        range.type = absl::AsciiStrToLower(part);
        first = false;
        continue;
      }
      std::pair<absl::string_view, absl::string_view> kv = absl::StrSplit(part, absl::MaxSplits('=', 1));
      std::string key = absl::AsciiStrToLower(kv.first);
      std::string value(kv.second);
      if (key == "as") range.as = value;
      if (key == "g") range.g = value;
      if (key == "v") range.v = value;
      if (key == "q" && !absl::SimpleAtod(value, &range.q)) range.q = 0;
    }
    out.push_back(std::move(range));
  }
  std::stable_sort(out.begin(), out.end(),
                   [](const MediaRange& a, const MediaRange& b) { return a.q > b.q; });
  return out;
}

absl::StatusOr<Negotiated> Negotiate(std::string_view accept, bool transforms) {
  Negotiated result;
  std::vector<MediaRange> ranges = ParseAccept(accept);
  if (ranges.empty()) return result;
  for (const MediaRange& range : ranges) {
    if (range.q <= 0 || !MediaOf(range.type, &result.media)) continue;
    if (!TransformOf(range, &result.transform)) continue;
    if (result.transform != Transform::kNone && !transforms) continue;
    if (result.transform == Transform::kTable && result.media != MediaType::kJson) continue;
    if (!range.v.empty()) result.meta_version = range.v;
    return result;
  }
  return api::NotAcceptable(kAccepted);
}

std::string Negotiated::ContentType(bool stream) const {
  switch (media) {
    case MediaType::kYaml:
      return kYaml;
    case MediaType::kProtobuf:
      return stream ? StrCat(kProtobuf, ";stream=watch") : std::string(kProtobuf);
    case MediaType::kJson:
      break;
  }
  return kJson;
}

}  // namespace keelson::master
