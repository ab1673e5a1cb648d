#include "cri/cni/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.h"
#include "cri/cni/record.h"

namespace keelson::cri {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kList[] = R"({
  "cniVersion": "1.0.0", "name": "pods", "disableCheck": true,
  "plugins": [
    {"type": "ptp", "mtu": 1500, "ipam": {"type": "host-local"}},
    {"type": "bandwidth", "capabilities": {"bandwidth": true, "ips": false}},
    {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}
  ]})";

TEST(CniConfig, ListAndSingleConfiguration) {
  absl::StatusOr<CniNetwork> list = ParseCniNetwork(kList);
  ASSERT_TRUE(list.ok()) << list.status();
  EXPECT_EQ(list->name, "pods");
  EXPECT_EQ(list->cni_version, "1.0.0");
  EXPECT_TRUE(list->disable_check);
  ASSERT_EQ(list->plugins.size(), 3u);
  EXPECT_EQ(list->plugins[1].type, "bandwidth");
  EXPECT_THAT(list->plugins[1].capabilities, ElementsAre("bandwidth"));

  absl::StatusOr<CniNetwork> single =
      ParseCniNetwork(R"({"cniVersion":"0.3.1","name":"one","type":"bridge","bridge":"b0"})");
  ASSERT_TRUE(single.ok()) << single.status();
  EXPECT_EQ(single->cni_version, "0.3.1");
  ASSERT_EQ(single->plugins.size(), 1u);
  EXPECT_EQ(single->plugins[0].type, "bridge");
  // What is kept on disk is a list, and means the same.
  absl::StatusOr<CniNetwork> again = ParseCniNetwork(single->json);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->json, single->json);
}

TEST(CniConfig, Versions) {
  struct Row {
    const char* versions;
    const char* chosen;  // "": refused
  } rows[] = {
      {R"("cniVersion":"0.3.0",)", "0.3.0"},
      {R"("cniVersion":"0.4.0",)", "0.4.0"},
      {R"("cniVersion":"1.1.0",)", "1.1.0"},
      {"", "0.1.0"},
      {R"("cniVersion":"2.0.0",)", ""},
      {R"("cniVersion":7,)", ""},
      {R"("cniVersion":"2.0.0","cniVersions":["0.4.0","1.0.0","2.0.0"],)", "1.0.0"},
      {R"("cniVersion":"0.4.0","cniVersions":["0.4.0","1.1.0"],)", "1.1.0"},
      {R"("cniVersions":[1],)", ""},
  };
  for (const Row& row : rows) {
    absl::StatusOr<CniNetwork> network =
        ParseCniNetwork(StrCat("{", row.versions, R"("name":"n","plugins":[{"type":"ptp"}]})"));
    EXPECT_EQ(network.ok() ? network->cni_version : "", row.chosen) << row.versions << network.status();
  }
  EXPECT_TRUE(CniVersionAtLeast("1.0.0", "0.4.0"));
  EXPECT_TRUE(CniVersionAtLeast("0.4.0", "0.4.0"));
  EXPECT_FALSE(CniVersionAtLeast("0.3.1", "0.4.0"));
  EXPECT_FALSE(CniVersionAtLeast("0.10.x", "0.4.0"));
}

TEST(CniConfig, RefusedByName) {
  struct Row {
    std::string json;
    const char* words;
  } rows[] = {
      {"", "not JSON"},
      {"[]", "not a JSON object"},
      {"{", "not JSON"},
      {R"({"name":"n","plugins":[]})", "plugins: must be a list with at least one plugin"},
      {R"({"name":"n","plugins":{}})", "plugins: must be a list"},
      {R"({"name":"../n","plugins":[{"type":"ptp"}]})", "name: "},
      {R"({"plugins":[{"type":"ptp"}]})", "name: "},
      {R"({"name":"n","plugins":[{"type":"../../bin/sh"}]})", "plugins[0]: type: bad plugin name"},
      {R"({"name":"n","plugins":[{"type":"ptp"},{}]})", "plugins[1]: type: missing"},
      {R"({"name":"n","plugins":[7]})", "plugins[0]: must be an object"},
      {R"({"name":"n","plugins":[{"type":"ptp","capabilities":{"ips":1}}]})", "capabilities.ips"},
      {R"({"name":"n","plugins":[{"type":"ptp","capabilities":[]}]})", "capabilities: must be an object"},
      {R"({"name":"n","disableCheck":5,"plugins":[{"type":"ptp"}]})", "disableCheck"},
      {R"({"name":"n"})", "type: missing"},
      {R"({"name":"n","plugins":)" + std::string(100000, '[') + std::string(100000, ']') + "}",
       "nested deeper"},
      {R"({"name":"n","pad":")" + std::string(kMaxCniConfigBytes, 'x') + R"("})", "longer than"},
  };
  for (const Row& row : rows) {
    absl::StatusOr<CniNetwork> network = ParseCniNetwork(row.json);
    EXPECT_EQ(network.status().code(), absl::StatusCode::kInvalidArgument) << row.json.substr(0, 80);
    EXPECT_THAT(std::string(network.status().message()), HasSubstr(row.words));
  }
}

