#pragma once
#include <linux/netfilter/nfnetlink.h>

#include <string>

#include "netlink.h"

namespace culvert::nfnetlink {

/** Of ipset's messages: the oldest that every kernel with nfnetlink speaks. */
constexpr uint8_t kIpsetProtocol = 6;

/** @param subsystem NFNL_SUBSYS_…; family NFPROTO_… or AF_… */
Netlink::Request request(uint8_t subsystem, uint8_t command, uint8_t family);

/** A dump of nothing where the kernel has no such subsystem, or what is asked for is not there. */
void dump(Netlink& netlink, Netlink::Request request, const char* syscall, const std::function<void()>& restart,
          const Netlink::Visit& visit);

/** An attribute that is text, with or without its end. */
std::string textOf(const nlattr* attribute);

}  // namespace culvert::nfnetlink
