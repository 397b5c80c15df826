#pragma once
#include <cstdint>
#include <vector>

namespace culvert {

struct MapEntry {
  std::vector<uint8_t> key;
  /** empty where the value cannot be read */
  std::vector<uint8_t> value;
};

/** Every entry that lives during the whole call, each once; entries that come or go meanwhile may be in or out. */
std::vector<MapEntry> dumpMap(int fd);

}  // namespace culvert