TEST(CniConfig, Bandwidth) {
  struct Case {
    const char *ingress, *egress;
    uint64_t ingress_bits, egress_bits;
    const char* words;  // of the error; null: none
  } cases[] = {
      {"", "", 0, 0, nullptr},
      {"10M", "", 10'000'000, 0, nullptr},
      {"", "1k", 0, 1000, nullptr},
      {"1Ki", "1P", 1024, 1'000'000'000'000'000, nullptr},
      {"1.5G", "2e6", 1'500'000'000, 2'000'000, nullptr},
      {"999", "", 0, 0, "kubernetes.io/ingress-bandwidth: \"999\": resource is unreasonably small (< 1kbit)"},
      {"", "0", 0, 0, "kubernetes.io/egress-bandwidth: \"0\": resource is unreasonably small"},
      {"-10M", "", 0, 0, "unreasonably small"},
      {"1M", "1001T", 0, 0,
       "kubernetes.io/egress-bandwidth: \"1001T\": resource is unreasonably large (> 1Pbit)"},
      {"1E", "", 0, 0, "unreasonably large"},
      {"fast", "", 0, 0, "kubernetes.io/ingress-bandwidth: \"fast\""},
      {"10 M", "", 0, 0, "kubernetes.io/ingress-bandwidth"},
      {"10Mbit", "", 0, 0, "kubernetes.io/ingress-bandwidth"},
  };
  for (const Case& c : cases) {
    absl::StatusOr<CniBandwidth> got = ParseCniBandwidth(c.ingress, c.egress);
    if (c.words != nullptr) {
      EXPECT_EQ(got.status().code(), absl::StatusCode::kInvalidArgument) << c.ingress << " " << c.egress;
      EXPECT_THAT(std::string(got.status().message()), HasSubstr(c.words));
      continue;
    }
    ASSERT_TRUE(got.ok()) << got.status();
    EXPECT_EQ(got->ingress_rate_bits, c.ingress_bits) << c.ingress;
    EXPECT_EQ(got->egress_rate_bits, c.egress_bits) << c.egress;
  }
}

TEST(CniConfig, DnsIsGivenToWhoTakesIt) {
  CniAttachment a;
  EXPECT_FALSE(CapabilityArgsOf(a).contains("dns"));
  a.dns_servers = {"10.96.0.10"};
  a.dns_searches = {"default.svc.cluster.local", "svc.cluster.local"};
  a.dns_options = {"ndots:5"};
  EXPECT_EQ(CapabilityArgsOf(a)["dns"],
            R"({"options":["ndots:5"],"searches":["default.svc.cluster.local","svc.cluster.local"],)"
            R"("servers":["10.96.0.10"]})");
  CniRecord record;
  record.attachment = a;
  record.attachment.container_id = "abc";
  record.network = *ParseCniNetwork(kList);
  absl::StatusOr<CniRecord> back = DecodeCniRecord(EncodeCniRecord(record));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->attachment.dns_servers, a.dns_servers);
  EXPECT_EQ(back->attachment.dns_searches, a.dns_searches);
  EXPECT_EQ(back->attachment.dns_options, a.dns_options);
}

TEST(CniConfig, PluginInput) {
  CniNetwork network = *ParseCniNetwork(kList);
  CniAttachment a;
  a.port_mappings = {{.host_port = 8080, .container_port = 80, .protocol = "tcp", .host_ip = "10.0.0.9"},
                     {.host_port = 53, .container_port = 53, .protocol = "udp"}};
  a.ingress_rate_bits = 1000;
  a.cgroup_path = "/kubepods/pod1";
  CniCapabilityArgs args = CapabilityArgsOf(a);
  // No capability declared: nothing of it; what the plugin's own object says stays.
  EXPECT_EQ(CniPluginInput(network, 0, args, ""),
            R"({"cniVersion":"1.0.0","ipam":{"type":"host-local"},"mtu":1500,"name":"pods","type":"ptp"})");
  EXPECT_EQ(CniPluginInput(network, 1, args, R"({"ips":[]})"),
            R"({"cniVersion":"1.0.0","name":"pods","prevResult":{"ips":[]},"runtimeConfig":{"bandwidth":)"
            R"({"ingressBurst":2147483647,"ingressRate":1000}},"type":"bandwidth"})");
  EXPECT_EQ(CniPluginInput(network, 2, args, ""),
            R"({"cniVersion":"1.0.0","name":"pods","runtimeConfig":{"portMappings":[)"
            R"({"containerPort":80,"hostIP":"10.0.0.9","hostPort":8080,"protocol":"tcp"},)"
            R"({"containerPort":53,"hostPort":53,"protocol":"udp"}]},"snat":true,"type":"portmap"})");
  // Declared and not asked for.
  EXPECT_THAT(CniPluginInput(network, 2, {}, ""), Not(HasSubstr("runtimeConfig")));
  EXPECT_EQ(CniGcInput(network, 0, {{"abc", "eth0"}}),
            R"({"cni.dev/valid-attachments":[{"containerID":"abc","ifname":"eth0"}],"cniVersion":"1.0.0",)"
            R"("ipam":{"type":"host-local"},"mtu":1500,"name":"pods","type":"ptp"})");
}

TEST(CniResult, Addresses) {
  struct Row {
    const char* json;
    std::vector<std::string> ips;
  } rows[] = {
      {R"({"cniVersion":"1.0.0","ips":[{"address":"10.1.0.5/24","gateway":"10.1.0.1"}]})", {"10.1.0.5"}},
      {R"({"ips":[{"version":"4","address":"10.1.0.5/16"},{"version":"6","address":"fd00::5/64"}]})",
       {"10.1.0.5", "fd00::5"}},
      {R"({"cniVersion":"0.2.0","ip4":{"ip":"10.1.0.5/24"},"ip6":{"ip":"FD00::0:5/64"}})",
       {"10.1.0.5", "fd00::5"}},
      {R"({})", {}},
      {R"({"ips":null})", {}},
      // The host's end of the link is not the pod's address.
      {R"({"interfaces":[{"name":"v"},{"name":"eth0","sandbox":"/n"}],"ips":[{"address":"10.1.0.1/24","interface":0},)"
       R"({"address":"10.1.0.5/24","interface":1}]})",
       {"10.1.0.5"}},
      // A plugin that says of no interface where it is.
      {R"({"interfaces":[{"name":"eth0"}],"ips":[{"address":"10.1.0.5/24","interface":0}]})", {"10.1.0.5"}},
      {R"({"interfaces":[{"name":"eth0","sandbox":"/n"}],"ips":[{"address":"10.1.0.5/24","interface":9}]})",
       {"10.1.0.5"}},
  };
  for (const Row& row : rows) {
    absl::StatusOr<CniResult> result = ParseCniResult(StrCat(" ", row.json, "\n"));
    ASSERT_TRUE(result.ok()) << row.json << result.status();
    EXPECT_EQ(result->ips, row.ips) << row.json;
    EXPECT_EQ(result->json, row.json);
  }
}

TEST(CniResult, Refused) {
  std::string many = R"({"ips":[)";
  for (int i = 0; i < 65; ++i) StrAppend(&many, i == 0 ? "" : ",", R"({"address":"10.0.0.1/8"})");
  for (const std::string& text :
       {std::string(""), std::string("null"), std::string("{\"ips\":7}"),
        std::string(R"({"ips":["10.0.0.1/8"]})"), std::string(R"({"ips":[{"address":"10.0.0.1"}]})"),
        std::string(R"({"ips":[{"address":"10.0.0.1/33"}]})"),
        std::string(R"({"ips":[{"address":"127.0.0.1/8"}]})"),
        std::string(R"({"ips":[{"address":"0.0.0.0/0"}]})"),
        std::string(R"({"ips":[{"address":"224.0.0.1/8"}]})"), std::string(R"({"ips":[{"address":7}]})"),
        std::string(R"({"ips":[{}]})"), std::string(R"({"ip4":"10.0.0.1/8"})"),
        std::string(R"({"ip6":{"ip":"fe80::1%eth0/64"}})"), many + "]}",
        std::string(1000, '[') + std::string(1000, ']'), std::string(kMaxCniResultBytes, ' ') + "{",
        std::string("{\"a\":1e999}"), std::string("{\"\xff\":1}")}) {
    EXPECT_EQ(ParseCniResult(text).status().code(), absl::StatusCode::kInvalidArgument)
        << text.substr(0, 100);
  }
}

TEST(CniError, Parsed) {
  CniPluginError error = ParseCniError(R"({"cniVersion":"1.0.0","code":7,"msg":"no subnet","details":"d"})");
  EXPECT_EQ(error.code, 7u);
  EXPECT_EQ(error.message, "no subnet");
  EXPECT_EQ(error.details, "d");
  EXPECT_EQ(ParseCniError("panic: goroutine").code, 0u);
  EXPECT_EQ(ParseCniError(R"({"code":-1,"msg":7})").message, "");
  EXPECT_EQ(ParseCniError(R"({"code":99999999999})").code, UINT32_MAX);
}

TEST(CniAttachmentTest, Validation) {
  CniAttachment good{
      .container_id = "abc123", .interface = "eth0", .pod_name = "web-0", .pod_namespace = "default"};
  EXPECT_TRUE(ValidateCniAttachment(good).ok());
  good.pod_uid = "u1";
  EXPECT_EQ(CniArgs(good),
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=abc123;"
            "K8S_POD_UID=u1");
  auto refused = [&](auto change) {
    CniAttachment bad = good;
    change(&bad);
    EXPECT_EQ(ValidateCniAttachment(bad).code(), absl::StatusCode::kInvalidArgument);
  };
  refused([](CniAttachment* a) { a->container_id = ""; });
  refused([](CniAttachment* a) { a->container_id = "../x"; });
  refused([](CniAttachment* a) { a->container_id = "a@b"; });
  refused([](CniAttachment* a) { a->interface = ""; });
  refused([](CniAttachment* a) { a->interface = ".."; });
  refused([](CniAttachment* a) { a->interface = "a/b"; });
  refused([](CniAttachment* a) { a->interface = "sixteen-letters-"; });
  refused([](CniAttachment* a) { a->pod_name = "x;K8S_POD_NAMESPACE=kube-system"; });
  refused([](CniAttachment* a) { a->pod_namespace = "a=b"; });
  refused([](CniAttachment* a) { a->pod_uid = "u\n"; });
}

TEST(CniTemplate, Filled) {
  std::string text =
      R"({"name":"n","plugins":[{"type":"ptp","ipam":{"type":"host-local","subnet":"{{.PodCIDR}}",)"
      R"("ranges":{{.Ranges}},"routes":{{.Routes}}}}]})";
  absl::StatusOr<std::string> filled = FillCniTemplate(text, "10.244.3.7/24, fd00:3::/64");
  ASSERT_TRUE(filled.ok()) << filled.status();
  EXPECT_EQ(*filled,
            R"({"name":"n","plugins":[{"type":"ptp","ipam":{"type":"host-local","subnet":"10.244.3.0/24",)"
            R"("ranges":[[{"subnet":"10.244.3.0/24"}],[{"subnet":"fd00:3::/64"}]],)"
            R"("routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}}]})");
  EXPECT_FALSE(FillCniTemplate(text, "").ok());
  EXPECT_FALSE(FillCniTemplate(text, "10.244.3.0").ok());
  EXPECT_FALSE(
      FillCniTemplate(R"({"name":"n","plugins":[{"type":"ptp","mtu":{{.MTU}}}]})", "10.0.0.0/8").ok());
  EXPECT_FALSE(FillCniTemplate(R"({"name":"n"})", "10.0.0.0/8").ok());
}

