#include "core/taps.hpp"

namespace {

/// Points in a tile: on the CPU enough to make the search for its matches cheap, on CUDA few, for many tiles.
constexpr int kCpuTile = 256, kCudaTile = 32;

/// A tile of points over all views. Matches ascend by point within a view, so what a view says of the tile is one
/// stretch of its matches: found by bisection, added in view order, and never written anywhere else.
template <class F, int W> struct FuseTile {
  using A = acc_t<F>;
  static constexpr int64_t kPoints = W == kCudaLane ? kCudaTile : kCpuTile;
  Reader<F, A> reader;
  View<const int32_t, 1> point;
  View<const A, 1> norm;
  bool maximum, finish;
  View<A, 2> fused;
  View<int32_t, 1> count;
  View<int32_t, 2> arg;

  P2D3D_HD int64_t first_not_below(int64_t low, int64_t high, int64_t n) const {
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (point(middle) < n) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  P2D3D_HD void operator()(int64_t tile, int64_t lane) const {
    const int64_t begin = tile * kPoints, left = fused.shape[0] - begin;
    const int64_t end = begin + (left < kPoints ? left : kPoints);
    int32_t seen[kPoints];
    for (int64_t n = begin; n < end; ++n) seen[n - begin] = count(n);  // grows in a launch of its own
    for (int64_t view = 0; view < reader.maps.shape[0]; ++view) {
      const int64_t last = reader.places.ptr(view + 1);
      for (int64_t i = first_not_below(reader.places.ptr(view), last, begin); i < last && point(i) < end; ++i)
        add(i, view, lane, seen[point(i) - begin]++);
    }
    for (int64_t n = begin; n < end && finish; ++n) end_point(n, lane, seen[n - begin]);
  }

  P2D3D_HD void add(int64_t i, int64_t view, int64_t lane, int32_t seen) const {
    const int64_t channels = fused.shape[1], first = lane * W, n = point(i);
    const int width = lane_end<W>(channels, lane);
    Taps<A> taps = reader.taps(i, view);
    for (int k = 0; k < 4 && norm; ++k) taps.weight[k] /= norm(i);
    A *to = fused.data + n * channels + first;
    int32_t *from = arg ? arg.data + n * channels + first : nullptr;
    if (taps.bilinear()) add(std::true_type(), taps, view, first, width, seen, to, from);
    else add(std::false_type(), taps, view, first, width, seen, to, from);
  }
  template <class Bilinear>
  P2D3D_HD void add(Bilinear rule, const Taps<A> &taps, int64_t view, int64_t first, int width, int32_t seen, A *to,
                    int32_t *from) const {
    if (seen == 0) {
      P2D3D_FOR_CHANNELS(c, W, width) to[c] = taps.value(rule, reader.maps, first + c);
      P2D3D_FOR_CHANNELS(c, W, from ? width : 0) from[c] = int32_t(view);
    } else if (!maximum) {
      P2D3D_FOR_CHANNELS(c, W, width) to[c] += taps.value(rule, reader.maps, first + c);
    } else {
      P2D3D_FOR_CHANNELS(c, W, width) {
        const A x = taps.value(rule, reader.maps, first + c);
        if (!(x > to[c] || x != x)) continue;  // NaN stays
        to[c] = x;
        if (from) from[c] = int32_t(view);
      }
    }
  }
  P2D3D_HD void end_point(int64_t n, int64_t lane, int32_t views) const {
    const int width = lane_end<W>(fused.shape[1], lane);
    A *to = fused.data + n * fused.shape[1] + lane * W;
    if (views == 0) {
      P2D3D_FOR_CHANNELS(c, W, width) to[c] = A(0);
    } else if (views > 1 && !maximum) {
      P2D3D_FOR_CHANNELS(c, W, width) to[c] /= A(views);
    }
  }
};

template <class F, int W> struct CountTile {  // the same stretches, for the counts
  FuseTile<F, W> fuse;
  P2D3D_HD void operator()(int64_t tile, int64_t) const {
    const int64_t begin = tile * fuse.kPoints, end = begin + fuse.kPoints;
    for (int64_t view = 0; view < fuse.reader.maps.shape[0]; ++view) {
      const int64_t last = fuse.reader.places.ptr(view + 1);
      for (int64_t i = fuse.first_not_below(fuse.reader.places.ptr(view), last, begin); i < last && fuse.point(i) < end;
           ++i)
        fuse.count(fuse.point(i)) += 1;
    }
  }
};

template <class F, int W> void fuse(const Exec &on, const FuseTile<F, W> &f) {
  const int64_t tiles = (f.fused.shape[0] + f.kPoints - 1) / f.kPoints, lanes = (f.fused.shape[1] + W - 1) / W;
  if constexpr (W == kCudaLane) {
    for_each_as_cuda(on, tiles, lanes, f);
    for_each_as_cuda(on, tiles, 1, CountTile<F, W>{f});
  } else {
    for_each_on_cpu(on, tiles, lanes, f);
    for_each_on_cpu(on, tiles, 1, CountTile<F, W>{f});
  }
}

}  // namespace

template <class F>
void fuse_views(const Exec &on, View<const F, 4> maps, const Places<acc_t<F>> &places, View<const int32_t, 1> point,
                const MapRule &rule, View<acc_t<F>, 1> norm, bool maximum, bool finish, View<acc_t<F>, 2> fused,
                View<int32_t, 1> count, View<int32_t, 2> arg) {
  using A = acc_t<F>;
  const Reader<F, A> reader(maps, places, rule);
  const View<const A, 1> lengths{norm.data, {norm.shape[0]}};
  if (norm) for_each(on, 1, point.shape[0], NormOfRow<F, A>{reader, norm});
  if (on.cuda_functors()) fuse(on, FuseTile<F, kCudaLane>{reader, point, lengths, maximum, finish, fused, count, arg});
  else fuse(on, FuseTile<F, kCpuLane>{reader, point, lengths, maximum, finish, fused, count, arg});
}

#define P2D3D_FOR(F)                                                                                               \
  template void fuse_views<F>(const Exec &, View<const F, 4>, const Places<acc_t<F>> &, View<const int32_t, 1>,    \
                              const MapRule &, View<acc_t<F>, 1>, bool, bool, View<acc_t<F>, 2>, View<int32_t, 1>, \
                              View<int32_t, 2>);
P2D3D_FOR(Half)
P2D3D_FOR(BFloat16)
P2D3D_FOR(float)
P2D3D_FOR(double)
