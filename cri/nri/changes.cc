#include "cri/nri/changes.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson::cri::nri {

namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::RepeatedPtrField;

// Fields of LinuxMemory and LinuxCPU have the numbers of their owners' fields, but for these.
constexpr int kMemoryOwners = int{pb::MemLimit} - int{pb::LinuxMemory::kLimitFieldNumber};
constexpr int kCpuOwners = int{pb::CPUShares} - int{pb::LinuxCPU::kSharesFieldNumber};

std::string Mark(std::string_view key) { return StrCat("-", key); }

absl::Status Conflict(const std::string& plugin, std::string other, pb::Field field, std::string_view key) {
  (void)MarkedForRemoval(other, &other);
  return absl::AlreadyExistsError(StrCat("nri plugins \"", plugin, "\" and \"", other, "\" both set ",
                                         pb::Field_Name(field), key.empty() ? "" : " ", key));
}

bool MayClaim(const std::string& owner, const std::string& plugin) {
  return owner.empty() || owner == Mark(plugin);
}

void CopyField(const Message& from, const FieldDescriptor* field, Message* to) {
  const auto* reflection = from.GetReflection();
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
    reflection->MutableMessage(to, field)->CopyFrom(reflection->GetMessage(from, field));
  } else {
    reflection->SetString(to, field, reflection->GetString(from, field));
  }
}

// Claims and copies what is set in `from` (LinuxMemory, LinuxCPU) to all of `to`.
absl::Status MergeLimits(const Message& from, int owners_offset, const std::string& id,
                         const std::string& plugin, Owners* owners, const std::vector<Message*>& to) {
  std::vector<const FieldDescriptor*> set;
  from.GetReflection()->ListFields(from, &set);
  for (const FieldDescriptor* field : set) {
    const auto owned = static_cast<pb::Field>(owners_offset + field->number());
    RETURN_IF_ERROR(owners->Claim(id, owned, plugin));
    for (Message* target : to) CopyField(from, field, target);
  }
  return absl::OkStatus();
}

// Limits of a container to all of `to`.
absl::Status MergeResources(const pb::LinuxResources& from, const std::string& id, const std::string& plugin,
                            Owners* owners, const std::vector<pb::LinuxResources*>& to) {
  std::vector<Message*> memory, cpu;
  if (from.has_memory()) {
    for (pb::LinuxResources* target : to) memory.push_back(target->mutable_memory());
  }
  if (from.has_cpu()) {
    for (pb::LinuxResources* target : to) cpu.push_back(target->mutable_cpu());
  }
  RETURN_IF_ERROR(MergeLimits(from.memory(), kMemoryOwners, id, plugin, owners, memory));
  RETURN_IF_ERROR(MergeLimits(from.cpu(), kCpuOwners, id, plugin, owners, cpu));
  for (const pb::HugepageLimit& limit : from.hugepage_limits()) {
    RETURN_IF_ERROR(owners->ClaimEntry(id, pb::HugepageLimits, limit.page_size(), plugin));
    for (pb::LinuxResources* target : to) {
      auto* limits = target->mutable_hugepage_limits();
      auto same = std::find_if(limits->begin(), limits->end(), [&](const pb::HugepageLimit& other) {
        return other.page_size() == limit.page_size();
      });
      (same == limits->end() ? limits->Add() : &*same)->CopyFrom(limit);
    }
  }
  for (const pb::LinuxDeviceCgroup& rule : from.devices()) {
    for (pb::LinuxResources* target : to) target->add_devices()->CopyFrom(rule);
  }
  for (const auto& [key, value] :
       std::map<std::string, std::string>(from.unified().begin(), from.unified().end())) {
    RETURN_IF_ERROR(owners->ClaimEntry(id, pb::CgroupsUnified, key, plugin));
    for (pb::LinuxResources* target : to) (*target->mutable_unified())[key] = value;
  }
  if (from.has_blockio_class()) {
    RETURN_IF_ERROR(owners->Claim(id, pb::BlockioClass, plugin));
    for (pb::LinuxResources* target : to) *target->mutable_blockio_class() = from.blockio_class();
  }
  if (from.has_rdt_class()) {
    RETURN_IF_ERROR(owners->Claim(id, pb::RdtClass, plugin));
    for (pb::LinuxResources* target : to) *target->mutable_rdt_class() = from.rdt_class();
  }
  if (from.has_pids()) {
    RETURN_IF_ERROR(owners->Claim(id, pb::PidsLimit, plugin));
    for (pb::LinuxResources* target : to) *target->mutable_pids() = from.pids();
  }
  return absl::OkStatus();
}

