#include "kubelet/environment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kubelet/field_ref.h"
#include "kubelet/generate_container_config.h"
#include "kubelet/pod_network.h"
#include "kubelet/status_manager.h"

namespace keelson::kubelet {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

TEST(ExpandVariablesTest, Table) {
  std::map<std::string, std::string, std::less<>> env = {{"A", "1"}, {"EMPTY", ""}};
  auto lookup = [&](std::string_view name) -> const std::string* {
    auto it = env.find(name);
    return it == env.end() ? nullptr : &it->second;
  };
  const std::pair<const char*, const char*> cases[] = {
      {"x", "x"},         {"$(A)", "1"}, {"$$(A)", "$(A)"},    {"$$$(A)", "$1"}, {"$(B)", "$(B)"},
      {"$(EMPTY)|", "|"}, {"$A", "$A"},  {"$", "$"},           {"a$", "a$"},     {"$(A", "$(A"},
      {"$(A)$(A)", "11"}, {"$$", "$"},   {"--x=$(A)", "--x=1"}};
  for (const auto& [text, want] : cases) EXPECT_EQ(ExpandVariables(text, lookup), want) << text;
}

TEST(ServiceEnvironmentTest, UpstreamNames) {
  auto service = std::make_shared<corev1::Service>();
  service->mutable_metadata()->set_name("redis-primary");
  service->mutable_spec()->set_cluster_ip("10.96.0.11");
  auto* port = service->mutable_spec()->add_ports();
  port->set_name("db");
  port->set_port(6379);
  port->set_protocol("TCP");
  EXPECT_THAT(
      ServiceEnvironment({service}),
      ElementsAre(
          Pair("REDIS_PRIMARY_SERVICE_HOST", "10.96.0.11"), Pair("REDIS_PRIMARY_SERVICE_PORT", "6379"),
          Pair("REDIS_PRIMARY_SERVICE_PORT_DB", "6379"), Pair("REDIS_PRIMARY_PORT", "tcp://10.96.0.11:6379"),
          Pair("REDIS_PRIMARY_PORT_6379_TCP", "tcp://10.96.0.11:6379"),
          Pair("REDIS_PRIMARY_PORT_6379_TCP_PROTO", "tcp"), Pair("REDIS_PRIMARY_PORT_6379_TCP_PORT", "6379"),
          Pair("REDIS_PRIMARY_PORT_6379_TCP_ADDR", "10.96.0.11")));
  auto headless = std::make_shared<corev1::Service>(*service);
  headless->mutable_spec()->set_cluster_ip("None");
  EXPECT_TRUE(ServiceEnvironment({headless}).empty());
}

TEST(MakeEnvironmentTest, OwnValuesWinOverServices) {
  corev1::Pod pod;
  corev1::Container c;
  auto* host = c.add_env();
  host->set_name("MYSQL_SERVICE_HOST");
  host->set_value("mysql");
  auto* url = c.add_env();
  url->set_name("URL");
  url->set_value("$(MYSQL_SERVICE_HOST):$(MYSQL_SERVICE_PORT)");
  EnvInputs in;
  in.service_env = {{"MYSQL_SERVICE_HOST", "10.96.0.5"}, {"MYSQL_SERVICE_PORT", "3306"}};
  auto env = MakeEnvironment(pod, c, in);
  ASSERT_TRUE(env.ok());
  EXPECT_THAT(*env, ElementsAre(Pair("MYSQL_SERVICE_HOST", "mysql"), Pair("URL", "mysql:3306"),
                                Pair("MYSQL_SERVICE_PORT", "3306")));
}

TEST(MakeEnvironmentTest, ReferencesAndTheirErrors) {
  corev1::Pod pod;
  pod.mutable_metadata()->set_namespace_("ns");
  corev1::Container c;
  auto* e = c.add_env();
  e->set_name("K");
  auto* ref = e->mutable_value_from()->mutable_config_map_key_ref();
  ref->mutable_local_object_reference()->set_name("m");
  ref->set_key("k");
  EnvInputs in;
  EXPECT_EQ(MakeEnvironment(pod, c, in).status().message(), "configmap \"m\" not found");
  auto map = std::make_shared<corev1::ConfigMap>();
  in.config_maps["m"] = map;
  EXPECT_EQ(MakeEnvironment(pod, c, in).status().message(), "couldn't find key k in ConfigMap ns/m");
  ref->set_optional(true);
  EXPECT_TRUE(MakeEnvironment(pod, c, in)->empty());
  (*map->mutable_data())["k"] = "v";
  EXPECT_THAT(*MakeEnvironment(pod, c, in), ElementsAre(Pair("K", "v")));
}

// RelaxedEnvironmentVariableValidation: whatever the API lets in reaches the container.
TEST(MakeEnvironmentTest, EnvFromTakesEveryKey) {
  corev1::Pod pod;
  corev1::Container c;
  auto* from = c.add_env_from();
  from->mutable_config_map_ref()->mutable_local_object_reference()->set_name("m");
  auto* prefixed = c.add_env_from();
  prefixed->set_prefix("the ");
  prefixed->mutable_secret_ref()->mutable_local_object_reference()->set_name("s");
  auto map = std::make_shared<corev1::ConfigMap>();
  for (const char* key : {"1st", "a.b-c", "PLAIN"}) (*map->mutable_data())[key] = "v";
  auto secret = std::make_shared<corev1::Secret>();
  (*secret->mutable_data())["key"] = "w";
  EnvInputs in;
  in.config_maps["m"] = map;
  in.secrets["s"] = secret;
  EXPECT_THAT(*MakeEnvironment(pod, c, in),
              ElementsAre(Pair("1st", "v"), Pair("PLAIN", "v"), Pair("a.b-c", "v"), Pair("the key", "w")));
}

TEST(FieldRefTest, PathsAndResources) {
  corev1::Pod pod;
  pod.mutable_metadata()->set_name("p");
  (*pod.mutable_metadata()->mutable_labels())["app/x"] = "l";
  (*pod.mutable_metadata()->mutable_annotations())["a"] = "say \"hi\"";
  pod.mutable_status()->set_pod_ip("10.0.0.9");
  EXPECT_EQ(*ExtractFieldPath(pod, "metadata.name"), "p");
  EXPECT_EQ(*ExtractFieldPath(pod, "metadata.labels['app/x']"), "l");
  EXPECT_EQ(*ExtractFieldPath(pod, "metadata.annotations"), "a=\"say \\\"hi\\\"\"");
  EXPECT_EQ(*ExtractFieldPath(pod, "status.podIP"), "10.0.0.9");
  EXPECT_FALSE(ExtractFieldPath(pod, "spec.foo").ok());
  corev1::Container c;
  (*c.mutable_resources()->mutable_limits())["cpu"].set_string("1500m");
  corev1::ResourceFieldSelector s;
  s.set_resource("limits.cpu");
  EXPECT_EQ(*ExtractResource(pod, c, s, {}), "2");
  s.mutable_divisor()->set_string("1m");
  EXPECT_EQ(*ExtractResource(pod, c, s, {}), "1500");
  s.set_resource("limits.memory");
  s.mutable_divisor()->set_string("1Mi");
  EXPECT_EQ(*ExtractResource(pod, c, s, {{"memory", api::Quantity::FromValue(3 << 20)}}), "3");
}

TEST(ResourcesTest, QosAndCgroupParent) {
  corev1::Pod pod;
  pod.mutable_metadata()->set_uid("u-1");
  auto* c = pod.mutable_spec()->add_containers();
  EXPECT_EQ(ComputeQos(pod), QosClass::kBestEffort);
  EXPECT_EQ(PodCgroupParent(pod, "", false), "/kubepods/besteffort/podu-1");
  (*c->mutable_resources()->mutable_requests())["cpu"].set_string("100m");
  EXPECT_EQ(ComputeQos(pod), QosClass::kBurstable);
  EXPECT_EQ(PodCgroupParent(pod, "keelson-x", false), "/keelson-x/kubepods/burstable/podu-1");
  EXPECT_EQ(PodCgroupParent(pod, "", true), "kubepods-burstable-podu_1.slice");
  EXPECT_EQ(PodCgroupParent(pod, "/keelson-x/y", true), "keelson_x-y-kubepods-burstable-podu_1.slice");
  for (const char* r : {"cpu", "memory"}) {
    (*c->mutable_resources()->mutable_limits())[r].set_string("1");
    (*c->mutable_resources()->mutable_requests())[r].set_string("1");
  }
  EXPECT_EQ(ComputeQos(pod), QosClass::kGuaranteed);
  EXPECT_EQ(PodCgroupParent(pod, "", false), "/kubepods/podu-1");
}

TEST(ResourcesTest, LinuxResources) {
  corev1::Pod pod;
  auto* c = pod.mutable_spec()->add_containers();
  (*c->mutable_resources()->mutable_requests())["cpu"].set_string("250m");
  (*c->mutable_resources()->mutable_limits())["cpu"].set_string("500m");
  (*c->mutable_resources()->mutable_limits())["memory"].set_string("64Mi");
  ResourceOptions options;
  options.memory_capacity_bytes = int64_t{1} << 30;
  auto r = ContainerLinuxResources(pod, *c, options);
  EXPECT_EQ(r.cpu_shares(), 256);
  EXPECT_EQ(r.cpu_quota(), 50000);
  EXPECT_EQ(r.memory_limit_in_bytes(), 64 << 20);
  EXPECT_EQ(r.oom_score_adj(), 1000 - 62);
}

TEST(PodNetworkTest, ClusterFirst) {
  corev1::Pod pod;
  pod.mutable_metadata()->set_namespace_("ns");
  DnsInputs in;
  in.cluster_dns = {"10.96.0.10"};
  in.cluster_domain = "cluster.local";
  in.host = ParseResolvConf("# c\nnameserver 1.1.1.1\nsearch corp.example\noptions rotate\n");
  auto dns = MakeDnsConfig(pod, in);
  EXPECT_THAT(dns->servers(), ElementsAre("10.96.0.10"));
  EXPECT_THAT(dns->searches(),
              ElementsAre("ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"));
  EXPECT_THAT(dns->options(), ElementsAre("ndots:5"));
  pod.mutable_spec()->set_dns_policy("Default");
  dns = MakeDnsConfig(pod, in);
  EXPECT_THAT(dns->servers(), ElementsAre("1.1.1.1"));
  pod.mutable_spec()->set_dns_policy("None");
  pod.mutable_spec()->mutable_dns_config()->add_nameservers("9.9.9.9");
  EXPECT_THAT(MakeDnsConfig(pod, in)->servers(), ElementsAre("9.9.9.9"));
}

TEST(PodNetworkTest, HostsFileAndName) {
  corev1::Pod pod;
  pod.mutable_metadata()->set_name("web-1");
  pod.mutable_metadata()->set_namespace_("ns");
  pod.mutable_spec()->set_subdomain("db");
  auto name = MakeHostname(pod, "node", "cluster.local");
  EXPECT_EQ(name->hostname, "web-1");
  EXPECT_EQ(name->fqdn, "web-1.db.ns.svc.cluster.local");
  EXPECT_THAT(MakeHostsFile(pod, {"10.0.0.2"}, *name, ""),
              HasSubstr("10.0.0.2\tweb-1.db.ns.svc.cluster.local\tweb-1\n"));
}

TEST(GenerateContainerConfigTest, MountsLabelsAndCommand) {
  corev1::Pod pod;
  pod.mutable_metadata()->set_name("p");
  pod.mutable_metadata()->set_namespace_("ns");
  pod.mutable_metadata()->set_uid("u");
  corev1::Container c;
  c.set_name("web");
  c.add_command("sh");
  c.add_args("$(A) $$(A)");
  auto* m = c.add_volume_mounts();
  m->set_name("data");
  m->set_mount_path("/data");
  ContainerInputs in;
  in.env = {{"A", "1"}};
  in.restart_count = 2;
  in.volumes.by_name["data"].host_path = "/host/data";
  in.hosts_file = "/host/etc-hosts";
  auto config = GenerateContainerConfig(pod, c, in);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->args(0), "1 $(A)");
  EXPECT_EQ(config->log_path(), "web/2.log");
  EXPECT_EQ(config->labels().at(kLabelContainerName), "web");
  EXPECT_EQ(config->annotations().at(kAnnotationRestartCount), "2");
  EXPECT_EQ(config->mounts(0).host_path(), "/host/data");
  EXPECT_EQ(config->mounts(1).container_path(), "/etc/hosts");
  m->set_name("missing");
  EXPECT_THAT(std::string(GenerateContainerConfig(pod, c, in).status().message()), HasSubstr("missing"));
}

