#pragma once
#include <napi.h>

namespace culvert {

Napi::Value netnsWatch(const Napi::CallbackInfo& info);

}  // namespace culvert
