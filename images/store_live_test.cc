// On the real kernel and a real registry: Debian's docker-registry on a free port of loopback, with images of
// our own pushed into it. Everything lies in a temporary directory.
#include <absl/strings/ascii.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "base/status.h"
#include "base/strings.h"
#include "images/digest.h"
#include "images/image_store.h"
#include "images/layer_tree.h"
#include "images/manifest.h"
#include "images/overlay.h"
#include "images/testing/test_images.h"
#include "images/testing/test_store.h"

namespace keelson::images {
namespace {

class StoreLiveTest : public StoreTest {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    StoreTest::SetUp();
  }
  void TearDown() override {
    if (store_ != nullptr) {
      for (const std::string& key : store_->RootfsKeys()) {
        EXPECT_TRUE(Await(store_->RemoveRootfs(key, "")).ok());
      }
    }
    StoreTest::TearDown();
  }
  absl::Status Mount(const std::string& key, const std::string& image, bool readonly = false) {
    RootfsOptions options;
    options.key = key;
    options.image_id = image;
    options.mount_path = Path(key);
    options.readonly = readonly;
    return Await(store_->MountRootfs(options));
  }
  std::string Path(const std::string& key) const { return dir_.path() + "/mnt-" + key; }
  static std::string Read(const std::string& path) {
    auto text = ReadFile(path);
    return text.ok() ? *text : StrCat("<", text.status().ToString(), ">");
  }
};

// The layers of this image use every kind of entry.
std::vector<std::string> FullLayers() {
  std::string base = MakeTar({
      {.name = "./", .type = '5', .mode = 0755},
      {.name = "./bin/", .type = '5', .mode = 0755},
      {.name = "./bin/su", .data = "su", .mode = 04755},
      {.name = "./bin/caps",
       .data = "caps",
       .mode = 0755,
       .pax = {{"SCHILY.xattr.security.capability",
                std::string(
                    "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 20)},
               {"SCHILY.xattr.user.note", "hello"},
               {"SCHILY.xattr.trusted.overlay.redirect", "/etc"}}},
      {.name = "./bin/link", .type = '1', .link = "./bin/su"},
      {.name = "./bin/sym", .type = '2', .link = "su"},
      {.name = "./dev/", .type = '5', .mode = 0755},
      {.name = "./dev/null", .type = '3', .mode = 0666, .major = 1, .minor = 3},
      {.name = "./dev/fifo", .type = '6', .mode = 0600},
      {.name = "./tmp/", .type = '5', .mode = 01777},
      {.name = "./home/", .type = '5', .mode = 0750, .uid = 1000, .gid = 1001},
      {.name = "./home/f", .data = "f", .mode = 0640, .uid = 1000, .gid = 1001},
      {.name = "./gone", .data = "gone"},
      {.name = "./opaque/", .type = '5', .mode = 0755},
      {.name = "./opaque/old", .data = "old"},
  });
  std::string top = MakeTar({
      {.name = ".wh.gone"},
      {.name = "opaque/", .type = '5', .mode = 0755},
      {.name = "opaque/.wh..wh..opq"},
      {.name = "opaque/new", .data = "new"},
      {.name = "tmp/x", .data = "x"},  // tmp itself is not in this layer
      {.name = "home/g", .data = "g"},
  });
  return {base, top};
}

TEST_F(StoreLiveTest, RootfsShowsWhatTheLayersSay) {
  registry_.Add("full", "1", MakeImage(FullLayers()));
  auto id = Pull("full:1");
  ASSERT_TRUE(id.ok()) << id.status();
  ASSERT_TRUE(Mount("c1", *id).ok());
  std::string root = Path("c1");
  struct stat st;
  ASSERT_EQ(::stat((root + "/bin/su").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 04755u);
  EXPECT_EQ(st.st_nlink, 2u);
  EXPECT_EQ(st.st_mtim.tv_sec, 1'000'000'000);
  EXPECT_EQ(Read(root + "/bin/sym"), "su");
  char value[64];
  EXPECT_EQ(::getxattr((root + "/bin/caps").c_str(), "security.capability", value, sizeof value), 20);
  EXPECT_EQ(::getxattr((root + "/bin/caps").c_str(), "user.note", value, sizeof value), 5);
  ASSERT_EQ(::stat((root + "/dev/null").c_str(), &st), 0);
  EXPECT_TRUE(S_ISCHR(st.st_mode));
  EXPECT_EQ(st.st_rdev, makedev(1, 3));
  ASSERT_EQ(::stat((root + "/dev/fifo").c_str(), &st), 0);
  EXPECT_TRUE(S_ISFIFO(st.st_mode));
  EXPECT_EQ(::access((root + "/gone").c_str(), F_OK), -1);
  EXPECT_EQ(::access((root + "/opaque/old").c_str(), F_OK), -1);
  EXPECT_EQ(Read(root + "/opaque/new"), "new");
  // Directories that the upper layer implies keep what the lower one said.
  ASSERT_EQ(::stat((root + "/tmp").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 01777u);
  ASSERT_EQ(::stat((root + "/home").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0750u);
  EXPECT_EQ(st.st_uid, 1000u);
  EXPECT_EQ(st.st_gid, 1001u);
  EXPECT_EQ(st.st_mtim.tv_sec, 1'000'000'000);
  EXPECT_EQ(Read(root + "/home/f"), "f");
  EXPECT_EQ(Read(root + "/home/g"), "g");
  // Written things go to the container's own directory.
  std::ofstream(root + "/written") << std::string(10000, 'w');
  auto usage = Await(store_->RootfsUsage("c1"));
  ASSERT_TRUE(usage.ok());
  EXPECT_GE(usage->used_bytes, 10000u);
  EXPECT_EQ(usage->inodes, 2u);
  // The same mount again is success, after a restart too.
  EXPECT_TRUE(Mount("c1", *id).ok());
  Reopen();
  EXPECT_EQ(store_->RootfsKeys(), std::vector<std::string>{"c1"});
  EXPECT_TRUE(Mount("c1", *id).ok());
  // Unmounted by somebody (a reboot): mounted again with what was written.
  ASSERT_EQ(::umount(root.c_str()), 0);
  EXPECT_TRUE(Mount("c1", *id).ok());
  EXPECT_EQ(Read(root + "/written").size(), 10000u);
  // Read-only beside it.
  ASSERT_TRUE(Mount("c2", *id, /*readonly=*/true).ok());
  EXPECT_EQ(Read(Path("c2") + "/bin/su"), "su");
  EXPECT_NE(::access((Path("c2") + "/bin").c_str(), W_OK), 0);
  EXPECT_EQ(::mkdir((Path("c2") + "/x").c_str(), 0755), -1);
  EXPECT_EQ(errno, EROFS);
  // The image goes, its layers stay while containers use them, then go too.
  ASSERT_TRUE(Await(store_->Remove(*id)).ok());
  EXPECT_EQ(store_->Find(*id), nullptr);
  EXPECT_EQ(Read(root + "/bin/su"), "su");
  Reopen();
  EXPECT_EQ(Read(root + "/bin/su"), "su");
  EXPECT_TRUE(Await(store_->RemoveRootfs("c1", root)).ok());
  EXPECT_TRUE(Await(store_->RemoveRootfs("c1", root)).ok());
  EXPECT_GT(Await(store_->Usage())->used_bytes, 0u);
  EXPECT_TRUE(Await(store_->RemoveRootfs("c2", "")).ok());
  EXPECT_EQ(Await(store_->Usage())->used_bytes, 0u);
  EXPECT_EQ(::access(root.c_str(), F_OK), -1);
}

TEST_F(StoreLiveTest, As127LayersByEveryWayToMount) {
  std::vector<std::string> layers;
  for (int i = 0; i < 127; ++i)
    layers.push_back(MakeTar({{.name = "same", .data = StrCat(i)}, {.name = StrCat("f", i)}}));
  registry_.Add("many", "1", MakeImage(layers));
  auto id = Pull("many:1");
  ASSERT_TRUE(id.ok()) << id.status();
  ASSERT_TRUE(Mount("c1", *id).ok());
  EXPECT_EQ(Read(Path("c1") + "/same"), "126");
  EXPECT_EQ(::access((Path("c1") + "/f0").c_str(), F_OK), 0);
  EXPECT_TRUE(Mount("c1", *id).ok());
  // The same by hand in each way this kernel has.
  std::vector<std::string> lower;
  DIR* dir = ::opendir((options_.root_dir + "/layers").c_str());
  while (const dirent* entry = ::readdir(dir)) {
    if (entry->d_name[0] != '.')
      lower.push_back(StrCat(options_.root_dir, "/layers/", entry->d_name, "/diff"));
  }
  ::closedir(dir);
  ASSERT_EQ(lower.size(), 127u);
  OverlayMount mount{lower, dir_.path() + "/u", dir_.path() + "/w", dir_.path() + "/mnt"};
  for (const std::string& path : {mount.upper, mount.work, mount.target}) ASSERT_TRUE(MakeDirs(path).ok());
  EXPECT_FALSE(MountOverlay(mount, OverlayMethod::kPaths).ok());
  for (OverlayMethod method : {OverlayMethod::kNewApi, OverlayMethod::kDescriptors}) {
    absl::Status status = MountOverlay(mount, method);
    if (absl::IsUnimplemented(status)) continue;  // an older kernel
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(::access((mount.target + "/f0").c_str(), F_OK), 0);
    EXPECT_EQ(::access((mount.target + "/f126").c_str(), F_OK), 0);
    EXPECT_TRUE(*IsOverlayMounted(mount.target, mount.upper));
    EXPECT_FALSE(*IsOverlayMounted(mount.target, mount.upper + "x"));
    ASSERT_TRUE(UnmountAll(mount.target).ok());
    EXPECT_FALSE(*IsOverlayMounted(mount.target, mount.upper));
  }
}

TEST_F(StoreLiveTest, ImagesOfOneLayerAndOfNone) {
  registry_.Add("none", "1", MakeImage({}));
  registry_.Add("one", "1", MakeImage({MakeTar({{.name = "f", .data = "f"}})}));
  for (const char* name : {"none", "one"}) {
    auto id = Pull(StrCat(name, ":1"));
    ASSERT_TRUE(id.ok()) << id.status();
    ASSERT_TRUE(Mount(StrCat(name, "-rw"), *id).ok());
    absl::Status status = Mount(StrCat(name, "-ro"), *id, /*readonly=*/true);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(::mkdir((Path(StrCat(name, "-rw")) + "/d").c_str(), 0755), 0);
  }
  EXPECT_EQ(Read(Path("one-ro") + "/f"), "f");
  // A key is one root file system of one image.
  EXPECT_TRUE(absl::IsAlreadyExists(Mount("one-rw", store_->Find(Name("none:1"))->id)));
  EXPECT_TRUE(absl::IsNotFound(Mount("new", "absent")));
  EXPECT_TRUE(absl::IsInvalidArgument(Mount("../up", *Pull("one:1"))));
}

// A child in a user namespace of 65536 IDs from 100000.
class UserNamespace {
 public:
  UserNamespace() {
    int ready[2], go[2];
    EXPECT_EQ(::pipe2(ready, O_CLOEXEC), 0);
    EXPECT_EQ(::pipe2(go, O_CLOEXEC), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::close(go[1]);  // else its own copy keeps the pipe open
      char byte = ::unshare(CLONE_NEWUSER) == 0 ? 'y' : 'n';
      (void)!::write(ready[1], &byte, 1);
      (void)!::read(go[0], &byte, 1);
      ::_exit(0);
    }
    char byte = 'n';
    EXPECT_EQ(::read(ready[0], &byte, 1), 1);
    ok_ = byte == 'y';
    for (const char* map : {"uid_map", "gid_map"}) {
      std::ofstream(StrCat("/proc/", pid_, "/", map)) << "0 100000 65536\n";
    }
    ::close(ready[0]);
    ::close(ready[1]);
    ::close(go[0]);
    go_ = Fd(go[1]);
  }
  ~UserNamespace() {
    go_.reset();
    ::waitpid(pid_, nullptr, 0);
  }
  bool ok() const { return ok_; }
  std::string path() const { return StrCat("/proc/", pid_, "/ns/user"); }

 private:
  int pid_ = -1;
  bool ok_ = false;
  Fd go_;
};

TEST_F(StoreLiveTest, UserNamespacesSeeTheirOwnIds) {
  UserNamespace userns;
  if (!userns.ok()) GTEST_SKIP() << "no user namespaces";
  registry_.Add("full", "1", MakeImage(FullLayers()));
  auto id = Pull("full:1");
  ASSERT_TRUE(id.ok()) << id.status();
  RootfsOptions options;
  options.key = "user";
  options.image_id = *id;
  options.mount_path = Path("user");
  options.userns_path = userns.path();
  absl::Status status = Await(store_->MountRootfs(options));
  if (absl::IsFailedPrecondition(status)) GTEST_SKIP() << status;
  ASSERT_TRUE(status.ok()) << status;
  struct stat st;
  ASSERT_EQ(::stat(Path("user").c_str(), &st), 0);
  EXPECT_EQ(st.st_uid, 100000u);
  ASSERT_EQ(::stat((Path("user") + "/bin/su").c_str(), &st), 0);
  EXPECT_EQ(st.st_uid, 100000u);
  EXPECT_EQ(st.st_mode & 07777, 04755u);
  ASSERT_EQ(::stat((Path("user") + "/home/f").c_str(), &st), 0);
  EXPECT_EQ(st.st_uid, 101000u);
  EXPECT_EQ(st.st_gid, 101001u);
  // What is written is copied up with those owners, and the layer below stays as it was for others.
  EXPECT_EQ(::chmod((Path("user") + "/home/f").c_str(), 0600), 0);
  ASSERT_EQ(::stat((Path("user") + "/home/f").c_str(), &st), 0);
  EXPECT_EQ(st.st_uid, 101000u);
  EXPECT_TRUE(Await(store_->MountRootfs(options)).ok());
  ASSERT_TRUE(Mount("plain", *id).ok());
  ASSERT_EQ(::stat((Path("plain") + "/home/f").c_str(), &st), 0);
  EXPECT_EQ(st.st_uid, 1000u);
  EXPECT_EQ(st.st_mode & 07777, 0640u);
}

// The store removes its own trees, never through a mount into somebody else's.
TEST_F(StoreLiveTest, RemovalStopsAtMounts) {
  std::string victim = dir_.path() + "/victim", tree = dir_.path() + "/tree";
  ASSERT_TRUE(MakeDirs(victim).ok());
  ASSERT_TRUE(MakeDirs(tree + "/a/mounted").ok());
  ASSERT_TRUE(WriteFileAtomic(victim + "/file", "safe", 0644, false).ok());
  ASSERT_EQ(::mount(victim.c_str(), (tree + "/a/mounted").c_str(), nullptr, MS_BIND, nullptr), 0);
  auto top = OpenFile(dir_.path(), O_RDONLY | O_DIRECTORY);
  absl::Status status = RemoveTreeAt(top->get(), "tree");
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_EQ(Read(victim + "/file"), "safe");
  ASSERT_EQ(::umount(std::string(tree + "/a/mounted").c_str()), 0);
  EXPECT_TRUE(RemoveTreeAt(top->get(), "tree").ok());
}

TEST_F(StoreLiveTest, ManyMountsLeaveNothing) {
  registry_.Add("one", "1", MakeImage({MakeTar({{.name = "f", .data = "f"}})}));
  auto id = Pull("one:1");
  ASSERT_TRUE(id.ok()) << id.status();
  auto mounts = [&] {
    size_t count = 0;
    for (absl::string_view line : absl::StrSplit(*ReadFile("/proc/self/mountinfo"), '\n')) {
      if (absl::StrContains(line, dir_.path())) ++count;
    }
    return count;
  };
  auto descriptors = [] {
    int count = 0;
    DIR* dir = ::opendir("/proc/self/fd");
    while (::readdir(dir) != nullptr) ++count;
    ::closedir(dir);
    return count;
  };
  ASSERT_TRUE(Mount("c", *id).ok());
  ASSERT_TRUE(Await(store_->RemoveRootfs("c", Path("c"))).ok());
  EXPECT_EQ(mounts(), 0u);
  int open_before = descriptors();
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(Mount("c", *id).ok());
    ASSERT_TRUE(Await(store_->RemoveRootfs("c", Path("c"))).ok());
  }
  EXPECT_EQ(mounts(), 0u);
  EXPECT_EQ(descriptors(), open_before);
  for (const char* name : {"rootfs", "trash", "tmp"}) {
    DIR* dir = ::opendir((options_.root_dir + "/" + name).c_str());
    int entries = 0;
    while (::readdir(dir) != nullptr) ++entries;
    ::closedir(dir);
    EXPECT_EQ(entries, 2) << name;
  }
}

// ---- a registry of others ----

int Spawn(const std::vector<std::string>& argv, const std::vector<std::string>& extra_env = {},
          const std::string& output = "/dev/null") {
  int pid = ::fork();
  if (pid != 0) return pid;
  int fd = ::open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  ::dup2(fd, 1);
  ::dup2(fd, 2);
  for (const std::string& item : extra_env) ::putenv(const_cast<char*>(item.c_str()));
  std::vector<char*> args;
  for (const std::string& arg : argv) args.push_back(const_cast<char*>(arg.c_str()));
  args.push_back(nullptr);
  ::execvp(args[0], args.data());
  ::_exit(127);
}

int WaitFor(int pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  return status;
}

bool Installed(const std::string& program) { return ::access(("/usr/bin/" + program).c_str(), X_OK) == 0; }

class DockerRegistryLiveTest : public StoreLiveTest {
 protected:
  void SetUp() override {
    if (!Installed("docker-registry") || !Installed("skopeo")) {
      GTEST_SKIP() << "needs docker-registry and skopeo";
    }
    StoreLiveTest::SetUp();
    if (IsSkipped()) return;
    // A free port: it is ours as soon as the registry has it.
    int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    ASSERT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), size), 0);
    ASSERT_EQ(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
    ::close(fd);
    docker_port_ = ntohs(address.sin_port);
    std::string config = dir_.path() + "/registry.yml";
    ASSERT_TRUE(WriteFileAtomic(config,
                                StrCat("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
                                       "storage: {filesystem: {rootdirectory: ",
                                       dir_.path(),
                                       "/registry}}\n"
                                       "http: {addr: 127.0.0.1:",
                                       docker_port_, "}\n"),
                                0644, false)
                    .ok());
    pid_ = Spawn({"docker-registry", "serve", config}, {}, dir_.path() + "/registry.log");
    for (int i = 0; i < 200; ++i) {
      int probe = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      bool up = ::connect(probe, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
      ::close(probe);
      if (up) return;
      ::usleep(50'000);
    }
    FAIL() << "docker-registry did not come up";
  }
  void TearDown() override {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      WaitFor(pid_);
    }
    if (store_ != nullptr) StoreLiveTest::TearDown();
  }
  std::string DockerName(const std::string& name) const {
    return StrCat("127.0.0.1:", docker_port_, "/", name);
  }
  int Skopeo(const std::string& from, const std::string& to) {
    return WaitFor(Spawn({"skopeo", "--insecure-policy", "copy", "--src-tls-verify=false",
                          "--dest-tls-verify=false", from, to},
                         {}, dir_.path() + "/skopeo.log"));
  }
  // Goes into the docker-registry through our own registry, store and export.
  void Publish(const std::string& name, const TestImage& image) {
    registry_.Add(name, "1", image);
    ASSERT_TRUE(Pull(name + ":1").ok());
    std::string layout = StrCat(dir_.path(), "/layout-", name);
    ASSERT_TRUE(Await(store_->Export(Name(name + ":1"), layout, false)).ok());
    ASSERT_EQ(Skopeo("oci:" + layout, "docker://" + DockerName(name + ":1")), 0)
        << Read(dir_.path() + "/skopeo.log");
    ASSERT_TRUE(Await(store_->Remove(image.config_digest)).ok());
    ASSERT_TRUE(RemoveTree(layout).ok());
  }
  // Runs ChildLiveTest.Pull below in a process of its own.
  int PullInChild(const std::string& name, const std::string& more) {
    return WaitFor(Spawn(
        {"/proc/self/exe", "--gtest_filter=ChildLiveTest.Pull"},
        {"KEELSON_TEST_CHILD_STORE=" + dir_.path() + "/child", "KEELSON_TEST_CHILD_IMAGE=" + name, more},
        dir_.path() + "/child.log"));
  }

  uint16_t docker_port_ = 0;
  int pid_ = -1;
};

TEST_F(DockerRegistryLiveTest, PullImportExportWithTheToolsOfOthers) {
  TestImage image = MakeImage(FullLayers());
  Publish("full", image);
  auto id = Await(store_->Pull(DockerName("full:1"), PullOptions()));
  ASSERT_TRUE(id.ok()) << id.status();
  EXPECT_EQ(*id, image.config_digest);
  ASSERT_TRUE(Mount("c1", *id).ok());
  EXPECT_EQ(Read(Path("c1") + "/home/g"), "g");
  // What skopeo makes of it comes in: a docker archive, an OCI archive; what we write goes out to it.
  std::string archive = dir_.path() + "/docker.tar", oci = dir_.path() + "/oci.tar",
              own = dir_.path() + "/own.tar";
  ASSERT_EQ(
      Skopeo("docker://" + DockerName("full:1"), "docker-archive:" + archive + ":example.com/from-docker:2"),
      0);
  ASSERT_EQ(Skopeo("docker://" + DockerName("full:1"), "oci-archive:" + oci + ":example.com/from-oci:3"), 0);
  for (const std::string& path : {archive, oci}) {
    auto ids = Await(store_->Import(path));
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(ids->size(), 1u);
  }
  EXPECT_NE(store_->Find("example.com/from-docker:2"), nullptr);
  EXPECT_NE(store_->Find("example.com/from-oci:3"), nullptr);
  ASSERT_TRUE(Await(store_->Export("example.com/from-docker:2", own, true)).ok());
  EXPECT_EQ(Skopeo("docker-archive:" + own, "docker://" + DockerName("back:1")), 0)
      << Read(dir_.path() + "/skopeo.log");
  EXPECT_TRUE(Await(store_->Pull(DockerName("back:1"), PullOptions())).ok());
}

// Killed at any byte of a pull, the next start finds the whole image or none, and nothing besides.
TEST_F(DockerRegistryLiveTest, KilledInTheMiddle) {
  std::string noise(300'000, '\0');
  uint64_t x = 88172645463325252ull;
  for (char& c : noise) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    c = static_cast<char>(x);
  }
  TestImage image =
      MakeImage({MakeTar({{.name = "a", .data = noise}}), MakeTar({{.name = "b", .data = noise + "b"}})});
  Publish("killed", image);
  options_.root_dir = dir_.path() + "/child";
  int whole = 0, none = 0;
  for (int step = 0; step <= 20; ++step) {
    CloseStore();
    int status = PullInChild(DockerName("killed:1"), StrCat("KEELSON_TEST_CHILD_DIES_AT=", step * 32'000));
    EXPECT_TRUE(step == 20 || WIFSIGNALED(status) || WEXITSTATUS(status) == 0)
        << Read(dir_.path() + "/child.log");
    OpenStore();
    if (store_->List().empty()) {
      ++none;
      EXPECT_EQ(Await(store_->Usage())->inodes, 0u);
      auto id = Await(store_->Pull(DockerName("killed:1"), PullOptions()));
      ASSERT_TRUE(id.ok()) << id.status();
    } else {
      ++whole;
    }
    ASSERT_TRUE(Mount("c", image.config_digest).ok());
    EXPECT_EQ(Read(Path("c") + "/b"), noise + "b");
    ASSERT_TRUE(Await(store_->RemoveRootfs("c", Path("c"))).ok());
    ASSERT_TRUE(Await(store_->Remove(image.config_digest)).ok());
  }
  EXPECT_GT(none, 5);
  EXPECT_GT(whole, 0);
}

// The whole process, with three large layers at once.
TEST_F(DockerRegistryLiveTest, MemoryStaysSmall) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers keep what was freed";
#endif
  std::vector<std::string> layers;
  for (int i = 0; i < 4; ++i)
    layers.push_back(
        MakeTar({{.name = StrCat("f", i), .data = std::string(40 << 20, static_cast<char>('a' + i))}}));
  Publish("large", MakeImage(layers, "none"));
  int status = PullInChild(DockerName("large:1"), "KEELSON_TEST_CHILD_REPORTS=1");
  std::string log = Read(dir_.path() + "/child.log");
  ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << log;
  size_t at = log.find("VmHWM:");
  ASSERT_NE(at, std::string::npos) << log;
  absl::string_view digits = absl::StripLeadingAsciiWhitespace(absl::string_view(log).substr(at + 6));
  int peak_kib = 0;
  ASSERT_TRUE(absl::SimpleAtoi(digits.substr(0, digits.find(' ')), &peak_kib)) << digits.substr(0, 20);
  EXPECT_LT(peak_kib, 48 << 10);
  RecordProperty("peak_kib", peak_kib);
}

TEST(ChildLiveTest, Pull) {
  const char* root = std::getenv("KEELSON_TEST_CHILD_STORE");
  if (root == nullptr) GTEST_SKIP() << "run by the tests above";
  RealEnv env{Paths()};
  ImageStoreOptions options;
  options.root_dir = root;
  auto store = ImageStore::Open(env, options);
  ASSERT_TRUE(store.ok()) << store.status();
  PullOptions pull;
  const char* dies_at = std::getenv("KEELSON_TEST_CHILD_DIES_AT");
  uint64_t limit = dies_at == nullptr ? UINT64_MAX : std::strtoull(dies_at, nullptr, 10);
  std::map<std::string, uint64_t> done;
  pull.on_progress = [&](const PullProgress& progress) {
    done[progress.layer_digest] = progress.done_bytes;
    uint64_t total = 0;
    for (const auto& [digest, bytes] : done) total += bytes;
    if (total > limit) ::kill(::getpid(), SIGKILL);
  };
  std::optional<absl::StatusOr<std::string>> id;
  ASSERT_TRUE(
      env.RunUntilDone(StoreResult((*store)->Pull(std::getenv("KEELSON_TEST_CHILD_IMAGE"), pull), &id)).ok());
  EXPECT_TRUE(id->ok()) << id->status();
  if (std::getenv("KEELSON_TEST_CHILD_REPORTS") != nullptr)
    std::printf("%s\n", ReadFile("/proc/self/status")->c_str());
}

}  // namespace
}  // namespace keelson::images
