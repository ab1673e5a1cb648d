#include "cri/server/pod_checkpoint.h"

#include <fcntl.h>
#include <simdjson.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "cri/server/checkpoint_archive.h"
#include "images/byte_source.h"
#include "images/unpack.h"

namespace keelson::cri {

namespace {

constexpr int64_t kFactsVersion = 1;

// A required text of bounded length.
absl::Status Text(const simdjson::dom::element& object, const char* key, std::string* out) {
  std::string_view value;
  if (object[key].get(value) != simdjson::SUCCESS) {
    return absl::InvalidArgumentError(StrCat("\"", key, "\": want a string"));
  }
  if (value.size() > kMaxFactBytes || value.find('\0') != std::string_view::npos) {
    return absl::InvalidArgumentError(StrCat("\"", key, "\": too long, or with a NUL byte"));
  }
  *out = std::string(value);
  return absl::OkStatus();
}

absl::Status Flag(const simdjson::dom::element& object, const char* key, bool* out) {
  if (object[key].get(*out) != simdjson::SUCCESS) {
    return absl::InvalidArgumentError(StrCat("\"", key, "\": want true or false"));
  }
  return absl::OkStatus();
}

absl::StatusOr<CheckpointedContainer> ParseContainer(const simdjson::dom::element& object) {
  CheckpointedContainer out;
  RETURN_IF_ERROR(Text(object, "name", &out.name));
  RETURN_IF_ERROR(Text(object, "id", &out.id));
  RETURN_IF_ERROR(Text(object, "imageId", &out.image_id));
  RETURN_IF_ERROR(Flag(object, "tty", &out.tty));
  if (out.name.empty()) return absl::InvalidArgumentError("\"name\": is empty");
  simdjson::dom::element optional;
  if (object["stdin"].get(optional) == simdjson::SUCCESS) {
    RETURN_IF_ERROR(Flag(object, "stdin", &out.stdin_open.emplace()));
  }
  if (object["supplementalGroups"].get(optional) == simdjson::SUCCESS) {
    simdjson::dom::array groups;
    if (optional.get(groups) != simdjson::SUCCESS) {
      return absl::InvalidArgumentError("\"supplementalGroups\": want a list");
    }
    out.supplemental_groups.emplace();
    for (const simdjson::dom::element& element : groups) {
      if (element.get(out.supplemental_groups->emplace_back()) != simdjson::SUCCESS) {
        return absl::InvalidArgumentError("\"supplementalGroups\": want numbers");
      }
    }
  }
  return out;
}

absl::StatusOr<PodCheckpointFacts> ParseFacts(const simdjson::dom::element& root) {
  int64_t version = 0;
  if (root["version"].get(version) != simdjson::SUCCESS || version < 1) {
    return absl::InvalidArgumentError("\"version\": want a number");
  }
  if (version > kFactsVersion) {
    return absl::InvalidArgumentError(StrCat("version ", version, " is newer than this server's"));
  }
  PodCheckpointFacts out;
  RETURN_IF_ERROR(Text(root, "id", &out.id));
  RETURN_IF_ERROR(Text(root, "name", &out.name));
  RETURN_IF_ERROR(Text(root, "namespace", &out.pod_namespace));
  RETURN_IF_ERROR(Text(root, "uid", &out.uid));
  RETURN_IF_ERROR(Text(root, "runtime", &out.runtime));
  RETURN_IF_ERROR(Text(root, "checkpointedTime", &out.checkpointed_at));
  RETURN_IF_ERROR(Flag(root, "hostNetwork", &out.host_network));
  RETURN_IF_ERROR(Flag(root, "hostIPC", &out.host_ipc));
  simdjson::dom::array containers;
  if (root["containers"].get(containers) != simdjson::SUCCESS || containers.size() == 0) {
    return absl::InvalidArgumentError("\"containers\": want at least one");
  }
  if (containers.size() > kMaxCheckpointContainers) {
    return absl::InvalidArgumentError(StrCat("more than ", kMaxCheckpointContainers, " containers"));
  }
  std::set<std::string> names;
  for (const simdjson::dom::element& element : containers) {
    absl::StatusOr<CheckpointedContainer> container = ParseContainer(element);
    if (!container.ok())
      return Annotate(container.status(), StrCat("containers[", out.containers.size(), "]"));
    if (!names.insert(container->name).second) {
      return absl::InvalidArgumentError(StrCat("two containers \"", container->name, "\""));
    }
    out.containers.push_back(*std::move(container));
  }
  return out;
}

absl::Status UnpackFiles(int tar_fd, const std::string& dir, images::ByteBudget* budget) {
  ASSIGN_OR_RETURN(Fd root, OpenFile(dir, O_RDONLY | O_DIRECTORY));
  images::FdSource source(tar_fd);
  images::UnpackOptions options;
  options.files_only = true;
  options.tree.set_owner = false;
  options.max_entries = kMaxPodArchiveEntries;
  return images::UnpackLayer(&source, root.get(), budget, options).status();
}

absl::Status CheckRegular(const std::string& path, std::string_view name) {
  struct stat info;
  if (::lstat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode)) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat("there is no ", name, " in it"));
}

