#include "oci/testing/spec_validator.h"

#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "base/strings.h"

namespace keelson::oci {
namespace {

using Json = nlohmann::json;

class Validator {
 public:
  std::vector<std::string> Run(std::string_view text) {
    const Json json = Json::parse(text.begin(), text.end(), nullptr, false);
    if (!json.is_object()) return {"not a JSON object"};
    Members(json, "",
            {"ociVersion", "process", "root", "mounts", "hooks", "annotations", "linux", "hostname"});
    Require(std::regex_match(json.value("ociVersion", ""), std::regex("1\\.[0-9]+\\.[0-9]+")), "ociVersion");
    Require(json.contains("root") && !json["root"].value("path", "").empty(), "root.path is required");
    if (json.contains("root")) Members(json["root"], "root", {"path", "readonly"});
    Process(json.value("process", Json::object()));
    Mounts(json.value("mounts", Json::array()));
    Hooks(json.value("hooks", Json::object()));
    Annotations(json.value("annotations", Json::object()));
    Linux(json.value("linux", Json::object()));
    return problems_;
  }

 private:
  void Require(bool ok, const std::string& problem) {
    if (!ok) problems_.push_back(problem);
  }

  void Members(const Json& json, const std::string& where, const std::set<std::string>& known) {
    if (!json.is_object()) {
      problems_.push_back(where + " is not an object");
      return;
    }
    for (auto it = json.begin(); it != json.end(); ++it) {
      Require(known.count(it.key()) != 0, where + "." + it.key() + " is not in the specification");
    }
  }

  static std::set<std::string> Set(const Json& json, const char* name) {
    return json.value(name, std::set<std::string>());
  }

  static bool Includes(const std::set<std::string>& outer, const std::set<std::string>& inner) {
    return std::includes(outer.begin(), outer.end(), inner.begin(), inner.end());
  }

  void Capabilities(const Json& json) {
    Members(json, "capabilities", {"bounding", "effective", "permitted", "inheritable", "ambient"});
    for (const Json& set : json) {
      std::set<std::string> seen;
      for (const Json& name : set) {
        Require(std::regex_match(name.get<std::string>(), std::regex("CAP_[A-Z_]+")), "capability name");
        Require(seen.insert(name).second, "capability twice: " + name.get<std::string>());
      }
    }
    Require(Includes(Set(json, "permitted"), Set(json, "effective")), "effective beyond permitted");
    Require(Includes(Set(json, "bounding"), Set(json, "permitted")), "permitted beyond bounding");
    Require(Includes(Set(json, "permitted"), Set(json, "ambient")), "ambient beyond permitted");
    Require(Includes(Set(json, "inheritable"), Set(json, "ambient")), "ambient beyond inheritable");
  }

  void Env(const Json& env) {
    std::set<std::string> keys;
    for (const Json& entry : env) {
      const std::string text = entry;
      const size_t equals = text.find('=');
      Require(equals != std::string::npos && equals > 0, "env entry: " + text);
      Require(keys.insert(text.substr(0, equals)).second, "env key twice: " + text);
    }
  }

  void Process(const Json& process) {
    Members(process, "process",
            {"terminal", "user", "args", "env", "cwd", "capabilities", "rlimits", "noNewPrivileges",
             "apparmorProfile", "oomScoreAdj", "selinuxLabel"});
    Require(process.contains("args") && process["args"].is_array() && !process["args"].empty(),
            "process.args");
    Require(process.value("cwd", "").substr(0, 1) == "/", "process.cwd is absolute");
    const Json user = process.value("user", Json::object());
    Members(user, "process.user", {"uid", "gid", "additionalGids", "umask"});
    Require(user.contains("uid") && user.contains("gid"), "process.user.uid and gid");
    Env(process.value("env", Json::array()));
    Capabilities(process.value("capabilities", Json::object()));
    std::set<std::string> types;
    for (const Json& limit : process.value("rlimits", Json::array())) {
      Require(types.insert(limit.at("type")).second, "rlimit twice");
      Require(limit.at("soft").get<uint64_t>() <= limit.at("hard").get<uint64_t>(), "rlimit soft above hard");
    }
    const int oom = process.value("oomScoreAdj", 0);
    Require(oom >= -1000 && oom <= 1000, "oomScoreAdj out of range");
  }