// Entries of a map, some marked for removal: into `adjust`, and as they then are into `seen`.
template <class Map>
absl::Status MergeMap(const Map& from, pb::Field field, const std::string& id, const std::string& plugin,
                      Owners* owners, Map* adjust, Map* seen) {
  std::set<std::string> removed;
  std::map<std::string, typename Map::mapped_type> set;
  for (const auto& [key, value] : from) {
    std::string bare;
    if (MarkedForRemoval(key, &bare)) {
      removed.insert(bare);
    } else {
      set.emplace(key, value);
    }
  }
  for (const std::string& key : removed) {
    if (adjust->contains(key) || set.contains(key)) owners->ClearEntry(id, field, key, plugin);
    adjust->erase(key);
    seen->erase(key);
    (*adjust)[Mark(key)];
  }
  for (const auto& [key, value] : set) {
    RETURN_IF_ERROR(owners->ClaimEntry(id, field, key, plugin));
    (*adjust)[key] = value;
    (*seen)[key] = value;
  }
  return absl::OkStatus();
}

template <class List, class Drop>
void EraseIf(List* list, Drop drop) {
  list->erase(std::remove_if(list->begin(), list->end(), drop), list->end());
}

// Entries of a list, some marked for removal: into `adjust`. Which keys `seen` has no longer as they were,
// and what is new there, say `gone` and `added`.
template <class List, class KeyOf>
absl::Status MergeList(const List& from, KeyOf key_of, pb::Field field, const std::string& id,
                       const std::string& plugin, Owners* owners, List* adjust, std::set<std::string>* gone,
                       List* added) {
  std::set<std::string> removed;
  for (const auto& entry : from) {
    std::string bare;
    if (MarkedForRemoval(key_of(entry), &bare)) {
      removed.insert(bare);
    } else {
      added->Add()->CopyFrom(entry);
    }
    gone->insert(bare);
  }
  for (const auto& entry : *adjust) {
    if (removed.contains(key_of(entry))) owners->ClearEntry(id, field, key_of(entry), plugin);
  }
  EraseIf(adjust, [&](const auto& entry) { return removed.contains(key_of(entry)); });
  for (const auto& entry : from) {
    std::string bare;
    if (MarkedForRemoval(key_of(entry), &bare)) adjust->Add()->CopyFrom(entry);
  }
  for (const auto& entry : *added) {
    RETURN_IF_ERROR(owners->ClaimEntry(id, field, key_of(entry), plugin));
    adjust->Add()->CopyFrom(entry);
  }
  return absl::OkStatus();
}

const std::string& DestinationOf(const pb::Mount& mount) { return mount.destination(); }
const std::string& PathOf(const pb::LinuxDevice& device) { return device.path(); }
const std::string& KeyOf(const pb::KeyValue& entry) { return entry.key(); }

absl::Status RefuseEvictions(const RepeatedPtrField<pb::ContainerEviction>& evict) {
  if (evict.empty()) return absl::OkStatus();
  return absl::UnimplementedError("evict: this runtime evicts no containers for plugins");
}

}  // namespace

absl::Status CheckEntries(const Message& message) {
  const auto* reflection = message.GetReflection();
  std::vector<const FieldDescriptor*> set;
  reflection->ListFields(message, &set);
  for (const FieldDescriptor* field : set) {
    const int size = field->is_repeated() ? reflection->FieldSize(message, field) : 1;
    if (static_cast<size_t>(size) > kMaxAdjustmentEntries) {
      return absl::InvalidArgumentError(
          StrCat(field->name(), ": has more than ", kMaxAdjustmentEntries, " entries"));
    }
    // No value of a map has lists.
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE || field->is_map()) continue;
    for (int i = 0; i < size; ++i) {
      RETURN_IF_ERROR(CheckEntries(field->is_repeated() ? reflection->GetRepeatedMessage(message, field, i)
                                                        : reflection->GetMessage(message, field)));
    }
  }
  return absl::OkStatus();
}

bool MarkedForRemoval(std::string_view key, std::string* bare) {
  const bool marked = key.starts_with('-');
  *bare = std::string(marked ? key.substr(1) : key);
  return marked;
}

absl::Status Owners::Claim(const std::string& container, pb::Field field, const std::string& plugin) {
  std::string& owner = (*(*owners_.mutable_owners())[container].mutable_simple())[field];
  if (!MayClaim(owner, plugin)) return Conflict(plugin, owner, field, "");
  owner = plugin;
  return absl::OkStatus();
}

