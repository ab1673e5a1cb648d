// The three client-side patch forms on JSON documents and on messages: JSON Patch (RFC 6902), JSON Merge
// Patch (RFC 7386) and strategic merge patch (merge strategies and keys come from the descriptors' options).
// Pure functions.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <google/protobuf/message.h>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace keelson::api {

enum class PatchKind { kJson, kMerge, kStrategicMerge };

inline constexpr size_t kMaxJsonPatchOperations = 10000;  // upstream's limit
inline constexpr size_t kMaxPatchBytes = 3 << 20;

// A patch read once, applicable to several revisions of an object (retry on conflict). One thread at a time.
class Patch {
 public:
  // InvalidArgument: not JSON, wrong shape (RFC 6902 wants a list of operations, the others an object), too
  // large.
  static absl::StatusOr<Patch> Parse(PatchKind kind, std::string_view text);
  Patch(Patch&&) noexcept;
  Patch& operator=(Patch&&) noexcept;
  ~Patch();

  // JSON text of the patched object. `type` gives the schema for the strategic form; unused by the others.
  // InvalidArgument: an operation that does not fit the document ("test" failed, missing path, unknown
  // $patch).
  absl::StatusOr<std::string> Apply(std::string_view json, const google::protobuf::Descriptor& type) const;

  // The same on the message itself, touching only what the patch names: a tenth of the work. True: `object`
  // is what decoding Apply()'s result would give, without unknown or duplicate fields to report. False: this
  // patch needs the form above (a JSON patch, directives, an unknown field, a value that does not fit) and
  // `object` is half changed.
  bool ApplyInPlace(google::protobuf::Message* object) const;

 private:
  struct Data;
  explicit Patch(std::unique_ptr<Data> data);
  std::unique_ptr<Data> data_;
};

}  // namespace keelson::api
