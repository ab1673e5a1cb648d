#include "cmd/image_command.h"

#include <gtest/gtest.h>

#include "base/strings.h"

namespace keelson {
namespace {

TEST(ImageCommand, Table) {
  std::string id = "sha256:" + std::string(64, 'a');
  EXPECT_EQ(FormatImages({{{"docker.io/library/b:1", "docker.io/library/a:1"}, id, 5 << 20, false},
                          {{}, "sha256:" + std::string(64, 'b'), 10, true}},
                         false),
            "IMAGE                  ID            SIZE     PINNED\n"
            "<none>                 bbbbbbbbbbbb  10 B     yes\n"
            "docker.io/library/a:1  aaaaaaaaaaaa  5.0 MiB\n"
            "docker.io/library/b:1  aaaaaaaaaaaa  5.0 MiB\n");
  EXPECT_EQ(FormatImages({}, true), "IMAGE  ID  SIZE  PINNED\n");
}

TEST(ImageCommand, Bytes) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1536), "1.5 KiB");
  EXPECT_EQ(FormatBytes(uint64_t{3} << 40), "3.0 TiB");
  EXPECT_EQ(FormatBytes(UINT64_MAX), "16777216.0 TiB");
}

TEST(ImageCommand, Meter) {
  PullMeter meter;
  EXPECT_EQ(meter.Line(200), "[........................] 0% 0 B of 0 B, 0 of 0 layers");
  meter.Add({"a", 50, 100});
  meter.Add({"b", 100, 100});
  EXPECT_EQ(meter.Line(200), "[##################......] 75% 150 B of 200 B, 1 of 2 layers");
  meter.Add({"a", 100, 100});
  EXPECT_EQ(meter.Line(10), "[#########");
}

}  // namespace
}  // namespace keelson
