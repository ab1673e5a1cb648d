#include "cri/server/cgroup_names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "base/strings.h"

namespace keelson::cri {
namespace {

using ::testing::HasSubstr;

constexpr char kSlice[] = "kubepods-burstable-podu_1.slice";
constexpr char kSlicePath[] = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podu_1.slice";

TEST(CgroupNamesTest, PathsOfPodsAndContainers) {
  struct Row {
    std::string parent, default_parent, pod, container, oci;
  };
  for (const Row& row : std::vector<Row>{
           {"/kubepods/podu1", "keelson-cri", "kubepods/podu1", "kubepods/podu1/id", "/kubepods/podu1/id"},
           {"", "keelson-cri", "", "keelson-cri/id", "/keelson-cri/id"},
           {"//a/b//", "x", "a/b", "a/b/id", "/a/b/id"},
           {"/", "x", "", "id", "/id"},
           {kSlice, "keelson_cri.slice", kSlicePath, StrCat(kSlicePath, "/keelson-id.scope"),
            StrCat(kSlice, ":keelson:id")},
           {StrCat("/", kSlicePath), "", kSlicePath, StrCat(kSlicePath, "/keelson-id.scope"),
            StrCat(kSlice, ":keelson:id")},
           {"", "keelson_cri.slice", "", "keelson_cri.slice/keelson-id.scope",
            "keelson_cri.slice:keelson:id"},
           {"", "a-b.slice", "", "a.slice/a-b.slice/keelson-id.scope", "a-b.slice:keelson:id"},
           {"-.slice", "", "", "keelson-id.scope", "-.slice:keelson:id"},
       }) {
    EXPECT_EQ(PodCgroupPath(row.parent), row.pod) << row.parent;
    EXPECT_EQ(ContainerCgroupPath(row.parent, row.default_parent, "id"), row.container) << row.parent;
    EXPECT_EQ(OciCgroupsPath(row.parent, row.default_parent, "id"), row.oci) << row.parent;
  }
}

TEST(CgroupNamesTest, AParentFitsOneDriver) {
  struct Row {
    std::string parent;
    bool cgroupfs, systemd;
  };
  for (const Row& row : std::vector<Row>{
           {"", true, true},
           {"/kubepods/burstable/podu-1", true, false},
           {"kubepods", true, false},
           {"/", true, false},
           {"/a/../b", false, false},
           {"/a//b", false, false},
           {kSlice, false, true},
           {StrCat("/", kSlice), false, true},
           {StrCat("/", kSlicePath), false, true},
           {"system.slice", false, true},
           {"-.slice", false, true},
           {StrCat("/kubepods/", kSlice), false, false},
           {"/b.slice/a.slice", false, false},
           {"a--b.slice", false, false},
           {"-a.slice", false, false},
           {".slice", false, false},
           {"a:b.slice", false, false},
           {"a\nb.slice", false, false},
           {"keelson-id.scope", true, false},
       }) {
    EXPECT_EQ(CheckCgroupParent(row.parent, false).ok(), row.cgroupfs) << row.parent;
    EXPECT_EQ(CheckCgroupParent(row.parent, true).ok(), row.systemd) << row.parent;
  }
}

TEST(CgroupNamesTest, AMixOfDriversIsRefusedByName) {
  absl::Status slice = CheckCgroupParent(kSlice, false);
  EXPECT_TRUE(absl::IsInvalidArgument(slice));
  EXPECT_THAT(std::string(slice.message()), HasSubstr("this runtime's cgroup driver is cgroupfs"));
  absl::Status path = CheckCgroupParent("/kubepods/podu1", true);
  EXPECT_TRUE(absl::IsInvalidArgument(path));
  EXPECT_THAT(std::string(path.message()), HasSubstr("this runtime's cgroup driver is systemd"));
  EXPECT_THAT(std::string(CheckCgroupParent("/x/a-b.slice", true).message()),
              HasSubstr("/a.slice/a-b.slice"));
}

TEST(CgroupNamesTest, TheSliceOfAScope) {
  EXPECT_EQ(ScopeParent("a.slice/a-b.slice/keelson-id.scope"), "a.slice/a-b.slice");
  EXPECT_EQ(ScopeParent("kubepods/podu1/id"), "");
  EXPECT_EQ(ScopeParent("keelson-id.scope"), "");
}

TEST(CgroupNamesTest, TheDefaultParent) {
  EXPECT_EQ(DefaultCgroupParent("keelson-cri", false), "keelson-cri");
  EXPECT_EQ(DefaultCgroupParent("keelson-cri", true), "keelson_cri.slice");
  EXPECT_EQ(DefaultCgroupParent("keelson-n1/cri", true), "keelson_n1-cri.slice");
  for (bool systemd : {false, true}) {
    EXPECT_TRUE(CheckCgroupParent(DefaultCgroupParent("keelson-cri", systemd), systemd).ok());
  }
}

}  // namespace
}  // namespace keelson::cri
