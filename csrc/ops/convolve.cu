// For the CPU alone, and read by the C++ compiler alone: on CUDA torch multiplies, see nn/_pairs.py. Products are fused
// with their sums where the instruction set can, so baseline x86-64 gives other bits than x86-64-v3 and v4.

#include "core/for_each.hpp"
#include "ops.hpp"

namespace {

// One worker sums so much of a weight's gradient while the rows that it reads are in the cache: a plane of a kernel of
// 3, but for many workers less.
constexpr int64_t kOffsetsAtOnce = 9, kOutputsAtOnce = 48, kPairsAtOnce = 128;

template <class T, int Bytes> struct Vector {
  typedef T type __attribute__((vector_size(Bytes), aligned(alignof(T)), may_alias));
};

/// R rows of two vectors, summed in registers: out(r)[c] += the sum over i of left(r, i) * right(i)[c], for c < width.
/// The products are added in the order of i: the same bits whatever R and Bytes.
template <class T, int R, int Bytes, class Left, class Right, class Out>
P2D3D_HD void add_products(int64_t n, int64_t width, const Left &left, const Right &right, const Out &out) {
  using V = typename Vector<T, Bytes>::type;
  constexpr int L = Bytes / int(sizeof(T));
  V sum[R][2] = {};
  for (int64_t i = 0; i < n; ++i) {
    const T *row = right(i);
    const V factor[2] = {*reinterpret_cast<const V *>(row), *reinterpret_cast<const V *>(row + L)};
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const T x = left(r, i);
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) sum[r][v] += x * factor[v];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    T *to = out(r);
    if (width >= 2 * L) {
      *reinterpret_cast<V *>(to) += sum[r][0];
      *reinterpret_cast<V *>(to + L) += sum[r][1];
    } else {
      for (int c = 0; c < width; ++c) to[c] += c < L ? sum[r][0][c] : sum[r][1][c - L];
    }
  }
}

/// f(R, first) for tiles that cover `begin` to `end`: of R rows while they fit, then of half as many.
template <int R, class F> P2D3D_HD void for_tiles(int64_t begin, int64_t end, const F &f) {
  for (; end - begin >= R; begin += R) f(std::integral_constant<int, R>(), begin);
  if constexpr (R > 1) for_tiles<R / 2>(begin, end, f);
}

/// One row (columns) of packed weights: those of one offset, one panel and one input channel.
template <class T> struct PackRow {
  View<const T, 3> weight;
  bool turned;
  View<T, 4> packed;

  P2D3D_HD void operator()(int64_t k, int64_t at) const {
    const int64_t offsets = weight.shape[1], inputs = weight.shape[2], width = packed.shape[3];
    const int64_t panel = at / packed.shape[2], i = at % packed.shape[2];
    const int64_t first = panel * width, end = turned ? inputs : weight.shape[0];
    const int64_t from = turned ? i * offsets * inputs : i, step = turned ? 1 : offsets * inputs;
    T *to = packed.data + (k * packed.shape[1] * packed.shape[2] + at) * width;
    for (int64_t c = 0; c < width; ++c)
      to[c] = first + c < end ? weight.data[from + k * inputs + (first + c) * step] : T(0);
  }
};

/// One block of outputs, one panel of their channels.
template <class T, int R, int Bytes> struct ConvolveBlock {
  View<const T, 2> rows;
  BlockPairs pairs;
  View<const T, 4> packed;
  View<T, 2> out;

  P2D3D_HD void operator()(int64_t block, int64_t panel) const {
    const int64_t offsets = packed.shape[0], inputs = packed.shape[2], width = packed.shape[3];
    const int64_t first = panel * width, channels = std::min(width, out.shape[1] - first);
    const int64_t last = std::min(out.shape[0], (block + 1) * kConvolveBlock);
    for (int64_t m = block * kConvolveBlock; m < last; ++m)
      std::fill_n(out.data + m * out.shape[1] + first, channels, T(0));
    for (int64_t k = 0; k < offsets; ++k) {
      const T *factors = packed.data + (k * packed.shape[1] + panel) * inputs * width;
      const int64_t begin = pairs.ptr(block * offsets + k), end = pairs.ptr(block * offsets + k + 1);
      for_tiles<R>(begin, end, [&](auto rows_of_tile, int64_t p) {
        constexpr int N = decltype(rows_of_tile)::value;
        const T *from[N];
        for (int r = 0; r < N; ++r) from[r] = row(pairs.source(p + r));
        for (int64_t q = p + N; q < std::min(end, p + 2 * N); ++q)
          for (int64_t c = 0; c < inputs; c += 64 / sizeof(T)) P2D3D_PREFETCH(row(pairs.source(q)) + c);
        for (int64_t c = 0; c < channels; c += 2 * Bytes / sizeof(T))
          add_products<T, N, Bytes>(
              inputs, channels - c, [&](int r, int64_t i) { return from[r][i]; },
              [&](int64_t i) { return factors + i * width + c; },
              [&](int r) { return out.data + pairs.target(p + r) * out.shape[1] + first + c; });
      });
    }
  }
  P2D3D_HD const T *row(int64_t n) const { return rows.data + n * rows.shape[1]; }
};