TEST(GenerateContainerConfigTest, RecursiveReadOnly) {
  criv1::StatusResponse status;
  auto* handler = status.add_runtime_handlers();
  handler->mutable_features()->set_recursive_read_only_mounts(true);
  status.add_runtime_handlers()->set_name("old");
  EXPECT_TRUE(SupportsRecursiveReadOnly(status, ""));
  EXPECT_FALSE(SupportsRecursiveReadOnly(status, "old"));
  EXPECT_FALSE(SupportsRecursiveReadOnly(status, "unknown"));
  struct Case {
    const char *mode, *propagation;
    bool read_only, supported;
    const char* want;  // "true", "false" or the error
  } cases[] = {
      {"", "", true, true, "false"},
      {"Disabled", "", false, true, "false"},
      {"IfPossible", "", true, true, "true"},
      {"IfPossible", "None", true, false, "false"},
      {"Enabled", "None", true, true, "true"},
      {"Enabled", "", true, false,
       "volume \"v\" requested recursive read-only mode, but it is not supported by the runtime"},
      {"Enabled", "", false, true,
       "volume \"v\" requested recursive read-only mode, but it is not read-only"},
      {"IfPossible", "HostToContainer", true, true,
       "volume \"v\" requested recursive read-only mode, but it is not compatible with propagation "
       "\"HostToContainer\""},
      {"Maybe", "", true, true, "unknown recursive read-only mode \"Maybe\""},
  };
  for (const Case& c : cases) {
    corev1::VolumeMount mount;
    mount.set_name("v");
    mount.set_read_only(c.read_only);
    mount.set_recursive_read_only(c.mode);
    mount.set_mount_propagation(c.propagation);
    absl::StatusOr<bool> got = ResolveRecursiveReadOnly(mount, c.supported);
    EXPECT_EQ(got.ok() ? (*got ? "true" : "false") : std::string(got.status().message()), c.want) << c.mode;
  }
}