  void MountOptions(const std::string& destination, const std::vector<std::string>& options) {
    const std::set<std::string> set(options.begin(), options.end());
    Require(set.size() == options.size(), destination + ": option twice");
    Require(set.count("ro") + set.count("rw") + set.count("rro") <= 1, destination + ": ro and rw");
    int propagations = 0;
    for (const char* name : {"private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable"}) {
      propagations += static_cast<int>(set.count(name));
    }
    Require(propagations <= 1, destination + ": several propagations");
  }

  void Mounts(const Json& mounts) {
    std::vector<std::string> seen;
    for (const Json& mount : mounts) {
      Members(mount, "mount", {"destination", "type", "source", "options", "uidMappings", "gidMappings"});
      const std::string destination = mount.value("destination", "");
      Require(destination.size() > 1 && destination[0] == '/' && destination.back() != '/' &&
                  destination.find("//") == std::string::npos &&
                  destination.find("/../") == std::string::npos,
              "mount destination: " + destination);
      for (const std::string& earlier : seen) {
        Require(earlier != destination, "mounted twice: " + destination);
        Require(earlier.rfind(destination + "/", 0) != 0, destination + " hides " + earlier);
      }
      seen.push_back(destination);
      MountOptions(destination, mount.value("options", std::vector<std::string>()));
      const std::string type = mount.value("type", "");
      if (type == "bind") Require(mount.value("source", "").substr(0, 1) == "/", "bind source");
    }
  }

  void Hooks(const Json& hooks) {
    Members(hooks, "hooks",
            {"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"});
    for (const Json& list : hooks) {
      for (const Json& hook : list) {
        Members(hook, "hook", {"path", "args", "env", "timeout"});
        Require(hook.value("path", "").substr(0, 1) == "/", "hook path");
        Require(hook.value("timeout", 1) > 0, "hook timeout");
      }
    }
  }

  void Annotations(const Json& annotations) {
    for (auto it = annotations.begin(); it != annotations.end(); ++it) {
      Require(!it.key().empty() && it.value().is_string(), "annotation " + it.key());
    }
  }

  std::set<std::string> Namespaces(const Json& namespaces) {
    static const std::set<std::string> kTypes = {"pid", "network", "mount", "ipc", "uts", "user", "cgroup"};
    std::set<std::string> seen;
    for (const Json& ns : namespaces) {
      Members(ns, "namespace", {"type", "path"});
      const std::string type = ns.value("type", "");
      Require(kTypes.count(type) != 0, "namespace type " + type);
      Require(seen.insert(type).second, "namespace twice: " + type);
      if (ns.contains("path")) Require(ns.value("path", "").substr(0, 1) == "/", "namespace path");
    }
    return seen;
  }

  void Devices(const Json& devices) {
    std::set<std::string> paths;
    for (const Json& device : devices) {
      Members(device, "device", {"path", "type", "major", "minor", "fileMode", "uid", "gid"});
      Require(paths.insert(device.value("path", "")).second, "device twice");
      Require(device.value("path", "").substr(0, 1) == "/", "device path");
      const std::string type = device.value("type", "");
      Require(type == "c" || type == "b" || type == "u" || type == "p", "device type");
      Require(type == "p" || (device.contains("major") && device.contains("minor")), "device number");
    }
  }

