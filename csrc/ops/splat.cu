#include "core/lanes.hpp"
#include "core/long_sum.hpp"
#include "ops.hpp"

namespace {

template <class F, int W> struct TakeRow {  // one piece of one row
  View<const F, 2> rows;
  View<const int64_t, 1> index;
  View<F, 2> out;

  P2D3D_HD void operator()(int64_t p, int64_t lane) const {
    const int64_t n = index(p), channels = out.shape[1];
    const int end = lane_end<W>(channels, lane);
    F *to = out.data + p * channels + lane * W;
    if (n < 0) {
      for (int c = 0; c < end; ++c) to[c] = F{};
    } else {
      P2D3D_DEVICE_CHECK(n < rows.shape[0]);
      const F *from = rows.data + n * channels + lane * W;
      for (int c = 0; c < end; ++c) to[c] = from[c];
    }
  }
};

template <class F, int W> struct SumRun {  // one piece of one run; whoever stands at its start does it
  View<const F, 2> rows;
  View<const int64_t, 1> row, key;
  View<const acc_t<F>, 1> weight;
  bool mean;
  View<int64_t, 1> count;
  View<F, 2> out;

  P2D3D_HD void operator()(int64_t s, int64_t lane) const {
    const int64_t d = key(s), channels = out.shape[1];
    if (d < 0 || (s > 0 && key(s - 1) == d)) return;
    P2D3D_DEVICE_CHECK(d < out.shape[0]);
    const int width = lane_end<W>(channels, lane);
    acc_t<F> sum[W] = {};
    LongSum<acc_t<F>, W> whole;
    int64_t end = s;
    for (; end < key.shape[0] && key(end) == d; ++end) {
      if (end + kAhead < key.shape[0]) prefetch_lane<W>(rows.data, channels, row(end + kAhead), lane);
      const int64_t n = row(end);
      P2D3D_DEVICE_CHECK(n >= 0 && n < rows.shape[0]);
      const acc_t<F> w = weight ? weight(n) : acc_t<F>(1);
      const F *from = rows.data + n * channels + lane * W;
      whole.begin_term(sum);
      P2D3D_FOR_CHANNELS(c, W, width) sum[c] += w * acc_t<F>(from[c]);
    }
    whole.finish(sum);
    const acc_t<F> length = mean ? acc_t<F>(end - s) : acc_t<F>(1);
    F *to = out.data + d * channels + lane * W;
    P2D3D_FOR_CHANNELS(c, W, width) to[c] = store<F>(sum[c] / length);
    if (count && lane == 0) count(d) = end - s;
  }
};

}  // namespace

template <class F> void take_rows(const Exec &on, View<const F, 2> rows, View<const int64_t, 1> index, View<F, 2> out) {
  for_each_lane(on, out.shape[0], out.shape[1],
                [&](auto width) { return TakeRow<F, decltype(width)::value>{rows, index, out}; });
}

template <class F>
void sum_runs(const Exec &on, View<const F, 2> rows, View<const int64_t, 1> row, View<const int64_t, 1> key,
              View<const acc_t<F>, 1> weight, bool mean, View<int64_t, 1> count, View<F, 2> out) {
  for_each_lane(on, key.shape[0], out.shape[1], [&](auto width) {
    return SumRun<F, decltype(width)::value>{rows, row, key, weight, mean, count, out};
  });
}

#define P2D3D_FOR(F)                                                                                        \
  template void take_rows<F>(const Exec &, View<const F, 2>, View<const int64_t, 1>, View<F, 2>);           \
  template void sum_runs<F>(const Exec &, View<const F, 2>, View<const int64_t, 1>, View<const int64_t, 1>, \
                            View<const acc_t<F>, 1>, bool, View<int64_t, 1>, View<F, 2>);
P2D3D_FOR(Half)
P2D3D_FOR(BFloat16)
P2D3D_FOR(float)
P2D3D_FOR(double)
