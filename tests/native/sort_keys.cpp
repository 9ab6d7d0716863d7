#include "driver.hpp"
#include "ops.hpp"

namespace {

template <class K> void run(int64_t n, int bits) {
  const std::string how =
      "int" + std::to_string(8 * sizeof(K)) + ", " + std::to_string(n) + " keys of " + std::to_string(bits) + " bits";
  Random random(13);
  Array<K, 1> key(n), sorted(n);
  for (K &k : key) k = K(random.next() >> (64 - bits) >> random.below(bits));  // many small ones, so some are equal
  Array<int64_t, 1> scratch(sizeof(K) == 8 ? 4 * n : n), order(n);
  same_bits(
      "sort_keys " + how, [&](const Exec &on) { sort_keys<K>(on, key, bits, scratch, sorted, order); }, sorted, order);
  for (int64_t i = 1; i < n; ++i)
    if (sorted[i] < sorted[i - 1] || (sorted[i] == sorted[i - 1] && order[i] < order[i - 1]))
      fail("sort_keys " + how + ": position " + std::to_string(i) + " is out of order");
}

}  // namespace

void drive_sort_keys() {
  for (const int64_t n : {0, 1, 511, 1025, 5000})  // a piece of the input has at least 512
    for (const int bits : {1, 9, 10, 31, 32, 63}) {
      if (bits < 32) run<int32_t>(n, bits);
      run<int64_t>(n, bits);
    }
}
