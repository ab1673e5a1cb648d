// The rows behind api/scheme.h, written by hack/update-protos. Nobody else includes this.
#pragma once

#include <google/protobuf/map.h>
#include <google/protobuf/message.h>

#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace keelson::api {

struct KindRow {
  const char* group;
  const char* version;
  const char* kind;
  const char* plural;       // "" when the kind is not a resource of its own
  const char* short_names;  // comma-separated
  const char* categories;   // comma-separated
  bool namespaced;
  const google::protobuf::Message* prototype;
  const google::protobuf::Message* list_prototype;  // nullptr: there is no list
};

const std::vector<KindRow>& KindRows();

// Typed access to one map field (keys are strings). Protobuf's reflection would keep a second copy of the map
// in the message. A value is a std::string, a bool or a google::protobuf::Message, behind a void pointer.
struct MapRow {
  using Entry = std::pair<const std::string*, const void*>;
  const google::protobuf::Descriptor* message;
  int number;
  // Appends all entries, in no order.
  void (*list)(const google::protobuf::Message& message, std::vector<Entry>* entries);
  // The value of `key`, made if missing.
  void* (*insert)(google::protobuf::Message& message, std::string key);
  void (*erase)(google::protobuf::Message& message, const std::string& key);
};

const std::vector<MapRow>& MapRows();

template <typename M, auto kGet, auto kMutable>
MapRow MakeMapRow(const google::protobuf::Descriptor* descriptor, int number) {
  using Map = std::remove_cvref_t<decltype((std::declval<const M&>().*kGet)())>;
  using Value = typename Map::mapped_type;
  MapRow row{descriptor, number, nullptr, nullptr, nullptr};
  row.list = [](const google::protobuf::Message& message, std::vector<MapRow::Entry>* entries) {
    for (const auto& [key, value] : (static_cast<const M&>(message).*kGet)()) {
      if constexpr (std::is_base_of_v<google::protobuf::Message, Value>) {
        entries->push_back({&key, static_cast<const google::protobuf::Message*>(&value)});
      } else {
        entries->push_back({&key, &value});
      }
    }
  };
  row.insert = [](google::protobuf::Message& message, std::string key) -> void* {
    Value& value = (*(static_cast<M&>(message).*kMutable)())[std::move(key)];
    if constexpr (std::is_base_of_v<google::protobuf::Message, Value>) {
      return static_cast<google::protobuf::Message*>(&value);
    } else {
      return &value;
    }
  };
  row.erase = [](google::protobuf::Message& message, const std::string& key) {
    (static_cast<M&>(message).*kMutable)()->erase(key);
  };
  return row;
}

}  // namespace keelson::api
