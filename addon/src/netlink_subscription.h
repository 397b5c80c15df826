#pragma once
#include <linux/netlink.h>
#include <napi.h>

#include <functional>
#include <vector>

namespace culvert {

/** What the kernel tells the members of some groups of a netlink bus, in one netns, until JavaScript closes it. */
struct NetlinkSubscription {
  /** NETLINK_ROUTE or NETLINK_NETFILTER */
  int bus;
  std::vector<int> groups;
  /** bytes; 0: the system's */
  int receiveBuffer = 0;
  /** Every message, as it is read. */
  std::function<void(const nlmsghdr*)> visit;
  /** After each turn of reading. @param lost how often the kernel had no room for messages */
  std::function<void(Napi::Env env, const Napi::FunctionReference& call, uint32_t lost)> report;
};

/** @param info netns fd, function to call. @return a handle with `close` */
Napi::Value subscribe(const Napi::CallbackInfo& info, NetlinkSubscription subscription);

}  // namespace culvert
