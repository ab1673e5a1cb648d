// Any selector of a query string: an error, or a selector whose text means the same.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "api/fields.h"
#include "api/labels.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keelson::api;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  LabelMap labels;
  labels["app"] = "web";
  labels["n"] = "5";
  if (auto s = LabelSelector::Parse(input); s.ok()) {
    auto again = LabelSelector::Parse(s->ToString());
    if (!again.ok() || again->ToString() != s->ToString() || again->Matches(labels) != s->Matches(labels))
      abort();
  }
  if (auto s = FieldSelector::Parse(input); s.ok()) {
    auto again = FieldSelector::Parse(s->ToString());
    if (!again.ok() || again->ToString() != s->ToString()) abort();
  }
  return 0;
}
