// Cni against plugins played by the test: what is run, with what, in which order, and what stays on disk.
#include "cri/cni/cni.h"

#include <absl/strings/str_split.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "base/fake_env.h"
#include "base/fd.h"
#include "base/strings.h"
#include "cri/cni/config.h"
#include "cri/cni/record.h"

namespace keelson::cri {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kThree[] = R"({"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"ptp"},
  {"type":"tuning","capabilities":{"bandwidth":true}},{"type":"portmap","capabilities":{"portMappings":true}}]})";

struct Ran {
  std::string plugin, command;
  nlohmann::json input;
  std::map<std::string, std::string> env;
};

class CniTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/keelson-cni-test-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    dir_ = name;
    for (const char* sub : {"net.d", "bin", "bin2"}) ASSERT_TRUE(MakeDirs(StrCat(dir_, "/", sub)).ok());
    for (const char* plugin : {"ptp", "tuning"}) AddPlugin("bin2", plugin);
    AddPlugin("bin", "portmap");
    Configure("10-a.conflist", kThree);
    env_.set_run_handler([this](const SubprocessOptions& o) { return Play(o); });
    cni_ = *NewCni(env_, Options());
  }
  void TearDown() override { RemoveTree(dir_).IgnoreError(); }

  CniOptions Options() const {
    return {.conf_dir = dir_ + "/net.d",
            .bin_dirs = {dir_ + "/bin", dir_ + "/bin2"},
            .cache_dir = dir_ + "/cache"};
  }
  void AddPlugin(const std::string& bin, const std::string& name) {
    ASSERT_TRUE(WriteFileAtomic(StrCat(dir_, "/", bin, "/", name), "#!", 0755, false).ok());
  }
  void Configure(const std::string& name, std::string_view text) {
    ASSERT_TRUE(WriteFileAtomic(StrCat(dir_, "/net.d/", name), text, 0644, false).ok());
  }
  static CniAttachment Pod(const std::string& id = "abc") {
    return {.container_id = id,
            .netns_path = "/nonexistent/net",
            .pod_name = "web",
            .pod_namespace = "default",
            .pod_uid = "u1"};
  }
  absl::StatusOr<CniResult> Add(CniAttachment a) { return env_.Await(cni_->Add(std::move(a))); }
  Task<void> AskInto(absl::Status* out) {
    Task<absl::Status> ask = cni_->AskStatus();
    *out = co_await std::move(ask);
  }
  absl::Status Del(CniAttachment a) { return env_.Await(cni_->Del(std::move(a))); }
  std::vector<std::string> Records() {
    std::vector<std::string> out;
    for (const char* id : {"abc", "def", "ghi"}) {
      if (ReadFile(StrCat(dir_, "/cache/", CniRecordName(id, "eth0"))).ok()) out.push_back(id);
    }
    return out;
  }
  // "ptp ADD", ... and forgets them.
  std::vector<std::string> Calls() {
    std::vector<std::string> out;
    for (const Ran& r : ran_) out.push_back(StrCat(r.plugin, " ", r.command));
    last_ = std::move(ran_);
    ran_.clear();
    return out;
  }

  absl::StatusOr<SubprocessResult> Play(const SubprocessOptions& o) {
    Ran r;
    r.plugin = o.argv[0].substr(o.argv[0].rfind('/') + 1);
    for (const std::string& entry : o.env) {
      std::pair<std::string, std::string> kv = absl::StrSplit(entry, absl::MaxSplits('=', 1));
      r.env.insert(kv);
    }
    r.command = r.env["CNI_COMMAND"];
    r.input = nlohmann::json::parse(o.stdin_data);
    ran_.push_back(r);
    std::string what = StrCat(r.plugin, " ", r.command);
    if (auto it = answers_.find(what); it != answers_.end()) return it->second(r);
    SubprocessResult result;
    result.exit_code = 0;
    if (r.command == "ADD")
      result.stdout_data =
          StrCat(R"({"cniVersion":"1.0.0","by":")", r.plugin, R"(","ips":[{"address":"10.1.0.5/24"}]})");
    return result;
  }
  static SubprocessResult Failure(std::string_view out, std::string_view err = "") {
    SubprocessResult result;
    result.exit_code = 1;
    result.stdout_data = out;
    result.stderr_data = err;
    return result;
  }
  void Answer(const std::string& what, SubprocessResult result) {
    answers_[what] = [result](const Ran&) { return absl::StatusOr<SubprocessResult>(result); };
  }

  FakeEnv env_;
  std::string dir_;
  std::unique_ptr<Cni> cni_;
  std::vector<Ran> ran_, last_;
  std::map<std::string, std::function<absl::StatusOr<SubprocessResult>(const Ran&)>> answers_;
};

