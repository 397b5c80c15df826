/** Policy rules by packet mark. */
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <vector>

#include "address.h"
#include "arguments.h"
#include "netns_operation.h"

namespace culvert {

namespace {

struct Rule {
  int family;
  uint32_t preference;
  uint32_t mark;
  uint32_t mask;
  uint8_t action;
  uint32_t table;
};

/** Duplicates of one rule that a delete takes off at most: somebody else may go on adding the same one. */
constexpr int kMaxDuplicates = 16;

Netlink::Request request(const Rule& rule, bool add) {
  Netlink::Request request(add ? RTM_NEWRULE : RTM_DELRULE, add ? NLM_F_CREATE | NLM_F_EXCL : 0);
  auto* body = request.body<fib_rule_hdr>();
  body->family = static_cast<uint8_t>(rule.family);
  body->action = rule.action;
  // The byte holds small tables only; the attribute holds any.
  body->table = rule.table < 256 ? static_cast<uint8_t>(rule.table) : static_cast<uint8_t>(RT_TABLE_UNSPEC);
  nlmsghdr* header = request.header();
  if (rule.action == FR_ACT_TO_TBL) mnl_attr_put_u32(header, FRA_TABLE, rule.table);
  mnl_attr_put_u32(header, FRA_PRIORITY, rule.preference);
  mnl_attr_put_u32(header, FRA_FWMARK, rule.mark);
  mnl_attr_put_u32(header, FRA_FWMASK, rule.mask);
  return request;
}

void addRule(Netlink& netlink, const Rule& rule) {
  // NLM_F_EXCL makes the kernel refuse the very same rule; without it, every restart would add another copy.
  auto message = request(rule, true);
  const int error = netlink.acknowledge(message, "RTM_NEWRULE");
  if (error != 0 && error != EEXIST) throw SystemError(error, "RTM_NEWRULE");
}

void deleteRule(Netlink& netlink, const Rule& rule) {
  for (int i = 0; i < kMaxDuplicates; i++) {
    auto message = request(rule, false);
    const int error = netlink.acknowledge(message, "RTM_DELRULE");
    if (error == ENOENT || error == ESRCH) return;
    if (error != 0) throw SystemError(error, "RTM_DELRULE");
  }
}

uint32_t attributeU32(const nlmsghdr* header, uint16_t type, uint32_t otherwise) {
  for (const nlattr* attribute : Attributes(header, sizeof(fib_rule_hdr))) {
    if (mnl_attr_get_type(attribute) == type && mnl_attr_get_payload_len(attribute) >= 4) return mnl_attr_get_u32(attribute);
  }
  return otherwise;
}

std::vector<Rule> readRules(Netlink& netlink, int family) {
  std::vector<Rule> rules;
  Netlink::Request request(RTM_GETRULE, 0);
  request.body<fib_rule_hdr>()->family = static_cast<uint8_t>(family);
  const auto visit = [&](const nlmsghdr* header) {
    if (header->nlmsg_type != RTM_NEWRULE) return;
    const auto* body = static_cast<const fib_rule_hdr*>(mnl_nlmsg_get_payload(header));
    if (body->family != family) return;
    rules.push_back({family, attributeU32(header, FRA_PRIORITY, 0), attributeU32(header, FRA_FWMARK, 0),
                     attributeU32(header, FRA_FWMASK, 0), body->action, attributeU32(header, FRA_TABLE, body->table)});
  };
  netlink.dump(
      request, "RTM_GETRULE", [&] { rules.clear(); }, visit);
  return rules;
}

const char* actionName(uint8_t action) {
  switch (action) {
    case FR_ACT_TO_TBL:
      return "lookup";
    case FR_ACT_PROHIBIT:
      return "prohibit";
    case FR_ACT_BLACKHOLE:
      return "blackhole";
    case FR_ACT_UNREACHABLE:
      return "unreachable";
    default:
      return "other";
  }
}

}  // namespace

Operation ruleOperation(const Napi::Object& op) {
  const bool add = flag(op, "add");
  const bool prohibit = text(op.Get("action")) == "prohibit";
  const Rule rule = {familyOf(integer(op.Get("family"))),
                     unsignedInteger(op.Get("pref")),
                     unsignedInteger(op.Get("mark")),
                     unsignedInteger(op.Get("mask")),
                     static_cast<uint8_t>(prohibit ? FR_ACT_PROHIBIT : FR_ACT_TO_TBL),
                     prohibit ? 0 : unsignedInteger(op.Get("table"))};
  return [rule, add](NetnsSession& session) -> Render {
    if (add) {
      addRule(session.route(), rule);
    } else {
      deleteRule(session.route(), rule);
    }
    return nullptr;
  };
}

Operation rulesOperation(const Napi::Object& op) {
  const int family = familyOf(integer(op.Get("family")));
  return [family](NetnsSession& session) -> Render {
    return [rules = readRules(session.route(), family)](Napi::Env env) -> Napi::Value {
      auto list = Napi::Array::New(env, rules.size());
      for (uint32_t i = 0; i < rules.size(); i++) {
        auto entry = Napi::Object::New(env);
        entry.Set("pref", rules[i].preference);
        entry.Set("mark", rules[i].mark);
        entry.Set("mask", rules[i].mask);
        entry.Set("action", actionName(rules[i].action));
        entry.Set("table", rules[i].table);
        list.Set(i, entry);
      }
      return list;
    };
  };
}

}  // namespace culvert
