/** RTM_GETADDR: the addresses of a netns, which are what "its own" means to the datapath. */
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <map>
#include <string>
#include <vector>

#include "address.h"
#include "netns_operation.h"

namespace culvert {

namespace {

struct Address {
  std::string address;
  int family;
  uint32_t interface;
  std::string device;
  uint8_t scope;
  uint8_t prefix;
};

/** The text of the address itself: on a point-to-point link IFA_ADDRESS is the peer's, IFA_LOCAL ours. */
std::string localAddress(const nlmsghdr* header, int family) {
  const nlattr* chosen = nullptr;
  for (const nlattr* attribute : Attributes(header, sizeof(ifaddrmsg))) {
    const uint16_t type = mnl_attr_get_type(attribute);
    if (type == IFA_LOCAL || (type == IFA_ADDRESS && chosen == nullptr)) chosen = attribute;
  }
  const size_t want = family == AF_INET ? 4 : 16;
  if (chosen == nullptr || mnl_attr_get_payload_len(chosen) < want) return {};
  return addressText(family, mnl_attr_get_payload(chosen));
}

std::vector<Address> readAddresses(Netlink& netlink) {
  std::vector<Address> addresses;
  Netlink::Request request(RTM_GETADDR, 0);
  request.body<ifaddrmsg>()->ifa_family = AF_UNSPEC;
  const auto visit = [&](const nlmsghdr* header) {
    if (header->nlmsg_type != RTM_NEWADDR) return;
    const auto* body = static_cast<const ifaddrmsg*>(mnl_nlmsg_get_payload(header));
    if (body->ifa_family != AF_INET && body->ifa_family != AF_INET6) return;
    std::string address = localAddress(header, body->ifa_family);
    if (address.empty()) return;
    addresses.push_back(
        {std::move(address), body->ifa_family == AF_INET ? 4 : 6, body->ifa_index, {}, body->ifa_scope, body->ifa_prefixlen});
  };
  netlink.dump(
      request, "RTM_GETADDR", [&] { addresses.clear(); }, visit);

  std::map<uint32_t, std::string> names;
  for (Address& address : addresses) {
    auto [name, isNew] = names.try_emplace(address.interface);
    char buffer[IF_NAMESIZE] = {};
    if (isNew && if_indextoname(address.interface, buffer) != nullptr) name->second = buffer;
    address.device = name->second;
  }
  return addresses;
}

}  // namespace

Operation addressesOperation() {
  return [](NetnsSession& session) -> Render {
    return [addresses = readAddresses(session.route())](Napi::Env env) -> Napi::Value {
      auto list = Napi::Array::New(env, addresses.size());
      for (uint32_t i = 0; i < addresses.size(); i++) {
        auto entry = Napi::Object::New(env);
        entry.Set("address", addresses[i].address);
        entry.Set("family", addresses[i].family);
        entry.Set("ifindex", addresses[i].interface);
        entry.Set("device", addresses[i].device);
        entry.Set("scope", addresses[i].scope);
        entry.Set("prefix", addresses[i].prefix);
        list.Set(i, entry);
      }
      return list;
    };
  };
}

}  // namespace culvert
