#include "core/for_each.hpp"
#include "core/neighbour_tree.hpp"
#include "ops.hpp"

namespace {

/// The lowest `room` of the points found: as they come until the room is full, then a heap with the highest in front.
template <class T> struct Lowest {
  T squared_radius;
  int64_t *kept, room, found;

  P2D3D_HD T bound() const { return squared_radius; }
  P2D3D_HD void take(T distance, int64_t n) {
    if (!(distance < squared_radius)) return;
    if (found < room) {
      kept[found] = n;
      if (found + 1 == room) make_heap(room);
    } else if (n < kept[0]) {
      put(0, n, room);
    }
    ++found;
  }
  P2D3D_HD void make_heap(int64_t size) {
    for (int64_t at = size / 2; at-- > 0;) put(at, kept[at], size);
  }
  /// Into the place `at`, below which all is in order.
  P2D3D_HD void put(int64_t at, int64_t n, int64_t size) {
    for (int64_t child = 2 * at + 1; child < size; child = 2 * at + 1) {
      if (child + 1 < size && kept[child + 1] > kept[child]) ++child;
      if (kept[child] <= n) break;
      kept[at] = kept[child];
      at = child;
    }
    kept[at] = n;
  }
  P2D3D_HD void sort() {
    const int64_t size = found < room ? found : room;
    if (found < room) make_heap(size);
    for (int64_t last = size - 1; last > 0; --last) {
      const int64_t n = kept[last];
      kept[last] = kept[0];
      put(0, n, last);
    }
    for (int64_t i = size; i < room; ++i) kept[i] = -1;
  }
};

template <class T> struct BallOfQuery {  // one query
  NeighbourTree<T> tree;
  View<const T, 2> queries;
  View<const int64_t, 1> turn;
  T squared_radius;
  View<int64_t, 2> index;
  View<int64_t, 1> count;

  P2D3D_HD void operator()(int64_t, int64_t i) const {
    const int64_t q = turn(i), k = index.shape[1];
    Lowest<T> lowest{squared_radius, index.data + q * k, k, 0};
    tree.visit(queries.data + 3 * q, lowest);
    lowest.sort();
    count(q) = lowest.found;
  }
};

}  // namespace

template <class T>
void ball_query(const Exec &on, const NeighbourTree<T> &tree, View<const T, 2> queries, View<const int64_t, 1> turn,
                double radius, View<int64_t, 2> index, View<int64_t, 1> count) {
  for_each(on, 1, turn.shape[0], BallOfQuery<T>{tree, queries, turn, T(radius) * T(radius), index, count});
}

#define P2D3D_FOR(T)                                                                                            \
  template void ball_query<T>(const Exec &, const NeighbourTree<T> &, View<const T, 2>, View<const int64_t, 1>, \
                              double, View<int64_t, 2>, View<int64_t, 1>);
P2D3D_FOR(float)
P2D3D_FOR(double)