TEST_F(CniTest, AddChainsResultsAndDelRunsBackwards) {
  CniAttachment pod = Pod();
  pod.port_mappings = {{.host_port = 8080, .container_port = 80, .protocol = "tcp"}};
  absl::StatusOr<CniResult> result = Add(pod);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(result->ips, ElementsAre("10.1.0.5"));
  EXPECT_EQ(result->network_name, "pods");
  EXPECT_THAT(result->json, HasSubstr("portmap"));
  EXPECT_THAT(Calls(), ElementsAre("ptp ADD", "tuning ADD", "portmap ADD"));
  EXPECT_FALSE(last_[0].input.contains("prevResult"));
  EXPECT_EQ(last_[1].input["prevResult"]["by"], "ptp");
  EXPECT_EQ(last_[2].input["prevResult"]["by"], "tuning");
  EXPECT_FALSE(last_[1].input.contains("runtimeConfig"));
  EXPECT_EQ(last_[2].input["runtimeConfig"]["portMappings"][0]["hostPort"], 8080);
  EXPECT_EQ(last_[0].env["CNI_CONTAINERID"], "abc");
  EXPECT_EQ(last_[0].env["CNI_NETNS"], "/nonexistent/net");
  EXPECT_EQ(last_[0].env["CNI_IFNAME"], "eth0");
  EXPECT_EQ(last_[0].env["CNI_PATH"], StrCat(dir_, "/bin:", dir_, "/bin2"));
  EXPECT_THAT(last_[0].env["CNI_ARGS"], HasSubstr("K8S_POD_NAME=web;"));
  EXPECT_THAT(Records(), ElementsAre("abc"));

  // Another runtime life, another configuration: DEL goes by the record.
  Configure("00-new.conflist", R"({"cniVersion":"1.0.0","name":"other","plugins":[{"type":"tuning"}]})");
  cni_ = *NewCni(env_, Options());
  ASSERT_TRUE(Del({.container_id = "abc"}).ok());
  EXPECT_THAT(Calls(), ElementsAre("portmap DEL", "tuning DEL", "ptp DEL"));
  EXPECT_EQ(last_[0].input["prevResult"]["by"], "portmap");
  EXPECT_EQ(last_[2].input["prevResult"]["by"], "portmap");
  EXPECT_EQ(last_[0].input["runtimeConfig"]["portMappings"][0]["hostPort"], 8080);
  EXPECT_EQ(last_[2].env["CNI_NETNS"], "");  // it is no namespace any more
  EXPECT_THAT(last_[2].env["CNI_ARGS"], HasSubstr("K8S_POD_NAME=web;"));
  EXPECT_THAT(Records(), IsEmpty());
  ASSERT_TRUE(Del(Pod()).ok());
  EXPECT_THAT(Calls(), IsEmpty());
}

