#pragma once
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace culvert {

/**
 * Durations in nanoseconds, counted in buckets of which none is wider than 1/256 of its value: quantiles to 0.4 %. The room it takes
 * does not depend on how much is recorded, so nothing is allocated while measuring.
 */
class Histogram {
 public:
  void record(uint64_t nanoseconds) { counts_[index(nanoseconds)]++; }

  void add(const Histogram& other) {
    for (size_t i = 0; i < counts_.size(); i++) counts_[i] += other.counts_[i];
  }

  uint64_t total() const {
    uint64_t sum = 0;
    for (const uint64_t count : counts_) sum += count;
    return sum;
  }

  /** The smallest recorded value that at least this share of all does not exceed, to the bucket's middle; 0 when nothing was recorded. */
  double quantile(double share) const {
    const uint64_t all = total();
    if (all == 0) return 0;
    const double wanted = share * static_cast<double>(all);
    uint64_t seen = 0;
    for (size_t i = 0; i < counts_.size(); i++) {
      seen += counts_[i];
      if (counts_[i] > 0 && static_cast<double>(seen) >= wanted) return middle(i);
    }
    return middle(counts_.size() - 1);
  }

 private:
  static constexpr unsigned kBits = 8;
  /** 2^40 ns are 18 minutes; whatever is longer is counted as that. */
  static constexpr unsigned kMostBits = 40;
  static constexpr size_t kPerPower = size_t{1} << kBits;

  /** Values below 512 have a bucket each; from there on every power of two has 256. */
  static size_t index(uint64_t value) {
    if (value >= uint64_t{1} << kMostBits) value = (uint64_t{1} << kMostBits) - 1;
    if (value < 2 * kPerPower) return value;
    const unsigned shift = static_cast<unsigned>(std::bit_width(value)) - kBits - 1;
    return shift * kPerPower + (value >> shift);
  }

  static double middle(size_t index) {
    if (index < 2 * kPerPower) return static_cast<double>(index);
    const size_t shift = index / kPerPower - 1;
    const uint64_t low = (index - shift * kPerPower) << shift;
    return static_cast<double>(low) + static_cast<double>((uint64_t{1} << shift) - 1) / 2;
  }

  std::array<uint64_t, (kMostBits - kBits + 1) * kPerPower> counts_{};
};

}  // namespace culvert
