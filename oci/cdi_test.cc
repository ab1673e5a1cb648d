#include "oci/cdi.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/fd.h"
#include "base/status.h"

namespace keelson::oci {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A specification around one device's edits.
std::string Spec(const std::string& edits, const std::string& version = "1.1.0") {
  return StrCat(R"({"cdiVersion": ")", version, R"(", "kind": "vendor.com/dev", "devices": [)",
                R"({"name": "a", "containerEdits": )", edits, "}]}");
}

CdiFile File(const std::string& path, size_t dir, const std::string& json) {
  return {path, dir, ParseCdiSpec(json)};
}

const std::vector<std::string> kDirs = {"/etc/cdi", "/var/run/cdi"};

TEST(CdiTest, DeviceNames) {
  for (const char* name : {"vendor.com/gpu=0", "v/c=d", "Vendor_1-x.y/class.A_b-c=dev:0:1",
                           "nvidia.com/gpu=GPU-1a.b_c", "vendor.com/gpu=all"}) {
    EXPECT_TRUE(CheckCdiDeviceName(name).ok()) << name;
  }
  for (const std::string& name : {std::string(""),
                                  std::string("gpu"),
                                  std::string("vendor.com/gpu"),
                                  std::string("vendor.com/gpu="),
                                  std::string("vendor.com=0"),
                                  std::string("/gpu=0"),
                                  std::string("vendor.com/=0"),
                                  std::string("/dev/null"),
                                  std::string("1vendor/gpu=0"),
                                  std::string("vendor/1gpu=0"),
                                  std::string("vendor-/gpu=0"),
                                  std::string("vendor/gpu-=0"),
                                  std::string("vendor/gpu=0-"),
                                  std::string("vendor/gpu=:0"),
                                  std::string("vendor/gpu=a b"),
                                  std::string("vendor/gpu/x=0"),
                                  std::string("vendor:x/gpu=0"),
                                  std::string("vendor/gpu=a=b"),
                                  "v/" + std::string(64, 'c') + "=d",
                                  std::string(254, 'v') + "/c=d",
                                  std::string("v/c=\0", 5)}) {
    const absl::Status status = CheckCdiDeviceName(name);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << name;
    EXPECT_THAT(std::string(status.message()), HasSubstr("VENDOR/CLASS=NAME"));
  }
}

TEST(CdiTest, DevicesOfAContainer) {
  criv1::ContainerConfig config;
  EXPECT_THAT(*CdiDevicesOf(config), IsEmpty());
  config.add_cdi_devices()->set_name("v/c=1");
  config.add_cdi_devices()->set_name("v/c=0");
  config.add_cdi_devices()->set_name("v/c=1");
  auto& annotations = *config.mutable_annotations();
  annotations["cdi.k8s.io/z_plugin"] = "v/c=9";
  annotations["cdi.k8s.io/plugin_id"] = "v/c=5,v/c=0,w/c=1";
  annotations["cdi.k8s.iox/plugin"] = "no device";
  annotations["other"] = "v/c=7";
  EXPECT_THAT(*CdiDevicesOf(config), ElementsAre("v/c=1", "v/c=0", "v/c=5", "w/c=1", "v/c=9"));
  annotations["cdi.k8s.io/z_plugin"] = "v/c=9,";
  EXPECT_THAT(std::string(CdiDevicesOf(config).status().message()),
              HasSubstr("annotations[cdi.k8s.io/z_plugin]: CDI device \"\""));
  config.clear_annotations();
  config.add_cdi_devices()->set_name("gpu0");
  EXPECT_THAT(std::string(CdiDevicesOf(config).status().message()),
              HasSubstr("CDI_devices[3].name: CDI device \"gpu0\""));
  config.clear_cdi_devices();
  for (size_t i = 0; i <= kMaxCdiDevices; ++i) config.add_cdi_devices()->set_name(StrCat("v/c=", i));
  EXPECT_THAT(std::string(CdiDevicesOf(config).status().message()), HasSubstr("more than 1024"));
}

TEST(CdiTest, SpecificationsThatAreRefused) {
  struct Case {
    std::string json, want;
  };
  const std::string head = R"({"cdiVersion": "1.0.0", "kind": "v.c/d")";
  const std::string device = R"({"name": "a", "containerEdits": {"env": ["A=B"]}})";
  const Case cases[] = {
      {"", "is not JSON"},
      {"[]", "want an object"},
      {std::string(40, '[') + std::string(40, ']'), "nested"},
      {std::string(kMaxCdiFileBytes + 1, ' '), "larger"},
      {R"({"kind": "v.c/d", "devices": []})", "cdiVersion: required"},
      {R"({"cdiVersion": "9.0.0", "kind": "v.c/d", "devices": []})", "\"9.0.0\" is none of 0.3.0 to 1.1.0"},
      {R"({"cdiVersion": 1, "kind": "v.c/d", "devices": []})", "cdiVersion: want a string"},
      {R"({"cdiVersion": "1.0.0", "devices": []})", "kind: required"},
      {R"({"cdiVersion": "1.0.0", "kind": "foo", "devices": []})", "kind: \"foo\" is not VENDOR/CLASS"},
      {R"({"cdiVersion": "1.0.0", "kind": "v.c/d/e", "devices": []})", "is not VENDOR/CLASS"},
      {head + "}", "devices: names none"},
      {head + R"(, "devices": {}})", "devices: want a list"},
      {head + R"(, "devices": [1]})", "devices[0]: want an object"},
      {head + R"(, "devices": [)" + device + "," + device + "]}", "devices[1]: \"a\" is there twice"},
      {head + R"(, "devices": [)" + device + R"(], "more": 1})", "more: unknown field"},
      {head + R"(, "annotations": [], "devices": [)" + device + "]}", "annotations: want an object"},
      {head + R"(, "annotations": {"a": 1}, "devices": [)" + device + "]}", "annotations: want strings"},
      {head + R"(, "devices": [{"name": "a b", "containerEdits": {"env": ["A=B"]}}]})", "devices[0].name"},
      {Spec("{}"), "devices[0].containerEdits: says nothing"},
      {Spec(R"({"Env": ["A=B"]})"), "devices[0].containerEdits.Env: unknown field"},
      {Spec(R"({"env": ["A"]})"), "containerEdits.env: \"A\" is not NAME=VALUE"},
      {Spec(R"({"env": ["=A"]})"), "is not NAME=VALUE"},
      {Spec(R"({"env": ["A=\u0000"]})"), "containerEdits.env[0]: contains a NUL byte"},
      {Spec(R"({"env": "A=B"})"), "containerEdits.env: want a list"},
      {Spec(R"({"deviceNodes": [{}]})"), "deviceNodes[0].path: required"},
      {Spec(R"({"deviceNodes": [{"path": "dev/x"}]})"), "\"dev/x\" is not absolute"},
      {Spec(R"({"deviceNodes": [{"path": "/.."}]})"), "is the root"},
      {Spec(R"({"deviceNodes": [{"path": "/d", "hostPath": "d"}]})"), "hostPath: \"d\" is not absolute"},
      {Spec(R"({"deviceNodes": [{"path": "/d", "type": "x"}]})"), "type: \"x\""},
      {Spec(R"({"deviceNodes": [{"path": "/d", "permissions": "rx"}]})"), "permissions: \"rx\""},
      {Spec(R"({"deviceNodes": [{"path": "/d", "permissions": "rr"}]})"), "permissions: \"rr\""},
      {Spec(R"({"deviceNodes": [{"path": "/d", "major": -1}]})"), "major: want a number from 0"},
      {Spec(R"({"deviceNodes": [{"path": "/d", "minor": 18446744073709551615}]})"), "minor: want a number"},
      {Spec(R"({"deviceNodes": [{"path": "/d", "fileMode": "0660"}]})"), "fileMode: want a number"},
      {Spec(R"({"deviceNodes": [{"path": "/d", "uid": 4294967296}]})"), "uid: want a number"},
      {Spec(R"({"deviceNodes": [{"path": "/d", "name": "x"}]})"), "deviceNodes[0].name: unknown field"},
      {Spec(R"({"mounts": [{"containerPath": "/d"}]})"), "mounts[0].hostPath: required"},
      {Spec(R"({"mounts": [{"hostPath": "/d"}]})"), "mounts[0].containerPath: required"},
      {Spec(R"({"mounts": [{"hostPath": "/d", "containerPath": "d"}]})"), "\"d\" is not absolute"},
      {Spec(R"({"mounts": [{"hostPath": "/d", "containerPath": "/"}]})"), "over the root"},
      {Spec(R"({"mounts": [{"hostPath": "d", "containerPath": "/d"}]})"), "hostPath: \"d\" is not absolute"},
      {Spec(R"({"hooks": [{"hookName": "poststop"}]})"), "hooks[0].path: required"},
      {Spec(R"({"hooks": [{"hookName": "later", "path": "/x"}]})"), "\"later\" is no hook"},
      {Spec(R"({"hooks": [{"hookName": "poststop", "path": "x"}]})"), "\"x\" is not absolute"},
      {Spec(R"({"hooks": [{"hookName": "poststop", "path": "/x", "timeout": 0}]})"),
       "timeout: want a number"},
      {Spec(R"({"hooks": [{"hookName": "poststop", "path": "/x", "env": ["x"]}]})"), "is not NAME=VALUE"},
      {Spec(R"({"additionalGids": [-1]})"), "additionalGids[0]: want a number"},
      // Younger than the version they are in.
      {Spec(R"({"mounts": [{"hostPath": "t", "containerPath": "/d", "type": "tmpfs"}]})", "0.3.0"),
       "mounts[0].type needs 0.4.0, not 0.3.0"},
      {Spec(R"({"deviceNodes": [{"path": "/d", "hostPath": "/e"}]})", "0.4.0"), "hostPath needs 0.5.0"},
      {Spec(R"({"additionalGids": [1]})", "0.6.0"), "additionalGids needs 0.7.0"},
      {Spec(R"({"intelRdt": {}})", "v0.6.0"), "intelRdt needs 0.7.0"},
      {Spec(R"({"netDevices": [{}]})", "1.0.0"), "netDevices needs 1.1.0"},
      {R"({"cdiVersion": "0.5.0", "kind": "v.c/d.e", "devices": [)" + device + "]}", "kind needs 0.6.0"},
      {R"({"cdiVersion": "0.5.0", "kind": "v.c/d", "annotations": {"a": "b"}, "devices": [)" + device + "]}",
       "annotations needs 0.6.0"},
      {R"({"cdiVersion": "0.4.0", "kind": "v.c/d", "devices": [{"name": "0", "containerEdits": {"env": ["A=B"]}}]})",
       "devices[0].name needs 0.5.0"},
  };
  for (const Case& test : cases) {
    const absl::Status status = ParseCdiSpec(test.json).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << test.json.substr(0, 200);
    EXPECT_THAT(std::string(status.message()), HasSubstr(test.want)) << test.json.substr(0, 200);
  }
}

TEST(CdiTest, NullIsAbsence) {
  EXPECT_TRUE(ParseCdiSpec(R"({"cdiVersion": "v0.3.0", "kind": "v.c/d", "annotations": null,
      "containerEdits": null, "devices": [{"name": "a", "containerEdits": {"env": ["A=B"],
      "deviceNodes": null, "mounts": null, "hooks": null, "intelRdt": null, "netDevices": null,
      "additionalGids": null}}]})")
                  .ok());
}

