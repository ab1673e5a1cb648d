// IP addresses and CIDR blocks, IPv4 and IPv6: parsing as strict as Kubernetes', canonical text (RFC 5952),
// arithmetic.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

namespace keelson::net {

class IpAddress {
 public:
  IpAddress() = default;  // 0.0.0.0
  // Refused: leading zeros in IPv4, zones, surrounding space, IPv4-mapped text stays IPv6.
  static absl::StatusOr<IpAddress> Parse(std::string_view text);
  // 4 or 16 bytes, network order.
  static absl::StatusOr<IpAddress> FromBytes(std::string_view bytes);
  static IpAddress V4(uint32_t host_order);

  bool is_v4() const { return v4_; }
  bool is_v6() const { return !v4_; }
  bool is_loopback() const;
  bool is_unspecified() const;
  bool is_link_local() const;
  bool is_multicast() const;
  int bits() const { return v4_ ? 32 : 128; }
  // IPv4 only (CHECK).
  uint32_t v4() const;
  // 4 or 16 bytes, network order.
  std::string ToBytes() const;
  std::string ToString() const;
  // "10.0.0.1" -> "1.0.0.10.in-addr.arpa", IPv6 by nibbles under ip6.arpa; no trailing dot.
  std::string ToReverseName() const;
  // OutOfRange when it would leave the address family's space. Negative offsets go down.
  absl::StatusOr<IpAddress> Plus(int64_t offset) const;

  friend bool operator==(const IpAddress&, const IpAddress&) = default;
  // IPv4 before IPv6, then by value.
  friend std::strong_ordering operator<=>(const IpAddress& a, const IpAddress& b);
  template <typename H>
  friend H AbslHashValue(H h, const IpAddress& a) {
    return H::combine(std::move(h), a.v4_, a.bytes_);
  }

 private:
  friend class Cidr;
  bool v4_ = true;
  std::array<uint8_t, 16> bytes_{};  // network order; IPv4 in the first four
};

class Cidr {
 public:
  Cidr() = default;  // 0.0.0.0/0
  // "10.244.0.0/16". Host bits are kept in address() and cleared in network().
  static absl::StatusOr<Cidr> Parse(std::string_view text);
  // InvalidArgument when host bits are set.
  static absl::StatusOr<Cidr> ParseStrict(std::string_view text);
  static absl::StatusOr<Cidr> Make(const IpAddress& address, int prefix_length);

  const IpAddress& address() const { return address_; }
  int prefix_length() const { return prefix_length_; }
  bool is_v4() const { return address_.is_v4(); }
  IpAddress network() const;
  // Last address of the block (IPv4: broadcast).
  IpAddress last() const;
  // Addresses in the block, at most 2^62.
  uint64_t size() const;
  bool Contains(const IpAddress& address) const;
  bool Contains(const Cidr& other) const;
  bool Overlaps(const Cidr& other) const;
  // The n-th address from network(); OutOfRange past the end. Nth(1) of 10.96.0.0/12 is 10.96.0.1.
  absl::StatusOr<IpAddress> Nth(uint64_t n) const;
  // Distance from network(); `address` must be contained.
  absl::StatusOr<uint64_t> IndexOf(const IpAddress& address) const;
  // The n-th sub-block of that longer prefix: node CIDRs.
  absl::StatusOr<Cidr> Subnet(int prefix_length, uint64_t n) const;
  // address()/prefix as given; use Masked() for the block.
  std::string ToString() const;
  Cidr Masked() const;

  friend bool operator==(const Cidr&, const Cidr&) = default;

 private:
  IpAddress address_;
  int prefix_length_ = 0;
};

}  // namespace keelson::net
