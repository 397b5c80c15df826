#pragma once
#include <bpf/libbpf.h>
#include <napi.h>

namespace culvert {

/** Writes constants into .rodata before load, by C name. @throws SystemError ENOENT for a name the object lacks, ERANGE for a value too wide */
void setRodata(bpf_object* object, const Napi::Object& values);

}  // namespace culvert
