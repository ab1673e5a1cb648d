// TestPlugin: an NRI plugin for tests, over any stream: it registers, keeps what it is told, and answers as
// the test says. One loop.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/env.h"
#include "base/task.h"
#include "cri/nri/connection.h"
#include "cri/nri/plugin.h"
#include "cri/nri/proto/nri.pb.h"
#include "net/byte_stream.h"

namespace keelson::cri::nri {

class TestPlugin {
 public:
  TestPlugin(Env* env, std::string index, std::string name)
      : env_(env), index_(std::move(index)), name_(std::move(name)) {}

  // ---- to be set before it connects, or in between ----
  int events = 0;                                            // bits of ConfigureResponse; 0: all
  bool registers = true;                                     // else it says nothing
  bool takes_parts = true;                                   // of Synchronize
  std::map<std::string, absl::Status> errors;                // by method: what it answers
  std::map<std::string, int> error_times;                    // by method: only so often
  std::map<std::string, std::shared_ptr<AsyncEvent>> holds;  // by method: its answer waits
  std::function<pb::CreateContainerResponse(const pb::CreateContainerRequest&)> on_create;
  std::function<pb::UpdateContainerResponse(const pb::UpdateContainerRequest&)> on_update;
  std::function<pb::StopContainerResponse(const pb::StopContainerRequest&)> on_stop;
  std::function<pb::ValidateContainerAdjustmentResponse(const pb::ValidateContainerAdjustmentRequest&)>
      on_validate;
  std::vector<pb::ContainerUpdate> updates_at_sync;

  // Its tasks run in `scope`, which ends before this.
  void Connect(Scope* scope, std::unique_ptr<net::ByteStream> stream);
  void Disconnect();
  bool connected() const { return connection_ != nullptr && !connection_->closed(); }
  // A call to the runtime.
  Task<CallResult> Call(std::string method, std::string payload);

  // ---- what it was told ----
  // "RunPodSandbox pod", "CreateContainer pod/container", in the order in which it was asked.
  std::vector<std::string> told;
  size_t Count(const std::string& text) const;
  std::map<std::string, std::vector<std::string>> ids;  // by method: of containers, or else of pods
  std::function<void()> on_told;                        // at each of them
  bool synchronized = false;
  size_t sync_messages = 0;
  pb::SynchronizeRequest known;  // all parts together
  pb::ConfigureRequest configuration;
  absl::Status registration = absl::UnknownError("not answered");
  pb::PodSandbox last_pod;
  pb::Container last_container;

 private:
  Task<void> Register();
  Task<absl::StatusOr<std::string>> Answer(std::string service, std::string method, std::string payload);
  absl::StatusOr<std::string> Reply(const std::string& method, const std::string& payload);
  void Note(const std::string& method, const pb::PodSandbox& pod, const pb::Container* container);

  Env* const env_;
  const std::string index_, name_;
  std::shared_ptr<Connection> connection_;
};

}  // namespace keelson::cri::nri
