#include "net/tls_files.h"

#include "base/fake_env.h"
#include "base/fd.h"
#include "net/test_util.h"

namespace keelson::net {
namespace {

class TlsFilesTest : public ::testing::Test {
 protected:
  void Write(const std::string& path, const std::string& text) {
    ASSERT_TRUE(WriteFileAtomic(path, text, 0600, false).ok());
  }
  void Write(const KeyPair& pair) {
    Write(files_.certificate_file, pair.certificate_pem);
    Write(files_.private_key_file, pair.private_key_pem);
  }
  FakeEnv env_;
  TempDir dir_;
  TestPki pki_{env_.clock().Now()};
  TlsServerFiles files_{dir_.path() + "/tls.crt", dir_.path() + "/tls.key", ""};
};

TEST_F(TlsFilesTest, WhatBelongsTogether) {
  EXPECT_TRUE(CheckTlsServerFiles({}).ok());
  EXPECT_TRUE(CheckTlsServerFiles({"c", "k", ""}).ok());
  EXPECT_TRUE(CheckTlsServerFiles({"c", "k", "ca"}).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(CheckTlsServerFiles({"c", "", ""})));
  EXPECT_TRUE(absl::IsInvalidArgument(CheckTlsServerFiles({"", "k", ""})));
  EXPECT_TRUE(absl::IsInvalidArgument(CheckTlsServerFiles({"", "", "ca"})));
  EXPECT_TRUE(absl::IsInvalidArgument(ReadTlsClientFiles({"", "c", ""}).status()));
}

TEST_F(TlsFilesTest, Read) {
  auto missing = ReadTlsServerFiles(files_);
  EXPECT_TRUE(absl::IsNotFound(missing.status()));
  EXPECT_NE(missing.status().message().find("tls.crt"), absl::string_view::npos);
  Write(pki_.server);
  EXPECT_EQ(ReadTlsServerFiles(files_)->client_certificates, ClientCertificates::kNone);
  files_.client_ca_file = dir_.path() + "/ca.crt";
  EXPECT_TRUE(absl::IsNotFound(ReadTlsServerFiles(files_).status()));
  Write(files_.client_ca_file, pki_.ca.certificate_pem());
  EXPECT_EQ(ReadTlsServerFiles(files_)->client_certificates, ClientCertificates::kRequired);
  EXPECT_TRUE(TlsServerContext::Create(*ReadTlsServerFiles(files_)).ok());

  EXPECT_TRUE(ReadTlsClientFiles({})->ca_pem.empty());
  Write(files_.client_ca_file, "");
  // Empty would mean the system's authorities to the context.
  EXPECT_TRUE(absl::IsInvalidArgument(ReadTlsClientFiles({files_.client_ca_file, "", ""}).status()));
}

TEST_F(TlsFilesTest, RenewedFilesAreTakenUpWhenTheyFit) {
  Write(pki_.server);
  std::vector<std::shared_ptr<TlsServerContext>> used;
  Scope scope(env_.executor());
  scope.Spawn("reload", ReloadTls(
                            &env_.clock(), "test", [this] { return ReadTlsServerFiles(files_); },
                            *ReadTlsServerFiles(files_),
                            [&used](auto context) { used.push_back(std::move(context)); }));
  env_.Settle();
  env_.Advance(kTlsReloadInterval * 3);
  EXPECT_EQ(used.size(), 0u);
  // The certificate is there before its key.
  Write(files_.certificate_file, pki_.client.certificate_pem);
  env_.Advance(kTlsReloadInterval);
  EXPECT_EQ(used.size(), 0u);
  ::unlink(files_.certificate_file.c_str());
  env_.Advance(kTlsReloadInterval);
  EXPECT_EQ(used.size(), 0u);
  Write(pki_.client);
  env_.Advance(kTlsReloadInterval);
  EXPECT_EQ(used.size(), 1u);
  env_.Advance(kTlsReloadInterval * 3);
  EXPECT_EQ(used.size(), 1u);
  // And back.
  Write(pki_.server);
  env_.Advance(kTlsReloadInterval);
  EXPECT_EQ(used.size(), 2u);
  env_.AwaitVoid(scope.Close());
}

}  // namespace
}  // namespace keelson::net
