#include "master/apiserver/table.h"

#include "api/codec.h"
#include "api/time.h"
#include "base/strings.h"

namespace keelson::master {

void TableCells::Text(std::string_view value) {
  std::string json;
  api::AppendJsonString(value, json);
  json_.push_back(std::move(json));
}

void TableCells::Number(int64_t value) { json_.push_back(StrCat(value)); }

TableWriter::TableWriter(const ResourceInfo& resource, std::string meta_version, IncludeObject include,
                         absl::Time now)
    : resource_(resource), meta_version_(std::move(meta_version)), include_(include), context_{now} {}

void TableWriter::Begin(std::string_view resource_version, std::string_view continue_token,
                        std::optional<int64_t> remaining, bool with_columns) {
  ::k8s::meta::v1::ListMeta meta;
  meta.set_resource_version(std::string(resource_version));
  meta.set_continue_(std::string(continue_token));
  if (remaining.has_value()) meta.set_remaining_item_count(*remaining);
  out_ = StrCat("{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/", meta_version_, "\",\"metadata\":");
  api::AppendJson(meta, out_);
  out_ += ",\"columnDefinitions\":[";
  if (with_columns) {
    bool first = true;
    for (const TableColumn& c : resource_.storage->columns) {
      if (!first) out_ += ",";
      first = false;
      out_ += "{\"name\":";
      api::AppendJsonString(c.name, out_);
      StrAppend(&out_, ",\"type\":\"", c.type, "\",\"format\":\"", c.format, "\",\"description\":");
      api::AppendJsonString(c.description, out_);
      StrAppend(&out_, ",\"priority\":", c.priority, "}");
    }
  }
  out_ += "],\"rows\":[";
}

void TableWriter::AppendObject(const api::Message& object) {
  switch (include_) {
    case IncludeObject::kNone:
      out_ += "null";
      return;
    case IncludeObject::kObject:
      if (resource_.from_storage != nullptr) {
        api::AppendJson(*resource_.from_storage(object), out_);
      } else {
        api::AppendJson(object, out_);
      }
      return;
    case IncludeObject::kMetadata:
      StrAppend(&out_, "{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/", meta_version_,
                "\",\"metadata\":");
      api::AppendJson(api::Meta(object), out_);
      out_ += "}";
      return;
  }
}

void TableWriter::Row(const CachedObject& object) {
  if (object.message() == nullptr) return;
  TableCells cells;
  resource_.storage->print(*object.message(), context_, cells);
  if (!first_row_) out_ += ",";
  first_row_ = false;
  out_ += "{\"cells\":[";
  for (size_t i = 0; i < cells.json().size(); ++i) {
    if (i != 0) out_ += ",";
    out_ += cells.json()[i];
  }
  out_ += "],\"object\":";
  AppendObject(*object.message());
  out_ += "}";
}

void TableWriter::BookmarkRow(const api::Message& object) {
  first_row_ = false;
  out_ += "{\"cells\":[],\"object\":";
  api::AppendJson(object, out_);
  out_ += "}";
}

std::string TableWriter::End() {
  out_ += "]}";
  return std::move(out_);
}

std::string HumanDuration(absl::Duration age) {
  int64_t s = absl::ToInt64Seconds(age);
  if (s < -1) return "<invalid>";
  if (s < 0) return "0s";
  if (s < 60 * 2) return StrCat(s, "s");
  int64_t m = s / 60;
  if (m < 10) {
    s %= 60;
    return s == 0 ? StrCat(m, "m") : StrCat(m, "m", s, "s");
  }
  if (m < 60 * 3) return StrCat(m, "m");
  int64_t h = s / 3600;
  if (h < 8) {
    m %= 60;
    return m == 0 ? StrCat(h, "h") : StrCat(h, "h", m, "m");
  }
  if (h < 48) return StrCat(h, "h");
  if (h < 24 * 8) {
    int64_t rest = h % 24;
    return rest == 0 ? StrCat(h / 24, "d") : StrCat(h / 24, "d", rest, "h");
  }
  if (h < 24 * 365 * 2) return StrCat(h / 24, "d");
  if (h < 24 * 365 * 8) {
    int64_t days = (h / 24) % 365;
    return days == 0 ? StrCat(h / 24 / 365, "y") : StrCat(h / 24 / 365, "y", days, "d");
  }
  return StrCat(h / 24 / 365, "y");
}

std::string AgeOf(const ::k8s::meta::v1::Time& since, absl::Time now) {
  if (api::IsZero(since)) return "<unknown>";
  return HumanDuration(now - api::ToAbsl(since));
}

}  // namespace keelson::master
