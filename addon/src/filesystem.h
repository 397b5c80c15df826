#pragma once
#include <napi.h>

namespace culvert {

Napi::Value statfsType(const Napi::CallbackInfo& info);
void mountPath(const Napi::CallbackInfo& info);
void unmountPath(const Napi::CallbackInfo& info);
Napi::Value cgroupId(const Napi::CallbackInfo& info);
void closeFd(const Napi::CallbackInfo& info);

}  // namespace culvert
