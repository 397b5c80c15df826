#pragma once
#include <napi.h>

namespace culvert {

Napi::Value echoServer(const Napi::CallbackInfo& info);

}  // namespace culvert