absl::Status Owners::ClaimEntry(const std::string& container, pb::Field field, const std::string& key,
                                const std::string& plugin) {
  auto& entries = (*(*owners_.mutable_owners())[container].mutable_compound())[field];
  std::string& owner = (*entries.mutable_owners())[key];
  if (!MayClaim(owner, plugin)) return Conflict(plugin, owner, field, key);
  owner = plugin;
  return absl::OkStatus();
}

void Owners::Clear(const std::string& container, pb::Field field, const std::string& plugin) {
  (*(*owners_.mutable_owners())[container].mutable_simple())[field] = Mark(plugin);
}

void Owners::ClearEntry(const std::string& container, pb::Field field, const std::string& key,
                        const std::string& plugin) {
  auto& entries = (*(*owners_.mutable_owners())[container].mutable_compound())[field];
  (*entries.mutable_owners())[key] = Mark(plugin);
}

void Owners::Add(const std::string& container, pb::Field field, const std::string& plugin) {
  std::string& owner = (*(*owners_.mutable_owners())[container].mutable_simple())[field];
  owner = owner.empty() ? plugin : StrCat(owner, ",", plugin);
}

pb::FieldOwners Owners::Of(const std::string& container) const {
  auto found = owners_.owners().find(container);
  return found == owners_.owners().end() ? pb::FieldOwners() : found->second;
}

void Owners::PutBack(const std::string& container, pb::FieldOwners owners) {
  (*owners_.mutable_owners())[container] = std::move(owners);
}

absl::Status Changes::Take(const pb::CreateContainerResponse& response, const std::string& plugin) {
  RETURN_IF_ERROR(Annotate(CheckEntries(response), StrCat("nri plugin ", plugin)));
  RETURN_IF_ERROR(Annotate(RefuseEvictions(response.evict()), StrCat("nri plugin ", plugin)));
  if (response.has_adjust()) RETURN_IF_ERROR(Adjust(response.adjust(), plugin));
  return TakeUpdates(response.update(), plugin);
}

absl::Status Changes::Take(const pb::UpdateContainerResponse& response, const std::string& plugin) {
  RETURN_IF_ERROR(Annotate(CheckEntries(response), StrCat("nri plugin ", plugin)));
  RETURN_IF_ERROR(Annotate(RefuseEvictions(response.evict()), StrCat("nri plugin ", plugin)));
  return TakeUpdates(response.update(), plugin);
}

absl::Status Changes::Take(const pb::StopContainerResponse& response, const std::string& plugin) {
  RETURN_IF_ERROR(Annotate(CheckEntries(response), StrCat("nri plugin ", plugin)));
  return TakeUpdates(response.update(), plugin);
}

absl::Status Changes::Adjust(const pb::ContainerAdjustment& from, const std::string& plugin) {
  pb::Container* container = create_->mutable_container();
  RETURN_IF_ERROR(MergeMap(from.annotations(), pb::Annotations, id(), plugin, &owners_,
                           adjust_.mutable_annotations(), container->mutable_annotations()));
  std::set<std::string> gone;
  RepeatedPtrField<pb::Mount> mounts;
  RETURN_IF_ERROR(MergeList(from.mounts(), DestinationOf, pb::Mounts, id(), plugin, &owners_,
                            adjust_.mutable_mounts(), &gone, &mounts));
  EraseIf(container->mutable_mounts(), [&](const pb::Mount& m) { return gone.contains(m.destination()); });
  container->mutable_mounts()->MergeFrom(mounts);
  RETURN_IF_ERROR(AdjustProcess(from, plugin));
  AdjustHooks(from.hooks(), plugin);
  for (const pb::CDIDevice& device : from.cdi_devices()) {
    RETURN_IF_ERROR(owners_.ClaimEntry(id(), pb::CdiDevices, device.name(), plugin));
    adjust_.add_cdi_devices()->CopyFrom(device);
  }
  return from.has_linux() ? AdjustLinux(from.linux(), plugin) : absl::OkStatus();
}

