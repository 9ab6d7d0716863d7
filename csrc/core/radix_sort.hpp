#pragma once
// Stable sort of keys on the CPU: least significant digit first, each pass a count, a scan and a scatter by contiguous
// pieces of the input, so that the result does not depend on the number of threads. CUDA sorts by torch.

#include <utility>
#include <vector>

#include "core/for_each.hpp"

/// A key on its way, and the position it came from. It may lie in the memory of an array that is written later.
template <class K> struct __attribute__((may_alias)) SortItem {
  K key;
  uint32_t index;
};

namespace detail {

constexpr int kDigitBits = 9;  // 512 places to write to at a time: as many as a first-level cache holds lines

template <class K> struct FromKeys {  // the input of the first pass
  const K *key;
  SortItem<K> operator()(int64_t i) const { return {key[i], uint32_t(i)}; }
};
template <class K> struct FromItems {
  const SortItem<K> *items;
  SortItem<K> operator()(int64_t i) const { return items[i]; }
};
template <class K> struct ToItems {
  SortItem<K> *items;
  void operator()(int64_t at, const SortItem<K> &item) const { items[at] = item; }
};
template <class K> struct ToSorted {  // the output of the last
  K *sorted;
  int64_t *order;
  void operator()(int64_t at, const SortItem<K> &item) const { sorted[at] = item.key, order[at] = item.index; }
};

/// One pass over one digit. `next` (pieces, digits) counts first, and then says where the next of each digit goes.
template <class From, class To> struct SortPass {
  From from;
  To to;
  int64_t n, pieces;
  int shift;
  int64_t *next;

  int64_t begin(int64_t piece) const { return n / pieces * piece + std::min(piece, n % pieces); }
  int64_t *next_of(int64_t piece) const { return next + (piece << kDigitBits); }
  template <class K> int digit(K key) const { return int(key >> shift) & ((1 << kDigitBits) - 1); }
};
template <class Pass> struct CountDigits : Pass {  // one piece
  void operator()(int64_t, int64_t piece) const {
    int64_t *next = this->next_of(piece);
    for (int64_t i = this->begin(piece); i < this->begin(piece + 1); ++i) ++next[this->digit(this->from(i).key)];
  }
};
template <class Pass> struct ScatterDigits : Pass {  // one piece
  void operator()(int64_t, int64_t piece) const {
    int64_t *next = this->next_of(piece);
    for (int64_t i = this->begin(piece); i < this->begin(piece + 1); ++i) {
      const auto item = this->from(i);
      this->to(next[this->digit(item.key)]++, item);
    }
  }
};

template <class From, class To>
void sort_by_digit(const Exec &on, int64_t n, const From &from, const To &to, int shift) {
  const int64_t pieces = std::max<int64_t>(1, std::min<int64_t>(on.threads, n >> kDigitBits));
  std::vector<int64_t> next(size_t(pieces) << kDigitBits);
  const SortPass<From, To> pass{from, to, n, pieces, shift, next.data()};
  for_each_on_cpu(on, 1, pieces, CountDigits<SortPass<From, To>>{pass});
  int64_t sum = 0;
  for (int64_t digit = 0; digit < 1 << kDigitBits; ++digit)
    for (int64_t piece = 0; piece < pieces; ++piece) sum += std::exchange(pass.next_of(piece)[digit], sum);
  for_each_on_cpu(on, 1, pieces, ScatterDigits<SortPass<From, To>>{pass});
}

}  // namespace detail

/// key (n), fewer than 2**31 whose values fit in `bits`, to sorted (n) and the positions they came from. Two scratch
/// arrays (n), of which the first may be the memory of `order`.
template <class K>
void radix_sort(const Exec &on, int64_t n, const K *key, int bits, SortItem<K> *first, SortItem<K> *second, K *sorted,
                int64_t *order) {
  using namespace detail;
  const int passes = std::max(1, (bits + kDigitBits - 1) / kDigitBits);
  const FromKeys<K> keys{key};
  const ToSorted<K> result{sorted, order};
  if (passes == 1) return sort_by_digit(on, n, keys, result, 0);
  SortItem<K> *items[2] = {second, first};  // the last but one pass writes to the second
  int turn = passes % 2;
  sort_by_digit(on, n, keys, ToItems<K>{items[turn]}, 0);
  for (int pass = 1; pass < passes - 1; ++pass, turn = 1 - turn)
    sort_by_digit(on, n, FromItems<K>{items[turn]}, ToItems<K>{items[1 - turn]}, pass * kDigitBits);
  sort_by_digit(on, n, FromItems<K>{second}, result, (passes - 1) * kDigitBits);
}
