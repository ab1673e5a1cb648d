// Whole specifications of many pod shapes: tests/golden/oci/NAME.json is laid over base.json (merge patch,
// RFC 7386) and gives NAME.out.json: config.json and what else GenerateSpec says, or its error.
// KEELSON_UPDATE_GOLDEN=1 (hack/update-golden) rewrites the expectations; the diff is the review.
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/fd.h"
#include "base/status.h"
#include "oci/cdi.h"
#include "oci/spec.h"
#include "oci/testing/spec_validator.h"

namespace keelson::oci {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kFolder = "tests/golden/oci";
constexpr const char* kInput = ".json";
constexpr const char* kOutput = ".out.json";
constexpr size_t kMinShapes = 2;

std::string Path(const std::string& name, const char* suffix) { return StrCat(kFolder, "/", name, suffix); }

std::vector<std::string> CaseNames() {
  std::vector<std::string> names;
  std::error_code error;  // no folder: the test of their number says so
  for (const auto& entry : std::filesystem::directory_iterator(kFolder, error)) {
    const std::string file = entry.path().filename();
    if (file.find(kOutput) != std::string::npos || entry.path().extension() != kInput) continue;
    if (entry.path().stem() != "base") names.push_back(entry.path().stem());
  }
  std::sort(names.begin(), names.end());
  return names;
}

template <class Message>
Message ParseMessage(const Json& json) {
  Message message;
  const auto status = google::protobuf::util::JsonStringToMessage(json.dump(), &message);
  if (!status.ok()) throw std::runtime_error(status.ToString() + " in " + json.dump());
  return message;
}

std::vector<HostDevice> Devices(const Json& json) {
  std::vector<HostDevice> devices;
  for (const Json& item : json) {
    HostDevice device;
    device.path = item.at("path");
    device.type = item.value("type", std::string("c"))[0];
    device.major = item.value("major", 0);
    device.minor = item.value("minor", 0);
    device.mode = item.value("mode", 0666);
    device.permissions = item.value("permissions", std::string("rwm"));
    devices.push_back(device);
  }
  return devices;
}

HostFacts Host(const Json& json) {
  HostFacts host;
  host.cgroup_v2 = json.value("cgroup_v2", false);
  host.kernel_major = json.value("kernel_major", 6);
  host.kernel_minor = json.value("kernel_minor", 1);
  host.apparmor = json.value("apparmor", false);
  host.selinux = json.value("selinux", false);
  host.seccomp = json.value("seccomp", true);
  host.swap_controller = json.value("swap_controller", true);
  host.hugetlb_controller = json.value("hugetlb_controller", true);
  host.oom_score_adj = json.value("oom_score_adj", 0);
  host.can_lower_oom_score_adj = json.value("can_lower_oom_score_adj", true);
  host.max_open_files = json.value("max_open_files", uint64_t{1048576});
  host.in_user_namespace = json.value("in_user_namespace", false);
  host.architecture = json.value("architecture", std::string("amd64"));
  host.apparmor_default_profile = json.value("apparmor_default_profile", std::string());
  for (const Json& number : json.value("missing_capabilities", Json::array())) {
    host.bounding_capabilities &= ~(uint64_t{1} << number.get<int>());
  }
  return host;
}

// Keeps the messages a SpecInput points to.
struct Case {
  criv1::ContainerConfig container;
  criv1::PodSandboxConfig sandbox;
  SpecInput input;
  absl::Status user_status, cdi_status;
};

absl::StatusOr<ProcessUser> ReadUser(const Json& json, const SpecInput& input) {
  UserRequest request;
  const auto& security = input.container->linux().security_context();
  if (security.has_run_as_user()) request.run_as_user = security.run_as_user().value();
  request.run_as_username = security.run_as_username();
  if (security.has_run_as_group()) request.run_as_group = security.run_as_group().value();
  request.image_user = input.image.user;
  request.supplemental_groups.assign(security.supplemental_groups().begin(),
                                     security.supplemental_groups().end());
  if (security.supplemental_groups_policy() == criv1::Strict) {
    request.policy = SupplementalGroupsPolicy::kStrict;
  }
  return ResolveUser(request, json.value("passwd", std::string()), json.value("group", std::string()));
}

// "cdi_files": specifications by path, the directory is that of the path; "cdi_host": nodes of the host.
absl::Status ReadCdi(const Json& json, SpecInput* input) {
  const std::vector<std::string> dirs = {"/etc/cdi", "/var/run/cdi"};
  std::vector<CdiFile> files;
  const Json specs = json.value("cdi_files", Json::object());
  for (auto it = specs.begin(); it != specs.end(); ++it) {
    files.push_back({it.key(), it.key().starts_with(dirs[1]) ? 1u : 0u, ParseCdiSpec(it.value().dump())});
  }
  CdiHostNodes nodes;
  for (HostDevice& device : Devices(json.value("cdi_host", Json::array())))
    nodes.emplace(device.path, device);
  ASSIGN_OR_RETURN(std::vector<std::string> names, CdiDevicesOf(*input->container));
  ASSIGN_OR_RETURN(CdiEdits edits, ResolveCdiDevices(files, dirs, names));
  return ApplyCdiEdits(edits, nodes, input);
}

void ReadCase(const Json& json, Case* out) {
  out->container = ParseMessage<criv1::ContainerConfig>(json.at("container"));
  out->sandbox = ParseMessage<criv1::PodSandboxConfig>(json.at("sandbox"));
  SpecInput& input = out->input;
  input.id = "c1";
  input.sandbox_id = "s1";
  input.container = &out->container;
  input.sandbox = &out->sandbox;
  absl::StatusOr<ImageConfig> image = ParseImageConfig(json.at("image").dump());
  if (!image.ok()) throw std::runtime_error(image.status().ToString());
  input.image = *image;
  absl::StatusOr<ProcessUser> user = ReadUser(json, input);
  out->user_status = user.status();
  if (user.ok()) input.user = *user;
  input.rootfs_path = "/run/bundle/rootfs";
  const Json& namespaces = json.at("namespaces");
  input.namespaces = {namespaces.value("network", std::string()), namespaces.value("ipc", std::string()),
                      namespaces.value("uts", std::string()),     namespaces.value("pid", std::string()),
                      namespaces.value("user", std::string()),    namespaces.value("cgroup", std::string()),
                      namespaces.value("pid_host", false)};
  input.cgroups_path = json.value("cgroups_path", std::string());
  input.hostname = json.value("hostname", std::string());
  input.resolv_conf_path = json.value("resolv_conf_path", std::string());
  input.hostname_path = json.value("hostname_path", std::string());
  input.hosts_path = json.value("hosts_path", std::string());
  input.shm_path = json.value("shm_path", std::string());
  input.init_binary_path = json.value("init_binary_path", std::string());
  const Json devices = json.value("devices", Json::object());
  // By the host's path, or by that and the container's.
  for (const criv1::Device& device : out->container.devices()) {
    const std::string both = StrCat(device.host_path(), " ", device.container_path());
    const std::string& key = devices.contains(both) ? both : device.host_path();
    input.devices.push_back(Devices(devices.value(key, Json::array())));
  }
  input.all_host_devices = Devices(json.value("all_host_devices", Json::array()));
  const Json profile = json.value("seccomp_profile", Json());
  if (!profile.is_null()) input.seccomp_localhost_profile = profile.dump();
  input.host = Host(json.at("host"));
  if (input.host.selinux) input.selinux_level = "s0:c7,c8";
  const Json features = json.value("features", Json::object());
  input.features.recursive_read_only = features.value("recursive_read_only", false);
  input.features.idmapped_mounts = features.value("idmapped_mounts", false);
  input.features.seccomp_notify = features.value("seccomp_notify", false);
  input.runtime_handler = "runc";
  out->cdi_status = ReadCdi(json, &input);
  input.image_volume_paths = json.value("image_volume_paths", std::map<std::string, std::string>());
  input.pod_annotation_patterns = json.value("pod_annotation_patterns", std::vector<std::string>());
}

// The default filter is the same in most shapes and has its own test: a shape names its size only, unless it
// asks for all of it.
void ShortenSeccomp(Json* config) {
  Json& linux_config = (*config)["linux"];
  if (!linux_config.contains("seccomp")) return;
  for (Json& rule : linux_config["seccomp"]["syscalls"]) {
    const size_t count = rule["names"].size();
    if (count > 8) rule["names"] = StrCat(count, " names");
  }
}

Json OutputOf(const Case& item, bool whole_seccomp) {
  Json out = Json::object();
  const absl::Status& before = item.user_status.ok() ? item.cdi_status : item.user_status;
  absl::StatusOr<SpecOutput> spec =
      before.ok() ? GenerateSpec(item.input) : absl::StatusOr<SpecOutput>(before);
  if (!spec.ok()) {
    out["error"] = spec.status().ToString();
    return out;
  }
  out["config"] = Json::parse(spec->config_json);
  EXPECT_EQ(ValidateSpec(spec->config_json), std::vector<std::string>());
  if (!whole_seccomp) ShortenSeccomp(&out["config"]);
  out["stop_signal"] = spec->stop_signal;
  if (!spec->warnings.empty()) out["warnings"] = spec->warnings;
  if (!spec->bind_sources.empty()) out["bind_sources"] = spec->bind_sources;
  // Same input, same bytes.
  absl::StatusOr<SpecOutput> again = GenerateSpec(item.input);
  EXPECT_EQ(again->config_json, spec->config_json);
  return out;
}

constexpr size_t kColumns = 110;

// JSON with what fits on a line on one line, and lists of words filled up to it: a specification is a screen
// or two and its diff can be read.
void PrintJson(const Json& json, size_t indent, std::string* out) {
  const std::string line = json.dump();
  if (!json.is_structured() || json.empty() || indent + line.size() <= kColumns) {
    *out += line;
    return;
  }
  const bool words = json.is_array() &&
                     std::none_of(json.begin(), json.end(), [](const Json& j) { return j.is_structured(); });
  const std::string margin(indent + 1, ' ');
  *out += json.is_object() ? "{" : "[";
  size_t column = kColumns;
  for (auto it = json.begin(); it != json.end(); ++it) {
    if (it != json.begin()) *out += ",";
    std::string item = json.is_object() ? Json(it.key()).dump() + ": " : std::string();
    PrintJson(*it, indent + 1, &item);
    const bool fits = words && column + item.size() + 2 <= kColumns;
    *out += fits ? " " : "\n" + margin;
    column = (fits ? column : indent + 1) + item.size() + 2;
    *out += item;
  }
  *out += "\n" + std::string(indent, ' ') + (json.is_object() ? "}" : "]");
}

class GoldenSpecTest : public testing::TestWithParam<std::string> {};

TEST_P(GoldenSpecTest, ConfigJson) {
  const std::string name = GetParam();
  Json json = Json::parse(*ReadFile(Path("base", kInput)));
  json.merge_patch(Json::parse(*ReadFile(Path(name, kInput))));
  ASSERT_TRUE(json.contains("about")) << "every shape says what it is about";
  Case item;
  ReadCase(json, &item);
  std::string text;
  PrintJson(OutputOf(item, json.value("whole_seccomp", false)), 0, &text);
  text += "\n";
  if (std::getenv("KEELSON_UPDATE_GOLDEN") != nullptr) {
    ASSERT_TRUE(WriteFileAtomic(Path(name, kOutput), text, 0644, false).ok());
    return;
  }
  absl::StatusOr<std::string> expected = ReadFile(Path(name, kOutput));
  ASSERT_TRUE(expected.ok()) << expected.status() << "; run hack/update-golden";
  EXPECT_EQ(text, *expected) << "if this is meant, run hack/update-golden";
}

std::string ParamName(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Shapes, GoldenSpecTest, testing::ValuesIn(CaseNames()), ParamName);

TEST(GoldenSpecTest, CoversManyShapes) { EXPECT_GE(CaseNames().size(), kMinShapes); }

}  // namespace
}  // namespace keelson::oci
