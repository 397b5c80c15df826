/**
 * How many packets a netns has forwarded since it was made, both families. As with sysctls, /proc shows the namespace of the thread that
 * opens the file.
 */
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>

#include "netns_operation.h"

namespace culvert {

namespace {

/** Of "Ip: Forwarding DefaultTTL ... ForwDatagrams ..." and, on the next line, "Ip: 1 64 ... 0 ...". */
uint64_t forwardedV4() {
  std::ifstream file("/proc/thread-self/net/snmp");
  std::string names, values;
  while (std::getline(file, names) && std::getline(file, values)) {
    if (!names.starts_with("Ip:")) continue;
    std::istringstream name(names), value(values);
    for (std::string n, v; name >> n && value >> v;)
      if (n == "ForwDatagrams") return std::stoull(v);
  }
  return 0;
}

/** Of "Ip6OutForwDatagrams 0". */
uint64_t forwardedV6() {
  std::ifstream file("/proc/thread-self/net/snmp6");
  std::string name;
  uint64_t value = 0;
  while (file >> name >> value)
    if (name == "Ip6OutForwDatagrams") return value;
  return 0;
}

}  // namespace

Operation forwardedOperation() {
  return [](NetnsSession&) -> Render {
    const auto packets = static_cast<double>(forwardedV4() + forwardedV6());
    return [packets](Napi::Env env) -> Napi::Value { return Napi::Number::New(env, packets); };
  };
}

}  // namespace culvert
