#include "core/atomic.hpp"
#include "core/for_each.hpp"
#include "core/long_sum.hpp"
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

template <class T, class Source, Pass kPass> struct Cover {  // what one point in one view writes
  Source source;
  ZbufferGrid grid;
  View<const int64_t, 1> ptr;  // null: all points take part
  View<const int32_t, 1> point;
  View<int64_t, 3> index;
  View<T, 3> depth;

  /// In the cells of its footprint within grid rows [top, bottom).
  P2D3D_HD void write(int64_t view, int64_t n, int32_t pixel, T z, int64_t top, int64_t bottom) const {
    if (grid.radius == 0 && grid.stride == 1) return lower_cell(view * grid.height * grid.width + pixel, n, z);
    const Footprint cells(grid, pixel);
    const int64_t h = index.shape[1], w = index.shape[2];
    for (int64_t v = cells.top < top ? top : cells.top; v <= cells.bottom && v < bottom; ++v)
      for (int64_t u = cells.left; u <= cells.right; ++u) lower_cell((view * h + v) * w + u, n, z);
  }
  P2D3D_HD void lower_cell(int64_t cell, int64_t n, T z) const {
    uint64_t *best = reinterpret_cast<uint64_t *>(index.data + cell);
    if constexpr (kPass == Pass::kKey) {
      lower(best, uint64_t(bit_cast<uint32_t>(z)) << 32 | uint64_t(n));
    } else if constexpr (kPass == Pass::kDepth) {
      lower(reinterpret_cast<uint64_t *>(depth.data + cell), bit_cast<uint64_t>(z));
    } else if (depth.data[cell] == z) {
      lower(best, uint64_t(n));
    }
  }
  P2D3D_HD static void lower(uint64_t *at, uint64_t value) {
#ifdef __CUDA_ARCH__
    atomic_min(at, value);
#else
    *at = *at < value ? *at : value;  // a band has one worker
#endif
  }
};

/// On CUDA: one point in one view, or one match. Whatever the order, the minimum is the same.
template <class F> struct CoverOne {
  F f;
  P2D3D_HD void operator()(int64_t view, int64_t i) const {
    int64_t n = i;
    if (f.ptr) {
      view = view_of(f.ptr, i);
      n = f.point(i);
      P2D3D_DEVICE_CHECK(n >= 0 && n < f.source.count());
    }
    const auto at = f.source.in_view(view)(n);
    const int32_t pixel = pixel_of(f.grid, at);
    if (pixel >= 0) f.write(view, n, pixel, at.z, 0, f.index.shape[1]);
  }
};

/// On the CPU: a band of grid rows of one view. Its worker looks at all points and writes those that reach into it, so
/// that no two threads share lines of the cache, and nothing needs to be atomic.
template <class T, class F> struct CoverBand {
  F f;
  int64_t bands;

  void operator()(int64_t view, int64_t band) const {
    const int64_t h = f.index.shape[1], top = h * band / bands, bottom = h * (band + 1) / bands;
    const int64_t first_pixel = (top * f.grid.stride - f.grid.radius) * f.grid.width;
    const int64_t end_pixel = ((bottom - 1) * f.grid.stride + f.grid.radius + 1) * f.grid.width;
    const auto points = f.source.in_view(view);
    const int64_t first = f.ptr ? f.ptr(view) : 0, end = f.ptr ? f.ptr(view + 1) : f.source.count();
    constexpr int kPiece = 256;
    for (int64_t begin = first; begin < end; begin += kPiece) {
      const int size = int(std::min<int64_t>(kPiece, end - begin));
      int32_t pixel[kPiece], chosen[kPiece], count = 0;
      T z[kPiece];
      for (int j = 0; j < size; ++j) {  // a loop of its own: the compiler turns it into vectors
        const auto at = points(f.ptr ? int64_t(f.point(begin + j)) : begin + j);
        pixel[j] = pixel_of(f.grid, at);
        z[j] = at.z;
      }
      for (int j = 0; j < size; ++j) {  // without a branch to mispredict
        chosen[count] = j;
        count += (pixel[j] >= 0) & (pixel[j] >= first_pixel) & (pixel[j] < end_pixel);
      }
      for (int k = 0; k < count; ++k) {
        const int j = chosen[k];
        f.write(view, f.ptr ? int64_t(f.point(begin + j)) : begin + j, pixel[j], z[j], top, bottom);
      }
    }
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
    LongSum<T, 1> whole;
    const int32_t pixel = pixel_of(grid, source.in_view(view)(n));
    if (pixel >= 0) {
      const Footprint cells(grid, pixel);
      for (int64_t v = cells.top; v <= cells.bottom; ++v)
        for (int64_t u = cells.left; u <= cells.right; ++u) {
          if (index(view, v, u) != n) continue;
          whole.begin_term(&sum);
          sum += grad(view, v, u);
        }
    }
    whole.finish(&sum);
    T *g = out.data + 3 * (view * out.shape[1] + n);
    g[0] = g[1] = T(0);
    g[2] = sum;
  }
};

template <class T, Pass kPass, class Source>
void cover(const Exec &on, const Source &source, View<const int64_t, 1> ptr, View<const int32_t, 1> point,
           const ZbufferGrid &grid, View<int64_t, 3> index, View<T, 3> depth) {
  using F = Cover<T, Source, kPass>;
  const F f{source, grid, ptr, point, index, depth};
  const int64_t views = index.shape[0];
  if (on.cuda_functors())
    return for_each_as_cuda(on, ptr ? 1 : views, ptr ? point.shape[0] : source.count(), CoverOne<F>{f});
  const int64_t bands = views ? std::min<int64_t>(index.shape[1], (on.threads + views - 1) / views) : 1;
  for_each_on_cpu(on, views, bands, CoverBand<T, F>{f, bands});
}

template <class T, class Source>
void run_zbuffer(const Exec &on, const Source &source, View<const int64_t, 1> ptr, View<const int32_t, 1> point,
                 const ZbufferGrid &grid, View<int64_t, 3> index, View<T, 3> depth) {
  if constexpr (sizeof(T) == 4) {
    cover<T, Pass::kKey>(on, source, ptr, point, grid, index, depth);
  } else {
    for_each(on, 1, depth.size(), FillInfinity<T>{depth});
    cover<T, Pass::kDepth>(on, source, ptr, point, grid, index, depth);
    cover<T, Pass::kIndex>(on, source, ptr, point, grid, index, depth);
  }
  for_each(on, 1, depth.size(), Decode<T>{index, depth});
}

}  // namespace

template <class T>
void zbuffer(const Exec &on, View<const T, 3> uvz, View<const int64_t, 1> ptr, View<const int32_t, 1> point,
             const ZbufferGrid &grid, View<int64_t, 3> index, View<T, 3> depth) {
  run_zbuffer<T>(on, FromUvz<T>{uvz}, ptr, point, grid, index, depth);
}

template <class T>
void zbuffer_points(const Exec &on, View<const T, 2> points, View<const T, 3> camera_from_world,
                    View<const T, 2> intrinsics, const ZbufferGrid &grid, View<int64_t, 3> index, View<T, 3> depth) {
  run_zbuffer<T>(on, FromPoints<T>{points, camera_from_world, intrinsics}, {}, {}, grid, index, depth);
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
