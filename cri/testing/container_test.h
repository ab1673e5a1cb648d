// ContainerTest: a pod that allows all its containers may ask for, and what a command in one of them prints.
#pragma once

#include <filesystem>
#include <string>

#include "base/fd.h"
#include "cri/testing/live_test.h"

namespace keelson::cri {

class ContainerTest : public LiveTest {
 protected:
  void SetUp() override {
    LiveTest::SetUp();
    if (live_ == nullptr || HasFailure()) return;
    v1::PodSandboxConfig config = PodConfig("c");
    config.mutable_linux()->mutable_security_context()->set_privileged(true);  // allows them, makes none
    pod_ = RunPod(config);
  }
  v1::Mount* AddMount(v1::ContainerConfig* config, const std::string& host, const std::string& container) {
    v1::Mount* mount = config->add_mounts();
    mount->set_host_path(host);
    mount->set_container_path(container);
    return mount;
  }
  std::string File(const std::string& name, const std::string& text) {
    std::string path = StrCat(dir(), "/", name);
    EXPECT_TRUE(MakeDirs(std::filesystem::path(path).parent_path()).ok());
    EXPECT_TRUE(WriteFileAtomic(path, text, 0644, false).ok());
    return path;
  }
  // `script` in a container that `config` describes: what it printed, errors too.
  std::string Try(v1::ContainerConfig config, const std::string& script) {
    std::string id = Start(pod_, config);
    if (id.empty()) return "";
    auto result = TryExec(id, {"sh", "-c", StrCat("{ ", script, "; } 2>&1")});
    EXPECT_TRUE(result.ok()) << result.status();
    EXPECT_TRUE(Remove(id).ok());
    return result.ok() ? Trimmed(result->out) : "";
  }
  std::string pod_;
};

}  // namespace keelson::cri
