/** Tells when addresses, rules or routes of a netns change; what they are now is read afresh, never derived from the messages. */
#include "netlink_watch.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include <memory>
#include <set>
#include <string>
#include <utility>

#include "netlink_subscription.h"

namespace culvert {

namespace {

const char* subjectOf(uint16_t type) {
  switch (type) {
    case RTM_NEWADDR:
    case RTM_DELADDR:
      return "address";
    case RTM_NEWRULE:
    case RTM_DELRULE:
      return "rule";
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
      return "route";
    default:
      return nullptr;
  }
}

}  // namespace

Napi::Value netnsWatch(const Napi::CallbackInfo& info) {
  auto subjects = std::make_shared<std::set<std::string>>();
  return subscribe(info, {.bus = NETLINK_ROUTE,
                          .groups = {RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE, RTNLGRP_IPV4_ROUTE,
                                     RTNLGRP_IPV6_ROUTE},
                          .visit =
                              [subjects](const nlmsghdr* header) {
                                if (const char* subject = subjectOf(header->nlmsg_type); subject != nullptr) subjects->insert(subject);
                              },
                          .report =
                              [subjects](Napi::Env env, const Napi::FunctionReference& call, uint32_t lost) {
                                if (lost > 0) subjects->insert("overflow");
                                const auto changed = std::exchange(*subjects, {});
                                if (changed.empty()) return;
                                auto list = Napi::Array::New(env);
                                for (const std::string& subject : changed) list.Set(list.Length(), subject);
                                call.Call({list});
                              }});
}

}  // namespace culvert
