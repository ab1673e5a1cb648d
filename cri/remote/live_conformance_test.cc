// The conformance cases on a real runtime: KEELSON_TEST_CRI_ENDPOINT=unix:///run/containerd/containerd.sock,
// with KEELSON_TEST_CRI_IMAGE an image whose command runs until SIGTERM (default: the runtime's own choice of
// pause, registry.k8s.io/pause:3.9, which must be present), KEELSON_TEST_CRI_COMMAND its words separated by
// spaces, KEELSON_TEST_CRI_EXEC a command in it that exits with 0, KEELSON_TEST_CRI_CGROUP_PARENT.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

#include "base/env.h"
#include "cri/remote/remote_runtime.h"
#include "cri/testing/conformance.h"

namespace keelson::cri {

// For the test's name in messages.
void PrintTo(const ConformanceCase& test, std::ostream* out) { *out << test.name; }

namespace {

std::string Variable(const char* name, std::string otherwise = "") {
  const char* value = ::getenv(name);
  return value == nullptr ? otherwise : value;
}

std::vector<std::string> Words(const std::string& text) {
  std::vector<std::string> words;
  std::string word;
  for (char c : text + " ") {
    if (c != ' ') {
      word.push_back(c);
    } else if (!word.empty()) {
      words.push_back(std::exchange(word, ""));
    }
  }
  return words;
}

class LiveConformance : public testing::TestWithParam<ConformanceCase> {
 protected:
  void SetUp() override {
    RemoteOptions options;
    options.endpoint = Variable("KEELSON_TEST_CRI_ENDPOINT");
    if (options.endpoint.empty()) {
      GTEST_SKIP() << "KEELSON_TEST_CRI_ENDPOINT names no runtime (unix:///path/of/the.sock)";
    }
    auto remote = RemoteRuntime::Create(env_, options);
    ASSERT_TRUE(remote.ok()) << remote.status();
    remote_ = *std::move(remote);
    target_.env = &env_;
    target_.runtime = &remote_->runtime();
    target_.images = &remote_->images();
    target_.image = Variable("KEELSON_TEST_CRI_IMAGE", "registry.k8s.io/pause:3.9");
    target_.command = Words(Variable("KEELSON_TEST_CRI_COMMAND"));
    target_.exec_true = Words(Variable("KEELSON_TEST_CRI_EXEC"));
    target_.cgroup_parent = Variable("KEELSON_TEST_CRI_CGROUP_PARENT", "/keelson-cri-conformance");
    char pattern[] = "/tmp/keelson-cri-logs-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern), nullptr);
    target_.log_directory = pattern;
  }
  void TearDown() override {
    if (remote_ == nullptr) return;
    EXPECT_TRUE(env_.RunUntilDone(CleanUp(target_)).ok());
    remote_.reset();
    std::filesystem::remove_all(target_.log_directory);
  }

  RealEnv env_{Paths()};
  std::unique_ptr<RemoteRuntime> remote_;
  ConformanceTarget target_;
};

TEST_P(LiveConformance, Passes) {
  absl::Status status = env_.RunUntilDone(GetParam().run(target_));
  EXPECT_TRUE(status.ok()) << status;
}

INSTANTIATE_TEST_SUITE_P(Cases, LiveConformance, testing::ValuesIn(ConformanceCases()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace keelson::cri
