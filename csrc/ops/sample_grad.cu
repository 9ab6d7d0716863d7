#include "core/long_sum.hpp"
#include "core/taps.hpp"

namespace {

/// The gradient that reaches one sampled row, before it is scaled.
template <class F> struct IncomingGrad {
  const F *row;
  const int32_t *arg = nullptr;
  int32_t view;

  P2D3D_HD IncomingGrad(const RowGrad<F> &grad, int64_t i, int64_t view_) : view(int32_t(view_)) {
    const int64_t n = grad.point ? int64_t(grad.point(i)) : i, channels = grad.grad.shape[1];
    P2D3D_DEVICE_CHECK(n >= 0 && n < grad.grad.shape[0]);
    row = grad.grad.data + n * channels;
    if (grad.arg) arg = grad.arg.data + n * channels;
  }
  P2D3D_HD acc_t<F> operator()(int64_t c) const { return !arg || arg[c] == view ? acc_t<F>(row[c]) : acc_t<F>(0); }
};

template <class F> struct ProductOf {  // a channel of the row times its gradient
  const IncomingGrad<F> &incoming;
  const View<const F, 4> &maps;
  const Taps<acc_t<F>> &taps;
  P2D3D_HD acc_t<F> operator()(int64_t c) const { return incoming(c) * taps.value(maps, c); }
};

template <class F, class U> struct Prepare {  // one place
  Reader<F, U> reader;
  RowGrad<F> grad;
  View<int64_t, 1> cell;
  View<acc_t<F>, 2> weight;
  View<acc_t<F>, 1> scale, pull;

  P2D3D_HD void operator()(int64_t, int64_t i) const {
    using A = acc_t<F>;
    const View<const F, 4> &maps = reader.maps;
    const Taps<A> taps = reader.taps(i);
    cell(i) = taps.inside() ? taps.cell[0] : maps.shape[0] * maps.shape[1] * maps.shape[2];
    for (int k = 0; k < 4; ++k) weight(i, k) = taps.weight[k];
    scale(i) = A(1) / (grad.count ? A(grad.count(grad.point(i))) : A(1));
    if (!pull) return;
    const A length = taps.inside() ? length_of_row(maps, taps) : A(0);
    if (length < A(kSmallestNorm)) {  // a constant: the row is x / 1e-12
      scale(i) /= A(kSmallestNorm);
      pull(i) = A(0);
    } else {
      const IncomingGrad<F> incoming(grad, i, reader.view(i));
      scale(i) /= length;
      pull(i) = sum_over_channels<A>(maps.shape[3], ProductOf<F>{incoming, maps, taps}) * scale(i) / length / length;
    }
  }
};

/// What was read from the maps, sorted by the cell under it.
template <class F> struct Readings {
  using A = acc_t<F>;
  View<const F, 4> maps;
  bool bilinear;
  RowGrad<F> grad;
  View<const A, 2> weight;
  View<const A, 1> scale, pull;
  View<const int64_t, 1> order, start;

  /// sum[t][c] = what the readings over cell (view, y, x) give to channel c of the cell at tap first_tap + t.
  template <int kTaps, int W>
  P2D3D_HD void add_up(int64_t view, int64_t y, int64_t x, int first_tap, int64_t lane, A (&sum)[kTaps][W]) const {
    const int64_t h = maps.shape[1], w = maps.shape[2], channels = maps.shape[3], first = lane * W;
    const int64_t base = (view * h + y) * w + x;
    const int width = lane_end<W>(channels, lane);
    A along[kTaps][4] = {};  // of the row x itself, by which d(x / |x|) is pulled back: its part in each of four cells
    for (int t = 0; t < kTaps; ++t)
      for (int c = 0; c < W; ++c) sum[t][c] = A(0);
    LongSum<A, kTaps * W> whole;
    LongSum<A, kTaps * 4> whole_along;
    for (int64_t s = start(base); s < start(base + 1); ++s) {
      const int64_t i = order(s);
      const IncomingGrad<F> incoming(grad, i, view);
      const F *from = incoming.row + first;
      whole.begin_term(sum[0]);
      whole_along.begin_term(along[0]);
      for (int t = 0; t < kTaps; ++t) {
        const A mine = weight(i, first_tap + t), part = mine * scale(i);
        for (int k = 0; k < 4 && pull; ++k) along[t][k] += mine * pull(i) * weight(i, k);
        if (incoming.arg) {
          P2D3D_FOR_CHANNELS(c, W, width) sum[t][c] += part * incoming(first + c);
        } else {  // the common case apart: the compiler turns it into vectors
          P2D3D_FOR_CHANNELS(c, W, width) sum[t][c] += part * A(from[c]);
        }
      }
    }
    whole.finish(sum[0]);
    whole_along.finish(along[0]);
    if (!pull || start(base) == start(base + 1)) return;
    for (int k = 0; k < (bilinear ? 4 : 1); ++k) {
      const int64_t right = k % 2 && x + 1 < w, below = k / 2 && y + 1 < h;
      const F *value = maps.data + (base + below * w + right) * channels + first;
      for (int t = 0; t < kTaps; ++t) P2D3D_FOR_CHANNELS(c, W, width) sum[t][c] -= along[t][k] * A(value[c]);
    }
  }
};

template <class F, int W> struct GradOfCell {  // one piece of one map cell: gathers from the four cells it is a tap of
  Readings<F> readings;
  View<F, 4> out;

  P2D3D_HD void operator()(int64_t cell, int64_t lane) const {
    using A = acc_t<F>;
    const int64_t w = out.shape[2], h = out.shape[1], channels = out.shape[3];
    const int64_t x = cell % w, y = cell / w % h, view = cell / (w * h);
    const int width = lane_end<W>(channels, lane);
    A sum[4][W] = {};
    for (int tap = 0; tap < (readings.bilinear ? 4 : 1); ++tap) {
      A one[1][W];
      if (x < tap % 2 || y < tap / 2) continue;
      readings.add_up(view, y - tap / 2, x - tap % 2, tap, lane, one);
      P2D3D_FOR_CHANNELS(c, W, width) sum[tap][c] = one[0][c];
    }
    F *to = out.data + cell * channels + lane * W;
    P2D3D_FOR_CHANNELS(c, W, width) to[c] = store<F>((sum[0][c] + sum[1][c]) + (sum[2][c] + sum[3][c]));
  }
};

/// The same on the CPU where many readings fall on a cell: each is looked at once, for its four cells. One piece of one
/// row of cells, which writes what falls to that row and to the one below.
template <class F> struct GradOfMapRow {
  static constexpr int W = kCpuLane;
  Readings<F> readings;
  View<acc_t<F>, 3> partial;  // (V h, 2, w C)

  void operator()(int64_t row, int64_t lane) const {
    using A = acc_t<F>;
    const int64_t h = readings.maps.shape[1], w = readings.maps.shape[2], channels = readings.maps.shape[3];
    const int width = lane_end<W>(channels, lane);
    A right[2][W] = {};  // for the cell that comes next
    for (int64_t x = 0; x < w; ++x) {
      A sum[4][W];
      readings.add_up(row / h, row % h, x, 0, lane, sum);
      for (int below = 0; below < 2; ++below) {
        A *to = &partial(row, below, x * channels + lane * W);
        for (int c = 0; c < width; ++c) to[c] = sum[2 * below][c] + right[below][c];
        for (int c = 0; c < width; ++c) right[below][c] = sum[2 * below + 1][c];
      }
    }
  }
};

template <class F> struct JoinMapRows {  // one cell
  View<const acc_t<F>, 3> partial;
  View<F, 4> out;

  void operator()(int64_t row, int64_t x) const {
    using A = acc_t<F>;
    const int64_t h = out.shape[1], channels = out.shape[3];
    const A *here = &partial(row, 0, x * channels), *above = row % h ? &partial(row - 1, 1, x * channels) : nullptr;
    F *to = out.data + (row * out.shape[2] + x) * channels;
    for (int64_t c = 0; c < channels; ++c) to[c] = store<F>(here[c] + (above ? above[c] : A(0)));
  }
};

template <class F> struct SlopeAlong {  // a channel's gradient times its slope along x or y
  const IncomingGrad<F> &incoming;
  const View<const F, 4> &maps;
  const Taps<acc_t<F>> &taps;
  acc_t<F> scale, pull;
  bool along_x;
  P2D3D_HD acc_t<F> operator()(int64_t c) const {
    using A = acc_t<F>;
    A m[4];
    for (int k = 0; k < 4; ++k) m[k] = A(maps.data[taps.cell[k] * maps.shape[3] + c]);
    const A slope = along_x ? (A(1) - taps.fy) * (m[1] - m[0]) + taps.fy * (m[3] - m[2])
                            : (A(1) - taps.fx) * (m[2] - m[0]) + taps.fx * (m[3] - m[1]);
    return (incoming(c) * scale - taps.value(maps, c) * pull) * slope;
  }
};

template <class F, class U> struct GradOfUv {  // one place
  Reader<F, U> reader;
  RowGrad<F> grad;
  View<const acc_t<F>, 1> scale, pull;
  View<U, 3> out;

  P2D3D_HD void operator()(int64_t, int64_t i) const {
    using A = acc_t<F>;
    const Taps<A> taps = reader.taps(i);
    U gu = 0, gv = 0;
    if (taps.inside() && reader.rule.bilinear) {
      const IncomingGrad<F> incoming(grad, i, 0);
      SlopeAlong<F> slope{incoming, reader.maps, taps, scale(i), pull ? pull(i) : A(0), true};
      const int64_t channels = reader.maps.shape[3];
      if (taps.free_x) gu = U(sum_over_channels<A>(channels, slope)) * reader.scale_x;
      slope.along_x = false;
      if (taps.free_y) gv = U(sum_over_channels<A>(channels, slope)) * reader.scale_y;
    }
    out.data[2 * i] = gu;
    out.data[2 * i + 1] = gv;
  }
};

}  // namespace

