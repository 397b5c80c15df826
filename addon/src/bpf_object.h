#pragma once
#include <napi.h>

namespace culvert {

Napi::Value bpfLoad(const Napi::CallbackInfo& info);
Napi::Value bpfInstructions(const Napi::CallbackInfo& info);

}  // namespace culvert
