// Layers from strangers, unpacked into a temporary directory. Needs no root: owners are not set and opaque
// directories are marked with an attribute that anybody may set.
#include "images/unpack.h"

#include <absl/strings/match.h>
#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>

#include "base/status.h"
#include "base/strings.h"
#include "images/decompress.h"
#include "images/digest.h"
#include "images/testing/test_images.h"
#include "images/testing/test_store.h"

namespace keelson::images {
namespace {

class StringSource : public ByteSource {
 public:
  explicit StringSource(std::string bytes, size_t step = 1 << 20) : bytes_(std::move(bytes)), step_(step) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t size) override {
    size_t n = std::min({size, step_, bytes_.size() - at_});
    bytes_.copy(buffer, n, at_);
    at_ += n;
    return n;
  }

 private:
  std::string bytes_;
  size_t at_ = 0, step_;
};

class UnpackTest : public ::testing::Test {
 protected:
  UnpackTest() {
    root_ = dir_.path() + "/outer/root";
    EXPECT_TRUE(MakeDirs(root_).ok());
    EXPECT_TRUE(WriteFileAtomic(dir_.path() + "/outer/victim", "safe", 0644, false).ok());
    options_.tree.set_owner = false;
    options_.tree.opaque_xattr = "user.test.opaque";
  }
  absl::StatusOr<UnpackedLayer> Unpack(std::string bytes) {
    StringSource source(std::move(bytes));
    auto fd = OpenFile(root_, O_RDONLY | O_DIRECTORY);
    ByteBudget budget(max_bytes_);
    auto out = UnpackLayer(&source, fd->get(), &budget, options_);
    // Whatever it was: nothing outside the layer changed.
    EXPECT_EQ(*ReadFile(dir_.path() + "/outer/victim"), "safe");
    EXPECT_EQ(List(dir_.path() + "/outer"), "root victim");
    return out;
  }
  // The error of one bad entry.
  std::string Refused(const std::vector<TarEntry>& entries) {
    auto out = Unpack(MakeTar(entries));
    EXPECT_FALSE(out.ok()) << entries.back().name;
    return out.ok() ? "accepted" : std::string(out.status().message());
  }
  std::string List(const std::string& path) {
    std::vector<std::string> names;
    DIR* dir = ::opendir(path.c_str());
    while (const dirent* entry = dir == nullptr ? nullptr : ::readdir(dir)) {
      std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(name);
    }
    if (dir != nullptr) ::closedir(dir);
    std::sort(names.begin(), names.end());
    std::string out;
    for (const std::string& name : names) StrAppend(&out, out.empty() ? "" : " ", name);
    return out;
  }
  std::string Read(const std::string& name) {
    auto text = ReadFile(root_ + "/" + name);
    return text.ok() ? *text : "<none>";
  }
  struct stat Stat(const std::string& name) {
    struct stat st {};
    EXPECT_EQ(::lstat((root_ + "/" + name).c_str(), &st), 0) << name;
    return st;
  }
  bool Exists(const std::string& name) {
    struct stat st;
    return ::lstat((root_ + "/" + name).c_str(), &st) == 0;
  }