absl::Status Changes::AdjustProcess(const pb::ContainerAdjustment& from, const std::string& plugin) {
  pb::Container* container = create_->mutable_container();
  std::set<std::string> gone;
  RepeatedPtrField<pb::KeyValue> env;
  RETURN_IF_ERROR(
      MergeList(from.env(), KeyOf, pb::Env, id(), plugin, &owners_, adjust_.mutable_env(), &gone, &env));
  EraseIf(container->mutable_env(),
          [&](const std::string& entry) { return gone.contains(entry.substr(0, entry.find('='))); });
  for (const pb::KeyValue& entry : env) container->add_env(StrCat(entry.key(), "=", entry.value()));
  if (from.args_size() > 0) {
    // An empty first argument is no argument, but says that another plugin's are replaced.
    const bool replace = from.args(0).empty();
    if (replace) owners_.Clear(id(), pb::Args, plugin);
    RETURN_IF_ERROR(owners_.Claim(id(), pb::Args, plugin));
    adjust_.mutable_args()->Assign(from.args().begin() + (replace ? 1 : 0), from.args().end());
    *container->mutable_args() = adjust_.args();
  }
  for (const pb::POSIXRlimit& limit : from.rlimits()) {
    RETURN_IF_ERROR(owners_.ClaimEntry(id(), pb::Rlimits, limit.type(), plugin));
    adjust_.add_rlimits()->CopyFrom(limit);
    EraseIf(container->mutable_rlimits(),
            [&](const pb::POSIXRlimit& other) { return other.type() == limit.type(); });
    container->add_rlimits()->CopyFrom(limit);
  }
  return absl::OkStatus();
}

void Changes::AdjustHooks(const pb::Hooks& from, const std::string& plugin) {
  if (from.ByteSizeLong() == 0) return;
  // Lists grow.
  adjust_.mutable_hooks()->MergeFrom(from);
  create_->mutable_container()->mutable_hooks()->MergeFrom(from);
  owners_.Add(id(), pb::OciHooks, plugin);
}

absl::Status Changes::AdjustLinux(const pb::LinuxContainerAdjustment& from, const std::string& plugin) {
  pb::LinuxContainerAdjustment* adjust = adjust_.mutable_linux();
  pb::LinuxContainer* container = create_->mutable_container()->mutable_linux();
  std::set<std::string> gone;
  RepeatedPtrField<pb::LinuxDevice> devices;
  RETURN_IF_ERROR(MergeList(from.devices(), PathOf, pb::Devices, id(), plugin, &owners_,
                            adjust->mutable_devices(), &gone, &devices));
  EraseIf(container->mutable_devices(), [&](const pb::LinuxDevice& d) { return gone.contains(d.path()); });
  container->mutable_devices()->MergeFrom(devices);
  if (from.has_resources()) {
    RETURN_IF_ERROR(MergeResources(from.resources(), id(), plugin, &owners_,
                                   {adjust->mutable_resources(), container->mutable_resources()}));
  }
  RETURN_IF_ERROR(AdjustSingles(from, plugin));
  RETURN_IF_ERROR(AdjustNamespaces(from, plugin));
  RETURN_IF_ERROR(MergeMap(from.sysctl(), pb::Sysctl, id(), plugin, &owners_, adjust->mutable_sysctl(),
                           container->mutable_sysctl()));
  RETURN_IF_ERROR(MergeMap(from.net_devices(), pb::LinuxNetDevices, id(), plugin, &owners_,
                           adjust->mutable_net_devices(), container->mutable_net_devices()));
  return from.has_rdt() ? AdjustRdt(from.rdt(), plugin) : absl::OkStatus();
}

absl::Status Changes::AdjustSingles(const pb::LinuxContainerAdjustment& from, const std::string& plugin) {
  pb::LinuxContainerAdjustment* adjust = adjust_.mutable_linux();
  pb::LinuxContainer* container = create_->mutable_container()->mutable_linux();
  if (!from.cgroups_path().empty()) {
    RETURN_IF_ERROR(owners_.Claim(id(), pb::CgroupsPath, plugin));
    adjust->set_cgroups_path(from.cgroups_path());
    container->set_cgroups_path(from.cgroups_path());
  }
  if (from.has_oom_score_adj()) {
    RETURN_IF_ERROR(owners_.Claim(id(), pb::OomScoreAdj, plugin));
    *adjust->mutable_oom_score_adj() = from.oom_score_adj();
    *container->mutable_oom_score_adj() = from.oom_score_adj();
  }
  if (from.has_io_priority()) {
    RETURN_IF_ERROR(owners_.Claim(id(), pb::IoPriority, plugin));
    *adjust->mutable_io_priority() = from.io_priority();
    *container->mutable_io_priority() = from.io_priority();
  }
  if (from.has_seccomp_policy()) {
    RETURN_IF_ERROR(owners_.Claim(id(), pb::SeccompPolicy, plugin));
    *adjust->mutable_seccomp_policy() = from.seccomp_policy();
    *container->mutable_seccomp_policy() = from.seccomp_policy();
  }
  if (from.has_scheduler()) {
    RETURN_IF_ERROR(owners_.Claim(id(), pb::LinuxSched, plugin));
    *adjust->mutable_scheduler() = from.scheduler();
    *container->mutable_scheduler() = from.scheduler();
  }
  if (from.has_memory_policy()) {
    RETURN_IF_ERROR(owners_.Claim(id(), pb::MemoryPolicy, plugin));
    *adjust->mutable_memory_policy() = from.memory_policy();
  }
  return absl::OkStatus();
}

