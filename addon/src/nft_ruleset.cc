/**
 * Everything that nf_tables has in a netns, in two halves: the kernel's own words for tables, chains and rules, without what changes by
 * itself (handles, counters), so that equal words mean equal rules; and what rules have counted. Needs CAP_NET_ADMIN over that netns.
 */
#include <endian.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include <cstring>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "netns_operation.h"
#include "nfnetlink.h"

namespace culvert {

namespace {

using nfnetlink::dump;
using nfnetlink::textOf;

struct Ruleset {
  std::string words;
  /** by rule in the kernel's order: family, table and chain as "2 nat OUTPUT", and packets */
  std::vector<std::pair<std::string, uint64_t>> packets;
};

uint8_t familyOf(const nlmsghdr* header) { return static_cast<const nfgenmsg*>(mnl_nlmsg_get_payload(header))->nfgen_family; }

/** With its length and type, so that no two sequences of attributes read the same. */
void append(std::string& words, const nlattr* attribute) { words.append(reinterpret_cast<const char*>(attribute), attribute->nla_len); }

void appendOnly(std::string& words, const nlmsghdr* header, const std::set<uint16_t>& types) {
  words.push_back(static_cast<char>(header->nlmsg_type));
  words.push_back(static_cast<char>(familyOf(header)));
  for (const nlattr* attribute : Attributes(header, sizeof(nfgenmsg)))
    if (types.contains(mnl_attr_get_type(attribute))) append(words, attribute);
}

/** @return packets, where it is the expression that counts them */
uint64_t appendExpression(std::string& words, const nlattr* expression) {
  const nlattr* data = nullptr;
  bool counts = false;
  for (const nlattr* attribute : Attributes(expression)) {
    if (mnl_attr_get_type(attribute) == NFTA_EXPR_NAME) {
      counts = textOf(attribute) == "counter";
      append(words, attribute);
    }
    if (mnl_attr_get_type(attribute) == NFTA_EXPR_DATA) data = attribute;
  }
  if (data == nullptr) return 0;
  if (!counts) {
    append(words, data);
    return 0;
  }
  uint64_t packets = 0;
  for (const nlattr* attribute : Attributes(data)) {
    if (mnl_attr_get_type(attribute) == NFTA_COUNTER_PACKETS && mnl_attr_get_payload_len(attribute) == sizeof packets)
      std::memcpy(&packets, mnl_attr_get_payload(attribute), sizeof packets);
  }
  return be64toh(packets);
}

void appendRule(Ruleset& ruleset, const nlmsghdr* header) {
  appendOnly(ruleset.words, header, {NFTA_RULE_TABLE, NFTA_RULE_CHAIN, NFTA_RULE_COMPAT, NFTA_RULE_USERDATA});
  std::string table;
  std::string chain;
  uint64_t packets = 0;
  for (const nlattr* attribute : Attributes(header, sizeof(nfgenmsg))) {
    switch (mnl_attr_get_type(attribute)) {
      case NFTA_RULE_TABLE:
        table = textOf(attribute);
        break;
      case NFTA_RULE_CHAIN:
        chain = textOf(attribute);
        break;
      case NFTA_RULE_EXPRESSIONS:
        for (const nlattr* expression : Attributes(attribute)) packets += appendExpression(ruleset.words, expression);
        break;
      default:
        break;
    }
  }
  ruleset.packets.emplace_back(std::to_string(familyOf(header)) + " " + table + " " + chain, packets);
}

Netlink::Request all(uint8_t command) { return nfnetlink::request(NFNL_SUBSYS_NFTABLES, command, NFPROTO_UNSPEC); }

Ruleset read(Netlink& netlink) {
  Ruleset ruleset;
  std::string tables;
  std::string chains;
  dump(
      netlink, all(NFT_MSG_GETTABLE), "NFT_MSG_GETTABLE", [&] { tables.clear(); },
      [&](const nlmsghdr* header) {
        appendOnly(tables, header, {NFTA_TABLE_NAME, NFTA_TABLE_FLAGS});
      });
  if (tables.empty()) return ruleset;
  dump(
      netlink, all(NFT_MSG_GETCHAIN), "NFT_MSG_GETCHAIN", [&] { chains.clear(); },
      [&](const nlmsghdr* header) {
        appendOnly(chains, header,
                   {NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME, NFTA_CHAIN_HOOK, NFTA_CHAIN_POLICY, NFTA_CHAIN_TYPE, NFTA_CHAIN_FLAGS});
      });
  dump(
      netlink, all(NFT_MSG_GETRULE), "NFT_MSG_GETRULE", [&] { ruleset = {}; },
      [&](const nlmsghdr* header) { appendRule(ruleset, header); });
  ruleset.words = tables + chains + ruleset.words;
  return ruleset;
}

}  // namespace

Operation nftRulesetOperation() {
  return [](NetnsSession& session) -> Render {
    return [ruleset = read(session.netfilter())](Napi::Env env) -> Napi::Value {
      auto packets = Napi::Array::New(env, ruleset.packets.size());
      for (uint32_t i = 0; i < ruleset.packets.size(); i++) {
        auto rule = Napi::Object::New(env);
        rule.Set("chain", ruleset.packets[i].first);
        rule.Set("packets", static_cast<double>(ruleset.packets[i].second));
        packets.Set(i, rule);
      }
      auto value = Napi::Object::New(env);
      value.Set("words", Napi::Buffer<char>::Copy(env, ruleset.words.data(), ruleset.words.size()));
      value.Set("packets", packets);
      return value;
    };
  };
}

}  // namespace culvert
