// A tree of plain files that stands for a cgroupfs, written from literals; removed with the object. For
// tests.
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace keelson::cgroups {

class FakeTree {
 public:
  // Keys are paths below the tree's root; their directories are made. A key ending in '/' is an empty
  // directory.
  explicit FakeTree(const std::map<std::string, std::string>& files);
  ~FakeTree();
  FakeTree(const FakeTree&) = delete;
  FakeTree& operator=(const FakeTree&) = delete;

  const std::string& root() const { return root_; }
  void Put(std::string_view path, std::string_view text);
  // "" when it does not exist.
  std::string Get(std::string_view path) const;
  bool Has(std::string_view path) const;

 private:
  std::string root_;
};

// Hosts as they are found, with the files a Manager reads at the hierarchies' roots.
std::map<std::string, std::string> V1Host();
std::map<std::string, std::string> V2Host();
std::map<std::string, std::string> HybridHost();  // V1Host and a cgroup2 mount on /sys/fs/cgroup/unified

}  // namespace keelson::cgroups
