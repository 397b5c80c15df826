#pragma once
#include <napi.h>

namespace culvert {

Napi::Value sysctlProc(const Napi::CallbackInfo& info);

}  // namespace culvert
