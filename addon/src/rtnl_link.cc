/** Sets a device of the netns up; one that is up stays so. */
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <string>

#include "arguments.h"
#include "netns_operation.h"

namespace culvert {

Operation linkUpOperation(const Napi::Object& op) {
  const std::string device = text(op.Get("device"));
  return [device](NetnsSession& session) -> Render {
    Netlink::Request request(RTM_NEWLINK, 0);
    auto* body = request.body<ifinfomsg>();
    body->ifi_flags = IFF_UP;
    body->ifi_change = IFF_UP;
    mnl_attr_put_strz(request.header(), IFLA_IFNAME, device.c_str());
    const int error = session.route().acknowledge(request, "RTM_NEWLINK");
    if (error != 0) throw SystemError(error, "RTM_NEWLINK", device);
    return nullptr;
  };
}

}  // namespace culvert
