#include "base/mounts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace keelson {
namespace {

using ::testing::ElementsAre;

constexpr char kMountInfo[] =
    "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
    "36 35 98:0 / /mnt/a\\040b rw,noatime master:1 - ext3 /dev/root rw\n"
    "short line\n"
    "37 22 0:50 / /var/lib/keelson rw - xfs /dev/sdb1 rw\n"
    "38 37 0:51 / /var/lib/keelson/x rw - tmpfs tmpfs rw\n"
    "39 38 0:52 / /var/lib/keelson/x rw - tmpfs tmpfs rw\n"
    "40 22 0:53 / /var/lib/keelson-other/x rw - tmpfs tmpfs rw\n"
    "41 22 0:4 net:[4026532] /run/netns/a rw - nsfs nsfs rw\n";

TEST(MountsTest, PointsInFileOrderWithEscapesUndone) {
  EXPECT_THAT(ParseMountPoints(kMountInfo),
              ElementsAre("/", "/mnt/a b", "/var/lib/keelson", "/var/lib/keelson/x", "/var/lib/keelson/x",
                          "/var/lib/keelson-other/x", "/run/netns/a"));
  EXPECT_THAT(ParseMountPoints(""), ElementsAre());
  EXPECT_THAT(ParseMountPoints("1 2 3:4 / none rw - x y z\n"), ElementsAre());
}

TEST(MountsTest, BelowIsNeitherTheFolderItselfNorItsNamesake) {
  EXPECT_THAT(MountPointsBelow(kMountInfo, {"/var/lib/keelson", "/run/netns"}),
              ElementsAre("/var/lib/keelson/x", "/var/lib/keelson/x", "/run/netns/a"));
  EXPECT_THAT(MountPointsBelow(kMountInfo, {"/srv"}), ElementsAre());
}

TEST(MountsTest, OnlyThreeOctalDigitsAreAnEscape) {
  EXPECT_EQ(UnescapeMountField("a\\040b\\134c"), "a b\\c");
  EXPECT_EQ(UnescapeMountField("a\\09x"), "a\\09x");
  EXPECT_EQ(UnescapeMountField("a\\04"), "a\\04");
  EXPECT_EQ(UnescapeMountField("\\777"), "\\777");  // no byte
  EXPECT_EQ(UnescapeMountField("\\"), "\\");
}

}  // namespace
}  // namespace keelson