/// A few offsets, so many output channels: block by block, so that neighbouring offsets find their rows in the cache.
template <class T, int R, int Bytes> struct WeightGrad {
  static constexpr int64_t kWidth = 2 * Bytes / sizeof(T);
  View<const T, 2> rows, grad;
  BlockPairs pairs;
  int64_t at_once;
  View<T, 3> out;

  P2D3D_HD void operator()(int64_t some, int64_t group) const {
    const int64_t outputs = out.shape[0], offsets = out.shape[1], inputs = out.shape[2];
    const int64_t first = group * kOutputsAtOnce, last = std::min(outputs, first + kOutputsAtOnce);
    const int64_t first_k = some * at_once, last_k = std::min(offsets, first_k + at_once);
    for (int64_t o = first; o < last; ++o) std::fill_n(row(o, first_k), (last_k - first_k) * inputs, T(0));
    for (int64_t at = 0; at + offsets < pairs.ptr.shape[0]; at += offsets)
      for (int64_t k = first_k; k < last_k; ++k)
        for (int64_t p = pairs.ptr(at + k), end = pairs.ptr(at + k + 1); p < end; p += kPairsAtOnce)
          for (int64_t c = 0; c < inputs; c += kWidth) add(k, first, last, c, p, std::min(kPairsAtOnce, end - p));
  }
  P2D3D_HD void add(int64_t k, int64_t first, int64_t last, int64_t c, int64_t begin, int64_t n) const {
    const int64_t outputs = out.shape[0], inputs = out.shape[2], width = std::min(kWidth, inputs - c);
    T factors[kPairsAtOnce * kWidth];  // each is read for every tile
    for (int64_t i = 0; i < n; ++i) {
      const T *from = rows.data + pairs.source(begin + i) * inputs + c;
      if (width == kWidth) std::copy_n(from, kWidth, factors + i * kWidth);
      else std::fill_n(std::copy_n(from, width, factors + i * kWidth), kWidth - width, T(0));
    }
    for_tiles<R>(first, last, [&](auto rows_of_tile, int64_t o) {
      add_products<T, decltype(rows_of_tile)::value, Bytes>(
          n, width, [&](int r, int64_t i) { return grad.data[pairs.target(begin + i) * outputs + o + r]; },
          [&](int64_t i) { return factors + i * kWidth; }, [&](int r) { return row(o + r, k) + c; });
    });
  }
  P2D3D_HD T *row(int64_t o, int64_t k) const { return out.data + (o * out.shape[1] + k) * out.shape[2]; }
};

/// run(R, Bytes): what fills the registers of this CPU with sums.
template <class F> void with_tile(const F &run) {
  if (active_isa() == Isa::x86_64_v4) run(std::integral_constant<int, 12>(), std::integral_constant<int, 64>());
  else run(std::integral_constant<int, 6>(), std::integral_constant<int, 32>());
}

}  // namespace

template <class T>
void convolve(const Exec &on, View<const T, 2> rows, BlockPairs pairs, View<const T, 3> weight, bool turned,
              View<T, 4> packed, View<T, 2> out) {
  for_each_on_cpu(on, packed.shape[0], packed.shape[1] * packed.shape[2], PackRow<T>{weight, turned, packed});
  const View<const T, 4> factors{packed.data, {packed.shape[0], packed.shape[1], packed.shape[2], packed.shape[3]}};
  const int64_t blocks = (out.shape[0] + kConvolveBlock - 1) / kConvolveBlock;
  with_tile([&](auto r, auto bytes) {
    for_each_on_cpu(on, blocks, packed.shape[1], ConvolveBlock<T, r(), bytes()>{rows, pairs, factors, out});
  });
}

template <class T>
void convolve_grad(const Exec &on, View<const T, 2> rows, View<const T, 2> grad, BlockPairs pairs, View<T, 3> out) {
  const int64_t offsets = out.shape[1], groups = (out.shape[0] + kOutputsAtOnce - 1) / kOutputsAtOnce;
  const int64_t share = offsets * groups / (3 * on.threads), at_once = std::clamp<int64_t>(share, 1, kOffsetsAtOnce);
  with_tile([&](auto r, auto bytes) {
    for_each_on_cpu(on, (offsets + at_once - 1) / at_once, groups,
                    WeightGrad<T, r(), bytes()>{rows, grad, pairs, at_once, out});
  });
}

#define P2D3D_FOR(T)                                                                                        \
  template void convolve<T>(const Exec &, View<const T, 2>, BlockPairs, View<const T, 3>, bool, View<T, 4>, \
                            View<T, 2>);                                                                    \
  template void convolve_grad<T>(const Exec &, View<const T, 2>, View<const T, 2>, BlockPairs, View<T, 3>);
P2D3D_FOR(float)
P2D3D_FOR(double)
