#include "oci/runtime_spec.h"

#include <nlohmann/json.hpp>

namespace keelson::oci {
namespace {

using Json = nlohmann::ordered_json;

Json CapabilitiesJson(const CapabilitySets& sets) {
  Json json = Json::object();
  json["bounding"] = sets.bounding;
  json["effective"] = sets.effective;
  json["inheritable"] = sets.inheritable;
  json["permitted"] = sets.permitted;
  json["ambient"] = sets.ambient;
  return json;
}

Json ProcessJson(const SpecProcess& process) {
  Json json = Json::object();
  json["terminal"] = process.terminal;
  Json user = Json::object();
  user["uid"] = process.uid;
  user["gid"] = process.gid;
  if (!process.additional_gids.empty()) user["additionalGids"] = process.additional_gids;
  json["user"] = std::move(user);
  json["args"] = process.args;
  json["env"] = process.env;
  json["cwd"] = process.cwd;
  json["capabilities"] = CapabilitiesJson(process.capabilities);
  Json rlimits = Json::array();
  for (const Rlimit& limit : process.rlimits) {
    rlimits.push_back(Json{{"type", limit.type}, {"hard", limit.hard}, {"soft", limit.soft}});
  }
  if (!rlimits.empty()) json["rlimits"] = std::move(rlimits);
  json["noNewPrivileges"] = process.no_new_privileges;
  if (!process.apparmor_profile.empty()) json["apparmorProfile"] = process.apparmor_profile;
  json["oomScoreAdj"] = process.oom_score_adj;
  if (!process.selinux_label.empty()) json["selinuxLabel"] = process.selinux_label;
  return json;
}

Json IdMapsJson(const std::vector<IdMap>& maps) {
  Json json = Json::array();
  for (const IdMap& map : maps) {
    json.push_back(Json{{"containerID", map.container_id}, {"hostID", map.host_id}, {"size", map.size}});
  }
  return json;
}

Json MountJson(const SpecMount& mount) {
  Json json = Json::object();
  json["destination"] = mount.destination;
  json["type"] = mount.type;
  json["source"] = mount.source;
  json["options"] = mount.options;
  if (!mount.uid_mappings.empty()) json["uidMappings"] = IdMapsJson(mount.uid_mappings);
  if (!mount.gid_mappings.empty()) json["gidMappings"] = IdMapsJson(mount.gid_mappings);
  return json;
}

Json DeviceRuleJson(const DeviceRule& rule) {
  Json json = Json::object();
  json["allow"] = rule.allow;
  if (rule.type != 'a') json["type"] = std::string(1, rule.type);
  if (rule.major.has_value()) json["major"] = *rule.major;
  if (rule.minor.has_value()) json["minor"] = *rule.minor;
  json["access"] = rule.access;
  return json;
}

Json MemoryJson(const SpecResources& resources) {
  Json json = Json::object();
  if (resources.memory_limit_bytes.has_value()) json["limit"] = *resources.memory_limit_bytes;
  if (resources.memory_swap_bytes.has_value()) json["swap"] = *resources.memory_swap_bytes;
  return json;
}

Json CpuJson(const SpecResources& resources) {
  Json json = Json::object();
  if (resources.cpu_shares.has_value()) json["shares"] = *resources.cpu_shares;
  if (resources.cpu_quota_us.has_value()) json["quota"] = *resources.cpu_quota_us;
  if (resources.cpu_period_us.has_value()) json["period"] = *resources.cpu_period_us;
  if (!resources.cpuset_cpus.empty()) json["cpus"] = resources.cpuset_cpus;
  if (!resources.cpuset_mems.empty()) json["mems"] = resources.cpuset_mems;
  return json;
}

Json ResourcesJson(const SpecResources& resources) {
  Json json = Json::object();
  Json devices = Json::array();
  for (const DeviceRule& rule : resources.devices) devices.push_back(DeviceRuleJson(rule));
  if (!devices.empty()) json["devices"] = std::move(devices);
  if (Json memory = MemoryJson(resources); !memory.empty()) json["memory"] = std::move(memory);
  if (Json cpu = CpuJson(resources); !cpu.empty()) json["cpu"] = std::move(cpu);
  if (resources.pids_limit.has_value()) json["pids"] = Json{{"limit", *resources.pids_limit}};
  Json hugepages = Json::array();
  for (const HugepageLimit& limit : resources.hugepages) {
    hugepages.push_back(Json{{"pageSize", limit.page_size}, {"limit", limit.limit_bytes}});
  }
  if (!hugepages.empty()) json["hugepageLimits"] = std::move(hugepages);
  if (!resources.unified.empty()) json["unified"] = resources.unified;
  return json;
}

Json SeccompRuleJson(const SeccompRule& rule) {
  Json json = Json::object();
  json["names"] = rule.names;
  json["action"] = rule.action;
  if (rule.errno_ret.has_value()) json["errnoRet"] = *rule.errno_ret;
  Json args = Json::array();
  for (const SeccompArg& arg : rule.args) {
    Json item = Json::object();
    item["index"] = arg.index;
    item["value"] = arg.value;
    if (arg.value_two != 0) item["valueTwo"] = arg.value_two;
    item["op"] = arg.op;
    args.push_back(std::move(item));
  }
  if (!args.empty()) json["args"] = std::move(args);
  return json;
}

Json SeccompJson(const SeccompProfile& profile) {
  Json json = Json::object();
  json["defaultAction"] = profile.default_action;
  if (profile.default_errno_ret.has_value()) json["defaultErrnoRet"] = *profile.default_errno_ret;
  if (!profile.architectures.empty()) json["architectures"] = profile.architectures;
  if (!profile.flags.empty()) json["flags"] = profile.flags;
  if (!profile.listener_path.empty()) json["listenerPath"] = profile.listener_path;
  if (!profile.listener_metadata.empty()) json["listenerMetadata"] = profile.listener_metadata;
  Json rules = Json::array();
  for (const SeccompRule& rule : profile.rules) rules.push_back(SeccompRuleJson(rule));
  if (!rules.empty()) json["syscalls"] = std::move(rules);
  return json;
}

Json NamespacesJson(const std::vector<SpecNamespace>& namespaces) {
  Json json = Json::array();
  for (const SpecNamespace& ns : namespaces) {
    Json item = Json::object();
    item["type"] = ns.type;
    if (!ns.path.empty()) item["path"] = ns.path;
    json.push_back(std::move(item));
  }
  return json;
}

Json DevicesJson(const std::vector<SpecDevice>& devices) {
  Json json = Json::array();
  for (const SpecDevice& device : devices) {
    Json item = Json::object();
    item["path"] = device.path;
    item["type"] = std::string(1, device.type);
    if (device.type != 'p') {
      item["major"] = device.major;
      item["minor"] = device.minor;
    }
    item["fileMode"] = device.file_mode;
    item["uid"] = device.uid;
    item["gid"] = device.gid;
    json.push_back(std::move(item));
  }
  return json;
}

Json HooksJson(const SpecHooks& hooks) {
  Json json = Json::object();
  for (const auto& [name, list] : hooks) {
    for (const SpecHook& hook : list) {
      Json item = Json::object();
      item["path"] = hook.path;
      if (!hook.args.empty()) item["args"] = hook.args;
      if (!hook.env.empty()) item["env"] = hook.env;
      if (hook.timeout_s.has_value()) item["timeout"] = *hook.timeout_s;
      json[name].push_back(std::move(item));
    }
  }
  return json;
}

Json LinuxJson(const RuntimeSpec& spec) {
  Json json = Json::object();
  if (!spec.uid_mappings.empty()) json["uidMappings"] = IdMapsJson(spec.uid_mappings);
  if (!spec.gid_mappings.empty()) json["gidMappings"] = IdMapsJson(spec.gid_mappings);
  json["resources"] = ResourcesJson(spec.resources);
  if (!spec.cgroups_path.empty()) json["cgroupsPath"] = spec.cgroups_path;
  json["namespaces"] = NamespacesJson(spec.namespaces);
  if (!spec.devices.empty()) json["devices"] = DevicesJson(spec.devices);
  if (spec.seccomp.has_value()) json["seccomp"] = SeccompJson(*spec.seccomp);
  if (!spec.rootfs_propagation.empty()) json["rootfsPropagation"] = spec.rootfs_propagation;
  if (!spec.masked_paths.empty()) json["maskedPaths"] = spec.masked_paths;
  if (!spec.readonly_paths.empty()) json["readonlyPaths"] = spec.readonly_paths;
  if (!spec.mount_label.empty()) json["mountLabel"] = spec.mount_label;
  return json;
}

std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace

std::string RenderSpec(const RuntimeSpec& spec) {
  Json json = Json::object();
  json["ociVersion"] = "1.0.2";
  json["process"] = ProcessJson(spec.process);
  json["root"] = Json{{"path", spec.root_path}, {"readonly", spec.root_readonly}};
  Json mounts = Json::array();
  for (const SpecMount& mount : spec.mounts) mounts.push_back(MountJson(mount));
  json["mounts"] = std::move(mounts);
  if (!spec.hooks.empty()) json["hooks"] = HooksJson(spec.hooks);
  if (!spec.annotations.empty()) json["annotations"] = spec.annotations;
  json["linux"] = LinuxJson(spec);
  return Dump(json);
}

std::string RenderResources(const SpecResources& resources) { return Dump(ResourcesJson(resources)); }

}  // namespace keelson::oci
