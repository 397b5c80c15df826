#pragma once
#include <napi.h>

namespace culvert {

Napi::Value bpfProgLoad(const Napi::CallbackInfo& info);
Napi::Value bpfProgLoadAside(const Napi::CallbackInfo& info);
Napi::Value bpfTestRun(const Napi::CallbackInfo& info);

}  // namespace culvert
