// CheckpointContainer. Under cri/testing/with_keelson_cri; what needs a working criu is skipped without one,
// with the reason.
#include <absl/strings/match.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "cri/testing/live_test.h"

namespace keelson::cri {
namespace {

using ::testing::HasSubstr;

class CheckpointLiveTest : public LiveTest {
 protected:
  absl::Status Checkpoint(const std::string& id, const std::string& location, int64_t timeout_s = 0) {
    v1::CheckpointContainerRequest request;
    request.set_container_id(id);
    request.set_location(location);
    request.set_timeout(timeout_s);
    return Call(runtime().CheckpointContainer(request)).status();
  }
};

TEST_F(CheckpointLiveTest, BadRequestsAreRefused) {
  std::string id = Start(RunPod(PodConfig("checkpoint-bad")), Script("main", "exec sleep 1000"));
  EXPECT_TRUE(absl::IsInvalidArgument(Checkpoint(id, ""))) << "no location";
  EXPECT_TRUE(absl::IsInvalidArgument(Checkpoint(id, "here.tar"))) << "relative";
  EXPECT_TRUE(absl::IsInvalidArgument(Checkpoint(id, dir() + "/../a.tar")));
  EXPECT_TRUE(absl::IsInvalidArgument(Checkpoint(id, dir() + "/a.tar", -1)));
  EXPECT_TRUE(absl::IsNotFound(Checkpoint("0123456789abcdef", dir() + "/a.tar")));
}

TEST_F(CheckpointLiveTest, TheContainerIsInTheArchiveAndRunsOn) {
  std::string id =
      Start(RunPod(PodConfig("checkpoint")),
            Script("main", "n=0; while true; do n=$((n+1)); echo $n >/tmp/count; sleep 0.1; done"));
  std::string path = dir() + "/checkpoint.tar";
  absl::Status status = Checkpoint(id, path);
  if (absl::IsUnimplemented(status)) {
    EXPECT_THAT(std::string(status.message()), HasSubstr("criu"));
    EXPECT_TRUE(absl::IsNotFound(ReadFile(path).status()));
    GTEST_SKIP() << status.message();
  }
  ASSERT_TRUE(status.ok()) << status;
  struct stat info;
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  std::string archive = ReadFile(path, 256 << 20).value();
  for (const char* part : {"config.dump", "spec.dump", "dump.log", "stats-dump", "rootfs-diff.tar",
                           "checkpoint/inventory.img", "checkpoint/pages-1.img", "tmp/count"}) {
    EXPECT_TRUE(absl::StrContains(archive, part)) << part;
  }
  EXPECT_TRUE(absl::StrContains(archive, id));
  // It goes on where it was.
  EXPECT_EQ(Status(id).state(), v1::CONTAINER_RUNNING);
  std::string before = Exec(id, "cat /tmp/count");
  absl::Duration limit = env_.clock().Monotonic() + absl::Seconds(30);
  while (Exec(id, "cat /tmp/count") == before && env_.clock().Monotonic() < limit) {
  }
  EXPECT_NE(Exec(id, "cat /tmp/count"), before);
  // Again, over the first.
  status = Checkpoint(id, path, 300);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_TRUE(absl::IsInvalidArgument(Checkpoint(id, dir() + "/none/a.tar"))) << "no such folder";
  ASSERT_TRUE(Stop(id, 0).ok());
  EXPECT_EQ(Checkpoint(id, path).code(), absl::StatusCode::kFailedPrecondition) << "it has ended";
}

}  // namespace
}  // namespace keelson::cri
