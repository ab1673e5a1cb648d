#include "net/proc_ports.h"

#include <sys/stat.h>
#include <unistd.h>

#include "net/test_util.h"

namespace keelson::net {
namespace {

constexpr char kHead[] =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

class ProcPortsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Write("net/tcp", std::string(kHead) +
                         "   0: 00000000:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0  "
                         "      0 777 1 0\n"
                         "   1: 0100007F:1F90 0100007F:A000 01 00000000:00000000 00:00000000 00000000     0  "
                         "      0 778 1 0\n"
                         "garbage line\n");
    Write("net/tcp6",
          std::string(kHead) +
              "   0: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A "
              "00000000:00000000 00:00000000 00000000     0        0 779 1 0\n");
    Write("net/udp", std::string(kHead) +
                         "   0: 0A00600A:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0  "
                         "      0 780 2 0\n");
    Write("12/comm", "nginx\n");
    ASSERT_TRUE(MakeDirs(dir_.path() + "/12/fd").ok());
    ASSERT_EQ(::symlink("socket:[777]", (dir_.path() + "/12/fd/5").c_str()), 0);
  }
  void Write(const std::string& name, const std::string& data) {
    std::string path = dir_.path() + "/" + name;
    ASSERT_TRUE(MakeDirs(path.substr(0, path.rfind('/'))).ok());
    ASSERT_TRUE(WriteFileAtomic(path, data, 0644, false).ok());
  }
  TempDir dir_;
};

TEST_F(ProcPortsTest, ListsListeners) {
  auto sockets = ListListeningSockets(dir_.path());
  ASSERT_TRUE(sockets.ok()) << sockets.status();
  ASSERT_EQ(sockets->size(), 3u);
  EXPECT_EQ((*sockets)[0].port, 6443);
  EXPECT_EQ((*sockets)[1].address.ToString(), "::1");
  EXPECT_EQ((*sockets)[1].port, 80);
  EXPECT_TRUE((*sockets)[2].udp);
  EXPECT_EQ((*sockets)[2].address.ToString(), "10.96.0.10");
}

TEST_F(ProcPortsTest, FindsTheOwner) {
  auto owner = FindPortOwner(6443, false, dir_.path());
  ASSERT_TRUE(owner.ok() && owner->has_value());
  EXPECT_EQ((*owner)->ToString(), "nginx (pid 12)");
  auto unknown = FindPortOwner(80, false, dir_.path());
  ASSERT_TRUE(unknown.ok() && unknown->has_value());
  EXPECT_EQ((*unknown)->ToString(), "an unknown process");
  EXPECT_FALSE(FindPortOwner(8080, false, dir_.path())->has_value());
  EXPECT_FALSE(FindPortOwner(6443, true, dir_.path())->has_value());
  EXPECT_TRUE(FindPortOwner(53, true, dir_.path())->has_value());
}

}  // namespace
}  // namespace keelson::net
