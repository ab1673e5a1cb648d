#include "cgroups/testing/fake_tree.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/log.h"
#include "base/strings.h"

namespace keelson::cgroups {

namespace fs = std::filesystem;

FakeTree::FakeTree(const std::map<std::string, std::string>& files) {
  char pattern[] = "/tmp/keelson-cgroups-XXXXXX";
  KEELSON_CHECK(::mkdtemp(pattern) != nullptr, "mkdtemp");
  root_ = pattern;
  for (const auto& [path, text] : files) Put(path, text);
}

FakeTree::~FakeTree() {
  std::error_code ignored;
  fs::remove_all(root_, ignored);
}

void FakeTree::Put(std::string_view path, std::string_view text) {
  fs::path full = fs::path(root_) / path;
  if (path.ends_with('/')) {
    fs::create_directories(full);
    return;
  }
  fs::create_directories(full.parent_path());
  std::ofstream(full, std::ios::binary | std::ios::trunc) << text;
}

std::string FakeTree::Get(std::string_view path) const {
  std::ifstream file(fs::path(root_) / path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

bool FakeTree::Has(std::string_view path) const { return fs::exists(fs::path(root_) / path); }

std::map<std::string, std::string> V1Host() {
  return {
      {"proc/mounts",
       "tmpfs /sys/fs/cgroup tmpfs rw,relatime,mode=755 0 0\n"
       "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0\n"
       "cgroup /sys/fs/cgroup/cpuset cgroup rw,relatime,cpuset 0 0\n"
       "cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n"
       "cgroup /sys/fs/cgroup/pids cgroup rw,relatime,pids 0 0\n"
       "cgroup /sys/fs/cgroup/freezer cgroup rw,relatime,freezer 0 0\n"
       "cgroup /sys/fs/cgroup/systemd cgroup rw,relatime,xattr,name=systemd 0 0\n"},
      {"sys/fs/cgroup/cpu,cpuacct/cgroup.procs", "1\n"},
      {"sys/fs/cgroup/cpuset/cpuset.cpus", "0-3\n"},
      {"sys/fs/cgroup/cpuset/cpuset.mems", "0\n"},
      {"sys/fs/cgroup/memory/memory.usage_in_bytes", "1000000\n"},
      {"sys/fs/cgroup/pids/cgroup.procs", "1\n"},
      {"sys/fs/cgroup/freezer/", ""},
      {"sys/fs/cgroup/systemd/", ""},
  };
}

std::map<std::string, std::string> V2Host() {
  return {
      {"proc/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime,nsdelegate 0 0\n"},
      {"proc/meminfo", "MemTotal:        2048 kB\nMemFree:          512 kB\nMemAvailable:    1024 kB\n"},
      {"sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory hugetlb pids rdma misc\n"},
      {"sys/fs/cgroup/cgroup.subtree_control", "cpu memory\n"},
      {"sys/fs/cgroup/cpu.stat", "usage_usec 5000000\nuser_usec 1\nsystem_usec 2\n"},
      {"sys/fs/cgroup/memory.stat", "anon 4096\ninactive_file 65536\npgfault 10\npgmajfault 1\n"},
  };
}

std::map<std::string, std::string> HybridHost() {
  auto files = V1Host();
  files["proc/mounts"] += "cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime,nsdelegate 0 0\n";
  files["sys/fs/cgroup/unified/cgroup.controllers"] = "\n";
  return files;
}

}  // namespace keelson::cgroups
