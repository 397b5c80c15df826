#pragma once
#include <napi.h>

namespace culvert {

Napi::Value bpfMapLookup(const Napi::CallbackInfo& info);
void bpfMapUpdate(const Napi::CallbackInfo& info);
Napi::Value bpfMapDelete(const Napi::CallbackInfo& info);
Napi::Value bpfMapDump(const Napi::CallbackInfo& info);
Napi::Value bpfPossibleCpus(const Napi::CallbackInfo& info);

}  // namespace culvert