TEST_F(CniTest, EveryFailedAddIsUndone) {
  struct Row {
    const char* plugin;
    SubprocessResult result;
    absl::StatusCode code;
    const char* words;
  };
  SubprocessResult killed, garbage, no_address, huge;
  killed.exit_code = -1;
  killed.term_signal = 9;
  garbage.exit_code = no_address.exit_code = huge.exit_code = 0;
  garbage.stdout_data = "hello";
  no_address.stdout_data = "{}";
  huge.stdout_data = "{\"x\":\"" + std::string(kMaxCniResultBytes, 'x') + "\"}";
  std::vector<Row> rows = {
      {"ptp", Failure(R"({"code":11,"msg":"busy"})"), absl::StatusCode::kUnavailable,
       "plugin ptp: busy (code 11)"},
      {"tuning", Failure(R"({"code":7,"msg":"bad","details":"sysctl x"})"), absl::StatusCode::kInternal,
       "attach pod default/web to the network pods: plugin tuning: bad: sysctl x (code 7)"},
      {"portmap", Failure("", "panic: oh\n"), absl::StatusCode::kInternal,
       "plugin portmap: exit code 1: panic: oh"},
      {"portmap", killed, absl::StatusCode::kInternal, "killed by signal 9"},
      {"tuning", garbage, absl::StatusCode::kInvalidArgument, "plugin tuning: CNI result: not JSON"},
      {"portmap", no_address, absl::StatusCode::kInternal, "no address"},
      {"ptp", huge, absl::StatusCode::kResourceExhausted, "printed more than"},
  };
  for (const Row& row : rows) {
    answers_.clear();
    Answer(StrCat(row.plugin, " ADD"), row.result);
    absl::StatusOr<CniResult> result = Add(Pod());
    EXPECT_EQ(result.status().code(), row.code) << result.status();
    EXPECT_THAT(std::string(result.status().message()), HasSubstr(row.words));
    std::vector<std::string> calls = Calls();
    ASSERT_GE(calls.size(), 4u);
    EXPECT_THAT(std::vector<std::string>(calls.end() - 3, calls.end()),
                ElementsAre("portmap DEL", "tuning DEL", "ptp DEL"));
    EXPECT_THAT(Records(), IsEmpty());
  }
}

TEST_F(CniTest, TimeoutOfAPluginIsUndone) {
  answers_["tuning ADD"] = [](const Ran&) {
    return absl::DeadlineExceededError("tuning: still running, killed");
  };
  EXPECT_EQ(Add(Pod()).status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(Calls(), ElementsAre("ptp ADD", "tuning ADD", "portmap DEL", "tuning DEL", "ptp DEL"));
  EXPECT_EQ(last_[2].input["prevResult"]["by"], "ptp");  // what had been done by then
}

TEST_F(CniTest, AFailingDelRunsTheOthersAndIsTriedAgain) {
  ASSERT_TRUE(Add(Pod()).ok());
  Calls();
  Answer("tuning DEL", Failure(R"({"code":5,"msg":"io"})"));
  absl::Status status = Del(Pod());
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("detach pod default/web from the network pods: plugin tuning: io"));
  EXPECT_THAT(Calls(), ElementsAre("portmap DEL", "tuning DEL", "ptp DEL"));
  EXPECT_THAT(Records(), ElementsAre("abc"));
  // "Unknown container" is what was wanted.
  Answer("tuning DEL", Failure(R"({"code":3,"msg":"unknown container"})"));
  EXPECT_TRUE(Del(Pod()).ok());
  EXPECT_THAT(Records(), IsEmpty());
}

TEST_F(CniTest, AFailedUndoLeavesTheRecord) {
  Answer("portmap ADD", Failure(R"({"code":100,"msg":"x"})"));
  Answer("ptp DEL", Failure(R"({"code":100,"msg":"y"})"));
  EXPECT_THAT(std::string(Add(Pod()).status().message()), HasSubstr("x (code 100)"));
  EXPECT_THAT(Records(), ElementsAre("abc"));
  answers_.clear();
  Calls();
  // The next attempt begins with a DEL.
  EXPECT_TRUE(Add(Pod()).ok());
  EXPECT_THAT(Calls(),
              ElementsAre("portmap DEL", "tuning DEL", "ptp DEL", "ptp ADD", "tuning ADD", "portmap ADD"));
}

TEST_F(CniTest, ATornRecordIsRemovedWithTodaysConfiguration) {
  ASSERT_TRUE(Add(Pod()).ok());
  Calls();
  ASSERT_TRUE(WriteFileAtomic(StrCat(dir_, "/cache/abc@eth0.json"), "{\"kind\"", 0600, false).ok());
  ASSERT_TRUE(Del(Pod()).ok());
  EXPECT_THAT(Calls(), ElementsAre("portmap DEL", "tuning DEL", "ptp DEL"));
  EXPECT_FALSE(last_[0].input.contains("prevResult"));
  EXPECT_THAT(Records(), IsEmpty());
}

TEST_F(CniTest, WhatAKilledWriterLeftGoesWithTheNextStart) {
  ASSERT_TRUE(Add(Pod()).ok());
  std::string half = StrCat(dir_, "/cache/def@eth0.json.aBc123");
  ASSERT_TRUE(WriteFileAtomic(half, "{", 0600, false).ok());
  cni_ = *NewCni(env_, Options());
  EXPECT_FALSE(ReadFile(half).ok());
  EXPECT_THAT(Records(), ElementsAre("abc"));
}

