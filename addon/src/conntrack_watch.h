#pragma once
#include <napi.h>

namespace culvert {

Napi::Value netnsConntrack(const Napi::CallbackInfo& info);

}  // namespace culvert