TEST(CdiTest, EditsOfTheFileComeOnceAndFirst) {
  const std::string json = R"({"cdiVersion": "0.6.0", "kind": "v.c/d", "containerEdits": {"env": ["FILE=1"]},
      "devices": [{"name": "a", "containerEdits": {"env": ["A=1"]}},
                  {"name": "b", "containerEdits": {"env": ["B=1"]}}]})";
  const std::vector<CdiFile> files = {File("/etc/cdi/v.json", 0, json)};
  EXPECT_THAT(ResolveCdiDevices(files, kDirs, {"v.c/d=b", "v.c/d=a"})->env,
              ElementsAre("FILE=1", "B=1", "A=1"));
  EXPECT_TRUE(ResolveCdiDevices(files, kDirs, {})->Empty());
}

TEST(CdiTest, TheLaterDirectoryWinsAndOneDirectoryMustAgree) {
  const std::string low = Spec(R"({"env": ["FROM=low"]})"), high = Spec(R"({"env": ["FROM=high"]})");
  EXPECT_THAT(ResolveCdiDevices({File("/etc/cdi/a.json", 0, low), File("/var/run/cdi/a.json", 1, high)},
                                kDirs, {"vendor.com/dev=a"})
                  ->env,
              ElementsAre("FROM=high"));
  // A conflict that a later directory decides is none.
  EXPECT_THAT(ResolveCdiDevices({File("/etc/cdi/a.json", 0, low), File("/etc/cdi/b.json", 0, low),
                                 File("/var/run/cdi/a.json", 1, high)},
                                kDirs, {"vendor.com/dev=a"})
                  ->env,
              ElementsAre("FROM=high"));
  const absl::Status conflict =
      ResolveCdiDevices({File("/etc/cdi/a.json", 0, low), File("/etc/cdi/b.json", 0, high)}, kDirs,
                        {"vendor.com/dev=a"})
          .status();
  EXPECT_TRUE(absl::IsFailedPrecondition(conflict));
  EXPECT_THAT(std::string(conflict.message()),
              HasSubstr("CDI device vendor.com/dev=a: defined by /etc/cdi/a.json and by /etc/cdi/b.json"));
}

