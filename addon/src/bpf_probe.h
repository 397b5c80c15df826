#pragma once
#include <napi.h>

namespace culvert {

Napi::Value bpfProbeHelper(const Napi::CallbackInfo& info);

}  // namespace culvert
