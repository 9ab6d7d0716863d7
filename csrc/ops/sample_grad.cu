#include "core/taps.hpp"

namespace {

/// The gradient that reaches one sampled row, before the length of the row is divided out.
template <class F, class U> struct IncomingGrad {
  RowGrad<F> grad;
  const F *row;
  const int32_t *arg = nullptr;
  acc_t<F> count = 1;
  int32_t view = 0;

  P2D3D_HD IncomingGrad(const RowGrad<F> &grad_, const Reader<F, U> &reader, int64_t i) : grad(grad_) {
    const int64_t n = grad.point ? int64_t(grad.point(i)) : i, channels = grad.grad.shape[1];
    P2D3D_DEVICE_CHECK(n >= 0 && n < grad.grad.shape[0]);
    row = grad.grad.data + n * channels;
    if (grad.arg) {
      arg = grad.arg.data + n * channels;
      view = int32_t(reader.view(i));
    } else if (grad.count) {
      count = acc_t<F>(grad.count(n));
    }
  }
  P2D3D_HD acc_t<F> operator()(int64_t c) const {
    if (arg) return arg[c] == view ? acc_t<F>(row[c]) : acc_t<F>(0);
    return acc_t<F>(row[c]) / count;
  }
};

/// The same after it: d(x / |x|) where rows are normalized.
template <class F, class U> struct GradOfRow {
  using A = acc_t<F>;
  IncomingGrad<F, U> incoming;
  const View<const F, 4> &maps;
  const Taps<A> &taps;
  A norm = 1, dot = 0;
  bool normalized;

  P2D3D_HD GradOfRow(const RowGrad<F> &grad, const Reader<F, U> &reader, const Taps<A> &taps_,
                     const View<const A, 1> &norm_, const View<const A, 1> &dot_, int64_t i)
      : incoming(grad, reader, i),
        maps(reader.maps),
        taps(taps_),
        normalized(norm_) {
    if (normalized) norm = norm_(i), dot = dot_(i);
  }
  P2D3D_HD A operator()(int64_t c) const {
    if (!normalized) return incoming(c);
    return (incoming(c) - taps.value(maps, c) / norm * dot) / norm;
  }
};

template <class F, class U> struct ProductOf {  // a channel of the row times its gradient
  const IncomingGrad<F, U> &incoming;
  const View<const F, 4> &maps;
  const Taps<acc_t<F>> &taps;
  P2D3D_HD acc_t<F> operator()(int64_t c) const { return incoming(c) * taps.value(maps, c); }
};

template <class F, class U> struct Prepare {  // one place
  Reader<F, U> reader;
  RowGrad<F> grad;
  View<int64_t, 1> cell;
  View<acc_t<F>, 1> norm, dot;

  P2D3D_HD void operator()(int64_t, int64_t i) const {
    using A = acc_t<F>;
    const View<const F, 4> &maps = reader.maps;
    const Taps<A> taps = reader.taps(i);
    cell(i) = taps.inside() ? taps.cell[0] : maps.shape[0] * maps.shape[1] * maps.shape[2];
    if (!norm) return;
    A length = 0, product = 0;
    if (taps.inside()) length = length_of_row(maps, taps);
    if (length < A(kSmallestNorm)) {
      length = A(kSmallestNorm);  // a constant: the row is x / 1e-12
    } else {
      const IncomingGrad<F, U> incoming(grad, reader, i);
      product = sum_over_channels<A>(maps.shape[3], ProductOf<F, U>{incoming, maps, taps}) / length;
    }
    norm(i) = length;
    dot(i) = product;
  }
};

template <class F, class U, int W> struct GradOfCell {  // one piece of one map cell: gathers what was read from it
  Reader<F, U> reader;
  RowGrad<F> grad;
  View<const acc_t<F>, 1> norm, dot;
  View<const int64_t, 1> order, start;
  View<F, 4> out;

  P2D3D_HD void operator()(int64_t cell, int64_t lane) const {
    using A = acc_t<F>;
    const int64_t w = out.shape[2], h = out.shape[1], channels = out.shape[3], first = lane * W;
    const int64_t x = cell % w, y = cell / w % h, view = cell / (w * h);
    const int width = lane_end<W>(channels, lane);
    A sum[W] = {};
    for (int tap = 0; tap < (reader.rule.bilinear ? 4 : 1); ++tap) {  // the cells whose tap this cell is
      const int dx = tap % 2, dy = tap / 2;
      if (x < dx || y < dy) continue;
      const int64_t base = cell - dy * w - dx;
      Taps<A> taps;
      A along[4] = {};  // of what d(x / |x|) takes away, a multiple of x: its part in each of the four cells
      for (int64_t s = start(base); s < start(base + 1); ++s) {
        const int64_t i = order(s);
        taps = reader.taps(i, view);
        const IncomingGrad<F, U> incoming(grad, reader, i);
        const A length = norm ? norm(i) : A(1);
        for (int k = 0; k < 4 && norm; ++k) along[k] += taps.weight[tap] * (dot(i) / length / length) * taps.weight[k];
        const A weight = taps.weight[tap] / incoming.count / length;
        const F *from = incoming.row + first;
        if (incoming.arg) {
          P2D3D_FOR_CHANNELS(c, W, width) sum[c] += weight * incoming(first + c);
        } else {  // the common case apart: the compiler turns it into vectors
          P2D3D_FOR_CHANNELS(c, W, width) sum[c] += weight * A(from[c]);
        }
      }
      for (int k = 0; k < 4 && norm && taps.cell[k] >= 0; ++k) {
        const F *value = reader.maps.data + taps.cell[k] * channels + first;
        P2D3D_FOR_CHANNELS(c, W, width) sum[c] -= along[k] * A(value[c]);
      }
    }
    F *to = out.data + cell * channels + first;
    P2D3D_FOR_CHANNELS(c, W, width) to[c] = store<F>(sum[c]);
  }
};

template <class F, class U> struct SlopeAlong {  // a channel's gradient times its slope along x or y
  const GradOfRow<F, U> &row;
  const View<const F, 4> &maps;
  const Taps<acc_t<F>> &taps;
  bool along_x;
  P2D3D_HD acc_t<F> operator()(int64_t c) const {
    using A = acc_t<F>;
    A m[4];
    for (int k = 0; k < 4; ++k) m[k] = A(maps.data[taps.cell[k] * maps.shape[3] + c]);
    const A slope = along_x ? (A(1) - taps.fy) * (m[1] - m[0]) + taps.fy * (m[3] - m[2])
                            : (A(1) - taps.fx) * (m[2] - m[0]) + taps.fx * (m[3] - m[1]);
    return row(c) * slope;
  }
};

template <class F, class U> struct GradOfUv {  // one place
  Reader<F, U> reader;
  RowGrad<F> grad;
  View<const acc_t<F>, 1> norm, dot;
  View<U, 3> out;

  P2D3D_HD void operator()(int64_t, int64_t i) const {
    using A = acc_t<F>;
    const Taps<A> taps = reader.taps(i);
    U gu = 0, gv = 0;
    if (taps.inside() && reader.rule.bilinear) {
      const GradOfRow<F, U> row(grad, reader, taps, norm, dot, i);
      const int64_t channels = reader.maps.shape[3];
      if (taps.free_x)
        gu = U(sum_over_channels<A>(channels, SlopeAlong<F, U>{row, reader.maps, taps, true})) * reader.scale_x;
      if (taps.free_y)
        gv = U(sum_over_channels<A>(channels, SlopeAlong<F, U>{row, reader.maps, taps, false})) * reader.scale_y;
    }
    out.data[2 * i] = gu;
    out.data[2 * i + 1] = gv;
  }
};

}  // namespace

