#include "master/store/crc32c.h"

#include <gtest/gtest.h>

#include <string>

namespace keelson::master {
namespace {

TEST(Crc32cTest, KnownVectors) {
  EXPECT_EQ(Crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8a9136aau);  // RFC 3720 B.4
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  EXPECT_EQ(Crc32c(""), 0u);
}

TEST(Crc32cTest, PortableAgreesAndExtends) {
  std::string data;
  for (int i = 0; i < 1000; ++i) data.push_back(static_cast<char>(i * 31 + (i >> 3)));
  for (size_t cut : {0, 1, 7, 8, 9, 500, 999, 1000}) {
    std::string_view whole(data);
    EXPECT_EQ(Crc32c(whole.substr(0, cut)), internal::Crc32cPortable(whole.substr(0, cut), 0));
    EXPECT_EQ(Crc32c(whole.substr(cut), Crc32c(whole.substr(0, cut))), Crc32c(whole));
  }
}

}  // namespace
}  // namespace keelson::master
