#include "bpf_rodata.h"

#include <bpf/btf.h>

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "arguments.h"
#include "error.h"

namespace culvert {

namespace {

struct Place {
  uint32_t offset;
  uint32_t size;
};

/** The object's BTF knows where the compiler put each constant. */
std::map<std::string, Place> placesOf(const btf* types) {
  std::map<std::string, Place> places;
  const int id = types == nullptr ? -ENOENT : btf__find_by_name_kind(types, ".rodata", BTF_KIND_DATASEC);
  if (id < 0) return places;
  const btf_type* section = btf__type_by_id(types, static_cast<uint32_t>(id));
  const btf_var_secinfo* variable = btf_var_secinfos(section);
  for (uint32_t i = 0; i < btf_vlen(section); i++, variable++) {
    const char* name = btf__name_by_offset(types, btf__type_by_id(types, variable->type)->name_off);
    places[name] = {variable->offset, variable->size};
  }
  return places;
}

/** The low 64 bits of a number or bigint, two's complement. */
uint64_t wideValue(const Napi::Value& value) {
  if (value.IsBigInt()) {
    bool lossless = false;
    return value.As<Napi::BigInt>().Uint64Value(&lossless);
  }
  return static_cast<uint64_t>(value.As<Napi::Number>().Int64Value());
}

bool fits(uint64_t value, uint32_t size) {
  if (size >= 8) return true;
  const uint64_t high = value >> (size * 8);
  return high == 0 || high == (~0ULL >> (size * 8));
}

}  // namespace

void setRodata(bpf_object* object, const Napi::Object& values) {
  const auto places = placesOf(bpf_object__btf(object));
  bpf_map* map = bpf_object__find_map_by_name(object, ".rodata");
  size_t size = 0;
  const auto* initial = map == nullptr ? nullptr : static_cast<const uint8_t*>(bpf_map__initial_value(map, &size));
  std::vector<uint8_t> data(initial, initial + size);
  for (const auto& entry : values) {
    const std::string name = text(entry.first);
    const auto place = places.find(name);
    if (place == places.end()) throw SystemError(ENOENT, "bpf_map__initial_value", "no constant " + name + " in .rodata");
    const uint64_t value = wideValue(entry.second);
    const auto [offset, width] = place->second;
    if (width > sizeof value || size_t{offset} + width > size || !fits(value, width))
      throw SystemError(ERANGE, "bpf_map__set_initial_value", "constant " + name);
    std::memcpy(data.data() + offset, &value, width);
  }
  if (data.empty()) return;
  const int result = bpf_map__set_initial_value(map, data.data(), data.size());
  if (result < 0) throw SystemError(-result, "bpf_map__set_initial_value");
}

}  // namespace culvert
