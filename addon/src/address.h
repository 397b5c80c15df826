#pragma once
#include <netinet/in.h>
#include <sys/socket.h>

#include <string>

namespace culvert {

/** An IP address and port as the kernel takes them. */
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }

  /**
   * @param family AF_INET or AF_INET6; the text's own family is converted: "::ffff:a.b.c.d" and "a.b.c.d" are the same address.
   * "%scope" is read for IPv6 (name or index, looked up in the calling thread's namespace).
   * @throws SystemError EINVAL, ENODEV
   */
  static SocketAddress parse(int family, const std::string& text, uint16_t port);
};

/** Text of 4 or 16 bytes in network order. */
std::string addressText(int family, const void* bytes);
std::string addressText(const SocketAddress& address);
uint16_t portOf(const SocketAddress& address);

/** AF_INET for 4, AF_INET6 for 6. @throws SystemError EAFNOSUPPORT */
int familyOf(int version);

}  // namespace culvert
