#include "core/for_each.hpp"
#include "core/pinhole.hpp"
#include "ops.hpp"

namespace {

constexpr int kWords = kTile / 32;

/// Is a point seen by one view, and at which pixel?
template <class T, class D> struct Seen {
  Pinhole<T> camera;
  const D *depth;  // of this view, or null
  Frame frame;
  T z_min, z_max, scale, a, b, c;

  P2D3D_HD Seen(const View<const T, 3> &camera_from_world, const View<const T, 2> &intrinsics,
                const View<const D, 2> &depth_, const SeenRule &rule, int64_t view)
      : camera(camera_from_world, intrinsics, view),
        depth(depth_.data ? depth_.data + view * rule.height * rule.width : nullptr),
        frame{rule.height, rule.width, rule.border},
        z_min(T(rule.z_min)),
        z_max(T(rule.z_max)),
        scale(T(rule.depth_scale)),
        a(T(rule.a)),
        b(T(rule.b)),
        c(T(rule.c)) {}

  /// The pixel of a point that is in the frame and in range, else -1.
  P2D3D_HD int32_t pixel(const T *p, T &z) const {
    const Uvz<T> at = camera.project(p);
    z = at.z;
    const int32_t pixel = frame.pixel(at.u, at.v);
    return ((at.z > z_min) & (at.z < z_max)) ? pixel : -1;
  }
  /// Does the depth at that pixel say that the point is on the surface seen there?
  P2D3D_HD bool on_surface(int32_t pixel, T z) const {
    const T d = metres(depth[pixel], scale), off = d - z;
    return positive_finite(d) & ((off < T(0) ? -off : off) <= (a + b * z) + (c * z) * z);
  }
};

template <class T, class D> struct TestTile {  // kTile points in one view
  View<const T, 2> points;
  View<const T, 3> camera_from_world;
  View<const T, 2> intrinsics;
  View<const D, 2> depth;
  SeenRule rule;
  View<uint32_t, 3> bits;
  View<int64_t, 2> count;

  P2D3D_HD void operator()(int64_t tile, int64_t view) const {
    const Seen<T, D> seen(camera_from_world, intrinsics, depth, rule, view);
    const int64_t begin = tile * kTile, left = points.shape[0] - begin;
    const int n = int(left < kTile ? left : kTile);
    int32_t pixel[kTile], in_frame = 0;
    T z[kTile];
    for (int j = 0; j < n; ++j) {  // a loop of its own: the compiler turns it into vectors
      pixel[j] = seen.pixel(points.data + 3 * (begin + j), z[j]);
      in_frame += pixel[j] >= 0;
    }
    uint32_t words[kWords] = {};
    int64_t set = 0;
    for (int j = 0; j < n && in_frame; ++j) {
      if (pixel[j] < 0 || (seen.depth && !seen.on_surface(pixel[j], z[j]))) continue;
      words[j / 32] |= 1u << (j % 32);
      ++set;
    }
    for (int w = 0; w < kWords; ++w) bits(view, tile, w) = words[w];
    count(view, tile) = set;
  }
};

template <class T> struct FillTile {  // the same tile again: visits the set bits
  View<const T, 2> points;
  View<const T, 3> camera_from_world;
  View<const T, 2> intrinsics;
  SeenRule rule;
  View<const uint32_t, 3> bits;
  View<const int64_t, 2> end;
  View<int32_t, 1> point, pixel;

  P2D3D_HD void operator()(int64_t view, int64_t tile) const {
    const int64_t flat = view * end.shape[1] + tile;
    int64_t at = flat ? end.data[flat - 1] : 0;
    if (at == end.data[flat]) return;
    const Seen<T, T> seen(camera_from_world, intrinsics, {}, rule, view);
    for (int w = 0; w < kWords; ++w) {
      for (uint32_t word = bits(view, tile, w); word; word &= word - 1) {
        const int64_t n = tile * kTile + w * 32 + lowest_bit(word);
        T z;
        point(at) = int32_t(n);
        pixel(at) = seen.pixel(points.data + 3 * n, z);
        ++at;
      }
    }
  }
  P2D3D_HD static int lowest_bit(uint32_t word) {
#ifdef __CUDA_ARCH__
    return __ffs(int(word)) - 1;
#else
    return __builtin_ctz(word);
#endif
  }
};

#ifdef __CUDACC__
// On the device a warp takes a tile: its lanes stand side by side in a word, so that reads and writes are contiguous.
constexpr int kWarpsPerBlock = detail::kBlock / 32;

template <class T, class D> __global__ void __launch_bounds__(detail::kBlock) test_kernel(TestTile<T, D> f) {
  const int64_t tiles = f.count.shape[1], n = tiles * f.count.shape[0];
  const int lane = threadIdx.x % 32;
  for (int64_t i = int64_t(blockIdx.x) * kWarpsPerBlock + threadIdx.x / 32; i < n;
       i += int64_t(gridDim.x) * kWarpsPerBlock) {
    const int64_t view = i / tiles, tile = i - view * tiles;
    const Seen<T, D> seen(f.camera_from_world, f.intrinsics, f.depth, f.rule, view);
    int64_t set = 0;
    for (int w = 0; w < kWords; ++w) {
      const int64_t n_point = tile * kTile + w * 32 + lane;
      bool hit = false;
      if (n_point < f.points.shape[0]) {
        T z;
        const int32_t pixel = seen.pixel(f.points.data + 3 * n_point, z);
        hit = pixel >= 0 && (!seen.depth || seen.on_surface(pixel, z));
      }
      const uint32_t word = __ballot_sync(0xffffffffu, hit);
      if (lane == 0) f.bits(view, tile, w) = word;
      set += __popc(word);
    }
    if (lane == 0) f.count(view, tile) = set;
  }
}

template <class T> __global__ void __launch_bounds__(detail::kBlock) fill_kernel(FillTile<T> f) {
  const int64_t tiles = f.end.shape[1], n = tiles * f.end.shape[0];
  const int lane = threadIdx.x % 32;
  for (int64_t i = int64_t(blockIdx.x) * kWarpsPerBlock + threadIdx.x / 32; i < n;
       i += int64_t(gridDim.x) * kWarpsPerBlock) {
    int64_t at = i ? f.end.data[i - 1] : 0;
    if (at == f.end.data[i]) continue;
    const int64_t view = i / tiles, tile = i - view * tiles;
    const Seen<T, T> seen(f.camera_from_world, f.intrinsics, {}, f.rule, view);
    for (int w = 0; w < kWords; ++w) {
      const uint32_t word = f.bits(view, tile, w);
      if (word >> lane & 1u) {
        const int64_t n_point = tile * kTile + w * 32 + lane, slot = at + __popc(word & ((1u << lane) - 1u));
        T z;
        f.point(slot) = int32_t(n_point);
        f.pixel(slot) = seen.pixel(f.points.data + 3 * n_point, z);
      }
      at += __popc(word);
    }
  }
}
#endif

}  // namespace

