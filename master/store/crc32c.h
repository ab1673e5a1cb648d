// CRC-32C (Castagnoli, RFC 3720 appendix B.4), by the CPU's instruction where there is one.
#pragma once

#include <cstdint>
#include <string_view>

namespace keelson::master {

// Extends `crc` (0 to start) by `data`. Crc32c("123456789") is 0xe3069283.
uint32_t Crc32c(std::string_view data, uint32_t crc = 0);

namespace internal {
uint32_t Crc32cPortable(std::string_view data, uint32_t crc);
}

}  // namespace keelson::master