  TempDir dir_;
  std::string root_;
  UnpackOptions options_;
  uint64_t max_bytes_ = 64 << 20;
};

TEST(LayerPath, Table) {
  EXPECT_EQ(*LayerPath("./usr//bin/"), "usr/bin");
  EXPECT_EQ(*LayerPath("/etc/passwd"), "etc/passwd");
  EXPECT_EQ(*LayerPath("///"), "");
  EXPECT_EQ(*LayerPath("."), "");
  EXPECT_EQ(*LayerPath("a/./b"), "a/b");
  EXPECT_EQ(*LayerPath("..."), "...");
  EXPECT_FALSE(LayerPath("..").ok());
  EXPECT_FALSE(LayerPath("a/../b").ok());
  EXPECT_FALSE(LayerPath("a/..").ok());
  EXPECT_FALSE(LayerPath(std::string("a\0b", 3)).ok());
  EXPECT_FALSE(LayerPath(std::string(5000, 'a')).ok());
}

TEST_F(UnpackTest, DigestsOfAllFormats) {
  std::string tar = MakeTar({{.name = "a", .data = std::string(100000, 'x')}, {.name = "d/", .type = '5'}});
  for (const std::string& blob : {tar, Gzip(tar), Zstd(tar), Gzip(tar.substr(0, 700)) + Gzip(tar.substr(700)),
                                  Zstd(tar.substr(0, 512)) + Zstd(tar.substr(512)), Gzip(tar, 0)}) {
    auto out = Unpack(blob);
    ASSERT_TRUE(out.ok()) << out.status();
    EXPECT_EQ(out->diff_id, DigestOf(tar));
    EXPECT_EQ(out->digest, DigestOf(blob));
    EXPECT_EQ(out->blob_bytes, blob.size());
    EXPECT_EQ(Read("a").size(), 100000u);
  }
  // Byte by byte through the same reader.
  StringSource slow(Gzip(tar), 1);
  auto fd = OpenFile(root_, O_RDONLY | O_DIRECTORY);
  auto out = UnpackLayer(&slow, fd->get(), nullptr, options_);
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_EQ(out->diff_id, DigestOf(tar));
}

TEST_F(UnpackTest, EntriesAsTheyAre) {
  auto out = Unpack(MakeTar({
      {.name = "d/", .type = '5', .mode = 0751, .mtime = 1234},
      {.name = "d/f", .data = "data", .mode = 04711, .mtime = 99},
      {.name = "d/hard", .type = '1', .link = "d/f"},
      {.name = "d/sym", .type = '2', .link = "../../outside", .mtime = 77},
      {.name = "fifo", .type = '6', .mode = 0640},
      {.name = "d/" + std::string(120, 'n'), .data = "long"},
      {.name = "caf\xc3\xa9", .data = "utf8", .pax = {{"path", "caf\xc3\xa9-\xe2\x82\xac"}}},
      {.name = "x",
       .data = "x",
       .pax = {{"SCHILY.xattr.user.k", "v"},
               {"SCHILY.xattr.trusted.overlay.opaque", "y"},
               {"SCHILY.xattr.user.overlay.redirect", "/etc"}}},
      {.name = "d/f2", .data = "later"},
  }));
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_EQ(Stat("d").st_mode & 07777, 0751u);
  EXPECT_EQ(Stat("d").st_mtim.tv_sec, 1234);
  EXPECT_EQ(Stat("d/f").st_mode & 07777, 04711u);
  EXPECT_EQ(Stat("d/f").st_mtim.tv_sec, 99);
  EXPECT_EQ(Stat("d/f").st_ino, Stat("d/hard").st_ino);
  EXPECT_TRUE(S_ISLNK(Stat("d/sym").st_mode));
  EXPECT_EQ(Stat("d/sym").st_mtim.tv_sec, 77);
  EXPECT_TRUE(S_ISFIFO(Stat("fifo").st_mode));
  EXPECT_EQ(Read("d/" + std::string(120, 'n')), "long");
  EXPECT_EQ(Read("caf\xc3\xa9-\xe2\x82\xac"), "utf8");
  char value[16];
  EXPECT_EQ(::getxattr((root_ + "/x").c_str(), "user.k", value, sizeof value), 1);
  EXPECT_LT(::getxattr((root_ + "/x").c_str(), "trusted.overlay.opaque", value, sizeof value), 0);
  EXPECT_LT(::getxattr((root_ + "/x").c_str(), "user.overlay.redirect", value, sizeof value), 0);
  EXPECT_EQ(out->usage.inodes, 8u);
}

TEST_F(UnpackTest, WhiteoutsBecomeOverlayMarks) {
  auto out = Unpack(MakeTar({
      {.name = ".wh.gone"},
      {.name = "d/.wh.inner"},
      {.name = "o/", .type = '5', .mode = 0755},
      {.name = "o/.wh..wh..opq"},
      {.name = "kept", .data = "kept"},
      {.name = ".wh.kept"},  // hides what lies below, not what this layer has
      {.name = ".wh.replaced"},
      {.name = "replaced/", .type = '5', .mode = 0755},
      {.name = "late/", .type = '5', .mode = 0755},
      {.name = ".wh.late"},
      {.name = ".wh..wh.plnk/12.34", .data = "aufs"},
      {.name = ".wh.file"},
      {.name = "file", .data = "new"},
  }));
  ASSERT_TRUE(out.ok()) << out.status();
  for (const char* name : {"gone", "d/inner"}) {
    EXPECT_TRUE(S_ISCHR(Stat(name).st_mode)) << name;
    EXPECT_EQ(Stat(name).st_rdev, makedev(0, 0));
  }
  char value[4];
  for (const char* name : {"o", "replaced", "late"}) {
    EXPECT_EQ(::getxattr((root_ + "/" + name).c_str(), "user.test.opaque", value, 4), 1) << name;
  }
  EXPECT_EQ(Read("kept"), "kept");
  EXPECT_EQ(Read("file"), "new");
  EXPECT_EQ(List(root_), "d file gone kept late o replaced");
  EXPECT_EQ(out->implicit_dirs, std::vector<std::string>{"d"});
}

TEST_F(UnpackTest, LaterEntriesReplace) {
  auto out = Unpack(MakeTar({
      {.name = "a", .data = "first"},
      {.name = "a", .data = "second"},
      {.name = "b/", .type = '5', .mode = 0755},
      {.name = "b/inner", .data = "x"},
      {.name = "b", .data = "a file now"},
      {.name = "c", .data = "file"},
      {.name = "c/", .type = '5', .mode = 0700},
      {.name = "c/x", .data = "x"},
      {.name = "c/", .type = '5', .mode = 0711},
      {.name = "l", .type = '2', .link = "c"},
      {.name = "l/", .type = '5', .mode = 0755},  // a directory in the place of the link, c is not touched
      {.name = "l/y", .data = "y"},
      {.name = "self", .data = "self"},
      {.name = "self", .type = '1', .link = "self"},
  }));
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_EQ(Read("a"), "second");
  EXPECT_EQ(Read("b"), "a file now");
  EXPECT_EQ(Read("c/x"), "x");
  EXPECT_EQ(Stat("c").st_mode & 07777, 0711u);
  EXPECT_EQ(List(root_ + "/c"), "x");
  EXPECT_EQ(Read("l/y"), "y");
  EXPECT_EQ(Read("self"), "self");
}

// ---- hostile ----

TEST_F(UnpackTest, DotDotIsRefusedByName) {
  EXPECT_EQ(Refused({{.name = "../victim", .data = "evil"}}),
            "entry \"../victim\": \"..\" in the name leads out of the layer");
  EXPECT_TRUE(absl::StrContains(Refused({{.name = "a/../../victim", .data = "evil"}}), ".."));
  EXPECT_TRUE(absl::StrContains(Refused({{.name = "d/..", .type = '5'}}), ".."));
  EXPECT_TRUE(absl::StrContains(Refused({{.name = "a/.wh..."}}), "whiteout"));
  EXPECT_TRUE(absl::StrContains(Refused({{.name = ".wh."}}), "whiteout"));
  EXPECT_TRUE(absl::StrContains(Refused({{.name = ".wh.."}}), "whiteout"));
  EXPECT_TRUE(absl::StrContains(Refused({{.name = ".wh.x/y"}}), "whiteout"));
  EXPECT_TRUE(
      absl::StrContains(Refused({{.name = "x", .data = "x", .pax = {{"path", "../../victim"}}}}), ".."));
}

TEST_F(UnpackTest, AbsoluteNamesAndLinkedParentsStayInside) {
  std::string victim = dir_.path() + "/outer/victim";
  auto out = Unpack(MakeTar({
      {.name = "/etc/passwd", .data = "inside"},
      {.name = "abs", .type = '2', .link = dir_.path() + "/outer"},
      {.name = "rel", .type = '2', .link = "../../../../../../../.."},
      {.name = "rel/top", .data = "top"},
      {.name = "here", .type = '2', .link = "etc"},
      {.name = "here/shadow", .data = "shadow"},
  }));
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_EQ(Read("etc/passwd"), "inside");
  EXPECT_EQ(Read("top"), "top");
  EXPECT_EQ(Read("etc/shadow"), "shadow");
  // Through a link to nowhere nothing is made.
  EXPECT_EQ(Refused({{.name = "abs", .type = '2', .link = dir_.path() + "/outer"},
                     {.name = "abs/victim", .data = "evil"}}),
            "entry \"abs/victim\": its directory abs is a link to nowhere");
  EXPECT_TRUE(absl::StrContains(
      Refused({{.name = "loop", .type = '2', .link = "loop"}, {.name = "loop/x", .data = "x"}}), "loop"));
  EXPECT_TRUE(
      absl::StrContains(Refused({{.name = "f", .data = "f"}, {.name = "f/x", .data = "x"}}), "is not one"));
  // A file is not written through a link of its own name.
  ASSERT_TRUE(
      Unpack(MakeTar({{.name = "ln", .type = '2', .link = victim}, {.name = "ln", .data = "evil"}})).ok());
  EXPECT_EQ(Read("ln"), "evil");
}

TEST_F(UnpackTest, HardLinksStayInside) {
  EXPECT_TRUE(absl::StrContains(Refused({{.name = "h", .type = '1', .link = "../victim"}}), ".."));
  EXPECT_TRUE(absl::StrContains(Refused({{.name = "h", .type = '1', .link = dir_.path() + "/outer/victim"}}),
                                "which the layer does not have"));
  EXPECT_TRUE(absl::StrContains(Refused({{.name = "s", .type = '2', .link = dir_.path() + "/outer"},
                                         {.name = "h", .type = '1', .link = "s/victim"}}),
                                "which the layer does not have"));
  EXPECT_TRUE(
      absl::StrContains(Refused({{.name = "d/", .type = '5'}, {.name = "h", .type = '1', .link = "d"}}),
                        "hard link to directory"));
  EXPECT_TRUE(absl::StrContains(Refused({{.name = "h", .type = '1', .link = "/"}}), "root"));
  // A link to a symbolic link is one more name of the link, not of its target.
  ASSERT_TRUE(Unpack(MakeTar({{.name = "s2", .type = '2', .link = dir_.path() + "/outer/victim"},
                              {.name = "h2", .type = '1', .link = "s2"}}))
                  .ok());
  EXPECT_TRUE(S_ISLNK(Stat("h2").st_mode));
  // Its directory goes when the link takes the place.
  EXPECT_TRUE(absl::StrContains(Refused({{.name = "p/", .type = '5'},
                                         {.name = "p/f", .data = "f"},
                                         {.name = "p", .type = '1', .link = "p/f"}}),
                                "which it replaces"));
}

TEST_F(UnpackTest, DeviceNodesWhereNotAllowed) {
  options_.tree.allow_devices = false;
  EXPECT_EQ(Refused({{.name = "sda", .type = '4', .major = 8, .minor = 0}}),
            "entry \"sda\": device node 8:0 is not allowed");
  EXPECT_TRUE(absl::StrContains(Refused({{.name = "mem", .type = '3', .major = 1, .minor = 1}}), "1:1"));
}

TEST_F(UnpackTest, BombsEnd) {
  max_bytes_ = 1 << 20;
  std::string zeros = MakeTar({{.name = "zeros", .data = std::string(8 << 20, '\0')}});
  for (const std::string& blob : {Gzip(zeros, 9), Zstd(zeros), zeros}) {
    auto out = Unpack(blob);
    EXPECT_TRUE(absl::IsResourceExhausted(out.status())) << out.status();
    EXPECT_TRUE(absl::StrContains(out.status().message(), "max_image_bytes")) << out.status();
  }
  // Behind the end of the archive too.
  max_bytes_ = 256 << 20;
  auto out = Unpack(Gzip(MakeTar({}) + std::string(20 << 20, '\0')));
  EXPECT_TRUE(absl::StrContains(out.status().message(), "behind the end")) << out.status();
  // Inodes.
  options_.max_entries = 100;
  std::vector<TarEntry> many;
  for (int i = 0; i < 101; ++i) many.push_back({.name = StrCat("f", i)});
  EXPECT_TRUE(absl::StrContains(Refused(many), "more than 100 entries"));
}

TEST_F(UnpackTest, HeadersThatGrow) {
  // The map of a sparse file would be kept in memory, all of it.
  std::string map = "1000000\n";
  for (int i = 0; i < 1000000; ++i) map += "0\n0\n";
  auto out = Unpack(MakeTar({{.name = "s",
                              .data = map,
                              .pax = {{"GNU.sparse.major", "1"},
                                      {"GNU.sparse.minor", "0"},
                                      {"GNU.sparse.name", "s"},
                                      {"GNU.sparse.realsize", "10"}}}}));
  EXPECT_TRUE(absl::IsResourceExhausted(out.status())) << out.status();
}

TEST_F(UnpackTest, SparseFilesAreFilled) {
  std::string map = "2\n0\n4\n8192\n4\n";
  map.resize(512, '\0');
  auto out = Unpack(MakeTar({{.name = "s",
                              .data = map + "headtail",
                              .pax = {{"GNU.sparse.major", "1"},
                                      {"GNU.sparse.minor", "0"},
                                      {"GNU.sparse.name", "s"},
                                      {"GNU.sparse.realsize", "10000"}}}}));
  ASSERT_TRUE(out.ok()) << out.status();
  std::string text = Read("s");
  EXPECT_EQ(text.size(), 10000u);
  EXPECT_EQ(text.substr(0, 4), "head");
  EXPECT_EQ(text.substr(8192, 4), "tail");
}

TEST_F(UnpackTest, LyingSizes) {
  // Longer than the archive.
  auto cut = Unpack(MakeTar({{.name = "f", .data = "x", .lie_size = 1 << 20}}));
  EXPECT_TRUE(absl::IsInvalidArgument(cut.status())) << cut.status();
  // The blob is not of the size or the digest that was announced.
  std::string tar = MakeTar({{.name = "f", .data = "x"}});
  options_.expected_bytes = tar.size() - 1;
  EXPECT_TRUE(absl::IsDataLoss(Unpack(tar).status()));
  options_.expected_bytes = tar.size() + 1;
  EXPECT_TRUE(absl::IsDataLoss(Unpack(tar).status()));
  options_.expected_bytes = tar.size();
  options_.expected_digest = DigestOf("other");
  EXPECT_TRUE(absl::StrContains(Unpack(tar).status().message(), DigestOf(tar)));
  // Garbage instead of a layer is reported as wrong bytes, not as a bad archive.
  auto garbage = Unpack(std::string(tar.size(), 'g'));
  EXPECT_TRUE(absl::IsDataLoss(garbage.status())) << garbage.status();
  options_.expected_digest = "";
  options_.expected_diff_id = DigestOf("other");
  EXPECT_TRUE(absl::StrContains(Unpack(tar).status().message(), "diff ID"));
}

TEST_F(UnpackTest, DamagedCompression) {
  std::string tar = MakeTar({{.name = "f", .data = std::string(300000, 'x')}});
  for (std::string blob : {Gzip(tar), Zstd(tar)}) {
    EXPECT_TRUE(absl::IsDataLoss(Unpack(blob.substr(0, blob.size() / 2)).status()));
    EXPECT_TRUE(absl::IsDataLoss(Unpack(blob + "garbage").status()));
    blob[blob.size() / 2] ^= 0x55;
    blob[blob.size() - 5] ^= 0x55;
    EXPECT_FALSE(Unpack(blob).ok());
  }
  EXPECT_FALSE(Unpack("").ok());
  EXPECT_FALSE(Unpack("x").ok());
  EXPECT_TRUE(Unpack(std::string(1024, '\0')).ok());  // an empty archive
}

TEST_F(UnpackTest, OwnersThatDoNotExist) {
  TarEntry entry{.name = "f", .data = "x", .pax = {{"uid", "4294967295"}}};
  EXPECT_TRUE(absl::StrContains(Refused({entry}), "does not exist"));
}

TEST_F(UnpackTest, ArchivesOfImagesHoldPlainFilesOnly) {
  options_.files_only = true;
  EXPECT_TRUE(absl::StrContains(Refused({{.name = "p", .type = '6'}}), "special file"));
  EXPECT_TRUE(absl::StrContains(
      Refused({{.name = "a", .data = "a"}, {.name = "h", .type = '1', .link = "a"}}), "hard link"));
  ASSERT_TRUE(Unpack(MakeTar({{.name = ".wh.x", .data = "a plain name here"}})).ok());
  EXPECT_EQ(Read(".wh.x"), "a plain name here");
}

TEST_F(UnpackTest, TreesDeeperThanDescriptorsAreRemovedAndMeasured) {
  constexpr int kDepth = 700;
  int fd = ::open(root_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  ASSERT_EQ(::mkdirat(fd, "deep", 0755), 0);
  int at = ::openat(fd, "deep", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  for (int i = 0; i < kDepth; ++i) {
    ASSERT_EQ(::mkdirat(at, "d", 0755), 0);
    int next = ::openat(at, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ::close(::openat(at, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    ::close(at);
    at = next;
  }
  ::close(at);
  auto usage = MeasureTree(fd);
  ASSERT_TRUE(usage.ok());
  EXPECT_GT(usage->inodes, 400u);
  EXPECT_TRUE(RemoveTreeAt(fd, "deep").ok());
  EXPECT_EQ(List(root_), "");
  EXPECT_TRUE(RemoveTreeAt(fd, "deep").ok());
  ::close(fd);
}

}  // namespace
}  // namespace keelson::images