template <class T, class D>
void visibility_test(const Exec &on, View<const T, 2> points, View<const T, 3> camera_from_world,
                     View<const T, 2> intrinsics, View<const D, 2> depth, const SeenRule &rule, View<uint32_t, 3> bits,
                     View<int64_t, 2> count) {
  const TestTile<T, D> f{points, camera_from_world, intrinsics, depth, rule, bits, count};
#ifdef __CUDACC__
  if (on.cuda() && count.size())
    return detail::launch(on, test_kernel<T, D>, (count.size() + kWarpsPerBlock - 1) / kWarpsPerBlock, f);
#endif
  for_each(on, count.shape[1], count.shape[0], f);  // views innermost: a tile's points stay in the cache
}

template <class T>
void visibility_fill(const Exec &on, View<const T, 2> points, View<const T, 3> camera_from_world,
                     View<const T, 2> intrinsics, const SeenRule &rule, View<const uint32_t, 3> bits,
                     View<const int64_t, 2> end, View<int32_t, 1> point, View<int32_t, 1> pixel) {
  const FillTile<T> f{points, camera_from_world, intrinsics, rule, bits, end, point, pixel};
#ifdef __CUDACC__
  if (on.cuda() && end.size())
    return detail::launch(on, fill_kernel<T>, (end.size() + kWarpsPerBlock - 1) / kWarpsPerBlock, f);
#endif
  for_each(on, end.shape[0], end.shape[1], f);
}

#define P2D3D_FOR(T, D)                                                                                   \
  template void visibility_test<T, D>(const Exec &, View<const T, 2>, View<const T, 3>, View<const T, 2>, \
                                      View<const D, 2>, const SeenRule &, View<uint32_t, 3>, View<int64_t, 2>);
P2D3D_FOR(float, float)
P2D3D_FOR(float, uint16_t)
P2D3D_FOR(double, double)
P2D3D_FOR(double, uint16_t)
#undef P2D3D_FOR
#define P2D3D_FOR(T)                                                                                   \
  template void visibility_fill<T>(const Exec &, View<const T, 2>, View<const T, 3>, View<const T, 2>, \
                                   const SeenRule &, View<const uint32_t, 3>, View<const int64_t, 2>,  \
                                   View<int32_t, 1>, View<int32_t, 1>);
P2D3D_FOR(float)
P2D3D_FOR(double)
