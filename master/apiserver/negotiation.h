// Content negotiation: what the Accept header asks for. Pure.
#pragma once

#include <absl/status/statusor.h>

#include <string>
#include <string_view>
#include <vector>

namespace keelson::master {

enum class MediaType { kJson, kYaml, kProtobuf };
// The form of the answer's object.
enum class Transform { kNone, kTable, kPartialMetadata, kPartialMetadataList };

struct Negotiated {
  MediaType media = MediaType::kJson;
  Transform transform = Transform::kNone;
  std::string meta_version = "v1";  // of meta.k8s.io, for the transforms
  bool pretty = false;

  // Content-Type of the answer; `stream` for a watch.
  std::string ContentType(bool stream) const;
};

// First acceptable clause by quality, then order. NotAcceptable when there is none. An empty header accepts
// JSON. `transforms`: Table and PartialObjectMetadata may be asked for (reads of resources).
absl::StatusOr<Negotiated> Negotiate(std::string_view accept, bool transforms);

// One media range with its parameters, lower-cased names.
struct MediaRange {
  std::string type;  // "application/json"
  std::string as, g, v;
  double q = 1.0;
};
// In order of preference.
std::vector<MediaRange> ParseAccept(std::string_view accept);

}  // namespace keelson::master
