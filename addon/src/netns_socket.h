#pragma once
#include <napi.h>

namespace culvert {

Napi::Value netnsSocket(const Napi::CallbackInfo& info);
Napi::Value netnsConnect(const Napi::CallbackInfo& info);

}  // namespace culvert
