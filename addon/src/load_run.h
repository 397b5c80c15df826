#pragma once
#include <napi.h>

namespace culvert {

Napi::Value loadRun(const Napi::CallbackInfo& info);

}  // namespace culvert