template <class F, class U>
void sample_prepare(const Exec &on, View<const F, 4> maps, const Places<U> &places, const MapRule &rule,
                    const RowGrad<F> &grad, View<int64_t, 1> cell, View<acc_t<F>, 1> norm, View<acc_t<F>, 1> dot) {
  for_each(on, 1, cell.shape[0], Prepare<F, U>{{maps, places, rule}, grad, cell, norm, dot});
}

template <class F, class U>
void sample_grad_maps(const Exec &on, View<const F, 4> maps, const Places<U> &places, const MapRule &rule,
                      const RowGrad<F> &grad, View<const acc_t<F>, 1> norm, View<const acc_t<F>, 1> dot,
                      View<const int64_t, 1> order, View<const int64_t, 1> start, View<F, 4> out) {
  const Reader<F, U> reader(maps, places, rule);
  for_each_lane(on, start.shape[0] - 1, out.shape[3], [&](auto width) {
    return GradOfCell<F, U, decltype(width)::value>{reader, grad, norm, dot, order, start, out};
  });
}

template <class F, class U>
void sample_grad_uv(const Exec &on, View<const F, 4> maps, const Places<U> &places, const MapRule &rule,
                    const RowGrad<F> &grad, View<const acc_t<F>, 1> norm, View<const acc_t<F>, 1> dot, View<U, 3> out) {
  for_each(on, 1, out.shape[0] * out.shape[1], GradOfUv<F, U>{{maps, places, rule}, grad, norm, dot, out});
}

#define P2D3D_FOR(F, U)                                                                                           \
  template void sample_prepare<F, U>(const Exec &, View<const F, 4>, const Places<U> &, const MapRule &,          \
                                     const RowGrad<F> &, View<int64_t, 1>, View<acc_t<F>, 1>, View<acc_t<F>, 1>); \
  template void sample_grad_maps<F, U>(const Exec &, View<const F, 4>, const Places<U> &, const MapRule &,        \
                                       const RowGrad<F> &, View<const acc_t<F>, 1>, View<const acc_t<F>, 1>,      \
                                       View<const int64_t, 1>, View<const int64_t, 1>, View<F, 4>);               \
  template void sample_grad_uv<F, U>(const Exec &, View<const F, 4>, const Places<U> &, const MapRule &,          \
                                     const RowGrad<F> &, View<const acc_t<F>, 1>, View<const acc_t<F>, 1>,        \
                                     View<U, 3>);
P2D3D_FOR(Half, float)
P2D3D_FOR(Half, double)
P2D3D_FOR(BFloat16, float)
P2D3D_FOR(BFloat16, double)
P2D3D_FOR(float, float)
P2D3D_FOR(float, double)
P2D3D_FOR(double, float)
P2D3D_FOR(double, double)
