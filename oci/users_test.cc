#include "oci/users.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/status.h"

namespace keelson::oci {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kPasswd =
    "root:x:0:0:root:/root:/bin/sh\n"
    "web:x:1000:1001:Web,,,:/home/web:/bin/sh\n"
    "twin:x:1000:7:second of this uid:/twin:/bin/sh\n"
    "relative:x:1002:1002::home:/bin/sh\n"
    "1234:x:77:77::/odd:/bin/sh\n";
constexpr const char* kGroup =
    "root:x:0:\n"
    "wheel:x:10:root,web\n"
    "web:x:1001:\n"
    "staff:x:50:web\n"
    "twins:x:60:twin\n";

struct Row {
  const char* about;
  UserRequest request;
  uint32_t uid, gid;
  std::vector<uint32_t> groups;
  const char* home;
};

UserRequest UserOf(std::optional<int64_t> uid, std::optional<int64_t> gid, std::string image = "",
                   std::vector<int64_t> groups = {}, std::string name = "",
                   SupplementalGroupsPolicy policy = SupplementalGroupsPolicy::kMerge) {
  return {uid, std::move(name), std::move(image), gid, std::move(groups), policy};
}

TEST(ResolveUserTest, Table) {
  constexpr auto kStrict = SupplementalGroupsPolicy::kStrict;
  const Row rows[] = {
      {"nobody says anything: root with root's groups", UserOf({}, {}), 0, 0, {0, 10}, "/root"},
      {"uid brings the group of its entry", UserOf(1000, {}), 1000, 1001, {10, 50, 1001}, "/home/web"},
      {"uid of no entry: group root, home /", UserOf(5, {}), 5, 0, {0}, "/"},
      {"uid and group", UserOf(1000, 9), 1000, 9, {9, 10, 50}, "/home/web"},
      {"name", UserOf({}, {}, "", {}, "web"), 1000, 1001, {10, 50, 1001}, "/home/web"},
      {"uid wins over name", UserOf(0, {}, "", {}, "web"), 0, 0, {0, 10}, "/root"},
      {"the CRI wins over the image", UserOf(0, {}, "web"), 0, 0, {0, 10}, "/root"},
      {"image: name", UserOf({}, {}, "web"), 1000, 1001, {10, 50, 1001}, "/home/web"},
      {"image: name:group", UserOf({}, {}, "web:staff"), 1000, 50, {10, 50}, "/home/web"},
      {"image: uid:gid", UserOf({}, {}, "3:4"), 3, 4, {4}, "/"},
      {"image: uid:group", UserOf({}, {}, "3:staff"), 3, 50, {50}, "/"},
      {"image: group only", UserOf({}, {}, ":staff"), 0, 50, {10, 50}, "/root"},
      {"image: nothing after the colon", UserOf({}, {}, "web:"), 1000, 1001, {10, 50, 1001}, "/home/web"},
      {"digits are a uid even where a user is called so", UserOf({}, {}, "1234"), 1234, 0, {0}, "/"},
      {"a relative home is none", UserOf(1002, {}), 1002, 1002, {1002}, "/"},
      {"supplemental", UserOf(5, 6, "", {8, 7, 8}), 5, 6, {6, 7, 8}, "/"},
      {"supplemental merged", UserOf(1000, {}, "", {7}), 1000, 1001, {7, 10, 50, 1001}, "/home/web"},
      {"strict", UserOf(1000, {}, "", {7}, "", kStrict), 1000, 1001, {7, 1001}, "/home/web"},
      {"strict without groups", UserOf({}, {}, "web", {}, "", kStrict), 1000, 1001, {1001}, "/home/web"},
      {"largest id", UserOf(4294967294, 4294967294), 4294967294, 4294967294, {4294967294}, "/"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.about);
    absl::StatusOr<ProcessUser> user = ResolveUser(row.request, kPasswd, kGroup);
    ASSERT_TRUE(user.ok()) << user.status();
    EXPECT_EQ(user->uid, row.uid);
    EXPECT_EQ(user->gid, row.gid);
    EXPECT_EQ(user->additional_gids, row.groups);
    EXPECT_EQ(user->home, row.home);
  }
}

TEST(ResolveUserTest, Errors) {
  const std::pair<UserRequest, const char*> rows[] = {
      {UserOf({}, 7), "without a user"},
      {UserOf({}, 7, "web"), "without a user"},
      {UserOf(-1, {}), "out of range"},
      {UserOf(4294967295, {}), "out of range"},
      {UserOf(1, -5), "security_context.run_as_group: -5 is out of range"},
      {UserOf(1, {}, "", {-1}), "security_context.supplemental_groups: -1 is out of range"},
      {UserOf({}, {}, "99999999999"), "out of range"},
      {UserOf({}, {}, "nosuch"), "no user \"nosuch\""},
      {UserOf({}, {}, "web:nosuch"), "no group \"nosuch\""},
      {UserOf({}, {}, "", {}, "nosuch"), "security_context.run_as_username: no user \"nosuch\""},
      {UserOf({}, {}, "", {}, "web:0"), "contains a colon"},
  };
  for (const auto& [request, message] : rows) {
    absl::StatusOr<ProcessUser> user = ResolveUser(request, kPasswd, kGroup);
    ASSERT_FALSE(user.ok()) << message;
    EXPECT_EQ(user.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(user.status().message()), HasSubstr(message));
  }
}

// CVE-2022-2989, -2990, -2995, CVE-2022-36109: a process whose primary group is not among the additional ones
// can drop it (setgid) and then pass a file whose mode denies that group and allows others.
TEST(ResolveUserTest, PrimaryGroupIsAlwaysAdditional_CVE_2022_2989) {
  for (const auto policy : {SupplementalGroupsPolicy::kMerge, SupplementalGroupsPolicy::kStrict}) {
    for (const UserRequest& request :
         {UserOf({}, {}, "", {}, "", policy), UserOf(1000, 3000, "", {7}, "", policy),
          UserOf({}, {}, "web:staff", {}, "", policy)}) {
      absl::StatusOr<ProcessUser> user = ResolveUser(request, kPasswd, kGroup);
      ASSERT_TRUE(user.ok());
      EXPECT_THAT(user->additional_gids, testing::Contains(user->gid));
    }
  }
}

// An image that lists its user in a group (of a volume's owner, say) gives it that group under Merge, not
// under Strict (KEP-3619).
TEST(ResolveUserTest, StrictTakesNoGroupsFromTheImage) {
  UserRequest request = UserOf(1000, 3000, "", {60000});
  const std::string group = "docker:x:50000:web\nimagegroup:x:50001:web\n";
  EXPECT_THAT(ResolveUser(request, kPasswd, group)->additional_gids, ElementsAre(3000, 50000, 50001, 60000));
  request.policy = SupplementalGroupsPolicy::kStrict;
  EXPECT_THAT(ResolveUser(request, kPasswd, group)->additional_gids, ElementsAre(3000, 60000));
}

TEST(ParsePasswdTest, SkipsWhatIsNoEntry) {
  const auto entries = ParsePasswd(
      "# comment\n\n+::::::\n-bad::0:0:::\n:x:1:1:::\nshort:x:1\nbadid:x:one:1:::\nhuge:x:4294967295:1:::\n"
      "crlf:x:4:5::/h:/bin/sh\r\nlast:x:6:7");
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].name, "crlf");
  EXPECT_EQ(entries[0].home, "/h");
  EXPECT_EQ(entries[1].name, "last");
  EXPECT_EQ(entries[1].gid, 7u);
}