TEST(CdiTest, WhatIsMissingIsNamedWithWhereItWasLookedFor) {
  std::vector<CdiFile> files = {File("/etc/cdi/a.json", 0, Spec(R"({"env": ["A=B"]})"))};
  for (int i = 0; i < 5; ++i) files.push_back(File(StrCat("/etc/cdi/broken", i, ".json"), 0, "{"));
  const absl::Status status =
      ResolveCdiDevices(files, kDirs, {"vendor.com/dev=x", "vendor.com/dev=a", "w.c/d=y"}).status();
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_EQ(std::string(status.message()),
            "CDI devices vendor.com/dev=x, w.c/d=y: defined by no file in /etc/cdi, /var/run/cdi"
            "; cannot be used: /etc/cdi/broken0.json: is not JSON"
            "; cannot be used: /etc/cdi/broken1.json: is not JSON"
            "; cannot be used: /etc/cdi/broken2.json: is not JSON; and 2 more");
  EXPECT_TRUE(absl::IsFailedPrecondition(ResolveCdiDevices({}, {}, {"v.c/d=x"}).status()));
}

TEST(CdiTest, WhatIsNotDoneIsRefusedByName) {
  struct Case {
    const char *edits, *want;
  };
  for (const Case& test : {Case{R"({"intelRdt": {"closID": "x"}})", "containerEdits.intelRdt"},
                           Case{R"({"netDevices": [{"hostInterfaceName": "e", "name": "f"}]})",
                                "containerEdits.netDevices[0]"}}) {
    const absl::Status status =
        ResolveCdiDevices({File("/etc/cdi/a.json", 0, Spec(test.edits))}, kDirs, {"vendor.com/dev=a"})
            .status();
    EXPECT_TRUE(absl::IsUnimplemented(status)) << status;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(test.want), HasSubstr("take the field out")));
  }
}

