// The rows behind api/scheme.h, written by hack/update-protos. Nobody else includes this.
#pragma once

#include <google/protobuf/message.h>

#include <vector>

namespace keelson::api {

struct KindRow {
  const char* group;
  const char* version;
  const char* kind;
  const char* plural;      // "" when the kind is not a resource of its own
  const char* short_names;  // comma-separated
  const char* categories;   // comma-separated
  bool namespaced;
  const google::protobuf::Message* prototype;
  const google::protobuf::Message* list_prototype;  // nullptr: there is no list
};

const std::vector<KindRow>& KindRows();

}  // namespace keelson::api
