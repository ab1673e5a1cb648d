#include "cri/nri/spec.h"

#include <nlohmann/json.hpp>

#include "base/json_guard.h"

namespace keelson::cri::nri {

namespace {

using Json = nlohmann::ordered_json;
using google::protobuf::RepeatedPtrField;

constexpr int kMaxSpecDepth = 32;
constexpr size_t kMaxSpecBytes = 16 << 20;

const Json* Member(const Json& json, const char* key) {
  if (!json.is_object()) return nullptr;
  auto it = json.find(key);
  return it == json.end() ? nullptr : &*it;
}

const Json& Child(const Json& json, const char* key) {
  static const Json none;
  const Json* found = Member(json, key);
  return found == nullptr ? none : *found;
}

std::string Text(const Json& json, const char* key) {
  const Json* found = Member(json, key);
  return found != nullptr && found->is_string() ? found->get<std::string>() : "";
}

template <class T>
T Number(const Json& json, const char* key, T otherwise = 0) {
  const Json* found = Member(json, key);
  return found != nullptr && found->is_number_integer() ? found->get<T>() : otherwise;
}

void CopyTexts(const Json& from, RepeatedPtrField<std::string>* to) {
  if (!from.is_array()) return;
  for (const Json& item : from) {
    if (item.is_string()) *to->Add() = item.get<std::string>();
  }
}

void CopyTexts(const Json& from, google::protobuf::Map<std::string, std::string>* to) {
  if (!from.is_object()) return;
  for (const auto& [key, value] : from.items()) {
    if (value.is_string()) (*to)[key] = value.get<std::string>();
  }
}

void FillHooks(const Json& from, const char* name, RepeatedPtrField<pb::Hook>* to) {
  const Json& list = Child(from, name);
  if (!list.is_array()) return;
  for (const Json& item : list) {
    pb::Hook* hook = to->Add();
    hook->set_path(Text(item, "path"));
    CopyTexts(Child(item, "args"), hook->mutable_args());
    CopyTexts(Child(item, "env"), hook->mutable_env());
    if (Member(item, "timeout") != nullptr)
      hook->mutable_timeout()->set_value(Number<int64_t>(item, "timeout"));
  }
}

void FillProcess(const Json& process, pb::Container* container) {
  CopyTexts(Child(process, "args"), container->mutable_args());
  CopyTexts(Child(process, "env"), container->mutable_env());
  if (const Json& limits = Child(process, "rlimits"); limits.is_array()) {
    for (const Json& item : limits) {
      pb::POSIXRlimit* limit = container->add_rlimits();
      limit->set_type(Text(item, "type"));
      limit->set_hard(Number<uint64_t>(item, "hard"));
      limit->set_soft(Number<uint64_t>(item, "soft"));
    }
  }
  const Json& user = Child(process, "user");
  container->mutable_user()->set_uid(Number<uint32_t>(user, "uid"));
  container->mutable_user()->set_gid(Number<uint32_t>(user, "gid"));
  if (const Json& groups = Child(user, "additionalGids"); groups.is_array()) {
    for (const Json& group : groups) {
      if (group.is_number_integer()) container->mutable_user()->add_additional_gids(group.get<uint32_t>());
    }
  }
  if (Member(process, "oomScoreAdj") != nullptr) {
    container->mutable_linux()->mutable_oom_score_adj()->set_value(Number<int64_t>(process, "oomScoreAdj"));
  }
}

void FillSeccomp(const Json& from, pb::LinuxSeccomp* to) {
  to->set_default_action(Text(from, "defaultAction"));
  if (Member(from, "defaultErrnoRet") != nullptr) {
    to->mutable_default_errno()->set_value(Number<uint32_t>(from, "defaultErrnoRet"));
  }
  CopyTexts(Child(from, "architectures"), to->mutable_architectures());
  CopyTexts(Child(from, "flags"), to->mutable_flags());
  to->set_listener_path(Text(from, "listenerPath"));
  to->set_listener_metadata(Text(from, "listenerMetadata"));
  const Json& rules = Child(from, "syscalls");
  if (!rules.is_array()) return;
  for (const Json& item : rules) {
    pb::LinuxSyscall* rule = to->add_syscalls();
    CopyTexts(Child(item, "names"), rule->mutable_names());
    rule->set_action(Text(item, "action"));
    if (Member(item, "errnoRet") != nullptr) {
      rule->mutable_errno_ret()->set_value(Number<uint32_t>(item, "errnoRet"));
    }
    const Json& args = Child(item, "args");
    if (!args.is_array()) continue;
    for (const Json& one : args) {
      pb::LinuxSeccompArg* arg = rule->add_args();
      arg->set_index(Number<uint32_t>(one, "index"));
      arg->set_value(Number<uint64_t>(one, "value"));
      arg->set_value_two(Number<uint64_t>(one, "valueTwo"));
      arg->set_op(Text(one, "op"));
    }
  }
}

void FillDevices(const Json& list, RepeatedPtrField<pb::LinuxDevice>* to) {
  if (!list.is_array()) return;
  for (const Json& item : list) {
    pb::LinuxDevice* device = to->Add();
    device->set_path(Text(item, "path"));
    device->set_type(Text(item, "type"));
    device->set_major(Number<int64_t>(item, "major"));
    device->set_minor(Number<int64_t>(item, "minor"));
    // What is not there is the runtime's to choose.
    if (Member(item, "fileMode") != nullptr) {
      device->mutable_file_mode()->set_value(Number<uint32_t>(item, "fileMode"));
    }
    if (Member(item, "uid") != nullptr) device->mutable_uid()->set_value(Number<uint32_t>(item, "uid"));
    if (Member(item, "gid") != nullptr) device->mutable_gid()->set_value(Number<uint32_t>(item, "gid"));
  }
}

void FillLinux(const Json& from, pb::LinuxContainer* to) {
  if (const Json& namespaces = Child(from, "namespaces"); namespaces.is_array()) {
    for (const Json& item : namespaces) {
      pb::LinuxNamespace* ns = to->add_namespaces();
      ns->set_type(Text(item, "type"));
      ns->set_path(Text(item, "path"));
    }
  }
  FillDevices(Child(from, "devices"), to->mutable_devices());
  to->set_cgroups_path(Text(from, "cgroupsPath"));
  if (const Json& seccomp = Child(from, "seccomp"); seccomp.is_object()) {
    FillSeccomp(seccomp, to->mutable_seccomp_policy());
  }
  CopyTexts(Child(from, "sysctl"), to->mutable_sysctl());
}

}  // namespace

void FillFromSpec(std::string_view config_json, pb::Container* container) {
  if (config_json.size() > kMaxSpecBytes || JsonDeeperThan(config_json, kMaxSpecDepth)) return;
  const Json config =
      Json::parse(config_json.begin(), config_json.end(), nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) return;
  FillProcess(Child(config, "process"), container);
  CopyTexts(Child(config, "annotations"), container->mutable_annotations());
  if (const Json& mounts = Child(config, "mounts"); mounts.is_array()) {
    for (const Json& item : mounts) {
      pb::Mount* mount = container->add_mounts();
      mount->set_destination(Text(item, "destination"));
      mount->set_type(Text(item, "type"));
      mount->set_source(Text(item, "source"));
      CopyTexts(Child(item, "options"), mount->mutable_options());
    }
  }
  const Json& hooks = Child(config, "hooks");
  FillHooks(hooks, "prestart", container->mutable_hooks()->mutable_prestart());
  FillHooks(hooks, "createRuntime", container->mutable_hooks()->mutable_create_runtime());
  FillHooks(hooks, "createContainer", container->mutable_hooks()->mutable_create_container());
  FillHooks(hooks, "startContainer", container->mutable_hooks()->mutable_start_container());
  FillHooks(hooks, "poststart", container->mutable_hooks()->mutable_poststart());
  FillHooks(hooks, "poststop", container->mutable_hooks()->mutable_poststop());
  FillLinux(Child(config, "linux"), container->mutable_linux());
}

}  // namespace keelson::cri::nri
