#include "kubelet/server/log_stream.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fake_env.h"
#include "base/fd.h"
#include "base/strings.h"

namespace keelson::kubelet {
namespace {

std::string Line(int i) { return StrCat("2016-10-06T00:17:09Z stdout F line ", i, "\n"); }

Task<bool> Answer(const bool* value) { co_return *value; }

class LogStream : public ::testing::Test {
 protected:
  LogStream() {
    char path[] = "/tmp/log_stream_XXXXXX";
    dir_ = ::mkdtemp(path);
    path_ = dir_ + "/0.log";
  }
  ~LogStream() override { (void)RemoveTree(dir_); }
  void Append(const std::string& text) {
    Fd fd = *OpenFile(path_, O_WRONLY | O_CREAT | O_APPEND, 0600);
    ASSERT_TRUE(WriteAll(fd.get(), text).ok());
  }
  StillRunning Running() {
    const bool* value = &running_;
    return [value] { return Answer(value); };
  }
  std::string All(LogRequest request) {
    net::RecordingResponseWriter writer;
    absl::Status status = env_.Await(StreamLog(env_, path_, std::move(request), Running(), writer));
    return status.ok() ? writer.body : StrCat("error: ", status.message());
  }
  FakeEnv env_;
  std::string dir_, path_;
  bool running_ = true;
};

TEST_F(LogStream, Tail) {
  std::string log;
  for (int i = 0; i < 5000; ++i) log += Line(i);
  Append(log);
  LogRequest request;
  for (int64_t lines : {0, 1, 2, 4999}) {
    request.tail_lines = lines;
    std::string want;
    for (int64_t i = 5000 - lines; i < 5000; ++i) StrAppend(&want, "line ", i, "\n");
    EXPECT_EQ(All(request), want) << lines;
  }
  request.tail_lines = 6000;
  EXPECT_EQ(All(request), All({}));
  Append("2016-10-06T00:17:09Z stdout F no end");
  request.tail_lines = 2;
  EXPECT_EQ(All(request), "line 4999\nno end\n");
}

TEST_F(LogStream, NoFileIsAnErrorBeforeAnythingIsSent) {
  net::RecordingResponseWriter writer;
  EXPECT_FALSE(env_.Await(StreamLog(env_, path_, {}, Running(), writer)).ok());
  EXPECT_FALSE(writer.started());
}

Task<void> FollowIt(FakeEnv* env, std::string path, StillRunning running,
                    net::RecordingResponseWriter* writer, bool* ended) {
  LogRequest request;
  request.follow = true;
  Task<absl::Status> stream = StreamLog(*env, path, request, std::move(running), *writer);
  (void)co_await std::move(stream);
  *ended = true;
}

TEST_F(LogStream, FollowsOverRotationUntilTheContainerEnds) {
  Append(Line(1));
  net::RecordingResponseWriter writer;
  bool ended = false;
  Scope scope(env_.executor());
  scope.Spawn("follow", FollowIt(&env_, path_, Running(), &writer, &ended));
  env_.Settle();
  EXPECT_EQ(writer.body, "line 1\n");
  Append(Line(2));
  env_.Advance(kLogFollowInterval);
  EXPECT_EQ(writer.body, "line 1\nline 2\n");
  Append(Line(3));  // after the last look and before the rename
  ASSERT_EQ(::rename(path_.c_str(), (path_ + ".20161006").c_str()), 0);
  env_.Advance(kLogFollowInterval);
  Append(Line(4));
  env_.Advance(kLogFollowInterval);
  EXPECT_EQ(writer.body, "line 1\nline 2\nline 3\nline 4\n");
  EXPECT_FALSE(ended);
  Append(Line(5));
  running_ = false;
  env_.Advance(kLogFollowInterval);
  EXPECT_TRUE(ended);
  EXPECT_EQ(writer.body, "line 1\nline 2\nline 3\nline 4\nline 5\n");
  EXPECT_FALSE(writer.aborted);
  env_.AwaitVoid(scope.Close());
}

TEST_F(LogStream, AClientThatLeavesEndsIt) {
  Append(Line(1));
  net::RecordingResponseWriter writer;
  bool ended = false;
  Scope scope(env_.executor());
  scope.Spawn("follow", FollowIt(&env_, path_, Running(), &writer, &ended));
  env_.Advance(absl::Seconds(3));
  EXPECT_FALSE(ended);
  env_.AwaitVoid(scope.Close());
  EXPECT_EQ(writer.body, "line 1\n");
}

}  // namespace
}  // namespace keelson::kubelet