TEST(ParseGroupTest, Members) {
  const auto entries = ParseGroup("a:x:1:x,,y\nb:x:2\nc:x:-3:x\n");
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_THAT(entries[0].members, ElementsAre("x", "y"));
  EXPECT_TRUE(entries[1].members.empty());
}

class ResolveUserInTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/keelson-users-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    top_ = name;
    ASSERT_TRUE(MakeDirs(top_ + "/root/etc").ok());
    absl::StatusOr<Fd> root = OpenFile(top_ + "/root", O_PATH | O_DIRECTORY);
    ASSERT_TRUE(root.ok());
    root_ = *std::move(root);
  }
  void TearDown() override { EXPECT_TRUE(RemoveTree(top_).ok()); }
  void Write(const std::string& path, std::string_view text) {
    ASSERT_TRUE(WriteFileAtomic(top_ + path, text, 0644, false).ok());
  }

  std::string top_;
  Fd root_;
};

TEST_F(ResolveUserInTest, ReadsFilesOfTheRoot) {
  Write("/root/etc/passwd", kPasswd);
  Write("/root/etc/group", kGroup);
  absl::StatusOr<ProcessUser> user = ResolveUserIn(UserOf({}, {}, "web:staff"), root_.get());
  ASSERT_TRUE(user.ok()) << user.status();
  EXPECT_EQ(user->uid, 1000u);
  EXPECT_EQ(user->gid, 50u);
}

TEST_F(ResolveUserInTest, MissingFilesAreEmpty) {
  EXPECT_EQ(ResolveUserIn(UserOf(5, {}), root_.get()).value_or(ProcessUser{}).uid, 5u);
  EXPECT_FALSE(ResolveUserIn(UserOf({}, {}, "web"), root_.get()).ok());
}

// An image's /etc/passwd that is a link out of the image reads the image's own file of that name, never the
// host's.
TEST_F(ResolveUserInTest, LinksStayInTheRoot) {
  Write("/secret", "host:x:1:1::/:\n");
  Write("/root/secret", "image:x:2:2::/:\n");
  for (const char* target : {"../../secret", "/secret", "../../../../../../secret"}) {
    unlink((top_ + "/root/etc/passwd").c_str());
    ASSERT_EQ(symlink(target, (top_ + "/root/etc/passwd").c_str()), 0);
    EXPECT_FALSE(ResolveUserIn(UserOf({}, {}, "host"), root_.get()).ok()) << target;
    EXPECT_EQ(ResolveUserIn(UserOf({}, {}, "image"), root_.get()).value_or(ProcessUser{}).uid, 2u) << target;
  }
}

TEST_F(ResolveUserInTest, OnlyRegularFiles) {
  ASSERT_EQ(mkfifo((top_ + "/root/etc/passwd").c_str(), 0644), 0);
  EXPECT_THAT(std::string(ResolveUserIn(UserOf(0, {}), root_.get()).status().message()),
              HasSubstr("not a regular file"));
}

TEST_F(ResolveUserInTest, Bounded) {
  Write("/root/etc/passwd", std::string(kMaxPasswdBytes + 1, 'x'));
  EXPECT_FALSE(ResolveUserIn(UserOf(0, {}), root_.get()).ok());
}

}  // namespace
}  // namespace keelson::oci
