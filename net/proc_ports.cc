#include "net/proc_ports.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstring>

#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson::net {

namespace {

constexpr size_t kMaxTableBytes = 64 << 20;
constexpr int kTcpListen = 0x0a;  // include/net/tcp_states.h
constexpr int kUdpUnconnected = 0x07;

// "0100007F:192B": 32-bit words in the machine's byte order, then the port.
bool ParseEndpoint(std::string_view text, IpAddress* address, uint16_t* port) {
  size_t colon = text.find(':');
  if (colon != 8 && colon != 32) return false;
  std::string bytes;
  for (size_t word = 0; word < colon; word += 8) {
    uint32_t value = 0;
    if (!absl::SimpleHexAtoi(Av(text.substr(word, 8)), &value)) return false;
    char raw[4];
    std::memcpy(raw, &value, 4);
    bytes.append(raw, 4);
  }
  uint32_t number = 0;
  if (!absl::SimpleHexAtoi(Av(text.substr(colon + 1)), &number) || number > 65535) return false;
  *port = static_cast<uint16_t>(number);
  *address = *IpAddress::FromBytes(bytes);
  return true;
}

void ParseTable(const std::string& table, bool udp, std::vector<ListeningSocket>* out) {
  for (absl::string_view line : absl::StrSplit(table, '\n')) {
    std::vector<absl::string_view> fields = absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (fields.size() < 10) continue;
    uint32_t state = 0;
    ListeningSocket socket;
    socket.udp = udp;
    if (!absl::SimpleHexAtoi(fields[3], &state) ||
        static_cast<int>(state) != (udp ? kUdpUnconnected : kTcpListen))
      continue;
    if (!ParseEndpoint(Sv(fields[1]), &socket.address, &socket.port)) continue;
    if (!absl::SimpleAtoi(fields[9], &socket.inode)) continue;
    out->push_back(socket);
  }
}

struct DirClose {
  void operator()(DIR* dir) const { ::closedir(dir); }
};

// Calls `each` with the name of every entry.
template <class F>
void ForEachEntry(const std::string& path, F each) {
  std::unique_ptr<DIR, DirClose> dir(::opendir(path.c_str()));
  while (dir != nullptr) {
    dirent* entry = ::readdir(dir.get());
    if (entry == nullptr || !each(std::string_view(entry->d_name))) break;
  }
}

bool HoldsSocket(const std::string& fd_dir, const std::string& link) {
  bool found = false;
  ForEachEntry(fd_dir, [&](std::string_view name) {
    char target[64];
    ssize_t n = ::readlink(StrCat(fd_dir, "/", name).c_str(), target, sizeof target);
    found = n > 0 && std::string_view(target, static_cast<size_t>(n)) == link;
    return !found;
  });
  return found;
}

}  // namespace

std::string PortOwner::ToString() const {
  if (pid == 0) return "an unknown process";
  return StrCat(command.empty() ? std::string("a process") : command, " (pid ", pid, ")");
}

absl::StatusOr<std::vector<ListeningSocket>> ListListeningSockets(const std::string& proc_root) {
  std::vector<ListeningSocket> out;
  for (const char* name : {"tcp", "tcp6", "udp", "udp6"}) {
    auto table = ReadFile(StrCat(proc_root, "/net/", name), kMaxTableBytes);
    if (absl::IsNotFound(table.status()) && std::strcmp(name, "tcp") != 0) continue;  // kernel without IPv6
    if (!table.ok()) return table.status();
    ParseTable(*table, name[0] == 'u', &out);
  }
  return out;
}

PortOwner OwnerOf(const ListeningSocket& socket, const std::string& proc_root) {
  PortOwner owner;
  owner.socket = socket;
  std::string link = StrCat("socket:[", socket.inode, "]");
  ForEachEntry(proc_root, [&](std::string_view name) {
    int pid = 0;
    if (!absl::SimpleAtoi(Av(name), &pid) || !HoldsSocket(StrCat(proc_root, "/", name, "/fd"), link))
      return true;
    owner.pid = pid;
    auto command = ReadFile(StrCat(proc_root, "/", name, "/comm"), 4096);
    if (command.ok()) owner.command = command->substr(0, command->find('\n'));
    return false;
  });
  return owner;
}

absl::StatusOr<std::optional<PortOwner>> FindPortOwner(uint16_t port, bool udp,
                                                       const std::string& proc_root) {
  ASSIGN_OR_RETURN(std::vector<ListeningSocket> sockets, ListListeningSockets(proc_root));
  auto it = std::find_if(sockets.begin(), sockets.end(),
                         [&](const ListeningSocket& s) { return s.udp == udp && s.port == port; });
  if (it == sockets.end()) return std::optional<PortOwner>();
  return std::optional<PortOwner>(OwnerOf(*it, proc_root));
}

}  // namespace keelson::net
