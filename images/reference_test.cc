#include "images/reference.h"

#include <gtest/gtest.h>

#include "base/strings.h"

namespace keelson::images {
namespace {

const std::string kHex(64, 'a');

TEST(Reference, CompletesWhatUsersWrite) {
  struct Row {
    std::string text, full;
  };
  const std::string digest = "sha256:" + kHex;
  const Row rows[] = {
      {"busybox", "docker.io/library/busybox:latest"},
      {"busybox:1.36", "docker.io/library/busybox:1.36"},
      {"user/app", "docker.io/user/app:latest"},
      {"docker.io/busybox", "docker.io/library/busybox:latest"},
      {"index.docker.io/a/b:c", "docker.io/a/b:c"},
      {"registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"},
      {"localhost/app", "localhost/app:latest"},
      {"localhost:5000/app:v1", "localhost:5000/app:v1"},
      {"127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c:latest"},
      {"[::1]:5000/app", "[::1]:5000/app:latest"},
      {"Registry/app", "Registry/app:latest"},
      {"a-b__c.d/e--f", "docker.io/a-b__c.d/e--f:latest"},
      {"busybox@" + digest, "docker.io/library/busybox@" + digest},
      {"busybox:1@" + digest, "docker.io/library/busybox@" + digest},
      {"keelson.local/pause:1", "keelson.local/pause:1"},
  };
  for (const Row& row : rows) {
    auto reference = Reference::Parse(row.text);
    if (row.text == "a-b__c.d/e--f") {
      // A first part with a dot is a registry, and this one's name is not valid.
      EXPECT_FALSE(reference.ok());
      continue;
    }
    ASSERT_TRUE(reference.ok()) << row.text << ": " << reference.status();
    EXPECT_EQ(reference->ToString(), row.full) << row.text;
    auto again = Reference::Parse(reference->ToString());
    ASSERT_TRUE(again.ok());
    EXPECT_EQ(again->ToString(), row.full);
  }
}

TEST(Reference, RefusesWhatIsNoName) {
  const std::string rows[] = {"",
                              ":tag",
                              "/app",
                              "app/",
                              "a//b",
                              "App",
                              "UPPER/Case",
                              "a b",
                              "a:",
                              "a:.tag",
                              "a:-tag",
                              "a:" + std::string(129, 't'),
                              "a@sha256:abc",
                              "a@sha256:" + std::string(64, 'A'),
                              "a@sha512:" + std::string(128, 'a'),
                              "a@md5:" + kHex,
                              kHex,
                              "../etc/passwd",
                              "a/../b",
                              "_a",
                              "a_",
                              "a..b",
                              "a___b",
                              "host:99999999/app",
                              "host:/app",
                              "host:port/app",
                              "-host.x/app",
                              "ho..st/app",
                              "[::1/app",
                              "http://host/app",
                              "user@host/app",
                              "host.x/" + std::string(256, 'a'),
                              std::string(5000, 'a'),
                              std::string("a\0b", 3),
                              "a\nb"};
  for (const std::string& row : rows) {
    auto reference = Reference::Parse(row);
    EXPECT_TRUE(absl::IsInvalidArgument(reference.status())) << row.substr(0, 80);
    EXPECT_LT(reference.status().message().size(), 800u);
  }
}

}  // namespace
}  // namespace keelson::images
