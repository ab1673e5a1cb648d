// Plugin: one plugin's session, from its registration to the loss of its connection. Messages and their order
// are those of containerd/nri v0.12 (pkg/adaptation/plugin.go): the plugin registers, is configured and says
// which events it wants, is told what there is (Synchronize), and is then asked, event by event.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/env.h"
#include "base/task.h"
#include "cri/nri/connection.h"
#include "cri/nri/proto/nri.pb.h"

namespace keelson::cri::nri {

namespace pb = ::nri::pkg::api::v1alpha1;

inline constexpr char kPluginService[] = "nri.pkg.api.v1alpha1.Plugin";
inline constexpr char kRuntimeService[] = "nri.pkg.api.v1alpha1.Runtime";

// Pods and containers of one Synchronize message: more are told in further ones. Below kMaxTtrpcBytes, with
// room for what is around them.
inline constexpr size_t kMaxSyncBytes = 3 << 20;

struct Timeouts {
  absl::Duration registration = absl::Seconds(5);
  absl::Duration request = absl::Seconds(2);
};

// Two digits. InvalidArgument.
absl::Status CheckPluginIndex(std::string_view index);
// Letters, digits, "-_.+". InvalidArgument.
absl::Status CheckPluginName(std::string_view name);

// "RunPodSandbox": the name of the event's call.
std::string_view EventName(pb::Event event);

// What there is, in messages of at most `max_bytes` each (one that is larger alone goes alone); all but the
// last have `more`. At least one. Pure.
std::vector<pb::SynchronizeRequest> SplitSync(pb::SynchronizeRequest all, size_t max_bytes);

// What a plugin asks for of its own accord. The containers that were not updated; an error is of the whole.
using UnsolicitedUpdates = std::function<Task<absl::StatusOr<std::vector<pb::ContainerUpdate>>>(
    std::string plugin, pb::UpdateContainersRequest)>;

// Of a plugin that the runtime has started itself: its file's, whatever it registers as.
struct PluginIdentity {
  std::string index, name;  // "" : its registration says
  std::string config;
};

class Plugin : public std::enable_shared_from_this<Plugin> {
 public:
  // The connection's tasks run in `scope`, which ends before `env`.
  static std::shared_ptr<Plugin> Start(Env* env, Scope* scope, std::unique_ptr<net::ByteStream> stream,
                                       Timeouts timeouts, UnsolicitedUpdates updates,
                                       PluginIdentity identity = {});

  // Waits for its registration, configures it, and learns which events it wants. After an error the
  // connection is closed.
  Task<absl::Status> Register(std::string runtime_name, std::string runtime_version);

  // Tells it what there is; the updates it asks for. After an error the connection is closed.
  Task<absl::StatusOr<std::vector<pb::ContainerUpdate>>> Synchronize(pb::SynchronizeRequest all);

  bool Wants(pb::Event event) const { return (events_ & 1 << (event - 1)) != 0; }

  // Asks it. `response` is filled in. OK and nothing filled in: it does not want the event, or was lost,
  // which is logged and ends its session. An error is the plugin's own, and names it.
  // A plugin older than the event's own call is told by StateChange.
  Task<absl::Status> Relay(pb::Event event, const google::protobuf::Message* request,
                           google::protobuf::Message* response);

  void Close(absl::Status reason) { connection_->Close(std::move(reason)); }
  // Until the connection has ended.
  Task<void> Gone();
  bool closed() const { return connection_->closed(); }
  const absl::Status& reason() const { return connection_->reason(); }
  const std::string& index() const { return index_; }
  const std::string& base_name() const { return base_name_; }
  // "10-name"; "" before its registration.
  std::string name() const { return index_.empty() ? "" : index_ + "-" + base_name_; }

 private:
  Plugin(Env* env, Timeouts timeouts, UnsolicitedUpdates updates, PluginIdentity identity)
      : env_(env), timeouts_(timeouts), updates_(std::move(updates)), identity_(std::move(identity)) {}
  static Task<absl::StatusOr<std::string>> Handle(std::weak_ptr<Plugin> weak, std::string service,
                                                  std::string method, std::string payload);
  absl::Status TakeRegistration(std::string_view payload);
  // An error is the plugin's; after a loss `lost` is true.
  Task<absl::Status> Call(std::string method, const google::protobuf::Message* request,
                          google::protobuf::Message* response, bool* lost);

  Env* const env_;
  const Timeouts timeouts_;
  const UnsolicitedUpdates updates_;
  const PluginIdentity identity_;
  std::shared_ptr<Connection> connection_;
  AsyncEvent registered_;  // or closed
  AsyncEvent gone_;
  std::string index_, base_name_;
  bool configured_ = false;
  int events_ = 0;
};

}  // namespace keelson::cri::nri