TEST(CniRecordTest, RoundTrip) {
  CniRecord record;
  record.attachment = {.container_id = "abc",
                       .netns_path = "/run/n",
                       .interface = "eth0",
                       .pod_name = "p",
                       .pod_namespace = "ns",
                       .pod_uid = "u"};
  record.attachment.port_mappings = {
      {.host_port = 1, .container_port = 2, .protocol = "tcp", .host_ip = "::1"}};
  record.attachment.egress_rate_bits = uint64_t{1} << 60;
  record.attachment.cgroup_path = "/c";
  record.added = true;
  record.network = *ParseCniNetwork(kList);
  record.result_json = R"({"ips": [{"address":"10.1.0.5/24"}]})";
  std::string text = EncodeCniRecord(record);
  absl::StatusOr<CniRecord> back = DecodeCniRecord(text);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(EncodeCniRecord(*back), text);
  EXPECT_EQ(back->result_json, record.result_json);
  EXPECT_EQ(back->network.plugins.size(), 3u);
  EXPECT_EQ(back->attachment.port_mappings[0].host_ip, "::1");
  EXPECT_EQ(back->attachment.egress_rate_bits, uint64_t{1} << 60);
  for (size_t length : {size_t{0}, size_t{1}, text.size() / 2, text.size() - 1})
    EXPECT_EQ(DecodeCniRecord(text.substr(0, length)).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(DecodeCniRecord("{}").status().code(), absl::StatusCode::kDataLoss);
  record.attachment.container_id = "../../etc/passwd";
  EXPECT_EQ(DecodeCniRecord(EncodeCniRecord(record)).status().code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace keelson::cri