class CdiNodeTest : public testing::Test {
 protected:
  absl::StatusOr<HostDevice> Node(const std::string& node) {
    absl::StatusOr<CdiEdits> edits = ResolveCdiDevices(
        {File("f", 0, Spec(StrCat(R"({"deviceNodes": [)", node, "]}")))}, kDirs, {"vendor.com/dev=a"});
    if (!edits.ok()) return edits.status();
    CdiHostNodes nodes;
    HostDevice host;
    host.path = "/dev/host";
    host.type = 'b';
    host.major = 8;
    host.minor = 3;
    host.mode = 0640;
    host.uid = host.gid = 6;
    nodes.emplace(host.path, host);
    nodes.emplace("/dev/none", absl::NotFoundError("stat: No such file or directory"));
    SpecInput input;
    input.user.uid = 1000;
    input.user.gid = 1001;
    RETURN_IF_ERROR(ApplyCdiEdits(*edits, nodes, &input));
    return input.cdi_devices.at(0);
  }
  static std::string Text(const HostDevice& d) {
    return StrCat(d.path, " ", std::string(1, d.type), " ", d.major, ":", d.minor, " ", d.mode, " ", d.uid,
                  ":", d.gid, " ", d.permissions);
  }
};

TEST_F(CdiNodeTest, WhatIsNotSaidIsTheHosts) {
  struct Case {
    const char *node, *want;
  };
  const Case cases[] = {
      {R"({"path": "/dev/host"})", "/dev/host b 8:3 416 1000:1001 rwm"},
      {R"({"path": "/dev/x", "hostPath": "/dev/host"})", "/dev/x b 8:3 416 1000:1001 rwm"},
      {R"({"path": "/dev/x", "hostPath": "/dev/host", "type": "b", "permissions": "r", "uid": 0, "gid": 5,
           "fileMode": 438})",
       "/dev/x b 8:3 438 0:5 r"},
      {R"({"path": "/dev/host", "major": 9, "minor": 1})", "/dev/host b 9:1 416 1000:1001 rwm"},
      // A node that says all is made as it says, whatever the host has.
      {R"({"path": "/dev/host", "type": "c", "major": 1, "minor": 5})", "/dev/host c 1:5 416 1000:1001 rwm"},
      {R"({"path": "/dev/none", "type": "u", "major": 1, "minor": 3})", "/dev/none c 1:3 438 1000:1001 rwm"},
      {R"({"path": "/dev/none", "type": "p", "permissions": "none"})", "/dev/none p 0:0 438 1000:1001 none"},
  };
  for (const Case& test : cases) {
    auto device = Node(test.node);
    ASSERT_TRUE(device.ok()) << test.node << device.status();
    EXPECT_EQ(Text(*device), test.want) << test.node;
  }
  EXPECT_THAT(std::string(Node(R"({"path": "/dev/none"})").status().message()),
              HasSubstr("CDI device node /dev/none: stat"));
  EXPECT_THAT(std::string(Node(R"({"path": "/dev/none", "type": "c"})").status().message()),
              HasSubstr("/dev/none"));
  EXPECT_THAT(std::string(Node(R"({"path": "/dev/host", "type": "c"})").status().message()),
              HasSubstr("is of type b, not c"));
}