template <class F, class U>
void sample_prepare(const Exec &on, View<const F, 4> maps, const Places<U> &places, const MapRule &rule,
                    const RowGrad<F> &grad, View<int64_t, 1> cell, View<acc_t<F>, 2> weight, View<acc_t<F>, 1> scale,
                    View<acc_t<F>, 1> pull) {
  for_each(on, 1, cell.shape[0], Prepare<F, U>{{maps, places, rule}, grad, cell, weight, scale, pull});
}

template <class F>
void sample_grad_maps(const Exec &on, View<const F, 4> maps, bool bilinear, const RowGrad<F> &grad,
                      View<const acc_t<F>, 2> weight, View<const acc_t<F>, 1> scale, View<const acc_t<F>, 1> pull,
                      View<const int64_t, 1> order, View<const int64_t, 1> start, View<acc_t<F>, 3> partial,
                      View<F, 4> out) {
  const Readings<F> readings{maps, bilinear, grad, weight, scale, pull, order, start};
  if (!partial || on.cuda_functors())
    return for_each_lane(on, start.shape[0] - 1, out.shape[3],
                         [&](auto width) { return GradOfCell<F, decltype(width)::value>{readings, out}; });
  const int64_t rows = partial.shape[0];
  for_each_on_cpu(on, rows, (out.shape[3] + kCpuLane - 1) / kCpuLane, GradOfMapRow<F>{readings, partial});
  const View<const acc_t<F>, 3> sums{partial.data, {rows, 2, partial.shape[2]}};
  for_each_on_cpu(on, rows, out.shape[2], JoinMapRows<F>{sums, out});
}

