#pragma once
#include "core/macros.hpp"

constexpr int kSumBlock = 256;  // terms

/// Long sums in one go lose digits: here each kSumBlock terms, in the order in which they come, are a sum of their own.
/// As many terms or fewer give the bits of a plain sum. For N sums at once, which the caller holds:
///
///     A sum[N] = {};
///     LongSum<A, N> whole;
///     for (...) {
///       whole.begin_term(sum);
///       for (int c = 0; c < N; ++c) sum[c] += ...;
///     }
///     whole.finish(sum);
template <class A, int N> class LongSum {
 public:
  P2D3D_HD void begin_term(A *sum) {
    if (left-- > 0) return;
    add_to_total(sum);
    for (int c = 0; c < N; ++c) sum[c] = A(0);
    left = kSumBlock - 1;
  }
  P2D3D_HD void finish(A *sum) {
    if (!is_long) return;
    add_to_total(sum);
    for (int c = 0; c < N; ++c) sum[c] = total[c];
  }

 private:
  A total[N] = {};  // of the blocks before the one at hand
  bool is_long = false;
  int left = kSumBlock;

  P2D3D_HD void add_to_total(const A *sum) {
    for (int c = 0; c < N; ++c) total[c] += sum[c];
    is_long = true;
  }
};
