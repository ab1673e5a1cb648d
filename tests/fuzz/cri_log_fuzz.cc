// A container's log file: any bytes, in any pieces, give the same text, bounded by what was asked for.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "kubelet/server/cri_log.h"

namespace {

std::string Run(std::string_view bytes, size_t piece_bytes, keelson::kubelet::LogRequest request) {
  keelson::kubelet::LogFilter filter(request);
  std::string out;
  for (size_t at = 0; at < bytes.size() && !filter.done(); at += piece_bytes)
    out += filter.Feed(bytes.substr(at, piece_bytes));
  return out + filter.Finish();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace keelson::kubelet;
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  LogRequest request;
  request.timestamps = (data[0] & 1) != 0;
  request.want_stdout = (data[0] & 2) == 0;
  if ((data[0] & 4) != 0) request.limit_bytes = data[0] >> 3;
  (void)ParseCriLogLine(input);
  std::string whole = Run(input, input.size() + 1, request);
  if (request.limit_bytes.has_value() && whole.size() > static_cast<size_t>(*request.limit_bytes)) abort();
  if (input.size() < kMaxLogLineBytes && Run(input, 1 + data[0] % 7, request) != whole) abort();
  return 0;
}
