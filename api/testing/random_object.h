// Random API objects, the same for the same seed.
#pragma once

#include <google/protobuf/message.h>

#include <cstdint>

namespace keelson::api {

inline constexpr int kMaxRandomDepth = 9;

// Fills about half of the fields of `object`, from `depth` on down to kMaxRandomDepth levels, as a decoder
// would leave them: no empty struct that Go cannot tell from an absent one.
void FillRandomly(uint64_t seed, google::protobuf::Message* object, int depth = 0);

}  // namespace keelson::api
