#pragma once
#include <napi.h>

#include <functional>
#include <optional>

#include "netlink.h"

namespace culvert {

/** What the operations of one entry of a netns share: netlink sockets of that netns, opened when first needed. */
class NetnsSession {
 public:
  Netlink& route() { return route_ ? *route_ : route_.emplace(NETLINK_ROUTE); }
  Netlink& diag() { return diag_ ? *diag_ : diag_.emplace(NETLINK_SOCK_DIAG); }
  Netlink& netfilter() { return netfilter_ ? *netfilter_ : netfilter_.emplace(NETLINK_NETFILTER); }

 private:
  std::optional<Netlink> route_;
  std::optional<Netlink> diag_;
  std::optional<Netlink> netfilter_;
};

/** Makes an operation's JS value, on the JS thread. Empty for operations without one. */
using Render = std::function<Napi::Value(Napi::Env)>;

/** Runs inside the netns, on its thread, where no JS value may be touched. @throws SystemError */
using Operation = std::function<Render(NetnsSession&)>;

Operation addressesOperation();
Operation linkUpOperation(const Napi::Object& op);
Operation ruleOperation(const Napi::Object& op);
Operation rulesOperation(const Napi::Object& op);
Operation routeOperation(const Napi::Object& op);
Operation routesOperation(const Napi::Object& op);
Operation sysctlWriteOperation(const Napi::Object& op);
Operation sysctlReadOperation(const Napi::Object& op);
Operation socketsOperation(const Napi::Object& op);
Operation socketsDestroyOperation(const Napi::Object& op);
Operation forwardedOperation();
Operation ipsetReferencesOperation(const Napi::Object& op);
Operation ipsetMemberOperation(const Napi::Object& op);
Operation nftLookupsOperation(const Napi::Object& op);
Operation nftChainsOperation();
Operation nftRulesetOperation();
Operation xtablesChainsOperation();

}  // namespace culvert
