#include "cri/server/pod_checkpoint.h"

#include <fcntl.h>
#include <simdjson.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "base/status.h"
#include "base/strings.h"
#include "cri/server/checkpoint_archive.h"
#include "cri/server/checkpoint_json.h"
#include "cri/server/container_checkpoint.h"
#include "images/unpack.h"

namespace keelson::cri {

namespace {

constexpr int64_t kFactsVersion = 1;

absl::StatusOr<CheckpointedContainer> ParseContainer(const simdjson::dom::element& object) {
  CheckpointedContainer out;
  RETURN_IF_ERROR(FactText(object, "name", &out.name));
  RETURN_IF_ERROR(FactText(object, "id", &out.id));
  RETURN_IF_ERROR(FactText(object, "imageId", &out.image_id));
  RETURN_IF_ERROR(FactFlag(object, "tty", &out.tty));
  if (out.name.empty()) return absl::InvalidArgumentError("\"name\": is empty");
  RETURN_IF_ERROR(OptionalFactFlag(object, "stdin", &out.stdin_open));
  RETURN_IF_ERROR(OptionalFactNumbers(object, "supplementalGroups", &out.supplemental_groups));
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
  RETURN_IF_ERROR(FactText(root, "id", &out.id));
  RETURN_IF_ERROR(FactText(root, "name", &out.name));
  RETURN_IF_ERROR(FactText(root, "namespace", &out.pod_namespace));
  RETURN_IF_ERROR(FactText(root, "uid", &out.uid));
  RETURN_IF_ERROR(FactText(root, "runtime", &out.runtime));
  RETURN_IF_ERROR(FactText(root, "checkpointedTime", &out.checkpointed_at));
  RETURN_IF_ERROR(FactFlag(root, "hostNetwork", &out.host_network));
  RETURN_IF_ERROR(FactFlag(root, "hostIPC", &out.host_ipc));
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

absl::Status UnpackContainer(const std::string& dir, size_t number, images::ByteBudget* budget) {
  const std::string name = ContainerTarName(number), tar = StrCat(dir, "/", name);
  const std::string to = StrCat(dir, "/", number);
  RETURN_IF_ERROR(CheckPlainFile(dir, name));
  ASSIGN_OR_RETURN(Fd fd, OpenFile(tar, O_RDONLY | O_NOFOLLOW));
  // Its space is wanted for what it holds.
  if (::unlink(tar.c_str()) != 0) return ErrnoStatus(errno, StrCat("unlink ", tar));
  if (::mkdir(to.c_str(), 0700) != 0) {
    return absl::InvalidArgumentError(StrCat("there is an entry \"", number, "\" in it"));
  }
  return Annotate(UnpackContainerArchive(fd.get(), to, budget), name);
}

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
  simdjson::dom::parser parser;
  ASSIGN_OR_RETURN(simdjson::dom::element root,
                   ParseFactFile(json, kMaxPodFactsBytes, kPodFactsName, &parser));
  absl::StatusOr<PodCheckpointFacts> facts = ParseFacts(root);
  if (!facts.ok()) return Annotate(facts.status(), kPodFactsName);
  return facts;
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

absl::StatusOr<PodCheckpointFacts> UnpackPodArchive(int archive_fd, const std::string& dir) {
  images::ByteBudget budget(kMaxCheckpointBytes);
  RETURN_IF_ERROR(UnpackCheckpointFiles(archive_fd, dir, &budget));
  const std::string facts_path = StrCat(dir, "/", kPodFactsName);
  RETURN_IF_ERROR(CheckPlainFile(dir, kPodFactsName));
  absl::StatusOr<std::string> text = ReadFile(facts_path, kMaxPodFactsBytes);
  if (!text.ok()) return Annotate(text.status(), kPodFactsName);
  ASSIGN_OR_RETURN(PodCheckpointFacts facts, ParsePodFacts(*text));
  for (size_t i = 0; i < facts.containers.size(); ++i) RETURN_IF_ERROR(UnpackContainer(dir, i, &budget));
  return facts;
}

}  // namespace keelson::cri
