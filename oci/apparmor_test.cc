#include "oci/apparmor.h"

#include <absl/strings/match.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <vector>

#include "base/fake_env.h"
#include "base/fd.h"
#include "base/status.h"

namespace keelson::oci {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(ApparmorProfiles, OneALineWithItsMode) {
  constexpr char kLoaded[] =
      "docker-default (enforce)\n/usr/bin/man (complain)\nname (with) parts (unconfined)\n";
  for (const char* name : {"docker-default", "/usr/bin/man", "name (with) parts"}) {
    EXPECT_TRUE(ListsApparmorProfile(kLoaded, name)) << name;
  }
  for (const char* name : {"docker", "default", "docker-default (enforce)", "", "unconfined", "name"}) {
    EXPECT_FALSE(ListsApparmorProfile(kLoaded, name)) << name;
  }
  EXPECT_FALSE(ListsApparmorProfile("", "a"));
}

class ApparmorTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "apparmor-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    options_.profiles_file = dir_ + "/profiles";
    env_.set_run_handler([this](const SubprocessOptions& options) -> absl::StatusOr<SubprocessResult> {
      runs_.push_back(options);
      if (!parser_.empty() && options.argv[0] != parser_) return absl::NotFoundError(options.argv[0]);
      return result_;
    });
    result_.exit_code = 0;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  void Loaded(const std::string& text) {
    ASSERT_TRUE(WriteFileAtomic(options_.profiles_file, text, 0600, /*durable=*/false).ok());
  }
  absl::Status Ensure(const std::string& name) {
    Apparmor apparmor(env_, options_);
    return env_.Await(apparmor.Ensure(name));
  }
  absl::Status LoadDefault() {
    Apparmor apparmor(env_, options_);
    return env_.Await(apparmor.LoadDefault());
  }

  FakeEnv env_;
  std::string dir_;
  ApparmorOptions options_;
  std::string parser_;  // the only one there is; "": any
  SubprocessResult result_;
  std::vector<SubprocessOptions> runs_;
};

TEST_F(ApparmorTest, TheDefaultIsGivenToTheParser) {
  ASSERT_TRUE(LoadDefault().ok());
  ASSERT_EQ(runs_.size(), 1u);
  EXPECT_THAT(runs_[0].argv, ElementsAre("apparmor_parser", "--replace", "--quiet", "--skip-cache"));
  EXPECT_THAT(runs_[0].stdin_data, HasSubstr(StrCat("profile ", kDefaultApparmorProfile, " ")));
}

TEST_F(ApparmorTest, TheParserMayBeOutsideOfPath) {
  parser_ = "/sbin/apparmor_parser";
  ASSERT_TRUE(LoadDefault().ok());
  EXPECT_EQ(runs_.back().argv[0], parser_);
}

TEST_F(ApparmorTest, AMissingParserIsSaidWithItsPackage) {
  parser_ = "/nowhere";
  absl::Status status = LoadDefault();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("install the package apparmor"));
}

TEST_F(ApparmorTest, WhatTheParserSaysIsTold) {
  result_.exit_code = 1;
  result_.stderr_data = "AppArmor parser error at line 3\n";
  absl::Status status = LoadDefault();
  EXPECT_THAT(status.message(), HasSubstr("AppArmor parser error at line 3"));
  result_.stderr_data.clear();
  EXPECT_THAT(LoadDefault().message(), HasSubstr("exit code 1"));
}

TEST_F(ApparmorTest, ProfilesThatAreLoadedNeedNothing) {
  Loaded("mine (enforce)\nkeelson-default (enforce)\n");
  for (const char* name : {"mine", "keelson-default", "unconfined", ""})
    EXPECT_TRUE(Ensure(name).ok()) << name;
  EXPECT_TRUE(runs_.empty());
}

TEST_F(ApparmorTest, TheDefaultComesBackAfterARemoval) {
  Loaded("mine (enforce)\n");
  EXPECT_TRUE(Ensure("keelson-default").ok());
  EXPECT_EQ(runs_.size(), 1u);
  parser_ = "/nowhere";
  EXPECT_TRUE(absl::IsFailedPrecondition(Ensure("keelson-default"))) << "it must not run unconfined";
}

TEST_F(ApparmorTest, AnyOtherIsRefusedByName) {
  Loaded("mine (enforce)\n");
  absl::Status status = Ensure("theirs");
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("\"theirs\" is not loaded"));
  EXPECT_TRUE(runs_.empty());
}

TEST_F(ApparmorTest, WithoutTheListTheRuntimeTells) {
  EXPECT_TRUE(Ensure("theirs").ok());
  EXPECT_TRUE(Ensure("keelson-default").ok());
  EXPECT_TRUE(runs_.empty());
}

}  // namespace
}  // namespace keelson::oci