TEST(GenerateContainerConfigTest, StopSignal) {
  struct Case {
    const char* name;
    criv1::Signal want;
  } cases[] = {{"", criv1::SIGNAL_RUNTIME_DEFAULT},
               {"SIGUSR1", criv1::SIGNAL_SIGUSR1},
               {"SIGTERM", criv1::SIGNAL_SIGTERM},
               {"SIGRTMIN+3", criv1::SIGNAL_SIGRTMINPLUS3},
               {"SIGRTMAX-1", criv1::SIGNAL_SIGRTMAXMINUS1}};
  for (const Case& c : cases) {
    corev1::Container container;
    container.mutable_lifecycle()->set_stop_signal(c.name);
    auto config = GenerateContainerConfig(corev1::Pod(), container, ContainerInputs());
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->stop_signal(), c.want) << c.name;
  }
}

TEST(GeneratePodSandboxConfigTest, SysctlsInTheFormWithDots) {
  corev1::Pod pod;
  for (const char* name : {"net.ipv4.ip_local_port_range", "net/ipv4/conf/eth0.1/arp_filter"}) {
    pod.mutable_spec()->mutable_security_context()->add_sysctls()->set_name(name);
  }
  auto config = GeneratePodSandboxConfig(pod, SandboxInputs());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(config->linux().sysctls().contains("net.ipv4.ip_local_port_range"));
  EXPECT_TRUE(config->linux().sysctls().contains("net.ipv4.conf.eth0/1.arp_filter"));
}

