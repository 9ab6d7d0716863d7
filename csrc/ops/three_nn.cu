#include "core/for_each.hpp"
#include "core/neighbour_tree.hpp"
#include "ops.hpp"

namespace {

/// The three nearest of the points found, nearest first, of equals the lowest.
template <class T> struct Nearest {
  static constexpr T kMost = sizeof(T) == 4 ? T(__FLT_MAX__) : T(__DBL_MAX__);
  static constexpr T kNone = T(__builtin_huge_val());
  T distance[3] = {kNone, kNone, kNone};
  int64_t point[3] = {-1, -1, -1};

  P2D3D_HD T bound() const { return distance[2] < kMost ? distance[2] : kMost; }
  P2D3D_HD void take(T d, int64_t n) {
    for (int i = 0; i < 3; ++i) {
      if (!(d < distance[i] || (d == distance[i] && n < point[i]))) continue;
      const T further = distance[i];
      const int64_t other = point[i];
      distance[i] = d, point[i] = n;
      d = further, n = other;
    }
  }
};

template <class T> struct NearestOfQuery {  // one query
  NeighbourTree<T> tree;
  View<const T, 2> queries;
  View<const int64_t, 1> turn;
  View<T, 2> distance;
  View<int64_t, 2> index;

  P2D3D_HD void operator()(int64_t, int64_t i) const {
    const int64_t q = turn(i);
    Nearest<T> nearest;
    tree.visit(queries.data + 3 * q, nearest);
    for (int c = 0; c < 3; ++c) distance(q, c) = nearest.distance[c], index(q, c) = nearest.point[c];
  }
};

template <class T> struct PullOfQuery {  // one query
  View<const T, 2> points, queries;
  View<const int64_t, 2> index;
  View<const T, 2> grad;
  View<T, 2> pull, out;

  P2D3D_HD void operator()(int64_t, int64_t q) const {
    T sum[3] = {0, 0, 0};
    for (int c = 0; c < 3; ++c) {
      const int64_t n = index(q, c);
      for (int d = 0; d < 3; ++d) {
        const T along = n < 0 ? T(0) : T(2) * grad(q, c) * (queries(q, d) - points(n, d));
        pull(3 * q + c, d) = -along;
        sum[d] += along;
      }
    }
    for (int d = 0; d < 3; ++d) out(q, d) = sum[d];
  }
};

}  // namespace

template <class T>
void three_nn(const Exec &on, const NeighbourTree<T> &tree, View<const T, 2> queries, View<const int64_t, 1> turn,
              View<T, 2> distance, View<int64_t, 2> index) {
  for_each(on, 1, turn.shape[0], NearestOfQuery<T>{tree, queries, turn, distance, index});
}

template <class T>
void three_nn_grad(const Exec &on, View<const T, 2> points, View<const T, 2> queries, View<const int64_t, 2> index,
                   View<const T, 2> grad, View<T, 2> pull, View<T, 2> out) {
  for_each(on, 1, out.shape[0], PullOfQuery<T>{points, queries, index, grad, pull, out});
}

#define P2D3D_FOR(T)                                                                                          \
  template void three_nn<T>(const Exec &, const NeighbourTree<T> &, View<const T, 2>, View<const int64_t, 1>, \
                            View<T, 2>, View<int64_t, 2>);                                                    \
  template void three_nn_grad<T>(const Exec &, View<const T, 2>, View<const T, 2>, View<const int64_t, 2>,    \
                                 View<const T, 2>, View<T, 2>, View<T, 2>);
P2D3D_FOR(float)
P2D3D_FOR(double)
