// Merge patches on messages, without a JSON document of the object. Private to api/ (Patch::ApplyInPlace).
#pragma once

#include <google/protobuf/message.h>

#include <string_view>

namespace keelson::api {

bool IsJsonObject(std::string_view text);

// Merges the JSON object `patch` into `object`: JSON merge patch, or strategic merge patch. False when it
// takes the general way (api/patch.cc); `object` is then half changed.
bool MergeIntoMessage(std::string_view patch, bool strategic, google::protobuf::Message* object);

}  // namespace keelson::api
