// Any quantity text: an error, or an amount whose text is the same amount.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "api/quantity.h"
#include "api/time.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keelson::api;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  if (auto q = Quantity::Parse(input); q.ok()) {
    auto again = Quantity::Parse(q->ToString());
    if (!again.ok() || again->Cmp(*q) != 0) abort();
    (void)q->Value();
    (void)q->MilliValue();
  }
  if (auto d = ParseGoDuration(input); d.ok()) {
    auto again = ParseGoDuration(FormatGoDuration(*d));
    if (!again.ok() || *again != *d) abort();
  }
  if (auto t = ParseMicroTime(input); t.ok()) (void)FormatMicroTime(*t);
  return 0;
}
