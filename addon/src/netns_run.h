#pragma once
#include <napi.h>

namespace culvert {

Napi::Value netnsRun(const Napi::CallbackInfo& info);
Napi::Value netnsCookie(const Napi::CallbackInfo& info);

}  // namespace culvert