TEST(CdiTest, MountsAreBindsUnlessTheySayWhatElse) {
  struct Case {
    const char* mount;
    std::string type;
    std::vector<std::string> options;
  };
  const Case cases[] = {
      {R"({"hostPath": "/h", "containerPath": "/c"})", "bind", {"rbind"}},
      {R"({"hostPath": "/h", "containerPath": "/c/", "options": ["ro", "bind"]})", "bind", {"ro", "bind"}},
      {R"({"hostPath": "/h", "containerPath": "/c", "type": "none", "options": ["rbind"]})",
       "bind",
       {"rbind"}},
      {R"({"hostPath": "t", "containerPath": "/x/../c", "type": "tmpfs", "options": ["ro"]})",
       "tmpfs",
       {"ro"}},
  };
  for (const Case& test : cases) {
    auto spec = ParseCdiSpec(Spec(StrCat(R"({"mounts": [)", test.mount, "]}")));
    ASSERT_TRUE(spec.ok()) << spec.status();
    const SpecMount& mount = spec->devices[0].edits.mounts[0];
    EXPECT_EQ(mount.destination, "/c") << test.mount;
    EXPECT_EQ(mount.type, test.type) << test.mount;
    EXPECT_EQ(mount.options, test.options) << test.mount;
  }
}

TEST(CdiTest, GroupsAreAddedOnce) {
  CdiEdits edits;
  edits.additional_gids = {5, 44, 44};
  SpecInput input;
  input.user.additional_gids = {5, 6};
  ASSERT_TRUE(ApplyCdiEdits(edits, {}, &input).ok());
  EXPECT_THAT(input.user.additional_gids, ElementsAre(5, 6, 44));
}

class CdiFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/keelson-cdi-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern), nullptr);
    dir_ = pattern;
  }
  void TearDown() override { EXPECT_TRUE(RemoveTree(dir_).ok()); }
  void Write(const std::string& name, const std::string& text) {
    ASSERT_TRUE(WriteFileAtomic(StrCat(dir_, "/", name), text, 0644, false).ok());
  }
  std::string dir_;
};

TEST_F(CdiFilesTest, JsonAndYamlInOrderWithoutTheRest) {
  Write("b.json", Spec(R"({"env": ["A=B"]})"));
  Write("a.yaml",
        "cdiVersion: 0.5.0\nkind: v.c/yaml\ndevices:\n- name: \"0\"\n  containerEdits:\n    deviceNodes:\n"
        "    - {path: /dev/x, fileMode: 0660}\n");
  Write("c.yaml", "a: b: c");
  Write("ignored.txt", "{");
  Write("ignored.yml", "{");
  Write("z.json", std::string(kMaxCdiFileBytes + 1, ' '));
  ASSERT_TRUE(MakeDirs(dir_ + "/dir.json/below").ok());
  ASSERT_EQ(::mkfifo((dir_ + "/fifo.json").c_str(), 0600), 0);
  ASSERT_EQ(::symlink("nowhere", (dir_ + "/dangling.json").c_str()), 0);
  auto files = ReadCdiFiles({dir_ + "/none", dir_, dir_ + "/b.json"});
  ASSERT_TRUE(files.ok()) << files.status();
  ASSERT_EQ(files->size(), 5u);
  const std::vector<std::string> want = {dir_ + "/a.yaml", dir_ + "/b.json", dir_ + "/c.yaml",
                                         dir_ + "/z.json", dir_ + "/b.json"};
  for (size_t i = 0; i < want.size(); ++i) EXPECT_EQ((*files)[i].path, want[i]);
  EXPECT_EQ((*files)[0].dir, 1u);
  ASSERT_TRUE((*files)[0].spec.ok()) << (*files)[0].spec.status();
  EXPECT_EQ((*files)[0].spec->devices[0].edits.device_nodes[0].file_mode, 0660);
  EXPECT_TRUE((*files)[1].spec.ok());
  for (size_t i = 2; i < 5; ++i) EXPECT_FALSE((*files)[i].spec.ok()) << i;
  // What is written next is seen next.
  Write("b.json", Spec(R"({"env": ["A=C"]})"));
  files = ReadCdiFiles({dir_});
  EXPECT_THAT((*files)[1].spec->devices[0].edits.env, ElementsAre("A=C"));
}

TEST_F(CdiFilesTest, TheHostIsLookedAt) {
  CdiEdits edits;
  edits.device_nodes = {{"/dev/null", "/dev/null"}, {"/dev/x", dir_}, {"/dev/y", dir_ + "/none"}};
  edits.mounts.push_back({});
  edits.mounts[0].type = "bind";
  edits.mounts[0].source = dir_;
  edits.hooks["poststop"].push_back({"/bin/sh"});
  edits.hooks["startContainer"].push_back({"/only/inside"});
  auto nodes = LookUpCdiHost(edits);
  ASSERT_TRUE(nodes.ok()) << nodes.status();
  ASSERT_TRUE(nodes->at("/dev/null").ok());
  EXPECT_EQ(nodes->at("/dev/null")->type, 'c');
  EXPECT_EQ(nodes->at("/dev/null")->major, 1);
  EXPECT_EQ(nodes->at("/dev/null")->minor, 3);
  EXPECT_TRUE(absl::IsInvalidArgument(nodes->at(dir_).status()));
  EXPECT_TRUE(absl::IsNotFound(nodes->at(dir_ + "/none").status()));
  edits.mounts[0].source = dir_ + "/none";
  EXPECT_THAT(std::string(LookUpCdiHost(edits).status().message()), HasSubstr("CDI mount source"));
  edits.mounts.clear();
  edits.hooks["prestart"].push_back({dir_ + "/none"});
  EXPECT_THAT(std::string(LookUpCdiHost(edits).status().message()), HasSubstr("CDI hook prestart"));
}

}  // namespace
}  // namespace keelson::oci
