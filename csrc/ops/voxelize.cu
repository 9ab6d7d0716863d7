#include <type_traits>

#include "core/for_each.hpp"
#include "ops.hpp"

namespace {

constexpr int64_t kAhead = 16;  // points whose lines are asked for before they are needed

template <class T> P2D3D_HD T floor_of(T x) {
#ifdef __CUDA_ARCH__
  return floor(x);
#else
  return sizeof(T) == 4 ? T(__builtin_floorf(float(x))) : T(__builtin_floor(double(x)));
#endif
}

struct Cell {
  int32_t x, y, z;
};

/// The cell of a point: floor((p - origin) / size), in the geometry's arithmetic.
template <class T> struct CellOf {
  T origin[3], size[3];

  P2D3D_HD explicit CellOf(const VoxelGrid<T> &grid) {
    for (int d = 0; d < 3; ++d) origin[d] = grid.origin(d), size[d] = T(grid.size[d]);
  }
  P2D3D_HD T along(int d, T p) const { return floor_of((p - origin[d]) / size[d]); }
  P2D3D_HD Cell operator()(const T *p) const {
    return {int32_t(along(0, p[0])), int32_t(along(1, p[1])), int32_t(along(2, p[2]))};
  }
};

template <class T> P2D3D_HD bool finite(T x) { return x - x == T(0); }
template <class T> P2D3D_HD bool finite(const T *p) { return finite(p[0]) & finite(p[1]) & finite(p[2]); }
template <class T> P2D3D_HD bool in_int32(T x) { return (x >= T(-2147483648.0)) & (x < T(2147483648.0)); }
template <class T> constexpr T kInfinity = T(__builtin_huge_val());

template <class T> struct BoxOfBlock {  // `block` points
  VoxelGrid<T> grid;
  int64_t block;
  View<T, 2> box;

  P2D3D_HD void operator()(int64_t, int64_t i) const {
    const int64_t n = grid.points.shape[0], first = i * block, end = first + block < n ? first + block : n;
    constexpr int kWidth = 48;  // 16 points side by side, in as many minima: the compiler turns them into vectors
    T low[kWidth], high[kWidth], not_finite[kWidth];
    for (int k = 0; k < kWidth; ++k) low[k] = kInfinity<T>, high[k] = -kInfinity<T>, not_finite[k] = 0;
    int64_t at = 3 * first;
    for (; at + kWidth <= 3 * end; at += kWidth)
      for (int k = 0; k < kWidth; ++k) {
        const T x = grid.points.data[at + k];
        low[k] = x < low[k] ? x : low[k];
        high[k] = x > high[k] ? x : high[k];
        not_finite[k] += x - x;
      }
    T wrong = 0;
    for (int k = 0; k < kWidth; ++k) wrong += not_finite[k];
    if (wrong != T(0)) at = 3 * first;  // again, one by one
    T *out = &box(i, 0);
    for (int d = 0; d < 6; ++d) out[d] = kInfinity<T>;
    for (int k = 0; k < kWidth && wrong == T(0); ++k) lower(out, k % 3, low[k], high[k]);
    for (; at < 3 * end; at += 3) {
      const T *p = grid.points.data + at;
      for (int d = 0; d < 3 && finite(p); ++d) lower(out, d, p[d], p[d]);
    }
  }
  P2D3D_HD static void lower(T *out, int d, T low, T high) {
    out[d] = low < out[d] ? low : out[d];
    out[3 + d] = -high < out[3 + d] ? -high : out[3 + d];
  }
};

template <class T> struct ExtentOfBox {  // the one there is: cells ascend with coordinates
  VoxelGrid<T> grid;
  View<const T, 1> box;
  View<const int64_t, 1> batches;
  View<int64_t, 1> extent;

  P2D3D_HD void operator()(int64_t, int64_t) const {
    const CellOf<T> cell_of(grid);
    constexpr int64_t kFar = (int64_t(1) << 62) - 1;  // far enough to be refused, near enough to take a difference
    const int64_t first = !batches ? 0 : batches(0) < -kFar ? -kFar : batches(0);
    const int64_t last = !batches ? 0 : batches(1) > kFar ? kFar : batches(1);
    extent(0) = first;
    extent(4) = last - first + 1;
    for (int d = 0; d < 3; ++d) {
      const bool none = box(d) == kInfinity<T>;
      const T low = none ? T(0) : cell_of.along(d, box(d)), high = none ? T(0) : cell_of.along(d, -box(3 + d));
      const bool good = in_int32(low) & in_int32(high);
      extent(1 + d) = good ? int64_t(low) : 0;
      extent(5 + d) = good ? int64_t(high) - int64_t(low) + 1 : 0;
    }
  }
};

template <class T, class K> struct KeysOfBlock {  // `block` points
  VoxelGrid<T> grid;
  View<const int64_t, 1> extent;
  int axis;
  int64_t block;
  View<K, 1> key;

  P2D3D_HD void operator()(int64_t, int64_t i) const {
    using U = std::make_unsigned_t<K>;  // wraps around where it is too small
    const CellOf<T> cell_of(grid);
    U low[4], length[4], weight[4];  // of a step along each axis
    for (int d = 0; d < 4; ++d) low[d] = U(extent(d)), length[d] = U(extent(4 + d)), weight[d] = axis == d;
    if (axis < 0) weight[3] = 1;
    for (int d = 2; axis < 0 && d >= 0; --d) weight[d] = weight[d + 1] * length[d + 1];
    const U cells = axis < 0 ? weight[0] * length[0] : length[axis];
    const int64_t n = key.shape[0], begin = i * block, end = begin + block < n ? begin + block : n;
    for (int64_t j = begin; j < end; ++j) {  // without a branch: the compiler turns it into vectors
      const T *p = grid.points.data + 3 * j;
      const bool is_finite = finite(p);
      U packed = 0;
      for (int d = 0; d < 3; ++d)
        packed += (U(int32_t(is_finite ? cell_of.along(d, p[d]) : T(0))) - low[1 + d]) * weight[1 + d];
      key(j) = K(is_finite ? packed : cells);
    }
    if (grid.batch) add_batch(begin, end, low[0], weight[0]);
  }
  template <class U> P2D3D_HD void add_batch(int64_t begin, int64_t end, U low, U weight) const {
    for (int64_t j = begin; j < end; ++j)
      if (finite(grid.points.data + 3 * j)) key(j) = K(U(key(j)) + (U(grid.batch(j)) - low) * weight);
  }
};

template <class K> struct IsHead {  // does a voxel begin at s?
  View<const K, 1> key;
  P2D3D_HD bool operator()(int64_t s) const { return s == 0 || key(s) != key(s - 1); }
};

template <class K> struct CountHeads {  // `block` sorted points
  View<const K, 1> key;
  View<const int64_t, 1> valid;
  int64_t block;
  View<int64_t, 1> count;

  P2D3D_HD void operator()(int64_t, int64_t i) const {
    const IsHead<K> is_head{key};
    const int64_t begin = i * block, end = begin + block < valid(0) ? begin + block : valid(0);
    int64_t heads = 0;
    for (int64_t s = begin; s < end; ++s) heads += is_head(s);
    count(i) = heads;
  }
};

template <class T, class K> struct FillVoxels {  // the same block again
  VoxelGrid<T> grid;
  View<const K, 1> key;
  View<const int64_t, 1> order, valid, end_of_block;
  int64_t block;
  View<int32_t, 2> coords;
  View<int64_t, 1> inverse, ptr;

  P2D3D_HD void operator()(int64_t, int64_t i) const {
    const IsHead<K> is_head{key};
    const CellOf<T> cell_of(grid);
    const int64_t begin = i * block, end = begin + block < key.shape[0] ? begin + block : key.shape[0];
    int64_t voxel = (i ? end_of_block(i - 1) : 0) - 1;
    if (i == 0) ptr(coords.shape[0]) = valid(0);
    for (int64_t s = begin; s < end; ++s) {
      const int64_t n = order(s);
      if (s + kAhead < end) P2D3D_PREFETCH(inverse.data + order(s + kAhead));
      if (s + kAhead < end && is_head(s + kAhead)) P2D3D_PREFETCH(grid.points.data + 3 * order(s + kAhead));
      if (s >= valid(0)) {
        inverse(n) = -1;
        continue;
      }
      if (is_head(s)) {
        ++voxel;
        const Cell c = cell_of(grid.points.data + 3 * n);
        coords(voxel, 0) = grid.batch ? int32_t(grid.batch(n)) : 0;
        coords(voxel, 1) = c.x, coords(voxel, 2) = c.y, coords(voxel, 3) = c.z;
        ptr(voxel) = s;
      }
      inverse(n) = voxel;
    }
  }
};

/// A worker's share of the points: on CUDA small, so that there are many workers.
int64_t block_size(const Exec &on) { return on.cuda_functors() ? 64 : 4096; }
int64_t blocks(const Exec &on, int64_t n) { return (n + block_size(on) - 1) / block_size(on); }

}  // namespace

