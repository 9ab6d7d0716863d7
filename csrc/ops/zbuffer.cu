#include "core/atomic.hpp"
#include "core/for_each.hpp"
#include "core/pinhole.hpp"
#include "ops.hpp"

namespace {

constexpr uint64_t kEmpty = ~uint64_t(0);  // index -1, and above every key

template <class T> struct FromUvz {
  View<const T, 3> uvz;
  struct InView {
    const T *uvz;
    P2D3D_HD Uvz<T> operator()(int64_t n) const { return {uvz[3 * n], uvz[3 * n + 1], uvz[3 * n + 2]}; }
  };
  P2D3D_HD int64_t count() const { return uvz.shape[1]; }
  P2D3D_HD InView in_view(int64_t view) const { return {uvz.data + 3 * view * uvz.shape[1]}; }
};

template <class T> struct FromPoints {
  View<const T, 2> points;
  View<const T, 3> camera_from_world;
  View<const T, 2> intrinsics;
  struct InView {
    Pinhole<T> camera;
    const T *points;
    P2D3D_HD Uvz<T> operator()(int64_t n) const { return camera.project(points + 3 * n); }
  };
  P2D3D_HD int64_t count() const { return points.shape[0]; }
  P2D3D_HD InView in_view(int64_t view) const { return {{camera_from_world, intrinsics, view}, points.data}; }
};

/// The cells of the grid that a point at `pixel` covers: those at multiples of the stride within the radius.
struct Footprint {
  int64_t top, bottom, left, right;  // inclusive

  P2D3D_HD Footprint(const ZbufferGrid &grid, int32_t pixel) {
    const int64_t v = pixel / grid.width, u = pixel - v * grid.width;
    range(v, grid, grid.height, top, bottom);
    range(u, grid, grid.width, left, right);
  }
  P2D3D_HD static void range(int64_t at, const ZbufferGrid &grid, int64_t full, int64_t &first, int64_t &last) {
    const int64_t low = at > grid.radius ? at - grid.radius : 0;
    const int64_t high = at + grid.radius < full ? at + grid.radius : full - 1;
    first = (low + grid.stride - 1) / grid.stride;
    last = high / grid.stride;
  }
};

/// The pixel that a point is nearest to, or -1 where it takes no part.
template <class T> P2D3D_HD int32_t pixel_of(const ZbufferGrid &grid, const Uvz<T> &at) {
  const int32_t pixel = Frame{grid.height, grid.width, 0}.pixel(at.u, at.v);
  return positive_finite(at.z) ? pixel : -1;
}

// float: one pass over keys of (depth bits, index), kept in `index`. double: a pass over the depth bits, kept in
// `depth`, and one over the indices of the points at that depth. Positive floats order as their bits do.
enum class Pass { kKey, kDepth, kIndex };

/// kPoints neighbouring points in one view: on the CPU as many as make a vector loop, on CUDA one.
template <class T, class Source, Pass kPass, int kPoints> struct Cover {
  Source source;
  ZbufferGrid grid;
  View<int64_t, 3> index;
  View<T, 3> depth;

  P2D3D_HD void operator()(int64_t view, int64_t piece) const {
    const int64_t begin = piece * kPoints, left = source.count() - begin;
    const int n = int(left < kPoints ? left : kPoints);
    const auto points = source.in_view(view);
    int32_t pixel[kPoints];
    T z[kPoints];
    for (int j = 0; j < n; ++j) {
      const Uvz<T> at = points(begin + j);
      pixel[j] = pixel_of(grid, at);
      z[j] = at.z;
    }
    for (int j = 0; j < n; ++j)
      if (pixel[j] >= 0) cover(view, begin + j, pixel[j], z[j]);
  }
  P2D3D_HD void cover(int64_t view, int64_t n, int32_t pixel, T z) const {
    const Footprint cells(grid, pixel);
    for (int64_t v = cells.top; v <= cells.bottom; ++v)
      for (int64_t u = cells.left; u <= cells.right; ++u) {
        uint64_t *best = reinterpret_cast<uint64_t *>(&index(view, v, u));
        if constexpr (kPass == Pass::kKey) {
          atomic_min(best, uint64_t(bit_cast<uint32_t>(z)) << 32 | uint64_t(n));
        } else if constexpr (kPass == Pass::kDepth) {
          atomic_min(reinterpret_cast<uint64_t *>(&depth(view, v, u)), bit_cast<uint64_t>(z));
        } else if (depth(view, v, u) == z) {
          atomic_min(best, uint64_t(n));
        }
      }
  }
};

template <class F> struct OfMatches {  // one match
  F f;
  View<const int64_t, 1> ptr;
  View<const int32_t, 1> point;
  P2D3D_HD void operator()(int64_t, int64_t i) const {
    const int64_t view = view_of(ptr, i), n = point(i);
    P2D3D_DEVICE_CHECK(n >= 0 && n < f.source.count());
    const auto at = f.source.in_view(view)(n);
    const int32_t pixel = pixel_of(f.grid, at);
    if (pixel >= 0) f.cover(view, n, pixel, at.z);
  }
};

template <class T> struct FillInfinity {
  View<T, 3> depth;
  P2D3D_HD void operator()(int64_t, int64_t i) const { depth.data[i] = T(__builtin_huge_val()); }
};

template <class T> struct Decode {  // one cell
  View<int64_t, 3> index;
  View<T, 3> depth;

  P2D3D_HD void operator()(int64_t, int64_t i) const {
    const uint64_t key = uint64_t(index.data[i]);
    if (key == kEmpty) {
      depth.data[i] = T(0);
    } else if constexpr (sizeof(T) == 4) {
      depth.data[i] = bit_cast<float>(uint32_t(key >> 32));
      index.data[i] = int64_t(key & 0xffffffffu);
    }
  }
};

template <class T> struct GradOfPoint {  // one point in one view: the cells it won lie in its footprint
  FromUvz<T> source;
  ZbufferGrid grid;
  View<const int64_t, 3> index;
  View<const T, 3> grad;
  View<T, 3> out;

  P2D3D_HD void operator()(int64_t view, int64_t n) const {
    T sum = 0;
    const int32_t pixel = pixel_of(grid, source.in_view(view)(n));
    if (pixel >= 0) {
      const Footprint cells(grid, pixel);
      for (int64_t v = cells.top; v <= cells.bottom; ++v)
        for (int64_t u = cells.left; u <= cells.right; ++u)
          if (index(view, v, u) == n) sum += grad(view, v, u);
    }
    T *g = out.data + 3 * (view * out.shape[1] + n);
    g[0] = g[1] = T(0);
    g[2] = sum;
  }
};

template <class T, Pass kPass, class Source>
void cover(const Exec &on, const Source &source, int64_t views, View<const int64_t, 1> ptr,
           View<const int32_t, 1> point, const ZbufferGrid &grid, View<int64_t, 3> index, View<T, 3> depth) {
  using One = Cover<T, Source, kPass, 1>;
  using Many = Cover<T, Source, kPass, 256>;
  const int64_t n = source.count();
  if (ptr) for_each(on, 1, point.shape[0], OfMatches<One>{{source, grid, index, depth}, ptr, point});
  else if (on.cuda()) for_each(on, views, n, One{source, grid, index, depth});
  else for_each(on, views, (n + 255) / 256, Many{source, grid, index, depth});
}

template <class T, class Source>
void run_zbuffer(const Exec &on, const Source &source, int64_t views, View<const int64_t, 1> ptr,
                 View<const int32_t, 1> point, const ZbufferGrid &grid, View<int64_t, 3> index, View<T, 3> depth) {
  if constexpr (sizeof(T) == 4) {
    cover<T, Pass::kKey>(on, source, views, ptr, point, grid, index, depth);
  } else {
    for_each(on, 1, depth.size(), FillInfinity<T>{depth});
    cover<T, Pass::kDepth>(on, source, views, ptr, point, grid, index, depth);
    cover<T, Pass::kIndex>(on, source, views, ptr, point, grid, index, depth);
  }
  for_each(on, 1, depth.size(), Decode<T>{index, depth});
}

}  // namespace

