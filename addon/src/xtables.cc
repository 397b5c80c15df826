/**
 * Chains that rules of legacy iptables define in a netns, read from the kernel's tables without iptables. Only tables that are there
 * already are asked for: asking for another would make it. Layouts are those of <linux/netfilter_ipv4/ip_tables.h> and its IPv6 twin,
 * which are not C++.
 */
#include <fcntl.h>
#include <linux/netfilter/x_tables.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <sstream>
#include <string>
#include <vector>

#include "arguments.h"
#include "error.h"
#include "fd.h"
#include "netns_operation.h"

namespace culvert {

namespace {

/** IPT_SO_GET_INFO and IPT_SO_GET_ENTRIES, the same numbers for IPv6. */
constexpr int kGetInfo = 64;
constexpr int kGetEntries = 65;
constexpr size_t kEntriesHeader = 40;  // struct ipt_get_entries: a name, a size, aligned for the entries

struct GetInfo {
  char name[XT_TABLE_MAXNAMELEN];
  unsigned int validHooks;
  unsigned int hookEntry[5];
  unsigned int underflow[5];
  unsigned int entries;
  unsigned int size;
};

struct Family {
  int family;
  int level;
  const char* names;
  /** where target_offset of an entry is; next_offset follows */
  size_t targetOffset;
};

constexpr Family kIpv4 = {AF_INET, SOL_IP, "/proc/thread-self/net/ip_tables_names", 88};
constexpr Family kIpv6 = {AF_INET6, SOL_IPV6, "/proc/thread-self/net/ip6_tables_names", 140};

/** One per line. A kernel without ip_tables has no such file. */
std::vector<std::string> tablesOf(const Family& family) {
  const int file = ::open(family.names, O_RDONLY | O_CLOEXEC);
  if (file < 0 && errno == ENOENT) return {};
  const Fd fd(check(file, "open", family.names));
  std::array<char, 1024> buffer;
  const int length = check(::read(fd.get(), buffer.data(), buffer.size()), "read", family.names);
  std::istringstream lines(std::string(buffer.data(), static_cast<size_t>(length)));
  std::vector<std::string> tables;
  for (std::string name; std::getline(lines, name);) tables.push_back(name);
  return tables;
}

uint16_t at(const std::vector<uint8_t>& bytes, size_t offset) {
  uint16_t value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

/** A chain that somebody made begins with an entry whose target is named ERROR and carries the chain's name; so does the end. */
std::vector<std::string> chainsOf(const Family& family, const std::vector<uint8_t>& entries) {
  std::vector<std::string> chains;
  constexpr size_t name = offsetof(xt_entry_target, u.user.name);
  for (size_t entry = 0; entry + family.targetOffset + 4 <= entries.size();) {
    const size_t target = entry + at(entries, entry + family.targetOffset);
    const size_t next = at(entries, entry + family.targetOffset + 2);
    const size_t text = target + sizeof(xt_entry_target);
    if (next == 0 || entry + next > entries.size()) break;
    if (text + XT_FUNCTION_MAXNAMELEN <= entry + next &&
        std::strncmp(reinterpret_cast<const char*>(entries.data() + target + name), XT_ERROR_TARGET, XT_EXTENSION_MAXNAMELEN) == 0) {
      const char* chain = reinterpret_cast<const char*>(entries.data() + text);
      chains.emplace_back(chain, strnlen(chain, XT_FUNCTION_MAXNAMELEN));
    }
    entry += next;
  }
  if (!chains.empty()) chains.pop_back();
  return chains;
}

std::vector<std::string> chainsIn(const Family& family, const std::string& table) {
  const Fd fd(check(::socket(family.family, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket", "udp"));
  for (int attempts = 0;; attempts++) {
    GetInfo info = {};
    socklen_t length = sizeof info;
    table.copy(info.name, sizeof info.name - 1);
    check(::getsockopt(fd.get(), family.level, kGetInfo, &info, &length), "getsockopt", "IPT_SO_GET_INFO " + table);
    std::vector<uint8_t> reply(kEntriesHeader + info.size);
    table.copy(reinterpret_cast<char*>(reply.data()), XT_TABLE_MAXNAMELEN - 1);
    std::memcpy(reply.data() + XT_TABLE_MAXNAMELEN, &info.size, sizeof info.size);
    length = static_cast<socklen_t>(reply.size());
    const int result = ::getsockopt(fd.get(), family.level, kGetEntries, reply.data(), &length);
    // changed in between
    if (result < 0 && errno == EAGAIN && attempts < 5) continue;
    check(result, "getsockopt", "IPT_SO_GET_ENTRIES " + table);
    return chainsOf(family, {reply.begin() + kEntriesHeader, reply.end()});
  }
}

}  // namespace

Operation xtablesChainsOperation() {
  return [](NetnsSession&) -> Render {
    std::vector<std::string> found;
    for (const Family& family : {kIpv4, kIpv6}) {
      for (const std::string& table : tablesOf(family)) {
        for (const std::string& chain : chainsIn(family, table))
          found.push_back((family.family == AF_INET ? "4 " : "6 ") + table + " " + chain);
      }
    }
    return [found = std::move(found)](Napi::Env env) -> Napi::Value {
      auto list = Napi::Array::New(env, found.size());
      for (uint32_t i = 0; i < found.size(); i++) list.Set(i, found[i]);
      return list;
    };
  };
}

}  // namespace culvert
