// Changes: what the plugins asked of one event ask for, put together. Each sees what those before it asked
// for; two that set the same thing are refused with both names, unless the second removes it first ("-KEY").
// The rules are those of containerd/nri v0.12 (pkg/adaptation/result.go), but that a removal alone is handed
// on for every kind of entry. Pure.
#pragma once

#include <absl/status/status.h>

#include <string>
#include <string_view>
#include <vector>

#include "cri/nri/adjust.h"
#include "cri/nri/plugin.h"
#include "cri/nri/proto/nri.pb.h"

namespace keelson::cri::nri {

// Who set what, of each container (the message a validator gets).
class Owners {
 public:
  // AlreadyExists names both plugins and the field.
  absl::Status Claim(const std::string& container, pb::Field field, const std::string& plugin);
  absl::Status ClaimEntry(const std::string& container, pb::Field field, const std::string& key,
                          const std::string& plugin);
  // Only `plugin` may set it from here on.
  void Clear(const std::string& container, pb::Field field, const std::string& plugin);
  void ClearEntry(const std::string& container, pb::Field field, const std::string& key,
                  const std::string& plugin);
  // Several may: "10-a,20-b".
  void Add(const std::string& container, pb::Field field, const std::string& plugin);
  const pb::OwningPlugins& message() const { return owners_; }
  // Those of one container, to be put back when an update of it is left out.
  pb::FieldOwners Of(const std::string& container) const;
  void PutBack(const std::string& container, pb::FieldOwners owners);

 private:
  pb::OwningPlugins owners_;
};

// InvalidArgument: a list or map of a plugin's message, however deep, has more than kMaxAdjustmentEntries: to
// put plugins' wishes together takes time by the square of what they name, in the loop that all wait for.
absl::Status CheckEntries(const google::protobuf::Message& message);

// "-KEY" -> KEY, true.
bool MarkedForRemoval(std::string_view key, std::string* bare);

class Changes {
 public:
  // The requests are the events', and are changed so that the next plugin sees what was asked for; they must
  // outlive this.
  explicit Changes(pb::CreateContainerRequest* create) : create_(create) {}
  explicit Changes(pb::UpdateContainerRequest* update) : update_(update) {}
  Changes() = default;  // StopContainer

  // A plugin's answer. After an error nothing of this is of use.
  absl::Status Take(const pb::CreateContainerResponse& response, const std::string& plugin);
  absl::Status Take(const pb::UpdateContainerResponse& response, const std::string& plugin);
  absl::Status Take(const pb::StopContainerResponse& response, const std::string& plugin);

  const pb::ContainerAdjustment& adjustment() const { return adjust_; }
  // Of other containers, in the order they were first named; the updated container's own limits are in its
  // request.
  const std::vector<pb::ContainerUpdate>& updates() const { return updates_; }
  bool own_limits_changed() const { return own_limits_changed_; }
  const pb::OwningPlugins& owners() const { return owners_.message(); }

 private:
  const std::string& id() const { return create_->container().id(); }
  absl::Status Adjust(const pb::ContainerAdjustment& from, const std::string& plugin);
  absl::Status AdjustLinux(const pb::LinuxContainerAdjustment& from, const std::string& plugin);
  absl::Status AdjustProcess(const pb::ContainerAdjustment& from, const std::string& plugin);
  absl::Status AdjustSingles(const pb::LinuxContainerAdjustment& from, const std::string& plugin);
  absl::Status AdjustNamespaces(const pb::LinuxContainerAdjustment& from, const std::string& plugin);
  absl::Status AdjustRdt(const pb::LinuxRdt& from, const std::string& plugin);
  void AdjustHooks(const pb::Hooks& from, const std::string& plugin);
  absl::Status TakeUpdates(const google::protobuf::RepeatedPtrField<pb::ContainerUpdate>& updates,
                           const std::string& plugin);
  absl::Status TakeUpdate(const pb::ContainerUpdate& update, const std::string& plugin);

  pb::CreateContainerRequest* create_ = nullptr;
  pb::UpdateContainerRequest* update_ = nullptr;
  bool own_limits_changed_ = false;
  pb::ContainerAdjustment adjust_;
  std::vector<pb::ContainerUpdate> updates_;
  Owners owners_;
};

}  // namespace keelson::cri::nri
