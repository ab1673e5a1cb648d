#include "net/address.h"

#include <absl/strings/numbers.h>
#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "base/status.h"
#include "base/strings.h"

namespace keelson::net {

namespace {

// Wide enough for every address of both families.
using U128 = unsigned __int128;

absl::Status BadAddress(std::string_view text) {
  return absl::InvalidArgumentError(StrCat("not an IP address: \"", text.substr(0, 64), "\""));
}

bool ParseV4(std::string_view text, uint8_t* out) {
  for (int i = 0; i < 4; ++i) {
    if (i > 0) {
      if (text.empty() || text[0] != '.') return false;
      text.remove_prefix(1);
    }
    size_t digits = 0;
    unsigned value = 0;
    while (digits < text.size() && digits < 4 && text[digits] >= '0' && text[digits] <= '9') {
      value = value * 10 + static_cast<unsigned>(text[digits++] - '0');
    }
    if (digits == 0 || digits > 3 || value > 255 || (digits > 1 && text[0] == '0')) return false;
    out[i] = static_cast<uint8_t>(value);
    text.remove_prefix(digits);
  }
  return text.empty();
}

}  // namespace

absl::StatusOr<IpAddress> IpAddress::Parse(std::string_view text) {
  IpAddress out;
  if (text.find(':') == std::string_view::npos) {
    if (!ParseV4(text, out.bytes_.data())) return BadAddress(text);
    return out;
  }
  char buffer[INET6_ADDRSTRLEN + 1];
  if (text.size() >= sizeof buffer || text.find('\0') != std::string_view::npos) return BadAddress(text);
  std::memcpy(buffer, text.data(), text.size());
  buffer[text.size()] = '\0';
  out.v4_ = false;
  if (::inet_pton(AF_INET6, buffer, out.bytes_.data()) != 1) return BadAddress(text);
  return out;
}

absl::StatusOr<IpAddress> IpAddress::FromBytes(std::string_view bytes) {
  if (bytes.size() != 4 && bytes.size() != 16)
    return absl::InvalidArgumentError("IP address: neither 4 nor 16 bytes");
  IpAddress out;
  out.v4_ = bytes.size() == 4;
  std::memcpy(out.bytes_.data(), bytes.data(), bytes.size());
  return out;
}

IpAddress IpAddress::V4(uint32_t host_order) {
  IpAddress out;
  for (int i = 0; i < 4; ++i)
    out.bytes_[static_cast<size_t>(i)] = static_cast<uint8_t>(host_order >> (24 - 8 * i));
  return out;
}

namespace {

U128 ValueOf(const std::string& bytes) {
  U128 value = 0;
  for (char c : bytes) value = (value << 8) | static_cast<uint8_t>(c);
  return value;
}

IpAddress FromValue(U128 value, bool v4) {
  std::string bytes(v4 ? 4 : 16, '\0');
  for (size_t i = bytes.size(); i-- > 0; value >>= 8) bytes[i] = static_cast<char>(value & 0xff);
  return *IpAddress::FromBytes(bytes);
}

// Bits of the host part set.
U128 HostMask(int bits, int prefix) {
  int host = bits - prefix;
  return host == 128 ? ~U128{0} : (U128{1} << host) - 1;
}

}  // namespace

bool IpAddress::is_loopback() const {
  if (v4_) return bytes_[0] == 127;
  return ValueOf(ToBytes()) == 1;
}

bool IpAddress::is_unspecified() const { return ValueOf(ToBytes()) == 0; }

bool IpAddress::is_link_local() const {
  if (v4_) return bytes_[0] == 169 && bytes_[1] == 254;
  return bytes_[0] == 0xfe && (bytes_[1] & 0xc0) == 0x80;
}

bool IpAddress::is_multicast() const { return v4_ ? (bytes_[0] & 0xf0) == 0xe0 : bytes_[0] == 0xff; }

uint32_t IpAddress::v4() const {
  KEELSON_CHECK(v4_, "IPv4 wanted");
  return static_cast<uint32_t>(ValueOf(ToBytes()));
}

std::string IpAddress::ToBytes() const {
  return std::string(reinterpret_cast<const char*>(bytes_.data()), v4_ ? 4 : 16);
}

std::string IpAddress::ToString() const {
  char text[INET6_ADDRSTRLEN];
  ::inet_ntop(v4_ ? AF_INET : AF_INET6, bytes_.data(), text, sizeof text);
  return text;
}

std::string IpAddress::ToReverseName() const {
  std::string out;
  if (v4_) {
    for (size_t i = 4; i-- > 0;) StrAppend(&out, static_cast<int>(bytes_[i]), ".");
    return out + "in-addr.arpa";
  }
  static constexpr char kHex[] = "0123456789abcdef";
  for (size_t i = 16; i-- > 0;) {
    out += kHex[bytes_[i] & 15];
    out += '.';
    out += kHex[bytes_[i] >> 4];
    out += '.';
  }
  return out + "ip6.arpa";
}

absl::StatusOr<IpAddress> IpAddress::Plus(int64_t offset) const {
  U128 value = ValueOf(ToBytes());
  U128 limit = HostMask(bits(), 0);
  U128 magnitude = offset < 0 ? U128(-static_cast<__int128>(offset)) : U128(offset);
  bool fits = offset < 0 ? magnitude <= value : magnitude <= limit - value;
  if (!fits) return absl::OutOfRangeError(StrCat(ToString(), " + ", offset, " leaves the address space"));
  return FromValue(offset < 0 ? value - magnitude : value + magnitude, v4_);
}

std::strong_ordering operator<=>(const IpAddress& a, const IpAddress& b) {
  if (a.v4_ != b.v4_) return a.v4_ ? std::strong_ordering::less : std::strong_ordering::greater;
  return a.bytes_ <=> b.bytes_;
}

absl::StatusOr<Cidr> Cidr::Parse(std::string_view text) {
  size_t slash = text.find('/');
  if (slash == std::string_view::npos) {
    return absl::InvalidArgumentError(
        StrCat("not a CIDR block (no prefix length): \"", text.substr(0, 64), "\""));
  }
  ASSIGN_OR_RETURN(IpAddress address, IpAddress::Parse(text.substr(0, slash)));
  std::string_view prefix = text.substr(slash + 1);
  int length = 0;
  bool digits = !prefix.empty() && prefix.size() <= 3 &&
                std::all_of(prefix.begin(), prefix.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (!digits || (prefix.size() > 1 && prefix[0] == '0') || !absl::SimpleAtoi(Av(prefix), &length)) {
    return absl::InvalidArgumentError(
        StrCat("bad prefix length in CIDR block: \"", text.substr(0, 64), "\""));
  }
  return Make(address, length);
}

absl::StatusOr<Cidr> Cidr::ParseStrict(std::string_view text) {
  ASSIGN_OR_RETURN(Cidr cidr, Parse(text));
  if (cidr.network() != cidr.address()) {
    return absl::InvalidArgumentError(
        StrCat("CIDR block ", text, " has host bits set; use ", cidr.Masked().ToString()));
  }
  return cidr;
}

absl::StatusOr<Cidr> Cidr::Make(const IpAddress& address, int prefix_length) {
  if (prefix_length < 0 || prefix_length > address.bits()) {
    return absl::InvalidArgumentError(StrCat("prefix length ", prefix_length, " of ", address.ToString(),
                                             " is not in 0..", address.bits()));
  }
  Cidr out;
  out.address_ = address;
  out.prefix_length_ = prefix_length;
  return out;
}

IpAddress Cidr::network() const {
  return FromValue(ValueOf(address_.ToBytes()) & ~HostMask(address_.bits(), prefix_length_), is_v4());
}

IpAddress Cidr::last() const {
  return FromValue(ValueOf(address_.ToBytes()) | HostMask(address_.bits(), prefix_length_), is_v4());
}

uint64_t Cidr::size() const {
  int host = address_.bits() - prefix_length_;
  return uint64_t{1} << std::min(host, 62);
}

bool Cidr::Contains(const IpAddress& address) const {
  if (address.is_v4() != is_v4()) return false;
  U128 mask = ~HostMask(address_.bits(), prefix_length_);
  return (ValueOf(address.ToBytes()) & mask) == (ValueOf(address_.ToBytes()) & mask);
}

bool Cidr::Contains(const Cidr& other) const {
  return other.prefix_length_ >= prefix_length_ && Contains(other.address_);
}

bool Cidr::Overlaps(const Cidr& other) const { return Contains(other) || other.Contains(*this); }

absl::StatusOr<IpAddress> Cidr::Nth(uint64_t n) const {
  U128 host = HostMask(address_.bits(), prefix_length_);
  if (U128(n) > host) return absl::OutOfRangeError(StrCat(ToString(), " has no address number ", n));
  return FromValue(ValueOf(network().ToBytes()) + n, is_v4());
}

absl::StatusOr<uint64_t> Cidr::IndexOf(const IpAddress& address) const {
  if (!Contains(address)) return absl::OutOfRangeError(StrCat(address.ToString(), " is not in ", ToString()));
  U128 index = ValueOf(address.ToBytes()) - ValueOf(network().ToBytes());
  if (index > U128(UINT64_MAX))
    return absl::OutOfRangeError(StrCat(address.ToString(), " is too far into ", ToString()));
  return static_cast<uint64_t>(index);
}

absl::StatusOr<Cidr> Cidr::Subnet(int prefix_length, uint64_t n) const {
  int more = prefix_length - prefix_length_;
  if (more < 0 || prefix_length > address_.bits()) {
    return absl::InvalidArgumentError(StrCat(ToString(), " cannot be cut into /", prefix_length));
  }
  if (more < 64 && n >= (uint64_t{1} << more)) {
    return absl::OutOfRangeError(StrCat(ToString(), " has no /", prefix_length, " number ", n));
  }
  int shift = address_.bits() - prefix_length;
  U128 offset = shift >= 128 ? U128{0} : U128(n) << shift;
  return Make(FromValue(ValueOf(network().ToBytes()) + offset, is_v4()), prefix_length);
}

std::string Cidr::ToString() const { return StrCat(address_.ToString(), "/", prefix_length_); }

Cidr Cidr::Masked() const {
  Cidr out = *this;
  out.address_ = network();
  return out;
}

}  // namespace keelson::net
