#include "core/neighbour_tree.hpp"

#include "core/for_each.hpp"
#include "ops.hpp"

namespace {

template <class T> constexpr T kInfinity = T(__builtin_huge_val());
template <class T> constexpr T kNan = T(__builtin_nan(""));

template <class T> struct KeyOnCurve {  // one point
  View<const T, 2> points;
  View<const T, 1> frame;
  View<int64_t, 1> key;

  P2D3D_HD void operator()(int64_t, int64_t i) const {
    const T *p = points.data + 3 * i;
    constexpr int64_t kLast = (int64_t(1) << kCurveBits) - 1;
    key(i) = all_finite(p) ? spread(p[0], 0) << 2 | spread(p[1], 1) << 1 | spread(p[2], 2) : kLast;
  }
  /// The number of its cell along an axis, every third bit.
  P2D3D_HD int64_t spread(T p, int axis) const {
    constexpr int32_t kEnd = 1 << kCurveBits / 3;
    const T cell = (p - frame(axis)) / frame(3);
    uint64_t x = uint64_t(!(cell > T(0)) ? 0 : cell < T(kEnd) ? int32_t(cell) : kEnd - 1);
    x = (x | x << 32) & 0x001f00000000ffffu;
    x = (x | x << 16) & 0x001f0000ff0000ffu;
    x = (x | x << 8) & 0x100f00f00f00f00fu;
    x = (x | x << 4) & 0x10c30c30c30c30c3u;
    return int64_t((x | x << 2) & 0x1249249249249249u);
  }
};

template <class T> struct FillLeaf {  // one leaf
  View<const T, 2> points;
  View<const int64_t, 1> order;
  View<T, 3> leaves;

  P2D3D_HD void operator()(int64_t, int64_t i) const {
    for (int c = 0; c < kBranch; ++c) {
      const int64_t s = i * kBranch + c;
      const T *p = s < order.shape[0] ? points.data + 3 * order(s) : nullptr;
      const bool known = p && all_finite(p);
      for (int d = 0; d < 3; ++d) leaves(i, d, c) = known ? p[d] : kNan<T>;
    }
  }
};

template <class T> struct FillNode {  // one node
  const T *children;                  // those of the level below, which hold lowest and highest at these rows
  int64_t n_children, rows, highest;
  T *nodes;

  P2D3D_HD void operator()(int64_t, int64_t i) const {
    for (int c = 0; c < kBranch; ++c)
      for (int d = 0; d < 3; ++d) {
        T low = kInfinity<T>, high = -kInfinity<T>;
        const int64_t child = i * kBranch + c;
        const T *from = children + (child * rows + d) * kBranch;
        for (int k = 0; child < n_children && k < kBranch; ++k) {  // NaN is neither
          low = from[k] < low ? from[k] : low;
          high = from[highest * kBranch + k] > high ? from[highest * kBranch + k] : high;
        }
        nodes[(i * 6 + d) * kBranch + c] = low;
        nodes[(i * 6 + 3 + d) * kBranch + c] = high;
      }
  }
};

/// With one thread for so many elements that it does not take longer to start than to run.
Exec for_size(const Exec &on, int64_t n) {
  Exec fewer = on;
  fewer.threads = int(std::min<int64_t>(on.threads, n / 1024 + 1));
  return fewer;
}

}  // namespace

int64_t neighbour_tree_nodes(int64_t points) { return TreeLevels(points).nodes(); }

template <class T>
void curve_keys(const Exec &on, View<const T, 2> points, View<const T, 1> frame, View<int64_t, 1> key) {
  for_each(for_size(on, key.shape[0]), 1, key.shape[0], KeyOnCurve<T>{points, frame, key});
}

template <class T>
void neighbour_tree(const Exec &on, View<const T, 2> points, View<const int64_t, 1> order, View<T, 3> leaves,
                    View<T, 3> nodes) {
  const TreeLevels levels(order.shape[0]);
  for_each(for_size(on, levels.width[0]), 1, levels.width[0], FillLeaf<T>{points, order, leaves});
  for (int level = 1; level <= levels.root; ++level) {
    const int64_t width = levels.width[level], below = levels.width[level - 1];
    T *to = nodes.data + levels.begin[level] * (6 * kBranch);
    const FillNode<T> of_leaves{leaves.data, below, 3, 0, to};
    const FillNode<T> of_nodes{nodes.data + levels.begin[level - 1] * (6 * kBranch), below, 6, 3, to};
    for_each(for_size(on, width), 1, width, level == 1 ? of_leaves : of_nodes);
  }
}

#define P2D3D_FOR(T)                                                                               \
  template void curve_keys<T>(const Exec &, View<const T, 2>, View<const T, 1>, View<int64_t, 1>); \
  template void neighbour_tree<T>(const Exec &, View<const T, 2>, View<const int64_t, 1>, View<T, 3>, View<T, 3>);
P2D3D_FOR(float)
P2D3D_FOR(double)
