#include "netns_socket.h"

#include "arguments.h"
#include "error.h"
#include "netns_thread.h"
#include "socket_options.h"

namespace culvert {

Napi::Value netnsSocket(const Napi::CallbackInfo& info) {
  const SocketOptions options = SocketOptions::read(info[1].As<Napi::Object>());
  Fd socket;
  netns::run(integer(info[0]), [&] { socket = makeSocket(options); });
  return Napi::Number::New(info.Env(), socket.release());
}

}  // namespace culvert
