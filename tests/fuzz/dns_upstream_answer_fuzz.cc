// Any bytes a resolver outside may answer with: no crash, no change of size,
// and a cache within its bounds.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "proxy/dns/cache.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keelson::proxy::dns;
  std::string input(reinterpret_cast<const char*>(data), size);
  if (CacheableFor(input) > kMaxCached_s) abort();
  std::string lowered = input;
  (void)LowerTtls(&lowered, 5);
  if (lowered.size() != input.size()) abort();
  std::string addressed = input;
  AddressTo(input, &addressed);
  if (addressed != input) abort();
  AnswerCache cache;
  cache.Put(QueryKey(input, false), input, absl::ZeroDuration());
  if (cache.entries() > 1 || cache.bytes() > kMaxCacheBytes) abort();
  (void)cache.Get(QueryKey(input, false), absl::Seconds(1));
  return 0;
}
