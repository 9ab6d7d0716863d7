#include "core/for_each.hpp"
#include "core/neighbour_tree.hpp"
#include "ops.hpp"

namespace {

template <class T> constexpr T kInfinity = T(__builtin_huge_val());

template <class T> P2D3D_HD T squared_distance(const T *p, T x, T y, T z) {
  const T a = x - p[0], b = y - p[1], c = z - p[2];
  return (a * a + b * b) + c * c;
}

template <class T> struct Farthest {
  T distance;
  int32_t point;
  P2D3D_HD void take(T d, int32_t n) {
    if (d > distance || (d == distance && n < point)) distance = d, point = n;
  }
};

/// One cloud: in each round all its points are looked at. A point's distance is that from the chosen ones, and -1 once
/// it is chosen itself or where it is not finite. `lanes` may share a cloud: each has points of its own.
template <class T> struct SampleCloud {
  View<const T, 2> points;
  View<const int64_t, 1> ptr;
  int64_t start, samples;
  View<T, 1> distance;
  View<int64_t, 1> out;

  P2D3D_HD Farthest<T> begin(int64_t cloud, int64_t lane, int64_t lanes) const {
    Farthest<T> best{-1, -1};
    for (int64_t i = ptr(cloud) + lane; i < ptr(cloud + 1); i += lanes) {
      distance(i) = all_finite(points.data + 3 * i) ? kInfinity<T> : T(-1);
      best.take(distance(i), int32_t(i));
    }
    return best;
  }
  /// The first one chosen, where `best` is the lowest that is finite.
  P2D3D_HD int32_t first(int64_t cloud, const Farthest<T> &best) const {
    const int64_t n = ptr(cloud) + start;
    return start < ptr(cloud + 1) - ptr(cloud) && all_finite(points.data + 3 * n) ? int32_t(n) : best.point;
  }
  P2D3D_HD Farthest<T> round(int64_t cloud, int32_t chosen, int64_t lane, int64_t lanes) const {
    Farthest<T> best{-1, -1};
    if (chosen < 0) return best;  // there is no other
    const T *c = points.data + 3 * int64_t(chosen);
    for (int64_t i = ptr(cloud) + lane; i < ptr(cloud + 1); i += lanes) {
      const T *p = points.data + 3 * i;
      const T d = squared_distance(c, p[0], p[1], p[2]);
      if (i == chosen) distance(i) = T(-1);
      else if (d < distance(i)) distance(i) = d;
      if (distance(i) >= T(0)) best.take(distance(i), int32_t(i));
    }
    return best;
  }
  P2D3D_HD void operator()(int64_t, int64_t cloud) const {
    Farthest<T> best = begin(cloud, 0, 1);
    for (int64_t s = 0; s < samples; ++s) {
      const int32_t chosen = s == 0 ? first(cloud, best) : best.point;
      out(cloud * samples + s) = chosen;
      best = round(cloud, chosen, 0, 1);
    }
  }
};

/// The same choice on the CPU, where a round leaves most points alone: they lie in buckets along a curve, and a bucket
/// none of whose distances the new point can lower is passed over by its box. See core/neighbour_tree.hpp for why that
/// is exact.
template <class T> struct SampleBuckets {  // one cloud
  static constexpr int kWide = 16;         // side by side: the compiler turns them into vectors
  View<const T, 2> points;
  View<const int64_t, 1> ptr, order;  // order lists each cloud's points
  int64_t start, samples, size;       // points of a bucket
  View<T, 2> sorted;                  // (4, N): x, y, z and distance in that order
  View<int32_t, 1> point;             // (N): which it is
  View<T, 2> bucket;                  // (7, buckets): lowest and highest x, y, z, and the largest distance
  View<int32_t, 1> farthest;          // (buckets): the lowest point at that distance
  View<int64_t, 1> out;

  void operator()(int64_t, int64_t cloud) const {
    const int64_t begin = ptr(cloud), end = ptr(cloud + 1);
    const Buckets b{*this, begin, end, begin / size + cloud, (end - begin + size - 1) / size};
    b.fill();
    int64_t at = b.find_first(start);
    for (int64_t s = 0; s < samples; ++s) {
      out(cloud * samples + s) = at < 0 ? -1 : point(at);
      if (at < 0) continue;
      b.lower(at);
      at = b.find_farthest();
    }
  }

 private:
  struct Buckets {  // those of one cloud
    const SampleBuckets &all;
    int64_t begin, end, first, count;

    T *column(int row) const { return all.bucket.data + row * all.bucket.shape[1] + first; }
    int32_t *farthest() const { return all.farthest.data + first; }
    const T *along(int d) const { return all.sorted.data + d * all.sorted.shape[1]; }
    T *distance() const { return all.sorted.data + 3 * all.sorted.shape[1]; }
    int64_t begin_of(int64_t i) const { return begin + i * all.size; }
    int64_t end_of(int64_t i) const { return std::min(begin + (i + 1) * all.size, end); }

    void fill() const {
      for (int64_t i = 0; i < count; ++i) {
        for (int d = 0; d < 3; ++d) column(d)[i] = kInfinity<T>, column(3 + d)[i] = -kInfinity<T>;
        for (int64_t s = begin_of(i); s < end_of(i); ++s) {
          const int64_t n = all.order(s);
          const T *p = all.points.data + 3 * n;
          const bool known = all_finite(p);
          all.point(s) = int32_t(n);
          distance()[s] = known ? kInfinity<T> : T(-1);
          for (int d = 0; d < 3; ++d) {
            all.sorted(d, s) = p[d];
            if (known) column(d)[i] = std::min(column(d)[i], p[d]), column(3 + d)[i] = std::max(column(3 + d)[i], p[d]);
          }
        }
        refresh(i);
      }
    }
    /// Its largest distance, and the lowest point that has it.
    void refresh(int64_t i) const {
      const T *d = distance() + begin_of(i);
      const int32_t *n = all.point.data + begin_of(i);
      const int64_t length = end_of(i) - begin_of(i);
      column(6)[i] = largest(d, length);
      farthest()[i] = lowest_at(column(6)[i], d, n, length);
    }
    /// The place of the first one chosen, or -1.
    int64_t find_first(int64_t from) const {
      if (from >= end - begin || !all_finite(all.points.data + 3 * (begin + from))) return find_farthest();
      return std::find(all.point.data + begin, all.point.data + end, int32_t(begin + from)) - all.point.data;
    }
    /// The place of the point that is farthest, the lowest of several, or -1 where none is left.
    int64_t find_farthest() const {
      const T *d = column(6);
      const T most = largest(d, count);
      if (!(most >= T(0))) return -1;
      const int32_t n = lowest_at(most, d, farthest(), count);
      int64_t i = 0;
      while (d[i] != most || farthest()[i] != n) ++i;
      const int32_t *places = all.point.data;
      return std::find(places + begin_of(i), places + end_of(i), n) - places;
    }
    /// All distances, by the point at this place, which is chosen.
    void lower(int64_t at) const {
      const T x = along(0)[at], y = along(1)[at], z = along(2)[at];
      const int64_t own = (at - begin) / all.size;
      distance()[at] = T(-1);
      lower(own, x, y, z);
      for (int64_t i = 0; i < count; i += kWide) {
        T d[kWide];
        const int64_t n = std::min<int64_t>(kWide, count - i);
        to_boxes(i, n, x, y, z, d);
        for (int64_t k = 0; k < n; ++k)
          if (d[k] < column(6)[i + k] && i + k != own) lower(i + k, x, y, z);
      }
    }
    void lower(int64_t i, T x, T y, T z) const {
      const T *xs = along(0), *ys = along(1), *zs = along(2);
      T *to = distance();
      for (int64_t s = begin_of(i); s < end_of(i); ++s) {
        const T a = x - xs[s], b = y - ys[s], c = z - zs[s], d = (a * a + b * b) + c * c;
        to[s] = d < to[s] ? d : to[s];
      }
      refresh(i);
    }
    void to_boxes(int64_t i, int64_t n, T x, T y, T z, T *d) const {
      const T *box[6];
      for (int row = 0; row < 6; ++row) box[row] = column(row) + i;
      for (int64_t k = 0; k < n; ++k) {
        const T a = outside(box[0][k], box[3][k], x), b = outside(box[1][k], box[4][k], y);
        const T c = outside(box[2][k], box[5][k], z);
        d[k] = (a * a + b * b) + c * c;
      }
    }
    static T outside(T low, T high, T x) {
      const T below = low - x, above = x - high, far = below > above ? below : above;
      return far > T(0) ? far : T(0);
    }
    static T largest(const T *x, int64_t n) {
      T most[kWide];
      for (int k = 0; k < kWide; ++k) most[k] = T(-1);
      int64_t i = 0;
      for (; i + kWide <= n; i += kWide)
        for (int k = 0; k < kWide; ++k) most[k] = x[i + k] > most[k] ? x[i + k] : most[k];
      for (; i < n; ++i) most[0] = std::max(most[0], x[i]);
      return *std::max_element(most, most + kWide);
    }
    static int32_t lowest_at(T value, const T *x, const int32_t *point, int64_t n) {
      int32_t lowest = INT32_MAX;
      for (int64_t i = 0; i < n; ++i) {
        const int32_t here = x[i] == value ? point[i] : INT32_MAX;
        lowest = here < lowest ? here : lowest;
      }
      return lowest;
    }
  };
};

#ifdef __CUDACC__
// On the device a block takes a cloud: its threads are the lanes.
constexpr int kLanes = 1024;

template <class T> __device__ Farthest<T> farthest_of_warp(Farthest<T> best) {
  for (int step = 16; step > 0; step /= 2) {
    const T distance = __shfl_xor_sync(0xffffffffu, best.distance, step);
    best.take(distance, __shfl_xor_sync(0xffffffffu, best.point, step));
  }
  return best;
}

template <class T> __global__ void __launch_bounds__(kLanes) sample_kernel(SampleCloud<T> f) {
  __shared__ Farthest<T> of_warp[kLanes / 32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int64_t cloud = blockIdx.x; cloud < f.ptr.shape[0] - 1; cloud += gridDim.x) {
    P2D3D_DEVICE_CHECK(f.ptr(cloud) >= 0 && f.ptr(cloud) <= f.ptr(cloud + 1) && f.ptr(cloud + 1) <= f.points.shape[0]);
    Farthest<T> best = f.begin(cloud, threadIdx.x, kLanes);
    for (int64_t s = 0; s < f.samples; ++s) {
      best = farthest_of_warp(best);
      __syncthreads();  // all have read those of the round before
      if (lane == 0) of_warp[warp] = best;
      __syncthreads();
      best = farthest_of_warp(of_warp[lane]);
      const int32_t chosen = s == 0 ? f.first(cloud, best) : best.point;
      if (threadIdx.x == 0) f.out(cloud * f.samples + s) = chosen;
      best = f.round(cloud, chosen, threadIdx.x, kLanes);
    }
  }
}
#endif

}  // namespace

