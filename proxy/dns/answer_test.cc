#include "proxy/dns/answer.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>

#include "base/fd.h"
#include "proxy/dns/ldns.h"
#include "proxy/testing/builders.h"

namespace keelson::proxy::dns {
namespace {

using Strings = std::vector<std::string>;

struct Query {
  std::string name;
  ldns_rr_type type = LDNS_RR_TYPE_A;
  int edns_bytes = 0;  // 0: no EDNS
  ldns_rr_class klass = LDNS_RR_CLASS_IN;
  std::string Wire() const {
    ldns_pkt* p = ldns_pkt_query_new(ldns_dname_new_frm_str(name.c_str()), type, klass, LDNS_RD);
    ldns_pkt_set_id(p, 0x1234);
    if (edns_bytes > 0) ldns_pkt_set_edns_udp_size(p, edns_bytes);
    uint8_t* bytes = nullptr;
    size_t size = 0;
    EXPECT_EQ(ldns_pkt2wire(&bytes, p, &size), LDNS_STATUS_OK);
    std::string wire(reinterpret_cast<char*>(bytes), size);
    free(bytes);
    ldns_pkt_free(p);
    return wire;
  }
};

// What a client reads out of a response.
struct Seen {
  std::string rcode;
  Strings answers, authority, additional;
  bool aa = false, tc = false, ra = false, edns = false;
};

Strings Texts(const ldns_rr_list* list) {
  Strings out;
  for (size_t i = 0; i < ldns_rr_list_rr_count(list); ++i) {
    char* text = ldns_rr2str(ldns_rr_list_rr(list, i));
    std::string line(text);
    free(text);
    while (!line.empty() && line.back() == '\n') line.pop_back();
    for (char& c : line) c = c == '\t' ? ' ' : c;
    out.push_back(line);
  }
  return out;
}

Seen Read(const std::string& wire) {
  Seen seen;
  ldns_pkt* p = nullptr;
  ldns_status status = ldns_wire2pkt(&p, reinterpret_cast<const uint8_t*>(wire.data()), wire.size());
  EXPECT_EQ(status, LDNS_STATUS_OK);
  if (status != LDNS_STATUS_OK) return seen;
  EXPECT_TRUE(ldns_pkt_qr(p));
  char* rcode = ldns_pkt_rcode2str(ldns_pkt_get_rcode(p));
  seen.rcode = rcode;
  free(rcode);
  if (ldns_pkt_edns_extended_rcode(p) == 1) seen.rcode = "BADVERS";
  seen.answers = Texts(ldns_pkt_answer(p));
  seen.authority = Texts(ldns_pkt_authority(p));
  seen.additional = Texts(ldns_pkt_additional(p));
  seen.aa = ldns_pkt_aa(p);
  seen.tc = ldns_pkt_tc(p);
  seen.ra = ldns_pkt_ra(p);
  seen.edns = ldns_pkt_edns(p);
  ldns_pkt_free(p);
  return seen;
}

DnsRecords Records() {
  ServiceInfos services = {
      Service("default", "kubernetes", "10.96.0.1", {{"https", Protocol::kTcp, 443}}),
      Service("default", "mysql", "10.96.10.1", {{"", Protocol::kTcp, 3306}}),
      Service("prod", "dual", "10.96.10.9", {{"", Protocol::kTcp, 80}}),
      Service("prod", "db", "None", {{"sql", Protocol::kTcp, 3306}}),
      Service("prod", "empty", "None", {{"sql", Protocol::kTcp, 3306}}),
      Service("prod", "outside", "", {}),
      Service("prod", "inside", "", {}),
  };
  services["prod/dual"].cluster_ips.push_back("fd00::9");
  services["prod/outside"].external_name = "DB.Example.com.";
  services["prod/inside"].external_name = "mysql.default.svc.cluster.local";
  SliceInfo slice =
      Slice("prod", "db", "sql", 3307, {{"10.244.0.5", "a"}, {"10.244.0.6", "a"}, {"10.244.0.7", "a"}});
  slice.endpoints[0].hostname = "db-0";
  slice.endpoints[2].ready = false;
  DnsOptions options;
  options.server = *net::IpAddress::Parse("10.96.0.10");
  options.own_cidrs = {*net::Cidr::Parse("10.96.0.0/12"), *net::Cidr::Parse("10.244.0.0/16")};
  return BuildDnsRecords(services, {{"prod/db-1", slice}}, options, 7);
}

constexpr char kSoa[] =
    "cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 7 7200 1800 86400 5";

struct Case {
  std::string name;
  ldns_rr_type type;
  std::string rcode;
  Strings answers;
};

TEST(DnsAnswer, Table) {
  const DnsRecords records = Records();
  const std::vector<Case> cases = {
      {"mysql.default.svc.cluster.local",
       LDNS_RR_TYPE_A,
       "NOERROR",
       {"mysql.default.svc.cluster.local. 30 IN A 10.96.10.1"}},
      {"MySQL.Default.SVC.cluster.LOCAL",
       LDNS_RR_TYPE_A,
       "NOERROR",
       {"MySQL.Default.SVC.cluster.LOCAL. 30 IN A 10.96.10.1"}},
      {"mysql.default.svc.cluster.local", LDNS_RR_TYPE_AAAA, "NOERROR", {}},
      {"dual.prod.svc.cluster.local",
       LDNS_RR_TYPE_AAAA,
       "NOERROR",
       {"dual.prod.svc.cluster.local. 30 IN AAAA fd00::9"}},
      {"mysql.prod.svc.cluster.local", LDNS_RR_TYPE_A, "NXDOMAIN", {}},
      {"mysql.default.svc.cluster.local.default.svc.cluster.local", LDNS_RR_TYPE_A, "NXDOMAIN", {}},
      {"www.example.com.cluster.local", LDNS_RR_TYPE_A, "NXDOMAIN", {}},
      // empty non-terminals exist
      {"default.svc.cluster.local", LDNS_RR_TYPE_A, "NOERROR", {}},
      {"nosuch.svc.cluster.local", LDNS_RR_TYPE_A, "NXDOMAIN", {}},
      {"svc.cluster.local", LDNS_RR_TYPE_A, "NOERROR", {}},
      {"cluster.local", LDNS_RR_TYPE_A, "NOERROR", {}},
      {"_tcp.kubernetes.default.svc.cluster.local", LDNS_RR_TYPE_SRV, "NOERROR", {}},
      {"_udp.kubernetes.default.svc.cluster.local", LDNS_RR_TYPE_SRV, "NXDOMAIN", {}},
      // SRV
      {"_https._tcp.kubernetes.default.svc.cluster.local",
       LDNS_RR_TYPE_SRV,
       "NOERROR",
       {"_https._tcp.kubernetes.default.svc.cluster.local. 30 IN SRV 0 100 443 "
        "kubernetes.default.svc.cluster.local."}},
      {"_http._tcp.kubernetes.default.svc.cluster.local", LDNS_RR_TYPE_SRV, "NXDOMAIN", {}},
      {"_sql._tcp.db.prod.svc.cluster.local",
       LDNS_RR_TYPE_SRV,
       "NOERROR",
       {"_sql._tcp.db.prod.svc.cluster.local. 5 IN SRV 0 50 3307 db-0.db.prod.svc.cluster.local.",
        "_sql._tcp.db.prod.svc.cluster.local. 5 IN SRV 0 50 3307 10-244-0-6.db.prod.svc.cluster.local."}},
      // headless
      {"db.prod.svc.cluster.local",
       LDNS_RR_TYPE_A,
       "NOERROR",
       {"db.prod.svc.cluster.local. 5 IN A 10.244.0.5", "db.prod.svc.cluster.local. 5 IN A 10.244.0.6"}},
      {"db-0.db.prod.svc.cluster.local",
       LDNS_RR_TYPE_A,
       "NOERROR",
       {"db-0.db.prod.svc.cluster.local. 5 IN A 10.244.0.5"}},
      {"db-1.db.prod.svc.cluster.local", LDNS_RR_TYPE_A, "NXDOMAIN", {}},
      {"empty.prod.svc.cluster.local", LDNS_RR_TYPE_A, "NOERROR", {}},
      // pods
      {"10-244-0-99.default.pod.cluster.local",
       LDNS_RR_TYPE_A,
       "NOERROR",
       {"10-244-0-99.default.pod.cluster.local. 5 IN A 10.244.0.99"}},
      {"10-244-0-999.default.pod.cluster.local", LDNS_RR_TYPE_A, "NXDOMAIN", {}},
      {"10-244-0-9.nosuch.pod.cluster.local", LDNS_RR_TYPE_A, "NXDOMAIN", {}},
      // reverse
      {"1.10.96.10.in-addr.arpa",
       LDNS_RR_TYPE_PTR,
       "NOERROR",
       {"1.10.96.10.in-addr.arpa. 5 IN PTR mysql.default.svc.cluster.local."}},
      {"5.0.244.10.in-addr.arpa",
       LDNS_RR_TYPE_PTR,
       "NOERROR",
       {"5.0.244.10.in-addr.arpa. 5 IN PTR db-0.db.prod.svc.cluster.local."}},
      {"77.0.244.10.in-addr.arpa", LDNS_RR_TYPE_PTR, "NXDOMAIN", {}},
      {"9.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa",
       LDNS_RR_TYPE_PTR,
       "NOERROR",
       {"9.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa. 5 IN PTR "
        "dual.prod.svc.cluster.local."}},
      // the zone itself
      {"cluster.local", LDNS_RR_TYPE_SOA, "NOERROR", {kSoa}},
      {"ns.dns.cluster.local", LDNS_RR_TYPE_A, "NOERROR", {"ns.dns.cluster.local. 30 IN A 10.96.0.10"}},
      {"dns-version.cluster.local",
       LDNS_RR_TYPE_TXT,
       "NOERROR",
       {"dns-version.cluster.local. 5 IN TXT \"1.1.0\""}},
      {"cluster.local", LDNS_RR_TYPE_AXFR, "REFUSED", {}},
      // a Service that is another's name
      {"inside.prod.svc.cluster.local",
       LDNS_RR_TYPE_A,
       "NOERROR",
       {"inside.prod.svc.cluster.local. 5 IN CNAME mysql.default.svc.cluster.local.",
        "mysql.default.svc.cluster.local. 30 IN A 10.96.10.1"}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    DnsReply reply = Answer(Query{c.name, c.type}.Wire(), records, {});
    ASSERT_EQ(reply.action, DnsReply::kRespond);
    Seen seen = Read(reply.wire);
    EXPECT_EQ(seen.rcode, c.rcode);
    EXPECT_EQ(seen.answers, c.answers);
    EXPECT_TRUE(seen.ra);
    EXPECT_EQ(seen.aa, c.rcode != "REFUSED");
    bool negative = c.answers.empty() && c.rcode != "REFUSED";
    EXPECT_EQ(seen.authority, negative ? Strings{kSoa} : Strings{});
  }
}

TEST(DnsAnswer, SrvCarriesAddresses) {
  DnsReply reply =
      Answer(Query{"_sql._tcp.db.prod.svc.cluster.local", LDNS_RR_TYPE_SRV}.Wire(), Records(), {});
  EXPECT_EQ(Read(reply.wire).additional,
            (Strings{"db-0.db.prod.svc.cluster.local. 5 IN A 10.244.0.5",
                     "10-244-0-6.db.prod.svc.cluster.local. 5 IN A 10.244.0.6"}));
}

TEST(DnsAnswer, RotationMovesTheFirstAddress) {
  DnsReply reply = Answer(Query{"db.prod.svc.cluster.local"}.Wire(), Records(), {.rotation = 1});
  EXPECT_EQ(Read(reply.wire).answers[0], "db.prod.svc.cluster.local. 5 IN A 10.244.0.6");
}

TEST(DnsAnswer, ForeignNamesAreForwardedOrFail) {
  std::string query = Query{"www.Example.com"}.Wire();
  DnsReply reply = Answer(query, Records(), {});
  EXPECT_EQ(reply.action, DnsReply::kForward);
  EXPECT_EQ(Read(Answer(query, Records(), {.can_forward = false}).wire).rcode, "SERVFAIL");
  EXPECT_EQ(Answer(Query{"8.8.8.8.in-addr.arpa", LDNS_RR_TYPE_PTR}.Wire(), Records(), {}).action,
            DnsReply::kForward);
  // A look-alike of our domain is not ours.
  EXPECT_EQ(Answer(Query{"x.notcluster.local"}.Wire(), Records(), {}).action, DnsReply::kForward);
}

TEST(DnsAnswer, ExternalNameIsChasedUpstream) {
  DnsReply reply = Answer(Query{"outside.prod.svc.cluster.local"}.Wire(), Records(), {});
  ASSERT_EQ(reply.action, DnsReply::kChase);
  EXPECT_NE(reply.chase_query.find("db\aexample\3com"), std::string::npos);
  DnsRecords upstream;
  upstream.options.domain = "com";
  // Stand-in for the resolver: its answer section is one address.
  ldns_pkt* p = nullptr;
  ASSERT_EQ(
      ldns_wire2pkt(&p, reinterpret_cast<const uint8_t*>(reply.chase_query.data()), reply.chase_query.size()),
      LDNS_STATUS_OK);
  ldns_rr* rr = nullptr;
  ldns_rr_new_frm_str(&rr, "db.example.com. 60 IN A 192.0.2.7", 60, nullptr, nullptr);
  ldns_pkt_push_rr(p, LDNS_SECTION_ANSWER, rr);
  ldns_pkt_set_qr(p, true);
  uint8_t* bytes = nullptr;
  size_t size = 0;
  ldns_pkt2wire(&bytes, p, &size);
  std::string merged = MergeChase(reply.wire, std::string_view(reinterpret_cast<char*>(bytes), size), false);
  free(bytes);
  ldns_pkt_free(p);
  EXPECT_EQ(Read(merged).answers, (Strings{"outside.prod.svc.cluster.local. 5 IN CNAME db.example.com.",
                                           "db.example.com. 60 IN A 192.0.2.7"}));
  EXPECT_EQ(MergeChase(reply.wire, "garbage", false), reply.wire);
}

TEST(DnsAnswer, LargeAnswersAreCutToWhatTheClientTakes) {
  std::vector<std::pair<std::string, std::string>> endpoints;
  for (int i = 0; i < 200; ++i) endpoints.push_back({"10.244.1." + std::to_string(i + 1), "a"});
  ServiceInfos services = {Service("prod", "many", "None", {{"", Protocol::kTcp, 80}})};
  DnsRecords records = BuildDnsRecords(services, {{"s", Slice("prod", "many", "", 80, endpoints)}}, {}, 1);
  auto ask = [&](int edns_bytes, bool tcp) {
    Query query{.name = "many.prod.svc.cluster.local", .edns_bytes = edns_bytes};
    return Answer(query.Wire(), records, {.tcp = tcp}).wire;
  };
  EXPECT_LE(ask(0, false).size(), kClassicUdpBytes);
  EXPECT_TRUE(Read(ask(0, false)).tc);
  EXPECT_FALSE(Read(ask(0, false)).answers.empty());
  EXPECT_LE(ask(4096, false).size(), kMaxUdpResponseBytes);
  EXPECT_GT(ask(4096, false).size(), kClassicUdpBytes);
  EXPECT_TRUE(Read(ask(4096, false)).edns);
  EXPECT_LE(ask(100, false).size(), kClassicUdpBytes);  // RFC 6891: less than 512 is 512
  EXPECT_EQ(Read(ask(0, true)).answers.size(), 200u);
  EXPECT_FALSE(Read(ask(0, true)).tc);
}

TEST(DnsAnswer, OnlyQuestionsOfTheInternetClass) {
  std::string good = Query{"mysql.default.svc.cluster.local"}.Wire();
  const DnsRecords records = Records();
  std::string response = good;
  response[2] = static_cast<char>(response[2] | 0x80);
  EXPECT_EQ(Answer(response, records, {}).action, DnsReply::kDrop);
  EXPECT_EQ(Answer("", records, {}).action, DnsReply::kDrop);
  EXPECT_EQ(Answer(good.substr(0, 11), records, {}).action, DnsReply::kDrop);
  EXPECT_EQ(Read(Answer(good.substr(0, 20), records, {}).wire).rcode, "FORMERR");
  std::string update = good;
  update[2] = static_cast<char>(5 << 3);
  EXPECT_EQ(Read(Answer(update, records, {}).wire).rcode, "NOTIMPL");
  Query chaos{.name = "version.bind", .type = LDNS_RR_TYPE_TXT, .klass = LDNS_RR_CLASS_CH};
  EXPECT_EQ(Read(Answer(chaos.Wire(), records, {}).wire).rcode, "REFUSED");
  EXPECT_EQ(Read(ServerFailure(good)).rcode, "SERVFAIL");
  EXPECT_EQ(Read(Refused(good)).rcode, "REFUSED");
}

TEST(DnsAnswer, UnknownEdnsVersion) {
  std::string query = Query{.name = "mysql.default.svc.cluster.local", .edns_bytes = 1232}.Wire();
  query[query.size() - 5] =
      1;  // OPT: root(1) type(2) size(2) extended-rcode(1) VERSION(1) flags(2) length(2)
  EXPECT_EQ(Read(Answer(query, Records(), {}).wire).rcode, "BADVERS");
}

// The corpus of tests/fuzz/dns_query_fuzz.cc, replayed.
TEST(DnsAnswer, FuzzCorpus) {
  const DnsRecords records = Records();
  int seen = 0;
  for (const auto& entry : std::filesystem::directory_iterator("tests/fuzz/corpus/dns_query")) {
    absl::StatusOr<std::string> query = ReadFile(entry.path().string());
    ASSERT_TRUE(query.ok());
    DnsReply reply = Answer(*query, records, {});
    EXPECT_LE(reply.wire.size(), kMaxUdpResponseBytes);
    ++seen;
  }
  EXPECT_GE(seen, 8);
}

}  // namespace
}  // namespace keelson::proxy::dns