  void Resources(const Json& resources) {
    Members(resources, "resources",
            {"devices", "memory", "cpu", "pids", "hugepageLimits", "unified", "blockIO", "network"});
    for (const Json& rule : resources.value("devices", Json::array())) {
      Members(rule, "device rule", {"allow", "type", "major", "minor", "access"});
      Require(rule.contains("allow"), "device rule: allow is required");
      Require(std::regex_match(rule.value("access", "rwm"), std::regex("r?w?m?|r?m?w?|w?r?m?|m?")),
              "device rule access");
    }
    const Json memory = resources.value("memory", Json::object());
    const int64_t limit = memory.value("limit", int64_t{0}), swap = memory.value("swap", int64_t{0});
    if (limit > 0 && swap > 0) Require(swap >= limit, "swap below memory limit");
    const Json cpu = resources.value("cpu", Json::object());
    Members(cpu, "cpu", {"shares", "quota", "period", "cpus", "mems"});
    for (const Json& page : resources.value("hugepageLimits", Json::array())) {
      Require(std::regex_match(page.at("pageSize").get<std::string>(), std::regex("[1-9][0-9]*[KMG]B")),
              "pageSize");
    }
    const Json unified = resources.value("unified", Json::object());
    for (auto it = unified.begin(); it != unified.end(); ++it) {
      Require(it.key().find('/') == std::string::npos, "unified key");
    }
  }

  void Seccomp(const Json& seccomp) {
    Members(seccomp, "seccomp",
            {"defaultAction", "defaultErrnoRet", "architectures", "flags", "listenerPath", "listenerMetadata",
             "syscalls"});
    const std::regex action("SCMP_ACT_(KILL|KILL_PROCESS|KILL_THREAD|TRAP|ERRNO|TRACE|ALLOW|LOG|NOTIFY)");
    Require(std::regex_match(seccomp.value("defaultAction", ""), action), "seccomp defaultAction");
    for (const Json& rule : seccomp.value("syscalls", Json::array())) {
      Members(rule, "seccomp rule", {"names", "action", "errnoRet", "args"});
      Require(rule.contains("names") && !rule["names"].empty(), "seccomp rule without names");
      const std::string what = rule.value("action", "");
      Require(std::regex_match(what, action), "seccomp action " + what);
      if (rule.contains("errnoRet")) {
        Require(what == "SCMP_ACT_ERRNO" || what == "SCMP_ACT_TRACE", "errnoRet with " + what);
      }
      for (const Json& arg : rule.value("args", Json::array())) {
        Require(arg.value("index", 9) <= 5 && arg.contains("value") && arg.contains("op"), "seccomp arg");
      }
    }
  }

  void Linux(const Json& json) {
    Members(json, "linux",
            {"uidMappings", "gidMappings", "resources", "cgroupsPath", "namespaces", "devices", "seccomp",
             "rootfsPropagation", "maskedPaths", "readonlyPaths", "mountLabel"});
    const std::set<std::string> namespaces = Namespaces(json.value("namespaces", Json::array()));
    Require(namespaces.count("mount") != 0, "a container has a mount namespace");
    if (json.contains("uidMappings")) Require(namespaces.count("user") != 0, "uidMappings without user");
    if (namespaces.count("user") != 0) {
      Require(json.contains("uidMappings") && json.contains("gidMappings"),
              "user namespace without mappings");
    }
    Devices(json.value("devices", Json::array()));
    Resources(json.value("resources", Json::object()));
    if (json.contains("seccomp")) Seccomp(json["seccomp"]);
    static const std::set<std::string> kPropagations = {
        "", "rslave", "rshared", "rprivate", "runbindable", "slave", "shared", "private", "unbindable"};
    Require(kPropagations.count(json.value("rootfsPropagation", "")) != 0, "rootfsPropagation");
    for (const char* name : {"maskedPaths", "readonlyPaths"}) {
      for (const Json& path : json.value(name, Json::array())) {
        Require(path.get<std::string>().substr(0, 1) == "/", name);
      }
    }
  }

  std::vector<std::string> problems_;
};

}  // namespace

std::vector<std::string> ValidateSpec(std::string_view config_json) { return Validator().Run(config_json); }

}  // namespace keelson::oci