int64_t farthest_point_sample_bucket(int64_t points) {
  int64_t size = 32;
  while (16 * size * size < points) size *= 2;
  return size;
}

template <class T>
void farthest_point_sample(const Exec &on, View<const T, 2> points, View<const int64_t, 1> ptr, int64_t start,
                           int64_t samples, View<T, 1> distance, View<int64_t, 1> out) {
  const SampleCloud<T> f{points, ptr, start, samples, distance, out};
  const int64_t clouds = ptr.shape[0] - 1;
#ifdef __CUDACC__
  if (on.cuda() && clouds > 0) {
    DeviceGuard guard(on.device);
    sample_kernel<<<unsigned(std::min<int64_t>(clouds, 1 << 20)), kLanes, 0, static_cast<cudaStream_t>(on.stream)>>>(f);
    return cuda_check(cudaGetLastError(), "a kernel launch");
  }
#endif
  for_each_as_cuda(on, 1, clouds, f);
}

template <class T>
void farthest_point_sample_buckets(const Exec &on, View<const T, 2> points, View<const int64_t, 1> ptr,
                                   View<const int64_t, 1> order, int64_t start, int64_t samples, int64_t size,
                                   View<T, 2> sorted, View<int32_t, 1> point, View<T, 2> bucket,
                                   View<int32_t, 1> farthest, View<int64_t, 1> out) {
  for_each_on_cpu(on, 1, ptr.shape[0] - 1,
                  SampleBuckets<T>{points, ptr, order, start, samples, size, sorted, point, bucket, farthest, out});
}

#define P2D3D_FOR(T)                                                                                               \
  template void farthest_point_sample<T>(const Exec &, View<const T, 2>, View<const int64_t, 1>, int64_t, int64_t, \
                                         View<T, 1>, View<int64_t, 1>);                                            \
  template void farthest_point_sample_buckets<T>(const Exec &, View<const T, 2>, View<const int64_t, 1>,           \
                                                 View<const int64_t, 1>, int64_t, int64_t, int64_t, View<T, 2>,    \
                                                 View<int32_t, 1>, View<T, 2>, View<int32_t, 1>, View<int64_t, 1>);
P2D3D_FOR(float)
P2D3D_FOR(double)
