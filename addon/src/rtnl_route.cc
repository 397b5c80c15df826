/** The kind of route that Culvert makes, `local default dev D table T src X metric M`, and what a table holds. */
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

#include <optional>
#include <string>
#include <vector>

#include "address.h"
#include "arguments.h"
#include "netns_operation.h"

namespace culvert {

namespace {

struct LocalDefault {
  int family;
  uint32_t table;
  std::string device;
  std::string source;
  uint32_t metric;
};

struct Route {
  uint8_t type;
  uint8_t prefix;
  std::string destination;
  std::string source;
  uint32_t interface;
  std::string device;
};

uint32_t interfaceIndex(const std::string& device) {
  const uint32_t index = if_nametoindex(device.c_str());
  if (index == 0) throw SystemError(errno, "if_nametoindex", device);
  return index;
}

void putAddress(nlmsghdr* header, uint16_t type, int family, const std::string& text) {
  const SocketAddress address = SocketAddress::parse(family, text, 0);
  if (family == AF_INET) {
    mnl_attr_put(header, type, 4, &reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_addr);
  } else {
    mnl_attr_put(header, type, 16, &reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_addr);
  }
}

void changeRoute(Netlink& netlink, const LocalDefault& route, bool add) {
  Netlink::Request request(add ? RTM_NEWROUTE : RTM_DELROUTE, add ? NLM_F_CREATE | NLM_F_REPLACE : 0);
  auto* body = request.body<rtmsg>();
  body->rtm_family = static_cast<uint8_t>(route.family);
  body->rtm_table = route.table < 256 ? static_cast<uint8_t>(route.table) : static_cast<uint8_t>(RT_TABLE_UNSPEC);
  body->rtm_protocol = RTPROT_STATIC;
  body->rtm_scope = RT_SCOPE_HOST;
  body->rtm_type = RTN_LOCAL;
  nlmsghdr* header = request.header();
  mnl_attr_put_u32(header, RTA_TABLE, route.table);
  mnl_attr_put_u32(header, RTA_OIF, interfaceIndex(route.device));
  // Without a preferred source the kernel would take the destination as the connection's source.
  if (add && !route.source.empty()) putAddress(header, RTA_PREFSRC, route.family, route.source);
  if (route.metric != 0) mnl_attr_put_u32(header, RTA_PRIORITY, route.metric);
  const char* syscall = add ? "RTM_NEWROUTE" : "RTM_DELROUTE";
  const int error = netlink.acknowledge(request, syscall);
  if (error == 0) return;
  // EEXIST is an equal route (replacing it changes nothing); ESRCH and ENOENT, none to delete.
  if (add ? error == EEXIST : error == ESRCH || error == ENOENT) return;
  throw SystemError(error, syscall);
}

std::optional<Route> readRoute(const nlmsghdr* header, int family, uint32_t table) {
  const auto* body = static_cast<const rtmsg*>(mnl_nlmsg_get_payload(header));
  if (header->nlmsg_type != RTM_NEWROUTE || body->rtm_family != family || (body->rtm_flags & RTM_F_CLONED) != 0) return std::nullopt;
  Route route{body->rtm_type, body->rtm_dst_len, {}, {}, 0, {}};
  uint32_t inTable = body->rtm_table;
  const size_t width = family == AF_INET ? 4 : 16;
  for (const nlattr* attribute : Attributes(header, sizeof(rtmsg))) {
    const uint16_t length = mnl_attr_get_payload_len(attribute);
    switch (mnl_attr_get_type(attribute)) {
      case RTA_TABLE:
        if (length >= 4) inTable = mnl_attr_get_u32(attribute);
        break;
      case RTA_OIF:
        if (length >= 4) route.interface = mnl_attr_get_u32(attribute);
        break;
      case RTA_DST:
        if (length >= width) route.destination = addressText(family, mnl_attr_get_payload(attribute));
        break;
      case RTA_PREFSRC:
        if (length >= width) route.source = addressText(family, mnl_attr_get_payload(attribute));
        break;
      default:
        break;
    }
  }
  if (inTable != table) return std::nullopt;
  return route;
}

std::vector<Route> readRoutes(Netlink& netlink, int family, uint32_t table) {
  std::vector<Route> routes;
  Netlink::Request request(RTM_GETROUTE, 0);
  request.body<rtmsg>()->rtm_family = static_cast<uint8_t>(family);
  netlink.dump(
      request, "RTM_GETROUTE", [&] { routes.clear(); },
      [&](const nlmsghdr* header) {
        if (auto route = readRoute(header, family, table)) routes.push_back(std::move(*route));
      });
  for (Route& route : routes) {
    char name[IF_NAMESIZE] = {};
    if (route.interface != 0 && if_indextoname(route.interface, name) != nullptr) route.device = name;
  }
  return routes;
}

const char* typeName(uint8_t type) {
  switch (type) {
    case RTN_UNICAST:
      return "unicast";
    case RTN_LOCAL:
      return "local";
    case RTN_BROADCAST:
      return "broadcast";
    case RTN_MULTICAST:
      return "multicast";
    case RTN_BLACKHOLE:
      return "blackhole";
    case RTN_UNREACHABLE:
      return "unreachable";
    case RTN_PROHIBIT:
      return "prohibit";
    default:
      return "other";
  }
}

}  // namespace

Operation routeOperation(const Napi::Object& op) {
  const bool add = flag(op, "add");
  const Napi::Value source = op.Get("src");
  const Napi::Value metric = op.Get("metric");
  const LocalDefault route = {familyOf(integer(op.Get("family"))), unsignedInteger(op.Get("table")), text(op.Get("device")),
                              source.IsUndefined() ? "" : text(source), metric.IsUndefined() ? 0 : unsignedInteger(metric)};
  return [route, add](NetnsSession& session) -> Render {
    changeRoute(session.route(), route, add);
    return nullptr;
  };
}

Operation routesOperation(const Napi::Object& op) {
  const int family = familyOf(integer(op.Get("family")));
  const uint32_t table = unsignedInteger(op.Get("table"));
  return [family, table](NetnsSession& session) -> Render {
    return [routes = readRoutes(session.route(), family, table)](Napi::Env env) -> Napi::Value {
      auto list = Napi::Array::New(env, routes.size());
      for (uint32_t i = 0; i < routes.size(); i++) {
        auto entry = Napi::Object::New(env);
        entry.Set("type", typeName(routes[i].type));
        entry.Set("destination", routes[i].prefix == 0 ? "default" : routes[i].destination + "/" + std::to_string(routes[i].prefix));
        entry.Set("device", routes[i].device);
        if (!routes[i].source.empty()) entry.Set("src", routes[i].source);
        list.Set(i, entry);
      }
      return list;
    };
  };
}

}  // namespace culvert