absl::Status UnpackContainer(const std::string& dir, size_t number, images::ByteBudget* budget) {
  const std::string name = ContainerTarName(number), tar = StrCat(dir, "/", name);
  const std::string to = StrCat(dir, "/", number);
  RETURN_IF_ERROR(CheckRegular(tar, name));
  ASSIGN_OR_RETURN(Fd fd, OpenFile(tar, O_RDONLY | O_NOFOLLOW));
  // Its space is wanted for what it holds.
  if (::unlink(tar.c_str()) != 0) return ErrnoStatus(errno, StrCat("unlink ", tar));
  if (::mkdir(to.c_str(), 0700) != 0) {
    return absl::InvalidArgumentError(StrCat("there is an entry \"", number, "\" in it"));
  }
  absl::Status unpacked = UnpackFiles(fd.get(), to, budget);
  if (unpacked.ok()) unpacked = CheckRegular(StrCat(to, "/", kImagesName, "/inventory.img"), "inventory.img");
  return Annotate(unpacked, name);
}

// Of a process section: a text that is the same for what means the same.
using Reader = std::string (*)(const simdjson::dom::element& spec);

std::string Cut(std::string text) {
  constexpr size_t kMaxShownBytes = 200;
  if (text.size() > kMaxShownBytes) text.replace(kMaxShownBytes, std::string::npos, "...");
  return text.empty() ? "none" : text;
}

std::string At(const simdjson::dom::element& spec, std::string_view pointer) {
  simdjson::dom::element value;
  if (spec.at_pointer(pointer).get(value) != simdjson::SUCCESS) return "";
  return simdjson::minify(value);
}

// A flag that is not there is off.
std::string FlagAt(const simdjson::dom::element& spec, std::string_view pointer) {
  const std::string text = At(spec, pointer);
  return text.empty() ? "false" : text;
}

std::string CapabilitiesOf(const simdjson::dom::element& spec) {
  std::string out;
  for (const char* set : {"bounding", "effective", "permitted", "inheritable", "ambient"}) {
    std::set<std::string_view> names;
    simdjson::dom::array array;
    if (spec.at_pointer(StrCat("/process/capabilities/", set)).get(array) == simdjson::SUCCESS) {
      for (const simdjson::dom::element& element : array) {
        std::string_view name;
        if (element.get(name) == simdjson::SUCCESS) names.insert(name);
      }
    }
    StrAppend(&out, out.empty() ? "" : "; ", set);
    for (std::string_view name : names) StrAppend(&out, " ", name);
  }
  return out;
}

// The program and how many arguments it has: a kubelet writes addresses of the new pod into them.
std::string CommandOf(const simdjson::dom::element& spec) {
  simdjson::dom::array args;
  if (spec.at_pointer("/process/args").get(args) != simdjson::SUCCESS || args.size() == 0) return "";
  return StrCat(simdjson::minify(args.at(0)), " and ", args.size() - 1, " arguments");
}

