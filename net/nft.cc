#include "net/nft.h"

#include <absl/strings/ascii.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>
#include <cstring>
#include <tuple>
#include <utility>

#include "base/fd.h"
#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"
#include "net/netlink_attrs.h"

namespace keelson::net {
namespace {

namespace asio = boost::asio;

// A full load of 5,000 Services is announced in about 4 MB of events.
constexpr int kReceiveBufferBytes = 8 << 20;
constexpr size_t kMessageBufferBytes = 64 << 10;
constexpr size_t kMaxErrorBytes = 500;
// In every message of the nf_tables subsystem attribute 1 is the name of the table it is about.
constexpr uint16_t kTableNameAttribute = 1;
static_assert(NFTA_TABLE_NAME == 1 && NFTA_CHAIN_TABLE == 1 && NFTA_RULE_TABLE == 1 && NFTA_SET_TABLE == 1 &&
              NFTA_SET_ELEM_LIST_TABLE == 1);

uint8_t Family(std::string_view name) {
  if (name == "inet") return NFPROTO_INET;
  return name == "ip6" ? NFPROTO_IPV6 : NFPROTO_IPV4;
}

// Back to false also when the load is cancelled: what it did then counts as foreign.
struct Applying {
  explicit Applying(bool* f) : flag(f) { *flag = true; }
  ~Applying() { *flag = false; }
  Applying(const Applying&) = delete;
  Applying& operator=(const Applying&) = delete;
  bool* flag;
};

}  // namespace

struct Nft::Impl {
  Impl(Env& e, NftOptions o) : env(e), options(std::move(o)), scope(e.executor()), events(e.executor()) {}

  Env& env;
  NftOptions options;
  Scope scope;
  asio::posix::stream_descriptor events;
  std::function<void()> changed;
  uint64_t foreign_changes = 0;

  // The kernel commits transactions one by one and announces each: what it changed, then the new generation.
  // Commits that touched our table and are more than those we made are somebody else's.
  AsyncMutex one_load;
  bool applying = false, lost_events = false, touched = false;
  uint64_t commits_seen = 0, commits_made = 0;

