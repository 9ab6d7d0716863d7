#include <limits>

#include "core/for_each.hpp"
#include "ops.hpp"

namespace {

template <class T> struct WeightOfEdge {  // one edge
  View<const T, 2> points, normals;
  View<const int64_t, 2> edges;
  View<T, 1> weight;

  void operator()(int64_t, int64_t e) const {
    const T *p = points.data + 3 * edges(e, 0), *q = points.data + 3 * edges(e, 1);
    const T *n = normals.data + 3 * edges(e, 0), *m = normals.data + 3 * edges(e, 1);
    const T turn = T(1) - ((n[0] * m[0] + n[1] * m[1]) + n[2] * m[2]);
    const T rise = (m[0] * (q[0] - p[0]) + m[1] * (q[1] - p[1])) + m[2] * (q[2] - p[2]);
    const T w = rise > T(0) ? turn * turn : turn;
    weight(e) = w >= T(0) ? w : w < T(0) ? T(0) : std::numeric_limits<T>::infinity();
  }
};

/// Disjoint sets of points; the lowest point of a set stands for it.
struct Sets {
  View<int64_t, 1> parent, size;

  int64_t find(int64_t n) const {
    while (parent(n) != n) n = parent(n) = parent(parent(n));
    return n;
  }
  int64_t join(int64_t a, int64_t b) const {
    const int64_t low = std::min(a, b);
    parent(std::max(a, b)) = low;
    size(low) = size(a) + size(b);
    return low;
  }
};

constexpr int64_t kAhead = 16;  // sorted edges lie anywhere in memory

}  // namespace

template <class T>
void superpoints_weights(const Exec &on, View<const T, 2> points, View<const T, 2> normals,
                         View<const int64_t, 2> edges, View<T, 1> weight) {
  for_each_on_cpu(on, 1, edges.shape[0], WeightOfEdge<T>{points, normals, edges, weight});
}

template <class T>
void superpoints_merge(View<const int64_t, 2> edges, View<const T, 1> sorted, double k, int64_t min_size,
                       View<int64_t, 1> order, View<T, 1> threshold, View<int64_t, 1> size, View<int64_t, 1> out) {
  const int64_t n_points = out.shape[0], n_edges = order.shape[0];
  const Sets sets{out, size};  // from here on these two are reached through it alone: views do not alias
  for (int64_t n = 0; n < n_points; ++n) sets.parent(n) = n, sets.size(n) = 1, threshold(n) = T(k);

  int64_t refused = 0;  // so many edges that join nothing yet, moved to the front of the order
  for (int64_t s = 0; s < n_edges; ++s) {
    if (s + kAhead < n_edges) P2D3D_PREFETCH(edges.data + 2 * order(s + kAhead));
    const int64_t e = order(s), a = sets.find(edges(e, 0)), b = sets.find(edges(e, 1));
    if (a == b) continue;
    if (sorted(s) <= threshold(a) && sorted(s) <= threshold(b)) {
      const int64_t joined = sets.join(a, b);
      threshold(joined) = sorted(s) + T(k) / T(sets.size(joined));
    } else {
      order(refused++) = e;
    }
  }
  for (int64_t s = 0; s < refused; ++s) {
    const int64_t e = order(s), a = sets.find(edges(e, 0)), b = sets.find(edges(e, 1));
    if (a != b && (sets.size(a) < min_size || sets.size(b) < min_size)) sets.join(a, b);
  }

  int64_t found = 0;  // a set is met first at its lowest point; the sizes give way to the numbers
  for (int64_t n = 0; n < n_points; ++n) {
    const int64_t lowest = sets.find(n);
    sets.size(n) = lowest == n ? found++ : sets.size(lowest);
  }
  for (int64_t n = 0; n < n_points; ++n) sets.parent(n) = sets.size(n);
}

#define P2D3D_FOR(T)                                                                                              \
  template void superpoints_weights<T>(const Exec &, View<const T, 2>, View<const T, 2>, View<const int64_t, 2>,  \
                                       View<T, 1>);                                                               \
  template void superpoints_merge<T>(View<const int64_t, 2>, View<const T, 1>, double, int64_t, View<int64_t, 1>, \
                                     View<T, 1>, View<int64_t, 1>, View<int64_t, 1>);
P2D3D_FOR(float)
P2D3D_FOR(double)
