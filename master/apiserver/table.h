// TableWriter: a meta.k8s.io Table as JSON text, row by row, from a resource's columns and printer.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "master/apiserver/registry.h"
#include "master/apiserver/response_encoder.h"
#include "master/store/watch_cache.h"

namespace keelson::master {

class TableWriter {
 public:
  TableWriter(const ResourceInfo& resource, std::string meta_version, IncludeObject include, absl::Time now);
  void Begin(std::string_view resource_version, std::string_view continue_token,
             std::optional<int64_t> remaining, bool with_columns);
  void Row(const CachedObject& object);
  void BookmarkRow(const api::Message& object);
  std::string End();

 private:
  void AppendObject(const api::Message& object);
  const ResourceInfo& resource_;
  const std::string meta_version_;
  const IncludeObject include_;
  const PrintContext context_;
  std::string out_;
  bool first_row_ = true;
};

// "5s", "2m3s", "47m", "5h2m", "3d", as kubectl shows ages (k8s.io/apimachinery/util/duration as facts).
std::string HumanDuration(absl::Duration age);
// Of a timestamp: "<unknown>" when it is zero.
std::string AgeOf(const ::k8s::meta::v1::Time& since, absl::Time now);

}  // namespace keelson::master
