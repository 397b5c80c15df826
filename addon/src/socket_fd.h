#pragma once
#include <napi.h>

namespace culvert {

void socketMark(const Napi::CallbackInfo& info);
void socketReuseAddr(const Napi::CallbackInfo& info);
Napi::Value socketNames(const Napi::CallbackInfo& info);
Napi::Value socketOriginalDestination(const Napi::CallbackInfo& info);
void socketReset(const Napi::CallbackInfo& info);
Napi::Value socketListener(const Napi::CallbackInfo& info);
Napi::Value pidfdGetFd(const Napi::CallbackInfo& info);

}  // namespace culvert
