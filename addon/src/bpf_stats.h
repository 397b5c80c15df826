#pragma once
#include <napi.h>

namespace culvert {

Napi::Value bpfEnableStats(const Napi::CallbackInfo& info);
Napi::Value bpfProgramById(const Napi::CallbackInfo& info);

}  // namespace culvert
