/**
 * sysctls of a netns. /proc/sys/net shows the namespace of the *thread* that opens a file in it, so these run on the netns thread
 * and nowhere else; anything outside net/ is the whole machine's and is refused. Every procfs shows the same there, but a container's own
 * may not be written to.
 */
#include <fcntl.h>

#include <algorithm>
#include <string>

#include "arguments.h"
#include "fd.h"
#include "netns_operation.h"
#include "sysctl.h"

namespace culvert {

namespace {

/** Used on the JS thread only. */
std::string& procRoot() {
  static std::string path = "/proc";
  return path;
}

/** "net/ipv4/ip_forward" out of itself, "net.ipv4.ip_forward" or "/proc/sys/net/ipv4/ip_forward". */
std::string fileOf(std::string path) {
  static constexpr std::string_view root = "/proc/sys/";
  if (path.starts_with(root)) path.erase(0, root.size());
  // With a slash in it, dots belong to interface names.
  if (path.find('/') == std::string::npos) std::replace(path.begin(), path.end(), '.', '/');
  if (!path.starts_with("net/") || path.find("..") != std::string::npos)
    throw SystemError(EINVAL, "open", "sysctl " + path + " is not one of a network namespace");
  return procRoot() + "/sys/" + path;
}

}  // namespace

Napi::Value sysctlProc(const Napi::CallbackInfo& info) {
  procRoot() = text(info[0]);
  return info.Env().Undefined();
}

Operation sysctlWriteOperation(const Napi::Object& op) {
  const std::string file = fileOf(text(op.Get("path")));
  const std::string value = text(op.Get("value"));
  return [file, value](NetnsSession&) -> Render {
    const Fd fd(check(::open(file.c_str(), O_WRONLY | O_CLOEXEC), "open", file));
    check(::write(fd.get(), value.data(), value.size()), "write", file);
    return nullptr;
  };
}

Operation sysctlReadOperation(const Napi::Object& op) {
  const std::string file = fileOf(text(op.Get("path")));
  return [file](NetnsSession&) -> Render {
    const Fd fd(check(::open(file.c_str(), O_RDONLY | O_CLOEXEC), "open", file));
    char buffer[4096];
    const int length = check(::read(fd.get(), buffer, sizeof buffer), "read", file);
    std::string value(buffer, static_cast<size_t>(length));
    while (!value.empty() && value.back() == '\n') value.pop_back();
    return [value](Napi::Env env) -> Napi::Value { return Napi::String::New(env, value); };
  };
}

}  // namespace culvert
