#include "net/conntrack.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <string>

#include "base/status.h"
#include "net/netlink_attrs.h"

namespace keelson::net {
namespace {

struct SocketClose {
  void operator()(mnl_socket* s) const { mnl_socket_close(s); }
};
using MnlSocket = std::unique_ptr<mnl_socket, SocketClose>;

constexpr size_t kBufferBytes = 64 << 10;
constexpr size_t kMaxDeletedFlows = 65536;

struct Tuple {
  IpAddress source, destination;
  uint8_t protocol = 0;
  uint16_t destination_port = 0;
};

void ReadAddresses(const nlattr* nested, Tuple* out) {
  ForEachNested(nested, [out](const nlattr* a) {
    if (mnl_attr_validate(a, MNL_TYPE_U32) < 0) return;
    if (mnl_attr_get_type(a) == CTA_IP_V4_SRC) out->source = IpAddress::V4(ntohl(mnl_attr_get_u32(a)));
    if (mnl_attr_get_type(a) == CTA_IP_V4_DST) out->destination = IpAddress::V4(ntohl(mnl_attr_get_u32(a)));
  });
}

void ReadPorts(const nlattr* nested, Tuple* out) {
  ForEachNested(nested, [out](const nlattr* a) {
    if (mnl_attr_get_type(a) == CTA_PROTO_NUM && mnl_attr_validate(a, MNL_TYPE_U8) == 0) {
      out->protocol = mnl_attr_get_u8(a);
    }
    if (mnl_attr_get_type(a) == CTA_PROTO_DST_PORT && mnl_attr_validate(a, MNL_TYPE_U16) == 0) {
      out->destination_port = ntohs(mnl_attr_get_u16(a));
    }
  });
}

Tuple ReadTuple(const nlattr* tuple) {
  Tuple out;
  ForEachNested(tuple, [&out](const nlattr* a) {
    if (mnl_attr_get_type(a) == CTA_TUPLE_IP) ReadAddresses(a, &out);
    if (mnl_attr_get_type(a) == CTA_TUPLE_PROTO) ReadPorts(a, &out);
  });
  return out;
}

bool Matches(const StaleFlow& flow, const Tuple& original, const Tuple& reply) {
  if (original.protocol != IPPROTO_UDP || original.destination_port != flow.port) return false;
  if (!flow.vip.is_unspecified() && original.destination != flow.vip) return false;
  // No endpoint before: the flow was left untranslated, the answer is expected from the address asked.
  if (flow.endpoint.is_unspecified()) return reply.source == original.destination;
  return reply.source == flow.endpoint;
}

struct Dump {
  const std::vector<StaleFlow>* flows;
  std::vector<std::string> originals;  // payloads of CTA_TUPLE_ORIG of the flows to delete
};

int OnEntry(const nlmsghdr* header, void* data) {
  Dump& dump = *static_cast<Dump*>(data);
  const nlattr *original = nullptr, *reply = nullptr;
  ForEachAttribute(header, sizeof(nfgenmsg), [&](const nlattr* a) {
    if (mnl_attr_get_type(a) == CTA_TUPLE_ORIG) original = a;
    if (mnl_attr_get_type(a) == CTA_TUPLE_REPLY) reply = a;
  });
  if (original == nullptr || reply == nullptr || dump.originals.size() >= kMaxDeletedFlows) return MNL_CB_OK;
  Tuple there = ReadTuple(original), back = ReadTuple(reply);
  for (const StaleFlow& flow : *dump.flows) {
    if (!Matches(flow, there, back)) continue;
    dump.originals.emplace_back(static_cast<const char*>(mnl_attr_get_payload(original)),
                                mnl_attr_get_payload_len(original));
    break;
  }
  return MNL_CB_OK;
}

nlmsghdr* NewMessage(char* buffer, int type, uint16_t flags, uint32_t sequence) {
  nlmsghdr* header = mnl_nlmsg_put_header(buffer);
  header->nlmsg_type = static_cast<uint16_t>(NFNL_SUBSYS_CTNETLINK << 8 | type);
  header->nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
  header->nlmsg_seq = sequence;
  auto* gen = static_cast<nfgenmsg*>(mnl_nlmsg_put_extra_header(header, sizeof(nfgenmsg)));
  gen->nfgen_family = AF_INET;
  gen->version = NFNETLINK_V0;
  return header;
}

// Sends what is in `buffer` and reads to the end of the answer.
absl::Status Transact(mnl_socket* socket, const nlmsghdr* request, std::array<char, kBufferBytes>& buffer,
                      mnl_cb_t each, void* data) {
  uint32_t sequence = request->nlmsg_seq, port = mnl_socket_get_portid(socket);
  if (mnl_socket_sendto(socket, request, request->nlmsg_len) < 0)
    return ErrnoStatus(errno, "send to conntrack");
  while (true) {
    ssize_t size = mnl_socket_recvfrom(socket, buffer.data(), buffer.size());
    if (size < 0) return ErrnoStatus(errno, "receive from conntrack");
    int more = mnl_cb_run(buffer.data(), static_cast<size_t>(size), sequence, port, each, data);
    if (more < 0) return ErrnoStatus(errno, "conntrack request");
    if (more == MNL_CB_STOP) return absl::OkStatus();
  }
}

}  // namespace

absl::StatusOr<size_t> DeleteStaleFlows(const std::vector<StaleFlow>& flows) {
  if (flows.empty()) return 0;
  MnlSocket socket(mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC));
  if (socket == nullptr) return ErrnoStatus(errno, "open conntrack socket");
  if (mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) < 0)
    return ErrnoStatus(errno, "bind conntrack socket");
  auto buffer = std::make_unique<std::array<char, kBufferBytes>>();
  alignas(nlmsghdr) std::array<char, 1024> request;
  uint32_t sequence = 1;
  Dump dump{.flows = &flows};
  nlmsghdr* get = NewMessage(request.data(), IPCTNL_MSG_CT_GET, NLM_F_DUMP, sequence++);
  RETURN_IF_ERROR(Transact(socket.get(), get, *buffer, OnEntry, &dump));
  size_t deleted = 0;
  for (const std::string& original : dump.originals) {
    if (original.size() > request.size() / 2) continue;
    nlmsghdr* del = NewMessage(request.data(), IPCTNL_MSG_CT_DELETE, NLM_F_ACK, sequence++);
    mnl_attr_put(del, CTA_TUPLE_ORIG | NLA_F_NESTED, original.size(), original.data());
    absl::Status status = Transact(socket.get(), del, *buffer, nullptr, nullptr);
    if (status.ok()) ++deleted;
    if (!status.ok() && !absl::IsNotFound(status)) return status;  // it may have ended by itself
  }
  return deleted;
}

}  // namespace keelson::net
