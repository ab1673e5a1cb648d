#include "net/pki.h"

#include <absl/strings/match.h>
#include <sys/stat.h>

#include "net/test_util.h"

namespace keelson::net {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1767225600);

TEST(PkiTest, AuthorityRoundTrip) {
  CertificateAuthority ca = *CertificateAuthority::Create("keelson-ca", kNow);
  CertificateInfo info = *ParseCertificate(ca.certificate_pem());
  EXPECT_EQ(info.common_name, "keelson-ca");
  EXPECT_EQ(info.issuer_common_name, "keelson-ca");
  EXPECT_TRUE(info.is_ca);
  EXPECT_EQ(info.not_before, kNow - absl::Hours(1));
  EXPECT_EQ(info.not_after, kNow + kDefaultCaValidity);
  EXPECT_EQ(info.fingerprint_sha256.size(), 64u);
  CertificateAuthority again = *CertificateAuthority::Load(ca.pair());
  EXPECT_EQ(again.certificate_pem(), ca.certificate_pem());
}

TEST(PkiTest, LeafCarriesWhatWasAsked) {
  CertificateAuthority ca = *CertificateAuthority::Create("keelson-ca", kNow);
  CertificateSpec spec;
  spec.common_name = "system:node:n1";
  spec.organizations = {"system:nodes", "odd,name=with \"signs\""};
  spec.dns_names = {"n1", "localhost"};
  spec.ip_addresses = {"10.0.0.1", "2001:DB8::1"};
  spec.server = spec.client = true;
  KeyPair pair = *ca.Issue(spec, kNow);
  CertificateInfo info = *ParseCertificate(pair.certificate_pem);
  EXPECT_EQ(info.common_name, "system:node:n1");
  EXPECT_EQ(info.organizations, spec.organizations);
  EXPECT_EQ(info.dns_names, spec.dns_names);
  EXPECT_EQ(info.ip_addresses, (std::vector<std::string>{"10.0.0.1", "2001:db8::1"}));
  EXPECT_FALSE(info.is_ca);
  EXPECT_TRUE(info.server);
  EXPECT_TRUE(info.client);
  EXPECT_EQ(info.issuer_common_name, "keelson-ca");
  EXPECT_EQ(info.not_before, kNow - absl::Hours(1));
  EXPECT_EQ(info.not_after, kNow + kDefaultLeafValidity);
  EXPECT_EQ(info.serial_hex.size(), 32u);
  EXPECT_TRUE(CertificateCovers(info, spec));
  EXPECT_TRUE(CheckKeyPair(pair).ok());
  EXPECT_NE(ca.Issue(spec, kNow)->certificate_pem, pair.certificate_pem);
}

TEST(PkiTest, VerificationByOpenssl) {
  CertificateAuthority ca = *CertificateAuthority::Create("ca", kNow);
  CertificateAuthority other = *CertificateAuthority::Create("ca", kNow);
  CertificateSpec spec;
  spec.common_name = "c";
  spec.client = true;
  KeyPair pair = *ca.Issue(spec, kNow);
  EXPECT_TRUE(VerifyCertificate(pair.certificate_pem, ca.certificate_pem(), kNow).ok());
  EXPECT_TRUE(
      VerifyCertificate(pair.certificate_pem, ca.certificate_pem(), kNow, CertificateUse::kClient).ok());
  EXPECT_FALSE(
      VerifyCertificate(pair.certificate_pem, ca.certificate_pem(), kNow, CertificateUse::kServer).ok());
  EXPECT_FALSE(VerifyCertificate(pair.certificate_pem, other.certificate_pem(), kNow).ok());
  absl::Status expired =
      VerifyCertificate(pair.certificate_pem, ca.certificate_pem(), kNow + absl::Hours(24 * 366));
  EXPECT_TRUE(absl::IsFailedPrecondition(expired));
  EXPECT_TRUE(absl::StrContains(expired.message(), "expired"));
  EXPECT_FALSE(VerifyCertificate(pair.certificate_pem, ca.certificate_pem(), kNow - absl::Hours(2)).ok());
  // A leaf must not act as an authority.
  EXPECT_FALSE(CertificateAuthority::Load(pair).ok());
}

TEST(PkiTest, Renewal) {
  CertificateAuthority ca = *CertificateAuthority::Create("ca", kNow);
  CertificateSpec spec;
  spec.common_name = "c";
  CertificateInfo info = *ParseCertificate(ca.Issue(spec, kNow)->certificate_pem);
  EXPECT_FALSE(NeedsRenewal(info, kNow));
  EXPECT_FALSE(NeedsRenewal(info, kNow + absl::Hours(24 * 240)));
  EXPECT_TRUE(NeedsRenewal(info, kNow + absl::Hours(24 * 250)));
  EXPECT_TRUE(NeedsRenewal(info, kNow - absl::Hours(2)));
  spec.dns_names = {"new-name"};
  EXPECT_FALSE(CertificateCovers(info, spec));
  // A leaf never outlives its authority.
  CertificateInfo late =
      *ParseCertificate(ca.Issue(spec, kNow + kDefaultCaValidity - absl::Hours(1))->certificate_pem);
  EXPECT_EQ(late.not_after, kNow + kDefaultCaValidity);
}

TEST(PkiTest, Files) {
  TempDir dir;
  std::string cert = dir.path() + "/pki/ca.crt", key = dir.path() + "/pki/private/ca.key";
  EXPECT_TRUE(absl::IsNotFound(CertificateAuthority::LoadFiles(cert, key).status()));
  CertificateAuthority ca = *CertificateAuthority::Create("ca", kNow);
  ASSERT_TRUE(SaveKeyPair(ca.pair(), cert, key).ok());
  struct stat info;
  ASSERT_EQ(::stat(key.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  EXPECT_EQ(CertificateAuthority::LoadFiles(cert, key)->certificate_pem(), ca.certificate_pem());
  KeyPair mixed = ca.pair();
  mixed.private_key_pem = *GeneratePrivateKeyPem();
  EXPECT_TRUE(absl::IsInvalidArgument(CheckKeyPair(mixed)));
  EXPECT_TRUE(absl::IsInvalidArgument(SaveKeyPair(mixed, cert, key)));
  EXPECT_TRUE(absl::IsInvalidArgument(CertificateAuthority::Load(mixed).status()));
}

TEST(PkiTest, BadInput) {
  EXPECT_FALSE(ParseCertificate("not pem").ok());
  CertificateAuthority ca = *CertificateAuthority::Create("ca", kNow);
  CertificateSpec spec;
  spec.common_name = std::string(65, 'n');
  EXPECT_TRUE(absl::IsInvalidArgument(ca.Issue(spec, kNow).status()));
  spec.common_name = "n";
  spec.ip_addresses = {"300.1.1.1"};
  EXPECT_TRUE(absl::IsInvalidArgument(ca.Issue(spec, kNow).status()));
  TlsServerConfig config;
  EXPECT_TRUE(absl::IsInvalidArgument(TlsServerContext::Create(config).status()));
}

}  // namespace
}  // namespace keelson::net
