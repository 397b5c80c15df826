/** Takes an address into an ipset, or out of it; needs CAP_NET_ADMIN over that netns. */
#include <arpa/inet.h>
#include <linux/netfilter/ipset/ip_set.h>
#include <netinet/in.h>

#include <string>

#include "address.h"
#include "arguments.h"
#include "netns_operation.h"
#include "nfnetlink.h"

namespace culvert {

namespace {

constexpr size_t kLongestComment = 255;

struct Member {
  bool add;
  std::string set;
  SocketAddress address;
  std::string comment;
};

/** Without NLM_F_EXCL: what is there already, or is not there to be taken out, is no fault. */
void change(Netlink& netlink, const Member& member) {
  const char* syscall = member.add ? "IPSET_CMD_ADD" : "IPSET_CMD_DEL";
  Netlink::Request message = nfnetlink::request(NFNL_SUBSYS_IPSET, member.add ? IPSET_CMD_ADD : IPSET_CMD_DEL, AF_INET);
  nlmsghdr* header = message.header();
  mnl_attr_put_u8(header, IPSET_ATTR_PROTOCOL, nfnetlink::kIpsetProtocol);
  mnl_attr_put_strz(header, IPSET_ATTR_SETNAME, member.set.c_str());
  nlattr* data = mnl_attr_nest_start(header, IPSET_ATTR_DATA);
  nlattr* ip = mnl_attr_nest_start(header, IPSET_ATTR_IP);
  if (member.address.get()->sa_family == AF_INET) {
    const auto* four = reinterpret_cast<const sockaddr_in*>(member.address.get());
    mnl_attr_put(header, IPSET_ATTR_IPADDR_IPV4 | NLA_F_NET_BYTEORDER, sizeof four->sin_addr, &four->sin_addr);
  } else {
    const auto* six = reinterpret_cast<const sockaddr_in6*>(member.address.get());
    mnl_attr_put(header, IPSET_ATTR_IPADDR_IPV6 | NLA_F_NET_BYTEORDER, sizeof six->sin6_addr, &six->sin6_addr);
  }
  mnl_attr_nest_end(header, ip);
  if (member.add) mnl_attr_put_strz(header, IPSET_ATTR_COMMENT, member.comment.c_str());
  mnl_attr_nest_end(header, data);
  const int error = netlink.acknowledge(message, syscall);
  if (error != 0) throw SystemError(error, syscall, member.set);
}

}  // namespace

Operation ipsetMemberOperation(const Napi::Object& op) {
  const int family = familyOf(integer(op.Get("family")));
  Member member = {.add = flag(op, "add"),
                   .set = text(op.Get("name")).substr(0, IPSET_MAXNAMELEN - 1),
                   .address = SocketAddress::parse(family, text(op.Get("address")), 0),
                   .comment = text(op.Get("comment")).substr(0, kLongestComment)};
  return [member = std::move(member)](NetnsSession& session) -> Render {
    change(session.netfilter(), member);
    return {};
  };
}

}  // namespace culvert
