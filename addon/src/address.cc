#include "address.h"

#include <arpa/inet.h>
#include <net/if.h>

#include <cstdlib>
#include <cstring>

#include "error.h"

namespace culvert {

namespace {

uint32_t scopeOf(const std::string& scope) {
  char* end = nullptr;
  const unsigned long index = std::strtoul(scope.c_str(), &end, 10);
  if (!scope.empty() && *end == '\0') return static_cast<uint32_t>(index);
  const uint32_t named = if_nametoindex(scope.c_str());
  if (named == 0) throw SystemError(ENODEV, "if_nametoindex", scope);
  return named;
}

}  // namespace

SocketAddress SocketAddress::parse(int family, const std::string& text, uint16_t port) {
  SocketAddress result;
  if (family == AF_INET) {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&result.storage);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    const std::string bare = text.starts_with("::ffff:") ? text.substr(7) : text;
    if (inet_pton(AF_INET, bare.c_str(), &v4->sin_addr) != 1) throw SystemError(EINVAL, "inet_pton", "'" + text + "' is no IPv4 address");
    result.length = sizeof *v4;
    return result;
  }
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&result.storage);
  v6->sin6_family = AF_INET6;
  v6->sin6_port = htons(port);
  result.length = sizeof *v6;
  const size_t percent = text.find('%');
  const std::string bare = text.substr(0, percent);
  if (in_addr v4; percent == std::string::npos && inet_pton(AF_INET, bare.c_str(), &v4) == 1) {
    v6->sin6_addr.s6_addr[10] = v6->sin6_addr.s6_addr[11] = 0xff;
    std::memcpy(&v6->sin6_addr.s6_addr[12], &v4, sizeof v4);
    return result;
  }
  if (inet_pton(AF_INET6, bare.c_str(), &v6->sin6_addr) != 1) throw SystemError(EINVAL, "inet_pton", "'" + text + "' is no IP address");
  if (percent != std::string::npos) v6->sin6_scope_id = scopeOf(text.substr(percent + 1));
  return result;
}

std::string addressText(int family, const void* bytes) {
  char text[INET6_ADDRSTRLEN] = {};
  inet_ntop(family, bytes, text, sizeof text);
  return text;
}

std::string addressText(const SocketAddress& address) {
  if (address.storage.ss_family == AF_INET) return addressText(AF_INET, &reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_addr);
  const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&address.storage);
  std::string text = addressText(AF_INET6, &v6->sin6_addr);
  if (v6->sin6_scope_id != 0) text += "%" + std::to_string(v6->sin6_scope_id);
  return text;
}

uint16_t portOf(const SocketAddress& address) {
  if (address.storage.ss_family == AF_INET) return ntohs(reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_port);
  return ntohs(reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_port);
}

int familyOf(int version) {
  if (version == 4) return AF_INET;
  if (version == 6) return AF_INET6;
  throw SystemError(EAFNOSUPPORT, "socket", "family " + std::to_string(version) + " is neither 4 nor 6");
}

}  // namespace culvert