template <class F, class U>
void sample_grad_uv(const Exec &on, View<const F, 4> maps, const Places<U> &places, const MapRule &rule,
                    const RowGrad<F> &grad, View<const acc_t<F>, 1> scale, View<const acc_t<F>, 1> pull,
                    View<U, 3> out) {
  for_each(on, 1, out.shape[0] * out.shape[1], GradOfUv<F, U>{{maps, places, rule}, grad, scale, pull, out});
}

#define P2D3D_FOR(F, U)                                                                                          \
  template void sample_prepare<F, U>(const Exec &, View<const F, 4>, const Places<U> &, const MapRule &,         \
                                     const RowGrad<F> &, View<int64_t, 1>, View<acc_t<F>, 2>, View<acc_t<F>, 1>, \
                                     View<acc_t<F>, 1>);                                                         \
  template void sample_grad_uv<F, U>(const Exec &, View<const F, 4>, const Places<U> &, const MapRule &,         \
                                     const RowGrad<F> &, View<const acc_t<F>, 1>, View<const acc_t<F>, 1>,       \
                                     View<U, 3>);
P2D3D_FOR(Half, float)
P2D3D_FOR(Half, double)
P2D3D_FOR(BFloat16, float)
P2D3D_FOR(BFloat16, double)
P2D3D_FOR(float, float)
P2D3D_FOR(float, double)
P2D3D_FOR(double, float)
P2D3D_FOR(double, double)
#undef P2D3D_FOR
#define P2D3D_FOR(F)                                                                                                   \
  template void sample_grad_maps<F>(const Exec &, View<const F, 4>, bool, const RowGrad<F> &, View<const acc_t<F>, 2>, \
                                    View<const acc_t<F>, 1>, View<const acc_t<F>, 1>, View<const int64_t, 1>,          \
                                    View<const int64_t, 1>, View<acc_t<F>, 3>, View<F, 4>);
P2D3D_FOR(Half)
P2D3D_FOR(BFloat16)
P2D3D_FOR(float)
P2D3D_FOR(double)
