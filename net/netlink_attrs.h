// libmnl's loops over attributes, as functions: its macros do not compile as C++.
#pragma once

#include <libmnl/libmnl.h>

#include <cstddef>

namespace keelson::net {

// Calls each(const nlattr*) for the attributes of a message after `extra_header_bytes`, as far as they are
// whole.
template <class Each>
void ForEachAttribute(const nlmsghdr* header, size_t extra_header_bytes, Each each) {
  const char* end = static_cast<const char*>(mnl_nlmsg_get_payload_tail(header));
  const auto* a = static_cast<const nlattr*>(mnl_nlmsg_get_payload_offset(header, extra_header_bytes));
  for (; mnl_attr_ok(a, static_cast<int>(end - reinterpret_cast<const char*>(a))); a = mnl_attr_next(a))
    each(a);
}

template <class Each>
void ForEachNested(const nlattr* nested, Each each) {
  const char* begin = static_cast<const char*>(mnl_attr_get_payload(nested));
  const char* end = begin + mnl_attr_get_payload_len(nested);
  const auto* a = reinterpret_cast<const nlattr*>(begin);
  for (; mnl_attr_ok(a, static_cast<int>(end - reinterpret_cast<const char*>(a))); a = mnl_attr_next(a))
    each(a);
}

}  // namespace keelson::net