int64_t voxelize_blocks(const Exec &on, int64_t n) { return blocks(on, n); }

template <class T> void voxelize_box(const Exec &on, VoxelGrid<T> grid, View<T, 2> box) {
  for_each(on, 1, box.shape[0], BoxOfBlock<T>{grid, block_size(on), box});
}

template <class T>
void voxelize_extent(const Exec &on, VoxelGrid<T> grid, View<const T, 1> box, View<const int64_t, 1> batches,
                     View<int64_t, 1> extent) {
  for_each(on, 1, 1, ExtentOfBox<T>{grid, box, batches, extent});
}

template <class T, class K>
void voxelize_keys(const Exec &on, VoxelGrid<T> grid, View<const int64_t, 1> extent, int axis, View<K, 1> key) {
  const int64_t block = on.cuda_functors() ? 1 : block_size(on);
  for_each(on, 1, (key.shape[0] + block - 1) / block, KeysOfBlock<T, K>{grid, extent, axis, block, key});
}

template <class K>
void voxelize_count(const Exec &on, View<const K, 1> key, View<const int64_t, 1> valid, View<int64_t, 1> count) {
  for_each(on, 1, count.shape[0], CountHeads<K>{key, valid, block_size(on), count});
}

template <class T, class K>
void voxelize_fill(const Exec &on, VoxelGrid<T> grid, View<const K, 1> key, View<const int64_t, 1> order,
                   View<const int64_t, 1> valid, View<const int64_t, 1> end, View<int32_t, 2> coords,
                   View<int64_t, 1> inverse, View<int64_t, 1> ptr) {
  for_each(on, 1, end.shape[0], FillVoxels<T, K>{grid, key, order, valid, end, block_size(on), coords, inverse, ptr});
}