TEST(GeneratePodSandboxConfigTest, NamespacesOfTheHostAndOfThePod) {
  struct Case {
    bool host_network, host_pid, host_ipc, share_processes;
    criv1::NamespaceMode network, pid, ipc;
  } cases[] = {
      {false, false, false, false, criv1::POD, criv1::CONTAINER, criv1::POD},
      {true, false, false, false, criv1::NODE, criv1::CONTAINER, criv1::POD},
      {false, true, false, false, criv1::POD, criv1::NODE, criv1::POD},
      {false, false, true, false, criv1::POD, criv1::CONTAINER, criv1::NODE},
      {false, false, false, true, criv1::POD, criv1::POD, criv1::POD},
      {true, true, true, false, criv1::NODE, criv1::NODE, criv1::NODE},
  };
  for (const Case& c : cases) {
    corev1::Pod pod;
    pod.mutable_metadata()->set_name("p");
    auto& spec = *pod.mutable_spec();
    spec.set_host_network(c.host_network);
    spec.set_host_pid(c.host_pid);
    spec.set_host_ipc(c.host_ipc);
    if (c.share_processes) spec.set_share_process_namespace(true);
    auto* port = spec.add_containers()->add_ports();
    port->set_container_port(80);
    port->set_host_port(8080);
    SandboxInputs in;
    in.hostname = "p";
    auto config = GeneratePodSandboxConfig(pod, in);
    ASSERT_TRUE(config.ok()) << config.status();
    auto container = GenerateContainerConfig(pod, spec.containers(0), ContainerInputs());
    ASSERT_TRUE(container.ok()) << container.status();
    for (const criv1::NamespaceOption* got : {&config->linux().security_context().namespace_options(),
                                              &container->linux().security_context().namespace_options()}) {
      EXPECT_EQ(got->network(), c.network);
      EXPECT_EQ(got->pid(), c.pid);
      EXPECT_EQ(got->ipc(), c.ipc);
    }
    // A pod on the host's network has the host's name and ports.
    EXPECT_EQ(config->hostname(), c.host_network ? "" : "p");
    EXPECT_EQ(config->port_mappings_size(), c.host_network ? 0 : 1);
  }
}

