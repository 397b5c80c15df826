/**
 * What netfilter of a netns has: who uses an ipset, which sets a table's rules look into, which chains there are. Only read; needs CAP_NET_ADMIN over that
 * netns. Asking makes the kernel load the module of ipset or nftables when it is one and not there yet.
 */
#include "nfnetlink.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/ipset/ip_set.h>
#include <linux/netfilter/nf_tables.h>

#include <map>
#include <set>
#include <string>

#include "arguments.h"
#include "netns_operation.h"

namespace culvert {

namespace nfnetlink {

Netlink::Request request(uint8_t subsystem, uint8_t command, uint8_t family) {
  Netlink::Request request(static_cast<uint16_t>(subsystem << 8 | command), 0);
  auto* body = request.body<nfgenmsg>();
  body->nfgen_family = family;
  body->version = NFNETLINK_V0;
  return request;
}

void dump(Netlink& netlink, Netlink::Request request, const char* syscall, const std::function<void()>& restart,
          const Netlink::Visit& visit) {
  try {
    netlink.dump(request, syscall, restart, visit);
  } catch (const SystemError& error) {
    // EINVAL is what nfnetlink says of a subsystem that this kernel does not have
    if (error.error() != ENOENT && error.error() != EINVAL) throw;
  }
}

std::string textOf(const nlattr* attribute) {
  const std::string text(static_cast<const char*>(mnl_attr_get_payload(attribute)), mnl_attr_get_payload_len(attribute));
  return text.substr(0, text.find('\0'));
}

}  // namespace nfnetlink

namespace {

using nfnetlink::dump;
using nfnetlink::request;
using nfnetlink::textOf;

const nlattr* find(Attributes attributes, uint16_t type) {
  for (const nlattr* attribute : attributes) {
    if (mnl_attr_get_type(attribute) == type) return attribute;
  }
  return nullptr;
}

uint32_t ipsetReferences(Netlink& netlink, const std::string& name) {
  uint32_t references = 0;
  Netlink::Request message = request(NFNL_SUBSYS_IPSET, IPSET_CMD_LIST, AF_INET);
  mnl_attr_put_u8(message.header(), IPSET_ATTR_PROTOCOL, nfnetlink::kIpsetProtocol);
  mnl_attr_put_strz(message.header(), IPSET_ATTR_SETNAME, name.c_str());
  // Without the members, of which there may be thousands.
  mnl_attr_put_u32(message.header(), IPSET_ATTR_FLAGS | NLA_F_NET_BYTEORDER, htonl(IPSET_FLAG_LIST_HEADER));
  dump(
      netlink, message, "IPSET_CMD_LIST", [&] { references = 0; },
      [&](const nlmsghdr* header) {
        const nlattr* data = find(Attributes(header, sizeof(nfgenmsg)), IPSET_ATTR_DATA);
        const nlattr* count = data == nullptr ? nullptr : find(Attributes(data), IPSET_ATTR_REFERENCES);
        if (count != nullptr && mnl_attr_get_payload_len(count) >= 4) references = ntohl(mnl_attr_get_u32(count));
      });
  return references;
}

/** The set that one expression of a rule looks into; empty for other expressions. */
std::string lookupOf(const nlattr* expression) {
  const nlattr* name = find(Attributes(expression), NFTA_EXPR_NAME);
  const nlattr* data = find(Attributes(expression), NFTA_EXPR_DATA);
  if (name == nullptr || data == nullptr || textOf(name) != "lookup") return {};
  const nlattr* set = find(Attributes(data), NFTA_LOOKUP_SET);
  return set == nullptr ? std::string() : textOf(set);
}

std::set<std::string> nftLookups(Netlink& netlink, const std::string& table) {
  std::set<std::string> sets;
  Netlink::Request message = request(NFNL_SUBSYS_NFTABLES, NFT_MSG_GETRULE, NFPROTO_INET);
  mnl_attr_put_strz(message.header(), NFTA_RULE_TABLE, table.c_str());
  const auto visit = [&](const nlmsghdr* header) {
    // Kernels that do not filter send the rules of every table.
    const nlattr* owner = find(Attributes(header, sizeof(nfgenmsg)), NFTA_RULE_TABLE);
    const nlattr* expressions = find(Attributes(header, sizeof(nfgenmsg)), NFTA_RULE_EXPRESSIONS);
    if (owner == nullptr || expressions == nullptr || textOf(owner) != table) return;
    for (const nlattr* expression : Attributes(expressions)) {
      if (std::string set = lookupOf(expression); !set.empty()) sets.insert(std::move(set));
    }
  };
  dump(
      netlink, message, "NFT_MSG_GETRULE", [&] { sets.clear(); }, visit);
  return sets;
}

const char* familyName(uint8_t family) {
  switch (family) {
    case NFPROTO_INET:
      return "inet";
    case NFPROTO_IPV4:
      return "ip";
    case NFPROTO_IPV6:
      return "ip6";
    default:
      return "other";
  }
}

/** "ip nat PREROUTING", with the number of its rules */
std::map<std::string, uint32_t> nftChains(Netlink& netlink) {
  std::map<std::string, uint32_t> chains;
  const auto nameOf = [](const nlmsghdr* header, uint16_t tableType, uint16_t chainType) -> std::string {
    const auto* body = static_cast<const nfgenmsg*>(mnl_nlmsg_get_payload(header));
    const nlattr* table = find(Attributes(header, sizeof(nfgenmsg)), tableType);
    const nlattr* chain = find(Attributes(header, sizeof(nfgenmsg)), chainType);
    if (table == nullptr || chain == nullptr) return {};
    return std::string(familyName(body->nfgen_family)) + " " + textOf(table) + " " + textOf(chain);
  };
  dump(
      netlink, request(NFNL_SUBSYS_NFTABLES, NFT_MSG_GETCHAIN, NFPROTO_UNSPEC), "NFT_MSG_GETCHAIN", [&] { chains.clear(); },
      [&](const nlmsghdr* header) { chains.emplace(nameOf(header, NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME), 0); });
  if (chains.empty()) return chains;
  dump(
      netlink, request(NFNL_SUBSYS_NFTABLES, NFT_MSG_GETRULE, NFPROTO_UNSPEC), "NFT_MSG_GETRULE",
      [&] {
        for (auto& [chain, count] : chains) count = 0;
      },
      [&](const nlmsghdr* header) {
        const auto found = chains.find(nameOf(header, NFTA_RULE_TABLE, NFTA_RULE_CHAIN));
        if (found != chains.end()) found->second++;
      });
  return chains;
}

}  // namespace

Operation ipsetReferencesOperation(const Napi::Object& op) {
  return [name = text(op.Get("name"))](NetnsSession& session) -> Render {
    return [references = ipsetReferences(session.netfilter(), name)](Napi::Env env) -> Napi::Value {
      return Napi::Number::New(env, references);
    };
  };
}

Operation nftLookupsOperation(const Napi::Object& op) {
  return [table = text(op.Get("table"))](NetnsSession& session) -> Render {
    return [sets = nftLookups(session.netfilter(), table)](Napi::Env env) -> Napi::Value {
      auto list = Napi::Array::New(env, sets.size());
      uint32_t i = 0;
      for (const std::string& set : sets) list.Set(i++, set);
      return list;
    };
  };
}

Operation nftChainsOperation() {
  return [](NetnsSession& session) -> Render {
    return [chains = nftChains(session.netfilter())](Napi::Env env) -> Napi::Value {
      auto list = Napi::Array::New(env, chains.size());
      uint32_t i = 0;
      for (const auto& [name, rules] : chains) {
        auto chain = Napi::Object::New(env);
        chain.Set("name", name);
        chain.Set("rules", rules);
        list.Set(i++, chain);
      }
      return list;
    };
  };
}

}  // namespace culvert
