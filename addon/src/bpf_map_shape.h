#pragma once
#include <cstddef>
#include <cstdint>

namespace culvert {

/** What the kernel reads and writes per entry of a map. */
struct MapShape {
  uint32_t type;
  uint32_t keySize;
  uint32_t maxEntries;
  /** for per-CPU maps: all possible CPUs, each rounded up to 8 bytes */
  size_t valueBytes;

  static MapShape of(int fd);
};

}  // namespace culvert
