#include "bpf_map_dump.h"

#include <bpf/bpf.h>

#include <optional>
#include <string>
#include <unordered_set>

#include "bpf_map_shape.h"
#include "error.h"

namespace culvert {

namespace {

constexpr int kKernelEnotsupp = 524;
constexpr uint32_t kFirstBatch = 256;

/**
 * Bucket by bucket, so that concurrent change can neither repeat nor hide a standing entry.
 * Nothing when the map type or the kernel (< 5.6) has no batch lookup.
 */
std::optional<std::vector<MapEntry>> dumpByBatch(int fd, const MapShape& shape) {
  std::vector<MapEntry> entries;
  uint32_t capacity = kFirstBatch;
  // Hash maps keep a u32 bucket number in here, others the last key.
  std::vector<uint8_t> cursor(shape.keySize < 8 ? 8 : shape.keySize);
  std::vector<uint8_t> next(cursor.size());
  bool first = true;
  for (;;) {
    std::vector<uint8_t> keys(size_t{capacity} * shape.keySize);
    std::vector<uint8_t> values(capacity * shape.valueBytes);
    uint32_t count = capacity;
    const int result = bpf_map_lookup_batch(fd, first ? nullptr : cursor.data(), next.data(), keys.data(), values.data(), &count, nullptr);
    const int error = result < 0 ? errno : 0;
    if (error == ENOSPC) {
      // One bucket holds more than the buffer: nothing was given, the same bucket is asked again.
      capacity *= 2;
      continue;
    }
    if (error == EINTR || error == EAGAIN) continue;
    if (error != 0 && error != ENOENT) {
      if (first && (error == EINVAL || error == EOPNOTSUPP || error == kKernelEnotsupp)) return std::nullopt;
      throw SystemError(error, "bpf(BPF_MAP_LOOKUP_BATCH)");
    }
    for (uint32_t i = 0; i < count; i++) {
      const auto* key = keys.data() + size_t{i} * shape.keySize;
      const auto* value = values.data() + i * shape.valueBytes;
      entries.push_back({{key, key + shape.keySize}, {value, value + shape.valueBytes}});
    }
    if (error == ENOENT) return entries;
    std::swap(cursor, next);
    first = false;
  }
}

/**
 * Key by key. When the current key is deleted meanwhile, the kernel starts over from the first: keys already seen are skipped,
 * and the number of steps is bounded, so that a busy map cannot hold us here for ever.
 */
std::vector<MapEntry> dumpByKey(int fd, const MapShape& shape) {
  std::vector<MapEntry> entries;
  std::unordered_set<std::string> seen;
  std::vector<uint8_t> key(shape.keySize);
  std::vector<uint8_t> next(shape.keySize);
  const uint64_t steps = uint64_t{shape.maxEntries} * 4 + 1024;
  bool first = true;
  for (uint64_t step = 0; step < steps; step++) {
    if (bpf_map_get_next_key(fd, first ? nullptr : key.data(), next.data()) < 0) {
      if (errno == ENOENT) break;
      throw SystemError(errno, "bpf(BPF_MAP_GET_NEXT_KEY)");
    }
    first = false;
    std::swap(key, next);
    if (!seen.emplace(key.begin(), key.end()).second) continue;
    std::vector<uint8_t> value(shape.valueBytes);
    if (bpf_map_lookup_elem(fd, key.data(), value.data()) < 0) {
      if (errno == ENOENT) continue;
      value.clear();
    }
    entries.push_back({key, std::move(value)});
  }
  return entries;
}

}  // namespace

std::vector<MapEntry> dumpMap(int fd) {
  const MapShape shape = MapShape::of(fd);
  // Ring buffers and the like have no keys.
  if (shape.keySize == 0) return {};
  if (auto entries = dumpByBatch(fd, shape)) return std::move(*entries);
  return dumpByKey(fd, shape);
}

}  // namespace culvert