TEST_F(CniTest, DelWithoutRecordButWithANamespaceUsesTodaysConfiguration) {
  CniAttachment pod = Pod();
  pod.netns_path = "/proc/self/ns/net";
  ASSERT_TRUE(Del(pod).ok());
  EXPECT_THAT(Calls(), ElementsAre("portmap DEL", "tuning DEL", "ptp DEL"));
  EXPECT_EQ(last_[0].env["CNI_NETNS"], "/proc/self/ns/net");
}

TEST_F(CniTest, OldVersionsGetNoResultOnDelAndNoCheck) {
  Configure("10-a.conflist", R"({"cniVersion":"0.3.1","name":"old","plugins":[{"type":"ptp"}]})");
  ASSERT_TRUE(Add(Pod()).ok());
  EXPECT_EQ(env_.Await(cni_->Check(Pod())).code(), absl::StatusCode::kUnimplemented);
  Calls();
  ASSERT_TRUE(Del(Pod()).ok());
  EXPECT_THAT(Calls(), ElementsAre("ptp DEL"));
  EXPECT_FALSE(last_[0].input.contains("prevResult"));
}

TEST_F(CniTest, Check) {
  EXPECT_EQ(env_.Await(cni_->Check(Pod())).code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(Add(Pod()).ok());
  Calls();
  EXPECT_TRUE(env_.Await(cni_->Check(Pod())).ok());
  EXPECT_THAT(Calls(), ElementsAre("ptp CHECK", "tuning CHECK", "portmap CHECK"));
  EXPECT_EQ(last_[0].input["prevResult"]["by"], "portmap");
  Answer("tuning CHECK", Failure(R"({"code":101,"msg":"gone"})"));
  EXPECT_THAT(std::string(env_.Await(cni_->Check(Pod())).message()), HasSubstr("plugin tuning: gone"));
}

TEST_F(CniTest, ReadyNamesWhatIsMissing) {
  EXPECT_TRUE(cni_->Ready().ok());
  EXPECT_TRUE(cni_->HasCapability("portMappings"));
  EXPECT_FALSE(cni_->HasCapability("ips"));
  // The first by name counts, broken or not: another one is another network.
  Configure("00-half.conflist", R"({"cniVersion":"1.0.0","name":)");
  EXPECT_THAT(std::string(cni_->Ready().message()),
              HasSubstr("00-half.conflist: network configuration: not JSON"));
  Configure("00-half.conflist", R"({"cniVersion":"1.0.0","name":"n","plugins":[{"type":"calico"}]})");
  EXPECT_THAT(std::string(cni_->Ready().message()), HasSubstr("network plugin \"calico\" is in none of"));
  EXPECT_EQ(cni_->Ready().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(Add(Pod()).status().message()), HasSubstr("calico"));
  EXPECT_THAT(Calls(), IsEmpty());
  ASSERT_EQ(::remove((dir_ + "/net.d/00-half.conflist").c_str()), 0);
  EXPECT_TRUE(cni_->Ready().ok());
  ASSERT_EQ(::remove((dir_ + "/net.d/10-a.conflist").c_str()), 0);
  Configure("README.txt", "no");
  Configure(".10-a.conflist", kThree);
  EXPECT_THAT(std::string(cni_->Ready().message()), HasSubstr("no network configuration in"));
}

TEST_F(CniTest, GarbageCollection) {
  for (const char* id : {"abc", "def", "ghi"}) ASSERT_TRUE(Add(Pod(id)).ok());
  Calls();
  ASSERT_TRUE(env_.Await(cni_->GarbageCollect({"def"})).ok());
  EXPECT_THAT(Records(), ElementsAre("def"));
  EXPECT_EQ(Calls().size(), 6u);
  EXPECT_EQ(last_[0].env["CNI_CONTAINERID"], "abc");
  EXPECT_EQ(last_[5].env["CNI_CONTAINERID"], "ghi");
}

TEST_F(CniTest, GarbageCollectionCommandOfVersion11) {
  Configure("10-a.conflist",
            R"({"cniVersion":"1.1.0","name":"pods","plugins":[{"type":"ptp"},{"type":"tuning"}]})");
  ASSERT_TRUE(Add(Pod("abc")).ok());
  ASSERT_TRUE(Add(Pod("def")).ok());
  Calls();
  ASSERT_TRUE(env_.Await(cni_->GarbageCollect({"def"})).ok());
  EXPECT_THAT(Calls(), ElementsAre("tuning DEL", "ptp DEL", "ptp GC", "tuning GC"));
  EXPECT_EQ(last_[2].input["cni.dev/valid-attachments"].dump(), R"([{"containerID":"def","ifname":"eth0"}])");
  EXPECT_FALSE(last_[2].env.contains("CNI_CONTAINERID"));
  Configure("10-a.conflist",
            R"({"cniVersion":"1.1.0","name":"pods","disableGC":true,"plugins":[{"type":"ptp"}]})");
  ASSERT_TRUE(env_.Await(cni_->GarbageCollect({"def"})).ok());
  EXPECT_THAT(Calls(), IsEmpty());
}

constexpr char kEleven[] =
    R"({"cniVersion":"1.1.0","name":"pods","plugins":[{"type":"ptp","mtu":9},{"type":"tuning"}]})";

TEST_F(CniTest, StatusIsAskedOfVersion11) {
  auto status = [this] { return env_.Await(cni_->AskStatus()); };
  EXPECT_TRUE(status().ok());
  EXPECT_THAT(Calls(), IsEmpty());  // 1.0.0 has no such command
  Configure("10-a.conflist", kEleven);
  EXPECT_TRUE(status().ok());
  EXPECT_THAT(Calls(), ElementsAre("ptp STATUS", "tuning STATUS"));
  EXPECT_EQ(last_[0].input.dump(), R"({"cniVersion":"1.1.0","mtu":9,"name":"pods","type":"ptp"})");
  EXPECT_FALSE(last_[0].env.contains("CNI_CONTAINERID"));
  EXPECT_TRUE(last_[0].env.contains("CNI_PATH"));
  // Asked again after a while, not before.
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(status().ok());
  EXPECT_THAT(Calls(), IsEmpty());
  env_.Advance(kCniStatusInterval);
  Answer("tuning STATUS", Failure(R"({"code":50,"msg":"the agent does not run","details":"no socket"})"));
  EXPECT_EQ(status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Calls(), ElementsAre("ptp STATUS", "tuning STATUS"));
  EXPECT_THAT(std::string(status().message()),
              HasSubstr("network pods: plugin tuning: the agent does not run: no socket (code 50)"));
  EXPECT_THAT(Calls(), IsEmpty());
  env_.Advance(kCniStatusInterval);
  answers_.clear();
  EXPECT_TRUE(status().ok());
  Calls();
  // Another configuration is another question.
  Configure("10-a.conflist", R"({"cniVersion":"1.1.0","name":"other","plugins":[{"type":"ptp"}]})");
  EXPECT_TRUE(status().ok());
  EXPECT_THAT(Calls(), ElementsAre("ptp STATUS"));
  // What Ready() says comes first.
  Configure("10-a.conflist", R"({"cniVersion":"1.1.0","name":"other","plugins":[{"type":"calico"}]})");
  EXPECT_THAT(std::string(status().message()), HasSubstr("calico"));
  EXPECT_THAT(Calls(), IsEmpty());
}

TEST_F(CniTest, APluginWithoutStatusSaysNothing) {
  Configure("10-a.conflist", kEleven);
  Answer("ptp STATUS", Failure(R"({"code":4,"msg":"unknown CNI_COMMAND: STATUS"})"));
  EXPECT_TRUE(env_.Await(cni_->AskStatus()).ok());
  EXPECT_THAT(Calls(), ElementsAre("ptp STATUS", "tuning STATUS"));
  env_.Advance(kCniStatusInterval);
  Answer("ptp STATUS", Failure("", "segmentation fault"));
  EXPECT_THAT(std::string(env_.Await(cni_->AskStatus()).message()), HasSubstr("segmentation fault"));
}

TEST_F(CniTest, StatusIsNotAskedWhileItRunsOrPodsAreAttached) {
  Configure("10-a.conflist", kEleven);
  ASSERT_TRUE(env_.Await(cni_->AskStatus()).ok());
  env_.Advance(kCniStatusInterval * 2);
  Calls();
  absl::Status during = absl::UnknownError("");
  Scope scope(env_.executor());
  answers_["ptp ADD"] = [&](const Ran&) -> absl::StatusOr<SubprocessResult> {
    scope.Spawn("status", AskInto(&during));
    SubprocessResult result;
    result.exit_code = 0;
    result.stdout_data = R"({"cniVersion":"1.1.0","ips":[{"address":"10.1.0.5/24"}]})";
    return result;
  };
  ASSERT_TRUE(Add(Pod()).ok());
  env_.AwaitVoid(scope.Close());
  EXPECT_TRUE(during.ok()) << during;
  EXPECT_THAT(Calls(), ElementsAre("ptp ADD", "tuning ADD"));
  // Many at a time are one question.
  env_.Advance(kCniStatusBusyInterval);
  absl::Status answers[20];
  Scope askers(env_.executor());
  for (absl::Status& answer : answers) {
    answer = absl::UnknownError("");
    askers.Spawn("status", AskInto(&answer));
  }
  env_.Settle();
  for (const absl::Status& answer : answers) EXPECT_TRUE(answer.ok()) << answer;
  EXPECT_THAT(Calls(), ElementsAre("ptp STATUS", "tuning STATUS"));
  env_.AwaitVoid(askers.Close());
}

TEST_F(CniTest, GarbageCollectionSparesWhatIsBeingAdded) {
  // The collector runs while a plugin of the ADD does.
  absl::Status collected = absl::UnknownError("");
  Scope scope(env_.executor());
  struct Collect {
    static Task<void> Run(Cni* cni, absl::Status* out) {
      Task<absl::Status> gc = cni->GarbageCollect({});
      *out = co_await std::move(gc);
    }
  };
  answers_["tuning ADD"] = [&](const Ran& r) {
    scope.Spawn("gc", Collect::Run(cni_.get(), &collected));
    SubprocessResult result;
    result.exit_code = 0;
    result.stdout_data = r.input["prevResult"].dump();
    return absl::StatusOr<SubprocessResult>(result);
  };
  ASSERT_TRUE(Add(Pod()).ok());
  env_.Settle();
  EXPECT_TRUE(collected.ok()) << collected;
  EXPECT_THAT(Calls(), ElementsAre("ptp ADD", "tuning ADD", "portmap ADD"));
  EXPECT_THAT(Records(), ElementsAre("abc"));
  env_.AwaitVoid(scope.Close());
}

TEST_F(CniTest, PodCidrFillsTheTemplate) {
  EXPECT_TRUE(cni_->SetPodCidr("10.244.1.0/24").ok());  // no template: nothing
  ASSERT_TRUE(WriteFileAtomic(dir_ + "/template",
                              R"({"cniVersion":"1.0.0","name":"k","plugins":[{"type":"ptp",)"
                              R"("ipam":{"type":"host-local","ranges":{{.Ranges}}}}]})")
                  .ok());
  CniOptions options = Options();
  options.conf_template = dir_ + "/template";
  cni_ = *NewCni(env_, options);
  std::string path = dir_ + "/net.d/10-keelson.conflist";
  ASSERT_TRUE(cni_->SetPodCidr("10.244.1.0/24").ok());  // somebody else configured the network
  EXPECT_FALSE(ReadFile(path).ok());
  ASSERT_EQ(::remove((dir_ + "/net.d/10-a.conflist").c_str()), 0);
  ASSERT_TRUE(cni_->SetPodCidr("10.244.1.0/24").ok());
  EXPECT_THAT(*ReadFile(path), HasSubstr("10.244.1.0/24"));
  ASSERT_TRUE(cni_->SetPodCidr("10.244.2.0/24").ok());
  EXPECT_THAT(*ReadFile(path), HasSubstr("10.244.2.0/24"));
  EXPECT_FALSE(cni_->SetPodCidr("nonsense").ok());
  EXPECT_TRUE(cni_->Ready().ok());
}

TEST_F(CniTest, BadParametersRunNothing) {
  EXPECT_FALSE(Add(Pod("../x")).ok());
  EXPECT_FALSE(Del(Pod("a/b")).ok());
  EXPECT_FALSE(NewCni(env_, CniOptions{}).ok());
  EXPECT_THAT(Calls(), IsEmpty());
}

}  // namespace
}  // namespace keelson::cri