absl::Status Changes::AdjustNamespaces(const pb::LinuxContainerAdjustment& from, const std::string& plugin) {
  auto* seen = create_->mutable_container()->mutable_linux()->mutable_namespaces();
  for (const pb::LinuxNamespace& ns : from.namespaces()) {
    std::string type;
    const bool removed = MarkedForRemoval(ns.type(), &type);
    RETURN_IF_ERROR(owners_.ClaimEntry(id(), pb::Namespace, type, plugin));
    EraseIf(seen, [&](const pb::LinuxNamespace& other) { return other.type() == type; });
    if (!removed) seen->Add()->CopyFrom(ns);
    adjust_.mutable_linux()->add_namespaces()->CopyFrom(ns);
  }
  return absl::OkStatus();
}

absl::Status Changes::AdjustRdt(const pb::LinuxRdt& from, const std::string& plugin) {
  pb::LinuxRdt* rdt = adjust_.mutable_linux()->mutable_rdt();
  if (from.remove()) {
    for (pb::Field field : {pb::RdtClosID, pb::RdtSchemata, pb::RdtEnableMonitoring}) {
      owners_.Clear(id(), field, plugin);
    }
    rdt->Clear();
    rdt->set_remove(true);
  }
  if (from.has_clos_id()) {
    RETURN_IF_ERROR(owners_.Claim(id(), pb::RdtClosID, plugin));
    *rdt->mutable_clos_id() = from.clos_id();
  }
  if (from.has_schemata()) {
    RETURN_IF_ERROR(owners_.Claim(id(), pb::RdtSchemata, plugin));
    *rdt->mutable_schemata() = from.schemata();
  }
  if (from.has_enable_monitoring()) {
    RETURN_IF_ERROR(owners_.Claim(id(), pb::RdtEnableMonitoring, plugin));
    *rdt->mutable_enable_monitoring() = from.enable_monitoring();
  }
  return absl::OkStatus();
}

absl::Status Changes::TakeUpdates(const RepeatedPtrField<pb::ContainerUpdate>& updates,
                                  const std::string& plugin) {
  for (const pb::ContainerUpdate& update : updates) {
    if (create_ != nullptr && update.container_id() == id()) {
      return absl::InvalidArgumentError(
          StrCat("nri plugin ", plugin, ": it updates the container that is being created, ", id()));
    }
    pb::FieldOwners before = owners_.Of(update.container_id());
    absl::Status status = TakeUpdate(update, plugin);
    if (!status.ok() && !update.ignore_failure()) return status;
    if (status.ok()) continue;
    owners_.PutBack(update.container_id(), std::move(before));
    LogWarning("an update that an nri plugin asks for is left out", {{"plugin", plugin}, {"reason", status}});
  }
  return absl::OkStatus();
}

absl::Status Changes::TakeUpdate(const pb::ContainerUpdate& update, const std::string& plugin) {
  const std::string& of = update.container_id();
  const pb::LinuxResources& limits = update.linux().resources();
  if (update_ != nullptr && update_->container().id() == of) {
    pb::LinuxResources merged = update_->linux_resources();
    RETURN_IF_ERROR(MergeResources(limits, of, plugin, &owners_, {&merged}));
    *update_->mutable_linux_resources() = std::move(merged);
    own_limits_changed_ = true;
    return absl::OkStatus();
  }
  auto same = std::find_if(updates_.begin(), updates_.end(),
                           [&](const pb::ContainerUpdate& other) { return other.container_id() == of; });
  pb::ContainerUpdate merged;
  if (same != updates_.end()) {
    merged = *same;
    merged.set_ignore_failure(merged.ignore_failure() && update.ignore_failure());
  } else {
    merged.set_container_id(of);
    merged.set_ignore_failure(update.ignore_failure());
  }
  RETURN_IF_ERROR(
      MergeResources(limits, of, plugin, &owners_, {merged.mutable_linux()->mutable_resources()}));
  if (same != updates_.end()) {
    *same = std::move(merged);
  } else {
    updates_.push_back(std::move(merged));
  }
  return absl::OkStatus();
}

}  // namespace keelson::cri::nri