  void OnMessage(const nlmsghdr* header);
  // Reads what is there without waiting.
  void Drain();
  void Judge();
  Task<void> WatchLoop();
};

void Nft::Impl::OnMessage(const nlmsghdr* header) {
  if (NFNL_SUBSYS_ID(header->nlmsg_type) != NFNL_SUBSYS_NFTABLES) return;
  if (NFNL_MSG_TYPE(header->nlmsg_type) == NFT_MSG_NEWGEN) {
    if (touched) ++commits_seen;
    touched = false;
    return;
  }
  if (mnl_nlmsg_get_payload_len(header) < sizeof(nfgenmsg)) return;
  const auto* gen = static_cast<const nfgenmsg*>(mnl_nlmsg_get_payload(header));
  if (gen->nfgen_family != Family(options.family)) return;
  ForEachAttribute(header, sizeof(nfgenmsg), [this](const nlattr* a) {
    if (mnl_attr_get_type(a) != kTableNameAttribute || mnl_attr_validate(a, MNL_TYPE_NUL_STRING) < 0) return;
    if (options.table == mnl_attr_get_str(a)) touched = true;
  });
}

void Nft::Impl::Drain() {
  if (!events.is_open()) return;
  alignas(nlmsghdr) static thread_local std::array<char, kMessageBufferBytes> buffer;
  while (true) {
    ssize_t size = recv(events.native_handle(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == ENOBUFS) {
      lost_events = true;
      continue;
    }
    if (size <= 0) return;
    int left = static_cast<int>(size);
    for (auto* header = reinterpret_cast<const nlmsghdr*>(buffer.data()); mnl_nlmsg_ok(header, left);
         header = mnl_nlmsg_next(header, &left)) {
      OnMessage(header);
    }
  }
}

void Nft::Impl::Judge() {
  if (applying) return;
  bool foreign = commits_seen > commits_made || lost_events;
  commits_seen = commits_made = 0;
  lost_events = false;
  if (!foreign) return;
  ++foreign_changes;
  if (changed) changed();
}

Task<void> Nft::Impl::WatchLoop() {
  while (true) {
    auto done = asio::as_tuple(asio::use_awaitable);
    Task<std::tuple<boost::system::error_code>> wait =
        events.async_wait(asio::posix::stream_descriptor::wait_read, done);
    std::tuple<boost::system::error_code> result = co_await std::move(wait);
    if (std::get<0>(result) || scope.closing()) co_return;
    Drain();
    Judge();
  }
}

Nft::Nft(Env& env, NftOptions options) : impl_(std::make_unique<Impl>(env, std::move(options))) {}
Nft::~Nft() = default;

Task<absl::Status> Nft::Apply(std::string script) {
  Impl& impl = *impl_;
  Task<AsyncMutex::Guard> lock = impl.one_load.Lock();
  AsyncMutex::Guard guard = co_await std::move(lock);
  // What came before is judged before our own commit is among it.
  impl.Drain();
  impl.Judge();
  SubprocessOptions run;
  run.argv = {impl.options.nft, "-f", "-"};
  run.stdin_data = std::move(script);
  run.timeout = impl.options.timeout;
  Applying applying(&impl.applying);
  Task<absl::StatusOr<SubprocessResult>> task = impl.env.subprocess().Run(std::move(run));
  absl::StatusOr<SubprocessResult> result = co_await std::move(task);
  impl.applying = false;
  impl.Drain();
  if (!result.ok()) {
    // Killed in mid-load, perhaps after its commit: whatever was seen counts as foreign.
    impl.Judge();
    co_return Annotate(result.status(), "load nft rules");
  }
  if (result->ok()) ++impl.commits_made;
  bool seen_ours_only = impl.commits_seen <= impl.commits_made;
  // Our own large load may overflow the socket; that alone is no sign of others.
  if (impl.lost_events && seen_ours_only && result->ok()) impl.lost_events = false;
  impl.Judge();
  if (result->ok()) co_return absl::OkStatus();
  std::string words(absl::StripAsciiWhitespace(result->stderr_data));
  if (words.size() > kMaxErrorBytes) words.resize(kMaxErrorBytes);
  std::string message = StrCat("load nft rules: nft ended with ", result->exit_code, ": ", words);
  if (words.find("Operation not permitted") != std::string::npos)
    co_return absl::PermissionDeniedError(message);
  co_return absl::FailedPreconditionError(message);
}

absl::Status Nft::Watch(std::function<void()> changed) {
  impl_->changed = std::move(changed);
  Fd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER));
  if (!fd.valid()) return ErrnoStatus(errno, "watch nft rules: open netlink socket");
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  if (bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    return ErrnoStatus(errno, "watch nft rules: bind netlink socket");
  }
  int group = NFNLGRP_NFTABLES, size = kReceiveBufferBytes;
  if (setsockopt(fd.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) != 0) {
    return ErrnoStatus(errno, "watch nft rules: join NFNLGRP_NFTABLES");
  }
  // Without CAP_NET_ADMIN the smaller default stays; lost events are noticed.
  (void)setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
  boost::system::error_code ec;
  impl_->events.assign(fd.get(), ec);
  if (ec) return absl::InternalError("watch nft rules: " + ec.message());
  fd.release();
  impl_->scope.Spawn("nft watch", impl_->WatchLoop());
  return absl::OkStatus();
}

Task<void> Nft::Stop() {
  boost::system::error_code ignored;
  impl_->changed = nullptr;
  impl_->events.close(ignored);
  Task<void> close = impl_->scope.Close();
  co_await std::move(close);
}

uint64_t Nft::foreign_changes() const { return impl_->foreign_changes; }

}  // namespace keelson::net
