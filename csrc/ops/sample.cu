#include "core/taps.hpp"

namespace {

template <class F, class U, int W> struct SampleRow {  // one piece of one row
  Reader<F, U> reader;
  View<acc_t<F>, 1> norm;
  View<F, 2> out;

  P2D3D_HD void operator()(int64_t i, int64_t lane) const {
    using A = acc_t<F>;
    const int64_t first = lane * W;
    const int width = lane_end<W>(out.shape[1], lane);
    const Taps<A> taps = reader.taps(i);
    F *to = out.data + i * out.shape[1] + first;
    if (!taps.inside()) {
      P2D3D_FOR_CHANNELS(c, W, width) to[c] = store<F>(A(0));
    } else if (taps.bilinear()) {
      read(std::true_type(), taps, i, first, width, to);
    } else {
      read(std::false_type(), taps, i, first, width, to);
    }
  }
  template <class Bilinear>
  P2D3D_HD void read(Bilinear rule, const Taps<acc_t<F>> &taps, int64_t i, int64_t first, int width, F *to) const {
    if (norm) {
      const acc_t<F> length = norm(i);
      P2D3D_FOR_CHANNELS(c, W, width) to[c] = store<F>(taps.value(rule, reader.maps, first + c) / length);
    } else {
      P2D3D_FOR_CHANNELS(c, W, width) to[c] = store<F>(taps.value(rule, reader.maps, first + c));
    }
  }
};

}  // namespace

template <class F, class U>
void sample(const Exec &on, View<const F, 4> maps, const Places<U> &places, const MapRule &rule, View<acc_t<F>, 1> norm,
            View<F, 2> out) {
  const Reader<F, U> reader(maps, places, rule);
  if (norm) for_each(on, 1, out.shape[0], NormOfRow<F, U>{reader, norm});
  for_each_lane(on, out.shape[0], out.shape[1],
                [&](auto width) { return SampleRow<F, U, decltype(width)::value>{reader, norm, out}; });
}

#define P2D3D_FOR(F, U)                                                                                             \
  template void sample<F, U>(const Exec &, View<const F, 4>, const Places<U> &, const MapRule &, View<acc_t<F>, 1>, \
                             View<F, 2>);
P2D3D_FOR(Half, float)
P2D3D_FOR(Half, double)
P2D3D_FOR(BFloat16, float)
P2D3D_FOR(BFloat16, double)
P2D3D_FOR(float, float)
P2D3D_FOR(float, double)
P2D3D_FOR(double, float)
P2D3D_FOR(double, double)