constexpr struct {
  const char* field;
  Reader read;
} kProcessFields[] = {
    {"command, args", CommandOf},
    {"working_dir", [](const auto& spec) { return At(spec, "/process/cwd"); }},
    {"linux.security_context.run_as_user", [](const auto& spec) { return At(spec, "/process/user/uid"); }},
    {"linux.security_context.no_new_privs",
     [](const auto& spec) { return FlagAt(spec, "/process/noNewPrivileges"); }},
    {"linux.security_context.readonly_rootfs",
     [](const auto& spec) { return FlagAt(spec, "/root/readonly"); }},
    {"linux.security_context.seccomp",
     [](const auto& spec) {
       return std::string(At(spec, "/linux/seccomp").empty() ? "no filter" : "a filter");
     }},
};

}  // namespace

std::string ContainerTarName(size_t number) { return StrCat("containers/", number, ".tar"); }

std::string EncodePodFacts(const PodCheckpointFacts& facts) {
  nlohmann::ordered_json json;
  json["version"] = kFactsVersion;
  json["id"] = facts.id;
  json["name"] = facts.name;
  json["namespace"] = facts.pod_namespace;
  json["uid"] = facts.uid;
  json["runtime"] = facts.runtime;
  json["checkpointedTime"] = facts.checkpointed_at;
  json["hostNetwork"] = facts.host_network;
  json["hostIPC"] = facts.host_ipc;
  json["containers"] = nlohmann::ordered_json::array();
  for (const CheckpointedContainer& container : facts.containers) {
    nlohmann::ordered_json item;
    item["name"] = container.name;
    item["id"] = container.id;
    item["imageId"] = container.image_id;
    item["tty"] = container.tty;
    if (container.stdin_open.has_value()) item["stdin"] = *container.stdin_open;
    if (container.supplemental_groups.has_value())
      item["supplementalGroups"] = *container.supplemental_groups;
    json["containers"].push_back(std::move(item));
  }
  return json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

absl::StatusOr<PodCheckpointFacts> ParsePodFacts(std::string_view json) {
  if (json.size() > kMaxPodFactsBytes) return absl::InvalidArgumentError(StrCat(kPodFactsName, ": too long"));
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  if (parser.parse(simdjson::padded_string(json)).get(root) != simdjson::SUCCESS) {
    return absl::InvalidArgumentError(StrCat(kPodFactsName, ": is no JSON"));
  }
  absl::StatusOr<PodCheckpointFacts> facts = ParseFacts(root);
  if (!facts.ok()) return Annotate(facts.status(), kPodFactsName);
  return facts;
}

absl::Status CheckSameProcess(const v1::LinuxContainerSecurityContext& asked, std::string_view checkpointed,
                              std::string_view wanted) {
  simdjson::dom::parser parsers[2];
  simdjson::dom::element had, wants;
  if (parsers[0].parse(simdjson::padded_string(checkpointed)).get(had) != simdjson::SUCCESS) {
    return absl::InvalidArgumentError(StrCat(kSpecDumpName, " of the checkpoint: is no JSON"));
  }
  if (parsers[1].parse(simdjson::padded_string(wanted)).get(wants) != simdjson::SUCCESS) {
    return absl::InternalError("config.json of the container: is no JSON");
  }
  auto differ = [&](const char* field, Reader read) -> absl::Status {
    const std::string before = read(had), now = read(wants);
    if (before == now) return absl::OkStatus();
    return absl::InvalidArgumentError(
        StrCat(field, ": ", Cut(now), "; the container in the checkpoint has ", Cut(before)));
  };
  for (const auto& [field, read] : kProcessFields) RETURN_IF_ERROR(differ(field, read));
  if (asked.has_run_as_group()) {
    RETURN_IF_ERROR(differ("linux.security_context.run_as_group",
                           [](const auto& spec) { return At(spec, "/process/user/gid"); }));
  }
  const auto& added = asked.capabilities().add_capabilities();
  if (!asked.privileged() && std::find(added.begin(), added.end(), "ALL") == added.end()) {
    RETURN_IF_ERROR(differ("linux.security_context.capabilities", CapabilitiesOf));
  }
  return absl::OkStatus();
}

CheckpointScratch::~CheckpointScratch() {
  if (dir.empty()) return;
  absl::Status removed = RemoveTree(dir);
  if (!removed.ok()) LogWarning("checkpoint's scratch stays", {{"dir", dir}, {"error", removed}});
}

absl::Status CheckArchivePlace(const std::string& location, std::string_view field) {
  struct stat info;
  std::string folder = location.substr(0, location.rfind('/') + 1);
  if (::stat(folder.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
    return absl::InvalidArgumentError(StrCat(field, " \"", location, "\": there is no folder ", folder));
  }
  if (::lstat(location.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(
        StrCat(field, " \"", location, "\": there is something else than a file"));
  }
  return absl::OkStatus();
}

absl::Status WritePodArchive(const PodCheckpointFacts& facts, const std::string& dir,
                             const std::string& path) {
  RETURN_IF_ERROR(
      WriteFileAtomic(StrCat(dir, "/", kPodFactsName), EncodePodFacts(facts), 0600, /*durable=*/false));
  std::vector<std::string> names = {kPodFactsName};
  struct stat info;
  if (::lstat(StrCat(dir, "/", kShmTarName).c_str(), &info) == 0) names.push_back(kShmTarName);
  for (size_t i = 0; i < facts.containers.size(); ++i) names.push_back(ContainerTarName(i));
  return WriteFilesTar(dir, names, path);
}

absl::StatusOr<Fd> OpenPodArchive(const std::string& path) {
  ASSIGN_OR_RETURN(Fd fd, OpenFile(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
  struct stat info;
  if (::fstat(fd.get(), &info) != 0) return ErrnoStatus(errno, StrCat("stat ", path));
  if (!S_ISREG(info.st_mode)) return absl::FailedPreconditionError(StrCat(path, ": is no regular file"));
  if (info.st_uid != ::geteuid() || (info.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return absl::FailedPreconditionError(
        StrCat(path, ": others than root may write it; what it restores gets whatever rights it says"));
  }
  return fd;
}

absl::StatusOr<PodCheckpointFacts> UnpackPodArchive(int archive_fd, const std::string& dir) {
  images::ByteBudget budget(kMaxPodArchiveBytes);
  RETURN_IF_ERROR(UnpackFiles(archive_fd, dir, &budget));
  const std::string facts_path = StrCat(dir, "/", kPodFactsName);
  RETURN_IF_ERROR(CheckRegular(facts_path, kPodFactsName));
  absl::StatusOr<std::string> text = ReadFile(facts_path, kMaxPodFactsBytes);
  if (!text.ok()) return Annotate(text.status(), kPodFactsName);
  ASSIGN_OR_RETURN(PodCheckpointFacts facts, ParsePodFacts(*text));
  for (size_t i = 0; i < facts.containers.size(); ++i) RETURN_IF_ERROR(UnpackContainer(dir, i, &budget));
  return facts;
}

absl::Status UnpackPodTree(const std::string& tar, const std::string& dir) {
  absl::StatusOr<Fd> fd = OpenFile(tar, O_RDONLY | O_NOFOLLOW);
  if (absl::IsNotFound(fd.status())) return absl::OkStatus();
  if (!fd.ok()) return fd.status();
  ASSIGN_OR_RETURN(Fd root, OpenFile(dir, O_RDONLY | O_DIRECTORY));
  images::FdSource source(fd->get());
  images::ByteBudget budget(kMaxPodArchiveBytes);
  images::UnpackOptions options;
  options.tree.allow_devices = false;
  options.max_entries = kMaxPodArchiveEntries;
  return Annotate(images::UnpackLayer(&source, root.get(), &budget, options).status(),
                  StrCat("unpack ", tar));
}

}  // namespace keelson::cri