TEST(GenerateContainerConfigTest, NonRoot) {
  corev1::Pod pod;
  corev1::Container c;
  c.mutable_security_context()->set_run_as_non_root(true);
  ContainerInputs in;
  in.image_uid = 0;
  EXPECT_FALSE(GenerateContainerConfig(pod, c, in).ok());
  c.mutable_security_context()->set_run_as_user(1000);
  EXPECT_EQ(GenerateContainerConfig(pod, c, in)->linux().security_context().run_as_user().value(), 1000);
}

TEST(GenerateContainerConfigTest, SubPathAndTag) {
  corev1::VolumeMount m;
  m.set_sub_path_expr("$(POD)/logs");
  EXPECT_EQ(*ExpandSubPath(m, {{"POD", "p1"}}), "p1/logs");
  EXPECT_FALSE(ExpandSubPath(m, {}).ok());
  m.clear_sub_path_expr();
  m.set_sub_path("../x");
  EXPECT_FALSE(ExpandSubPath(m, {}).ok());
  EXPECT_EQ(ApplyDefaultImageTag("nginx"), "nginx:latest");
  EXPECT_EQ(ApplyDefaultImageTag("localhost:5000/nginx"), "localhost:5000/nginx:latest");
  EXPECT_EQ(ApplyDefaultImageTag("nginx:1"), "nginx:1");
  EXPECT_EQ(ApplyDefaultImageTag("a@sha256:00"), "a@sha256:00");
}

TEST(StatusPatchTest, OnlyWhatDiffers) {
  corev1::PodStatus a, b;
  a.set_phase("Pending");
  a.set_reason("Old");
  auto* c = a.add_conditions();
  c->set_type("Ready");
  c->set_status("False");
  b = a;
  EXPECT_EQ(MakeStatusPatch("u", a, b), "");
  b.set_phase("Running");
  b.clear_reason();
  b.mutable_conditions(0)->set_status("True");
  std::string patch = MakeStatusPatch("u", a, b);
  EXPECT_THAT(patch, HasSubstr("\"metadata\":{\"uid\":\"u\"}"));
  EXPECT_THAT(patch, HasSubstr("\"phase\":\"Running\""));
  EXPECT_THAT(patch, HasSubstr("\"reason\":null"));
  EXPECT_THAT(patch, HasSubstr("\"type\":\"Ready\""));
}

}  // namespace
}  // namespace keelson::kubelet
