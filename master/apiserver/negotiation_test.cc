#include "master/apiserver/negotiation.h"

#include <gtest/gtest.h>

#include "api/status_error.h"

namespace keelson::master {
namespace {

TEST(Negotiate, WhatKubectlSends) {
  auto table = Negotiate(
      "application/json;as=Table;v=v1;g=meta.k8s.io,application/"
      "json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
      true);
  ASSERT_TRUE(table.ok());
  EXPECT_EQ(table->transform, Transform::kTable);
  EXPECT_EQ(table->meta_version, "v1");
  auto plain = Negotiate("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", false);
  ASSERT_TRUE(plain.ok());
  EXPECT_EQ(plain->transform, Transform::kNone);
}

TEST(Negotiate, Media) {
  EXPECT_EQ(Negotiate("", true)->media, MediaType::kJson);
  EXPECT_EQ(Negotiate("*/*", true)->media, MediaType::kJson);
  EXPECT_EQ(Negotiate("application/vnd.kubernetes.protobuf,application/json", true)->media,
            MediaType::kProtobuf);
  EXPECT_EQ(Negotiate("application/yaml;q=0.5, application/json;q=0.9", true)->media, MediaType::kJson);
  EXPECT_EQ(Negotiate("application/yaml", true)->media, MediaType::kYaml);
  EXPECT_EQ(api::HttpCode(Negotiate("text/html", true).status()), 406);
  EXPECT_EQ(api::HttpCode(Negotiate("application/json;as=Tables;v=v1;g=meta.k8s.io", true).status()), 406);
}

}  // namespace
}  // namespace keelson::master
