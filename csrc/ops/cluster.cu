#include "core/atomic.hpp"
#include "core/for_each.hpp"
#include "ops.hpp"

namespace {

/// Disjoint sets that many workers join at once. The lowest cell of a set stands for it: a link always goes down, so
/// whoever comes first, the sets and what stands for them are the same.
struct Sets {
  View<int64_t, 1> parent;

  P2D3D_HD int64_t find(int64_t c) const {
    int64_t up = atomic_load(&parent(c));
    while (up != c) {
      const int64_t over = atomic_load(&parent(up));
      if (over != up) atomic_store(&parent(c), over);  // some ancestor, if no longer the highest that is known
      c = up, up = over;
    }
    return c;
  }
  P2D3D_HD void join(int64_t a, int64_t b) const {
    for (a = find(a), b = find(b); a != b; a = find(a), b = find(b)) {
      const int64_t high = a < b ? b : a, low = a < b ? a : b;
      if (atomic_exchange_if(&parent(high), high, low) == high) return;  // else it was no root any more
    }
  }
};

struct Alone {  // one cell
  Sets sets;
  P2D3D_HD void operator()(int64_t, int64_t c) const { sets.parent(c) = c; }
};

struct Cell {
  int64_t label, x, y, z;

  P2D3D_HD bool before(const Cell &o) const {
    return label != o.label ? label < o.label : x != o.x ? x < o.x : y != o.y ? y < o.y : z < o.z;
  }
  P2D3D_HD bool same_column(const Cell &o) const { return (label == o.label) & (x == o.x) & (y == o.y); }
};

template <class T> P2D3D_HD T squared_distance(const T *p, const T *q) {
  const T x = p[0] - q[0], y = p[1] - q[1], z = p[2] - q[2];
  return (x * x + y * y) + z * z;
}

/// The least squared distance that a point of a box may have, in the same arithmetic: rounding keeps the order.
template <class T> struct Box {
  T low[3], high[3];

  P2D3D_HD Box(const T *begin, const T *end) {
    for (int d = 0; d < 3; ++d) low[d] = high[d] = begin[d];
    for (const T *p = begin + 3; p < end; p += 3)
      for (int d = 0; d < 3; ++d) {
        low[d] = p[d] < low[d] ? p[d] : low[d];
        high[d] = p[d] > high[d] ? p[d] : high[d];
      }
  }
  P2D3D_HD T squared_distance_to(const T *p) const {
    T nearest[3];
    for (int d = 0; d < 3; ++d) nearest[d] = p[d] < low[d] ? low[d] : p[d] > high[d] ? high[d] : p[d];
    return squared_distance(p, nearest);
  }
};

/// Joins each of `block` cells with those after it that are at most kReach away, and not nearer than that if kReach is
/// 2: cells side by side come first, and most that are farther away are one set by then.
template <class T, int kReach> struct JoinCells {
  Cells<T> cells;
  T square;  // of the radius
  int64_t block;
  Sets sets;

  static constexpr int kColumns =
      2 * kReach * (kReach + 1) + 1;  // that hold cells after one: its own, and half the rest

  P2D3D_HD void operator()(int64_t, int64_t i) const {
    const int64_t n = cells.coords.shape[0], begin = i * block, end = begin + block < n ? begin + block : n;
    int64_t next[kColumns];  // the first cell that may be near in each: it moves on as cells do
    for (int k = 0; k < kColumns; ++k) next[k] = lower_bound(begin, n, first_of(k, cell(begin)));
    for (int64_t c = begin; c < end; ++c) {
      const Cell here = cell(c);
      for (int k = 0; k < kColumns; ++k) {
        const Cell first = first_of(k, here);
        while (next[k] < n && cell(next[k]).before(first)) ++next[k];
        for (int64_t d = next[k]; d < n; ++d) {
          const Cell there = cell(d);
          if (!there.same_column(first) || there.z > here.z + kReach) break;
          if (kReach == 2 && touching(here, there)) continue;
          if (sets.find(c) != sets.find(d) && near(c, d)) sets.join(c, d);
        }
      }
    }
  }

  P2D3D_HD Cell cell(int64_t c) const {
    const int32_t *at = cells.coords.data + 4 * c;
    return {at[0], at[1], at[2], at[3]};
  }
  P2D3D_HD static bool touching(const Cell &a, const Cell &b) {
    const int64_t x = a.x - b.x, y = a.y - b.y, z = a.z - b.z;
    return (x * x <= 1) & (y * y <= 1) & (z * z <= 1);
  }
  /// Where column k begins within reach: (0, 0), (0, 1) ... (0, kReach), (1, -kReach) ... (kReach, kReach) from here.
  P2D3D_HD static Cell first_of(int k, const Cell &here) {
    constexpr int kWidth = 2 * kReach + 1;
    const int x = (k + kReach) / kWidth, y = (k + kReach) % kWidth - kReach;
    return {here.label, here.x + x, here.y + y, k == 0 ? here.z + 1 : here.z - kReach};
  }
  P2D3D_HD int64_t lower_bound(int64_t low, int64_t high, const Cell &first) const {
    while (low < high) {
      const int64_t middle = low + (high - low) / 2;
      if (cell(middle).before(first)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  P2D3D_HD bool near(int64_t c, int64_t d) const {
    const T *begin = cells.points.data + 3 * cells.ptr(c), *end = cells.points.data + 3 * cells.ptr(c + 1);
    const T *other = cells.points.data + 3 * cells.ptr(d), *other_end = cells.points.data + 3 * cells.ptr(d + 1);
    const Box<T> box(other, other_end);
    for (const T *p = begin; p < end; p += 3) {
      if (!(box.squared_distance_to(p) < square)) continue;
      for (const T *q = other; q < other_end; q += 3)
        if (squared_distance(p, q) < square) return true;
    }
    return false;
  }
};

struct RootOf {  // one cell
  Sets sets;
  P2D3D_HD void operator()(int64_t, int64_t c) const { atomic_store(&sets.parent(c), sets.find(c)); }
};

}  // namespace

template <class T> void cluster_cells(const Exec &on, Cells<T> cells, double radius, View<int64_t, 1> root) {
  const int64_t n = root.shape[0], block = on.cuda_functors() ? 1 : 1024;
  const T square = T(radius) * T(radius);
  const Sets sets{root};
  for_each(on, 1, n, Alone{sets});
  for_each(on, 1, (n + block - 1) / block, JoinCells<T, 1>{cells, square, block, sets});
  for_each(on, 1, (n + block - 1) / block, JoinCells<T, 2>{cells, square, block, sets});
  for_each(on, 1, n, RootOf{sets});
}

template void cluster_cells<float>(const Exec &, Cells<float>, double, View<int64_t, 1>);
template void cluster_cells<double>(const Exec &, Cells<double>, double, View<int64_t, 1>);