#define P2D3D_FOR(T, K)                                                                                   \
  template void voxelize_keys<T, K>(const Exec &, VoxelGrid<T>, View<const int64_t, 1>, int, View<K, 1>); \
  template void voxelize_fill<T, K>(const Exec &, VoxelGrid<T>, View<const K, 1>, View<const int64_t, 1>, \
                                    View<const int64_t, 1>, View<const int64_t, 1>, View<int32_t, 2>,     \
                                    View<int64_t, 1>, View<int64_t, 1>);
P2D3D_FOR(float, int32_t)
P2D3D_FOR(float, int64_t)
P2D3D_FOR(double, int32_t)
P2D3D_FOR(double, int64_t)
#undef P2D3D_FOR
#define P2D3D_FOR(T)                                                                                     \
  template void voxelize_box<T>(const Exec &, VoxelGrid<T>, View<T, 2>);                                 \
  template void voxelize_extent<T>(const Exec &, VoxelGrid<T>, View<const T, 1>, View<const int64_t, 1>, \
                                   View<int64_t, 1>);
P2D3D_FOR(float)
P2D3D_FOR(double)
template void voxelize_count<int32_t>(const Exec &, View<const int32_t, 1>, View<const int64_t, 1>, View<int64_t, 1>);
template void voxelize_count<int64_t>(const Exec &, View<const int64_t, 1>, View<const int64_t, 1>, View<int64_t, 1>);