template <class T>
void zbuffer(const Exec &on, View<const T, 3> uvz, View<const int64_t, 1> ptr, View<const int32_t, 1> point,
             const ZbufferGrid &grid, View<int64_t, 3> index, View<T, 3> depth) {
  run_zbuffer<T>(on, FromUvz<T>{uvz}, uvz.shape[0], ptr, point, grid, index, depth);
}

template <class T>
void zbuffer_points(const Exec &on, View<const T, 2> points, View<const T, 3> camera_from_world,
                    View<const T, 2> intrinsics, const ZbufferGrid &grid, View<int64_t, 3> index, View<T, 3> depth) {
  run_zbuffer<T>(on, FromPoints<T>{points, camera_from_world, intrinsics}, camera_from_world.shape[0], {}, {}, grid,
                 index, depth);
}

template <class T>
void zbuffer_grad(const Exec &on, View<const T, 3> uvz, const ZbufferGrid &grid, View<const int64_t, 3> index,
                  View<const T, 3> grad, View<T, 3> out) {
  for_each(on, uvz.shape[0], uvz.shape[1], GradOfPoint<T>{{uvz}, grid, index, grad, out});
}

#define P2D3D_FOR(T)                                                                                         \
  template void zbuffer<T>(const Exec &, View<const T, 3>, View<const int64_t, 1>, View<const int32_t, 1>,   \
                           const ZbufferGrid &, View<int64_t, 3>, View<T, 3>);                               \
  template void zbuffer_points<T>(const Exec &, View<const T, 2>, View<const T, 3>, View<const T, 2>,        \
                                  const ZbufferGrid &, View<int64_t, 3>, View<T, 3>);                        \
  template void zbuffer_grad<T>(const Exec &, View<const T, 3>, const ZbufferGrid &, View<const int64_t, 3>, \
                                View<const T, 3>, View<T, 3>);
P2D3D_FOR(float)
P2D3D_FOR(double)
