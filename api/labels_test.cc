#include "api/labels.h"

#include <gtest/gtest.h>

#include "api/fields.h"

namespace keelson::api {
namespace {

LabelMap Labels(std::initializer_list<std::pair<const char*, const char*>> pairs) {
  LabelMap map;
  for (const auto& [key, value] : pairs) map[key] = value;
  return map;
}

TEST(LabelSelector, ParseAndMatch) {
  const LabelMap labels = Labels({{"app", "mysql"}, {"tier", "db"}, {"rank", "7"}, {"empty", ""}});
  const struct {
    const char* selector;
    bool match;
  } kCases[] = {
      {"", true},
      {"app=mysql", true},
      {"app==mysql", true},
      {"app=web", false},
      {"app!=web", true},
      {"other!=x", true},
      {"app", true},
      {"!app", false},
      {"!other", true},
      {"app in (mysql,web)", true},
      {"app in (web)", false},
      {"app notin (web)", true},
      {"other notin (web)", true},
      {"app=mysql,tier=db", true},
      {"app=mysql,tier=web", false},
      {" app = mysql , tier in ( db , x )", true},
      {"rank>6", true},
      {"rank>7", false},
      {"rank<8", true},
      {"empty=", true},
      {"empty=,app", true},
      {"app=", false},
      {"empty in ()", true},
      {"a.b/c=d", false},
  };
  for (const auto& c : kCases) {
    auto selector = LabelSelector::Parse(c.selector);
    ASSERT_TRUE(selector.ok()) << c.selector << ": " << selector.status();
    EXPECT_EQ(selector->Matches(labels), c.match) << c.selector;
    auto again = LabelSelector::Parse(selector->ToString());
    ASSERT_TRUE(again.ok()) << selector->ToString();
    EXPECT_EQ(again->ToString(), selector->ToString());
  }
}

TEST(LabelSelector, Refuses) {
  for (const char* bad :
       {"a=b c", ",", "a,", "a=b,,c=d", "a in b", "a in (b", "a in (b c)", "!", "!!a", "=b", "a===b", "a<b",
        "a>", "-a=b", "a=-b", "a/b/c=d", "a=b)", "a b", "UPPER.com/x=y,/y=z"}) {
    EXPECT_FALSE(LabelSelector::Parse(bad).ok()) << bad;
  }
  EXPECT_FALSE(LabelSelector::Parse(std::string(70000, 'a')).ok());
}

TEST(LabelSelector, FromMessage) {
  ::k8s::meta::v1::LabelSelector message;
  EXPECT_TRUE(LabelSelector::FromMessage(message)->Empty());
  (*message.mutable_match_labels())["app"] = "web";
  auto* e = message.add_match_expressions();
  e->set_key("tier");
  e->set_operator_("NotIn");
  e->add_values("db");
  auto selector = LabelSelector::FromMessage(message);
  ASSERT_TRUE(selector.ok());
  EXPECT_EQ(selector->ToString(), "app=web,tier!=db");
  EXPECT_TRUE(selector->Matches(Labels({{"app", "web"}})));
  EXPECT_FALSE(selector->Matches(Labels({{"app", "web"}, {"tier", "db"}})));
  e->set_operator_("Near");
  EXPECT_EQ(LabelSelector::FromMessage(message).status().message(),
            "\"Near\" is not a valid label selector operator");
  e->set_operator_("Exists");
  EXPECT_FALSE(LabelSelector::FromMessage(message).ok());
  EXPECT_FALSE(LabelSelector::Nothing().Matches({}));
  EXPECT_FALSE(SelectsNonEmpty({}, Labels({{"a", "b"}})));
  EXPECT_TRUE(SelectsNonEmpty(Labels({{"a", "b"}}), Labels({{"a", "b"}, {"c", "d"}})));
}

TEST(Names, Rules) {
  EXPECT_TRUE(IsQualifiedName("app.kubernetes.io/name").empty());
  EXPECT_TRUE(IsQualifiedName("a").empty());
  EXPECT_FALSE(IsQualifiedName("").empty());
  EXPECT_FALSE(IsQualifiedName("/a").empty());
  EXPECT_FALSE(IsQualifiedName("A_b/" + std::string(64, 'x')).empty());
  EXPECT_TRUE(IsValidLabelValue("").empty());
  EXPECT_FALSE(IsValidLabelValue("has space").empty());
  EXPECT_TRUE(IsDns1123Subdomain("a.b-c.d").empty());
  EXPECT_FALSE(IsDns1123Subdomain("a..b").empty());
  EXPECT_FALSE(IsDns1123Subdomain("").empty());
  EXPECT_TRUE(IsDns1123Label("1a").empty());
  EXPECT_FALSE(IsDns1123Label("A").empty());
}

TEST(FieldSelector, ParseAndMatch) {
  auto get = [](std::string_view field) -> std::string {
    if (field == "metadata.name") return "web";
    if (field == "status.phase") return "Running";
    return field == "x" ? "a,b=c" : "";
  };
  const struct {
    const char* selector;
    bool match;
  } kCases[] = {{"", true},
                {"metadata.name=web", true},
                {"metadata.name==web", true},
                {"metadata.name!=web", false},
                {"metadata.name=web,status.phase!=Failed", true},
                {"spec.nodeName=", true},
                {"x=a\\,b\\=c", true},
                {",metadata.name=web,", true}};
  for (const auto& c : kCases) {
    auto selector = FieldSelector::Parse(c.selector);
    ASSERT_TRUE(selector.ok()) << c.selector << selector.status();
    EXPECT_EQ(selector->Matches(get), c.match) << c.selector;
    EXPECT_EQ(FieldSelector::Parse(selector->ToString())->ToString(), selector->ToString());
  }
  EXPECT_EQ(*FieldSelector::Parse("spec.nodeName=n1")->RequiresExactMatch("spec.nodeName"), "n1");
  EXPECT_FALSE(FieldSelector::Parse("spec.nodeName!=n1")->RequiresExactMatch("spec.nodeName").has_value());
  for (const char* bad : {"a", "=b", "!=b", "a=b=c", "a=\\x", "a=b\\"})
    EXPECT_FALSE(FieldSelector::Parse(bad).ok()) << bad;
}

TEST(NodeLabels, WhatAKubeletMayGiveItself) {
  for (const char* label : {"rack", "example.com/x", "kubernetes.io/hostname", "node.kubernetes.io/x",
                            "a.kubelet.kubernetes.io/y", "notkubernetes.io/x"}) {
    EXPECT_TRUE(NodeMayLabelItself(label)) << label;
  }
  for (const char* label : {"kubernetes.io/role", "node-role.kubernetes.io/worker", "x.k8s.io/y",
                            "node-restriction.kubernetes.io/x", "a.node-restriction.kubernetes.io/x"}) {
    EXPECT_FALSE(NodeMayLabelItself(label)) << label;
  }
  EXPECT_FALSE(IsNodeDefaultLabel("node.kubernetes.io/x"));
}

}  // namespace
}  // namespace keelson::api
